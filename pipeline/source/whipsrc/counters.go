package whipsrc

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
)

// counters are the source's, added to by all publications.
type counters struct {
	calls, legs    atomic.Int64
	begun, refused atomic.Uint64
	stranger       atomic.Uint64 // requests that may not
	malformed      atomic.Uint64 // requests that are wrong
	told, untold   atomic.Uint64

	mu   sync.Mutex
	gone source.Stats // of publications that have ended
}

// Stats counts packets, and among strangers the requests of those who may not
// publish, among the malformed those that cannot be understood.
func (s *Source) Stats() source.Stats {
	s.mu.Lock()
	all := make([]*publication, 0, len(s.publications))
	for _, p := range s.publications {
		all = append(all, p)
	}
	s.mu.Unlock()
	var st source.Stats
	for _, p := range all {
		st.Add(p.stats())
	}
	s.count.mu.Lock()
	st.Add(s.count.gone)
	s.count.mu.Unlock()
	st.Add(source.Stats{
		Calls: int(s.count.calls.Load()), Legs: int(s.count.legs.Load()),
		Begun: s.count.begun.Load(), Refused: s.count.refused.Load(),
		Stranger: s.count.stranger.Load(), Malformed: s.count.malformed.Load(),
		Told: s.count.told.Load(), Untold: s.count.untold.Load(),
	})
	return st
}

// limiter lets one in a while through and counts the others: what strangers do
// must not fill the log.
type limiter struct {
	mu    sync.Mutex
	last  time.Time
	since int // held back since the last
}

const logEvery = time.Second

// pass reports whether it is time again, and how many were held back.
func (l *limiter) pass() (ok bool, held int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.last) < logEvery {
		l.since++
		return false, 0
	}
	held, l.since, l.last = l.since, 0, now
	return true, held
}
