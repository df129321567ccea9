package audio

import (
	"math"
	"slices"
	"testing"
	"time"
)

func survey(t *testing.T, pcm []int16, rateHz int) Report {
	t.Helper()
	s, err := NewSurvey(16000)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(pcm); at += rateHz / 20 {
		f := Frame{Start: Span(at, rateHz), Rate: rateHz, PCM: pcm[at:min(at+rateHz/20, len(pcm))]}
		if err := s.Hear(f); err != nil {
			t.Fatal(err)
		}
	}
	return s.Report()
}

// phone is six seconds of speech on a telephone: two sentences and pauses, over
// noise of the given level.
func phone(noiseDB float64) []int16 {
	pcm := slices.Concat(make([]int16, 4000), say(16000, 8000, 300, 3400), make([]int16, 8000), say(16000, 8000, 300, 3400), make([]int16, 4000))
	noise := band{seed: 11}
	for i := range pcm {
		pcm[i] += int16(math.Round(float64(noise.noise()) * math.Sqrt(3) * 32768 * math.Pow(10, noiseDB/20)))
	}
	return pcm
}

func amplified(pcm []int16, db float64) []int16 {
	out := make([]int16, len(pcm))
	for i, v := range pcm {
		out[i] = clip16(float32(float64(v) * math.Pow(10, db/20)))
	}
	return out
}

func TestSurveyMeasuresARecording(t *testing.T) {
	clean := phone(-70)
	level := survey(t, clean, 8000).SpeechDB
	offset := make([]int16, len(clean))
	for i, v := range clean {
		offset[i] = v + 3277
	}
	law := func(g G711) []int16 { return g.Decode(nil, g.Encode(nil, clean)) }
	tel := Channel{RateHz: 8000, LowHz: 300, HighHz: 3400}
	near := func(name string, got, want, by float64) {
		t.Helper()
		if math.Abs(got-want) > by || math.IsNaN(got) {
			t.Errorf("%s: %.3f, want %.3f", name, got, want)
		}
	}
	for _, c := range []struct {
		name    string
		pcm     []int16
		speech  float64
		noise   float64
		direct  float64
		clipped bool
		codec   string
		hum     int
	}{
		{name: "clean", pcm: clean, speech: level, noise: -70},
		{name: "noisy", pcm: phone(-50), speech: level, noise: -50},
		{name: "30 dB quieter", pcm: amplified(phone(-62), -30), speech: level - 30, noise: -90},
		{name: "clipped", pcm: amplified(clean, 30), speech: -5, noise: -40, clipped: true},
		{name: "clipped before it was made quiet", pcm: amplified(amplified(clean, 30), -20), speech: -25, noise: -60, clipped: true},
		{name: "direct current", pcm: offset, speech: level, noise: -70, direct: 0.1},
		{name: "µ-law", pcm: law(MuLaw), speech: level, noise: -70, codec: "G.711 µ-law"},
		{name: "A-law", pcm: law(ALaw), speech: level, noise: -70, codec: "G.711 A-law"},
		{name: "hum", pcm: humming(clean, 8000, 50, 60), speech: level, noise: -60, hum: 50},
	} {
		r := survey(t, c.pcm, 8000)
		near(c.name+": speech", r.SpeechDB, c.speech, 2.5)
		near(c.name+": noise", r.NoiseDB, c.noise, 2.5)
		near(c.name+": direct current", r.Direct, c.direct, 0.005)
		near(c.name+": speaking", r.Speaking.Seconds(), 3.2, 1.2)
		if (r.Clipped > 0.001) != c.clipped {
			t.Errorf("%s: clipped %.5f", c.name, r.Clipped)
		}
		if r.Codec != c.codec || r.Heard != 6*time.Second || r.Silent > 0.01 {
			t.Errorf("%s: codec %q, heard %v, silent %.2f", c.name, r.Codec, r.Heard, r.Silent)
		}
		want := tel
		want.HumHz = c.hum
		switch {
		case c.noise >= -50 && !c.clipped:
			want.HighHz = 4000 // so much noise is taken for what a 4 kHz channel has there
		case c.clipped:
			want.LowHz, want.HighHz = 0, 4000 // what is cut off rings everywhere
		}
		if n := len(r.Channels); n == 0 {
			t.Errorf("%s: no channel", c.name)
		} else if got := r.Channels[n-1].Channel; got.LowHz != want.LowHz || got.HighHz != want.HighHz || got.HumHz != want.HumHz {
			t.Errorf("%s: %+v, want %+v", c.name, r.Channels, want)
		}
	}
}

func TestSurveyOfNoSpeechReportsNone(t *testing.T) {
	noise := band{seed: 4}
	hiss := make([]int16, 16000)
	for i := range hiss {
		hiss[i] = int16(30 * noise.noise())
	}
	for name, pcm := range map[string][]int16{"nothing": nil, "one sample": {1}, "silence": make([]int16, 16000), "noise": hiss} {
		r := survey(t, pcm, 8000)
		if r.Speaking != 0 || !math.IsInf(r.SpeechDB, -1) || len(r.Channels) != 0 || r.Clipped != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := survey(t, make([]int16, 16000), 8000); r.Silent != 1 {
		t.Errorf("silence is silent for %.2f", r.Silent)
	}
}

func TestSurveyListsTheChannelsOfACall(t *testing.T) {
	r := survey(t, slices.Concat(say(6*16000, 16000, 60, 7900), say(9*16000, 16000, 300, 3400)), 16000)
	if len(r.Channels) != 2 || r.Channels[0].HighHz != 8000 || r.Channels[1].HighHz != 3400 || r.Channels[1].LowHz != 300 {
		t.Fatalf("%+v", r.Channels)
	}
	if at := r.Channels[1].At.Seconds(); at < 6 || at > 9 {
		t.Errorf("the transfer was noticed at %.1f s", at)
	}
}
