package dialogue_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/dialogue"
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// The packs of these tests are their own, so that the shipped ones can change.
const (
	askPack = `
tactic: otp_request
language: en
version: 1
stage: ask
points: 6
patterns:
  - name: read-the-code
    phrase: "(read | tell) [me] ~2 code"
  - name: three-times
    phrase: "hurry up code"
    count: {at_least: 3, seconds: 60}
  - name: at-first
    phrase: "code first"
    first_seconds: 5
guards:
  - name: never
    before: {phrase: "never", words: 3}
  - name: reported
    before: {phrase: "he said", words: 4}
examples: {match: ["read me the code"], no_match: ["never read the code"]}
`
	lurePack = `
tactic: remote_access_request
language: en
version: 1
stage: ask
points: 5
patterns:
  - name: install
    phrase: "install ~2 (program | app)"
examples: {match: ["install the app"], no_match: ["app"]}
`
	complyPack = `
tactic: remote_access_compliance
language: en
version: 1
stage: comply
points: 4
patterns:
  - name: done
    phrase: "it is (downloading | installed)"
    after: {tactic: remote_access_request, seconds: 60, turns: 4, leg: other}
examples: {match: ["it is installed"], no_match: ["installed"]}
`
	legPack = `
tactic: urgency
language: en
version: 1
stage: pressure
points: 1
patterns:
  - name: caller-only
    phrase: "right now"
    who: caller
  - name: at-last
    phrase: "good bye"
    last_seconds: 20
  - name: protected-only
    phrase: "oh dear"
    who: protected
examples: {match: ["right now"], no_match: ["now"]}
`
)

