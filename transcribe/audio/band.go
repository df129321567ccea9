package audio

// narrow reports whether audio of inHz leaves so much of the band up to half
// of outHz empty that a recogniser which never heard such speech is lost.
func narrow(inHz, outHz int) bool { return inHz*4 < outHz*3 }

// band fills the part of the spectrum that the input's rate could not carry
// with noise, in place. A model trained on 16 kHz speech has never met a frame
// without energy above 4 kHz, and takes that emptiness for evidence; any
// plausible energy there does better. See the table of make bench-band.
//
// The noise is a fixed sequence: the same input gives the same output.
type band struct {
	seed uint32
	last float32
}

func newBand(int, int) *band { return &band{seed: 1} }

// apply adds the filling to x, samples at the model's rate.
func (b *band) apply(x []float32) {
	const level = 60 // of a 16-bit sample, speech being at -24 dBFS
	for i := range x {
		w := b.noise() * level
		x[i] += w - b.last // first difference: rises by 6 dB an octave
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
