package audio

import (
	"math"
	"slices"
	"testing"
)

// say is n samples of syllables at 4 Hz, a vowel and a fricative each, of what
// a channel from lowHz to highHz carries of them, at -24 dBFS while they last,
// and of nothing else but rounding.
func say(n, rateHz int, lowHz, highHz float64) []int16 {
	type partial struct{ hz, size, phase float64 }
	var vowel, hiss []partial
	add := func(to *[]partial, hz, size float64) {
		if hz >= lowHz && hz <= highHz && hz < float64(rateHz)/2 {
			*to = append(*to, partial{2 * math.Pi * hz / float64(rateHz), size, float64(len(*to) * len(*to))})
		}
	}
	for k := 1.0; k < 60; k++ { // a voice of 127 Hz, falling by 6 dB an octave from 500 Hz on
		add(&vowel, 127*k, min(1, 4/k))
	}
	for hz := 2400.0; hz < 7800; hz += 37 {
		add(&hiss, hz, 0.15)
	}
	pcm := make([]int16, n)
	for i := range pcm {
		v := 0.0
		at := math.Mod(float64(i)/float64(rateHz), 0.25)
		voice, loud := vowel, 0.5-0.5*math.Cos(2*math.Pi*at/0.13)
		if at > 0.13 {
			voice, loud = hiss, 0.5-0.5*math.Cos(2*math.Pi*(at-0.13)/0.11)
		}
		if at > 0.24 {
			continue
		}
		for _, p := range voice {
			v += p.size * math.Cos(p.hz*float64(i)+p.phase)
		}
		pcm[i] = int16(math.Round(1000 * loud * v))
	}
	return pcm
}

func TestFrontEndFindsWhatTheChannelCarries(t *testing.T) {
	for _, c := range []struct {
		name          string
		rateHz        int
		lowHz, highHz float64
		want          Channel
	}{
		{"analogue line", 8000, 300, 3400, Channel{RateHz: 8000, LowHz: 300, HighHz: 3400}},
		{"8 kHz recording", 8000, 60, 3800, Channel{RateHz: 8000, LowHz: 0, HighHz: 4000}},
		{"8 kHz without lows", 8000, 300, 3800, Channel{RateHz: 8000, LowHz: 300, HighHz: 4000}},
		{"wide band", 16000, 60, 7900, Channel{RateHz: 16000, LowHz: 0, HighHz: 8000}},
		{"analogue line stored wide", 16000, 300, 3400, Channel{RateHz: 16000, LowHz: 300, HighHz: 3400}},
		{"8 kHz recording stored wide", 16000, 60, 3800, Channel{RateHz: 16000, LowHz: 0, HighHz: 4000}},
		{"wide band at 48 kHz", 48000, 60, 7900, Channel{RateHz: 48000, LowHz: 0, HighHz: 8000}},
		{"analogue line at 44.1 kHz", 44100, 300, 3400, Channel{RateHz: 44100, LowHz: 300, HighHz: 3400}},
		{"11 kHz recording", 11025, 60, 5300, Channel{RateHz: 11025, LowHz: 0, HighHz: 5512}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spokenHz := min(c.rateHz, 16000)
			seconds := 2
			if spokenHz > 8000 {
				seconds = 5 // a quiet recording's rounding looks like an upper band for a while
			}
			said := say(seconds*spokenHz, spokenHz, c.lowHz, c.highHz)
			if spokenHz < c.rateHz {
				said = newResampled(t, said, spokenHz, c.rateHz)
			}
			for _, db := range []float64{0, -30} {
				pcm := make([]int16, len(said))
				for i, v := range said {
					pcm[i] = int16(math.Round(float64(v) * math.Pow(10, db/20)))
				}
				e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
				hear(t, e, pcm, c.rateHz, c.rateHz/50)
				got := e.Channel()
				got.NoiseDB = 0
				if got != c.want {
					t.Errorf("at %.0f dB: %+v, want %+v", db, got, c.want)
				}
			}
		})
	}
}

