package listen

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// A call with findings is served before all whose audio is less than this
	// older: it comes first, and yet nobody waits for ever.
	findingsFirst = 2 * time.Second
	// Recordings can wait: live audio goes first.
	recordedLater = time.Second

	// The machine is behind when more than one live step in twenty is heard
	// later than this, over loadWindow: p95 over the limit that a warning may
	// be late.
	lateAfter  = 500 * time.Millisecond
	loadWindow = time.Second
	// It has recovered when for so many windows nine steps in ten were in half
	// that time.
	calmWindows = 3
	// One bad second is a model being loaded or a hiccup of the machine.
	fullAfter = 3
	// No step has been finished for so long although one waits: new calls are
	// refused without waiting for figures.
	stuckAfter = 2 * time.Second

	lagMemory = 4096 // steps that the quantiles of Stats look back on
)

// job is what one decode of some audio is worth.
type job struct {
	due    time.Time // when it could have been decoded at the earliest; zero for recordings
	first  bool      // its call has findings
	timely bool      // its lag says how the machine keeps up; not so for what is caught up on
}

// scheduler lets at most one native decode per core run at a time: the oldest
// audio first, calls with findings before calls without. It knows how late
// live audio is heard, and what to do about it.
type scheduler struct {
	mu      sync.Mutex
	slots   int // 0 lets all run
	running int
	queue   waiters
	seq     int
	load    load
}

type waiter struct {
	key   time.Time
	seq   int
	index int           // in the heap; -1 once it may run
	ready chan struct{} // closed by whoever gives it its slot
	since time.Time
}

func newScheduler(slots int) *scheduler { return &scheduler{slots: slots} }

// run calls fn when it is its turn. It returns ctx.Err() if ctx ends before.
func (s *scheduler) run(ctx context.Context, j job, fn func()) error {
	if err := s.acquire(ctx, j); err != nil {
		return err
	}
	defer s.release(j)
	fn()
	return nil
}

func (s *scheduler) acquire(ctx context.Context, j job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.slots == 0 || s.running < s.slots {
		s.running++
		s.mu.Unlock()
		return nil
	}
	now := time.Now()
	w := &waiter{key: j.due, seq: s.seq, ready: make(chan struct{}), since: now}
	if j.due.IsZero() {
		w.key = now.Add(recordedLater)
	}
	if j.first {
		w.key = w.key.Add(-findingsFirst)
	}
	s.seq++
	heap.Push(&s.queue, w)
	s.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.index < 0 { // it came in the same moment
		s.hand()
		return ctx.Err()
	}
	heap.Remove(&s.queue, w.index)
	return ctx.Err()
}

func (s *scheduler) release(j job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hand()
	if !j.due.IsZero() {
		s.load.note(time.Now(), j)
	}
}

// hand gives the slot that has become free to the next.
func (s *scheduler) hand() {
	if len(s.queue) == 0 {
		s.running--
		return
	}
	close(heap.Pop(&s.queue).(*waiter).ready) //nolint:forcetypeassert // nothing else is pushed
}

// stuck reports whether somebody waits and nothing moves.
func (s *scheduler) stuck(now time.Time) bool {
	if now.Sub(s.load.moved) <= stuckAfter {
		return false
	}
	oldest := now
	for _, w := range s.queue {
		if w.since.Before(oldest) {
			oldest = w.since
		}
	}
	return now.Sub(oldest) > stuckAfter
}

// waiters is a heap by key, then by order of arrival.
type waiters []*waiter

func (q waiters) Len() int { return len(q) }
func (q waiters) Less(i, j int) bool {
	if c := q[i].key.Compare(q[j].key); c != 0 {
		return c < 0
	}
	return q[i].seq < q[j].seq
}

func (q waiters) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *waiters) Push(x any) {
	w := x.(*waiter) //nolint:forcetypeassert // see scheduler.acquire
	w.index = len(*q)
	*q = append(*q, w)
}

func (q *waiters) Pop() any {
	old := *q
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	w.index = -1
	return w
}

// load is how late live audio is heard.
type load struct {
	moved time.Time // when a step was finished last
	began time.Time // of the window
	steps int
	late  int // over lateAfter
	slow  int // over half of that
	calm  int // windows without haste, in a row
	// behind counts the windows in a row at whose end the machine was behind.
	behind int
	ended  int // windows so far

	lags [lagMemory]time.Duration
	n    int
}

func (l *load) note(now time.Time, j job) {
	l.moved = now
	if !j.timely {
		return
	}
	lag := now.Sub(j.due)
	l.lags[l.n%lagMemory] = lag
	l.n++
	l.close(now)
	l.steps++
	if lag > lateAfter {
		l.late++
	}
	if lag > lateAfter/2 {
		l.slow++
	}
}

// close ends the window when its time has come.
func (l *load) close(now time.Time) {
	if l.began.IsZero() {
		l.began = now
	}
	if now.Sub(l.began) < loadWindow {
		return
	}
	switch {
	case l.late*20 > l.steps:
		l.behind, l.calm = l.behind+1, 0
	case l.slow*10 > l.steps:
		l.behind, l.calm = 0, 0
	default:
		l.behind, l.calm = 0, l.calm+1
	}
	if idle := int(now.Sub(l.began)/loadWindow) - 1; idle > 0 { // nothing has come since
		l.behind, l.calm = 0, l.calm+idle
	}
	l.began, l.steps, l.late, l.slow = now, 0, 0, 0
	l.ended++
}

// quantiles of the latest lags, in the order asked for.
func (l *load) quantiles(shares ...float64) []time.Duration {
	out := make([]time.Duration, len(shares))
	n := min(l.n, lagMemory)
	if n == 0 {
		return out
	}
	sorted := slices.Clone(l.lags[:n])
	slices.Sort(sorted)
	for i, q := range shares {
		out[i] = sorted[min(int(q*float64(n)), n-1)]
	}
	return out
}
