package audio_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/audio/audiotest"
)

// through sends pcm through a gate in frames of n samples, and checks that
// what passes is in order, without overlap, and the audio of its time.
func through(t testing.TB, g *audio.Gate, pcm []int16, rateHz, n int) []audio.Frame {
	t.Helper()
	var passed []audio.Frame
	end := time.Duration(0)
	for at := 0; at < len(pcm); at += n {
		f := audio.Frame{Leg: audio.Caller, Start: audio.Span(at, rateHz), Rate: rateHz, PCM: slices.Clone(pcm[at:min(at+n, len(pcm))])}
		voiced, open := g.Process(f)
		for _, v := range voiced {
			first := samples(v.Start, rateHz)
			if v.Start < end-time.Microsecond || v.End() > f.End()+time.Microsecond || v.Leg != audio.Caller || v.Rate != rateHz {
				t.Fatalf("frame of leg %v, %d Hz, from %v to %v after %v, given until %v", v.Leg, v.Rate, v.Start, v.End(), end, f.End())
			}
			if !slices.Equal(v.PCM, pcm[first:first+len(v.PCM)]) {
				t.Fatalf("other audio passed than was heard from %v to %v", v.Start, v.End())
			}
			end = v.End()
			passed = append(passed, v)
		}
		if open != g.Open() || open && (len(voiced) == 0 || end < f.End()-time.Microsecond) {
			t.Fatalf("open is %v, Open %v, and until %v of %v passed", open, g.Open(), end, f.End())
		}
	}
	return passed
}

func samples(d time.Duration, rateHz int) int {
	return int((d*time.Duration(rateHz) + time.Second/2) / time.Second)
}

// stretches joins frames without a gap between them.
func stretches(frames []audio.Frame) (out [][2]time.Duration) {
	for _, f := range frames {
		if n := len(out); n > 0 && f.Start-out[n-1][1] < time.Millisecond {
			out[n-1][1] = f.End()
			continue
		}
		out = append(out, [2]time.Duration{f.Start, f.End()})
	}
	return out
}

func length(frames []audio.Frame) (d time.Duration) {
	for _, f := range frames {
		d += f.End() - f.Start
	}
	return d
}

// demo is one leg of a demo call.
func demo(t testing.TB, name string, leg audio.Leg) (pcm []int16, rateHz int) {
	t.Helper()
	f, err := audio.OpenFile(filepath.Join("..", "..", "testdata", "calls", name+".wav"), audio.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		frame, err := f.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			return pcm, f.Info().RateHz
		}
		if err != nil {
			t.Fatal(err)
		}
		if frame.Leg == leg {
			pcm = append(pcm, frame.PCM...)
		}
	}
}

func newGate() *audio.Gate {
	return audio.NewGate(audio.DefaultGateConfig(), audio.NewLoudVoice())
}

// What a line carries while nobody speaks may open the gate, as a ringing tone
// does when it begins, but does not keep it open. A busy tone and music need an
// ear for more than loudness.
func TestLineSoundsDoNotPassForLong(t *testing.T) {
	const seconds = 30
	most := map[string]float64{ // share that passes
		"silence": 0, "hum": 0.05, "clicks": 0, "comfort noise": 0.05, "loud noise": 0.06, "dial tone": 0.06,
		"fax answering": 0.06, "fax page": 0.06, "beeps": 0.15, "ringing": 0.3, "ringing, Europe": 0.4, "fax calling": 0.5,
	}
	for _, s := range audiotest.Sounds() {
		limit, judged := most[s.Name]
		if !judged {
			continue // busy tone and music
		}
		for _, rateHz := range []int{8000, 16000} {
			passed := length(through(t, newGate(), s.Make(seconds*rateHz, rateHz), rateHz, rateHz/50))
			if share := passed.Seconds() / seconds; share > limit {
				t.Errorf("%s at %d Hz: %.0f %% passes, want at most %.0f", s.Name, rateHz, 100*share, 100*limit)
			}
		}
	}
}

// The demo calls have digital silence and a steady noise between turns, so
// what is loud in them is speech.
func TestNoSpeechIsHeldBack(t *testing.T) {
	for _, name := range []string{"fraud-code", "honest-help-desk"} {
		for _, leg := range []audio.Leg{audio.Caller, audio.Callee} {
			pcm, rateHz := demo(t, name, leg)
			passed := through(t, newGate(), pcm, rateHz, rateHz/50)
			heard := make([]bool, len(pcm))
			for _, f := range passed {
				for i := range f.PCM {
					heard[samples(f.Start, rateHz)+i] = true
				}
			}
			lost := 0
			for i, v := range pcm {
				if !heard[i] && (v > 500 || v < -500) {
					lost++
				}
			}
			if lost > 0 {
				t.Errorf("%s, %s: %d loud samples were held back", name, leg, lost)
			}
			share := length(passed).Seconds() / audio.Span(len(pcm), rateHz).Seconds()
			if share > 0.75 {
				t.Errorf("%s, %s: %.0f %% of a leg passes that is quiet half of the time", name, leg, 100*share)
			}
		}
	}
}

