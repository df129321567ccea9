package audio

import "math"

// G722Decoder decodes ITU-T Recommendation G.722 at 64 kbit/s: each byte is two
// samples at 16 kHz, six bits of the band below 4 kHz and two of the one above.
// The zero value is a decoder at its start. It is used by one goroutine at a
// time.
type G722Decoder struct {
	low, high g722Band
	open      bool
	history   g722Delay
}

// G722Encoder encodes what [G722Decoder] decodes. The zero value is an encoder
// at its start. It is used by one goroutine at a time.
type G722Encoder struct {
	low, high g722Band
	open      bool
	history   g722Delay
	first     int16 // of a pair, where half
	half      bool
}

// Decode appends the samples that src encodes to dst, two a byte.
func (g *G722Decoder) Decode(dst []int16, src []byte) []int16 {
	if !g.open {
		g.open, g.low.step, g.high.step = true, g722LowStep, g722HighStep
	}
	for _, b := range src {
		i := int32(b & 0x3f)
		// The decoder hears all six bits, but adapts by four of them, as the
		// encoder does: so the other two may be used for data.
		low := clamp(g.low.predicted+g.low.step*g722Levels6[i]>>15, -16384, 16383)
		g.low.adaptLow(i >> 2)

		i = int32(b >> 6)
		high := clamp(g.high.predicted+g.high.step*g722Levels2[i]>>15, -16384, 16383)
		g.high.adaptHigh(i)

		even, odd := g.history.push(low+high, low-high)
		dst = append(dst, int16(clamp16(odd>>11)), int16(clamp16(even>>11)))
	}
	return dst
}

// Encode appends the bytes of pcm at 16 kHz to dst. A last odd sample waits for
// the next call.
func (g *G722Encoder) Encode(dst []byte, pcm []int16) []byte {
	if !g.open {
		g.open, g.low.step, g.high.step = true, g722LowStep, g722HighStep
	}
	if g.half && len(pcm) > 0 {
		dst = append(dst, g.encode(g.first, pcm[0]))
		g.half, pcm = false, pcm[1:]
	}
	for ; len(pcm) >= 2; pcm = pcm[2:] {
		dst = append(dst, g.encode(pcm[0], pcm[1]))
	}
	if len(pcm) == 1 {
		g.half, g.first = true, pcm[0]
	}
	return dst
}

func (g *G722Encoder) encode(first, second int16) byte {
	even, odd := g.history.push(int32(first), int32(second))
	low := g.low.quantiseLow(clamp16((odd + even) >> 14))
	g.low.adaptLow(int32(low >> 2))
	high := g.high.quantiseHigh(clamp16((odd - even) >> 14))
	g.high.adaptHigh(int32(high))
	return high<<6 | low
}

// g722Delay is the delay line of the quadrature mirror filters, Recommendation
// section 3.1: 24 taps that both directions share.
type g722Delay [24]int32

// push takes two values in and returns what the even and the odd taps make.
func (x *g722Delay) push(a, b int32) (even, odd int32) {
	copy(x[:], x[2:])
	x[22], x[23] = a, b
	for i, c := range g722Mirror {
		even += x[2*i] * c
		odd += x[2*i+1] * g722Mirror[11-i]
	}
	return even, odd
}

// g722Band is one band's adaptive predictor and quantiser: the state of section
// 3.6, whose names are in brackets.
type g722Band struct {
	log       int32    // logarithm of the step (NB)
	step      int32    // (DET)
	predicted int32    // (S)
	byZeros   int32    // what the zeros predict (SZ)
	poles     [2]int32 // coefficients (A)
	zeros     [6]int32 // (B)
	out       [2]int32 // what was reconstructed (R)
	partial   [2]int32 // the same without the poles (P)
	doubled   [6]int32 // what was quantised, twice (D)
}

const g722LowStep, g722HighStep = 32, 8 // at the start

// quantiseLow finds the six bits for x (blocks SUBTRA, QUANTL).
func (g *g722Band) quantiseLow(x int32) byte {
	e := clamp16(x - g.predicted)
	size := e
	if e < 0 {
		size = ^e
	}
	i := 0
	for i < len(g722Decisions)-1 && size >= g722Decisions[i+1]*g.step>>12 {
		i++
	}
	if e < 0 {
		// Two of the 64 codes are not used on this side: all zeros are
		// forbidden on the line.
		if i < 2 {
			return byte(63 - i)
		}
		return byte(33 - i)
	}
	return byte(61 - i)
}

