// Package transcribetest holds the rules of transcribe.Engine as tests. Every
// backend runs them.
package transcribetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Subject is an engine to test and speech that it can hear.
type Subject struct {
	Engine transcribe.Engine
	Call   string // for engines that look calls up
	// RateHz and Speech are mono audio of two utterances or more, with words
	// in every third of it.
	RateHz int
	Speech []int16
	// Scripted engines speak by the clock and hear nothing: what they say does
	// not move with gaps.
	Scripted bool
	// Phrase is said in Speech, in words that the engine knows; NonWord is a
	// word that it does not know. Only engines with Info.Phrases need them.
	Phrase, NonWord string

	usual *string // what is heard in frames of the usual size, once known
}

// Run proves that an engine keeps its contract. It calls open once and closes
// the engine.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	defer noneLeft(t, goleak.IgnoreCurrent())
	s := open(t)
	s.usual = new(string)
	for _, rule := range []struct {
		name string
		test func(t *testing.T, s Subject)
	}{
		{"InfoSaysWhatItIs", infoSaysWhatItIs},
		{"SegmentsKeepOrderAndTimes", segmentsKeepOrderAndTimes},
		{"SameAudioGivesSameSegments", sameAudioGivesSameSegments},
		{"FrameSizeDoesNotMatter", frameSizeDoesNotMatter},
		{"EmptyInputGivesNothing", emptyInputGivesNothing},
		{"EmptyFramesAreHarmless", emptyFramesAreHarmless},
		{"GapsAreHeardAsSilence", gapsAreHeardAsSilence},
		{"RefusedFramesChangeNothing", refusedFramesChangeNothing},
		{"AnyAudioIsSurvived", anyAudioIsSurvived},
		{"FinishIsTheLast", finishIsTheLast},
		{"CloseTwiceIsClose", closeTwiceIsClose},
		{"CancelledContextEndsTheSession", cancelledContextEndsTheSession},
		{"CancellingEndsALongWrite", cancellingEndsALongWrite},
		{"PauseEndsTheUtterance", pauseEndsTheUtterance},
		{"BadOptionsAreRefused", badOptionsAreRefused},
		{"HintsAreNeverRefused", hintsAreNeverRefused},
		{"PhraseListsAreHeardOrRefused", phraseListsAreHeardOrRefused},
		{"SessionsDoNotDisturbEachOther", sessionsDoNotDisturbEachOther},
	} {
		t.Run(rule.name, func(t *testing.T) { rule.test(t, s) })
	}
	t.Run("ClosedEngineOpensNothing", func(t *testing.T) {
		for range 2 {
			if err := s.Engine.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
		}
		if _, err := s.Engine.Open(t.Context(), s.options()); !errors.Is(err, transcribe.ErrClosed) {
			t.Errorf("Open after Close: %v, want ErrClosed", err)
		}
	})
}

// noneLeft looks for goroutines that stay behind. Each look takes some seconds
// at most: a server of a test may have to end what it decodes.
func noneLeft(t *testing.T, before goleak.Option) {
	for range 10 {
		if goleak.Find(before) == nil {
			return
		}
	}
	goleak.VerifyNone(t, before)
}

func (s Subject) options() transcribe.Options {
	return transcribe.Options{Call: s.Call, Leg: audio.Callee, RateHz: s.RateHz}
}

func (s Subject) open(t *testing.T, opt transcribe.Options) *listener {
	t.Helper()
	session, err := s.Engine.Open(t.Context(), opt)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	l := &listener{t: t, session: session, leg: opt.Leg, rateHz: s.RateHz, done: -1}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l
}

// hear opens a session and speaks all of the speech in frames of the size.
func (s Subject) hear(t *testing.T, opt transcribe.Options, frame time.Duration) *listener {
	t.Helper()
	l := s.open(t, opt)
	l.speak(0, s.Speech, frame)
	l.finish()
	return l
}

// wanted is what is heard in frames of the usual size.
func (s Subject) wanted(t *testing.T) string {
	t.Helper()
	if *s.usual == "" {
		*s.usual = s.hear(t, s.options(), frame).finals()
	}
	return *s.usual
}

// listener drives a session and checks the rules for segments on the way.
type listener struct {
	t       *testing.T
	session transcribe.Session
	leg     audio.Leg
	rateHz  int

	heard   time.Duration // end of the audio written
	all     []transcribe.Segment
	kept    []string            // of all, as they came
	settled time.Duration       // of sessions that say so
	shown   *transcribe.Segment // unfinished
	done    int                 // last utterance that is final
	after   time.Duration       // where it ended
}

