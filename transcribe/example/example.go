// Package example is a whole backend, as small as one can be: it hears two
// words, whistled. docs/backends.md walks through it.
package example

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	rateHz     = 8000
	step       = rateHz / 10 // samples that are looked at together: 100 ms
	quietSteps = 5           // end an utterance
	slack      = time.Millisecond
	longestGap = time.Second // of silence that is listened to
)

// Engine is the model: one for the whole process.
type Engine struct{ closed atomic.Bool }

var _ transcribe.Engine = (*Engine)(nil)

// New loads the model, of which there is none.
func New() *Engine { return &Engine{} }

// Info says what callers may ask for.
func (e *Engine) Info() transcribe.Info {
	return transcribe.Info{Backend: "example", Model: "two-tones", RateHz: rateHz}
}

// Open begins a leg. What the engine cannot do is refused with ErrOption.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case e.closed.Load():
		return nil, fmt.Errorf("example engine: %w", transcribe.ErrClosed)
	case opt.RateHz != 0 && opt.RateHz != rateHz:
		return nil, fmt.Errorf("%w: rate %d Hz, only %d is heard", transcribe.ErrOption, opt.RateHz, rateHz)
	case len(opt.Phrases) > 0:
		return nil, fmt.Errorf("%w: phrases", transcribe.ErrOption)
	}
	return &session{leg: opt.Leg}, nil
}

// Close frees the model. A second Close does nothing.
func (e *Engine) Close() error {
	e.closed.Store(true)
	return nil
}

// session hears one leg; one goroutine at a time calls it.
type session struct {
	leg   audio.Leg
	ended error // why only Close may follow

	begun   bool
	base    time.Duration // media time of the first sample
	heard   int           // samples since, in whole steps
	pending []int16       // less than a step

	utterance int
	words     []transcribe.Word // of the utterance, so far
	quiet     int               // steps since the last of them
}

// now is the media time up to which audio came.
func (s *session) now() time.Duration { return s.base + audio.Span(s.heard+len(s.pending), rateHz) }

// Write hears a frame and returns the segments that changed with it.
func (s *session) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	switch {
	case s.ended != nil:
		return nil, s.ended
	case ctx.Err() != nil:
		s.ended = fmt.Errorf("example session: %w", ctx.Err())
		return nil, s.ended
	case f.Rate != rateHz:
		return nil, fmt.Errorf("%w: rate %d Hz", transcribe.ErrFrame, f.Rate)
	case f.Start < 0, s.begun && f.Start < s.now()-slack:
		return nil, fmt.Errorf("%w: it starts at %v", transcribe.ErrFrame, f.Start)
	case len(f.PCM) == 0:
		return nil, nil
	case !s.begun:
		s.begun, s.base = true, f.Start
	}
	var changed []transcribe.Segment
	if gap := f.Start - s.now(); gap > 0 { // heard as silence, but not hours of it
		silence := min(gap, longestGap)
		changed = s.hear(make([]int16, silence*rateHz/time.Second), changed)
		s.base += max(0, gap-longestGap)
	}
	return s.hear(f.PCM, changed), nil
}

// hear looks at whole steps, so that it does not matter how frames are cut.
func (s *session) hear(pcm []int16, changed []transcribe.Segment) []transcribe.Segment {
	s.pending = append(s.pending, pcm...)
	for len(s.pending) >= step {
		start := s.base + audio.Span(s.heard, rateHz)
		text := word(s.pending[:step])
		s.pending = s.pending[step:]
		s.heard += step
		end := s.base + audio.Span(s.heard, rateHz)

		n := len(s.words)
		switch {
		case text == "" && n > 0:
			if s.quiet++; s.quiet == quietSteps {
				changed = append(changed, s.end())
			}
		case text != "" && n > 0 && s.words[n-1].Text == text && s.quiet == 0:
			s.words[n-1].End = end // the same whistle goes on
		case text != "":
			s.quiet = 0
			s.words = append(s.words, transcribe.Word{Text: text, Start: start, End: end, Confidence: 1})
			changed = append(changed, s.segment(false))
		}
	}
	s.pending = slices.Clone(s.pending)
	return changed
}

// segment is the utterance as far as it is known.
func (s *session) segment(final bool) transcribe.Segment {
	texts := make([]string, len(s.words))
	for i, w := range s.words {
		texts[i] = w.Text
	}
	return transcribe.Segment{
		Leg: s.leg, Utterance: s.utterance, Final: final,
		Start: s.words[0].Start, End: s.words[len(s.words)-1].End,
		Text: strings.Join(texts, " "), Words: slices.Clone(s.words),
	}
}

// end makes the utterance final.
func (s *session) end() transcribe.Segment {
	final := s.segment(true)
	s.utterance++
	s.words, s.quiet = nil, 0
	return final
}

// Finish returns the last words.
func (s *session) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if s.ended = ctx.Err(); s.ended != nil {
		return nil, s.ended
	}
	s.ended = fmt.Errorf("example session: %w", transcribe.ErrClosed)
	if len(s.words) == 0 {
		return nil, nil
	}
	return []transcribe.Segment{s.end()}, nil
}

// Close frees the session.
func (s *session) Close() error {
	s.ended = fmt.Errorf("example session: %w", transcribe.ErrClosed)
	return nil
}

// word is what a step says: most of its energy is at the pitch of a word.
func word(pcm []int16) string {
	var energy float64
	for _, v := range pcm {
		energy += float64(v) * float64(v)
	}
	if energy < 1e4*float64(len(pcm)) { // below 100 of 32768
		return ""
	}
	for text, hz := range map[string]float64{"low": 500, "high": 1500} {
		var re, im float64
		for i, v := range pcm {
			sin, cos := math.Sincos(2 * math.Pi * hz * float64(i) / rateHz)
			re, im = re+float64(v)*cos, im+float64(v)*sin
		}
		if re*re+im*im > energy*float64(len(pcm))/4 { // a pure tone has a half
			return text
		}
	}
	return ""
}
