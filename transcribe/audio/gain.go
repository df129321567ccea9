package audio

import "math"

// direct takes the direct current out of a leg: a high-pass at 20 Hz. It also
// sees what nothing after it can: samples at full scale.
type direct struct {
	keep    float32 // pole
	in, out float32 // the sample before
	begun   bool

	// Clipping: samples at full scale in this second, and the seconds since
	// there were many.
	rateHz, n, full, since int
}

const (
	fullScale  = 32100 // of 32768; the loudest that G.711 can say is 32124
	fullMany   = 0.002 // share of a second: a shout that just reaches full scale is less
	fullMemory = 10    // seconds
)

func newDirect(rateHz int) direct {
	return direct{keep: float32(1 - 2*math.Pi*20/float64(rateHz)), rateHz: rateHz, since: fullMemory}
}

// clipped reports whether speech was lately cut off at full scale.
func (d *direct) clipped() bool { return d.since < fullMemory }

// begin starts a stretch: its first sample is no step from what was before.
func (d *direct) begin() { d.begun = false }

// apply appends pcm without its direct current to dst.
//
//go:norace
func (d *direct) apply(dst []float32, pcm []int16) []float32 {
	if !d.begun && len(pcm) > 0 {
		d.begun, d.in, d.out = true, float32(pcm[0]), 0
	}
	for _, v := range pcm {
		if v >= fullScale || v <= -fullScale {
			d.full++
		}
		if d.n++; d.n == d.rateHz {
			d.since++
			if float64(d.full) > fullMany*float64(d.rateHz) {
				d.since = 0
			}
			d.n, d.full = 0, 0
		}
		x := float32(v)
		y := x - d.in + d.keep*d.out
		if y < 1e-6 && y > -1e-6 {
			y = 0 // digital silence would otherwise decay through slow denormals
		}
		d.in, d.out = x, y
		dst = append(dst, y)
	}
	return dst
}

// gain brings the speech of a leg to the level that recognisers are used to,
// slowly. It looks back only, so it adds no delay, and it works sample by
// sample, so its output does not depend on how the input was cut.
//
// The level is the mean power of the blocks that stand out of the noise floor.
// It settles within a syllable or two of the first speech and then moves with
// a time constant of three seconds of speech; in silence it stays. Hence
// neither a pause nor a silent leg is blown up.
type gain struct {
	blockLen  int
	n         int     // samples of the block so far
	power     float64 // their sum of squares
	floor     float64 // mean power of the noise between speech; 0 before the first block
	noise     float64 // mean power of what is no speech; negative before the first
	speech    float64 // mean power of speech
	blocks    float64 // speech blocks that this mean stands for
	now, step float32 // factor, and what each sample adds to it
}

const (
	speechLevel  = 2067.0 // rms of speech after gain: -24 dBFS
	minGain      = 0.125  // -18 dB: louder speech than that is clipped anyway
	maxGain      = 32.0   // +30 dB: what is quieter than that is not meant to be heard
	quietest     = 10.0   // rms: below -70 dBFS is the noise of the channel, whatever its level
	overFloor    = 8.0    // 9 dB over the noise floor is speech
	floorRise    = 1.007  // a block: 3 dB a second
	firstBlocks  = 5.0    // speech blocks before their level is believed
	memoryBlocks = 300.0  // 3 s
	gainPace     = 0.1    // a block: 100 ms
	noisePace    = 0.02   // a block: half a second
)

func newGain(rateHz int) gain {
	return gain{
		blockLen: rateHz / 100,
		noise:    -1,
		now:      1,
	}
}

// apply levels x.
//
//go:norace
func (g *gain) apply(x []float32) {
	for i, v := range x {
		g.power += float64(v) * float64(v)
		x[i] = v * g.now
		g.now += g.step
		if g.n++; g.n == g.blockLen {
			g.endBlock()
		}
	}
}

// endBlock learns from a block and sets the course for the next.
func (g *gain) endBlock() {
	p := g.power / float64(g.blockLen)
	g.n, g.power = 0, 0
	if g.floor == 0 || p < g.floor {
		g.floor = p
	}
	g.floor = max(g.floor*floorRise, quietest*quietest)
	switch {
	case p > g.floor*overFloor:
		g.blocks = min(g.blocks+1, memoryBlocks)
		g.speech += (p - g.speech) / g.blocks
	case g.noise < 0:
		g.noise = p
	default:
		g.noise += (p - g.noise) * noisePace
	}
	if g.blocks < firstBlocks {
		return
	}
	want := float32(min(max(speechLevel/math.Sqrt(g.speech), minGain), maxGain))
	g.step = (want - g.now) * gainPace / float32(g.blockLen)
}

// at is g for a leg whose rate changes to rateHz: what it learned of the level
// holds.
func (g gain) at(rateHz int) gain {
	fresh := newGain(rateHz)
	if g.blockLen > 0 {
		fresh.floor, fresh.noise, fresh.speech, fresh.blocks, fresh.now = g.floor, g.noise, g.speech, g.blocks, g.now
	}
	return fresh
}
