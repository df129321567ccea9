package extend

import (
	"math"
	"math/rand/v2"
	"testing"
)

// levelBetween is in dB, between two frequencies.
func levelBetween(x []float32, low, high float64) float64 {
	sum, n := 0.0, 0.0
	for b, v := range meanPower(x) {
		if hz := float64(b) * binHz; hz >= low && hz <= high {
			sum, n = sum+float64(v), n+1
		}
	}
	return 10 * math.Log10(sum/n+1e-9)
}

func TestSteadyNoiseIsTakenDownAndSpeechKept(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	noise := make([]float32, 3*RateHz)
	for i := range noise {
		noise[i] = float32(150 * r.NormFloat64())
	}
	out := run(noise, func() int { return 320 }, always(telephone))
	fell := levelBetween(noise[RateHz:], 500, 3000) - levelBetween(out[RateHz:], 500, 3000)
	if fell < 5 || fell > 8.5 {
		t.Errorf("noise alone fell by %.1f dB, want 5 to 8", fell)
	}

	speech := voice(3 * RateHz)
	noisy := make([]float32, len(speech))
	for i := range noisy {
		noisy[i] = speech[i] + noise[i]/10
	}
	out = run(noisy, func() int { return 320 }, always(telephone))
	if d := levelBetween(noisy[RateHz:], 500, 3000) - levelBetween(out[RateHz:], 500, 3000); d < -0.5 || d > 0.5 {
		t.Errorf("speech changed by %.1f dB", d)
	}
}

func TestKnownNoiseHoldsOverAGap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	e := New(Default())
	noise := make([]float32, 2*RateHz)
	for i := range noise {
		noise[i] = float32(150 * r.NormFloat64())
	}
	first := e.Flush(e.Process(nil, noise, telephone))
	e.Reset()
	second := e.Flush(e.Process(nil, noise[:RateHz/10], telephone))
	if d := levelBetween(second, 500, 3000) - levelBetween(first[RateHz:], 500, 3000); d > 1.5 {
		t.Errorf("after the gap the noise is %.1f dB louder", d)
	}
}
