package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/cmd/internal/board"
	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shown are calls that a test makes up; what is done to them comes back as an
// event at once.
type shown struct {
	t    *testing.T
	b    *board.Board
	now  time.Time
	n    int
	link Link
	acts []board.Act
	away error
}

func (s *shown) Board() *board.Board { return s.b }
func (s *shown) Link() Link          { return s.link }

func (s *shown) Do(_ context.Context, act board.Act) error {
	if s.away != nil {
		return s.away
	}
	s.acts = append(s.acts, act)
	s.b.Take(act.Event(), s.now)
	return nil
}

// take has the call be told about.
func (s *shown) take(call string, typ sink.Type, at time.Duration, data proto.Message) {
	s.n++
	s.b.Take(sink.Event{ID: fmt.Sprint(s.n), Type: typ, Tenant: "bank", Call: call, Source: "callwarden/audiohook", At: at, Time: s.now, Data: data}, s.now)
}

const en = "en"

func secs(s float64) *durationpb.Duration {
	return durationpb.New(time.Duration(s * float64(time.Second)))
}

func about(call string) *callwardenv1.CallContext {
	return &callwardenv1.CallContext{Tenant: "bank", Call: call, Source: "audiohook"}
}

// begin has a call begin and be heard for so many seconds.
func (s *shown) begin(call, from, to string, seconds float64) {
	s.take(call, sink.CallStarted, 0, &callwardenv1.CallStarted{
		Context: about(call), Began: timestamppb.New(s.now.Add(-time.Duration(seconds * float64(time.Second)))),
		Legs: []callwardenv1.Leg{1, 2}, Attributes: map[string]string{"from": from, "to": to, "from_name": "Ünal <b>\x1b[31m"},
	})
	s.take(call, sink.CallStatus, secs(seconds).AsDuration(), &callwardenv1.CallStatus{Context: about(call), At: secs(seconds), Hearing: callwardenv1.Hearing_HEARING_LISTENING, Listen: "full"})
}

func (s *shown) level(call string, at float64, level, before callwardenv1.Level, score float64, advice string) {
	s.take(call, sink.RiskLevel, secs(at).AsDuration(), &callwardenv1.RiskLevel{
		Context: about(call), At: secs(at), Level: level, Previous: before, Score: score,
		Contributions: []*callwardenv1.Contribution{{FindingId: "f1", Tactic: "otp_request", Points: score - 3, Why: "ask"}, {FindingId: "talk", Points: 3, Why: `like that of frauds: "bank"`}},
		Advice:        &callwardenv1.Advice{Id: "a", Language: en, Text: advice},
	})
}

func (s *shown) finding(call, id, tactic string, leg callwardenv1.Leg, at float64, words string, state callwardenv1.FindingState, points, score float64, level callwardenv1.Level) {
	s.take(call, sink.RiskFinding, secs(at).AsDuration(), &callwardenv1.RiskFinding{
		Context: about(call), At: secs(at), Score: score, Level: level,
		Finding: &callwardenv1.Finding{
			Id: id, Tactic: tactic, Leg: leg, Start: secs(at - 2), End: secs(at), Words: words, State: state, Points: points, Confidence: 0.9,
		},
	})
}

func (s *shown) say(call string, leg callwardenv1.Leg, utterance int32, final bool, from, to float64, text string) {
	s.take(call, sink.TranscriptSegment, secs(to).AsDuration(), &callwardenv1.TranscriptSegment{
		Context: about(call), Leg: leg, Utterance: utterance, Final: final, Start: secs(from), End: secs(to), Text: text, Heard: callwardenv1.Heard_HEARD_OPEN,
	})
}