func smallSet(t testing.TB) *phrase.Set {
	var packs []*phrase.Pack
	for i, text := range []string{askPack, lurePack, complyPack, legPack} {
		p, err := phrase.ParsePack(fmt.Sprintf("test%d.yaml", i), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		packs = append(packs, p)
	}
	shared, err := phrase.ParseShared("common.yaml", []byte("language: en\nversion: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := phrase.Compile(packs, shared, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// seg is a segment at a second of the call, four words a second.
func seg(side audio.Leg, utterance int, final bool, second float64, text string) transcribe.Segment {
	start := time.Duration(second * float64(time.Second))
	return transcribe.Segment{
		Leg: side, Utterance: utterance, Final: final, Text: text,
		Start: start, End: start + time.Duration(len(strings.Fields(text)))*250*time.Millisecond,
	}
}

// short writes findings as "state id words", in order.
func short(list []detectors.Finding) string {
	var b []string
	for _, f := range list {
		s := f.State.String()[:4] + " " + f.ID
		if f.Muted != "" {
			s += " muted by " + f.Muted
		}
		b = append(b, s)
	}
	return strings.Join(b, ", ")
}

const (
	caller = audio.Caller
	callee = audio.Callee
)

func TestFindingsLiveOnce(t *testing.T) {
	set := smallSet(t)
	for _, tt := range []struct {
		name string
		segs []transcribe.Segment
		want []string // by segment
	}{
		{
			"published when it stands in two hypotheses",
			[]transcribe.Segment{
				seg(caller, 0, false, 0, "please read me the"),
				seg(caller, 0, false, 0, "please read me the code"),
				seg(caller, 0, false, 0, "please read me the code"),
				seg(caller, 0, false, 0, "please read me the code now"),
				seg(caller, 0, true, 0, "please read me the code now"),
			},
			[]string{"", "", "prov otp_request:caller:0:0", "", "conf otp_request:caller:0:0"},
		},
		{
			"published at once when words follow it",
			[]transcribe.Segment{
				seg(caller, 0, false, 0, "read me the code that came"),
				seg(caller, 0, true, 0, "read me the code that came"),
			},
			[]string{"prov otp_request:caller:0:0", "conf otp_request:caller:0:0"},
		},
		{
			"retracted when the words did not hold",
			[]transcribe.Segment{
				seg(caller, 0, false, 0, "read me the code that came"),
				seg(caller, 0, false, 0, "read me the coat that came"),
				seg(caller, 0, true, 0, "bread and a coat that came"),
			},
			[]string{"prov otp_request:caller:0:0", "", "retr otp_request:caller:0:0"},
		},
		{
			"confirmed as muted when a guard appears",
			[]transcribe.Segment{
				seg(caller, 0, false, 0, "read me the code that came"),
				seg(caller, 0, true, 0, "never read me the code that came"),
			},
			[]string{"prov otp_request:caller:0:0", "conf otp_request:caller:0:0 muted by never"},
		},
		{
			"retracted when the utterance is left without an end",
			[]transcribe.Segment{
				seg(caller, 0, false, 0, "read me the code that came"),
				seg(caller, 1, false, 4, "hello"),
				seg(caller, 0, true, 0, "read me the code that came"),
			},
			[]string{"prov otp_request:caller:0:0", "retr otp_request:caller:0:0", ""},
		},
		{
			"two of one tactic in one utterance",
			[]transcribe.Segment{seg(caller, 3, true, 0, "read me the code and then again tell me the code")},
			[]string{"conf otp_request:caller:3:0, conf otp_request:caller:3:1"},
		},
		{
			"a match over two utterances is found in the second, once",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "so please read me"),
				seg(callee, 0, true, 1.2, "yes"),
				seg(caller, 1, true, 2, "the code"),
				seg(caller, 2, true, 3, "code"),
			},
			[]string{"", "", "conf otp_request:caller:1:0", ""},
		},
		{
			"not over a long answer",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "so please read me"),
				seg(callee, 0, true, 1.1, "i do not know what you want of me"),
				seg(caller, 1, true, 2, "the code"),
			},
			[]string{"", "", ""},
		},
		{
			"not over a pause",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "so please read me"),
				seg(caller, 1, true, 9, "the code"),
			},
			[]string{"", ""},
		},
		{
			"not over a full stop",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "It is what you read."),
				seg(caller, 1, true, 1.5, "The code"),
			},
			[]string{"", ""},
		},
		{
			"a read-back of an unfinished hypothesis",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "read me the code"),
				seg(callee, 0, false, 2, "four seven two"),
				seg(callee, 0, false, 2, "four seven two nine"),
				seg(callee, 0, false, 2, "four seven two nine one"),
				seg(callee, 0, true, 2, "four seven two nine one three"),
			},
			[]string{"conf otp_request:caller:0:0", "", "", "prov otp_readback:callee:0:answer", "conf otp_readback:callee:0:answer"},
		},
		{
			"a read-back that did not hold",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "read me the code"),
				seg(callee, 0, false, 2, "four seven two nine"),
				seg(callee, 0, false, 2, "four seven two nine"),
				seg(callee, 0, true, 2, "for seventy years no"),
			},
			[]string{"conf otp_request:caller:0:0", "", "prov otp_readback:callee:0:answer", "retr otp_readback:callee:0:answer"},
		},
		{
			"an answer waits for its ask to become final",
			[]transcribe.Segment{
				seg(caller, 0, false, 0, "read me the code thank you"),
				seg(callee, 0, false, 2, "four seven two nine"),
				seg(callee, 0, false, 2, "four seven two nine"),
				seg(callee, 0, true, 2, "four seven two nine"),
				seg(caller, 0, true, 0, "read me the code thank you very much"),
			},
			[]string{"prov otp_request:caller:0:0", "", "prov otp_readback:callee:0:answer", "", "conf otp_request:caller:0:0, conf otp_readback:callee:0:answer"},
		},
		{
			"and goes when the ask goes",
			[]transcribe.Segment{
				seg(caller, 0, false, 0, "read me the code thank you"),
				seg(callee, 0, false, 2, "four seven two nine"),
				seg(callee, 0, false, 2, "four seven two nine"),
				seg(callee, 0, true, 2, "four seven two nine"),
				seg(caller, 0, true, 0, "bread and a coat"),
			},
			[]string{"prov otp_request:caller:0:0", "", "prov otp_readback:callee:0:answer", "", "retr otp_request:caller:0:0, retr otp_readback:callee:0:answer"},
		},
		{
			"what comes after waits for what comes before",
			[]transcribe.Segment{
				seg(caller, 0, false, 0, "install the app please sir"),
				seg(callee, 0, true, 2, "it is installed"),
				seg(caller, 0, true, 0, "install the app please sir"),
			},
			[]string{"prov remote_access_request:caller:0:0", "", "conf remote_access_request:caller:0:0, conf remote_access_compliance:callee:0:0"},
		},
		{
			"what comes after must come from the other leg",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "install the app"),
				seg(caller, 1, true, 5, "it is installed"),
				seg(callee, 0, true, 7, "it is installed"),
			},
			[]string{"conf remote_access_request:caller:0:0", "", "conf remote_access_compliance:callee:0:0"},
		},
		{
			"too late",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "install the app"),
				seg(callee, 0, true, 100, "it is installed"),
			},
			[]string{"conf remote_access_request:caller:0:0", ""},
		},
		{
			"the third time counts",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "hurry up code hurry up code"),
				seg(caller, 1, true, 9, "hurry up code"),
				seg(caller, 2, true, 90, "hurry up code"),
			},
			[]string{"", "conf otp_request:caller:1:0", ""},
		},
		{
			"only at first",
			[]transcribe.Segment{
				seg(caller, 0, true, 1, "code first"),
				seg(caller, 1, true, 20, "code first"),
			},
			[]string{"conf otp_request:caller:0:0", ""},
		},
		{
			"a side that cannot say it",
			[]transcribe.Segment{
				seg(callee, 0, true, 0, "right now"),
				seg(caller, 0, true, 2, "right now"),
				seg(audio.Unknown, 0, true, 4, "right now"),
				seg(caller, 1, true, 6, "oh dear"),
				seg(callee, 1, true, 8, "oh dear"),
			},
			[]string{"", "conf urgency:caller:0:0", "conf urgency:unknown:0:0", "", "conf urgency:callee:1:0"},
		},
		{
			"who tells goes on telling",
			[]transcribe.Segment{
				seg(caller, 0, true, 0, "he said read me the code"),
				seg(caller, 1, true, 6, "and again tell me the code"),
				seg(caller, 2, true, 40, "tell me the code"),
			},
			[]string{"conf otp_request:caller:0:0 muted by reported", "conf otp_request:caller:1:0 muted by reported", "conf otp_request:caller:2:0"},
		},
		{
			"one voice on two legs is one finding",
			[]transcribe.Segment{
				seg(caller, 0, false, 0, "now read me the code please sir"),
				seg(callee, 0, false, 0, "now read me the code please sir"),
				seg(callee, 0, true, 0, "now read me the code please sir"),
				seg(caller, 0, true, 0, "now read me the code please sir"),
				seg(caller, 1, true, 4, "four seven two nine"),
				seg(callee, 1, true, 4, "four seven two nine"),
			},
			[]string{
				"prov otp_request:caller:0:0", "", "conf otp_request:callee:0:0", "retr otp_request:caller:0:0",
				"conf otp_readback:caller:1:answer", "",
			},
		},
	} {
		d := dialogue.New(set, dialogue.Config{Protected: callee})
		for i, s := range tt.segs {
			if got := short(d.Observe(s)); got != tt.want[i] {
				t.Errorf("%s: segment %d %q:\n got %s\nwant %s", tt.name, i, s.Text, got, tt.want[i])
			}
		}
	}
}