// quantiseHigh finds the two bits for x (blocks SUBTRA, QUANTH).
func (g *g722Band) quantiseHigh(x int32) byte {
	e := clamp16(x - g.predicted)
	size := e
	if e < 0 {
		size = ^e
	}
	big := size >= 564*g.step>>12
	switch {
	case e < 0 && big:
		return 0
	case e < 0:
		return 1
	case big:
		return 2
	}
	return 3
}

// adaptLow follows the four bits that were sent (blocks LOGSCL, SCALEL).
func (g *g722Band) adaptLow(code int32) {
	d := g.step * g722Levels4[code] >> 15
	g.log = clamp(g.log*127>>7+g722LowWeights[code], 0, 18432)
	g.step = g722Step(g.log, 8)
	g.follow(d)
}

// adaptHigh follows the two bits that were sent (blocks LOGSCH, SCALEH).
func (g *g722Band) adaptHigh(code int32) {
	d := g.step * g722Levels2[code] >> 15
	g.log = clamp(g.log*127>>7+g722HighWeights[code], 0, 22528)
	g.step = g722Step(g.log, 10)
	g.follow(d)
}

// g722Step is the step whose logarithm is log; shift is the band's.
func g722Step(log int32, shift int32) int32 {
	return g722Steps[log>>6&31] << (log >> 11) >> shift << 2
}

// follow moves the predictor on by the quantised error d (block 4). Most of the
// time that G.722 takes is spent here, so signs are looked at without branches.
func (g *g722Band) follow(d int32) {
	reconstructed := clamp16(g.predicted + d)
	partial := clamp16(g.byZeros + d)

	// The poles follow the signs of what came before (UPPOL2, UPPOL1).
	first := clamp16(g.poles[0] << 2)
	if partial^g.partial[0] >= 0 {
		first = min(-first, math.MaxInt16)
	}
	second := clamp(first>>7+sameSign(128, partial, g.partial[1])+g.poles[1]*32512>>15, -12288, 12288)
	limit := 15360 - second
	g.poles = [2]int32{clamp(sameSign(192, partial, g.partial[0])+g.poles[0]*32640>>15, -limit, limit), second}

	// The zeros follow the signs of the errors (UPZERO) and predict (FILTEZ).
	// They lose one part in 256 each time, so they stay within 16 bits.
	gain := int32(128)
	if d == 0 {
		gain = 0
	}
	sum := int32(0)
	newest := clamp16(2 * d)
	for i := range g.zeros {
		e := g.doubled[i]
		z := sameSign(gain, e, d) + g.zeros[i]*32640>>15
		g.zeros[i], g.doubled[i] = z, newest
		sum += z * newest >> 15
		newest = e
	}
	g.byZeros = clamp16(sum)

	g.out = [2]int32{reconstructed, g.out[0]}
	g.partial = [2]int32{partial, g.partial[0]}
	byPoles := clamp16(g.poles[0]*clamp16(2*g.out[0])>>15 + g.poles[1]*clamp16(2*g.out[1])>>15)
	g.predicted = clamp16(byPoles + g.byZeros)
}

// sameSign is v where a and b have the same sign, else -v; 0 counts as positive.
func sameSign(v, a, b int32) int32 {
	differ := (a ^ b) >> 31
	return v ^ differ - differ
}

func clamp(v, low, high int32) int32 { return min(max(v, low), high) }
func clamp16(v int32) int32          { return clamp(v, math.MinInt16, math.MaxInt16) }

// Tables of the Recommendation, by number and section.
var (
	// Table 11: half of the 24 coefficients of the mirror filters.
	g722Mirror = [12]int32{3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11}

	// Table 14: decision levels of the low band (Q6).
	g722Decisions = [30]int32{
		0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650,
		714, 786, 858, 940, 1023, 1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
	}

	// Tables 17, 18 and 19: what six, four and two bits stand for (QM6, QM4, QM2).
	g722Levels6 = [64]int32{
		-136, -136, -136, -136, -24808, -21904, -19008, -16704,
		-14984, -13512, -12280, -11192, -10232, -9360, -8576, -7856,
		-7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576,
		-3168, -2776, -2400, -2032, -1688, -1360, -1040, -728,
		24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192,
		10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456,
		4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032,
		1688, 1360, 1040, 728, 432, 136, -432, -136,
	}
	g722Levels4 = [16]int32{
		0, -20456, -12896, -8968, -6288, -4240, -2584, -1200,
		20456, 12896, 8968, 6288, 4240, 2584, 1200, 0,
	}
	g722Levels2 = [4]int32{-7408, -1616, 7408, 1616}

	// How far a code moves the step: WL by RL4, WH by RH2.
	g722LowWeights  = [16]int32{-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60}
	g722HighWeights = [4]int32{798, -214, 798, -214}

	// The steps of an octave (ILB).
	g722Steps = [32]int32{
		2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
		2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
	}
)
