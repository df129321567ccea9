package audio

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// rates are pairs that calls meet, and odd ones.
var rates = [][2]int{
	{8000, 16000},
	{16000, 8000},
	{48000, 16000},
	{44100, 16000},
	{11025, 16000},
	{22050, 16000},
	{16000, 16000},
	{32000, 16000},
	{16000, 48000},
	{8000, 48000},
	{48000, 8000},
	{12000, 16000},
	{8001, 16000},
}

// resampler gives a function that resamples one whole stream after another.
func resampler(t testing.TB, in, out int) func(x []float32) []float32 {
	t.Helper()
	r, err := NewResampler(in, out)
	if err != nil {
		t.Fatal(err)
	}
	return func(x []float32) []float32 {
		r.Reset()
		return r.Flush(r.Process(nil, x))
	}
}

// sine is n samples of a sine of amplitude 1.
func sine(n int, hz float64, rateHz int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.Sin(2 * math.Pi * hz * float64(i) / float64(rateHz)))
	}
	return x
}

// amplitude is that of the sine of hz in the middle of x, and what is left
// beside it, as a sine's amplitude of the same power. Least squares over sine,
// cosine.
func amplitude(x []float32, hz float64, rateHz int) (tone, rest float64) {
	x = x[len(x)/4 : len(x)*3/4]
	var ss, cc, sc, xs, xc, xx float64
	for i, v := range x {
		s, c := math.Sincos(2 * math.Pi * hz * float64(i) / float64(rateHz))
		ss, cc, sc = ss+s*s, cc+c*c, sc+s*c
		xs, xc, xx = xs+float64(v)*s, xc+float64(v)*c, xx+float64(v)*float64(v)
	}
	det := ss*cc - sc*sc
	if det < 1e-9 { // hz is 0
		return 0, math.Sqrt(2 * xx / float64(len(x)))
	}
	a, b := (xs*cc-xc*sc)/det, (xc*ss-xs*sc)/det
	power := max(0, xx-a*xs-b*xc)
	return math.Hypot(a, b), math.Sqrt(2 * power / float64(len(x)))
}

func dB(a float64) float64 { return 20 * math.Log10(a+1e-12) }

// A sine below 85 % of the lower Nyquist frequency comes out as itself, with
// no image or alias above -90 dB; one above that frequency does not come out.
func TestResamplerStopsBy90dB(t *testing.T) {
	for _, r := range rates {
		in, out := r[0], r[1]
		if in == out {
			continue
		}
		t.Run(fmt.Sprintf("%d to %d", in, out), func(t *testing.T) {
			resample := resampler(t, in, out)
			nyquist := float64(min(in, out)) / 2
			for hz := 0.011 * nyquist; hz < 0.85*nyquist; hz += 0.0437 * nyquist {
				y := resample(sine(in/8, hz, in))
				got, rest := amplitude(y, hz, out)
				if math.Abs(dB(got)) > 0.01 {
					t.Errorf("%.0f Hz passes with %.3f dB", hz, dB(got))
				}
				if dB(rest) > -90 {
					t.Errorf("%.0f Hz leaves images of %.1f dB", hz, dB(rest))
				}
			}
			for hz := nyquist; hz < float64(in)/2; hz += 0.0437 * nyquist {
				y := resample(sine(in/8, hz, in))
				if _, all := amplitude(y, 0, out); dB(all) > -90 {
					t.Errorf("%.0f Hz comes through with %.1f dB", hz, dB(all))
				}
			}
		})
	}
}

// Sample n out is the moment of sample n·in/out in: a sine keeps its phase.
func TestResamplerTakesItsDelayOut(t *testing.T) {
	for _, r := range rates {
		in, out := r[0], r[1]
		const hz = 523.0
		y := resampler(t, in, out)(sine(in/2, hz, in))
		for i, want := range sine(out/2, hz, out)[:out/4] {
			// The start rings, for the sine begins there out of silence.
			if i > out/50 && math.Abs(float64(y[i]-want)) > 1e-3 {
				t.Fatalf("%d to %d: sample %d is %.4f, want %.4f", in, out, i, y[i], want)
			}
		}
	}
}

func TestResamplerOutputDoesNotDependOnPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.SampledFrom(rates).Draw(t, "rates")
		if rapid.Bool().Draw(t, "any rate") {
			r = [2]int{rapid.IntRange(8, 48).Draw(t, "in") * 1000, rapid.IntRange(8, 48).Draw(t, "out") * 1000}
		}
		x := make([]float32, rapid.IntRange(0, 3000).Draw(t, "n"))
		noise := band{seed: 7}
		for i := range x {
			x[i] = noise.noise()
		}
		whole, err := NewResampler(r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		want := whole.Flush(whole.Process(nil, x))
		if n := (len(x)*r[1] + r[0] - 1) / r[0]; len(want) != n {
			t.Fatalf("%d samples at %d Hz give %d at %d, want %d", len(x), r[0], len(want), r[1], n)
		}

		pieces := whole // a reset resampler is a new one
		pieces.Reset()
		var got []float32
		for rest := x; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			got = pieces.Process(got, rest[:n])
			rest = rest[n:]
		}
		if got = pieces.Flush(got); !slices.Equal(got, want) {
			t.Fatal("the output depends on the pieces")
		}
	})
}

func TestResamplerDoesNotDrift(t *testing.T) {
	r, err := NewResampler(44100, 16000)
	if err != nil {
		t.Fatal(err)
	}
	const frames, frameLen = 60 * 50, 882 // a minute
	x := make([]float32, frameLen)
	var y []float32
	n := 0
	for range frames {
		y = r.Process(y[:0], x)
		n += len(y)
	}
	n += len(r.Flush(nil))
	if n != 60*16000 {
		t.Errorf("a minute became %d samples, want %d", n, 60*16000)
	}
}

func TestResamplerRefusesRatesOutOfRange(t *testing.T) {
	for _, r := range [][2]int{{0, 16000}, {7999, 16000}, {96000, 16000}, {8000, 48001}, {-8000, 16000}} {
		if _, err := NewResampler(r[0], r[1]); err == nil {
			t.Errorf("%d to %d Hz was accepted", r[0], r[1])
		}
	}
}

func TestResamplerAllocatesNothingInSteadyState(t *testing.T) {
	for _, r := range rates {
		rs, err := NewResampler(r[0], r[1])
		if err != nil {
			t.Fatal(err)
		}
		x := make([]float32, r[0]/50)
		y := make([]float32, 0, r[1])
		for range 10 {
			rs.Process(y, x)
		}
		if n := testing.AllocsPerRun(100, func() { rs.Process(y, x) }); n > 0 {
			t.Errorf("%d to %d Hz: %v allocations a frame", r[0], r[1], n)
		}
	}
}

func BenchmarkResampler(b *testing.B) {
	for _, r := range rates[:5] {
		b.Run(fmt.Sprintf("%dto%d", r[0], r[1]), func(b *testing.B) {
			rs, err := NewResampler(r[0], r[1])
			if err != nil {
				b.Fatal(err)
			}
			x := make([]float32, r[0]/50)
			y := make([]float32, 0, r[1])
			b.ReportAllocs()
			for b.Loop() { // one second of audio
				for range 50 {
					rs.Process(y, x)
				}
			}
		})
	}
}