func TestFrontEndNoticesThatTheChannelChanges(t *testing.T) {
	e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
	at := 0
	for _, step := range []struct {
		why           string
		lowHz, highHz float64
	}{
		{"a wide call", 60, 7900}, {"transferred to a telephone", 300, 3400}, {"and back", 60, 7900},
	} {
		pcm := say(6*16000, 16000, step.lowHz, step.highHz)
		for i := 0; i < len(pcm); i += 320 {
			if _, err := e.Process(Frame{Start: Span(at, 16000), Rate: 16000, PCM: pcm[i : i+320]}); err != nil {
				t.Fatal(err)
			}
			at += 320
		}
		want := Channel{RateHz: 16000, LowHz: 0, HighHz: 8000}
		if step.lowHz > 100 {
			want.LowHz, want.HighHz = 300, 3400
		}
		got := e.Channel()
		got.NoiseDB = 0
		if got != want {
			t.Errorf("%s: %+v, want %+v", step.why, got, want)
		}
	}
}

func TestFrontEndMeasuresTheNoise(t *testing.T) {
	noise := band{seed: 7}
	for _, want := range []float64{-70, -50, -40} {
		pcm := say(4*8000, 8000, 60, 3800)
		for i := range pcm { // evenly spread noise has an rms of its size over √3
			pcm[i] += int16(math.Round(float64(noise.noise()) * math.Sqrt(3) * 32768 * math.Pow(10, want/20)))
		}
		pause := make([]int16, 3*8000)
		for i := range pause {
			pause[i] = int16(math.Round(float64(noise.noise()) * math.Sqrt(3) * 32768 * math.Pow(10, want/20)))
		}
		e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
		hear(t, e, slices.Concat(pcm, pause), 8000, 160)
		if got := e.Channel().NoiseDB; math.Abs(got-want) > 3 {
			t.Errorf("noise of %.0f dBFS is taken for %.0f", want, got)
		}
	}
}

func TestFrontEndKnowsNoChannelBeforeTheFirstWord(t *testing.T) {
	e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
	if got := e.Channel(); got != (Channel{}) {
		t.Errorf("before any audio: %+v", got)
	}
	hear(t, e, make([]int16, 16000), 8000, 160)
	if got, want := e.Channel(), (Channel{RateHz: 8000}); got != want || got.Known() {
		t.Errorf("after silence: %+v, want %+v", got, want)
	}
}

func TestFrontEndSaysThatSpeechIsClipped(t *testing.T) {
	for gain, want := range map[float64]bool{1: false, 4: false, 20: true} {
		pcm := say(4*8000, 8000, 60, 3800)
		for i, v := range pcm {
			pcm[i] = clip16(float32(float64(v) * gain))
		}
		e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
		hear(t, e, pcm, 8000, 160)
		if got := e.Channel().Clipped; got != want {
			t.Errorf("amplified by %v: clipped %v, peak %d", gain, got, slices.Max(pcm))
		}
		hear(t, e, slices.Concat(make([]int16, len(pcm)), say(12*8000, 8000, 60, 3800)), 8000, 160)
		if e.Channel().Clipped {
			t.Errorf("amplified by %v: still clipped when it has been clean for long", gain)
		}
	}
}

// The property test of frames is too short for the channel to be found; here it
// is found, changes, hums and clips, and still only samples count.
func TestFramesDoNotDecideWhatIsFound(t *testing.T) {
	pcm := slices.Concat(say(16000, 16000, 60, 7900), humming(say(2*16000, 16000, 300, 3400), 16000, 50, 300), amplified(say(16000, 16000, 60, 3800), 25))
	whole := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
	want := hear(t, whole, pcm, 16000, len(pcm))
	for _, n := range []int{1, 7, 320, 511, 4000} {
		e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
		got := hear(t, e, pcm, 16000, n)
		if !slices.Equal(got[0].pcm, want[0].pcm) {
			t.Errorf("frames of %d samples: another output", n)
		}
		if e.Channel() != whole.Channel() {
			t.Errorf("frames of %d samples: %+v, want %+v", n, e.Channel(), whole.Channel())
		}
	}
}
