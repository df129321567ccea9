package script_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

const call = `
# a bank's customer is asked for a code
0.2 2.1 caller final good morning this is the security department
0.4 0.9 callee partial hello
0.4 1.0 callee final hello there
2.0 3.8 callee final What code? I've got 2,000 messages!
5.0 6.0 callee partial four
5.0 7.5 callee partial four seven one
5.0 8.5 callee final four seven one nine
9.0 12.0 callee final and nobody hears the end of this
`

func lookup(text string) func(string) (script.Transcript, error) {
	return func(string) (script.Transcript, error) { return script.Parse(strings.NewReader(text)) }
}

func TestConformance(t *testing.T) {
	for name, engine := range map[string]*script.Engine{
		"as written": script.New(lookup(call)),
		"growing":    script.NewGrowing(lookup(call), 2),
	} {
		t.Run(name, func(t *testing.T) {
			transcribetest.Run(t, func(*testing.T) transcribetest.Subject {
				return transcribetest.Subject{Engine: engine, Scripted: true, Call: "c1", RateHz: 11025, Speech: make([]int16, 11025*21/2)}
			})
		})
	}
}

// spoken drives a session with 100 ms frames and writes what it says, each
// line after the media time of the frame that brought it.
func spoken(t *testing.T, engine *script.Engine, leg audio.Leg, length time.Duration) string {
	t.Helper()
	const rate = 8000
	session, err := engine.Open(t.Context(), transcribe.Options{Call: "c1", Leg: leg, RateHz: rate})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var b strings.Builder
	show := func(at string, segments []transcribe.Segment) {
		for _, s := range segments {
			state := "partial"
			if s.Final {
				state = "final"
			}
			fmt.Fprintf(&b, "%s %d %.2f-%.2f %s %s\n", at, s.Utterance, s.Start.Seconds(), s.End.Seconds(), state, s.Text)
		}
	}
	const step = 100 * time.Millisecond
	for at := time.Duration(0); at < length; at += step {
		f := audio.Frame{Leg: leg, Start: at, Rate: rate, PCM: make([]int16, rate/10)}
		segments, err := session.Write(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		show(fmt.Sprintf("%.1f", f.End().Seconds()), segments)
	}
	segments, err := session.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	show("end", segments)
	return b.String()
}

func TestSessionSpeaksEachLineWhenItsTimeHasPassed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		text   string
		grow   int
		leg    audio.Leg
		length time.Duration
		want   string
	}{
		{"own leg only", call, 0, audio.Caller, 20 * time.Second, `
2.1 0 0.20-2.10 final good morning this is the security department
`},
		{"partials then final", call, 0, audio.Callee, 20 * time.Second, `
0.9 0 0.40-0.90 partial hello
1.0 0 0.40-1.00 final hello there
3.8 1 2.00-3.80 final what code i've got 2000 messages
6.0 2 5.00-6.00 partial four
7.5 2 5.00-7.50 partial four seven one
8.5 2 5.00-8.50 final four seven one nine
12.0 3 9.00-12.00 final and nobody hears the end of this
`},
		{"mono hears all legs one after the other", call, 0, audio.Unknown, 4 * time.Second, `
0.9 0 0.40-0.90 partial hello
1.0 0 0.40-1.00 final hello there
2.1 1 1.00-2.10 final good morning this is the security department
3.8 2 2.10-3.80 final what code i've got 2000 messages
`},
		{"cut off in a line", call, 0, audio.Callee, 10500 * time.Millisecond, `
0.9 0 0.40-0.90 partial hello
1.0 0 0.40-1.00 final hello there
3.8 1 2.00-3.80 final what code i've got 2000 messages
6.0 2 5.00-6.00 partial four
7.5 2 5.00-7.50 partial four seven one
8.5 2 5.00-8.50 final four seven one nine
end 3 9.00-10.29 final and nobody hears
`},
		{"cut off after a hypothesis that has no whole word", "0 1 caller partial hello\n0 5 caller final hey", 0, audio.Caller, 2 * time.Second, `
1.0 0 0.00-1.00 partial hello
end 0 0.00-1.00 final 
`},
		{"growing", "caller: one two three, four five", 2, audio.Caller, 3 * time.Second, `
0.8 0 0.00-0.77 partial one two
1.6 0 0.00-1.54 partial one two three four
2.0 0 0.00-1.92 final one two three four five
`},
		{"turns without times follow one another", "caller: one two\ncallee: three\n\ncaller: four", 0, audio.Caller, 3 * time.Second, `
0.8 0 0.00-0.77 final one two
1.6 1 1.15-1.54 final four
`},
		{"no words, no segment", "caller: ...\ncaller: 'one'", 0, audio.Caller, 3 * time.Second, `
0.4 0 0.00-0.38 final one
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := spoken(t, script.NewGrowing(lookup(tt.text), tt.grow), tt.leg, tt.length)
			if want := strings.TrimPrefix(tt.want, "\n"); got != want {
				t.Errorf("spoke\n%swant\n%s", got, want)
			}
		})
	}
}

func TestLookupErrorIsOpenError(t *testing.T) {
	missing := fmt.Errorf("no such call")
	engine := script.New(func(string) (script.Transcript, error) { return script.Transcript{}, missing })
	if _, err := engine.Open(t.Context(), transcribe.Options{Call: "c2"}); err == nil || !strings.Contains(err.Error(), missing.Error()) {
		t.Errorf("Open: %v, want %v", err, missing)
	}
}
