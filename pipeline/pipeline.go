// Package pipeline follows one call from its first frame to its last event:
// frames are read once, heard leg by leg, and judged in the order in which
// they were heard.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
)

// Judge makes the arithmetic of one call. What the source knows of the call,
// such as the numbers and who vouches for them, may tell it where to look.
type Judge func(call *source.Call) (detectors.Detector, *risk.Meter)

// Config tunes a Pipeline.
type Config struct {
	// QueueFrames is how many frames of 20 ms, or as much in longer ones, a
	// leg may have waiting to be heard. When a live
	// call's queue is full its whole backlog is dropped and counted: late
	// ears are worse than a gap that is told.
	QueueFrames int `yaml:"queue_frames"`
	// Unmasked lets digits through into events. Off, every digit, also when
	// spoken as a word, is masked.
	Unmasked bool `yaml:"unmasked"`
	// Hypotheses also tells unfinished transcript segments, for those who
	// show words as they are spoken.
	Hypotheses bool `yaml:"hypotheses"`
	// NumberKeyFile holds a secret of at least 16 bytes: events then also have
	// from_id and to_id, which stand for the masked numbers; see NumberID.
	// Empty leaves them out.
	NumberKeyFile string `yaml:"number_key_file"`
	// Levels also tells how loud the legs of live calls are, every second, for
	// those who draw it.
	Levels bool `yaml:"-"` // whoever publishes them says so
	// Grace is how long a call that is cut off may take to say its last words.
	Grace time.Duration `yaml:"grace"`
}

// DefaultConfig returns the values that suit most machines.
func DefaultConfig() Config {
	return Config{
		QueueFrames: 250, // of 20 ms: 5 s, the longest that a warning may be late
		Grace:       5 * time.Second,
	}
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	if c.QueueFrames < 1 {
		errs = append(errs, fmt.Errorf("queue_frames: %d must be at least 1", c.QueueFrames))
	}
	if c.Grace <= 0 {
		errs = append(errs, fmt.Errorf("grace: %v must be above 0", c.Grace))
	}
	return errors.Join(errs...)
}

// Pipeline listens to calls. It holds nothing of any one call.
type Pipeline struct {
	cfg    Config
	listen *listen.Listener
	judge  Judge
	sink   sink.Sink
	log    *slog.Logger

	numberKey []byte // nil for none
}

// New returns a Pipeline whose parts the caller opened and closes.
func New(cfg Config, l *listen.Listener, j Judge, s sink.Sink, log *slog.Logger) (*Pipeline, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Pipeline{cfg: cfg, listen: l, judge: j, sink: s, log: log}
	if cfg.NumberKeyFile != "" {
		var err error
		if p.numberKey, err = ReadNumberKey(cfg.NumberKeyFile, false); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Listen hears call to its end and returns when its last event is published;
// it leaves no goroutine behind. Cancelling ctx ends the call early: what was
// heard is still judged and published within the grace time, and Listen
// returns ctx.Err(). A live call for which there is no room is said to be not
// monitored, and the error wraps [source.ErrBusy]. Any other error says what
// was not heard or not delivered. It is a [source.Handler].
func (p *Pipeline) Listen(ctx context.Context, call *source.Call) (err error) {
	last, stop := afterCancel(ctx, p.cfg.Grace)
	defer stop()

	c := newChronicle(p, call)
	ears, err := p.listen.Begin(listen.Subject{ID: call.ID, Tenant: call.Tenant, Legs: call.Legs, Live: call.Live, Mode: call.Listen, Language: call.Language})
	if err != nil {
		return c.refuse(last, err)
	}
	defer func() { err = errors.Join(err, ears.Close()) }()
	if call.Admitted != nil {
		call.Admitted()
	}
	legs := make([]*leg, len(call.Legs))
	for i, side := range call.Legs {
		legs[i] = &leg{leg: side}
	}
	c.start(last, ears)
	hear := p.recorded
	if call.Live {
		hear = p.live
	}
	readErr := hear(ctx, last, call, ears, legs, func(h heard) { c.judge(last, h) })

	err = endOf(ctx, readErr)
	c.end(last, err)
	if err != nil && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("reading call %s: %w", call.ID, err)
	}
	return errors.Join(err, c.err)
}

// Skip tells of a call that is not to be heard, for a reason that events may
// say: it has begun, is not monitored, and is over as far as we know. An error
// says that events were not delivered. The source hears of it by a nil error
// of its handler, without having been called Admitted.
func (p *Pipeline) Skip(ctx context.Context, call *source.Call, reason string) error {
	return newChronicle(p, call).skip(ctx, reason)
}

// endOf is why the audio ended: nil after a hang-up.
func endOf(ctx context.Context, readErr error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(readErr, io.EOF) {
		return nil
	}
	return readErr
}

// afterCancel returns a context that ends grace after ctx does.
func afterCancel(ctx context.Context, grace time.Duration) (context.Context, func()) {
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-last.Done():
		}
	})
	return last, func() { stop(); cancel() }
}