func (l *listener) speak(start time.Duration, pcm []int16, frame time.Duration) {
	l.t.Helper()
	n := max(1, int(frame*time.Duration(l.rateHz)/time.Second))
	for i := 0; i < len(pcm); i += n {
		l.write(start+audio.Span(i, l.rateHz), pcm[i:min(i+n, len(pcm))])
	}
}

func (l *listener) write(start time.Duration, pcm []int16) {
	l.t.Helper()
	f := audio.Frame{Leg: l.leg, Start: start, Rate: l.rateHz, PCM: slices.Clone(pcm)}
	segments, err := l.session.Write(l.t.Context(), f)
	if err != nil {
		l.t.Fatalf("Write at %v: %v", start, err)
	}
	l.heard = max(l.heard, f.End())
	l.take(segments)
}

func (l *listener) finish() {
	l.t.Helper()
	segments, err := l.session.Finish(l.t.Context())
	if err != nil {
		l.t.Fatalf("Finish: %v", err)
	}
	l.take(segments)
	if l.shown != nil {
		l.t.Errorf("utterance %d is not final after Finish", l.shown.Utterance)
	}
	for i, seg := range l.all { // they are the receiver's
		if now := fmt.Sprintf("%+v", seg); now != l.kept[i] {
			l.t.Errorf("a segment that was returned as\n%s\nhas become\n%s", l.kept[i], now)
		}
	}
}

func (l *listener) take(segments []transcribe.Segment) {
	l.t.Helper()
	for _, seg := range segments {
		if err := l.check(seg); err != nil {
			l.t.Errorf("after %v: %v: %+v", l.heard, err, seg)
		}
		l.all = append(l.all, seg)
		l.kept = append(l.kept, fmt.Sprintf("%+v", seg))
		l.shown = &seg
		if seg.Final {
			l.shown, l.done, l.after = nil, seg.Utterance, seg.End
		}
	}
	if s, ok := l.session.(transcribe.Settler); ok {
		now := s.Settled()
		if now < l.settled || now > l.heard {
			l.t.Errorf("after %v: settled until %v, before until %v", l.heard, now, l.settled)
		}
		l.settled = now
	}
}

func (l *listener) check(seg transcribe.Segment) error {
	switch {
	case seg.Leg != l.leg:
		return errors.New("wrong leg")
	case seg.Utterance <= l.done:
		return fmt.Errorf("utterance %d is final already", l.done)
	case l.shown != nil && seg.Utterance != l.shown.Utterance:
		return fmt.Errorf("utterance %d is not final yet", l.shown.Utterance)
	case l.shown != nil && !seg.Final && seg.Text == l.shown.Text:
		return errors.New("nothing changed")
	case l.shown == nil && seg.Text == "":
		return errors.New("no words, and none to take back")
	case seg.Start > seg.End:
		return errors.New("ends before it starts")
	case seg.Start < l.after:
		return fmt.Errorf("starts before %v, where the utterance before ended", l.after)
	case seg.End > l.heard:
		return errors.New("ends after what was heard")
	case seg.Text != strings.ToLower(strings.Join(strings.Fields(seg.Text), " ")):
		return errors.New("text is not lower case with single spaces")
	}
	at := seg.Start
	var texts []string
	for _, w := range seg.Words {
		if w.Start < at || w.End < w.Start || w.End > seg.End {
			return fmt.Errorf("word %q from %v to %v is out of order", w.Text, w.Start, w.End)
		}
		if !(w.Confidence >= 0 && w.Confidence <= 1) {
			return fmt.Errorf("word %q has confidence %v", w.Text, w.Confidence)
		}
		at = w.End
		texts = append(texts, w.Text)
	}
	if len(texts) > 0 && strings.Join(texts, " ") != seg.Text {
		return fmt.Errorf("words say %q", texts)
	}
	return nil
}

// finals is the text of the final segments, one line each.
func (l *listener) finals() string {
	var b strings.Builder
	for _, seg := range l.all {
		if seg.Final && seg.Text != "" {
			b.WriteString(seg.Text + "\n")
		}
	}
	return b.String()
}

const frame = 20 * time.Millisecond

func infoSaysWhatItIs(t *testing.T, s Subject) {
	info := s.Engine.Info()
	if info.Backend == "" || info.Model == "" || info.RateHz < 8000 || info.RateHz > 48000 {
		t.Errorf("info is %+v", info)
	}
	if again := s.Engine.Info(); again != info {
		t.Errorf("info is %+v, then %+v", info, again)
	}
}

