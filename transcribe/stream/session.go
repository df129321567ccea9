// Package stream is what recognisers that hear a leg as one stream of samples
// have in common, be they in a library or behind a wire: cutting frames into
// steps, the media clock, the rules of segments, and the ends of a session. A
// backend is left with its own protocol, a [Recogniser].
package stream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Recogniser hears one stream. It is used by one goroutine at a time. An error
// ends it; it says who failed and how.
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

var _ transcribe.Session = (*Session)(nil)

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
	for pcm := s.audio.Next(); pcm != nil; pcm = s.audio.Next() {
		said, err := s.rec.Hear(ctx, pcm)
		segments = s.take(segments, said)
		if err != nil {
			return segments, s.die(because(ctx, err))
		}
	}
	return segments, nil
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
		if err != nil {
			return segments, s.die(because(ctx, err))
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
