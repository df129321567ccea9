package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const rate = 16000

func frame(at, length time.Duration) audio.Frame {
	return audio.Frame{Start: at, Rate: rate, PCM: make([]int16, int(length*rate/time.Second))}
}

func TestMediaClockFollowsStartAndGaps(t *testing.T) {
	a := NewAudio(rate)
	take := func() (n int) {
		for pcm := a.Next(); pcm != nil; pcm = a.Next() {
			n += len(pcm)
		}
		return n
	}
	for _, f := range []audio.Frame{
		frame(90*time.Second, time.Second),
		frame(92*time.Second, time.Second),                               // a second is missing
		frame(93*time.Second+500*time.Microsecond, 950*time.Millisecond), // rounding
		frame(100*time.Hour, time.Second),                                // hours are
	} {
		if err := a.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	// 3.95 s and a gap, 5 s of the long one, and a second; in whole steps.
	if n := take(); audio.Span(n, rate) != 9900*time.Millisecond {
		t.Errorf("%v in steps, want 9.9 s", audio.Span(n, rate))
	}
	if rest := a.Rest(); audio.Span(len(rest), rate) < 40*time.Millisecond {
		t.Errorf("%v left", audio.Span(len(rest), rate))
	}
	for at, want := range map[time.Duration]time.Duration{
		0:                       90 * time.Second,
		2500 * time.Millisecond: 92500 * time.Millisecond,
		a.Taken():               100*time.Hour + time.Second,
	} {
		if got := a.Media(at); (got - want).Abs() > time.Millisecond {
			t.Errorf("%v of the stream is %v, want %v", at, got, want)
		}
	}
	for name, f := range map[string]audio.Frame{
		"overlap":       frame(a.Heard()-10*time.Millisecond, time.Second),
		"another rate":  {Start: a.Heard(), Rate: 8000, PCM: make([]int16, 8000)},
		"before time":   frame(-time.Second, time.Second),
		"beyond clocks": frame(1<<63-1, time.Second),
	} {
		if err := a.Add(f); !errors.Is(err, transcribe.ErrFrame) {
			t.Errorf("%s: %v, want ErrFrame", name, err)
		}
	}
}

// However a leg is cut and however often it pauses, the same samples come out,
// and media times never step back.
func TestStepsHoldAllSamplesInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := NewAudio(rate)
		var at, last time.Duration
		var next int16
		var got, want []int16
		collect := func(pcm []int16) {
			for _, v := range pcm {
				if v != 0 { // silence was made up
					got = append(got, v)
				}
			}
			if m := a.Media(a.Taken()); m < last {
				t.Fatalf("media time went from %v to %v", last, m)
			} else {
				last = m
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "frames") {
			at += rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, time.Second, 7 * time.Second, time.Hour}).Draw(t, "gap")
			f := audio.Frame{Start: at, Rate: rate}
			for range rapid.IntRange(0, 5000).Draw(t, "samples") {
				if next++; next <= 0 {
					next = 1
				}
				f.PCM = append(f.PCM, next)
			}
			want = append(want, f.PCM...)
			if err := a.Add(f); err != nil {
				t.Fatal(err)
			}
			at = f.End()
			for pcm := a.Next(); pcm != nil; pcm = a.Next() {
				collect(pcm)
			}
		}
		collect(a.Rest())
		if !slices.Equal(got, want) {
			t.Fatalf("%d samples of %d", len(got), len(want))
		}
	})
}

