package audio

import (
	"math"
	"runtime"
	"slices"
	"testing"
)

// added mixes tones into pcm, each with the given rms.
func added(pcm []int16, rateHz int, rms float64, hz ...float64) []int16 {
	out := make([]int16, len(pcm))
	for i, v := range pcm {
		sum := float64(v)
		for _, f := range hz {
			sum += math.Sqrt2 * rms * math.Sin(2*math.Pi*f*float64(i)/float64(rateHz))
		}
		out[i] = clip16(float32(sum))
	}
	return out
}

// syllables is the rms of what comes out while say speaks, in the last two
// seconds.
func syllables(out []int16) float64 {
	var loud []int16
	for i := max(0, len(out)-2*16000); i < len(out); i++ {
		if at := math.Mod(float64(i)/16000, 0.25); at > 0.02 && at < 0.11 {
			loud = append(loud, out[i])
		}
	}
	return dB(rmsOf(loud) / 32768)
}

func TestFrontEndMakesSenseOfBadInput(t *testing.T) {
	tel := say(5*8000, 8000, 300, 3400)
	voip := say(5*8000, 8000, 60, 3800)
	wide := say(5*16000, 16000, 60, 7900)
	with := func(pcm []int16, change func(i int, v int16) int16) []int16 {
		out := make([]int16, len(pcm))
		for i, v := range pcm {
			out[i] = change(i, v)
		}
		return out
	}
	for _, c := range []struct {
		name          string
		pcm           []int16
		rateHz        int
		lowHz, highHz int // 0 and 0 for no speech
		hum           int
		clipped       bool
		from, to      float64 // level of the syllables that come out, dBFS
	}{
		{name: "as it should be", pcm: tel, rateHz: 8000, lowHz: 300, highHz: 3400, from: -28, to: -18},
		{name: "30 dB too quiet", pcm: amplified(tel, -30), rateHz: 8000, lowHz: 300, highHz: 3400, from: -36, to: -20},
		{name: "25 dB too loud", pcm: amplified(voip, 25), rateHz: 8000, lowHz: 0, highHz: 4000, clipped: true, from: -28, to: -16},
		{name: "clipped to a square wave", pcm: amplified(voip, 40), rateHz: 8000, lowHz: 0, highHz: 4000, clipped: true, from: -28, to: -16},
		{name: "direct current", pcm: with(tel, func(_ int, v int16) int16 { return v/2 + 12000 }), rateHz: 8000, lowHz: 300, highHz: 3400, from: -28, to: -18},
		{name: "hum", pcm: humming(voip, 8000, 60, 300), rateHz: 8000, lowHz: 0, highHz: 4000, hum: 60, from: -28, to: -20},
		{name: "polarity turned", pcm: with(tel, func(_ int, v int16) int16 { return -v }), rateHz: 8000, lowHz: 300, highHz: 3400, from: -28, to: -18},
		{name: "DTMF over speech", pcm: added(tel, 8000, 500, 770, 1336), rateHz: 8000, lowHz: 300, highHz: 3400, from: -32, to: -18},
		{name: "fax answer over speech", pcm: added(tel, 8000, 500, 2100), rateHz: 8000, lowHz: 300, highHz: 3400, from: -32, to: -18},
		{name: "8 kHz claimed, 16 kHz inside", pcm: wide, rateHz: 8000, lowHz: 0, highHz: 4000, from: -32, to: -18},
		{name: "16 kHz claimed, 8 kHz inside", pcm: tel, rateHz: 16000, lowHz: 300, highHz: 8000, from: -32, to: -18},
		{name: "every second frame lost", pcm: with(tel, func(i int, v int16) int16 { return v * int16(1-i/160%2) }), rateHz: 8000, lowHz: 0, highHz: 4000, from: -32, to: -18},
		{name: "nothing but zeros", pcm: make([]int16, 40000), rateHz: 8000, from: math.Inf(-1), to: -60},
		{name: "stuck at the bottom", pcm: slices.Repeat([]int16{math.MinInt16}, 40000), rateHz: 8000, from: math.Inf(-1), to: -60},
		{name: "full-scale noise of the Nyquist frequency", pcm: slices.Repeat([]int16{math.MaxInt16, math.MinInt16}, 20000), rateHz: 8000, from: math.Inf(-1), to: 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
			out := hear(t, e, c.pcm, c.rateHz, c.rateHz/50)
			if len(out) != 1 || len(out[0].pcm) != len(c.pcm)*16000/c.rateHz {
				t.Fatalf("%d samples at %d Hz became %d stretches", len(c.pcm), c.rateHz, len(out))
			}
			if got := syllables(out[0].pcm); got < c.from || got > c.to {
				t.Errorf("comes out at %.1f dBFS, want %.0f to %.0f", got, c.from, c.to)
			}
			ch := e.Channel()
			if ch.Known() != (c.highHz > 0) {
				t.Fatalf("channel %+v", ch)
			}
			if ch.Known() && (ch.LowHz != c.lowHz || ch.HighHz != c.highHz || ch.HumHz != c.hum || ch.Clipped != c.clipped) {
				t.Errorf("channel %+v", ch)
			}
		})
	}
}

// What is no speech is not filled as if it were: a busy tone was "all oh oh oh".
func TestFrontEndFillsNoTones(t *testing.T) {
	for name, hz := range map[string][]float64{
		"dial tone": {350, 440}, "busy": {480, 620}, "ringing": {440, 480}, "ringing in Europe": {425},
		"DTMF 5": {770, 1336}, "fax answering": {2100}, "fax calling": {1100},
	} {
		pcm := added(make([]int16, 2*8000), 8000, 2000, hz...)
		out := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000}), pcm, 8000, 160)[0].pcm
		if got := bandLevel(out[16000:len(out)-1600], 16000, 4700, 8000); got > 4 {
			t.Errorf("%s: the upper band has an rms of %.1f", name, got)
		}
	}
	// The voice after it is.
	pcm := slices.Concat(added(make([]int16, 8000), 8000, 2000, 480, 620), say(2*8000, 8000, 60, 3800))
	out := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000}), pcm, 8000, 160)[0].pcm
	if got := bandLevel(out[24000:], 16000, 4700, 8000); got < 20 {
		t.Errorf("speech after a tone: the upper band has an rms of %.1f", got)
	}
}

// A leg's memory is counted once, by hundreds of calls.
func TestFrontEndIsSmall(t *testing.T) {
	for _, in := range []int{8000, 16000, 48000} {
		pcm := say(in, in, 60, 3800)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
		for at := 0; at < len(pcm); at += in / 50 {
			if _, err := e.Process(Frame{Start: Span(at, in), Rate: in, PCM: pcm[at : at+in/50]}); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		size := after.TotalAlloc - before.TotalAlloc
		if size > 100<<10 {
			t.Errorf("%d Hz: a leg takes %d KB", in, size>>10)
		}
	}
}