func segmentsKeepOrderAndTimes(t *testing.T, s Subject) {
	l := s.hear(t, s.options(), frame)
	if n := strings.Count(l.finals(), "\n"); n < 2 {
		t.Fatalf("heard %d utterances, want two or more: %q", n, l.finals())
	}
	third := audio.Span(len(s.Speech), s.RateHz) / 3
	for i := range 3 {
		begin, end := third*time.Duration(i), third*time.Duration(i+1)
		if !slices.ContainsFunc(l.all, func(seg transcribe.Segment) bool {
			return seg.Final && seg.Text != "" && seg.Start < end && seg.End > begin
		}) {
			t.Errorf("heard no word from %v to %v", begin, end)
		}
	}
}

func sameAudioGivesSameSegments(t *testing.T, s Subject) {
	one, two := s.hear(t, s.options(), frame), s.hear(t, s.options(), frame)
	if a, b := fmt.Sprintf("%+v", one.all), fmt.Sprintf("%+v", two.all); a != b {
		t.Errorf("heard first\n%s\nthen\n%s", a, b)
	}
}

func frameSizeDoesNotMatter(t *testing.T, s Subject) {
	want := s.wanted(t)
	for _, size := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Hour} {
		if got := s.hear(t, s.options(), size).finals(); got != want {
			t.Errorf("frames of %v: heard\n%swant\n%s", size, got, want)
		}
	}
}

func emptyInputGivesNothing(t *testing.T, s Subject) {
	l := s.open(t, s.options())
	l.finish()
	if len(l.all) > 0 {
		t.Errorf("heard %+v", l.all)
	}
}

func emptyFramesAreHarmless(t *testing.T, s Subject) {
	l := s.open(t, s.options())
	l.write(0, nil)
	half := len(s.Speech) / 2
	l.speak(0, s.Speech[:half], frame)
	l.write(audio.Span(half, s.RateHz), nil)
	l.speak(audio.Span(half, s.RateHz), s.Speech[half:], frame)
	l.finish()
	if want := s.wanted(t); l.finals() != want {
		t.Errorf("heard\n%swant\n%s", l.finals(), want)
	}
	l = s.open(t, s.options())
	l.write(0, nil)
	l.finish()
	if len(l.all) > 0 {
		t.Errorf("heard %+v in a frame without samples", l.all)
	}
}

// gapsAreHeardAsSilence includes one of hours, which must cost no more than
// some seconds of silence.
func gapsAreHeardAsSilence(t *testing.T, s Subject) {
	for _, gap := range []time.Duration{time.Microsecond, 700 * time.Millisecond, 31 * time.Second, 100 * time.Hour} {
		l := s.open(t, s.options())
		half := len(s.Speech) / 2
		l.speak(0, s.Speech[:half], frame)
		begin := time.Now()
		l.speak(audio.Span(half, s.RateHz)+gap, s.Speech[half:], frame)
		l.finish()
		if l.finals() == "" {
			t.Errorf("gap of %v: heard nothing", gap)
		}
		end := audio.Span(half, s.RateHz)
		for _, seg := range l.all {
			if !s.Scripted && seg.Text != "" && seg.Start > end+inGap && seg.End < end+gap-inGap {
				t.Errorf("gap of %v: heard %q in it", gap, seg.Text)
			}
		}
		if !s.Scripted && !slices.ContainsFunc(l.all, func(seg transcribe.Segment) bool { return seg.Final && seg.Text != "" && seg.End > end+gap }) {
			t.Errorf("gap of %v: heard nothing after it", gap)
		}
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("gap of %v: took %v", gap, took)
		}
	}
}

// inGap is how far into a gap the times of words beside it may reach.
const inGap = time.Second

