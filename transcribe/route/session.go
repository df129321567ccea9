package route

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// slack is how far a frame may overlap what was heard, for the sake of senders
// that round.
const slack = time.Millisecond

// session hears one leg with one backend after another: each takes over from
// the one before where its words were final last.
type session struct {
	e    *Engine
	rule *rule
	opt  transcribe.Options

	on      *backend
	child   transcribe.Session
	convert *converter // nil where the backend takes the session's rate
	away    time.Time  // since when the child says that it is away
	ended   error      // why only Close may follow
	closed  bool

	begun bool
	heard time.Duration // end of the audio written
	ring  ring          // of rules with a fallback
	num   numbering

	shadow *shadow // nil where none hears
}

var (
	_ transcribe.Session = (*session)(nil)
	_ transcribe.Settler = (*session)(nil)
	_ transcribe.Pender  = (*session)(nil)
	_ transcribe.Trailer = (*session)(nil)
)

// open opens a session on the first backend of the rule that can.
func (e *Engine) open(ctx context.Context, r *rule, opt transcribe.Options) (*session, error) {
	s := &session{e: e, rule: r, opt: opt, ring: ring{limit: e.cfg.Ring}, num: newNumbering()}
	list := []*backend{r.primary}
	if r.fallback != nil {
		list = append(list, r.fallback)
		if !r.primary.take(time.Now()) {
			slices.Reverse(list)
		}
	}
	var errs []error
	for _, b := range list {
		err := s.openOn(ctx, b)
		if err == nil {
			if b != r.primary {
				b.takeovers.Add(1)
			}
			s.shadow = e.follow(s)
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		errs = append(errs, err)
	}
	return nil, worst(errs)
}

// worst is the error to tell where no backend opens: one after which trying
// again may help, where there is any.
func worst(errs []error) error {
	for _, err := range errs {
		if !errors.Is(err, transcribe.ErrOption) {
			return err
		}
	}
	return errs[0]
}

// openOn makes b the session's backend.
func (s *session) openOn(ctx context.Context, b *backend) error {
	convert, err := newConverter(s.opt.RateHz, b.info.RateHz, s.opt.Leg)
	if err != nil {
		return err
	}
	opt := s.opt
	opt.RateHz = b.info.RateHz
	within, cancel := s.patience(ctx, b)
	defer cancel()
	child, err := b.engine.Open(within, opt)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, transcribe.ErrOption) {
			s.e.fail(b, err)
		}
		return fmt.Errorf("opening %s: %w", b.name, err)
	}
	if b.worked() {
		s.e.log.Info("backend is back", "backend", b.name)
	}
	s.on, s.child, s.convert, s.away = b, child, convert, time.Time{}
	return nil
}

// fail notes that b failed, and says so once until it works again.
func (e *Engine) fail(b *backend, why error) {
	if b.failed(time.Now()) {
		e.log.Warn("backend is away", "backend", b.name, "err", why)
	}
}

// patience bounds what a backend over a network may take for a live leg that
// another can hear. What decodes in this process cannot be hurried.
func (s *session) patience(ctx context.Context, b *backend) (context.Context, context.CancelFunc) {
	if s.rule.fallback == nil || !s.opt.Live || b.info.Native {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.e.cfg.Patience)
}

func (s *session) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	if f.Rate != s.opt.RateHz {
		return nil, fmt.Errorf("%w: rate %d Hz, the session has %d", transcribe.ErrFrame, f.Rate, s.opt.RateHz)
	}
	if f.Start < 0 || s.begun && len(f.PCM) > 0 && f.Start < s.heard-slack {
		return nil, fmt.Errorf("%w: it starts %v before the end of the one before", transcribe.ErrFrame, s.heard-f.Start)
	}
	keeps := len(f.PCM) > 0 && s.rule.fallback != nil
	pcm := f.PCM
	if len(pcm) > 0 {
		s.shadow.write(f)
	}
	segments, err := s.do(ctx, true, func(ctx context.Context) ([]transcribe.Segment, error) {
		if keeps { // the child owns what it gets
			f.PCM = slices.Clone(pcm)
		}
		return s.write(ctx, f)
	})
	if errors.Is(err, transcribe.ErrFrame) || len(pcm) == 0 {
		return segments, err
	}
	s.begun, s.heard = true, f.Start+audio.Span(len(pcm), f.Rate)
	if keeps {
		f.PCM = pcm
		s.ring.push(f)
	}
	return segments, err
}

