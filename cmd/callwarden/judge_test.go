package main

import (
	"testing"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestWhoIsSignedAsSomebodyElseGetsANoticeAndNoMore(t *testing.T) {
	_, judge, err := (&judgeFlags{country: "US"}).judge(discardLog())
	if err != nil {
		t.Fatal(err)
	}
	level := func(attributes map[string]string) (score float64, level risk.Level, rules map[string]bool) {
		d, m := judge(&source.Call{Attributes: attributes})
		rules = make(map[string]bool)
		for i, text := range []string{"hello this is daniel calling from amazon customer service", "i hope that you are well today"} {
			at := time.Duration(i) * 5 * time.Second
			for _, f := range d.Observe(transcribe.Segment{Leg: audio.Caller, Utterance: i, Final: true, Start: at, End: at + 3*time.Second, Text: text}) {
				m.Observe(f, at+3*time.Second)
				rules[f.Rule] = true
				if f.State != detectors.Confirmed {
					t.Errorf("%+v", f)
				}
			}
		}
		return m.Score(), m.Level(), rules
	}
	plain, _, _ := level(nil)
	good, _, _ := level(map[string]string{"rcd_name": "Amazon", "identity_attest": "A", "identity_verified": "yes"})
	bad, badLevel, rules := level(map[string]string{"rcd_name": "Quick Loans LLC", "identity_attest": "C", "identity_verified": "no"})
	if good != plain {
		t.Errorf("a good signature makes %v of %v", good, plain)
	}
	if bad <= plain || badLevel != risk.Notice || !rules["identity/signed-name"] || !rules["identity/signature-failed"] {
		t.Errorf("signed as somebody else: score %v of %v, level %v, %v", bad, plain, badLevel, rules)
	}
}
