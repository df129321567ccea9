package caller

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// slotTime is how finely packets are spread: those of a packet time leave
	// in so many lots, as they would from as many telephones.
	slotTime = time.Millisecond
	slots    = int(packetTime / slotTime)
)

// paced is one stream of packets. Its methods are called by the pacer's
// goroutine only.
type paced interface {
	// packet sends packet n, counted from 0, and reports whether more follow.
	packet(n int) (more bool)
}

// pacer sends the packets of many streams at their times from one goroutine:
// a timer for each stream would cost more than its packets.
type pacer struct {
	flush func() // sends what packet has queued; called after each slot

	mu     sync.Mutex
	slot   [slots][]*pacing
	behind time.Duration // most that a slot was sent too late
}

type pacing struct {
	stream paced
	slot   int
	n      int
	done   chan struct{} // closed by the pacer after the last packet, or by stop
}

// add has the packets of streams sent, side by side, from now on.
func (p *pacer) add(streams ...paced) []*pacing {
	p.mu.Lock()
	defer p.mu.Unlock()
	least := 0
	for i, s := range p.slot {
		if len(s) < len(p.slot[least]) {
			least = i
		}
	}
	all := make([]*pacing, len(streams))
	for i, s := range streams {
		all[i] = &pacing{stream: s, slot: least, done: make(chan struct{})}
	}
	p.slot[least] = append(p.slot[least], all...)
	return all
}

// stop ends streams early: none of their packets is sent once it has returned.
func (p *pacer) stop(streams ...*pacing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range streams {
		if i := slices.Index(p.slot[s.slot], s); i >= 0 {
			p.slot[s.slot] = slices.Delete(p.slot[s.slot], i, i+1)
			close(s.done)
		}
	}
}

// lateness is the most that a packet was sent after its time.
func (p *pacer) lateness() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.behind
}

// run paces until ctx ends. Times are counted from its start, so they do not
// drift; after a delay the missed slots follow one another without a pause.
func (p *pacer) run(ctx context.Context) {
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		due := begin.Add(time.Duration(n) * slotTime)
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		} else if ctx.Err() != nil {
			return
		}
		p.turn(n%slots, due)
	}
}

func (p *pacer) turn(slot int, due time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.slot[slot]) == 0 {
		return
	}
	p.slot[slot] = slices.DeleteFunc(p.slot[slot], func(s *pacing) bool {
		more := s.stream.packet(s.n)
		s.n++
		if !more {
			close(s.done)
		}
		return !more
	})
	p.flush()
	p.behind = max(p.behind, time.Since(due))
}
