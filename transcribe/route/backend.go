package route

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe"
)

// backend is one engine under the name that rules call it by, and how it is
// doing.
type backend struct {
	name        string
	engine      transcribe.Engine
	info        transcribe.Info
	first, most time.Duration // of the back-off

	sessions  atomic.Int64 // opened
	failures  atomic.Int64 // sessions that could not be opened or died
	takeovers atomic.Int64 // sessions that it took over from another

	mu    sync.Mutex
	retry time.Time     // when a session may try it again; zero while it is well
	delay time.Duration // the last one
	last  time.Time     // when it failed last
}

// take reports whether a new session should try b. Of those that come while b
// is away, one at a time does once the back-off is over.
func (b *backend) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.retry.IsZero() {
		return true
	}
	if now.Before(b.retry) {
		return false
	}
	b.retry = now.Add(b.delay)
	return true
}

// failed notes that a session of b could not be opened or died, and reports
// whether b was well until then. Sessions that die together are one failure.
func (b *backend) failed(now time.Time) (news bool) {
	b.failures.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	news = b.retry.IsZero()
	if news || !now.Before(b.last.Add(b.delay)) {
		if b.delay == 0 || now.Sub(b.last) > 2*b.most {
			b.delay = b.first
		} else {
			b.delay = min(2*b.delay, b.most)
		}
		b.last = now
		b.retry = now.Add(b.delay)
	}
	return news
}

// worked notes that b opened a session, and reports whether it was away.
func (b *backend) worked() (news bool) {
	b.sessions.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	news = !b.retry.IsZero()
	b.retry = time.Time{}
	return news
}

// away reports whether new sessions go elsewhere.
func (b *backend) away() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.retry.IsZero()
}
