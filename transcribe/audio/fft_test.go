package audio

import (
	"math"
	"testing"
)

func TestSpectrumIsThatOfTheDefinition(t *testing.T) {
	noise := band{seed: 5}
	for _, n := range []int{8, 64, 256, 512} {
		s := newSpectrum(n)
		x := make([]float32, n)
		for i := range x {
			x[i] = 1000 * noise.noise()
		}
		got := make([]float32, n/2+1)
		s.power(got, x)
		for k := range got {
			var re, im float64
			for i, v := range x {
				sin, cos := math.Sincos(2 * math.Pi * float64(k*i%n) / float64(n))
				re += float64(v*s.window[i]) * cos
				im += float64(v*s.window[i]) * sin
			}
			want := (re*re + im*im) / float64(n*n)
			if k > 0 && k < n/2 {
				want *= 2
			}
			if math.Abs(float64(got[k])-want) > 1e-4*want+1 {
				t.Errorf("n=%d: bin %d is %g, want %g", n, k, got[k], want)
			}
		}
	}
}

func TestSpectrumHoldsThePower(t *testing.T) {
	const n = 512
	s, sum := newSpectrum(n), 0.0
	x, p := make([]float32, n), make([]float32, n/2+1)
	for i := range x {
		x[i] = float32(1000 * math.Sqrt2 * math.Sin(2*math.Pi*1003*float64(i)/16000))
	}
	s.power(p, x)
	for _, v := range p {
		sum += float64(v)
	}
	if rms := math.Sqrt(sum); math.Abs(rms-1000) > 10 {
		t.Errorf("a tone of 1000 rms has %.0f", rms)
	}
}

func BenchmarkSpectrum(b *testing.B) {
	s := newSpectrum(512)
	x, p := make([]float32, 512), make([]float32, 257)
	for i := range x {
		x[i] = float32(i % 37)
	}
	for b.Loop() {
		s.power(p, x)
	}
}
