package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// A leg that sends nothing is told the time this far behind the others, so
	// that its last words become final and the judge need not wait for it.
	legSkew = time.Second

	// A live leg that has heard nothing of what came in for so long is deaf
	// until it does: the recogniser stalls, or the machine is full.
	stalledAfter = 3 * time.Second
	// Legs are looked at this often for it.
	watchEvery = time.Second
)

var errStalled = errors.New("the recogniser does not answer")

// leg is one side of a call between the reader and the judge.
type leg struct {
	leg   audio.Leg
	sent  time.Duration // media time told to the leg; the reader's
	queue chan arrival  // of a live call; read sends and closes
	// dropped is audio of a live call that found no room, in nanoseconds.
	// read adds, hear reports.
	dropped atomic.Int64
	// hearing is when the frame came in that a live leg hears right now, in
	// nanoseconds since 1970; 0 for none. hear writes, the watch reads.
	hearing atomic.Int64
}

// arrival is a frame and, in a live call, when it came in.
type arrival struct {
	audio.Frame
	at time.Time
}

// heard is what one frame brought: never without its time, so that the judge
// knows how far each leg has come.
type heard struct {
	leg      audio.Leg
	at       time.Duration // media time up to which the leg was heard
	segments []transcribe.Segment
	dropped  time.Duration // in total, so far
	lag      time.Duration // from arrival until now; of live calls
	deaf     error         // why the leg hears nothing at the moment
	channel  audio.Channel // what is known of it
	// Words of the open vocabulary that come beside what is screened say
	// nothing of the leg; its error is partly.
	aside  bool
	partly error
}

// spread gives f to its leg, and the time to those that are far behind it.
func spread(f audio.Frame, legs []*leg, give func(*leg, audio.Frame)) error {
	i := slices.IndexFunc(legs, func(l *leg) bool { return l.leg == f.Leg })
	if i < 0 {
		return fmt.Errorf("frame of leg %s in a call without it", f.Leg)
	}
	legs[i].sent = f.End()
	give(legs[i], f)
	for _, other := range legs {
		if mark := f.End() - legSkew; other.sent < mark-legSkew {
			other.sent = mark
			give(other, audio.Frame{Leg: other.leg, Start: mark, Rate: f.Rate})
		}
	}
	return nil
}

// read queues a live call's frames and closes the queues. It returns io.EOF
// after a hang-up.
func read(ctx context.Context, call *source.Call, legs []*leg) error {
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
		if err := spread(f, legs, (*leg).put); err != nil {
			return err
		}
	}
}

// put queues f. When there is no room the backlog is dropped whole, which is
// one gap instead of many.
func (l *leg) put(f audio.Frame) {
	a := arrival{f, time.Now()}
	for {
		select {
		case l.queue <- a:
			return
		default:
		}
		a.Keys = l.dropBacklog() + a.Keys
	}
}

// dropBacklog empties the queue and returns the keys in it, which need no
// recogniser.
func (l *leg) dropBacklog() (keys string) {
	for {
		select {
		case old := <-l.queue:
			l.dropped.Add(int64(old.End() - old.Start))
			keys += old.Keys
		default:
			return keys
		}
	}
}

// hear sends what the leg's frames bring until the queue closes or ctx ends,
// and always the last words. last outlives ctx by the grace time.
func (l *leg) hear(ctx, last context.Context, ears *listen.Call, all chan<- heard) {
	for a := range l.queue {
		if ctx.Err() != nil {
			continue // cut off: what is queued is not heard any more
		}
		all <- l.hearOne(ctx, ears, a)
	}
	all <- l.finish(last, ears)
}

func (l *leg) hearOne(ctx context.Context, ears *listen.Call, a arrival) heard {
	if !a.at.IsZero() {
		l.hearing.Store(a.at.UnixNano())
		defer l.hearing.Store(0)
	}
	h := heard{leg: l.leg, at: a.End()}
	h.segments, h.deaf = ears.Hear(ctx, a.Frame, a.at)
	h.channel = ears.Channel(l.leg)
	if ctx.Err() != nil {
		h.deaf = nil // we were cut off, the leg was not deaf
	}
	if !a.at.IsZero() {
		h.lag = time.Since(a.at)
	}
	h.dropped = time.Duration(l.dropped.Load())
	return h
}

func (l *leg) finish(last context.Context, ears *listen.Call) heard {
	h := heard{leg: l.leg, dropped: time.Duration(l.dropped.Load())}
	h.segments, h.deaf = ears.Finish(last, l.leg)
	return h
}