func refusedFramesChangeNothing(t *testing.T, s Subject) {
	l := s.open(t, s.options())
	half := len(s.Speech) / 2
	end := audio.Span(half, s.RateHz)
	l.speak(0, s.Speech[:half], frame)
	pcm := s.Speech[:s.RateHz/50]
	for name, f := range map[string]audio.Frame{
		"overlap":        {Start: end - 10*time.Millisecond, Rate: s.RateHz, PCM: pcm},
		"long past":      {Start: 0, Rate: s.RateHz, PCM: pcm},
		"before time":    {Start: -time.Second, Rate: s.RateHz, PCM: pcm},
		"half the rate":  {Start: end, Rate: s.RateHz / 2, PCM: pcm},
		"twice the rate": {Start: end, Rate: s.RateHz * 2, PCM: pcm},
		"rate 0":         {Start: end, Rate: 0, PCM: pcm},
		"negative rate":  {Start: end, Rate: -s.RateHz, PCM: pcm},
	} {
		f.Leg = audio.Callee
		segments, err := l.session.Write(t.Context(), f)
		if !errors.Is(err, transcribe.ErrFrame) || len(segments) > 0 {
			t.Errorf("%s: %v and %d segments, want ErrFrame and none", name, err, len(segments))
		}
	}
	l.speak(end, s.Speech[half:], frame)
	l.finish()
	if want := s.wanted(t); l.finals() != want {
		t.Errorf("heard\n%swant\n%s", l.finals(), want)
	}
}

func anyAudioIsSurvived(t *testing.T, s Subject) {
	second := func(sample func(i int) int16) []int16 {
		pcm := make([]int16, s.RateHz)
		for i := range pcm {
			pcm[i] = sample(i)
		}
		return pcm
	}
	l := s.open(t, s.options())
	var at time.Duration
	for _, pcm := range [][]int16{
		second(func(int) int16 { return 0 }),
		second(func(int) int16 { return math.MinInt16 }),
		second(func(int) int16 { return math.MaxInt16 }),
		second(func(i int) int16 { return int16(i&1)*math.MaxInt16 - int16(i&1^1)*math.MaxInt16 }),
		second(func(i int) int16 { return int16(uint32(i) * 2654435761 >> 16) }),
	} {
		l.speak(at, pcm, frame)
		at += time.Second
	}
	for range 200 {
		l.write(at, s.Speech[:1])
		at += audio.Span(1, s.RateHz)
	}
	l.finish()
}

func finishIsTheLast(t *testing.T, s Subject) {
	l := s.hear(t, s.options(), frame)
	f := audio.Frame{Leg: l.leg, Start: l.heard, Rate: s.RateHz, PCM: s.Speech[:s.RateHz/50]}
	if _, err := l.session.Write(t.Context(), f); !errors.Is(err, transcribe.ErrClosed) {
		t.Errorf("Write after Finish: %v, want ErrClosed", err)
	}
	if _, err := l.session.Finish(t.Context()); !errors.Is(err, transcribe.ErrClosed) {
		t.Errorf("Finish after Finish: %v, want ErrClosed", err)
	}
}

func closeTwiceIsClose(t *testing.T, s Subject) {
	l := s.open(t, s.options())
	l.speak(0, s.Speech[:len(s.Speech)/3], frame)
	for range 2 {
		if err := l.session.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	f := audio.Frame{Leg: l.leg, Start: l.heard, Rate: s.RateHz, PCM: s.Speech[:s.RateHz/50]}
	if _, err := l.session.Write(t.Context(), f); !errors.Is(err, transcribe.ErrClosed) {
		t.Errorf("Write after Close: %v, want ErrClosed", err)
	}
	if _, err := l.session.Finish(t.Context()); !errors.Is(err, transcribe.ErrClosed) {
		t.Errorf("Finish after Close: %v, want ErrClosed", err)
	}
}

func cancelledContextEndsTheSession(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if session, err := s.Engine.Open(ctx, s.options()); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v, want context.Canceled", err)
		if err == nil {
			session.Close()
		}
	}
	l := s.open(t, s.options())
	l.speak(0, s.Speech[:len(s.Speech)/3], frame)
	f := audio.Frame{Leg: l.leg, Start: l.heard, Rate: s.RateHz, PCM: s.Speech}
	if _, err := l.session.Write(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v, want context.Canceled", err)
	}
	if _, err := l.session.Write(t.Context(), f); err == nil || errors.Is(err, transcribe.ErrFrame) {
		t.Errorf("Write after a cancelled one: %v, want an error that is not ErrFrame", err)
	}
	l = s.open(t, s.options())
	l.speak(0, s.Speech[:len(s.Speech)/3], frame)
	if _, err := l.session.Finish(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Finish: %v, want context.Canceled", err)
	}
}

// cancellingEndsALongWrite gives an engine more audio at once than it is worth
// waiting for.
func cancellingEndsALongWrite(t *testing.T, s Subject) {
	l := s.open(t, s.options())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := l.session.Write(ctx, audio.Frame{Leg: l.leg, Rate: s.RateHz, PCM: slices.Repeat(s.Speech, 20)})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Write: %v, want context.DeadlineExceeded", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("Write returned after %v", took)
	}
}