func newShown(t *testing.T) *shown {
	t.Helper()
	b, err := board.New(board.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	return &shown{t: t, b: b, now: now, link: Link{Up: true, Since: now.Add(-time.Minute), Known: true, Machines: 1, Words: true}}
}

// fraud is a call that has turned critical, beside an honest one and one that
// is over.
func fraud(t *testing.T) *shown {
	s := newShown(t)
	s.begin("honest", "+1########77", "+1########01", 65)
	s.begin("over", "+1########88", "+1########02", 30)
	s.level("over", 20, callwardenv1.Level_LEVEL_WARNING, callwardenv1.Level_LEVEL_NONE, 11, "Hang up.")
	s.take("over", sink.CallEnded, 30*time.Second, &callwardenv1.CallEnded{Context: about("over"), Duration: secs(30), Reason: "end of audio", Complete: true, Level: callwardenv1.Level_LEVEL_WARNING, Score: 11})
	s.begin("fraud", "+1########23", "+1########99", 135)
	conf, prov, retr := callwardenv1.FindingState_FINDING_STATE_CONFIRMED, callwardenv1.FindingState_FINDING_STATE_PROVISIONAL, callwardenv1.FindingState_FINDING_STATE_RETRACTED
	s.finding("fraud", "f0", "lure_account", 1, 10, "somebody is trying to take money", conf, 2, 2, callwardenv1.Level_LEVEL_NONE)
	s.finding("fraud", "f1", "otp_request", 1, 60, "read me the code", conf, 6, 9, callwardenv1.Level_LEVEL_NOTICE)
	s.finding("fraud", "f2", "gift_cards", 1, 70, "card", retr, 1, 9, callwardenv1.Level_LEVEL_NOTICE)
	s.level("fraud", 60, callwardenv1.Level_LEVEL_WARNING, callwardenv1.Level_LEVEL_NONE, 11.5, "Do not read out the code. No bank needs it.")
	s.finding("fraud", "f3", "otp_readback", 2, 120, "# # # #", prov, 8, 18, callwardenv1.Level_LEVEL_CRITICAL)
	s.level("fraud", 120, callwardenv1.Level_LEVEL_CRITICAL, callwardenv1.Level_LEVEL_WARNING, 18.5, "The code was read out. Hang up, call your bank on the number on your card, change the password and log out all other devices.")
	s.say("fraud", 1, 1, true, 1, 6, "hello this is the security department of your bank")
	s.say("fraud", 2, 1, true, 7, 9, "oh what is wrong")
	s.say("fraud", 1, 2, true, 55, 60, "i have sent you a six digit code please read me the code that is on your phone now")
	s.say("fraud", 2, 2, true, 115, 120, "it is # # # # # #")
	s.say("fraud", 1, 3, false, 130, 135, "thank you stay on")
	return s
}

func look(env map[string]string) *Look {
	return NewLook(&strings.Builder{}, func(name string) string {
		if v, ok := env[name]; ok {
			return v
		}
		return map[string]string{"LANG": "en_US.UTF-8", "NO_COLOR": "1"}[name]
	})
}

func screenOf(s *shown, width, height int) *model {
	m := newModel(s.t.Context(), look(nil), s, "ana")
	m.now = func() time.Time { return s.now }
	m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	m.Init()
	return m
}

// press types keys, by their names or as text, and has what they start done.
func press(m *model, keys ...string) {
	named := map[string]tea.KeyType{
		"enter": tea.KeyEnter, "esc": tea.KeyEsc, "up": tea.KeyUp, "down": tea.KeyDown, "tab": tea.KeyTab, "pgup": tea.KeyPgUp,
		"pgdown": tea.KeyPgDown, "home": tea.KeyHome, "end": tea.KeyEnd, "backspace": tea.KeyBackspace, "space": tea.KeySpace,
	}
	for _, k := range keys {
		msg := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
		if t, ok := named[k]; ok {
			msg = tea.KeyMsg{Type: t}
		}
		if _, cmd := m.Update(msg); cmd != nil {
			m.Update(cmd())
		}
	}
}

// inside checks that the screen has its size.
func inside(t *testing.T, m *model) string {
	t.Helper()
	v := m.View()
	lines := strings.Split(v, "\n")
	if len(lines) != m.height {
		t.Errorf("%d lines on a screen of %d", len(lines), m.height)
	}
	for _, l := range lines {
		if ansi.StringWidth(l) > m.width {
			t.Errorf("%d columns on a screen of %d: %q", ansi.StringWidth(l), m.width, l)
		}
	}
	if os.Getenv("SHOW") != "" {
		t.Logf("\n%s", v)
	}
	return v
}

// order checks that texts come one after another.
func order(t *testing.T, view string, texts ...string) {
	t.Helper()
	at := 0
	for _, text := range texts {
		i := strings.Index(view[at:], text)
		if i < 0 {
			t.Fatalf("%q is not where it should be in\n%s", text, view)
		}
		at += i + len(text)
	}
}

func TestListHasTheWorstFirst(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {120, 40}, {60, 12}, {200, 60}} {
		m := screenOf(fraud(t), size[0], size[1])
		v := inside(t, m)
		order(t, v, "2 live", "1 critical", "up", "TACTICS", "critical", "02:15", "none", "01:05", "warning", "00:30", "ended")
		if size[0] >= 80 {
			order(t, v, "+1########23 → +1########99", "otp", "ok")
		}
	}
}

