// Package stream is what recognisers that hear a leg as one stream of samples
// have in common, be they in a library or behind a wire: cutting frames into
// steps, the media clock, the rules of segments, and the ends of a session. A
// backend is left with its own protocol, a [Recogniser].
package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Recogniser hears one stream. It is used by one goroutine at a time. An error
// says who failed and how, and ends it, unless it wraps [transcribe.ErrAway]:
// then the samples were taken, and more may follow.
type Recogniser interface {
	// Hear takes the next samples, which it does not keep, and returns what
	// there is to say, in order.
	Hear(ctx context.Context, pcm []int16) ([]Hypothesis, error)
	// End says that no more follow and returns the rest.
	End(ctx context.Context) ([]Hypothesis, error)
	// Close frees it. It is called once, whatever went before.
	Close() error
}

// Hypothesis is what a recogniser takes an utterance for. Times are on the
// stream's clock, which counts samples from the first.
type Hypothesis struct {
	Final bool
	// Words with times, or the Text where there are none.
	Words []transcribe.Word
	Text  string
	// Heard is how far the recogniser had heard when it said so; 0 where it
	// does not tell, which means all that it was given.
	Heard time.Duration
}

// Late is implemented by recognisers that say things between two pieces of
// audio.
type Late interface {
	// Came returns what there is to say now, and an error as Hear does.
	Came(ctx context.Context) ([]Hypothesis, error)
	// Pending reports whether Came has something to say, or will have.
	Pending() bool
}

// Session is a [transcribe.Session] on a Recogniser.
type Session struct {
	mu     sync.Mutex
	name   string // of the backend, in errors
	rec    Recogniser
	closed bool
	ended  error // why only Close may follow
	audio  *Audio
	speech Speech
	begun  bool
}

var (
	_ transcribe.Session = (*Session)(nil)
	_ transcribe.Pender  = (*Session)(nil)
)

// NewSession returns a session of the backend called name. It owns rec.
func NewSession(name string, leg audio.Leg, rateHz int, rec Recogniser) *Session {
	return &Session{name: name, rec: rec, audio: NewAudio(rateHz), speech: Speech{Leg: leg}}
}

// Write implements [transcribe.Session].
func (s *Session) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	if err := s.audio.Add(f); err != nil {
		return nil, err
	}
	if !s.begun && len(f.PCM) > 0 {
		s.begun = true
		s.speech.begin(f.Start)
	}
	var segments []transcribe.Segment
	var away error
	if late, ok := s.rec.(Late); ok && len(f.PCM) == 0 {
		said, err := late.Came(ctx)
		return s.take(segments, said), s.fail(ctx, err)
	}
	for pcm := s.audio.Next(); pcm != nil; pcm = s.audio.Next() {
		said, err := s.rec.Hear(ctx, pcm)
		segments = s.take(segments, said)
		if away = s.fail(ctx, err); s.ended != nil {
			return segments, s.ended
		}
	}
	return segments, away
}

// Pending implements [transcribe.Pender].
func (s *Session) Pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	late, ok := s.rec.(Late)
	return ok && s.ended == nil && late.Pending()
}

// Finish implements [transcribe.Session].
func (s *Session) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	var segments []transcribe.Segment
	if pcm := s.audio.Rest(); pcm != nil {
		said, err := s.rec.Hear(ctx, pcm)
		segments = s.take(segments, said)
		if _ = s.fail(ctx, err); s.ended != nil {
			return segments, s.ended
		}
	}
	said, err := s.rec.End(ctx)
	segments = s.take(segments, said)
	if err != nil {
		return segments, s.die(because(ctx, err))
	}
	// What it left open stays as it was last shown.
	if seg, ok := s.speech.Settle(); ok {
		segments = append(segments, seg)
	}
	s.ended = fmt.Errorf("%s session: %w", s.name, transcribe.ErrClosed)
	return segments, nil
}

// Close implements [transcribe.Session].
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.ended = fmt.Errorf("%s session: %w", s.name, transcribe.ErrClosed)
	return s.rec.Close()
}

// die makes err the session's end.
func (s *Session) die(err error) error {
	s.ended = fmt.Errorf("%s session: %w", s.name, err)
	return s.ended
}

// fail is what an error of Hear means to the session.
func (s *Session) fail(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, transcribe.ErrAway) && ctx.Err() == nil:
		return fmt.Errorf("%s session: %w", s.name, err)
	}
	return s.die(because(ctx, err))
}

// because is the error of ctx where that has ended: what failed by it is not
// the reason.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// take makes segments of what was said.
func (s *Session) take(segments []transcribe.Segment, said []Hypothesis) []transcribe.Segment {
	for _, h := range said {
		heard := s.audio.Media(s.audio.Taken())
		if h.Heard > 0 {
			heard = min(heard, s.audio.Media(h.Heard))
		}
		words := s.timed(h.Words)
		var seg transcribe.Segment
		var ok bool
		switch {
		case h.Final && len(words) > 0:
			seg, ok = s.speech.Final(words, heard)
		case h.Final:
			seg, ok = s.speech.FinalText(h.Text, heard)
		case len(words) > 0:
			seg, ok = s.speech.Partial(words, heard)
		default:
			seg, ok = s.speech.PartialText(h.Text, heard)
		}
		if ok {
			segments = append(segments, seg)
		}
	}
	return segments
}

// timed puts words of the stream's clock on the media clock.
func (s *Session) timed(words []transcribe.Word) []transcribe.Word {
	out := make([]transcribe.Word, len(words))
	for i, w := range words {
		w.Start, w.End = s.audio.Media(w.Start), s.audio.Media(w.End)
		out[i] = w
	}
	return out
}
