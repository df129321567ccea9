// Package fansink hands events to whoever watches within this process: first
// what is going on, then what happens.
package fansink

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

const (
	// waitingMost is how many events may wait for a watcher that is slow: at 50
	// busy calls with transcripts some ten seconds. When there are more, those
	// that follow are missed until it has read what waits; then it is told, and
	// begins anew with what is going on.
	waitingMost = 1024
	// findingsMost is how many findings of a call are kept for those who come
	// later.
	findingsMost = 64
)

// ErrClosed says that the sink is closed and all that waited has been read.
var ErrClosed = errors.New("no more events come")

// Sink keeps what is going on in calls that have not ended, and passes events
// on. It never makes who publishes wait.
type Sink struct {
	mu       sync.Mutex
	calls    map[[2]string]*state // by tenant and id
	watchers map[*Watcher]struct{}
	idle     chan struct{} // closed when no call goes on any more; nil where nobody waits for that
	closed   bool
	missed   uint64
}

var _ sink.Sink = (*Sink)(nil)

// New returns a Sink that nobody watches yet.
func New() *Sink {
	return &Sink{calls: make(map[[2]string]*state), watchers: make(map[*Watcher]struct{})}
}

// Want is what a watcher is told of.
type Want struct {
	Tenants []string           // only theirs; nil for all
	Call    string             // only this one; empty for all
	Level   callwardenv1.Level // only calls that have reached it; what is done about calls that are over comes regardless

	Transcripts bool // final segments
	Hypotheses  bool // those, and those that are not final
	Levels      bool // how loud legs are
}

// State is a call that has not ended. Events without a type have not come yet.
type State struct {
	Started, Status, Level sink.Event
	Findings               []sink.Event // the latest of each that was not retracted
}

// Item is one thing that a watcher is told: the one field that is set.
type Item struct {
	State   *State // a call comes into view
	Current bool   // all that goes on has been told
	Event   *sink.Event
	// Missed events were not told because the watcher was slow. What is going on
	// follows anew.
	Missed int
}

// state is what is kept of a call.
type state struct {
	State
	peak callwardenv1.Level
}

// take adds what ev says.
func (s *state) take(ev sink.Event) {
	switch d := ev.Data.(type) {
	case *callwardenv1.CallStarted:
		s.Started = ev
	case *callwardenv1.CallStatus:
		s.Status = ev
	case *callwardenv1.RiskLevel:
		s.Level = ev
		s.peak = max(s.peak, d.GetLevel())
	case *callwardenv1.RiskFinding:
		f := d.GetFinding()
		s.Findings = slices.DeleteFunc(s.Findings, func(e sink.Event) bool {
			return e.Data.(*callwardenv1.RiskFinding).GetFinding().GetId() == f.GetId()
		})
		if f.GetState() == callwardenv1.FindingState_FINDING_STATE_RETRACTED {
			return
		}
		if len(s.Findings) == findingsMost {
			s.Findings = slices.Delete(s.Findings, 0, 1)
		}
		s.Findings = append(s.Findings, ev)
	}
}

// Publish passes ev on. It never waits and never refuses.
func (s *Sink) Publish(_ context.Context, ev sink.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{ev.Tenant, ev.Call}
	call := s.calls[key]
	if ev.Type == sink.CallStarted {
		call = &state{}
		s.calls[key] = call
	}
	before := callwardenv1.Level_LEVEL_UNSPECIFIED
	after := before
	if call != nil {
		before = call.peak
		call.take(ev)
		after = call.peak
	}
	var snapshot *State    // made once for all that need it
	var shared *sink.Event // likewise
	for w := range s.watchers {
		if !w.want.call(ev.Tenant, ev.Call) {
			continue
		}
		switch {
		case before < w.want.Level && after >= w.want.Level && call != nil:
			if snapshot == nil {
				snapshot = call.snapshot()
			}
			s.hand(w, Item{State: snapshot})
		case (after >= w.want.Level || call == nil && ev.Type == sink.CallAction) && w.want.event(ev):
			if shared == nil {
				once := ev
				shared = &once
			}
			s.hand(w, Item{Event: shared})
		}
	}
	if ev.Type == sink.CallEnded {
		delete(s.calls, key)
		s.rest()
	}
	return nil
}