// catchUp sends what a step of transcribing brings, until there is none.
func catchUp(ctx context.Context, ears *listen.Call, send func(heard)) {
	for {
		segs, more, err := ears.Transcribe(ctx)
		if !more {
			return
		}
		if len(segs) > 0 || err != nil {
			send(heard{aside: true, segments: segs, partly: err})
		}
	}
}

// live hears a call as it comes: each leg by itself, so that none waits for
// another, and what is transcribed beside them. It returns why the audio
// ended.
func (p *Pipeline) live(ctx, last context.Context, call *source.Call, ears *listen.Call, legs []*leg, judge func(heard)) error {
	for _, l := range legs {
		l.queue = make(chan arrival, p.cfg.QueueFrames)
	}
	var (
		readErr error // written by the reader, read at the end
		hearing sync.WaitGroup
		rest    sync.WaitGroup
		all     = make(chan heard)    // legs and transcriber send; closed when they have ended
		over    = make(chan struct{}) // closed when all legs have finished
	)
	rest.Go(func() { readErr = read(ctx, call, legs) })
	for _, l := range legs {
		hearing.Go(func() { l.hear(ctx, last, ears, all) })
	}
	rest.Go(func() {
		send := func(h heard) { all <- h }
		for ended := false; !ended; {
			select {
			case <-ears.Work():
			case <-over:
				ended = true
			}
			catchUp(last, ears, send)
		}
		segs, err := ears.Last(last)
		send(heard{aside: true, segments: segs, partly: err})
		close(all)
	})
	rest.Go(func() {
		hearing.Wait()
		ears.End()
		close(over)
	})
	p.watch(all, legs, judge)
	rest.Wait()
	return readErr
}

// watch judges all that is heard, and says of legs that hear nothing that they
// are deaf.
func (p *Pipeline) watch(all <-chan heard, legs []*leg, judge func(heard)) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case h, ok := <-all:
			if !ok {
				return
			}
			judge(h)
		case now := <-tick.C:
			for _, l := range legs {
				if since := l.hearing.Load(); since != 0 && now.UnixNano()-since > int64(stalledAfter) {
					judge(heard{
						leg: l.leg, deaf: errStalled, lag: time.Duration(now.UnixNano() - since),
						dropped: time.Duration(l.dropped.Load()),
					})
				}
			}
		}
	}
}

// Recordings are heard in rounds of so much audio. Fully, the legs need not
// know of each other and a long round keeps both busy; else what is heard
// decides how the next round is.
const (
	fullRound   = time.Second
	screenRound = 100 * time.Millisecond
)

// recorded hears a recording round by round: its legs side by side, then what
// is to be transcribed, each judged in the order of the media clock. The same
// recording is always judged in the same order. It returns why the audio
// ended.
func (p *Pipeline) recorded(ctx, last context.Context, call *source.Call, ears *listen.Call, legs []*leg, judge func(heard)) error {
	round := screenRound
	if ears.Mode() == listen.Full {
		round = fullRound
	}
	frames := make([][]audio.Frame, len(legs))
	add := func(l *leg, f audio.Frame) {
		i := slices.Index(legs, l)
		frames[i] = append(frames[i], f)
	}
	var end time.Duration // of the round
	for {
		f, err := call.Audio.ReadFrame(ctx)
		if err == nil {
			err = spread(f, legs, add)
		}
		if err == nil && f.End() < end {
			continue
		}
		hearRound(ctx, ears, legs, frames, judge)
		catchUp(ctx, ears, judge)
		if err != nil {
			hearLast(last, ears, legs, judge)
			return err
		}
		end = f.End() + round
	}
}

// hearRound has the legs hear their frames side by side and empties frames.
func hearRound(ctx context.Context, ears *listen.Call, legs []*leg, frames [][]audio.Frame, judge func(heard)) {
	all := make([][]heard, len(legs))
	var group sync.WaitGroup
	for i, l := range legs {
		group.Go(func() {
			for _, f := range frames[i] {
				if ctx.Err() != nil {
					return
				}
				all[i] = append(all[i], l.hearOne(ctx, ears, arrival{Frame: f}))
			}
		})
	}
	group.Wait()
	var merged []heard
	for i := range legs {
		merged = append(merged, all[i]...)
		frames[i] = frames[i][:0]
	}
	slices.SortStableFunc(merged, func(a, b heard) int { return cmp.Compare(a.at, b.at) })
	for _, h := range merged {
		judge(h)
	}
}

func hearLast(last context.Context, ears *listen.Call, legs []*leg, judge func(heard)) {
	for _, l := range legs {
		judge(l.finish(last, ears))
	}
	ears.End()
	catchUp(last, ears, judge)
	segs, err := ears.Last(last)
	judge(heard{aside: true, segments: segs, partly: err})
}
