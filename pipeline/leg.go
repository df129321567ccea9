package pipeline

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// A leg that sends nothing is told the time this far behind the others, so
// that its last words become final and the judge need not wait for it.
const legSkew = time.Second

// leg is one side of a call between the reader and the judge.
type leg struct {
	leg   audio.Leg
	queue chan audio.Frame // read sends and closes
	heard chan heard       // hear sends and closes
	sent  time.Duration    // media time told to the queue; read only
	// dropped is audio of a live call that found no room, in nanoseconds.
	// read adds, hear reports.
	dropped atomic.Int64
}

// heard is what one frame brought: never without its time, so that the judge
// knows how far each leg has come.
type heard struct {
	leg      audio.Leg
	at       time.Duration // media time up to which the leg was heard
	segments []transcribe.Segment
	dropped  time.Duration // in total, so far
	deaf     error         // why the leg hears nothing from here on
}

func newLeg(l audio.Leg, frames int) *leg {
	return &leg{
		leg:   l,
		queue: make(chan audio.Frame, frames),
		heard: make(chan heard, 16), // a little slack between hearing and judging
	}
}

// read hands the call's frames to their legs and closes the queues. It returns
// io.EOF after a hang-up.
func read(ctx context.Context, call *source.Call, legs []*leg, byLeg map[audio.Leg]*leg) error {
	defer func() {
		for _, l := range legs {
			close(l.queue)
		}
	}()
	for {
		f, err := call.Audio.ReadFrame(ctx)
		if err != nil {
			return err
		}
		l := byLeg[f.Leg]
		if l == nil {
			return fmt.Errorf("frame of leg %s in a call without it", f.Leg)
		}
		if err := l.put(ctx, f, call.Live); err != nil {
			return err
		}
		for _, other := range legs {
			if mark := f.End() - legSkew; other.sent < mark-legSkew {
				if err := other.put(ctx, audio.Frame{Leg: other.leg, Start: mark, Rate: f.Rate}, call.Live); err != nil {
					return err
				}
			}
		}
	}
}

// put queues f. A recording waits for room; a live call drops its backlog
// whole, which is one gap instead of many.
func (l *leg) put(ctx context.Context, f audio.Frame, live bool) error {
	l.sent = f.End()
	if !live {
		select {
		case l.queue <- f:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		select {
		case l.queue <- f:
			return nil
		default:
		}
		l.dropBacklog()
	}
}

func (l *leg) dropBacklog() {
	for {
		select {
		case old := <-l.queue:
			l.dropped.Add(int64(old.End() - old.Start))
		default:
			return
		}
	}
}

// hear turns the leg's frames into segments until the queue closes or ctx
// ends, and always says the last words. last outlives ctx by the grace time.
func (l *leg) hear(ctx, last context.Context, listener *listen.Listener, call string) {
	defer close(l.heard)
	h := heard{leg: l.leg}
	ear, err := listener.Open(ctx, call, l.leg)
	if err != nil {
		h.deaf = err
		l.heard <- h
		for f := range l.queue { // keep the reader and the judge's clock going
			h.at = f.End()
			l.heard <- h
		}
		return
	}
	defer ear.Close()
	for f := range l.queue {
		if ctx.Err() != nil {
			continue // cut off: what is queued is not heard any more
		}
		if h.deaf == nil {
			h.segments, h.deaf = ear.Hear(ctx, f)
			if ctx.Err() != nil {
				h.deaf = nil // we were cut off, the leg was not deaf
			}
		} else {
			h.segments = nil
		}
		h.at = max(h.at, f.End())
		h.dropped = time.Duration(l.dropped.Load())
		l.heard <- h
	}
	if h.deaf == nil {
		h.segments, h.deaf = ear.Finish(last)
		h.dropped = time.Duration(l.dropped.Load())
		l.heard <- h
	}
}

// merge calls judge with everything heard on all legs, until all have closed.
// In order, it takes whichever leg is furthest behind on the media clock,
// the first of equals, and so waits for the slowest leg: the same recording
// is always judged in the same order. Otherwise it takes what comes: a live
// leg never waits for the other.
func merge(legs []*leg, inOrder bool, judge func(heard)) {
	if !inOrder {
		mergeAsHeard(legs, judge)
		return
	}
	heads := make([]*heard, len(legs))
	for {
		next := -1
		for i, l := range legs {
			if heads[i] == nil {
				h, ok := <-l.heard
				if !ok {
					continue
				}
				heads[i] = &h
			}
			if next < 0 || heads[i].at < heads[next].at {
				next = i
			}
		}
		if next < 0 {
			return
		}
		judge(*heads[next])
		heads[next] = nil
	}
}

func mergeAsHeard(legs []*leg, judge func(heard)) {
	all := make(chan heard) // the goroutines below send; closed when they have ended
	open := atomic.Int32{}
	open.Store(int32(len(legs)))
	for _, l := range legs {
		go func() { // ends with l.heard, before merge returns
			for h := range l.heard {
				all <- h
			}
			if open.Add(-1) == 0 {
				close(all)
			}
		}()
	}
	if len(legs) == 0 {
		return
	}
	for h := range all {
		judge(h)
	}
}
