// Package extend puts back what a telephone takes away: below 300 Hz and above
// 3.4 or 4 kHz. A recogniser trained on whole speech takes the emptiness there
// for evidence. What was there cannot be known, but how loud it was in each
// band can be told well from what is left: a small recurrent net has learned
// that from wide-band speech, and noise of that loudness is put in.
package extend

import (
	_ "embed"
	"fmt"
	"math"
	"sync"
)

// RateHz is the sample rate that an [Extender] works at.
const RateHz = 16000

// Edges are the band that a channel carries. The zero value is for audio of
// which nothing is known; it is left alone.
type Edges struct{ LowHz, HighHz int }

const (
	lowestHz   = 150  // a channel that starts above it lacks the low bands
	narrowHz   = 3650 // one that ends below it lacks those below 4 kHz too
	widestHz   = 7000 // what carries more is left alone
	telLowHz   = 300
	edgeRampHz = 150 // an edge is not a wall: so far inside it may be filled up

	// fillGain is added to the predicted log energies: the net predicts the
	// mean of logarithms, which is lower than the logarithm of the mean.
	fillGain = 0.35 // 1.5 dB
	loudest  = 20.8 // no prediction is believed above full scale
)

func (e Edges) lacksLow() bool  { return e.LowHz > lowestHz }
func (e Edges) lacksHigh() bool { return e.HighHz < narrowHz }

// whole says that nothing is to be filled.
func (e Edges) whole() bool { return e.HighHz <= 0 || e.HighHz >= widestHz && !e.lacksLow() }

//go:embed band.net
var embedded []byte

// Default is the net in the box.
var Default = sync.OnceValue(func() *Net {
	n := new(Net)
	if err := n.UnmarshalBinary(embedded); err != nil {
		panic(fmt.Sprintf("extend: the embedded net: %v", err)) // a test loads it
	}
	return n
})

// Extender fills a stream of samples at [RateHz], speech being at about -24
// dBFS. Output sample n is input sample n and what the channel lacks beside
// it; it comes up to [LookAhead] samples later. The same samples give the same
// output however they are cut into pieces. An Extender serves one leg, and is
// used by one goroutine at a time.
type Extender struct {
	net   *Net
	state []float32
	work  []float32
	seed  uint32

	n        int             // samples of the newest block so far
	blocks   [3][hop]float32 // oldest first; the newest is being filled
	spectrum [Bins]complex64 // of the frame of the two oldest blocks
	power    Power           // of the same
	edges    Edges           // and the channel that it came through
	tail     [hop]float32    // of what is put into the frame before
	started  int             // blocks so far, up to 2
	odd      bool            // every other frame
	idle     bool            // the frame before was left alone
	in, out  int64
	quiet    noise
}

// LookAhead is how many samples an output sample may wait for.
const LookAhead = 3 * hop

// New returns an Extender that uses net; see [Default].
func New(net *Net) *Extender {
	e := &Extender{net: net, state: make([]float32, net.hidden), work: make([]float32, 6*net.hidden)}
	e.Reset()
	return e
}

// Reset starts a new stretch of the leg's audio, after a gap. What is known of
// the noise between words holds.
func (e *Extender) Reset() {
	clear(e.state)
	*e = Extender{net: e.net, state: e.state, work: e.work, quiet: e.quiet, seed: 1, idle: true}
}

// Process takes src, which came through a channel of such edges, and appends
// to dst the samples that are complete with it.
func (e *Extender) Process(dst, src []float32, edges Edges) []float32 {
	e.in += int64(len(src))
	for len(src) > 0 {
		n := copy(e.blocks[2][e.n:], src)
		src = src[n:]
		if e.n += n; e.n < hop {
			break
		}
		dst = e.block(dst, edges)
	}
	return dst
}