func TestFindingsTellWordsAndTimes(t *testing.T) {
	d := dialogue.New(smallSet(t), dialogue.Config{})
	s := transcribe.Segment{Leg: caller, Utterance: 0, Final: true, Start: time.Second, End: 3 * time.Second, Text: "please read me the code"}
	for i, w := range strings.Fields(s.Text) {
		at := time.Second + time.Duration(i)*300*time.Millisecond
		s.Words = append(s.Words, transcribe.Word{Text: w, Start: at, End: at + 200*time.Millisecond, Confidence: 0.5 + float32(i)/10})
	}
	got := d.Observe(s)
	want := []detectors.Finding{{
		ID: "otp_request:caller:0:0", Tactic: "otp_request", Stage: detectors.Ask, Leg: caller,
		Start: 1300 * time.Millisecond, End: 2400 * time.Millisecond, Words: "read me the code",
		Confidence: got[0].Confidence, Weight: 6, State: detectors.Confirmed,
		Rule: "otp_request/read-the-code", Pack: "otp_request/en@1",
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if c := got[0].Confidence; c < 0.74 || c > 0.76 {
		t.Errorf("confidence %v, want the mean, 0.75", c)
	}
	a := d.Observe(seg(callee, 0, true, 4, "um forty seven twenty-nine"))
	if len(a) != 1 || a[0].Words != "forty seven twenty-nine" || a[0].Start != 4250*time.Millisecond || a[0].End != 5*time.Second || a[0].Stage != detectors.Comply {
		t.Errorf("answer %+v", a)
	}
}

func TestFinishEndsTheCall(t *testing.T) {
	d := dialogue.New(smallSet(t), dialogue.Config{})
	for _, s := range []transcribe.Segment{
		seg(caller, 0, true, 0, "good bye"),
		seg(caller, 1, true, 40, "good bye"),
		seg(caller, 2, false, 45, "now read me the code and then"),
	} {
		for _, f := range d.Observe(s) {
			if f.State != detectors.Provisional {
				t.Errorf("before the end: %+v", f)
			}
		}
	}
	if got, want := short(d.Finish(50*time.Second)), "conf urgency:caller:1:0, retr otp_request:caller:2:0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := d.Finish(51 * time.Second); got != nil {
		t.Errorf("a second time: %s", short(got))
	}
}

// call draws the segments of a call: utterances on all legs that overlap, with
// hypotheses that grow, shrink and change.
var call = rapid.Custom(func(t *rapid.T) []transcribe.Segment {
	words := []string{
		"read me the code", "never", "he said", "tell me code", "install the app", "it is installed", "hurry up code",
		"four seven", "two nine", "one three eight", "yes", "well", "what is your order number", "right now", "the code", "please read me",
		"sorry", "no", "I opened a ticket",
	}
	var segs []transcribe.Segment
	var next [3]int
	var ends [3]float64
	at := 0.0
	var open []transcribe.Segment
	for range rapid.IntRange(1, 12).Draw(t, "utterances") {
		side := audio.Leg(rapid.IntRange(0, 2).Draw(t, "leg"))
		at += rapid.Float64Range(0, 3).Draw(t, "gap")
		// Whoever speaks again has ended before.
		open = slices.DeleteFunc(open, func(s transcribe.Segment) bool {
			if s.Leg == side {
				segs = append(segs, s)
			}
			return s.Leg == side
		})
		say := func() string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 0, 4).Draw(t, "words"), " ")
		}
		at = max(at, ends[side])
		u := next[side]
		next[side]++
		hypotheses := rapid.IntRange(0, 4).Draw(t, "hypotheses")
		for range hypotheses {
			segs = append(segs, seg(side, u, false, at, say()))
		}
		final := seg(side, u, true, at, say())
		ends[side] = final.End.Seconds()
		if rapid.Bool().Draw(t, "waits") {
			at += (final.End - final.Start).Seconds()
		}
		if hypotheses > 0 && rapid.Bool().Draw(t, "late") {
			open = append(open, final)
		} else {
			segs = append(segs, final)
		}
	}
	return append(segs, open...)
})

