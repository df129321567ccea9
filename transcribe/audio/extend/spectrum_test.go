package extend

import (
	"math"
	"math/cmplx"
	"math/rand/v2"
	"testing"
)

func TestPowerIsThatOfTheFourierSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var first, second [hop]float32
	var x [window]float64
	for i := range hop {
		first[i], second[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
		x[i], x[hop+i] = float64(first[i]), float64(second[i])
	}
	var got Power
	var s [Bins]complex64
	fft.spectrum(&s, &got, &first, &second)
	for k := range Bins {
		sum := complex(0, 0)
		for i, v := range x {
			sum += complex(v*math.Sin(math.Pi*(float64(i)+0.5)/window), 0) * cmplx.Rect(1, -2*math.Pi*float64(k*i)/window)
		}
		want := (real(sum)*real(sum) + imag(sum)*imag(sum)) / hop
		if math.Abs(want-float64(got[k])) > 1e-4*(1+want) {
			t.Errorf("bin %d has %v, want %v", k, got[k], want)
		}
		if cmplx.Abs(complex128(s[k])-sum) > 1e-4*(1+cmplx.Abs(sum)) {
			t.Errorf("bin %d is %v, want %v", k, s[k], sum)
		}
	}
}

func TestSamplesAreThoseOfTheFourierSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var s [Bins]complex64
	for k := range s {
		s[k] = complex(float32(r.NormFloat64()), float32(r.NormFloat64()))
	}
	s[0], s[hop] = complex(real(s[0]), 0), complex(real(s[hop]), 0)
	var halves [2][hop]float32
	fft.samples(&halves[0], &halves[1], &s)
	for i := range window {
		sum := 0.0
		for k := range window {
			v := complex128(s[min(k, window-k)])
			if k > hop {
				v = cmplx.Conj(v)
			}
			sum += real(v * cmplx.Rect(1, 2*math.Pi*float64(k*i)/window))
		}
		want := sum / window * math.Sin(math.Pi*(float64(i)+0.5)/window)
		if got := float64(halves[i/hop][i%hop]); math.Abs(want-got) > 1e-5 {
			t.Errorf("sample %d is %v, want %v", i, got, want)
		}
	}
}

func TestNoiseIsPutInAsLoudAsWanted(t *testing.T) {
	net := NewNet(4) // predicts its bias whatever it hears
	for i := range net.OutScale {
		net.OutScale[i] = 1
		net.OutMean[i] = float32(math.Log(100*100) - fillGain)
	}
	e := New(net)
	out := e.Process(nil, make([]float32, 4*RateHz), Edges{HighHz: 4000})
	for b, p := range meanPower(out[RateHz:]) {
		hz := float64(b) * binHz
		if db := 10 * math.Log10(float64(p)+1e-9); hz > 4000 && hz < 7900 && math.Abs(db-40) > 1 {
			t.Errorf("%.0f Hz has %.1f dB, want 40", hz, db)
		}
	}
}

func meanPower(x []float32) (mean Power) {
	frames := Powers(x)
	for _, p := range frames {
		for b, v := range p {
			mean[b] += v / float32(len(frames))
		}
	}
	return mean
}
