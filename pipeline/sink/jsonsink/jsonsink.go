// Package jsonsink writes events as JSON lines, each a CloudEvent in the
// CloudEvents JSON format.
package jsonsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/callwarden/callwarden/pipeline/sink"
)

// ErrClosed is what Publish returns after Close.
var ErrClosed = errors.New("json sink is closed")

// Config is what the sink leaves out.
type Config struct {
	Transcripts bool `yaml:"transcripts"` // also write transcript segments
}

// DefaultConfig writes all but transcripts.
func DefaultConfig() Config { return Config{} }

// Sink writes one line per event, whole or not at all as far as the writer
// goes. Equal events are equal lines.
type Sink struct {
	cfg Config

	mu     sync.Mutex
	w      io.Writer
	err    error // the write that failed
	lost   int   // events taken and not written
	closed bool
}

var _ sink.Sink = (*Sink)(nil)

// New writes to w, from one goroutine at a time and with one Write per event,
// so that each is there as soon as it is published. The caller closes w after
// the sink. A w that buffers, that is one with a Flush method, is flushed by
// Close.
func New(w io.Writer, cfg Config) *Sink { return &Sink{w: w, cfg: cfg} }

// Publish writes ev. The first write that fails is an error here; nothing is
// written after it, because half a line may be, and Close says how many
// events that cost.
func (s *Sink) Publish(_ context.Context, ev sink.Event) error {
	if ev.Type == sink.TranscriptSegment && !s.cfg.Transcripts || ev.Type == sink.CallLevels {
		return nil
	}
	line, err := ev.CloudEvent()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.err != nil {
		s.lost++
		return nil
	}
	if _, err := s.w.Write(append(line, '\n')); err != nil {
		s.err = fmt.Errorf("writing an event: %w", err)
		s.lost++
		return s.err
	}
	return nil
}

// Close flushes. A second Close returns the same.
func (s *Sink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.w.(interface{ Flush() error }); ok && !s.closed && s.err == nil {
		if err := f.Flush(); err != nil {
			s.err = fmt.Errorf("flushing events: %w", err)
		}
	}
	s.closed = true
	if s.lost > 0 {
		return fmt.Errorf("%d events not written: %w", s.lost, s.err)
	}
	return s.err
}
