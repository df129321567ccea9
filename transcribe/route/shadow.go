package route

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// shadow hears the audio of a leg only to be measured: it never makes the leg
// wait, and nothing that happens to it is told to the leg. The leg's session
// calls its methods, all of which may be called on nil; run is its own
// goroutine, which the engine waits for.
type shadow struct {
	e    *Engine
	b    *backend
	pair *pair
	opt  transcribe.Options
	meas *measure
	wake chan struct{} // holds one token when there is work; the leg sends

	mu    sync.Mutex
	queue []piece
	held  time.Duration // of audio in queue
	over  bool          // nothing more is put into queue
}

// piece is a frame, or what the leg's session was asked beside.
type piece struct {
	audio.Frame
	what ask
}

type ask uint8

const (
	hear ask = iota
	pauseNow
	finishNow
)

// follow starts the shadow of s, where its rule has one that can hear it.
func (e *Engine) follow(s *session) *shadow {
	r := s.rule
	if r.shadow == nil || s.on != r.primary || len(s.opt.Phrases) > 0 && !r.shadow.info.Phrases || !r.chosen(s.opt.Call) {
		return nil
	}
	sh := &shadow{
		e: e, b: r.shadow, pair: r.pair, opt: s.opt, meas: newMeasure(r.pair),
		wake: make(chan struct{}, 1),
	}
	r.pair.sessions.Add(1)
	e.shadows.Go(func() { sh.run(e.shadowing) })
	return sh
}

// write has the shadow hear f. Where too much waits already, all of it is
// dropped.
func (s *shadow) write(f audio.Frame) {
	if s == nil {
		return
	}
	s.meas.arrived(f.End(), time.Now())
	f.PCM = slices.Clone(f.PCM)
	s.put(piece{Frame: f})
}

func (s *shadow) pause() {
	if s != nil {
		s.put(piece{what: pauseNow})
	}
}

// finish tells the shadow that the leg is over.
func (s *shadow) finish() {
	if s == nil {
		return
	}
	s.put(piece{what: finishNow})
	s.close()
}

// compare tells what the leg's own backend heard.
func (s *shadow) compare(segments []transcribe.Segment) {
	if s == nil {
		return
	}
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if !over {
		s.meas.hear(leg, segments, time.Now())
	}
}

// end ends the shadow without its last words.
func (s *shadow) end() {
	if s != nil {
		s.close()
	}
}

func (s *shadow) close() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.signal()
}

func (s *shadow) put(p piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	long := p.End() - p.Start
	if p.what == hear && s.held > 0 && s.held+long > s.e.cfg.ShadowQueue {
		s.pair.dropped.Add(int64(s.held))
		s.queue, s.held = s.queue[:0], 0
	}
	s.queue = append(s.queue, p)
	s.held += long
	s.signal()
}

func (s *shadow) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns the next piece; ok is false when there is none, over whether
// none will come.
func (s *shadow) take() (p piece, ok, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return p, false, s.over
	}
	p = s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	s.held -= p.End() - p.Start
	return p, true, false
}

// run hears what is queued until the leg is over, the shadow fails, or ctx
// ends.
func (s *shadow) run(ctx context.Context) {
	err := s.listen(ctx)
	if err != nil && ctx.Err() == nil {
		s.pair.failures.Add(1)
		s.e.log.Debug("shadow fails", "backend", s.b.name, "err", err)
	}
	s.mu.Lock()
	s.over, s.queue = true, nil
	s.mu.Unlock()
	s.meas.end(err == nil)
}

func (s *shadow) listen(ctx context.Context) error {
	convert, err := newConverter(s.opt.RateHz, s.b.info.RateHz, s.opt.Leg)
	if err != nil {
		return err
	}
	opt := s.opt
	opt.RateHz = s.b.info.RateHz
	var child transcribe.Session
	if err := s.timed(ctx, func() (err error) { child, err = s.b.engine.Open(ctx, opt); return err }); err != nil {
		return err
	}
	defer func() { _ = child.Close() }() // it was only measured
	ears := &session{child: child, convert: convert}
	for {
		p, ok, over := s.take()
		switch {
		case ok:
			if err := s.hear(ctx, ears, p); err != nil {
				return err
			}
		case over:
			return nil
		default:
			select {
			case <-s.wake:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// hear has the shadow's backend do what the leg's was asked to.
func (s *shadow) hear(ctx context.Context, ears *session, p piece) error {
	var segments []transcribe.Segment
	err := s.timed(ctx, func() (err error) {
		switch p.what {
		case hear:
			segments, err = ears.write(ctx, p.Frame)
		case pauseNow:
			if pauser, ok := ears.child.(transcribe.Pauser); ok {
				segments, err = pauser.Pause(ctx)
			}
		case finishNow:
			if segments, err = ears.flush(ctx); err == nil {
				var last []transcribe.Segment
				last, err = ears.child.Finish(ctx)
				segments = append(segments, last...)
			}
		}
		return err
	})
	s.pair.heard.Add(int64(p.End() - p.Start))
	s.meas.hear(other, segments, time.Now())
	return err
}

// timed waits for its turn, calls fn and counts the time that it takes.
func (s *shadow) timed(ctx context.Context, fn func() error) error {
	select {
	case s.e.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	began := time.Now()
	err := fn()
	s.pair.busy.Add(int64(time.Since(began)))
	<-s.e.slots
	return err
}
