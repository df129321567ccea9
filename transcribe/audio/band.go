package audio

import "math"

const (
	// wideModelHz is from where a model is taken to know speech above 4 kHz.
	wideModelHz = 12000
	// narrowHz is below what no audio carries enough of that band.
	narrowHz = 12000
	// fillLevel is the filling's size, speech being at -24 dBFS. Half as much
	// and twice as much do a little worse, plain white noise and noise that
	// follows the speech do much worse; see make bench-band.
	fillLevel = 60
)

// band fills the part of the spectrum that a telephone takes away with noise.
// A model trained on 16 kHz speech has never met a frame without energy above
// 4 kHz and takes that emptiness for evidence: any steady energy there does
// better. The noise is a fixed sequence, so the same input gives the same
// output.
//
// Audio that could carry the band, because its rate is high enough, often does
// not: recordings of telephone calls are stored at 16 kHz. It is filled too,
// until it has shown energy of its own up there.
type band struct {
	seed  uint32
	last  float32 // noise before the difference
	watch *upperBand
	wide  bool // the audio needs no filling
}

// newBand fills audio that came at inHz and is now at outHz. It is nil where
// the model has no band to fill.
func newBand(inHz, outHz int) *band {
	if outHz < wideModelHz {
		return nil
	}
	b := &band{seed: 1}
	if inHz >= narrowHz {
		b.watch = newUpperBand(outHz)
	}
	return b
}

// apply adds the filling to x, levelled samples at the model's rate.
func (b *band) apply(x []float32) {
	for i, v := range x {
		if b.wide {
			return
		}
		if b.watch != nil {
			b.wide = b.watch.carries(v)
		}
		w := b.noise() * fillLevel
		x[i] = v + w - b.last // first difference: rises by 6 dB an octave
		b.last = w
	}
}

// noise is the next sample of white noise, even between -1 and 1: Marsaglia's
// xorshift32.
func (b *band) noise() float32 {
	b.seed ^= b.seed << 13
	b.seed ^= b.seed >> 17
	b.seed ^= b.seed << 5
	return float32(int32(b.seed)) * (1.0 / (1 << 31))
}

// upperBand looks whether audio carries anything above the telephone band: a
// Butterworth high-pass of order 8, 50 dB down at 3.6 kHz, and a count of the
// blocks of 10 ms that come through it.
//
// The threshold is 43 dB below speech. Wide-band speech lies at -16 to -36 dB
// even on average, telephone recordings stored at 16 kHz at -75 or less.
type upperBand struct {
	sections [4]biquad
	blockLen int
	n        int
	power    float32 // of the block so far
	blocks   int     // of the second so far
	loud     int     // of them, above the threshold
}

const (
	upperCornerHz  = 5500
	upperThreshold = 15.0 // rms
	upperBlocks    = 10   // in a second; clicks are fewer, fricatives more
)

func newUpperBand(rateHz int) *upperBand {
	u := &upperBand{blockLen: rateHz / 100}
	corner := min(upperCornerHz, 0.45*float64(rateHz))
	for k := range u.sections {
		q := 1 / (2 * math.Cos(math.Pi*float64(2*k+1)/float64(4*len(u.sections))))
		u.sections[k] = newHighPass(corner, q, float64(rateHz))
	}
	return u
}

// carries hears the next sample and reports whether there is enough now.
func (u *upperBand) carries(v float32) bool {
	for k := range u.sections {
		v = u.sections[k].next(v)
	}
	u.power += v * v
	if u.n++; u.n < u.blockLen {
		return false
	}
	if u.power > upperThreshold*upperThreshold*float32(u.blockLen) {
		u.loud++
	}
	u.n, u.power = 0, 0
	if u.blocks++; u.blocks == 100 {
		u.blocks, u.loud = 0, 0
	}
	return u.loud >= upperBlocks
}

// biquad is a second-order filter in transposed direct form II.
type biquad struct{ b0, b1, b2, a1, a2, s1, s2 float32 }

// newHighPass is the bilinear transform of a second-order high-pass.
func newHighPass(cornerHz, q, rateHz float64) biquad {
	k := math.Tan(math.Pi * cornerHz / rateHz)
	norm := 1 / (1 + k/q + k*k)
	return biquad{
		b0: float32(norm), b1: float32(-2 * norm), b2: float32(norm),
		a1: float32(2 * (k*k - 1) * norm), a2: float32((1 - k/q + k*k) * norm),
	}
}

func (f *biquad) next(x float32) float32 {
	y := f.b0*x + f.s1
	f.s1 = f.b1*x - f.a1*y + f.s2
	f.s2 = f.b2*x - f.a2*y
	if f.s1 < 1e-12 && f.s1 > -1e-12 {
		f.s1 = 0 // no slow denormals in digital silence
	}
	return y
}
