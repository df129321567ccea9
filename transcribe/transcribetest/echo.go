package transcribetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Echo is a recogniser whose words are in the audio: a sample of n stands for
// the n-th word for as long as it lasts, one of 0 for silence. What it hears
// depends on nothing else, so that whoever loses audio, or has it heard twice,
// is found out. It is made to be served: its sessions pause and know what is
// settled.
type Echo struct {
	RateHz   int    // 16000 where it is 0
	Language string // BCP 47
	// Write, where not nil, is called before a frame is heard; an error ends
	// the session.
	Write  func(f audio.Frame) error
	closed atomic.Bool
	Opened atomic.Int32 // sessions so far
	Now    atomic.Int32 // sessions that are open
}

const (
	echoStep = 10 * time.Millisecond
	// EchoPause is the silence that ends an utterance.
	EchoPause = 300 * time.Millisecond
)

var (
	_ transcribe.Engine     = (*Echo)(nil)
	_ transcribe.Vocabulary = (*Echo)(nil)
	_ transcribe.Pauser     = (*echoSession)(nil)
	_ transcribe.Settler    = (*echoSession)(nil)
)

// EchoWord is what the sample n says.
func EchoWord(n int16) string {
	var b []byte
	for ; n > 0; n /= 26 {
		b = append(b, 'a'+byte(n%26))
	}
	slices.Reverse(b)
	return "w" + string(b)
}

// Speak is audio in which each of words lasts for so long, with a pause after
// every so many.
func Speak(rateHz int, words []int16, each time.Duration, perUtterance int) (pcm []int16) {
	n := int(each * time.Duration(rateHz) / time.Second)
	for i, w := range words {
		pcm = append(pcm, slices.Repeat([]int16{w}, n)...)
		if (i+1)%perUtterance == 0 {
			pcm = append(pcm, make([]int16, int((EchoPause+echoStep)*time.Duration(rateHz)/time.Second))...)
		}
	}
	return pcm
}

// Info takes phrase lists and hints, and does nothing with them.
func (e *Echo) Info() transcribe.Info {
	return transcribe.Info{Backend: "echo", Model: "echo", Language: e.Language, RateHz: e.rate(), Phrases: true, Hints: true}
}

func (e *Echo) rate() int {
	if e.RateHz == 0 {
		return 16000
	}
	return e.RateHz
}

// Knows says that words which begin with w are known.
func (e *Echo) Knows(word string) bool { return strings.HasPrefix(word, "w") }

// Open begins a leg.
func (e *Echo) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case e.closed.Load():
		return nil, fmt.Errorf("echo engine: %w", transcribe.ErrClosed)
	case opt.RateHz != 0 && opt.RateHz != e.rate():
		return nil, fmt.Errorf("%w: rate %d Hz", transcribe.ErrOption, opt.RateHz)
	case opt.Language != "" && e.Language != "" && opt.Language != e.Language:
		return nil, fmt.Errorf("%w: language %q", transcribe.ErrOption, opt.Language)
	}
	e.Opened.Add(1)
	e.Now.Add(1)
	return &echoSession{e: e, leg: opt.Leg}, nil
}

// Close ends the engine.
func (e *Echo) Close() error {
	e.closed.Store(true)
	return nil
}

type echoSession struct {
	e     *Echo
	leg   audio.Leg
	ended error
	free  sync.Once

	begun     bool
	at        time.Duration // end of what was heard
	begin     time.Duration // of the utterance
	quiet     time.Duration
	words     []transcribe.Word
	number    int16 // of the last word
	utterance int
	shown     int // words of the utterance
}

func (s *echoSession) Write(ctx context.Context, f audio.Frame) (segments []transcribe.Segment, err error) {
	switch {
	case s.ended != nil:
		return nil, s.ended
	case ctx.Err() != nil:
		s.ended = ctx.Err()
		return nil, s.ended
	case f.Rate != s.e.rate() || f.Start < 0 || s.begun && f.Start < s.at-time.Millisecond:
		return nil, fmt.Errorf("%w: %d Hz from %v", transcribe.ErrFrame, f.Rate, f.Start)
	case len(f.PCM) == 0:
		return nil, nil
	}
	if s.e.Write != nil {
		if err := s.e.Write(f); err != nil {
			s.ended = err
			return nil, err
		}
	}
	if !s.begun {
		s.begun, s.begin = true, f.Start
	} else if f.Start-s.at > EchoPause {
		segments = s.final(segments, f.Start)
	}
	n := max(1, int(echoStep*time.Duration(f.Rate)/time.Second))
	for i := 0; i < len(f.PCM); i += n {
		run := f.PCM[i:min(i+n, len(f.PCM))]
		s.hear(run[0], f.Start+audio.Span(i, f.Rate), f.Start+audio.Span(i+len(run), f.Rate))
		if s.quiet >= EchoPause && len(s.words) > 0 {
			segments = s.final(segments, s.at)
		}
	}
	if len(s.words) > s.shown {
		s.shown = len(s.words)
		segments = append(segments, s.segment())
	}
	return segments, nil
}

func (s *echoSession) hear(v int16, start, end time.Duration) {
	s.at = end
	if v <= 0 {
		if s.quiet += end - start; len(s.words) == 0 {
			s.begin = end
		}
		s.number = 0
		return
	}
	s.quiet = 0
	if v != s.number {
		s.number = v
		s.words = append(s.words, transcribe.Word{Text: EchoWord(v), Start: start, Confidence: 1})
	}
	s.words[len(s.words)-1].End = end
}

func (s *echoSession) segment() transcribe.Segment {
	texts := make([]string, len(s.words))
	for i, w := range s.words {
		texts[i] = w.Text
	}
	return transcribe.Segment{
		Leg: s.leg, Utterance: s.utterance, Start: s.words[0].Start, End: s.words[len(s.words)-1].End,
		Text: strings.Join(texts, " "), Words: slices.Clone(s.words),
	}
}

func (s *echoSession) final(segments []transcribe.Segment, at time.Duration) []transcribe.Segment {
	if len(s.words) > 0 {
		seg := s.segment()
		seg.Final = true
		segments = append(segments, seg)
		s.utterance++
	}
	s.words, s.shown, s.number, s.begin = nil, 0, 0, at
	return segments
}

func (s *echoSession) Pause(context.Context) ([]transcribe.Segment, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	return s.final(nil, s.at), nil
}

func (s *echoSession) Settled() time.Duration { return s.begin }

func (s *echoSession) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	if s.ended == nil && ctx.Err() != nil {
		s.ended = ctx.Err()
	}
	if s.ended != nil {
		return nil, s.ended
	}
	s.ended = fmt.Errorf("echo session: %w", transcribe.ErrClosed)
	return s.final(nil, s.at), nil
}

func (s *echoSession) Close() error {
	s.free.Do(func() { s.e.Now.Add(-1) })
	s.ended = fmt.Errorf("echo session: %w", transcribe.ErrClosed)
	return nil
}
