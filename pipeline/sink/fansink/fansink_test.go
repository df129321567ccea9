package fansink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// teller publishes the events of one call.
type teller struct {
	t            testing.TB
	sink         *Sink
	tenant, call string
	n            int
}

func (c *teller) publish(ev sink.Event) {
	c.t.Helper()
	c.n++
	ev.Tenant, ev.Call, ev.ID = c.tenant, c.call, fmt.Sprintf("%s-%d", c.call, c.n)
	if err := c.sink.Publish(context.Background(), ev); err != nil {
		c.t.Fatal(err)
	}
}

func (c *teller) started() {
	c.publish(sink.Event{Type: sink.CallStarted, Data: &callwardenv1.CallStarted{}})
}

func (c *teller) ended() {
	c.publish(sink.Event{Type: sink.CallEnded, Data: &callwardenv1.CallEnded{}})
}

func (c *teller) level(l callwardenv1.Level) {
	c.publish(sink.Event{Type: sink.RiskLevel, Data: &callwardenv1.RiskLevel{Level: l}})
}

func (c *teller) finding(id string, state callwardenv1.FindingState) {
	c.publish(sink.Event{Type: sink.RiskFinding, Data: &callwardenv1.RiskFinding{Finding: &callwardenv1.Finding{Id: id, State: state}}})
}

func (c *teller) segment(final bool) {
	c.publish(sink.Event{Type: sink.TranscriptSegment, Data: &callwardenv1.TranscriptSegment{Final: final}})
}

func (c *teller) action() {
	c.publish(sink.Event{Type: sink.CallAction, Data: &callwardenv1.CallAction{}})
}

// read is all that waits for w, as text.
func read(t testing.TB, w *Watcher) (all []string) {
	t.Helper()
	for {
		item, ok, _ := w.take()
		if !ok {
			return all
		}
		switch {
		case item.State != nil:
			text := "state " + item.State.Started.Call
			if l, ok := item.State.Level.Data.(*callwardenv1.RiskLevel); ok {
				text += " " + l.GetLevel().String()[len("LEVEL_"):]
			}
			for _, f := range item.State.Findings {
				text += " " + f.Data.(*callwardenv1.RiskFinding).GetFinding().GetId()
			}
			all = append(all, text)
		case item.Current:
			all = append(all, "current")
		case item.Missed > 0:
			all = append(all, fmt.Sprintf("missed %d", item.Missed))
		default:
			all = append(all, string(item.Event.Type[len("callwarden."):])+" "+item.Event.Call)
		}
	}
}

