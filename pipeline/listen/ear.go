package listen

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// A session that fails a second time within this makes its leg deaf.
	failsAgain = time.Minute
	// A deaf leg tries to hear again this often, on the media clock.
	retryEvery = 2 * time.Second
	// padding is the silence that ends the utterance of a session that knows
	// no other way.
	padding = time.Second
	// stands is how long a hypothesis must stay as it is to be said again: a
	// recogniser that has looked at more audio and changed nothing means its last
	// word, too. 200 ms take as little back and say it 70 ms later.
	stands = 100 * time.Millisecond
)

// ear is one way of listening to one leg: a session, the next one if it dies,
// and the numbers of what was heard. It is used by one goroutine at a time.
type ear struct {
	l     *Listener
	opt   transcribe.Options
	heard transcribe.Heard
	// utterances counts those of the leg over all its ears.
	utterances *atomic.Int32
	// from is the first chunk of the ring that came after the ear was opened:
	// those before it are caught up on.
	from int

	sess transcribe.Session // nil before the first frame and while deaf
	end  time.Duration      // media time that the session has heard

	deaf     error         // why nothing is heard
	retry    time.Duration // when to try again
	failed   bool          // a session has failed
	failedAt time.Duration

	current int                 // the session's utterance that is open, -1 for none
	number  int                 // and what it is called outside
	last    *transcribe.Segment // unfinished hypothesis that was passed on
	lastAt  time.Duration       // media time that was heard then
	stood   bool                // it was said again
}

func (l *Listener) newEar(opt transcribe.Options, heard transcribe.Heard, utterances *atomic.Int32) *ear {
	opt.RateHz = l.engine.Info().RateHz
	return &ear{l: l, opt: opt, heard: heard, utterances: utterances, current: -1}
}

// hear has f recognised. A session that fails is replaced once; its unfinished
// words are then final as they stand, and the frame that it died of is not
// heard again, in case that was the reason. After the second failure the error
// says so with every frame, until a new session hears one.
func (e *ear) hear(ctx context.Context, j job, f audio.Frame) ([]transcribe.Segment, error) {
	if e.sess == nil {
		if e.deaf != nil && f.Start < e.retry {
			return nil, e.deaf
		}
		if err := e.open(ctx, j); err != nil {
			return nil, e.lose(ctx, err, f.End())
		}
	}
	var segs []transcribe.Segment
	var err error
	if waited := e.l.sched.run(ctx, j, func() { segs, err = e.sess.Write(ctx, f) }); waited != nil {
		return nil, waited
	}
	e.end = f.End()
	segs = e.note(segs)
	switch {
	case err == nil:
		e.hearsAgain()
		return e.standing(segs, f), nil
	case ctx.Err() != nil, errors.Is(err, transcribe.ErrFrame):
		return segs, err
	case errors.Is(err, transcribe.ErrAway):
		return segs, e.miss(err)
	}
	segs = append(segs, e.settle()...)
	return segs, e.replace(ctx, j, err, f.End())
}

// standing adds the hypothesis that has not changed for a while, once.
func (e *ear) standing(segs []transcribe.Segment, f audio.Frame) []transcribe.Segment {
	if len(segs) > 0 {
		e.lastAt, e.stood = f.End(), false
		return segs
	}
	if e.last == nil || e.stood || len(f.PCM) == 0 || f.End()-e.lastAt < stands {
		return segs
	}
	e.stood = true
	again := *e.last
	again.Stands = true
	return append(segs, again)
}

// miss makes the ear deaf until its session is back, which hears then what it
// has missed.
func (e *ear) miss(why error) error {
	if e.deaf == nil {
		e.l.log.Info("deaf for now", "call", e.opt.Call, "leg", e.opt.Leg.String(), "err", why)
	}
	e.deaf = why
	return why
}

// look asks a session that is away whether it is back, and one that answers in
// its own time for what it says, where no audio would ask it.
func (e *ear) look(ctx context.Context, j job) ([]transcribe.Segment, error) {
	if e.sess == nil {
		return nil, e.deaf
	}
	if !e.owes() {
		return nil, e.deaf
	}
	return e.hear(ctx, j, audio.Frame{Leg: e.opt.Leg, Start: e.end, Rate: e.opt.RateHz})
}

// begin opens a session where there is none, at the media time at, so that a
// leg that cannot be heard says so before somebody speaks on it.
func (e *ear) begin(ctx context.Context, j job, at time.Duration) error {
	if e.sess != nil {
		return nil
	}
	if e.deaf != nil && at < e.retry {
		return e.deaf
	}
	if e.deaf == nil && !e.opt.Live {
		if err := e.open(ctx, j); err != nil {
			return e.lose(ctx, err, at)
		}
		return nil
	}
	// Whether a live recogniser is away a Write tells. The gate may yet let
	// through what was before at.
	f := audio.Frame{Leg: e.opt.Leg, Start: max(0, at-time.Second), Rate: e.opt.RateHz}
	if e.deaf != nil { // only one that has heard something hears again
		f.PCM = make([]int16, e.opt.RateHz/50)
	}
	e.retry = 0
	_, err := e.hear(ctx, j, f)
	return err
}

// pauses reports whether speech is all that its session need hear, since it can
// be told where an utterance ends.
func (e *ear) pauses() bool {
	_, ok := e.sess.(transcribe.Pauser)
	return ok
}

