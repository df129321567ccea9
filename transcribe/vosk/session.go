package vosk

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// step is the audio that crosses into the library at once. Frames of any
	// size are cut and joined to it, so results do not depend on the size.
	step = 100 * time.Millisecond

	// maxSilence is the longest gap that is decoded as silence. It is enough
	// to end any utterance; after it the recogniser is renewed behind the gap.
	maxSilence = 5 * time.Second

	// slack is how far a frame may overlap what was heard: a sender's rounded
	// times are no reason to refuse audio. It is under the 30 ms that the
	// model tells times in.
	slack = time.Millisecond

	// decodeDelay is how long after the end of a word the unfinished
	// hypothesis shows it: what the acoustic model wants to see first.
	decodeDelay = 500 * time.Millisecond
)

// session is one recogniser. The contract gives it to one goroutine at a
// time; the mutex keeps a mistake from becoming a crash in C.
type session struct {
	mu      sync.Mutex
	engine  *Engine
	lib     *library
	rec     uintptr // 0 once closed
	leg     audio.Leg
	rateHz  int
	grammar string // empty for the open vocabulary
	unheard []string
	ended   error // set by Finish and by errors: why only Close may follow

	// The recogniser counts samples from its creation: fed. base is the media
	// time of its sample 0. pending is heard but not yet fed.
	base    time.Duration
	begun   bool
	paused  bool // the gap before the next frame is not heard
	fed     int
	pending []int16

	// The current utterance. Counts are on the recogniser's clock.
	utterance int
	begin     int                // sample that it begins at
	undecoded time.Duration      // how much before that may not have been decoded then
	polled    int                // sample of the last look at the hypothesis
	text      string             // of the last look
	shown     transcribe.Segment // last partial segment; no Text if none
	guessed   []transcribe.Word  // words of the last look, before unknown ones were taken out
	last      time.Duration      // end of the utterance before
	loud      loudness

	dither dither
}

var (
	_ transcribe.Session       = (*session)(nil)
	_ transcribe.PhraseSession = (*session)(nil)
	_ transcribe.Pauser        = (*session)(nil)
	_ transcribe.Settler       = (*session)(nil)
)

func newSession(e *Engine, rec uintptr, leg audio.Leg, grammar string, unheard []string) *session {
	return &session{engine: e, lib: e.lib, rec: rec, leg: leg, rateHz: e.info.RateHz, grammar: grammar, unheard: unheard}
}

// Unheard lists the words of the phrases that the model does not know.
func (s *session) Unheard() []string { return slices.Clone(s.unheard) }

// Settled is where the current utterance begins.
func (s *session) Settled() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.base, s.media(s.begin)-s.undecoded)
}

// samples is d in samples at the session's rate.
func (s *session) samples(d time.Duration) int {
	return int(math.Round(d.Seconds() * float64(s.rateHz)))
}

// media is the media time of a sample of the recogniser's clock.
func (s *session) media(sample int) time.Duration { return s.base + audio.Span(sample, s.rateHz) }

func (s *session) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	if f.Rate != s.rateHz {
		return nil, fmt.Errorf("%w: rate %d Hz, the session has %d", transcribe.ErrFrame, f.Rate, s.rateHz)
	}
	if f.Start < 0 || f.Start > math.MaxInt64/2 {
		return nil, fmt.Errorf("%w: it starts at %v", transcribe.ErrFrame, f.Start)
	}
	if len(f.PCM) == 0 {
		return nil, nil
	}
	if !s.begun {
		s.begun, s.base, s.last = true, f.Start, f.Start
	}
	gap := f.Start - s.media(s.fed+len(s.pending))
	if gap < -slack {
		return nil, fmt.Errorf("%w: it starts %v before the end of the one before", transcribe.ErrFrame, -gap)
	}
	if s.paused {
		s.base += max(0, gap)
		s.paused, gap = false, 0
	}
	segments, err := s.silence(ctx, gap)
	if err != nil {
		return segments, s.die(err)
	}
	more, err := s.hear(ctx, f.PCM)
	return append(segments, more...), s.die(err)
}