func TestTheSamePassesHoweverItIsCut(t *testing.T) {
	pcm, rateHz := demo(t, "fraud-code", audio.Callee)
	want := stretches(through(t, newGate(), pcm, rateHz, 160))
	if len(want) < 3 {
		t.Fatalf("%d stretches passed", len(want))
	}
	for _, n := range []int{1, 77, 800, 8000, len(pcm)} {
		if got := stretches(through(t, newGate(), pcm, rateHz, n)); !alike(got, want) {
			t.Errorf("frames of %d samples: %v, want %v", n, got, want)
		}
	}
}

// alike allows for the rounding of a sample's time.
func alike(a, b [][2]time.Duration) bool {
	return slices.EqualFunc(a, b, func(x, y [2]time.Duration) bool {
		return (x[0]-y[0]).Abs() < time.Microsecond && (x[1]-y[1]).Abs() < time.Microsecond
	})
}

// told is a Voice that is told when somebody speaks.
type told struct {
	n      int
	speech func(n int) bool
}

func (v *told) Start(int) int       { return 80 }
func (v *told) Speech([]int16) bool { v.n++; return v.speech(v.n - 1) }

func TestGateLetsThroughWhatIsAroundSpeech(t *testing.T) {
	cfg := audio.GateConfig{PreRoll: 300 * time.Millisecond, HangOver: 500 * time.Millisecond}
	pcm := make([]int16, 8000*5)
	for i := range pcm {
		pcm[i] = int16(rand.IntN(1000))
	}
	ms := func(a, b int) [2]time.Duration {
		return [2]time.Duration{time.Duration(a) * time.Millisecond, time.Duration(b) * time.Millisecond}
	}
	for _, tt := range []struct {
		name   string
		speech func(n int) bool // of windows of 10 ms
		want   [][2]time.Duration
	}{
		{"none", func(int) bool { return false }, nil},
		{"a word", func(n int) bool { return n >= 100 && n < 150 }, [][2]time.Duration{ms(700, 2000)}},
		{"at the beginning", func(n int) bool { return n < 10 }, [][2]time.Duration{ms(0, 600)}},
		{"two words with a breath between", func(n int) bool { return n >= 100 && n < 120 || n >= 160 && n < 170 }, [][2]time.Duration{ms(700, 2200)}},
		{"two words apart", func(n int) bool { return n >= 100 && n < 110 || n >= 200 && n < 210 }, [][2]time.Duration{ms(700, 1600), ms(1700, 2600)}},
		{"soon again", func(n int) bool { return n >= 100 && n < 110 || n >= 165 && n < 170 }, [][2]time.Duration{ms(700, 2200)}},
		{"to the end", func(n int) bool { return n >= 480 }, [][2]time.Duration{ms(4500, 5000)}},
		{"always", func(int) bool { return true }, [][2]time.Duration{ms(0, 5000)}},
	} {
		for _, n := range []int{80, 160, 333, len(pcm)} {
			got := stretches(through(t, audio.NewGate(cfg, &told{speech: tt.speech}), pcm, 8000, n))
			if !alike(got, tt.want) {
				t.Errorf("%s, frames of %d: %v, want %v", tt.name, n, got, tt.want)
			}
		}
	}
}

// A gap in the audio counts as quiet, and is not bridged by older audio.
func TestGateClosesInAGap(t *testing.T) {
	g := audio.NewGate(audio.DefaultGateConfig(), &told{speech: func(int) bool { return true }})
	frame := func(at time.Duration) audio.Frame {
		return audio.Frame{Start: at, Rate: 8000, PCM: make([]int16, 160)}
	}
	if _, open := g.Process(frame(0)); !open {
		t.Fatal("speech does not open the gate")
	}
	if _, open := g.Process(audio.Frame{Start: 400 * time.Millisecond}); !open {
		t.Fatal("a short gap closes the gate")
	}
	if _, open := g.Process(audio.Frame{Start: 600 * time.Millisecond}); open {
		t.Fatal("the gate stays open though nothing comes")
	}
	voiced, open := g.Process(frame(time.Second))
	if !open || len(voiced) != 1 || voiced[0].Start != time.Second || len(voiced[0].PCM) != 160 {
		t.Fatalf("after the gap: %v, %+v", open, voiced)
	}
}

// A leg may change its rate in mid call, and mid word.
func TestGateFollowsARateChange(t *testing.T) {
	g := audio.NewGate(audio.DefaultGateConfig(), &told{speech: func(int) bool { return true }})
	at := time.Duration(0)
	for i, rateHz := range []int{8000, 16000, 48000, 8000} {
		f := audio.Frame{Start: at, Rate: rateHz, PCM: make([]int16, rateHz/10)}
		at = f.End()
		voiced, open := g.Process(f)
		if !open || len(voiced) != 1 || voiced[0].Start != f.Start || voiced[0].End() != f.End() {
			t.Fatalf("frame %d, %d Hz: %v, %d frames", i, rateHz, open, len(voiced))
		}
	}
}

func BenchmarkGate(b *testing.B) {
	pcm, rateHz := demo(b, "fraud-code", audio.Callee)
	g := newGate()
	at := 0
	b.SetBytes(320)
	for b.Loop() {
		g.Process(audio.Frame{Start: audio.Span(at, rateHz), Rate: rateHz, PCM: pcm[at%(len(pcm)-160):][:160]})
		at += 160
	}
	perFrame := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(1000*perFrame*50, "ms/audio-s")
}
