package pipeline

import (
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const usualFrame = 20 * time.Millisecond

// queue is the audio of a live leg that waits to be heard. One goroutine puts
// and closes, another takes. It holds what waits and no more: most of the time
// that is a frame or two.
type queue struct {
	most    int
	longest time.Duration
	wake    chan struct{} // holds a token while something waits; put and close send

	mu      sync.Mutex
	waiting []arrival
	audio   time.Duration // of them
	closed  bool
	dropped time.Duration // audio that found no room
	latest  int64         // when the last frame came, in nanoseconds since 1970
}

// newQueue has room for so many frames, or their time where they are longer
// than 20 ms.
func newQueue(most int) *queue {
	return &queue{most: most, longest: time.Duration(most) * usualFrame, wake: make(chan struct{}, 1)}
}

// put queues f, which came in at now. When there is no room the backlog is
// dropped whole, which is one gap instead of many; but for the keys in it,
// which need no recogniser.
func (q *queue) put(f audio.Frame, now time.Time) {
	q.mu.Lock()
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
	q.mu.Unlock()
	q.signal()
}

// close says that no more comes. What waits is taken all the same.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for the oldest frame; ok is false when the queue is closed and
// empty.
func (q *queue) take() (a arrival, ok bool) {
	for {
		q.mu.Lock()
		if n := len(q.waiting); n > 0 {
			a = q.waiting[0]
			copy(q.waiting, q.waiting[1:])
			q.waiting[n-1] = arrival{}
			q.waiting = q.waiting[:n-1]
			q.audio -= a.End() - a.Start
			q.mu.Unlock()
			return a, true
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return a, false
		}
		<-q.wake
	}
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
