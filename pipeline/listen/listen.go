// Package listen is the listening plan of a leg: what is done with its frames
// before and while a recogniser hears them.
package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Full transcribes everything with the open vocabulary.
const Full = "full"

// Config tunes listening.
type Config struct {
	Mode     string // Full
	Language string // BCP 47; empty means the model's own
}

// DefaultConfig transcribes everything in the model's language.
func DefaultConfig() Config { return Config{Mode: Full} }

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	if c.Mode != Full {
		return fmt.Errorf("listen.mode: %q must be %q", c.Mode, Full)
	}
	return nil
}

// Listener opens the ears of all legs of all calls on one engine.
type Listener struct {
	engine transcribe.Engine
	cfg    Config
	log    *slog.Logger
	// slots holds one token per native decode that may run; nil lets all run.
	// Everyone sends before decoding and receives after.
	slots chan struct{}
}

// New returns a Listener on an engine that the caller opened and closes.
func New(engine transcribe.Engine, cfg Config, log *slog.Logger) (*Listener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Listener{engine: engine, cfg: cfg, log: log}
	if engine.Info().Native {
		l.slots = make(chan struct{}, runtime.GOMAXPROCS(0))
	}
	return l, nil
}

// Info is the engine's.
func (l *Listener) Info() transcribe.Info { return l.engine.Info() }

// Mode is the way of listening.
func (l *Listener) Mode() string { return l.cfg.Mode }

// decode runs fn when a core is free for it.
func (l *Listener) decode(ctx context.Context, fn func() ([]transcribe.Segment, error)) ([]transcribe.Segment, error) {
	if l.slots != nil {
		select {
		case l.slots <- struct{}{}:
			defer func() { <-l.slots }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return fn()
}

// Open starts hearing one leg.
func (l *Listener) Open(ctx context.Context, call string, leg audio.Leg) (*Leg, error) {
	g := &Leg{l: l, call: call, leg: leg}
	front, err := audio.NewFrontEnd(audio.FrontEndConfig{RateHz: l.engine.Info().RateHz})
	if err != nil {
		return nil, fmt.Errorf("opening front end: %w", err)
	}
	g.front = front
	if err := g.open(ctx); err != nil {
		return nil, err
	}
	return g, nil
}

// maxPad is how much silence is heard after a leg falls quiet without sending
// any: enough for every endpoint rule, then the recogniser is left alone.
const maxPad = 2 * time.Second

// Leg hears one leg. It is used by one goroutine.
type Leg struct {
	l     *Listener
	call  string
	leg   audio.Leg
	front *audio.FrontEnd
	sess  transcribe.Session

	end    time.Duration // media time heard so far
	rate   int           // of the last frame
	padded time.Duration // silence made up since the last frame

	reopened bool
	base     int                 // added to utterance numbers, so that a new session goes on counting
	next     int                 // utterance number that has not been used yet
	last     *transcribe.Segment // unfinished hypothesis
}

func (g *Leg) open(ctx context.Context) error {
	sess, err := g.l.engine.Open(ctx, transcribe.Options{
		Call: g.call, Leg: g.leg, Language: g.l.cfg.Language, RateHz: g.l.engine.Info().RateHz,
	})
	if err != nil {
		return fmt.Errorf("opening recogniser: %w", err)
	}
	g.sess = sess
	return nil
}

// Hear takes the leg's next frame; one without samples says that nothing came
// until its Start. A session that fails is reopened once; its unfinished words
// are then final as they stand. The second failure is the caller's: the leg
// is deaf.
func (g *Leg) Hear(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if len(f.PCM) == 0 {
		return g.pass(ctx, f.Start)
	}
	g.end, g.rate, g.padded = f.End(), f.Rate, 0
	return g.write(ctx, f)
}

// pass hears made-up silence until the media time to, as far as it is of use.
func (g *Leg) pass(ctx context.Context, to time.Duration) ([]transcribe.Segment, error) {
	pad := min(to-g.end, maxPad-g.padded)
	if pad <= 0 || g.rate == 0 {
		return nil, nil
	}
	silence := audio.Frame{Leg: g.leg, Start: g.end, Rate: g.rate, PCM: make([]int16, int(pad*time.Duration(g.rate)/time.Second))}
	g.end += pad
	g.padded += pad
	return g.write(ctx, silence)
}

// write prepares f and has it recognised.
func (g *Leg) write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	frames, err := g.front.Process(f)
	if err != nil {
		return nil, fmt.Errorf("preparing audio: %w", err)
	}
	var all []transcribe.Segment
	for _, wide := range frames {
		segs, err := g.l.decode(ctx, func() ([]transcribe.Segment, error) { return g.sess.Write(ctx, wide) })
		all = append(all, g.note(segs)...)
		switch {
		case err == nil:
		case ctx.Err() != nil, errors.Is(err, transcribe.ErrFrame):
			return all, err
		default:
			all = append(all, g.settle()...)
			return all, g.reopen(ctx, err)
		}
	}
	return all, nil
}

// reopen replaces a session that died of why, once; the frame that it died of
// is not heard again, in case that was the reason.
func (g *Leg) reopen(ctx context.Context, why error) error {
	if g.reopened {
		return fmt.Errorf("recogniser failed again: %w", why)
	}
	g.reopened, g.base = true, g.next
	g.l.log.Warn("reopening recogniser", "call", g.call, "leg", g.leg.String(), "err", why)
	_ = g.sess.Close() // it is dead; its error was the one above
	return g.open(ctx)
}

// note remembers the unfinished hypothesis and numbers utterances on over
// reopened sessions.
func (g *Leg) note(segs []transcribe.Segment) []transcribe.Segment {
	for i := range segs {
		segs[i].Utterance += g.base
		g.next = max(g.next, segs[i].Utterance+1)
		g.last = nil
		if !segs[i].Final {
			last := segs[i]
			g.last = &last
		}
	}
	return segs
}

// settle makes the unfinished hypothesis of a dead session final: what was
// heard stays.
func (g *Leg) settle() []transcribe.Segment {
	if g.last == nil {
		return nil
	}
	seg := *g.last
	seg.Final = true
	g.last = nil
	return []transcribe.Segment{seg}
}

// Finish hears the rest and returns the last words.
func (g *Leg) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	var segs []transcribe.Segment
	for _, wide := range g.front.Flush() {
		more, err := g.l.decode(ctx, func() ([]transcribe.Segment, error) { return g.sess.Write(ctx, wide) })
		segs = append(segs, g.note(more)...)
		if err != nil {
			return append(segs, g.settle()...), err
		}
	}
	more, err := g.l.decode(ctx, func() ([]transcribe.Segment, error) { return g.sess.Finish(ctx) })
	segs = append(segs, g.note(more)...)
	if err != nil {
		segs = append(segs, g.settle()...)
	}
	return segs, err
}

// Close frees the session.
func (g *Leg) Close() error {
	if g.sess == nil {
		return nil
	}
	return g.sess.Close()
}
