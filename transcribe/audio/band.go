package audio

const (
	// wideModelHz is from where a model is taken to know speech above 4 kHz.
	wideModelHz = 12000
	telephoneHz = 8000
	// filledHz is the upper edge of a channel from which on it is left alone.
	filledHz = 6000
	// fillNoise is the size of the noise, speech being at -24 dBFS, and
	// fillImage that of the mirror image. Half and twice the noise do a little
	// worse, none at all or noise that follows the speech do much worse.
	fillNoise = 60
	fillImage = 1.0
)

// band fills the part of the spectrum that a telephone takes away. A model
// trained on 16 kHz speech has never met a frame without energy above 4 kHz
// and takes that emptiness for evidence. Two simple things stand in for it,
// chosen by word error rate (make eval-band compares them):
//
//   - the mirror image of what lies below 4 kHz, falling towards 8 kHz, which
//     is what an interpolation by straight lines would leave there;
//   - a steady noise that rises by 6 dB an octave. Its sequence is fixed, so
//     the same input gives the same output.
//
// Audio that could carry the band, because its rate is high enough, often does
// not: recordings of telephone calls are stored at 16 kHz. It is filled where
// it was found empty.
type band struct {
	seed   uint32
	last   float32    // noise before the difference
	before [2]float32 // the two samples before
	mirror float32    // fillImage and the sign of the next sample's image; 0 for none
}

// newBand fills audio at outHz. It is nil where the model has no band to fill.
func newBand(outHz int) *band {
	if outHz < wideModelHz {
		return nil
	}
	b := &band{seed: 1}
	if outHz == 2*telephoneHz {
		b.mirror = fillImage // at other rates the image would not lie above the speech
	}
	return b
}

// apply adds the filling to x, levelled samples of ch at the model's rate.
func (b *band) apply(x []float32, ch Channel) {
	if ch.HighHz >= filledHz {
		return
	}
	mirror := b.mirror
	if ch.HighHz > narrowHighHz {
		mirror = 0 // it would lie on the speech
	}
	for i, v := range x {
		// Every other sample negated mirrors the spectrum; the second
		// difference before it takes the lows away, which would become the
		// highest tones. A sample's delay of the image is not heard.
		image := mirror / 4 * (2*b.before[0] - v - b.before[1])
		b.before[0], b.before[1], mirror = v, b.before[0], -mirror
		w := b.noise() * fillNoise
		x[i] = v + image + w - b.last // first difference: 6 dB an octave
		b.last = w
	}
	if len(x)%2 == 1 {
		b.mirror = -b.mirror
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