// die makes err the session's end, if it is one.
func (s *session) die(err error) error {
	if err != nil {
		s.ended = fmt.Errorf("vosk session: %w", err)
	}
	return s.ended
}

// silence hears a gap. Hours of it cost no more than maxSilence: the rest is
// skipped by moving the clock.
func (s *session) silence(ctx context.Context, gap time.Duration) ([]transcribe.Segment, error) {
	n := s.samples(min(gap, maxSilence))
	if n <= 0 {
		return nil, nil
	}
	segments, err := s.hear(ctx, make([]int16, n))
	if err != nil || gap <= maxSilence {
		return segments, err
	}
	more, err := s.flush()
	segments = append(segments, more...)
	s.base += gap - audio.Span(n, s.rateHz)
	return segments, err
}

// hear feeds what is pending and pcm in whole steps.
func (s *session) hear(ctx context.Context, pcm []int16) (segments []transcribe.Segment, err error) {
	n := s.samples(step)
	for len(s.pending)+len(pcm) >= n {
		var chunk []int16
		if len(s.pending) > 0 {
			k := n - len(s.pending)
			s.pending = append(s.pending, pcm[:k]...)
			chunk, pcm = s.pending, pcm[k:]
		} else {
			chunk, pcm = pcm[:n], pcm[n:]
		}
		if err := ctx.Err(); err != nil {
			return segments, err
		}
		segments, err = s.feed(chunk, segments)
		s.pending = s.pending[:0]
		if err != nil {
			return segments, err
		}
	}
	s.pending = append(s.pending, pcm...)
	return segments, nil
}

// feed decodes one step and appends the segments that changed.
func (s *session) feed(pcm []int16, segments []transcribe.Segment) ([]transcribe.Segment, error) {
	noisy := s.dither.add(pcm)
	accepted := s.lib.acceptWaveform(s.rec, &noisy[0], int32(len(noisy)))
	if accepted < 0 {
		return segments, errNative
	}
	s.fed += len(pcm)
	long := audio.Span(s.fed-s.begin, s.rateHz)
	quiet := s.loud.add(pcm)
	switch limit := s.engine.cfg.MaxUtterance; {
	case accepted > 0:
		return s.endUtterance(segments)
	case long >= limit, long >= limit*2/3 && quiet:
		return s.endUtterance(segments)
	}
	if every := s.engine.cfg.PartialEvery; every > 0 && audio.Span(s.fed-s.polled, s.rateHz) >= every {
		return s.partial(segments)
	}
	return segments, nil
}

// endUtterance asks for the final result and, if the recogniser is old,
// exchanges it.
func (s *session) endUtterance(segments []transcribe.Segment) ([]transcribe.Segment, error) {
	if s.old() {
		segments, err := s.final(s.lib.finalResult(s.rec), 0, segments)
		if err != nil {
			return segments, err
		}
		return segments, s.renew()
	}
	// This way the library keeps its features, and with them what it has
	// learned of the speaker.
	return s.final(s.lib.result(s.rec), decodeDelay, segments)
}

// listRenew is RenewEvery for phrase lists.
const listRenew = time.Minute

// old reports whether the recogniser is to be exchanged at the next chance.
func (s *session) old() bool {
	limit := s.engine.cfg.RenewEvery
	if s.grammar != "" {
		limit = min(limit, listRenew)
	}
	return audio.Span(s.fed, s.rateHz) >= limit
}

// renew exchanges the recogniser behind the end of an utterance.
func (s *session) renew() (err error) {
	age := audio.Span(s.fed, s.rateHz)
	s.rec, err = s.engine.renew(s.rec, s.grammar, age)
	s.base += age
	s.fed, s.begin, s.polled, s.undecoded = 0, 0, 0, 0
	return err
}

// Pause ends the utterance with what was heard. It asks for the final result,
// which decodes to the last frame and forgets the speaker: what result leaves
// for later, half a second, would be heard across the gap (word error rates
// with a gate: 52 % with result, 49 % with finalResult; make eval-gate).
func (s *session) Pause(ctx context.Context) ([]transcribe.Segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	if s.quiet() {
		s.paused = true
		return nil, nil
	}
	segments, err := s.flush()
	if err == nil && s.old() {
		err = s.renew()
	}
	s.paused = s.begun
	return segments, s.die(err)
}