// owes reports whether a Write without audio may bring something.
func (e *ear) owes() bool {
	p, ok := e.sess.(transcribe.Pender)
	return ok && p.Pending() || e.sess != nil && errors.Is(e.deaf, transcribe.ErrAway)
}

// behind is how much audio its session has taken and not heard.
func (e *ear) behind() time.Duration {
	if t, ok := e.sess.(transcribe.Trailer); ok {
		return t.Behind()
	}
	return 0
}

// hearsAgain ends deafness.
func (e *ear) hearsAgain() {
	if e.deaf != nil {
		e.l.log.Info("hearing again", "call", e.opt.Call, "leg", e.opt.Leg.String())
		e.deaf, e.failed = nil, false
	}
}

func (e *ear) open(ctx context.Context, j job) error {
	var err error
	waited := e.l.sched.run(ctx, j, func() { e.sess, err = e.l.engine.Open(ctx, e.opt) })
	if waited != nil {
		return waited
	}
	if err != nil {
		e.sess = nil
		return fmt.Errorf("opening recogniser: %w", err)
	}
	e.current, e.end = -1, 0
	return nil
}

// replace exchanges a session that died of why.
func (e *ear) replace(ctx context.Context, j job, why error, at time.Duration) error {
	_ = e.Close() // it is dead; its error was the one above
	if e.failed && at-e.failedAt < failsAgain {
		return e.lose(ctx, fmt.Errorf("recogniser failed again: %w", why), at)
	}
	e.failed, e.failedAt = true, at
	e.l.log.Warn("reopening recogniser", "call", e.opt.Call, "leg", e.opt.Leg.String(), "err", why)
	if err := e.open(ctx, j); err != nil {
		return e.lose(ctx, err, at)
	}
	return nil
}

// lose makes the ear deaf for a while.
func (e *ear) lose(ctx context.Context, why error, at time.Duration) error {
	if ctx.Err() == nil {
		e.deaf, e.retry = why, at+retryEvery
	}
	return why
}

// take hears a chunk or a mark of the ring.
func (e *ear) take(ctx context.Context, j job, c chunk) ([]transcribe.Segment, error) {
	if c.mark == speech {
		return e.hear(ctx, j, c.Frame)
	}
	if e.sess == nil {
		return nil, e.deaf
	}
	p, ok := e.sess.(transcribe.Pauser)
	switch {
	case ok && c.mark == quiet:
		return e.decode(ctx, j, c.Start, p.Pause)
	case !ok && c.mark == silent:
		return e.hear(ctx, j, audio.Frame{
			Leg: e.opt.Leg, Start: e.end, Rate: e.opt.RateHz, PCM: make([]int16, int(padding/time.Second)*e.opt.RateHz),
		})
	}
	return nil, nil
}

// decode calls a method of the session that takes no audio.
func (e *ear) decode(ctx context.Context, j job, at time.Duration, method func(context.Context) ([]transcribe.Segment, error)) ([]transcribe.Segment, error) {
	var segs []transcribe.Segment
	var err error
	if waited := e.l.sched.run(ctx, j, func() { segs, err = method(ctx) }); waited != nil {
		return nil, waited
	}
	segs = e.note(segs)
	switch {
	case err == nil, ctx.Err() != nil:
		return segs, err
	case errors.Is(err, transcribe.ErrAway):
		return segs, e.miss(err)
	}
	segs = append(segs, e.settle()...)
	return segs, e.replace(ctx, j, err, at)
}

// note gives segments their outer numbers. Of what is heard against a closed
// list it passes on what is in the list, and what takes that back.
func (e *ear) note(segs []transcribe.Segment) []transcribe.Segment {
	out := segs[:0]
	for _, s := range segs {
		if s.Utterance != e.current {
			if e.heard != transcribe.Openly && !inList(s) {
				continue
			}
			e.current, e.number = s.Utterance, int(e.utterances.Add(1))-1
		}
		s.Utterance, s.Heard = e.number, e.heard
		if e.heard != transcribe.Openly && !inList(s) {
			s.Text, s.Words = "", nil
		}
		e.last = nil
		if s.Final {
			e.current = -1
		} else {
			last := s
			e.last = &last
		}
		out = append(out, s)
	}
	return out
}

// unlisted stands for speech that is in no phrase of a list; see
// [transcribe.Segment].
const unlisted = "…"

func inList(s transcribe.Segment) bool {
	for w := range strings.FieldsSeq(s.Text) {
		if w != unlisted {
			return true
		}
	}
	return false
}

// settle makes the unfinished hypothesis of a dead session final: what was
// heard stays.
func (e *ear) settle() []transcribe.Segment {
	if e.last == nil {
		return nil
	}
	seg := *e.last
	seg.Final = true
	e.last, e.current = nil, -1
	return []transcribe.Segment{seg}
}

// finish returns the last words and frees the session; the ear may hear on
// with a new one.
func (e *ear) finish(ctx context.Context, j job) ([]transcribe.Segment, error) {
	if e.sess == nil {
		return nil, e.deaf
	}
	var segs []transcribe.Segment
	var err error
	if waited := e.l.sched.run(ctx, j, func() { segs, err = e.sess.Finish(ctx) }); waited != nil {
		err = waited
	}
	segs = e.note(segs)
	if err != nil {
		segs = append(segs, e.settle()...)
	}
	return segs, errors.Join(err, e.Close())
}

// Close frees the session.
func (e *ear) Close() error {
	if e.sess == nil {
		return nil
	}
	err := e.sess.Close()
	e.sess = nil
	return err
}