// Flush ends the stream and appends the samples that were waiting: in all, as
// many come out as went in. Only Reset may follow.
func (e *Extender) Flush(dst []float32) []float32 {
	edges := e.edges
	for e.out < e.in {
		clear(e.blocks[2][e.n:])
		dst = e.block(dst, edges)
	}
	over := int(e.out - e.in)
	e.out = e.in
	return dst[:len(dst)-over]
}

// block goes on by one block: the newest is complete, the oldest goes out.
//
//go:norace
func (e *Extender) block(dst []float32, edges Edges) []float32 {
	var p Power
	var spectrum [Bins]complex64
	var fill [hop]float32
	if edges.whole() && e.edges.whole() {
		if !e.idle {
			fill, e.idle = e.tail, true
			clear(e.state)
		}
	} else {
		if e.idle {
			e.tail, e.idle = [hop]float32{}, false
		}
		var x [Inputs]float32
		var y [Outputs]float32
		fft.spectrum(&spectrum, &p, &e.blocks[1], &e.blocks[2])
		Features(&x, &p, edges)
		e.net.Normalise(&x)
		e.net.step(&y, e.state, e.work, &x)
		var first, second [hop]float32
		if !e.edges.whole() {
			e.synthesise(&first, &second, &y)
		}
		e.quiet.hear(&p)
		e.odd = !e.odd
		for i := range fill {
			fill[i] = e.tail[i] + first[i]
		}
		e.tail = second
	}
	if e.started == 2 {
		for i, v := range e.blocks[0] {
			dst = append(dst, v+fill[i])
		}
		e.out += hop
	} else {
		e.started++
	}
	e.blocks[0], e.blocks[1] = e.blocks[1], e.blocks[2]
	e.spectrum, e.power, e.edges, e.n = spectrum, p, edges, 0
	return dst
}

// synthesise makes what is put into the frame before the newest: the bands
// that the channel lacks, and what takes the noise down in those that it has.
//
//go:norace
func (e *Extender) synthesise(first, second *[hop]float32, y *[Outputs]float32) {
	var s [Bins]complex64
	var level [Outputs]float32
	for i, v := range y {
		level[i] = float32(math.Exp(float64(min(v, loudest)) + fillGain))
	}
	bottom := 1
	if e.edges.lacksLow() {
		bottom = min(lowBins, int(float64(min(e.edges.LowHz, telLowHz)+30)/binHz))
		for b := 1; b <= bottom; b++ {
			s[b] = e.bin(b, level[b-1], e.power[b])
		}
	}
	top := Bins - 1
	if e.edges.HighHz < widestHz {
		top = max(int(float64(e.edges.HighHz-edgeRampHz)/binHz), lowBins+1)
		for b := top; b < Bins; b++ {
			i, way := lowBins+int(bands.below[b]), bands.way[b]
			s[b] = e.bin(b, level[i]+(level[i+1]-level[i])*way, e.power[b])
		}
	}
	for b := bottom + 1; b < top; b++ {
		g := e.quiet.gain(b, e.power[b]) - 1
		s[b] = complex(g*real(e.spectrum[b]), g*imag(e.spectrum[b]))
	}
	s[hop] = complex(real(s[hop]), 0)
	fft.samples(first, second, &s)
}

// bin is what is missing of a bin's predicted power. Below 300 Hz the phase goes
// on from frame to frame, as a steady tone's does: noise would be louder at one
// time and quieter at another, which voices are not. It is worth three words in
// a hundred of AN4 through 300 to 3400 Hz.
//
//go:norace
func (e *Extender) bin(b int, want, have float32) complex64 {
	e.seed ^= e.seed << 13
	e.seed ^= e.seed >> 17
	e.seed ^= e.seed << 5
	if want <= have {
		return 0
	}
	a := float32(math.Sqrt(float64((want - have) * window)))
	w := fft.phasor[e.seed>>24]
	if b <= lowBins {
		w = fft.phasor[b*97&0xff]
		if b&1 == 1 && e.odd { // half a frame later odd bins have half a turn more
			w = -w
		}
	}
	return complex(a*real(w), a*imag(w))
}