func TestNothingForeignReachesTheTerminal(t *testing.T) {
	s := newShown(t)
	s.begin("a", "\x1b]0;owned\x07+1\u202e", "\r\n\x9b31m", 5)
	s.say("a", 1, 1, true, 1, 2, "evil \x1b[2J text\u2066")
	m := screenOf(s, 80, 24)
	for _, keys := range []string{"", "enter"} {
		if keys != "" {
			press(m, keys)
		}
		v := inside(t, m)
		if i := strings.IndexFunc(v, func(r rune) bool {
			return r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0) || r == '\u202e' || r == '\u2066'
		}); i >= 0 {
			t.Errorf("a control character at %d of\n%q", i, v)
		}
	}
}

func TestCallShowsAdviceFindingsAndBothSides(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {120, 40}, {200, 60}} {
		m := screenOf(fraud(t), size[0], size[1])
		press(m, "enter")
		v := inside(t, m)
		order(t, v, "CRITICAL 18.5", "SAY: The code was read out.", "otp request", "read me the code", "Caller", "Callee", "# # # #", "thank you stay on", "esc list")
		if !strings.Contains(v, "audiohook  bank/fraud") {
			t.Errorf("the call's name is missing in\n%s", v)
		}
	}
}

func TestCallScrollsAndFollows(t *testing.T) {
	s := newShown(t)
	s.begin("a", "1", "2", 100)
	for i := range int32(10_000) {
		s.say("a", callwardenv1.Leg(1+i%2), i, true, float64(i), float64(i)+1, fmt.Sprintf("sentence %d", i))
	}
	m := screenOf(s, 80, 24)
	press(m, "enter")
	if v := inside(t, m); !strings.Contains(v, "sentence 9999") {
		t.Errorf("the last words are missing in\n%s", v)
	}
	press(m, "pgup", "up")
	if v := inside(t, m); strings.Contains(v, "sentence 9999") || !strings.Contains(v, "lines below") {
		t.Errorf("it did not scroll:\n%s", v)
	}
	press(m, "g")
	inside(t, m)
	press(m, "G")
	if v := inside(t, m); !strings.Contains(v, "sentence 9999") {
		t.Errorf("it does not follow:\n%s", v)
	}
}

func TestKeysMoveFilterAndGoBack(t *testing.T) {
	m := screenOf(fraud(t), 80, 24)
	press(m, "j")
	if m.chosen.Call != "honest" {
		t.Errorf("chosen %v", m.chosen)
	}
	press(m, "end", "k", "down", "down")
	if m.chosen.Call != "over" {
		t.Errorf("chosen %v", m.chosen)
	}
	press(m, "home", "enter", "tab")
	if m.at != callView || m.chosen.Call != "honest" {
		t.Errorf("view %v of %v", m.at, m.chosen)
	}
	press(m, "esc", "/", "o", "t", "p", "space", "c", "r", "i", "x", "backspace", "enter")
	if v := inside(t, m); len(m.rows) != 1 || !strings.Contains(v, "filter: otp cri") {
		t.Errorf("%d rows:\n%s", len(m.rows), v)
	}
	press(m, "esc", "l")
	if len(m.rows) != 2 {
		t.Errorf("%d live calls", len(m.rows))
	}
	press(m, "/", "z", "z", "enter")
	if v := inside(t, m); !strings.Contains(v, "No call fits") {
		t.Errorf("screen\n%s", v)
	}
	press(m, "esc", "?")
	if v := inside(t, m); !strings.Contains(v, "with your name: ana") {
		t.Errorf("help\n%s", v)
	}
	press(m, "x")
	if m.at != listView {
		t.Errorf("view %v", m.at)
	}
	for key, msg := range map[string]tea.KeyMsg{"q": {Type: tea.KeyRunes, Runes: []rune("q")}, "ctrl+c": {Type: tea.KeyCtrlC}} {
		if _, cmd := m.Update(msg); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%s does not end it", key)
		}
	}
}

func TestChosenCallStaysChosenAsOthersGetWorse(t *testing.T) {
	s := fraud(t)
	m := screenOf(s, 80, 24)
	press(m, "j")
	s.begin("worse", "1", "2", 3)
	s.level("worse", 3, callwardenv1.Level_LEVEL_CRITICAL, callwardenv1.Level_LEVEL_NONE, 30, "x")
	m.Update(tick(s.now))
	if m.chosen.Call != "honest" || m.index() != 2 {
		t.Errorf("chosen %v at %d", m.chosen, m.index())
	}
}

