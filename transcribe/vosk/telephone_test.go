package vosk

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/audio/audiotest"
)

// through hears pcm as a leg is heard: through a front end, in frames of 20 ms.
func through(t *testing.T, e *Engine, pcm []int16, rateHz int) (words []string) {
	t.Helper()
	front, err := audio.NewFrontEnd(audio.FrontEndConfig{RateHz: rate})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Open(context.Background(), transcribe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write := func(frames []audio.Frame) {
		for _, f := range frames {
			for _, seg := range finals(hear(t, s, f.Start, f.PCM)) {
				words = append(words, strings.Fields(seg.Text)...)
			}
		}
	}
	n := rateHz / 50
	for at := 0; at < len(pcm); at += n {
		frames, err := front.Process(audio.Frame{Start: audio.Span(at, rateHz), Rate: rateHz, PCM: pcm[at:min(at+n, len(pcm))]})
		if err != nil {
			t.Fatal(err)
		}
		write(frames)
	}
	write(front.Flush())
	for _, seg := range finals(finish(t, s)) {
		words = append(words, strings.Fields(seg.Text)...)
	}
	return words
}

// inOrder is how many of the words of want are in got, in the same order.
func inOrder(want, got []string) int {
	best := make([]int, len(got)+1)
	for _, w := range want {
		before := 0
		for i, g := range got {
			here := best[i+1]
			switch {
			case w == g:
				best[i+1] = before + 1
			default:
				best[i+1] = max(here, best[i])
			}
			before = here
		}
	}
	return best[len(got)]
}

// narrow is pcm as a telephone carries it: 8 kHz, and nothing below 300 Hz.
func narrow(t *testing.T, pcm []int16) []int16 {
	t.Helper()
	r, err := audio.NewResampler(rate, 8000)
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, len(pcm))
	for i, v := range pcm {
		x[i] = float32(v)
	}
	x = r.Flush(r.Process(nil, x))
	for range 4 { // high-passes of the first order, 24 dB an octave together
		const keep = 0.85
		in, out := float32(0), float32(0)
		for i, v := range x {
			out = keep * (out + v - in)
			in, x[i] = v, out
		}
	}
	low := make([]int16, len(x))
	for i, v := range x {
		low[i] = int16(min(max(v, -32768), 32767))
	}
	return low
}

func TestWholeBadLinesAreHeardNevertheless(t *testing.T) {
	engine := newEngine(t, installed(t))
	want := strings.Fields("please read me the verification code do not tell anyone about this call")
	tel := narrow(t, speech(t))
	change := func(f func(v, at float64) float64) []int16 {
		out := make([]int16, len(tel))
		for i, v := range tel {
			out[i] = int16(min(max(f(float64(v), float64(i)/8000), -32768), 32767))
		}
		return out
	}
	for _, c := range []struct {
		name  string
		pcm   []int16
		heard int // of 13 words, at least
	}{
		{"30 dB too quiet", change(func(v, _ float64) float64 { return v / 32 }), 8},
		{"clipped by 12 dB", change(func(v, _ float64) float64 { return 4 * v * 32767 / 12000 }), 9},
		{"direct current, hum and a key that is pressed", change(func(v, at float64) float64 {
			v = v/2 + 8000 + 500*math.Sin(2*math.Pi*60*at) + 250*math.Sin(2*math.Pi*180*at)
			if at > 2.8 && at < 3.2 {
				v += 3000 * (math.Sin(2*math.Pi*770*at) + math.Sin(2*math.Pi*1336*at))
			}
			return v
		}), 9},
	} {
		got := through(t, engine, c.pcm, 8000)
		if n := inOrder(want, got); n < c.heard || len(got) > len(want)+4 {
			t.Errorf("%s: %d of %d words are right, want %d: %q", c.name, n, len(want), c.heard, got)
		}
	}
}

// Silence, noise and tones that are filled like speech must not become it. The
// sounds are heard for three seconds each.
func TestWholeNoiseIsNotHeardAsWords(t *testing.T) {
	engine := newEngine(t, installed(t))
	for _, s := range audiotest.Sounds() {
		most := 1
		if s.Name == "music" {
			most = 4
		}
		if got := through(t, engine, s.Make(3*8000, 8000), 8000); len(got) > most {
			t.Errorf("%s is heard as %q", s.Name, got)
		}
	}
}