// pauseEndsTheUtterance is for those that can; a listener does it wherever a
// leg falls silent.
func pauseEndsTheUtterance(t *testing.T, s Subject) {
	l := s.open(t, s.options())
	p, ok := l.session.(transcribe.Pauser)
	if !ok {
		return
	}
	pause := func() (told int) {
		t.Helper()
		segments, err := p.Pause(t.Context())
		if err != nil {
			t.Fatalf("Pause: %v", err)
		}
		l.take(segments)
		if l.shown != nil {
			t.Errorf("utterance %d is not final after Pause", l.shown.Utterance)
		}
		return len(segments)
	}
	if n := pause(); n > 0 {
		t.Errorf("Pause before any audio told %d segments", n)
	}
	half := len(s.Speech) / 2
	l.speak(0, s.Speech[:half], frame)
	pause()
	before := len(l.all)
	if n := pause(); n > 0 {
		t.Errorf("a second Pause told %d segments", n)
	}
	const gap = time.Hour // which is not decoded
	begin := time.Now()
	l.speak(audio.Span(half, s.RateHz)+gap, s.Speech[half:], frame)
	pause()
	l.finish()
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("going on after a pause took %v", took)
	}
	if before == 0 || len(l.all) == before {
		t.Errorf("heard %d segments before the pause and %d after it", before, len(l.all)-before)
	}
	for _, seg := range l.all[before:] {
		if !s.Scripted && seg.Text != "" && seg.Start < audio.Span(half, s.RateHz)+gap {
			t.Errorf("heard %q from %v to %v, in the pause", seg.Text, seg.Start, seg.End)
		}
	}
	if _, err := p.Pause(t.Context()); !errors.Is(err, transcribe.ErrClosed) {
		t.Errorf("Pause after Finish: %v, want ErrClosed", err)
	}

	l = s.open(t, s.options())
	p, _ = l.session.(transcribe.Pauser)
	l.speak(0, s.Speech[:len(s.Speech)/3], frame)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Pause(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Pause: %v, want context.Canceled", err)
	}
	if err := l.session.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := p.Pause(t.Context()); !errors.Is(err, transcribe.ErrClosed) {
		t.Errorf("Pause after Close: %v, want ErrClosed", err)
	}
}

// hintsAreNeverRefused: who cannot use them ignores them, and nobody trips over
// those that somebody wrote into a pack by mistake.
func hintsAreNeverRefused(t *testing.T, s Subject) {
	opt := s.options()
	opt.Hints = append([]string{"any desk", "zelle"}, evil...)
	kept := slices.Clone(opt.Hints)
	if l := s.hear(t, opt, 100*time.Millisecond); l.finals() == "" {
		t.Error("heard nothing")
	}
	if !slices.Equal(opt.Hints, kept) {
		t.Errorf("the hints, which are shared, have become %.200q", opt.Hints)
	}
}

func badOptionsAreRefused(t *testing.T, s Subject) {
	opt := s.options()
	opt.RateHz = -1
	if session, err := s.Engine.Open(t.Context(), opt); !errors.Is(err, transcribe.ErrOption) {
		t.Errorf("Open at a negative rate: %v, want ErrOption", err)
		if err == nil {
			session.Close()
		}
	}
	if own := s.Engine.Info().Language; own != "" {
		opt := s.options()
		opt.Language = "tlh" // Klingon
		session, err := s.Engine.Open(t.Context(), opt)
		if err == nil { // a server may speak it
			session.Close()
		} else if !errors.Is(err, transcribe.ErrOption) {
			t.Errorf("Open in another language: %v, want ErrOption", err)
		}
		opt.Language = own
		session, err = s.Engine.Open(t.Context(), opt)
		if err != nil {
			t.Fatalf("Open in the engine's own language, %s: %v", own, err)
		}
		session.Close()
	}
	opt.RateHz = 0
	session, err := s.Engine.Open(t.Context(), opt)
	if err != nil {
		t.Fatalf("Open at the engine's own rate: %v", err)
	}
	defer session.Close()
	rate := s.Engine.Info().RateHz
	if _, err := session.Write(t.Context(), audio.Frame{Rate: rate, PCM: make([]int16, rate/10)}); err != nil {
		t.Errorf("Write at the engine's own rate, %d Hz: %v", rate, err)
	}
}

