package pipeline

import (
	"strings"
	"testing"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/risk"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestWireEnumsNumberAsOurs(t *testing.T) {
	for l := audio.Unknown; l <= audio.Callee; l++ {
		got := legToProto(l)
		if want := "LEG_" + strings.ToUpper(l.String()); got.String() != want && l != audio.Unknown {
			t.Errorf("leg %v is %v on the wire, want %s", l, got, want)
		}
	}
	for l := risk.None; l <= risk.Critical; l++ {
		if got, want := levelToProto(l).String(), "LEVEL_"+strings.ToUpper(l.String()); got != want {
			t.Errorf("level %v is %s on the wire, want %s", l, got, want)
		}
	}
	for s := detectors.Provisional; s <= detectors.Retracted; s++ {
		if got, want := callwardenv1.FindingState(s).String(), "FINDING_STATE_"+strings.ToUpper(s.String()); got != want {
			t.Errorf("state %v is %s on the wire, want %s", s, got, want)
		}
	}
	for s := detectors.Lure; s <= detectors.Protective; s++ {
		if got, want := callwardenv1.Stage(s).String(), "STAGE_"+strings.ToUpper(s.String()); got != want {
			t.Errorf("stage %v is %s on the wire, want %s", s, got, want)
		}
	}
	for h := transcribe.Openly; h <= transcribe.Keyed; h++ {
		if got, want := callwardenv1.Heard(h+1).String(), "HEARD_"+strings.ToUpper(h.String()); got != want {
			t.Errorf("%v is %s on the wire, want %s", h, got, want)
		}
	}
}

func TestWordsOfADigitsListAreToldAsDigits(t *testing.T) {
	seg := asDigits(transcribe.Segment{Text: "for sick … nine", Words: []transcribe.Word{
		{Text: "for", Start: 1}, {Text: "sick", Start: 2}, {Text: "…", Start: 3}, {Text: "nine", Start: 4},
	}})
	if seg.Text != "four six … nine" || seg.Words[1].Text != "six" || seg.Words[1].Start != 2 {
		t.Errorf("%q, %v", seg.Text, seg.Words)
	}
}
