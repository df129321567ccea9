package audio

import (
	"math"
	"slices"
	"testing"
)

// humming adds the mains' hum to pcm: the line, and multiples that fall off.
func humming(pcm []int16, rateHz int, mainsHz, rms float64) []int16 {
	out := make([]int16, len(pcm))
	for i, v := range pcm {
		sum := 0.0
		for k := 1.0; k <= 5; k++ {
			sum += math.Sin(2*math.Pi*mainsHz*k*float64(i)/float64(rateHz)+k) / k
		}
		out[i] = clip16(float32(float64(v) + rms*1.17*sum))
	}
	return out
}

// gliding is n samples of a voice whose pitch never rests, in bursts of 150 ms
// in every quarter second, with the given rms.
func gliding(n, rateHz int, rms float64) []int16 {
	pcm := make([]int16, n)
	turn := 0.0
	for i := range pcm {
		t := float64(i) / float64(rateHz)
		turn += 2 * math.Pi * (130 + 25*math.Sin(7*t)) / float64(rateHz)
		if math.Mod(t, 0.25) < 0.15 {
			for _, k := range []float64{1, 3, 7, 14} {
				pcm[i] += int16(rms / math.Sqrt2 * math.Sin(k*turn))
			}
		}
	}
	return pcm
}

func TestFrontEndTakesHumOut(t *testing.T) {
	for _, rateHz := range []int{8000, 16000, 44100} {
		for _, mains := range []float64{50, 60, 49.95} {
			clean := gliding(8*rateHz, rateHz, 1500)
			e := newFrontEnd(t, FrontEndConfig{RateHz: 8000, Filling: Unfilled})
			out := hear(t, e, humming(clean, rateHz, mains, 400), rateHz, rateHz/50)[0].pcm
			if got, want := e.Channel().HumHz, int(math.Round(mains)); got != want {
				t.Errorf("%d Hz: hum of %v Hz is taken for %d", rateHz, mains, got)
			}
			// Between the bursts, two seconds before the end.
			quiet := 0.0
			n := 0
			for i := 6 * 8000; i < len(out); i++ {
				if at := math.Mod(float64(i)/8000, 0.25); at > 0.17 && at < 0.24 {
					quiet += float64(out[i]) * float64(out[i])
					n++
				}
			}
			if rms := math.Sqrt(quiet / float64(n)); rms > 120 {
				t.Errorf("%d Hz: hum of %v Hz with an rms of 400 leaves %.0f in the pauses", rateHz, mains, rms)
			}
		}
	}
}

func TestFrontEndLeavesWhatIsNoHumAlone(t *testing.T) {
	noise := band{seed: 3}
	for name, sound := range map[string]func(t float64) float64{
		"silence":           func(float64) float64 { return 0 },
		"noise":             func(float64) float64 { return 2000 * float64(noise.noise()) },
		"a gliding voice":   func(t float64) float64 { return 3000 * math.Sin(2*math.Pi*(110*t-8*math.Cos(3*t))) },
		"dial tone":         func(t float64) float64 { return 3000 * (math.Sin(2*math.Pi*350*t) + math.Sin(2*math.Pi*440*t)) },
		"a beeping machine": func(t float64) float64 { return 3000 * math.Sin(2*math.Pi*100*t) * max(0, math.Sin(9*t)) },
	} {
		pcm := make([]int16, 10*8000)
		for i := range pcm {
			pcm[i] = int16(sound(float64(i) / 8000))
		}
		e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
		hear(t, e, pcm, 8000, 160)
		if got := e.Channel().HumHz; got != 0 {
			t.Errorf("%s is taken for hum of %d Hz", name, got)
		}
	}
}

func TestFrontEndStopsTakingHumOutThatIsGone(t *testing.T) {
	e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
	pcm := humming(slices.Concat(gliding(4*8000, 8000, 500), make([]int16, 36*8000)), 8000, 50, 300)
	for i := 4 * 8000; i < len(pcm); i++ {
		pcm[i] = 0
	}
	hear(t, e, pcm[:4*8000], 8000, 160)
	if e.Channel().HumHz != 50 {
		t.Fatalf("after 4 s of hum: %+v", e.Channel())
	}
	e = newFrontEnd(t, FrontEndConfig{RateHz: 16000})
	hear(t, e, pcm, 8000, 160)
	if e.Channel().HumHz != 0 {
		t.Errorf("half a minute after it has gone: %+v", e.Channel())
	}
}
