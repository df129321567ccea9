package board

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// script writes the events of a call.
type script struct {
	b    *Board
	call string
	n    int
}

func newBoard(t *testing.T) *Board {
	t.Helper()
	b, err := New(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *script) event(at time.Duration, typ sink.Type, data proto.Message) sink.Event {
	s.n++
	return sink.Event{
		ID: fmt.Sprint(s.call, s.n), Type: typ, Tenant: "default", Call: s.call, Source: "callwarden/rtp", At: at, Data: data,
	}
}

func started(began time.Time) *callwardenv1.CallStarted {
	d := &callwardenv1.CallStarted{
		Legs:       []callwardenv1.Leg{callwardenv1.Leg_LEG_CALLER, callwardenv1.Leg_LEG_CALLEE},
		Attributes: map[string]string{"from": "+## ###", "from_name": "<b>Bank</b>"},
	}
	if !began.IsZero() {
		d.Began = timestamppb.New(began)
	}
	return d
}

func found(id, tactic string, state callwardenv1.FindingState, score float64, level callwardenv1.Level, at time.Duration) *callwardenv1.RiskFinding {
	return &callwardenv1.RiskFinding{
		At: durationpb.New(at), Score: score, Level: level,
		Finding: &callwardenv1.Finding{Id: id, Tactic: tactic, State: state, Points: score, Leg: callwardenv1.Leg_LEG_CALLER},
	}
}

const (
	provisional = callwardenv1.FindingState_FINDING_STATE_PROVISIONAL
	confirmed   = callwardenv1.FindingState_FINDING_STATE_CONFIRMED
	retracted   = callwardenv1.FindingState_FINDING_STATE_RETRACTED
	notice      = callwardenv1.Level_LEVEL_NOTICE
	warning     = callwardenv1.Level_LEVEL_WARNING
	critical    = callwardenv1.Level_LEVEL_CRITICAL
)

func (s *script) begin() {
	s.b.Take(s.event(0, sink.CallStarted, started(noon)), noon)
}

func (s *script) find(f *callwardenv1.RiskFinding) sink.Event {
	at := f.GetAt().AsDuration()
	ev := s.event(at, sink.RiskFinding, f)
	s.b.Take(ev, noon.Add(at))
	return ev
}

func TestWorstCallComesFirst(t *testing.T) {
	b := newBoard(t)
	for call, level := range map[string]callwardenv1.Level{"quiet": notice, "bad": critical, "worse-but-over": critical, "so-so": warning} {
		s := &script{b: b, call: call}
		s.begin()
		s.find(found("f", "otp_request", confirmed, float64(level), level, time.Second))
		if call == "worse-but-over" {
			b.Take(s.event(2*time.Second, sink.CallEnded, &callwardenv1.CallEnded{Duration: durationpb.New(2 * time.Second)}), noon)
		}
	}
	var order []string
	for _, r := range b.Rows() {
		order = append(order, r.ID)
	}
	if want := []string{"bad", "so-so", "quiet", "worse-but-over"}; !slices.Equal(order, want) {
		t.Errorf("order is %v, want %v", order, want)
	}
}

func TestEventTwiceOrLateChangesNothing(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	early := s.event(time.Second, sink.RiskFinding, found("f", "otp_request", provisional, 3, notice, time.Second))
	late := s.find(found("f", "otp_request", confirmed, 7, warning, 2*time.Second))
	if b.Take(late, noon.Add(time.Minute)) {
		t.Error("an event that came twice was taken twice")
	}
	b.Take(early, noon.Add(time.Minute))
	row := b.Row(Key{"default", "c"})
	if row.Level != "warning" || row.Score != 7 || len(row.Tactics) != 1 || row.Tactics[0].State != "confirmed" {
		t.Errorf("after a late provisional finding the row is %+v", row)
	}
}

func TestRetractedFindingIsNoTactic(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	s.find(found("f", "otp_request", provisional, 7, warning, time.Second))
	s.find(found("f", "otp_request", retracted, 0, callwardenv1.Level_LEVEL_NONE, 2*time.Second))
	row := b.Row(Key{"default", "c"})
	if len(row.Tactics) != 0 || row.Level != "none" || row.Peak != "warning" || row.Alert == 0 {
		t.Errorf("row is %+v", row)
	}
	if c, _ := b.Call(row.Key()); len(c.Findings) != 1 || c.Findings[0].State != "retracted" {
		t.Errorf("findings are %+v, want the retracted one to be seen", c.Findings)
	}
}

func TestAgeIsReckonedFromMediaClockAndReceipt(t *testing.T) {
	for name, began := range map[string]time.Time{
		"clock of last year":  noon.AddDate(-1, 0, 0),
		"clock of tomorrow":   noon.AddDate(0, 0, 1),
		"no clock":            {},
		"clock that is right": noon,
	} {
		b := newBoard(t)
		s := &script{b: b, call: "c"}
		b.Take(s.event(0, sink.CallStarted, started(began)), noon)
		s.find(found("f", "otp_request", confirmed, 7, warning, 90*time.Second))
		row := b.Row(Key{"default", "c"})
		if row.Start.Time() != noon || row.Dur != 90 || row.Seen.Time() != noon.Add(90*time.Second) {
			t.Errorf("%s: start %v, %v s at %v", name, row.Start.Time(), row.Dur, row.Seen.Time())
		}
		wrong := !began.IsZero() && !began.Equal(noon)
		if (row.Skew != 0) != wrong {
			t.Errorf("%s: skew is %v", name, row.Skew)
		}
	}
}

func TestSinceTellsOnlyWhatChanged(t *testing.T) {
	b := newBoard(t)
	for i := range 10 {
		(&script{b: b, call: fmt.Sprint("c", i)}).begin()
	}
	rows, _, v, ok := b.Since(0)
	if len(rows) != 10 || ok {
		t.Fatalf("%d rows, ok %v; want all 10 and no resumption from 0", len(rows), ok)
	}
	s := &script{b: b, call: "c3", n: 1}
	s.find(found("f", "otp_request", confirmed, 7, warning, time.Second))
	b.Remove(Key{"default", "c4"})
	rows, gone, v, ok := b.Since(v)
	if !ok || len(rows) != 1 || rows[0].ID != "c3" || len(gone) != 1 || gone[0].Call != "c4" {
		t.Errorf("rows %v, gone %v, ok %v", rows, gone, ok)
	}
	select {
	case <-b.Changed(v):
		t.Error("changed, and nothing has")
	default:
	}
	select {
	case <-b.Changed(v - 1):
	default:
		t.Error("a change before the version is not told")
	}
	if _, _, _, ok := b.Since(v + 100); ok {
		t.Error("a version of another board was resumed")
	}
}

func TestWhoWasAwayTooLongGetsAllCalls(t *testing.T) {
	b := newBoard(t)
	(&script{b: b, call: "stays"}).begin()
	_, _, v, _ := b.Since(0)
	for i := range gravesMost + 10 {
		(&script{b: b, call: fmt.Sprint("c", i)}).begin()
		b.Remove(Key{"default", fmt.Sprint("c", i)})
	}
	rows, gone, _, ok := b.Since(v)
	if ok || len(rows) != 1 || len(gone) != 0 {
		t.Errorf("%d rows, %d gone, ok %v; want all rows anew", len(rows), len(gone), ok)
	}
}

func TestEndedCallStaysForAWhile(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	b.Take(s.event(time.Minute, sink.CallEnded, &callwardenv1.CallEnded{Duration: durationpb.New(time.Minute)}), noon.Add(time.Minute))
	b.Age(noon.Add(15 * time.Minute))
	if b.Row(Key{"default", "c"}) == nil {
		t.Fatal("gone before its time")
	}
	b.Age(noon.Add(16 * time.Minute))
	if b.Row(Key{"default", "c"}) != nil {
		t.Error("still there")
	}
}

func TestCallThatSaysNothingMoreIsLost(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	if lost := b.Lose(noon.Add(DefaultConfig().Quiet-1), time.Time{}); len(lost) != 0 {
		t.Fatalf("lost %v before its time", lost)
	}
	if lost := b.Lose(noon.Add(DefaultConfig().Quiet), time.Time{}); len(lost) != 1 {
		t.Fatalf("lost %v", lost)
	}
	if row := b.Row(Key{"default", "c"}); row.State != Lost || row.Ended == 0 {
		t.Errorf("row is %+v", row)
	}
	s.find(found("f", "otp_request", confirmed, 7, warning, 3*time.Hour))
	if row := b.Row(Key{"default", "c"}); row.State != Live || row.Ended != 0 || row.Level != "warning" {
		t.Errorf("heard of again the row is %+v", row)
	}
}

func TestCallsAreLostWithTheirMachine(t *testing.T) {
	b := newBoard(t)
	(&script{b: b, call: "c"}).begin()
	if lost := b.Lose(noon.Add(time.Minute), noon); len(lost) != 0 {
		t.Fatalf("lost %v, which was heard of since", lost)
	}
	if lost := b.Lose(noon.Add(time.Minute), noon.Add(time.Second)); len(lost) != 1 {
		t.Errorf("lost %v", lost)
	}
}

func TestNameGivenOutAgainIsAnotherCall(t *testing.T) {
	b := newBoard(t)
	first := &script{b: b, call: "c"}
	first.begin()
	first.find(found("f", "otp_request", confirmed, 7, warning, time.Second))
	b.Take(first.event(time.Minute, sink.CallEnded, &callwardenv1.CallEnded{Duration: durationpb.New(time.Minute)}), noon.Add(time.Minute))
	again := &script{b: b, call: "c"} // with the same event ids
	b.Take(again.event(0, sink.CallStarted, started(noon.Add(time.Hour))), noon.Add(time.Hour))
	if row := b.Row(Key{"default", "c"}); row.State != Live || row.Level != "none" || row.Start.Time() != noon.Add(time.Hour) {
		t.Errorf("row is %+v", row)
	}
}

func act(b *Board, s *script, who string, a callwardenv1.Action, undoes string) string {
	ev := s.event(0, sink.CallAction, &callwardenv1.CallAction{Who: who, Action: a, Undoes: undoes, When: timestamppb.New(noon.Add(time.Duration(s.n) * time.Second))})
	b.Take(ev, noon)
	return ev.ID
}

func TestLaterVerdictOfTwoAnalystsCounts(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	key := Key{"default", "c"}
	act(b, s, "anna", callwardenv1.Action_ACTION_SCAM, "")
	bens := act(b, s, "ben", callwardenv1.Action_ACTION_NOT_SCAM, "")
	if row := b.Row(key); row.Verdict != "not_scam" || row.VerdictBy != "ben" {
		t.Errorf("verdict is %q by %q", row.Verdict, row.VerdictBy)
	}
	act(b, s, "anna", callwardenv1.Action_ACTION_NOT_SCAM, bens)
	if row := b.Row(key); row.Verdict != "scam" || row.VerdictBy != "anna" {
		t.Errorf("after it was taken back the verdict is %q by %q", row.Verdict, row.VerdictBy)
	}
	if c, _ := b.Call(key); len(c.Actions) != 2 || c.Actions[1].UndoneBy != "anna" {
		t.Errorf("actions are %+v", c.Actions)
	}
}

func TestUndoThatComesFirstCounts(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	act(b, s, "anna", callwardenv1.Action_ACTION_SCAM, fmt.Sprint("c", s.n+2))
	act(b, s, "anna", callwardenv1.Action_ACTION_SCAM, "")
	if row := b.Row(Key{"default", "c"}); row.Verdict != "" {
		t.Errorf("verdict is %q", row.Verdict)
	}
}

func speak(b *Board, s *script, n int, final bool, text string) {
	at := time.Duration(n) * time.Second
	b.Take(s.event(at, sink.TranscriptSegment, &callwardenv1.TranscriptSegment{
		Leg: callwardenv1.Leg_LEG_CALLEE, Utterance: int32(n), Final: final, Start: durationpb.New(at), End: durationpb.New(at + time.Second), Text: text,
		Words: []*callwardenv1.Word{{Text: text, Start: durationpb.New(at), End: durationpb.New(at + time.Second), Confidence: 0.5}},
	}), noon.Add(at))
}

func TestSegmentIsReplacedUntilFinal(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	speak(b, s, 0, false, "read")
	_, at, _ := b.Follow(Key{"default", "c"})
	speak(b, s, 0, true, "read me the code")
	speak(b, s, 0, false, "too late")
	u, _, ok := b.Next(at)
	if !ok || len(u.Segments) != 1 || u.Segments[0].N != 0 || u.Segments[0].Text != "read me the code" {
		t.Errorf("update is %+v", u.Segments)
	}
	if u, _, _ := b.Next(at); len(u.Segments) != 0 {
		t.Errorf("told twice: %+v", u.Segments)
	}
}

func TestLongCallGivesItsSegmentsInPages(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	const all = 10_000
	for i := range all {
		speak(b, s, i, true, "word")
	}
	key := Key{"default", "c"}
	c, _ := b.Call(key)
	if len(c.Segments) != segmentsAtOnce || c.Earlier != all-segmentsAtOnce || c.Dropped != 0 {
		t.Fatalf("%d segments, %d earlier, %d dropped", len(c.Segments), c.Earlier, c.Dropped)
	}
	seen := len(c.Segments)
	for before, earlier := c.Segments[0].N, c.Earlier; earlier > 0; {
		var page []Segment
		page, earlier, _ = b.Segments(key, before, 700)
		if page[len(page)-1].N != before-1 {
			t.Fatalf("page before %d ends at %d", before, page[len(page)-1].N)
		}
		seen, before = seen+len(page), page[0].N
	}
	if seen != all {
		t.Errorf("saw %d segments of %d", seen, all)
	}
	speak(b, s, all, true, "one too many")
	if c, _ = b.Whole(key); len(c.Segments)+c.Dropped != all+1 || c.Dropped == 0 {
		t.Errorf("%d segments and %d dropped", len(c.Segments), c.Dropped)
	}
}

func TestLevelsStandAtTheirPlace(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	put := func(start time.Duration, below ...byte) {
		b.Take(s.event(start, sink.CallLevels, &callwardenv1.CallLevels{
			Start: durationpb.New(start), Step: durationpb.New(100 * time.Millisecond),
			Legs: []*callwardenv1.LegLevels{{Leg: callwardenv1.Leg_LEG_CALLER, Below: below}},
		}), noon.Add(start))
	}
	put(0, 30, 40)
	_, at, _ := b.Follow(Key{"default", "c"})
	put(400*time.Millisecond, 20)
	u, _, _ := b.Next(at)
	if len(u.Levels) != 1 || u.Levels[0].From != 2 || !slices.Equal(u.Levels[0].Below, []byte{255, 255, 20}) {
		t.Errorf("update is %+v", u.Levels)
	}
	put(time.Hour, 10) // one step too many
	u, _, _ = b.Next(at)
	if l := u.Levels[0]; l.From != 0 || l.Step != 0.2 || len(l.Below) != stripMost/2+1 || l.Below[0] != 30 || l.Below[2] != 20 {
		t.Errorf("after an hour: from %d, step %v, %d steps, %v", l.From, l.Step, len(l.Below), l.Below[:3])
	}
}

func TestCurveStaysShort(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	for i := range 5000 {
		s.find(found(fmt.Sprint("f", i%50), "otp_request", confirmed, float64(i%13), notice, time.Duration(i)*time.Second))
	}
	c, _ := b.Call(Key{"default", "c"})
	if len(c.Curve) > pointsMost || len(c.Row.Line) != 2*lineMost || c.Row.Line[len(c.Row.Line)-2] != 4999 {
		t.Errorf("curve of %d points, line of %d ending at %v", len(c.Curve), len(c.Row.Line), c.Row.Line[len(c.Row.Line)-2])
	}
}

func TestCallSurvivesJSON(t *testing.T) {
	b := newBoard(t)
	s := &script{b: b, call: "c"}
	s.begin()
	speak(b, s, 1, true, `she said "<b>שלום</b>"`)
	s.find(found("f", "otp_request", confirmed, 7, warning, time.Second))
	c, _ := b.Whole(Key{"default", "c"})
	one, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Call
	if err := json.Unmarshal(one, &back); err != nil {
		t.Fatal(err)
	}
	two, err := json.Marshal(back)
	if err != nil || string(one) != string(two) {
		t.Errorf("became\n%s of\n%s (%v)", two, one, err)
	}
}

func TestBoardHoldsNoMoreCallsThanItMay(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Calls = 10
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		s := &script{b: b, call: fmt.Sprint("c", i)}
		s.begin()
		if i == 5 {
			b.Take(s.event(0, sink.CallEnded, &callwardenv1.CallEnded{}), noon)
		}
	}
	rows := b.Rows()
	if len(rows) != 10 || slices.ContainsFunc(rows, func(r *Row) bool { return r.ID == "c5" }) {
		t.Errorf("%d rows, want 10 without the ended one", len(rows))
	}
}

