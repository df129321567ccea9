package audio

import "math"

const (
	// wideModelHz is from where a model is taken to know speech above 4 kHz.
	wideModelHz = 12000
	telephoneHz = 8000
	// narrowHz is below what no audio carries enough of that band.
	narrowHz = 12000
	// fillNoise is the size of the noise, speech being at -24 dBFS, and
	// fillImage that of the mirror image. Half and twice the noise do a little
	// worse, none at all or noise that follows the speech do much worse.
	fillNoise = 60
	fillImage = 1.0
)

// band fills the part of the spectrum that a telephone takes away. A model
// trained on 16 kHz speech has never met a frame without energy above 4 kHz
// and takes that emptiness for evidence. Two simple things stand in for it,
// chosen by word error rate (make bench-band shows the table):
//
//   - the mirror image of what lies below 4 kHz, falling towards 8 kHz, which
//     is what an interpolation by straight lines would leave there;
//   - a steady noise that rises by 6 dB an octave. Its sequence is fixed, so
//     the same input gives the same output.
//
// Audio that could carry the band, because its rate is high enough, often does
// not: recordings of telephone calls are stored at 16 kHz. It is filled too,
// until it has shown energy of its own up there.
type band struct {
	seed   uint32
	last   float32    // noise before the difference
	before [2]float32 // the two samples before
	mirror float32    // fillImage and the sign of the next sample's image; 0 for none
	watch  *upperBand
	wide   bool // the audio needs no filling
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
	if outHz == 2*telephoneHz && (inHz == telephoneHz || b.watch != nil) {
		b.mirror = fillImage // at other rates the image would not lie above the speech
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
		// Every other sample negated mirrors the spectrum; the second
		// difference before it takes the lows away, which would become the
		// highest tones. A sample's delay of the image is not heard.
		image := b.mirror / 4 * (2*b.before[0] - v - b.before[1])
		b.before[0], b.before[1], b.mirror = v, b.before[0], -b.mirror
		w := b.noise() * fillNoise
		x[i] = v + image + w - b.last // first difference: 6 dB an octave
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
	upperBlocks    = 6    // in a second; clicks are fewer, fricatives more
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