// quiet reports whether the library has ended the utterance by itself and heard
// no word since: there is nothing to flush, and it keeps what it knows of the
// speaker. A list's last word may be among what it has yet to decode.
func (s *session) quiet() bool {
	if s.grammar != "" || s.undecoded == 0 || s.shown.Text != "" || s.old() {
		return false
	}
	h, err := decodeHypothesis(s.lib.partialResult(s.rec))
	return err == nil && h.Partial == ""
}

// flush ends the utterance with everything that was fed.
func (s *session) flush() (segments []transcribe.Segment, err error) {
	if len(s.pending) > 0 {
		segments, err = s.feed(s.pending, nil)
		s.pending = s.pending[:0]
		if err != nil {
			return segments, err
		}
	}
	if s.fed == s.begin {
		return segments, nil
	}
	return s.final(s.lib.finalResult(s.rec), 0, segments)
}

// final turns a final result into a segment and begins the next utterance.
//
// Where the library keeps its features, the last of them belong to the next
// utterance: undecoded is at most how many.
func (s *session) final(text string, undecoded time.Duration, segments []transcribe.Segment) ([]transcribe.Segment, error) {
	h, err := decodeHypothesis(text)
	if err != nil {
		return segments, err
	}
	seg, ok := s.segment(s.timed(h.Final))
	if !ok && s.shown.Text != "" {
		// What was shown is taken back: the utterance ends with no words.
		seg, ok = transcribe.Segment{Leg: s.leg, Utterance: s.utterance, Start: s.shown.Start, End: s.shown.End}, true
	}
	if ok {
		seg.Final = true
		segments = append(segments, seg)
		s.last = seg.End
		s.utterance++
	}
	s.shown, s.text, s.guessed = transcribe.Segment{}, "", nil
	s.begin, s.polled, s.undecoded = s.fed, s.fed, undecoded
	s.loud = loudness{}
	return segments, nil
}

// partial looks at the unfinished hypothesis.
//
// The library has two. The best path is fresh but has no times; the lattice
// has times and confidences but trails it by one to three seconds. The best
// path decides the words, the lattice gives times to those at the beginning
// that both agree on, and the rest get times from when they were first seen.
func (s *session) partial(segments []transcribe.Segment) ([]transcribe.Segment, error) {
	from := s.polled
	s.polled = s.fed
	text := s.lib.partialResult(s.rec)
	if text == s.text {
		return segments, nil
	}
	s.text = text
	h, err := decodeHypothesis(text)
	if err != nil {
		return segments, err
	}
	best := strings.Fields(h.Partial)
	var lattice hypothesis
	if s.lib.setPartialWords != nil && len(best) > 0 {
		s.lib.setPartialWords(s.rec, 1)
		lattice, err = decodeHypothesis(s.lib.partialResult(s.rec))
		s.lib.setPartialWords(s.rec, 0)
		if err != nil {
			return segments, err
		}
	}
	seg, ok := s.segment(s.guess(best, s.timed(lattice.Words), s.media(from)))
	if !ok && s.shown.Text == "" || seg.Text == s.shown.Text {
		return segments, nil
	}
	if !ok { // the words shown before are taken back
		seg = transcribe.Segment{Leg: s.leg, Utterance: s.utterance, Start: s.shown.Start, End: s.shown.End}
	}
	s.shown = seg
	return append(segments, seg), nil
}

// Finish ends the audio.
func (s *session) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	segments, err := s.flush()
	if err != nil {
		return segments, s.die(err)
	}
	s.ended = fmt.Errorf("vosk session: %w", transcribe.ErrClosed)
	return segments, nil
}

// Close frees the recogniser.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec == 0 {
		return nil
	}
	s.engine.release(s.rec, audio.Span(s.fed, s.rateHz))
	s.rec = 0
	s.ended = fmt.Errorf("vosk session: %w", transcribe.ErrClosed)
	return nil
}
