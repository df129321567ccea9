package pipeline

import (
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const usualFrame = 20 * time.Millisecond

// queue is the audio of a live leg that waits to be heard. One goroutine puts.
// Another hears what waits, and only while something does: a goroutine of its
// own for the life of each leg would hold more memory than all else of it. It
// is started by whoever put the first frame, see put.
type queue struct {
	most    int
	longest time.Duration

	mu      sync.Mutex
	waiting []arrival
	audio   time.Duration // of them
	hearing bool          // somebody takes until nothing waits
	dropped time.Duration // audio that found no room
	latest  int64         // when the last frame came, in nanoseconds since 1970
}

// newQueue has room for so many frames, or their time where they are longer
// than 20 ms.
func newQueue(most int) *queue {
	return &queue{most: most, longest: time.Duration(most) * usualFrame}
}

// put queues f, which came in at now. When there is no room the backlog is
// dropped whole, which is one gap instead of many; but for the keys in it,
// which need no recogniser. Where idle is true nobody takes: the caller starts
// who does.
func (q *queue) put(f audio.Frame, now time.Time) (idle bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= q.most || len(q.waiting) > 0 && q.audio >= q.longest {
		keys := ""
		for _, old := range q.waiting {
			q.dropped += old.End() - old.Start
			keys += old.Keys
		}
		f.Keys = keys + f.Keys
		clear(q.waiting)
		q.waiting, q.audio = q.waiting[:0], 0
	}
	q.audio += f.End() - f.Start
	q.latest = now.UnixNano()
	q.waiting = append(q.waiting, arrival{f, q.latest})
	idle, q.hearing = !q.hearing, true
	return idle
}

// take returns the oldest frame. ok is false when none waits: who takes then
// ends, and the next put starts another.
func (q *queue) take() (a arrival, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.waiting)
	if n == 0 {
		q.hearing = false
		return a, false
	}
	a = q.waiting[0]
	copy(q.waiting, q.waiting[1:])
	q.waiting[n-1] = arrival{}
	q.waiting = q.waiting[:n-1]
	q.audio -= a.End() - a.Start
	return a, true
}

func (q *queue) droppedSoFar() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// stirred is when the last frame came, or began where none has.
func (q *queue) stirred(began time.Time) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.latest == 0 {
		return began
	}
	return time.Unix(0, q.latest)
}
