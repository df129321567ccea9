package audio

import (
	"fmt"
	"math"
)

// shape is how sharply a resampler tells what it keeps from what it must not.
type shape struct {
	stopDB   float64 // how far the rest is kept down
	passBand float64 // of the lower Nyquist frequency, kept flat
	fold     bool    // what lies near that frequency may be mirrored about it
}

const (
	// stopBandDB is how far what lies above the lower of the two Nyquist
	// frequencies is kept down; 16-bit audio has 96 dB.
	stopBandDB = 96
	// passBand is how much of the band up to that frequency is kept flat. A
	// telephone channel ends at 3.4 of its 4 kHz, so more would only cost taps.
	passBand = 0.85
)

// Resampler changes the sample rate of a stream of mono samples: a polyphase
// finite impulse response filter under a Kaiser window (Oppenheim and Schafer,
// Discrete-Time Signal Processing, 7.5.3), flat to 85 % of the lower Nyquist
// frequency and 90 dB or more down from there on.
//
// Output sample n stands for the same moment as input sample n·in/out: the
// filter's delay is taken out, which is why the last few milliseconds come
// with Flush. What comes out does not depend on how the input was cut into
// pieces. A Resampler is used by one goroutine at a time.
type Resampler struct {
	up, down int       // the rates' ratio in lowest terms: out/in
	half     int       // input samples that an output needs on either side
	bank     []float32 // up phases of 2·half taps
	copies   bool      // phase 0 is the input sample itself
	buf      []float32 // input that outputs to come still need
	base     int       // where in buf the next output's taps begin
	phase    int       // of the next output, in 1/up input samples
	in, out  int64     // samples since the start
}

// NewResampler resamples from inHz to outHz, each from 8000 to 48000.
//
// The filter takes memory in proportion to the larger number of the ratio in
// lowest terms: under 100 KB for the rates in use, up to 8 MB for odd ones.
func NewResampler(inHz, outHz int) (*Resampler, error) {
	return newResampler(inHz, outHz, shape{stopDB: stopBandDB, passBand: passBand})
}

// NewSpeechResampler is NewResampler for speech that goes on to a recogniser,
// which looks at bands of a hundred Hz and more. It is flat to 90 % of the
// lower Nyquist frequency, mirrors a little of what lies near that frequency
// about it, and keeps the rest 60 dB down; at twice the rate every other
// sample is the input's own. That takes a quarter of the time there and half of
// it elsewhere; see BenchmarkFrontEnd.
func NewSpeechResampler(inHz, outHz int) (*Resampler, error) {
	return newResampler(inHz, outHz, shape{stopDB: 60, passBand: 0.9, fold: true})
}

func newResampler(inHz, outHz int, form shape) (*Resampler, error) {
	for _, hz := range []int{inHz, outHz} {
		if hz < minRateHz || hz > maxRateHz {
			return nil, fmt.Errorf("resampling %d to %d Hz: rates from %d to %d Hz are supported", inHz, outHz, minRateHz, maxRateHz)
		}
	}
	d := gcd(inHz, outHz)
	r := &Resampler{up: outHz / d, down: inHz / d}
	r.design(float64(inHz), float64(outHz), form)
	r.Reset()
	return r, nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// design fills the bank. Phase p, tap j weighs the input sample that lies
// p/up - (j-half+1) input samples before the output.
func (r *Resampler) design(inHz, outHz float64, form shape) {
	if r.up == r.down {
		return
	}
	stop := min(inHz, outHz) / 2
	pass := stop * form.passBand
	if form.fold {
		stop += stop - pass
	}
	transition := 2 * math.Pi * (stop - pass) / inHz // radians an input sample
	r.half = int(math.Ceil((form.stopDB - 7.95) / (2.285 * transition) / 2))
	beta := 0.1102 * (form.stopDB - 8.7)
	cut := (pass + stop) / inHz // twice the cut-off, in cycles an input sample

	// Where the cut-off lies at the input's Nyquist frequency, an input sample
	// is its own output.
	r.copies = math.Abs(cut-1) < 1e-9
	taps := 2 * r.half
	r.bank = make([]float32, r.up*taps)
	for p := range r.up {
		phase := make([]float64, taps)
		sum := 0.0
		for j := range phase {
			t := float64(p)/float64(r.up) + float64(r.half-1-j)
			phase[j] = sinc(cut*t) * kaiser(t/float64(r.half), beta)
			sum += phase[j]
		}
		for j, v := range phase {
			r.bank[p*taps+j] = float32(v / sum) // every phase passes DC alike
		}
	}
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiser is the window at x, from -1 to 1, not normalised.
func kaiser(x, beta float64) float64 {
	if x <= -1 || x >= 1 {
		return 0
	}
	return besselI0(beta * math.Sqrt(1-x*x))
}

// besselI0 is the modified Bessel function of order 0 by its power series.
func besselI0(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-17; k++ {
		term *= x / 2 / k * x / 2 / k
		sum += term
	}
	return sum
}

// Reset starts a new stream.
func (r *Resampler) Reset() {
	r.base, r.phase, r.in, r.out = 0, 0, 0, 0
	r.buf = r.buf[:0]
	if r.half > 0 {
		r.buf = append(r.buf, make([]float32, r.half-1)...) // silence before the start
	}
}

// Process takes src and appends to dst the samples that are complete with it.
// It allocates only while dst and its own memory grow to the size of the
// pieces.
func (r *Resampler) Process(dst, src []float32) []float32 {
	r.in += int64(len(src))
	if r.half == 0 { // same rate
		r.out = r.in
		return append(dst, src...)
	}
	r.buf = append(r.buf, src...)
	return r.drain(dst, math.MaxInt64)
}

// Flush ends the stream and appends the samples that were waiting for what
// follows, which is taken as silence: in all, as many come out as input
// samples times out/in, rounded up. Only Reset may follow.
func (r *Resampler) Flush(dst []float32) []float32 {
	if r.half == 0 {
		return dst
	}
	total := (r.in*int64(r.up) + int64(r.down) - 1) / int64(r.down)
	for range r.half {
		r.buf = append(r.buf, 0)
	}
	return r.drain(dst, total)
}

// drain appends the outputs whose taps all lie in buf, up to the total-th.
//
//go:norace
func (r *Resampler) drain(dst []float32, total int64) []float32 {
	taps := 2 * r.half
	for r.base+taps <= len(r.buf) && r.out < total {
		if r.phase == 0 && r.copies {
			dst = append(dst, r.buf[r.base+r.half-1])
		} else {
			dst = append(dst, dot(r.bank[r.phase*taps:][:taps], r.buf[r.base:][:taps]))
		}
		r.out++
		r.phase += r.down
		r.base += r.phase / r.up
		r.phase %= r.up
	}
	// base may lie past the end where the input is many times faster.
	used := min(r.base, len(r.buf))
	r.buf = r.buf[:copy(r.buf, r.buf[used:])]
	r.base -= used
	return dst
}

// dot is the inner product of two slices of the same length. Four sums side by
// side, in windows that need one bounds check, take half the time of the plain
// loop; see BenchmarkResampler.
//
//go:norace
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		s2 += x[2] * y[2]
		s3 += x[3] * y[3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}