// Whatever a recogniser says, its segments keep the rules of
// transcribe.Segment.
func TestSegmentsKeepTheirRulesWhateverIsSaid(t *testing.T) {
	word := rapid.Custom(func(t *rapid.T) transcribe.Word {
		return transcribe.Word{
			Text:       rapid.SampledFrom([]string{"gift", "Card", " two words ", "", "…", "\t"}).Draw(t, "text"),
			Start:      time.Duration(rapid.Int64Range(-1e9, 30e9).Draw(t, "start")),
			End:        time.Duration(rapid.Int64Range(-1e9, 30e9).Draw(t, "end")),
			Confidence: rapid.Float32().Draw(t, "confidence"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		var s Speech
		var heard, after time.Duration
		var shown *transcribe.Segment
		done := -1
		for range rapid.IntRange(1, 40).Draw(t, "answers") {
			heard += time.Duration(rapid.Int64Range(0, 2e9).Draw(t, "more"))
			words := rapid.SliceOfN(word, 0, 4).Draw(t, "words")
			text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"Gift", "card", " "}), 0, 4).Draw(t, "text"), " ")
			var seg transcribe.Segment
			var ok bool
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				seg, ok = s.Partial(words, heard)
			case 1:
				seg, ok = s.PartialText(text, heard)
			case 2:
				seg, ok = s.Final(words, heard)
			case 3:
				seg, ok = s.FinalText(text, heard)
			case 4:
				seg, ok = s.Settle()
			}
			if !ok {
				continue
			}
			joined := make([]string, len(seg.Words))
			at := seg.Start
			for i, w := range seg.Words {
				if w.Start < at || w.End < w.Start || w.End > seg.End || !(w.Confidence >= 0 && w.Confidence <= 1) {
					t.Fatalf("word %+v of %+v", w, seg)
				}
				at = w.End
				joined[i] = w.Text
			}
			switch {
			case seg.Utterance <= done, shown != nil && seg.Utterance != shown.Utterance:
				t.Fatalf("utterance %d after %d", seg.Utterance, done)
			case shown == nil && seg.Text == "", shown != nil && !seg.Final && seg.Text == shown.Text:
				t.Fatalf("nothing changed: %+v", seg)
			case seg.Start < after || seg.End < seg.Start || seg.End > heard:
				t.Fatalf("%+v after %v of %v", seg, after, heard)
			case seg.Text != strings.ToLower(strings.Join(joined, " ")):
				t.Fatalf("%q and words %q", seg.Text, joined)
			}
			shown = &seg
			if seg.Final {
				shown, done, after = nil, seg.Utterance, seg.End
			}
		}
	})
}

// faulty fails with err from the third step on.
type faulty struct {
	steps  int
	err    error
	closed int
}

func (f *faulty) Hear(context.Context, []int16) ([]Hypothesis, error) {
	if f.steps++; f.steps >= 3 {
		return []Hypothesis{{Text: "last words"}}, f.err
	}
	return nil, nil
}
func (f *faulty) End(context.Context) ([]Hypothesis, error) { return nil, nil }
func (f *faulty) Close() error                              { f.closed++; return nil }

func TestErrorsEndASessionUnlessItsRecogniserIsAway(t *testing.T) {
	for _, tt := range []struct {
		err  error
		ends bool
	}{
		{errors.New("broken"), true},
		{fmt.Errorf("%w: restarting", transcribe.ErrAway), false},
	} {
		rec := &faulty{err: tt.err}
		s := NewSession("test", audio.Caller, rate, rec)
		segments, err := s.Write(t.Context(), frame(0, time.Second))
		if !errors.Is(err, tt.err) {
			t.Errorf("%v, want %v", err, tt.err)
		}
		if len(segments) != 1 || segments[0].Text != "last words" {
			t.Errorf("%v: what was said with it is lost: %+v", tt.err, segments)
		}
		if heard := rec.steps == 10; heard == tt.ends {
			t.Errorf("%v: heard %d of 10 steps", tt.err, rec.steps)
		}
		_, again := s.Write(t.Context(), frame(time.Second, time.Second))
		if ended := !errors.Is(again, transcribe.ErrAway); ended != tt.ends {
			t.Errorf("%v: then %v", tt.err, again)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if rec.closed != 1 {
			t.Errorf("closed %d times", rec.closed)
		}
	}
}

func TestWhatIsLeftOpenIsFinalAfterFinish(t *testing.T) {
	s := NewSession("test", audio.Caller, rate, &faulty{})
	if _, err := s.Write(t.Context(), frame(0, time.Second)); err != nil {
		t.Fatal(err)
	}
	segments, err := s.Finish(t.Context())
	if err != nil || len(segments) != 1 || !segments[0].Final || segments[0].Text != "last words" {
		t.Errorf("%+v, %v", segments, err)
	}
}
