package transcribetest

import (
	"context"
	"sync/atomic"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Faulty is a recogniser of 8 kHz audio whose sessions fail, stall or speak as
// a test wants, for those who must survive one.
type Faulty struct {
	Native, Phrases bool // as in transcribe.Info
	// Write is what the nth frame of the nth session brings, both from 1.
	Write func(session, frame int, f audio.Frame) ([]transcribe.Segment, error)
	// Opening, where not nil, is asked before the nth session is opened; its
	// error is that of Open.
	Opening func(session int, opt transcribe.Options) error
	Opened  atomic.Int32 // sessions so far, with those that were not opened
}

var _ transcribe.Engine = (*Faulty)(nil)

// Open opens the next session.
func (e *Faulty) Open(_ context.Context, opt transcribe.Options) (transcribe.Session, error) {
	n := int(e.Opened.Add(1))
	if e.Opening != nil {
		if err := e.Opening(n, opt); err != nil {
			return nil, err
		}
	}
	return &faultySession{e: e, n: n}, nil
}

// Info says 8 kHz, so that frames of telephone calls arrive as they are cut.
func (e *Faulty) Info() transcribe.Info {
	return transcribe.Info{Backend: "faulty", Model: "faulty", RateHz: 8000, Native: e.Native, Phrases: e.Phrases}
}

// Close ends the engine.
func (e *Faulty) Close() error { return nil }

type faultySession struct {
	e      *Faulty
	n      int
	frames int
}

func (s *faultySession) Write(_ context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	s.frames++
	return s.e.Write(s.n, s.frames, f)
}

func (s *faultySession) Finish(context.Context) ([]transcribe.Segment, error) { return nil, nil }
func (s *faultySession) Close() error                                         { return nil }