func phraseListsAreHeardOrRefused(t *testing.T, s Subject) {
	opt := s.options()
	if !s.Engine.Info().Phrases {
		opt.Phrases = []string{"gift card"}
		if session, err := s.Engine.Open(t.Context(), opt); !errors.Is(err, transcribe.ErrOption) {
			t.Errorf("Open with phrases: %v, want ErrOption", err)
			if err == nil {
				session.Close()
			}
		}
		return
	}

	opt.Phrases = []string{"  " + strings.ToUpper(s.Phrase), s.Phrase + " " + s.NonWord}
	l := s.hear(t, opt, frame)
	if !strings.Contains(l.finals(), s.Phrase) {
		t.Errorf("heard %q, want %q in it", l.finals(), s.Phrase)
	}
	allowed := strings.Fields(s.Phrase)
	for _, seg := range l.all {
		for _, w := range seg.Words {
			if !slices.Contains(allowed, w.Text) && strings.ContainsFunc(w.Text, func(r rune) bool { return r < 128 }) {
				t.Errorf("heard %q, which is in no phrase", w.Text)
			}
		}
	}
	unheard, ok := l.session.(transcribe.PhraseSession)
	if !ok {
		t.Fatal("the session is no PhraseSession")
	}
	if got := unheard.Unheard(); !slices.Equal(got, []string{s.NonWord}) {
		t.Errorf("Unheard: %q, want %q", got, s.NonWord)
	}
	if v, ok := s.Engine.(transcribe.Vocabulary); ok && (v.Knows(s.NonWord) || !v.Knows(allowed[0])) {
		t.Errorf("Knows(%q) and not Knows(%q)", s.NonWord, allowed[0])
	}

	opt.Phrases = []string{s.NonWord}
	if session, err := s.Engine.Open(t.Context(), opt); !errors.Is(err, transcribe.ErrOption) {
		t.Errorf("Open with no phrase that can be heard: %v, want ErrOption", err)
		if err == nil {
			session.Close()
		}
	}
	for _, phrase := range evil {
		for _, phrases := range [][]string{{phrase}, {phrase, s.Phrase}} {
			opt.Phrases = phrases
			session, err := s.Engine.Open(t.Context(), opt)
			if err != nil {
				if !errors.Is(err, transcribe.ErrOption) {
					t.Errorf("Open with phrase %.20q: %v, want ErrOption", phrase, err)
				}
				continue
			}
			_, err = session.Write(t.Context(), audio.Frame{Rate: s.RateHz, PCM: slices.Clone(s.Speech[:s.RateHz])})
			if err != nil {
				t.Errorf("Write with phrase %.20q: %v", phrase, err)
			}
			session.Close()
		}
	}
}

func sessionsDoNotDisturbEachOther(t *testing.T, s Subject) {
	want := s.wanted(t)
	const sessions = 12
	var group sync.WaitGroup
	for range sessions {
		group.Go(func() {
			// Fatal must not be called here, so the session is driven by hand.
			session, err := s.Engine.Open(t.Context(), s.options())
			if err != nil {
				t.Errorf("Open: %v", err)
				return
			}
			defer func() {
				if err := session.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			l := &listener{t: t, session: session, leg: s.options().Leg, rateHz: s.RateHz, done: -1}
			for i, n := 0, s.RateHz/10; i < len(s.Speech); i += n {
				f := audio.Frame{Start: audio.Span(i, s.RateHz), Rate: s.RateHz, PCM: slices.Clone(s.Speech[i:min(i+n, len(s.Speech))])}
				segments, err := l.session.Write(t.Context(), f)
				if err != nil {
					t.Errorf("Write: %v", err)
					return
				}
				l.heard = f.End()
				l.take(segments)
			}
			segments, err := l.session.Finish(t.Context())
			if err != nil {
				t.Errorf("Finish: %v", err)
			}
			l.take(segments)
			if got := l.finals(); got != want {
				t.Errorf("heard\n%swant\n%s", got, want)
			}
		})
	}
	group.Wait()
}

// evil are phrases that crash who does not look.
var evil = []string{
	"", " ", "\x00", "gift\x00card", "\xff\xfe", `"`, `\`, `"]`, `["`, `gift", "card`, "[unk]", "<eps>", "<s>", "</s>", "#0", "!SIL",
	"{}", "\u2028", "\U0001f600", "\n\t", strings.Repeat("a", 1<<16), `\u0000`, "gift\ncard",
}
