// Package say brings prompts into calls: it keeps those that wait and hands out
// their sound at the pace of speech and the rate of a protocol, which only has
// to encode and send it.
package say

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Tick is how long the pieces are that a Queue sends, and how far apart.
const Tick = 20 * time.Millisecond

// Rates that a prompt may have, which are those that the resampler takes.
const (
	rateLeast = 8000
	rateMost  = 48000
)

// late is how far behind the pace a peer may be and still be caught up with: its
// jitter buffer knows what to do. Beyond it, the rest of the prompt is said later.
const late = 5 * Tick

// ErrOver says that nothing is said into a call any more.
var ErrOver = errors.New("the call is over")

// Queue is what waits to be said into one call. Play may be called from any
// goroutine, Run from one, once.
type Queue struct {
	wake chan struct{} // capacity 1: something waits; sent by Play, never closed

	mu      sync.Mutex
	most    int
	waiting []source.Prompt
	saying  bool
	over    error // why nothing is said any more
}

// NewQueue makes a queue in which most prompts have room, the one that is being
// said among them; at least 1.
func NewQueue(most int) *Queue {
	return &Queue{wake: make(chan struct{}, 1), most: max(most, 1)}
}

// Play has p said after what waits already. Its error is [source.ErrNoRoom]
// where too much waits, that which ended Run, or says what p lacks.
func (q *Queue) Play(p source.Prompt) error {
	if p.Rate < rateLeast || p.Rate > rateMost || len(p.PCM) == 0 {
		return fmt.Errorf("prompt %q: %d samples at %d Hz must be some, at %d to %d Hz", p.ID, len(p.PCM), p.Rate, rateLeast, rateMost)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil {
		return q.over
	}
	n := len(q.waiting)
	if q.saying {
		n++
	}
	if n >= q.most {
		return source.ErrNoRoom
	}
	q.waiting = append(q.waiting, p)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// Idle reports whether nothing is said and nothing waits.
func (q *Queue) Idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.saying && len(q.waiting) == 0
}

// Run says what is played until ctx ends or send fails, and returns why; after
// that Play refuses. send takes Tick of mono samples at rateHz, 8000 to 48000,
// once every Tick while something is said, and nothing in between. The last piece
// of a prompt is filled up with silence. send does not keep pcm; where it waits,
// the prompt is said more slowly, not faster afterwards.
func (q *Queue) Run(ctx context.Context, rateHz int, send func(pcm []int16) error) (err error) {
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.waiting, q.saying = nil, false
		q.over = ErrOver
		if ctx.Err() == nil && err != nil {
			q.over = err
		}
	}()
	pace := time.NewTimer(0)
	defer pace.Stop()
	due := time.Now() // when the next piece is sent
	for {
		p, ok := q.next()
		if !ok {
			select {
			case <-q.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		pcm, err := at(rateHz, p)
		if err != nil {
			return err
		}
		for step := rateHz / int(time.Second/Tick); len(pcm) > 0; pcm = pcm[step:] {
			now := time.Now()
			if now.Sub(due) > late {
				due = now
			}
			pace.Reset(due.Sub(now))
			select {
			case <-pace.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := send(pcm[:step:step]); err != nil {
				return err
			}
			due = due.Add(Tick)
		}
	}
}

// next takes the prompt that is said now.
func (q *Queue) next() (p source.Prompt, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.saying = len(q.waiting) > 0; !q.saying {
		return p, false
	}
	p, q.waiting = q.waiting[0], q.waiting[1:]
	return p, true
}

// at is p's sound at rateHz, in whole ticks.
func at(rateHz int, p source.Prompt) ([]int16, error) {
	pcm := p.PCM
	if p.Rate != rateHz {
		r, err := audio.NewResampler(p.Rate, rateHz)
		if err != nil {
			return nil, fmt.Errorf("prompt %q: %w", p.ID, err)
		}
		in := make([]float32, len(pcm))
		for i, v := range pcm {
			in[i] = float32(v)
		}
		out := r.Flush(r.Process(nil, in))
		pcm = make([]int16, len(out))
		for i, v := range out {
			pcm[i] = int16(max(math.MinInt16, min(math.MaxInt16, math.Round(float64(v)))))
		}
	}
	step := rateHz / int(time.Second/Tick)
	whole := make([]int16, (len(pcm)+step-1)/step*step) // the prompt is shared: never written to
	copy(whole, pcm)
	return whole, nil
}
