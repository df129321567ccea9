package audio

import "math"

// hum takes the hum of the mains out, where there is any: 50 or 60 Hz and
// their multiples, steady lines that fill the lowest bands a recogniser looks
// at, drown the pauses, and hide that a channel has no lows.
//
// Lines that stand out of their neighbourhood and keep still for a second and
// a half switch it on. Each is then followed in size and phase and subtracted
// (B. Widrow et al., "Adaptive Noise Cancelling: Principles and Applications",
// 1975), which is a notch of 4 Hz in a pause and hardly one under loud speech:
// what is learned there is not hum. Samples are counted from the start of the
// stretch, so cutting it into frames changes nothing.
type hum struct {
	rateHz         int
	mainsHz        int // what is being taken out; 0 where no hum is heard
	lines          [humLines]humLine
	turned         int     // samples since the lines were put to length
	power          float32 // of the hum when it was last seen well
	left           float32 // power of what is not hum, over some 10 ms
	pace, leftPace float32 // a sample

	step   int       // samples for one of the series
	share  float32   // weight of a sample, at most, by step
	sum    float32   // of the next of the series so far
	next   float32   // of the one after
	n      int       // samples since the last
	series []float32 // as far as the window has come
	window []float32
	size   [2]float32 // power of the lines of 50 and 60 Hz in the window before
	still  [2]int     // windows in a row in which it was there and the same
	gone   int        // windows since it was last there
}

// humLine is a line that is followed: a pointer that turns with it, and its
// size along that pointer and across.
type humLine struct {
	cos, sin         float32
	turnCos, turnSin float32 // a sample
	along, across    float32
}

const (
	humLines    = 6    // multiples that are taken out: more lie where speech is loud
	humLooked   = 3    // of them, that are looked for
	humSeriesHz = 1000 // about; what is looked for lies below 200 Hz
	humWindow   = 0.5  // seconds
	humNotchHz  = 4.0  // the mains keep within 0.1 Hz
	humLeast    = 9.0  // an rms of 3: what is below -80 dBFS disturbs nobody
	humOver     = 16.0 // 12 dB over what lies beside it
	humAsideHz  = 7.0  // there
	humSame     = 2.0  // 3 dB: a voice that meets a line does not keep still
	humStill    = 3    // windows that switch it on
	// humStillAlone is for a single line that could be a voice's.
	humStillAlone = 8
	humGone       = 60 // windows that switch it off: 30 s
)

func newHum(rateHz int) *hum {
	h := &hum{
		rateHz: rateHz, step: rateHz / humSeriesHz,
		share: 1 / float32(rateHz/humSeriesHz*(rateHz/humSeriesHz)),
		pace:  float32(2 * math.Pi * humNotchHz / float64(rateHz)), leftPace: 100 / float32(rateHz),
	}
	n := int(humWindow * float64(rateHz) / float64(h.step))
	h.series = make([]float32, 0, n)
	h.window = make([]float32, n)
	for i := range h.window { // Hann's; a line's squared transform is its power
		h.window[i] = float32(math.Sqrt2 * (1 - math.Cos(2*math.Pi*(float64(i)+0.5)/float64(n))) / float64(n))
	}
	return h
}

// begin starts a stretch; hum that was heard before it goes on.
func (h *hum) begin() {
	h.series, h.sum, h.next, h.n = h.series[:0], 0, 0, 0
}

// apply takes the hum out of x.
//
//go:norace
func (h *hum) apply(x []float32) {
	for i, v := range x {
		if h.mainsHz > 0 {
			x[i] = h.cancel(v)
		}
		// A triangle over two steps: of a tone of 2,100 Hz nothing is left
		// that could be taken for one of 100.
		h.n++
		rest := v * float32(h.step-h.n) * h.share
		h.sum += rest
		h.next += v*h.share*float32(h.step) - rest
		if h.n == h.step {
			h.series = append(h.series, h.sum)
			h.sum, h.next, h.n = h.next, 0, 0
			if len(h.series) == len(h.window) {
				h.look()
				h.series = h.series[:0]
			}
		}
	}
}

// cancel subtracts the lines from v and learns from what is left.
func (h *hum) cancel(v float32) float32 {
	for k := range h.lines {
		l := &h.lines[k]
		v -= l.along*l.cos + l.across*l.sin
	}
	h.left += (v*v - h.left) * h.leftPace
	pace := h.pace * h.power / (h.power + h.left)
	for k := range h.lines {
		l := &h.lines[k]
		l.along += pace * v * l.cos
		l.across += pace * v * l.sin
		l.cos, l.sin = l.cos*l.turnCos-l.sin*l.turnSin, l.cos*l.turnSin+l.sin*l.turnCos
	}
	if h.turned++; h.turned == h.rateHz {
		h.turned = 0
		for k := range h.lines { // rounding lets a pointer grow or shrink
			l := &h.lines[k]
			length := float32(math.Hypot(float64(l.cos), float64(l.sin)))
			l.cos, l.sin = l.cos/length, l.sin/length
		}
	}
	return v
}

// look judges a window of the series.
func (h *hum) look() {
	h.gone++
	for i, mains := range [2]float64{50, 60} {
		var size float32
		var there [humLooked + 1]bool
		for k := 1; k <= humLooked; k++ {
			hz := mains * float64(k)
			line := h.at(hz)
			aside := (h.at(hz-humAsideHz) + h.at(hz+humAsideHz)) / 2
			if line > humLeast && line > aside*humOver {
				size += line
				there[k] = true
			}
		}
		// A voice may rest on 100 Hz, but then it has nothing at 50 or 150.
		enough := humStill
		if !there[1] && !(there[2] && there[3]) {
			enough = humStillAlone
		}
		same := size < h.size[i]*humSame && h.size[i] < size*humSame
		h.size[i] = size
		switch {
		case size == 0:
			h.still[i] = 0
			continue
		case !same:
			h.still[i] = 1
		default:
			h.still[i]++
		}
		if h.mainsHz == int(mains) {
			h.gone, h.power = 0, size
		} else if h.mainsHz == 0 && h.still[i] >= enough {
			h.power = size
			h.follow(int(mains))
		}
	}
	if h.mainsHz > 0 && h.gone >= humGone {
		h.mainsHz = 0
	}
}

// at is the power of a line at hz in the series (G. Goertzel, 1958).
//
//go:norace
func (h *hum) at(hz float64) float32 {
	turn := 2 * math.Pi * hz * float64(h.step) / float64(h.rateHz)
	twice := float32(2 * math.Cos(turn))
	var s, before float32
	for i, v := range h.series {
		s, before = v*h.window[i]+twice*s-before, s
	}
	return s*s + before*before - twice*s*before
}

// follow begins to take out the lines of mainsHz.
func (h *hum) follow(mainsHz int) {
	h.mainsHz, h.gone, h.turned = mainsHz, 0, 0
	for k := range h.lines {
		sin, cos := math.Sincos(2 * math.Pi * float64(mainsHz*(k+1)) / float64(h.rateHz))
		h.lines[k] = humLine{cos: 1, turnCos: float32(cos), turnSin: float32(sin)}
	}
}