func TestWorstIsChosenUntilSomebodyChooses(t *testing.T) {
	s := newShown(t)
	s.begin("first", "1", "2", 3)
	m := screenOf(s, 80, 24)
	s.begin("worse", "1", "2", 3)
	s.level("worse", 3, callwardenv1.Level_LEVEL_CRITICAL, callwardenv1.Level_LEVEL_NONE, 30, "x")
	m.Update(tick(s.now))
	if m.chosen.Call != "worse" {
		t.Errorf("chosen %v", m.chosen)
	}
	press(m, "j", "home")
	s.begin("worst", "1", "2", 3)
	s.level("worst", 3, callwardenv1.Level_LEVEL_CRITICAL, callwardenv1.Level_LEVEL_NONE, 40, "x")
	m.Update(tick(s.now))
	if m.chosen.Call != "worst" {
		t.Errorf("at the top, chosen %v", m.chosen)
	}
}

func TestActsAreToldAndTakenBack(t *testing.T) {
	s := fraud(t)
	m := screenOf(s, 80, 24)
	press(m, "a", "s")
	v := inside(t, m)
	if row := s.b.Row(board.Key{Tenant: "bank", Call: "fraud"}); row.Ack != "ana" || row.Verdict != "scam" || !strings.Contains(v, "[scam! @ana]") || !strings.Contains(v, "u takes it back") {
		t.Errorf("row %+v\n%s", row, v)
	}
	press(m, "u")
	if row := s.b.Row(board.Key{Tenant: "bank", Call: "fraud"}); row.Ack != "ana" || row.Verdict != "" {
		t.Errorf("after one u: %+v", row)
	}
	press(m, "u", "u")
	if row := s.b.Row(board.Key{Tenant: "bank", Call: "fraud"}); row.Ack != "" {
		t.Errorf("after two: %+v", row)
	}
	if v := inside(t, m); !strings.Contains(v, "nothing of yours") {
		t.Errorf("after three:\n%s", v)
	}
	s.away = errors.New("the server is away")
	press(m, "n")
	if v := inside(t, m); !strings.Contains(v, "the server is away") || len(s.acts) != 4 {
		t.Errorf("%d acts\n%s", len(s.acts), v)
	}
}

func TestLinkIsShown(t *testing.T) {
	for name, c := range map[string]struct {
		link Link
		want string
	}{
		"first try": {Link{}, "connecting"},
		"away":      {Link{Why: errors.New("refused"), Since: time.Date(2026, 11, 22, 11, 59, 0, 0, time.UTC)}, "no server for 01:00, trying"},
		"missed":    {Link{Up: true, Missed: 3}, "3 events missed"},
		"full":      {Link{Up: true, Machines: 1, Known: true, Full: true}, "machines are full"},
		"late":      {Link{Up: true, Machines: 1, Known: true, LagP95: 2500 * time.Millisecond}, "heard 2.5 s late"},
	} {
		s := fraud(t)
		s.link = c.link
		m := screenOf(s, 80, 24)
		if v := inside(t, m); !strings.Contains(strings.Split(v, "\n")[0], c.want) {
			t.Errorf("%s: %s", name, strings.Split(v, "\n")[0])
		}
	}
	s := newShown(t)
	s.link = Link{Why: errors.New("connection refused")}
	if v := inside(t, screenOf(s, 80, 24)); !strings.Contains(v, "The server is away: connection refused") {
		t.Errorf("screen\n%s", v)
	}
}

func TestTerminalsWithoutColourOrUnicodeAreServed(t *testing.T) {
	m := screenOf(fraud(t), 80, 24)
	m.look = look(map[string]string{"LANG": "C"})
	for _, keys := range []string{"l", "enter"} {
		press(m, keys)
		v := strings.ReplaceAll(inside(t, m), "Ü", "")
		if i := strings.IndexFunc(v, func(r rune) bool { return r > 0x7e || r < ' ' && r != '\n' }); i >= 0 {
			t.Errorf("%q in\n%s", v[i:i+4], v)
		}
	}
}

func TestSmallTerminalsAreNotWrittenOver(t *testing.T) {
	for _, size := range [][2]int{{20, 6}, {40, 8}, {80, 10}} {
		m := screenOf(fraud(t), size[0], size[1])
		inside(t, m)
		press(m, "enter")
		inside(t, m)
	}
	m := screenOf(fraud(t), 10, 3)
	if v := m.View(); !strings.Contains(v, "too small") {
		t.Errorf("screen %q", v)
	}
}
