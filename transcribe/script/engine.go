package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Engine speaks transcripts.
type Engine struct {
	lookup func(call string) (Transcript, error)
	every  int // words between two growing hypotheses; 0 for none
	closed atomic.Bool
}

var _ transcribe.Engine = (*Engine)(nil)

// New returns an engine that asks lookup for the transcript of each call, once
// for each of its legs, from any goroutine. An error of lookup becomes the
// error of Open.
func New(lookup func(call string) (Transcript, error)) *Engine {
	return &Engine{lookup: lookup}
}

// NewGrowing is New with unfinished hypotheses: each final line that has no
// partial lines of its own is shown growing by so many words at a time, as a
// recogniser would.
func NewGrowing(lookup func(call string) (Transcript, error), words int) *Engine {
	return &Engine{lookup: lookup, every: max(words, 0)}
}

// Info asks for 8 kHz because that is the least to carry; sessions take any
// rate.
func (e *Engine) Info() transcribe.Info {
	return transcribe.Info{Backend: "script", Model: "transcript", RateHz: 8000}
}

// Open looks the transcript of opt.Call up. A leg hears its own lines; the
// unknown leg of a mono recording hears those of all legs.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if e.closed.Load() {
		return nil, fmt.Errorf("script engine: %w", transcribe.ErrClosed)
	}
	if len(opt.Phrases) > 0 {
		return nil, fmt.Errorf("%w: a transcript takes no phrase list", transcribe.ErrOption)
	}
	if opt.RateHz < 0 {
		return nil, fmt.Errorf("%w: rate %d Hz", transcribe.ErrOption, opt.RateHz)
	}
	t, err := e.lookup(opt.Call)
	if err != nil {
		return nil, fmt.Errorf("script: %w", err)
	}
	rate := opt.RateHz
	if rate == 0 {
		rate = e.Info().RateHz
	}
	return &session{rateHz: rate, cues: e.cues(t, opt.Leg)}, nil
}

// Close ends the engine.
func (e *Engine) Close() error {
	e.closed.Store(true)
	return nil
}

// cues are the segments of a leg in the order in which they are spoken.
func (e *Engine) cues(t Transcript, leg audio.Leg) []transcribe.Segment {
	var lines []Line
	for _, l := range t.Lines {
		if l.Leg == leg || leg == audio.Unknown {
			lines = append(lines, l)
		}
	}
	var cues []transcribe.Segment
	utterance := 0
	var after time.Duration // end of the final line before
	// Lines of one leg are in order; merging legs must not mix the partial
	// lines of two utterances, so whole groups are ordered by their finals.
	for _, group := range groups(lines) {
		final := segment(leg, utterance, group[len(group)-1], after)
		if len(group) == 1 && e.every > 0 {
			cues = append(cues, grow(final, e.every)...)
		}
		for _, l := range group[:len(group)-1] {
			if seg := segment(leg, utterance, l, after); seg.Text != "" {
				cues = append(cues, seg)
			}
		}
		if final.Text == "" && len(group) == 1 {
			continue
		}
		final.Final = true
		cues = append(cues, final)
		after = final.End
		utterance++
	}
	return cues
}

// groups are the final lines with the partial lines that lead to them, ordered
// by the end of the final line.
func groups(lines []Line) [][]Line {
	var all [][]Line
	open := map[audio.Leg][]Line{}
	for _, l := range lines {
		open[l.Leg] = append(open[l.Leg], l)
		if !l.Partial {
			all = append(all, open[l.Leg])
			delete(open, l.Leg)
		}
	}
	slices.SortStableFunc(all, func(a, b []Line) int {
		return int(a[len(a)-1].End - b[len(b)-1].End)
	})
	return all
}

