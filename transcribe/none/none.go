// Package none is a recogniser that hears nothing: everything around it works
// and costs what it costs, and no word is ever found. It is for load tests and
// for trying out ways in; its name in call.started and in every status says
// that the call is not understood.
package none

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// RateHz is that of telephone calls: nothing is made of their audio that
// nobody hears.
const RateHz = 8000

// Engine hears nothing.
type Engine struct {
	closed atomic.Bool
}

var _ transcribe.Engine = (*Engine)(nil)

// New returns an engine; it needs nothing.
func New() *Engine { return &Engine{} }

// Info says that there is no model and that phrase lists are not taken.
func (e *Engine) Info() transcribe.Info {
	return transcribe.Info{Backend: "none", Model: "none", RateHz: RateHz, Raw: true}
}

// Open starts to hear nothing of a leg.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if e.closed.Load() {
		return nil, fmt.Errorf("none engine: %w", transcribe.ErrClosed)
	}
	if len(opt.Phrases) > 0 {
		return nil, fmt.Errorf("%w: who hears nothing takes no phrase list", transcribe.ErrOption)
	}
	if opt.RateHz < 0 {
		return nil, fmt.Errorf("%w: rate %d Hz", transcribe.ErrOption, opt.RateHz)
	}
	return &session{}, nil
}

// Close ends the engine.
func (e *Engine) Close() error {
	e.closed.Store(true)
	return nil
}

type session struct {
	finished, shut bool
}

func (s *session) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	switch {
	case s.shut, s.finished:
		return nil, transcribe.ErrClosed
	case f.Rate <= 0:
		return nil, fmt.Errorf("%w: rate %d Hz", transcribe.ErrFrame, f.Rate)
	}
	return nil, ctx.Err()
}

func (s *session) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	if s.shut || s.finished {
		return nil, transcribe.ErrClosed
	}
	s.finished = true
	return nil, ctx.Err()
}

func (s *session) Close() error {
	s.shut = true
	return nil
}