// Idle returns a channel that is closed once no call goes on.
func (s *Sink) Idle() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.rest()
	return idle
}

// rest tells those who wait for it that no call goes on; s.mu is held.
func (s *Sink) rest() {
	if len(s.calls) == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

func (s *state) snapshot() *State {
	c := s.State
	c.Findings = slices.Clone(c.Findings)
	return &c
}

// hand queues an item for w, or counts it as missed; s.mu is held.
func (s *Sink) hand(w *Watcher, item Item) {
	if w.missed > 0 || w.waiting >= waitingMost {
		w.missed++
		s.missed++
		return
	}
	w.waiting++
	w.items = append(w.items, item)
	w.wake()
}

// call reports whether events of this call are wanted.
func (w *Want) call(tenant, call string) bool {
	return (w.Call == "" || w.Call == call) && (w.Tenants == nil || slices.Contains(w.Tenants, tenant))
}

// event reports whether events of this kind are wanted.
func (w *Want) event(ev sink.Event) bool {
	switch d := ev.Data.(type) {
	case *callwardenv1.TranscriptSegment:
		return w.Hypotheses || w.Transcripts && d.GetFinal()
	case *callwardenv1.CallLevels:
		return w.Levels
	}
	return true
}

// Close ends all watching. What waits can still be read.
func (s *Sink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for w := range s.watchers {
		w.wake()
	}
	return nil
}

// Stats are how many watch now, and how many events watchers have missed.
func (s *Sink) Stats() (watchers int, missed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watchers), s.missed
}

// Watcher is told what it wants. Its methods are called from one goroutine.
type Watcher struct {
	sink *Sink
	want Want
	woke chan struct{} // holds one when there may be something; hand and Close send

	// Of sink.mu:
	items   []Item
	waiting int // items that came by Publish
	missed  int
}

// Watch tells what is going on, then Current, then what happens. The caller
// calls Close.
func (s *Sink) Watch(want Want) *Watcher {
	if want.Level <= callwardenv1.Level_LEVEL_NONE {
		want.Level = callwardenv1.Level_LEVEL_UNSPECIFIED // every call has reached it
	}
	w := &Watcher{sink: s, want: want, woke: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.begin()
	s.watchers[w] = struct{}{}
	return w
}

// begin queues what is going on; sink.mu is held.
func (w *Watcher) begin() {
	for key, call := range w.sink.calls {
		if w.want.call(key[0], key[1]) && call.peak >= w.want.Level {
			w.items = append(w.items, Item{State: call.snapshot()})
		}
	}
	w.items = append(w.items, Item{Current: true})
	w.wake()
}

func (w *Watcher) wake() {
	select {
	case w.woke <- struct{}{}:
	default:
	}
}

// Next waits for the next item. It returns ctx.Err() when ctx ends first, and
// ErrClosed after the last.
func (w *Watcher) Next(ctx context.Context) (Item, error) {
	for {
		item, ok, closed := w.take()
		if ok {
			return item, nil
		}
		if closed {
			return Item{}, ErrClosed
		}
		select {
		case <-w.woke:
		case <-ctx.Done():
			return Item{}, ctx.Err()
		}
	}
}

func (w *Watcher) take() (item Item, ok, closed bool) {
	s := w.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(w.items) == 0 && w.missed > 0 {
		item = Item{Missed: w.missed}
		w.missed, w.waiting = 0, 0
		w.begin()
		return item, true, false
	}
	if len(w.items) == 0 {
		w.items, w.waiting = nil, 0
		return item, false, s.closed
	}
	item = w.items[0]
	w.items[0] = Item{} // its event is not kept
	w.items = w.items[1:]
	// What is going on comes first and has room of its own: an item that came by
	// Publish is among the last of those that wait.
	w.waiting = min(w.waiting, len(w.items))
	return item, true, false
}

// Close ends watching.
func (w *Watcher) Close() {
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	delete(w.sink.watchers, w)
}