// lives is the state of every finding of a call so far.
type lives map[string]detectors.State

// take checks a list of findings against their lives before.
func (l lives) take(t interface{ Fatalf(string, ...any) }, list []detectors.Finding) {
	for _, f := range list {
		before := l[f.ID]
		switch {
		case f.State == detectors.Provisional && before != 0:
			t.Fatalf("%s is provisional after %v", f.ID, before)
		case f.State == detectors.Provisional && f.Muted != "":
			t.Fatalf("%s is provisional and muted", f.ID)
		case f.State == detectors.Retracted && before != detectors.Provisional:
			t.Fatalf("%s is retracted after %v", f.ID, before)
		case f.State == detectors.Confirmed && before != 0 && before != detectors.Provisional:
			t.Fatalf("%s is confirmed after %v", f.ID, before)
		}
		if f.End < f.Start || f.Words == "" || !(f.Confidence > 0 && f.Confidence <= 1) || !(f.Weight > 0) {
			t.Fatalf("finding %+v", f)
		}
		l[f.ID] = f.State
	}
}

// end checks that no finding is left open.
func (l lives) end(t interface{ Fatalf(string, ...any) }) {
	for id, s := range l {
		if s == detectors.Provisional {
			t.Fatalf("%s never ended", id)
		}
	}
}

func TestEveryFindingIsPublishedAtMostOncePerState(t *testing.T) {
	set := smallSet(t)
	rapid.Check(t, func(t *rapid.T) {
		d := dialogue.New(set, dialogue.Config{})
		l := lives{}
		for _, s := range call.Draw(t, "call") {
			l.take(t, d.Observe(s))
		}
		l.end(t)
	})
}

func TestOnlyFinalSegmentsDecide(t *testing.T) {
	set := smallSet(t)
	rapid.Check(t, func(t *rapid.T) {
		segs := call.Draw(t, "call")
		confirmed := func(finalsOnly bool) []string {
			d := dialogue.New(set, dialogue.Config{})
			var list []string
			for _, s := range segs {
				if finalsOnly && !s.Final {
					continue
				}
				for _, f := range d.Observe(s) {
					if f.State == detectors.Confirmed {
						list = append(list, fmt.Sprintf("%s %q %v %s", f.ID, f.Words, f.Weight, f.Muted))
					}
				}
			}
			slices.Sort(list)
			return list
		}
		if all, finals := confirmed(false), confirmed(true); !slices.Equal(all, finals) {
			t.Fatalf("with unfinished segments\n%q\nwithout\n%q", all, finals)
		}
	})
}

// Each rule about tickets looks back; the first words have nothing before them.
func TestTicketWordsMayComeFirst(t *testing.T) {
	for _, word := range []string{"it", "case", "booked", "scheduled", "request", "bought", "purchased", "ticket"} {
		d := dialogue.New(smallSet(t), dialogue.Config{})
		if f := d.Observe(transcribe.Segment{Leg: audio.Caller, Final: true, End: time.Second, Text: word + " the call"}); len(f) != 0 {
			t.Errorf("%q first: found %+v", word, f)
		}
	}
}