func expect(t *testing.T, w *Watcher, want ...string) {
	t.Helper()
	if got := read(t, w); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

const (
	notice      = callwardenv1.Level_LEVEL_NOTICE
	warning     = callwardenv1.Level_LEVEL_WARNING
	provisional = callwardenv1.FindingState_FINDING_STATE_PROVISIONAL
	confirmed   = callwardenv1.FindingState_FINDING_STATE_CONFIRMED
	retracted   = callwardenv1.FindingState_FINDING_STATE_RETRACTED
)

func TestWatcherSeesWhatGoesOnThenWhatHappens(t *testing.T) {
	s := New()
	a, over := &teller{t: t, sink: s, tenant: "x", call: "a"}, &teller{t: t, sink: s, tenant: "x", call: "over"}
	a.started()
	over.started()
	a.finding("f1", provisional)
	a.finding("f2", provisional)
	a.finding("f1", confirmed)
	a.finding("f3", provisional)
	a.finding("f3", retracted)
	a.level(notice)
	over.ended()
	w := s.Watch(Want{})
	defer w.Close()
	expect(t, w, "state a NOTICE f2 f1", "current")
	a.segment(true)
	a.level(warning)
	a.ended()
	a.action()
	expect(t, w, "risk.level.v1 a", "call.ended.v1 a", "call.action.v1 a")
}

func TestWatcherIsToldWhatItWants(t *testing.T) {
	s := New()
	a, b := &teller{t: t, sink: s, tenant: "x", call: "a"}, &teller{t: t, sink: s, tenant: "y", call: "b"}
	watch := func(want Want) *Watcher {
		w := s.Watch(want)
		t.Cleanup(w.Close)
		return w
	}
	tenant := watch(Want{Tenants: []string{"y"}})
	nobody := watch(Want{Tenants: []string{}})
	call := watch(Want{Call: "a", Transcripts: true})
	both := watch(Want{Call: "a", Hypotheses: true})
	high := watch(Want{Level: warning})
	low := watch(Want{Level: callwardenv1.Level_LEVEL_NONE, Call: "b", Levels: true})
	for _, c := range []*teller{a, b} {
		c.started()
		c.level(notice)
		c.segment(false)
		c.segment(true)
		c.publish(sink.Event{Type: sink.CallLevels, Data: &callwardenv1.CallLevels{}})
	}
	b.level(warning)
	b.level(notice) // it stays in view: it has reached the level
	a.ended()
	a.action()
	b.action()
	expect(t, tenant, "current", "call.started.v1 b", "risk.level.v1 b", "risk.level.v1 b", "risk.level.v1 b", "call.action.v1 b")
	expect(t, nobody, "current")
	expect(t, call, "current", "call.started.v1 a", "risk.level.v1 a", "transcript.segment.v1 a", "call.ended.v1 a", "call.action.v1 a")
	expect(t, both, "current", "call.started.v1 a", "risk.level.v1 a", "transcript.segment.v1 a", "transcript.segment.v1 a", "call.ended.v1 a", "call.action.v1 a")
	expect(t, high, "current", "state b WARNING", "risk.level.v1 b", "call.action.v1 a", "call.action.v1 b")
	expect(t, low, "current", "call.started.v1 b", "risk.level.v1 b", "call.levels.v1 b", "risk.level.v1 b", "risk.level.v1 b", "call.action.v1 b")
}

func TestSlowWatcherIsToldThatItMissedAndBeginsAnew(t *testing.T) {
	s := New()
	w, quick := s.Watch(Want{}), s.Watch(Want{})
	defer w.Close()
	defer quick.Close()
	a, b := &teller{t: t, sink: s, tenant: "x", call: "a"}, &teller{t: t, sink: s, tenant: "x", call: "b"}
	a.started()
	b.started()
	for range waitingMost {
		a.level(notice)
		read(t, quick)
	}
	a.ended()
	b.level(warning)
	got := read(t, w)
	if len(got) != 1+waitingMost+3 || got[0] != "current" {
		t.Fatalf("%d items, first %q", len(got), got[0])
	}
	if tail := got[1+waitingMost:]; !slices.Equal(tail, []string{"missed 4", "state b WARNING", "current"}) {
		t.Errorf("the end is %q", tail)
	}
	b.level(notice)
	expect(t, w, "risk.level.v1 b")
	if _, missed := s.Stats(); missed != 4 {
		t.Errorf("%d missed are counted", missed)
	}
}

func TestFindingsOfALongCallAreTheLatest(t *testing.T) {
	s := New()
	a := &teller{t: t, sink: s, tenant: "x", call: "a"}
	a.started()
	for i := range findingsMost + 10 {
		a.finding(fmt.Sprint(i), confirmed)
	}
	w := s.Watch(Want{})
	defer w.Close()
	item, err := w.Next(t.Context())
	if err != nil || item.State == nil || len(item.State.Findings) != findingsMost {
		t.Fatalf("%+v, %v", item, err)
	}
	if first := item.State.Findings[0].Data.(*callwardenv1.RiskFinding).GetFinding().GetId(); first != "10" {
		t.Errorf("the first is %s", first)
	}
}

func TestNextWaitsForWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		w := s.Watch(Want{})
		defer w.Close()
		if item, err := w.Next(t.Context()); err != nil || !item.Current {
			t.Fatalf("%+v, %v", item, err)
		}
		a := &teller{t: t, sink: s, tenant: "x", call: "a"}
		time.AfterFunc(time.Minute, a.started)
		if item, err := w.Next(t.Context()); err != nil || item.Event == nil || item.Event.Type != sink.CallStarted {
			t.Fatalf("%+v, %v", item, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := w.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without events: %v", err)
		}
		idle := s.Idle()
		time.AfterFunc(time.Minute, a.ended)
		<-idle
		if item, err := w.Next(t.Context()); err != nil || item.Event == nil {
			t.Errorf("%+v, %v", item, err)
		}
		<-s.Idle() // still
		time.AfterFunc(time.Minute, func() { _ = s.Close(t.Context()) })
		if _, err := w.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// BenchmarkPublish is what the fan-out adds to an event, by watchers that read.
func BenchmarkPublish(b *testing.B) {
	for _, watchers := range []int{0, 1, 10, 100} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			s := New()
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan struct{}, watchers)
			for range watchers {
				w := s.Watch(Want{})
				go func() { // ends with ctx
					defer func() { w.Close(); ended <- struct{}{} }()
					for {
						if _, err := w.Next(ctx); err != nil {
							return
						}
					}
				}()
			}
			c := &teller{t: b, sink: s, tenant: "x", call: "a"}
			c.started()
			ev := sink.Event{Type: sink.RiskLevel, Tenant: "x", Call: "a", Data: &callwardenv1.RiskLevel{Level: notice}}
			b.ReportAllocs()
			for b.Loop() {
				_ = s.Publish(ctx, ev)
			}
			cancel()
			for range watchers {
				<-ended
			}
		})
	}
}
