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
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
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
	// A leg of which nothing came for so long is said to be silent: whoever is
	// on it is not heard, and nobody else would notice.
	silentAfter = 5 * time.Second
	// Legs are looked at this often for both.
	watchEvery = time.Second
)

var errStalled = errors.New("the recogniser does not answer")

// leg is one side of a call between the reader and the judge.
type leg struct {
	leg   audio.Leg
	sent  time.Duration // media time told to the leg; the reader's
	queue *queue        // of a live call
	// hearing is when the frame came in that a live leg hears right now, in
	// nanoseconds since 1970; 0 for none. hear writes, the watch reads.
	hearing atomic.Int64

	// What follows belongs to who hears, one goroutine after the other.
	at   time.Duration // media time up to which the leg was heard
	came time.Duration // end of the last audio that was not made up
	lost time.Duration // made up, so far
	told heard         // what the judge knows
}

// arrival is a frame and, in a live call, when it came in.
type arrival struct {
	audio.Frame
	at int64 // nanoseconds since 1970; 0 in a recording
}

func (a arrival) time() time.Time {
	if a.at == 0 {
		return time.Time{}
	}
	return time.Unix(0, a.at)
}

// heard is what one frame brought: never without its time, so that the judge
// knows how far each leg has come.
type heard struct {
	leg      audio.Leg
	at       time.Duration // media time up to which the leg was heard
	segments []transcribe.Segment
	dropped  time.Duration // in total, so far
	lost     time.Duration // in total, so far
	lag      time.Duration // from arrival until now; of live calls
	deaf     error         // why the leg hears nothing at the moment
	channel  audio.Channel // what is known of it
	came     time.Duration // end of the last audio that came
	// Words of the open vocabulary that come beside what is screened say
	// nothing of the leg; its error is partly.
	aside  bool
	partly error
	// Nothing at all comes any more, not even the time: the rest says nothing.
	still bool
	// How loud the legs were; the rest says nothing then.
	loud *callwardenv1.CallLevels
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

// read queues a live call's frames, and has start hear what waits for a leg
// where nobody does. It returns io.EOF after a hang-up.
func read(ctx context.Context, from audio.Reader, legs []*leg, start func(*leg)) error {
	give := func(l *leg, f audio.Frame) {
		if l.queue.put(f, time.Now()) {
			start(l)
		}
	}
	for {
		f, err := from.ReadFrame(ctx)
		if err != nil {
			return err
		}
		if err := spread(f, legs, give); err != nil {
			return err
		}
	}
}

// hear hears what waits for the leg until nothing does; once ctx has ended
// that is thrown away.
func (l *leg) hear(ctx context.Context, ears *listen.Call, judge func(heard)) {
	for {
		a, ok := l.queue.take()
		if !ok {
			return
		}
		if ctx.Err() != nil {
			continue // cut off: what is queued is not heard any more
		}
		if h := l.hearOne(ctx, ears, a); l.isNews(h) {
			l.told = h
			judge(h)
		}
	}
}

// newsEvery is how far a live leg comes, at least, before the judge hears of it
// without anything else to say: going there with every frame would cost more
// than the frame.
const newsEvery = 500 * time.Millisecond

// isNews reports whether the judge has to know of h now.
func (l *leg) isNews(h heard) bool {
	t := &l.told
	return len(h.segments) > 0 || h.at-t.at >= newsEvery || h.dropped != t.dropped || (h.deaf == nil) != (t.deaf == nil)
}

func (l *leg) hearOne(ctx context.Context, ears *listen.Call, a arrival) heard {
	if a.at != 0 {
		l.hearing.Store(a.at)
		defer l.hearing.Store(0)
	}
	arrived := a.time()
	l.at = max(l.at, a.End())
	l.lost += a.Lost
	if len(a.PCM) > 0 && a.Lost < a.End()-a.Start {
		l.came = a.End()
	}
	h := heard{leg: l.leg, at: l.at, lost: l.lost, came: l.came}
	h.segments, h.deaf = ears.Hear(ctx, a.Frame, arrived)
	h.channel = ears.Channel(l.leg)
	if ctx.Err() != nil {
		h.deaf = nil // we were cut off, the leg was not deaf
	}
	if a.at != 0 {
		h.lag = time.Since(arrived) + ears.Behind(l.leg)
		h.dropped = l.queue.droppedSoFar()
	}
	return h
}

func (l *leg) finish(last context.Context, ears *listen.Call) heard {
	h := heard{leg: l.leg, at: l.at, lost: l.lost, came: l.came}
	if l.queue != nil {
		h.dropped = l.queue.droppedSoFar()
	}
	h.segments, h.deaf = ears.Finish(last, l.leg)
	return h
}

// catchUp sends what a step of transcribing brings, until there is none.
func (b *beside) catchUp(ctx context.Context, ears *listen.Call, send func(heard)) {
	for {
		b.since.Store(time.Now().UnixNano())
		segs, more, err := ears.Transcribe(ctx)
		b.since.Store(0)
		if !more {
			return
		}
		if failed := b.failed.Swap(err != nil); len(segs) > 0 || err != nil || failed {
			send(heard{aside: true, segments: segs, partly: err})
		}
	}
}

// beside is what is transcribed of a call beside its screening.
type beside struct {
	// since is when the step began that is done right now, in nanoseconds since
	// 1970; 0 for none. Who transcribes writes, the watch reads.
	since atomic.Int64
	// failed is whether the judge knows of a step that failed or does not end.
	failed atomic.Bool
}

// live hears a call as it comes: each leg by itself, so that none waits for
// another, and what is transcribed beside them. It returns why the audio
// ended.
func (p *Pipeline) live(ctx, last context.Context, call *source.Call, ears *listen.Call, legs []*leg, judgeOne func(heard)) error {
	for _, l := range legs {
		l.queue = newQueue(p.cfg.QueueFrames)
	}
	var (
		judging sync.Mutex
		hearing sync.WaitGroup
		rest    sync.WaitGroup
		over    = make(chan struct{}) // closed when all legs have finished
		open    beside
	)
	judge := func(h heard) {
		judging.Lock()
		defer judging.Unlock()
		judgeOne(h)
	}
	if ears.Mode() == listen.Screening {
		rest.Go(func() {
			for ended := false; !ended; {
				select {
				case <-ears.Work():
				case <-over:
					ended = true
				}
				open.catchUp(last, ears, judge)
			}
			segs, err := ears.Last(last)
			judge(heard{aside: true, segments: segs, partly: err})
		})
	}
	stop := watch(legs, &open, judge)
	from := call.Audio
	if p.cfg.Levels {
		from = newLoudness(from, call.Legs, func(ev *callwardenv1.CallLevels) { judge(heard{loud: ev}) })
	}
	err := read(ctx, from, legs, func(l *leg) {
		hearing.Go(func() { l.hear(ctx, ears, judge) })
	})
	hearing.Wait()
	for _, l := range legs {
		hearing.Go(func() { judge(l.finish(last, ears)) })
	}
	hearing.Wait()
	ears.End()
	close(over)
	rest.Wait()
	stop()
	return err
}

// watch says of legs that hear nothing that they are deaf, of legs to which
// nothing comes that they are still, and of a call whose transcribing does not
// go on that it is only screened, until stop is called.
func watch(legs []*leg, open *beside, judge func(heard)) (stop func()) {
	var (
		mu   sync.Mutex // held while it looks
		over bool
		tick *time.Timer
	)
	began := time.Now()
	mu.Lock()
	defer mu.Unlock()
	// A timer and no goroutine: a call has enough of them.
	tick = time.AfterFunc(watchEvery, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		now := time.Now()
		for _, l := range legs {
			since := l.hearing.Load()
			switch {
			case since != 0 && now.UnixNano()-since > int64(stalledAfter):
				judge(heard{
					leg: l.leg, deaf: errStalled, lag: time.Duration(now.UnixNano() - since),
					dropped: l.queue.droppedSoFar(),
				})
			case since == 0 && now.Sub(l.queue.stirred(began)) >= silentAfter:
				judge(heard{leg: l.leg, still: true})
			}
		}
		if since := open.since.Load(); since != 0 && now.UnixNano()-since > int64(stalledAfter) && !open.failed.Swap(true) {
			judge(heard{aside: true, partly: errStalled})
		}
		tick.Reset(watchEvery)
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		tick.Stop()
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
	var open beside
	for {
		f, err := call.Audio.ReadFrame(ctx)
		if err == nil {
			err = spread(f, legs, add)
		}
		if err == nil && f.End() < end {
			continue
		}
		hearRound(ctx, ears, legs, frames, judge)
		open.catchUp(ctx, ears, judge)
		if err != nil {
			hearLast(last, ears, legs, &open, judge)
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

func hearLast(last context.Context, ears *listen.Call, legs []*leg, open *beside, judge func(heard)) {
	for _, l := range legs {
		judge(l.finish(last, ears))
	}
	ears.End()
	open.catchUp(last, ears, judge)
	segs, err := ears.Last(last)
	judge(heard{aside: true, segments: segs, partly: err})
}