// write gives the child f at the rate that it wants.
func (s *session) write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if s.convert == nil || len(f.PCM) == 0 {
		if s.convert != nil {
			f.Rate = s.convert.out
		}
		return s.child.Write(ctx, f)
	}
	var all []transcribe.Segment
	for len(f.PCM) > 0 { // a second at a time: whoever cancels does not wait for hours
		piece := f
		piece.PCM = f.PCM[:min(len(f.PCM), f.Rate)]
		f.Start, f.PCM = piece.End(), f.PCM[len(piece.PCM):]
		if err := ctx.Err(); err != nil {
			return all, err
		}
		for _, g := range s.convert.process(piece) {
			segments, err := s.child.Write(ctx, g)
			all = append(all, segments...)
			if err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

// flush gives the child the last samples of its converter.
func (s *session) flush(ctx context.Context) ([]transcribe.Segment, error) {
	if s.convert == nil {
		return nil, nil
	}
	var all []transcribe.Segment
	for _, g := range s.convert.flush() {
		segments, err := s.child.Write(ctx, g)
		all = append(all, segments...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (s *session) pause(ctx context.Context) ([]transcribe.Segment, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	s.shadow.pause()
	segments, err := s.do(ctx, true, func(ctx context.Context) ([]transcribe.Segment, error) {
		p, ok := s.child.(transcribe.Pauser)
		if !ok { // a fallback that ends utterances by rules of its own
			return nil, nil
		}
		all, err := s.flush(ctx)
		if err != nil {
			return all, err
		}
		segments, err := p.Pause(ctx)
		return append(all, segments...), err
	})
	if _, ok := s.child.(transcribe.Pauser); ok && err == nil && s.away.IsZero() {
		segments = append(segments, s.num.takeBack()...)
		s.ring.settle(s.heard)
	}
	return segments, err
}

// Finish ends the audio on the backend that has the leg.
func (s *session) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	segments, err := s.do(ctx, false, func(ctx context.Context) ([]transcribe.Segment, error) {
		all, err := s.flush(ctx)
		if err != nil {
			return all, err
		}
		segments, err := s.child.Finish(ctx)
		return append(all, segments...), err
	})
	if err != nil {
		return segments, s.die(err)
	}
	segments = append(segments, s.num.takeBack()...)
	s.shadow.finish()
	s.ended = fmt.Errorf("route session: %w", transcribe.ErrClosed)
	return segments, nil
}

// do has the child do something, and whoever takes over from it.
func (s *session) do(ctx context.Context, more bool, op func(context.Context) ([]transcribe.Segment, error)) ([]transcribe.Segment, error) {
	segments, err := s.attempt(ctx, more, op)
	segments = s.note(segments)
	switch {
	case err == nil:
		s.away = time.Time{}
		return segments, nil
	case ctx.Err() != nil:
		return segments, s.die(ctx.Err())
	case errors.Is(err, transcribe.ErrFrame):
		return segments, err
	case errors.Is(err, transcribe.ErrAway) && more:
		if s.rule.fallback == nil {
			return segments, err
		}
		if s.away.IsZero() {
			s.away = time.Now()
		}
		if time.Since(s.away) < s.e.cfg.Patience {
			return segments, nil // the child has kept what it got
		}
	}
	rest, err := s.takeOver(ctx, err, more, op)
	return append(segments, rest...), s.die(err)
}

// attempt bounds op where the backend may take too long for it.
func (s *session) attempt(ctx context.Context, more bool, op func(context.Context) ([]transcribe.Segment, error)) ([]transcribe.Segment, error) {
	if !more {
		return op(ctx)
	}
	within, cancel := s.patience(ctx, s.on)
	defer cancel()
	return op(within)
}

// takeOver has another backend go on where the words were final last, after
// the one that has the leg died of why while doing op.
func (s *session) takeOver(ctx context.Context, why error, more bool, op func(context.Context) ([]transcribe.Segment, error)) ([]transcribe.Segment, error) {
	dead := s.on
	_ = s.child.Close() // it is dead; its error was the one above
	s.e.fail(dead, why)
	other := s.rule.fallback
	if other == dead {
		other = s.rule.primary
	}
	if other == nil {
		return nil, fmt.Errorf("%s: %w", dead.name, why)
	}
	died := fmt.Sprintf("%s: %v", dead.name, why)
	s.shadow.end() // it was compared with the one that died
	s.shadow = nil
	s.num.change()
	if err := s.openOn(ctx, other); err != nil {
		return nil, lost(ctx, died, err.Error())
	}
	other.takeovers.Add(1)
	s.e.log.Warn("backend takes over", "call", s.opt.Call, "leg", s.opt.Leg.String(), "backend", other.name, "audio", s.ring.held, "err", died)
	var all []transcribe.Segment
	for _, f := range slices.Clone(s.ring.frames) {
		f.PCM = slices.Clone(f.PCM)
		segments, err := s.attempt(ctx, more, func(ctx context.Context) ([]transcribe.Segment, error) { return s.write(ctx, f) })
		all = append(all, s.note(segments)...)
		if err != nil && !errors.Is(err, transcribe.ErrAway) {
			return all, s.alsoDied(ctx, died, err)
		}
	}
	segments, err := s.attempt(ctx, more, op)
	all = append(all, s.note(segments)...)
	if err != nil && !(more && errors.Is(err, transcribe.ErrAway)) {
		return all, s.alsoDied(ctx, died, err)
	}
	return all, nil
}

// alsoDied is the error of a session whose second backend died of err too.
func (s *session) alsoDied(ctx context.Context, died string, err error) error {
	if ctx.Err() == nil {
		s.e.fail(s.on, err)
	}
	return lost(ctx, died, fmt.Sprintf("%s: %v", s.on.name, err))
}

// lost is the error of a session that no backend hears. It wraps none of
// theirs: what a backend says of itself, such as that it is back soon, is not
// true of the session.
func lost(ctx context.Context, died, also string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.New(died + "; " + also)
}

// note gives segments their outer numbers and forgets the audio of those that
// are final.
func (s *session) note(segments []transcribe.Segment) []transcribe.Segment {
	segments = s.num.note(segments)
	for _, seg := range segments {
		if seg.Final {
			s.ring.settle(seg.End)
		}
	}
	if st, ok := s.child.(transcribe.Settler); ok {
		s.ring.settle(st.Settled())
	}
	s.shadow.compare(segments)
	return segments
}

// Settled is what the backend that has the leg says of it, or the end of the
// last final segment.
func (s *session) Settled() time.Duration {
	if st, ok := s.child.(transcribe.Settler); ok {
		return st.Settled()
	}
	return s.num.settled
}

// Pending reports whether the backend that has the leg has more to say of what
// it heard, or is away and may be back.
func (s *session) Pending() bool {
	if !s.away.IsZero() {
		return true
	}
	p, ok := s.child.(transcribe.Pender)
	return ok && p.Pending()
}

// Behind is what the backend that has the leg has taken and not heard.
func (s *session) Behind() time.Duration {
	if t, ok := s.child.(transcribe.Trailer); ok {
		return t.Behind()
	}
	return 0
}

// die makes err the session's end, if it is one.
func (s *session) die(err error) error {
	if err != nil && s.ended == nil {
		s.ended = fmt.Errorf("route session: %w", err)
	}
	return s.ended
}

// Close frees the session.
func (s *session) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.ended == nil || !errors.Is(s.ended, transcribe.ErrClosed) {
		s.ended = fmt.Errorf("route session: %w", transcribe.ErrClosed)
	}
	s.shadow.end()
	s.ring = ring{}
	s.e.leave()
	return s.child.Close()
}

// as is the session with what its backend can beside the contract: a listener
// looks for that once.
func (s *session) as() transcribe.Session {
	_, pauses := s.child.(transcribe.Pauser)
	_, lists := s.child.(transcribe.PhraseSession)
	switch {
	case pauses && lists:
		return &pausingList{pausing{s}}
	case pauses:
		return &pausing{s}
	case lists:
		return &list{s}
	}
	return s
}

type pausing struct{ *session }

type list struct{ *session }

type pausingList struct{ pausing }

var (
	_ transcribe.Pauser        = (*pausing)(nil)
	_ transcribe.Pauser        = (*pausingList)(nil)
	_ transcribe.PhraseSession = (*list)(nil)
	_ transcribe.PhraseSession = (*pausingList)(nil)
)

// Pause ends the utterance where the backend that has the leg can.
func (s *pausing) Pause(ctx context.Context) ([]transcribe.Segment, error) { return s.pause(ctx) }

// Unheard lists the words that the backend that has the leg does not know.
func (s *list) Unheard() []string { return s.unheard() }

// Unheard lists the words that the backend that has the leg does not know.
func (s *pausingList) Unheard() []string { return s.unheard() }

func (s *session) unheard() []string {
	if p, ok := s.child.(transcribe.PhraseSession); ok {
		return p.Unheard()
	}
	return nil
}