func BenchmarkTake300Calls(b *testing.B) {
	board, err := New(DefaultConfig())
	if err != nil {
		b.Fatal(err)
	}
	scripts := make([]*script, 300)
	for i := range scripts {
		scripts[i] = &script{b: board, call: fmt.Sprint("c", i)}
		scripts[i].begin()
	}
	_, _, v, _ := board.Since(0)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		scripts[i%300].find(found(fmt.Sprint("f", i/300%20), "otp_request", confirmed, float64(i%13), notice, time.Duration(i)*time.Millisecond))
		_, _, v, _ = board.Since(v)
		i++
	}
}

func TestTranscriptsOfAllCallsAreBounded(t *testing.T) {
	b := newBoard(t)
	long := &script{b: b, call: "long"}
	long.begin()
	for i := range 5000 {
		speak(b, long, i, true, "word")
	}
	b.spoken = segmentsAll // as if others had said the rest
	other := &script{b: b, call: "other"}
	other.begin()
	speak(b, other, 0, true, "word")
	c, _ := b.Whole(Key{"default", "long"})
	o, _ := b.Whole(Key{"default", "other"})
	if c.Dropped != 500 || len(c.Segments) != 4500 || len(o.Segments) != 1 || b.spoken != segmentsAll+1-500 {
		t.Errorf("%d dropped, %d left of the longest, %d of the other, %d in all", c.Dropped, len(c.Segments), len(o.Segments), b.spoken)
	}
}