// segment gives each word an even share of the line's time.
func segment(leg audio.Leg, utterance int, l Line, after time.Duration) transcribe.Segment {
	start := max(l.Start, after)
	end := max(l.End, start)
	texts := Words(l.Text)
	words := make([]transcribe.Word, len(texts))
	n := time.Duration(len(texts))
	for i, text := range texts {
		k := time.Duration(i)
		words[i] = transcribe.Word{Text: text, Start: start + (end-start)*k/n, End: start + (end-start)*(k+1)/n, Confidence: 1}
	}
	return transcribe.Segment{Leg: leg, Utterance: utterance, Start: start, End: end, Text: strings.Join(texts, " "), Words: words}
}

// grow makes the hypotheses that lead to final.
func grow(final transcribe.Segment, every int) []transcribe.Segment {
	var cues []transcribe.Segment
	for n := every; n < len(final.Words); n += every {
		cues = append(cues, cut(final, n))
	}
	return cues
}

// cut is seg up to its n-th word.
func cut(seg transcribe.Segment, n int) transcribe.Segment {
	seg.Words = slices.Clone(seg.Words[:n])
	texts := make([]string, n)
	for i, w := range seg.Words {
		texts[i] = w.Text
	}
	seg.Text = strings.Join(texts, " ")
	seg.End = seg.Start
	if n > 0 {
		seg.End = seg.Words[n-1].End
	}
	return seg
}

// slack is how far a frame may overlap what was heard, for the sake of
// senders that round.
const slack = time.Millisecond

// session speaks the cues whose end the clock has passed.
type session struct {
	rateHz int
	cues   []transcribe.Segment // not yet spoken
	open   transcribe.Segment   // last partial one spoken; no Text if none
	begun  bool
	heard  time.Duration
	ended  error
}

var _ transcribe.Session = (*session)(nil)

func (s *session) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		s.ended = fmt.Errorf("script session: %w", err)
		return nil, s.ended
	}
	if f.Rate != s.rateHz {
		return nil, fmt.Errorf("%w: rate %d Hz, the session has %d", transcribe.ErrFrame, f.Rate, s.rateHz)
	}
	if f.Start < 0 || s.begun && f.Start < s.heard-slack {
		return nil, fmt.Errorf("%w: it starts %v before the end of the one before", transcribe.ErrFrame, s.heard-f.Start)
	}
	if len(f.PCM) == 0 {
		return nil, nil
	}
	s.begun = true
	s.heard = max(s.heard, f.End())
	var spoken []transcribe.Segment
	for len(s.cues) > 0 && s.cues[0].End <= s.heard {
		spoken = append(spoken, s.next())
	}
	return spoken, nil
}

func (s *session) next() transcribe.Segment {
	seg := s.cues[0]
	s.cues = s.cues[1:]
	if s.open = seg; seg.Final {
		s.open = transcribe.Segment{}
	}
	return seg
}

// Finish ends the audio. A line that it cuts off is final with the words that
// were spoken by then; later lines are not heard.
func (s *session) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		s.ended = fmt.Errorf("script session: %w", err)
		return nil, s.ended
	}
	s.ended = fmt.Errorf("script session: %w", transcribe.ErrClosed)
	i := slices.IndexFunc(s.cues, func(seg transcribe.Segment) bool { return seg.Final })
	if i < 0 || !s.begun || s.cues[i].Start >= s.heard && s.open.Text == "" {
		return nil, nil
	}
	final := s.cues[i]
	n := 0
	for n < len(final.Words) && final.Words[n].End <= s.heard {
		n++
	}
	if n == 0 && s.open.Text == "" {
		return nil, nil
	}
	final = cut(final, n)
	if n == 0 { // what was shown is taken back, where it was
		final.Start, final.End = s.open.Start, s.open.End
	}
	return []transcribe.Segment{final}, nil
}

// Close ends the session.
func (s *session) Close() error {
	if s.ended == nil || !errors.Is(s.ended, transcribe.ErrClosed) {
		s.ended = fmt.Errorf("script session: %w", transcribe.ErrClosed)
	}
	s.cues = nil
	return nil
}
