package termsink

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	v1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func event(call string, data proto.Message) sink.Event {
	return sink.Event{Tenant: "default", Call: call, At: sink.At(data), Data: data}
}

func found(id string, state v1.FindingState, words string) *v1.RiskFinding {
	return &v1.RiskFinding{
		At: durationpb.New(11*time.Second + 290*time.Millisecond), Level: v1.Level_LEVEL_NOTICE,
		Finding: &v1.Finding{Id: id, Tactic: "otp_request", Leg: v1.Leg_LEG_CALLER, Words: words, State: state},
	}
}

const (
	provisional = v1.FindingState_FINDING_STATE_PROVISIONAL
	confirmed   = v1.FindingState_FINDING_STATE_CONFIRMED
	retracted   = v1.FindingState_FINDING_STATE_RETRACTED
)

func rise() *v1.RiskLevel {
	return &v1.RiskLevel{
		At: durationpb.New(time.Hour + 59*time.Second + 990*time.Millisecond), Score: 86.7,
		Level: v1.Level_LEVEL_CRITICAL, Previous: v1.Level_LEVEL_NOTICE,
		Advice: &v1.Advice{Text: "Do not read the code to anybody. Hang up and call your bank."},
	}
}

func TestFormatShowsWhatAPersonNeeds(t *testing.T) {
	muted := found("a", confirmed, "never share the code")
	muted.Level, muted.Finding.MutedBy = v1.Level_LEVEL_NONE, "protective"
	for name, tt := range map[string]struct {
		data proto.Message
		cfg  Config
		want string
	}{
		"finding": {
			found("a", confirmed, "read me the code"),
			Config{},
			`00:11.2  notice     caller   otp_request                 "read me the code"` + "\n",
		},
		"provisional": {
			found("a", provisional, "read me the code"),
			Config{},
			`00:11.2  notice     caller   otp_request                 "read me the code" ?` + "\n",
		},
		"retracted": {
			found("a", retracted, "read me the code"),
			Config{},
			`00:11.2  withdrawn  caller   otp_request                 "read me the code"` + "\n",
		},
		"muted": {
			muted,
			Config{},
			`00:11.2  none       caller   otp_request                 "never share the code" (no risk: protective)` + "\n",
		},
		"channels": {
			&v1.CallStatus{Hearing: v1.Hearing_HEARING_LISTENING, Listen: "full", Legs: []*v1.LegStatus{
				{Leg: v1.Leg_LEG_CALLER, Channel: &v1.Channel{LowHz: 300, HighHz: 3400}}, {Leg: v1.Leg_LEG_CALLEE},
			}},
			Config{},
			"00:00.0  listening  full, caller 300 to 3400 Hz\n",
		},
		"rise": {
			rise(),
			Config{},
			"60:59.9  CRITICAL   risk 87, was notice\n" +
				"                    > Do not read the code to anybody. Hang up and call your bank.\n",
		},
		"fall": {
			&v1.RiskLevel{Level: v1.Level_LEVEL_NONE, Previous: v1.Level_LEVEL_NOTICE, Score: 3},
			Config{},
			"00:00.0  none       risk 3, was notice\n",
		},
		"started": {
			&v1.CallStarted{Legs: []v1.Leg{v1.Leg_LEG_CALLER, v1.Leg_LEG_CALLEE}, Backend: "vosk", Listen: "full"},
			Config{},
			"00:00.0  started    caller and callee, vosk, full\n",
		},
		"deaf": {
			&v1.CallStatus{At: durationpb.New(time.Second), Hearing: v1.Hearing_HEARING_NOT_MONITORED, Reason: "no codec"},
			Config{},
			"00:01.0  not moni…  no codec\n",
		},
		"ended": {
			&v1.CallEnded{Duration: durationpb.New(61 * time.Second), Complete: true, Level: v1.Level_LEVEL_WARNING, Tactics: []string{"otp_request", "urgency"}},
			Config{},
			"01:01.0  ended      highest level warning: otp_request, urgency\n",
		},
		"cut short": {
			&v1.CallEnded{Duration: durationpb.New(time.Second), Reason: "cancelled"},
			Config{},
			"00:01.0  ended      highest level none; not all was heard: cancelled\n",
		},
		"segment":         {&v1.TranscriptSegment{Final: true, Text: "hello", End: durationpb.New(2 * time.Second)}, Config{Transcripts: true}, "00:02.0             unknown  hello\n"},
		"segment unasked": {&v1.TranscriptSegment{Final: true, Text: "hello"}, Config{}, ""},
		"with call":       {found("a", confirmed, "code"), Config{Calls: true}, `a-very-long-nam…  00:11.2  notice     caller   otp_request                 "code"` + "\n"},
		"narrow": {
			rise(),
			Config{Width: 50},
			"60:59.9  CRITICAL   risk 87, was notice\n" +
				"                    > Do not read the code to\n" +
				"                      anybody. Hang up and call\n" +
				"                      your bank.\n",
		},
		"cut":  {found("a", confirmed, "read me the code"), Config{Width: 66}, `00:11.2  notice     caller   otp_request                 "read me…` + "\n"},
		"wide": {found("a", confirmed, "読んで読んで"), Config{Width: 66}, `00:11.2  notice     caller   otp_request                 "読んで…` + "\n"},
		"color": {rise(), Config{Color: true, Width: 0}, "\x1b[1;31m60:59.9  CRITICAL   risk 87, was notice\x1b[0m\n" +
			"\x1b[1m                    > Do not read the code to anybody. Hang up and call your bank.\x1b[0m\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Format(event("a-very-long-name-of-a-call", tt.data), tt.cfg); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

func TestFindingIsShownOnceAndMarkedWhenWithdrawn(t *testing.T) {
	var b bytes.Buffer
	s := New(&b, DefaultConfig())
	for _, ev := range []sink.Event{
		event("c1", found("a", provisional, "one")),
		event("c2", found("a", confirmed, "two")), // the same id in another call
		event("c1", found("b", provisional, "three")),
		event("c1", found("a", confirmed, "one")),
		event("c1", found("b", retracted, "three")),
		event("c1", found("d", retracted, "never shown")),
		event("c1", &v1.CallEnded{Complete: true}),
	} {
		if err := s.Publish(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		f := strings.Fields(line)
		got = append(got, f[1]+" "+f[len(f)-1])
	}
	want := "notice ?|notice \"two\"|notice ?|withdrawn \"three\"|ended none"
	if strings.Join(got, "|") != want {
		t.Errorf("got\n%s", b.String())
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(t.Context(), event("c1", rise())); !errors.Is(err, ErrClosed) {
		t.Errorf("Publish after Close: %v", err)
	}
}

func TestNothingFromAnEventSteersTheTerminal(t *testing.T) {
	evil := "a\x1b[2J\r\n\x07\u202e\u200b\u009bb\xff"
	level := rise()
	level.Advice.Text = evil
	for _, data := range []proto.Message{
		found("a", confirmed, evil), level,
		&v1.CallStarted{Backend: evil, Model: evil},
		&v1.CallStatus{Hearing: v1.Hearing_HEARING_DEAF, Reason: evil},
		&v1.CallEnded{Reason: evil, Tactics: []string{evil}},
		&v1.TranscriptSegment{Final: true, Text: evil},
	} {
		text := Format(event(evil, data), Config{Calls: true, Transcripts: true})
		for line := range strings.Lines(text) {
			if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r <= 0x9f || r == 0x202e || r == 0x200b }); i >= 0 {
				t.Errorf("%T: %q", data, line)
			}
		}
		if strings.Count(text, "\n") > 2 {
			t.Errorf("%T broke the line: %q", data, text)
		}
	}
	if got := clean("a\x1bb\u202e"); got != `a\u{1b}b\u{202e}` {
		t.Errorf("clean made %q", got)
	}
}

// FuzzFormat: no line is wider than asked, none has a control character.
func FuzzFormat(f *testing.F) {
	f.Add("c1", "read me the code", uint8(40), true)
	f.Add("\x1b", "読んで\u0301", uint8(21), false)
	f.Fuzz(func(t *testing.T, call, words string, columnsWanted uint8, calls bool) {
		cfg := Config{Width: int(columnsWanted), Calls: calls}
		data := found("a", confirmed, words)
		for line := range strings.Lines(Format(event(call, data), cfg)) {
			line = strings.TrimSuffix(line, "\n")
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("control character in %q", line)
			}
			if most := max(cfg.Width, leastColumns); cfg.Width > 0 && columns(line) > most {
				t.Fatalf("%d columns, want %d: %q", columns(line), most, line)
			}
		}
	})
}

func BenchmarkFormat(b *testing.B) {
	ev := event("c1", found("a", confirmed, "read me the code that we sent you"))
	b.ReportAllocs()
	for b.Loop() {
		Format(ev, Config{Width: 100})
	}
}
