package audio

// finder finds out what a channel carries, from speech alone: it compares the
// power of a few bands, added up over the blocks that are loud enough to be
// speech. Loud blocks weigh most, so noise that came before the first word is
// outweighed by that word; noise between words is taken off.
//
// It hears samples at the recogniser's rate, in blocks that are counted from
// the start of a stretch: what it finds does not depend on frames. It looks
// back only.
type finder struct {
	spec  *spectrum
	binHz float32
	block []float32 // as far as it has come
	power []float32 // of the last whole block

	peak     float32 // power of the loudest speech, falling by 1 dB a second
	calm     float32 // power of the quietest block, rising by 3 dB a second
	quiet    float32 // blocks of pauses, which these stand for:
	noiseLow float32 // mean power in the bands below
	noiseCut float32
	known    bool    // enough was heard to say something
	heard    float32 // speech blocks that the sums below stand for
	low, mid float32 // mean power of speech in 94 to 220 Hz and 330 to 1000 Hz
	hissing  float32 // blocks with something to say about the upper edge
	top, cut float32 // their mean power in 2800 to 3250 Hz and 3450 to 3650 Hz
	tones    int     // blocks in a row with nothing but the same one or two tones
	peaks    [2]int  // bins of the strongest lines in the block before
	lines    float32 // and their power
	upper    int     // blocks in a row with power from 4400 to 7500 Hz
	without  int     // speech blocks since it was last found there
	empty    int     // speech blocks in a row with nothing at all there
}

const (
	finderBlock  = 0.032      // seconds
	finderPeak   = 0.9926     // a block: 1 dB a second
	finderBelow  = 1.0 / 100  // 20 dB below the peak is no speech, or too little of it
	finderLeast  = 64.0       // rms of 8: what is below is not speech, whatever else there is
	finderMemory = 30.0       // blocks: a second of speech
	finderPause  = 1.0 / 1500 // 32 dB below it is a pause: soft sounds of speech are louder
	finderNoise  = 1.2        // times the mean noise is what is taken off a band's power
	finderCalm   = 1.022      // a block: 3 dB a second
	finderMoves  = 4.0        // what never gets 6 dB louder than it was may be noise
	finderFirst  = 4.0        // blocks before the lower edge is believed
	finderHisses = 3.0        // blocks before the upper edge is believed

	// Measured (bands of speech as recorded against through 300 to 3400 Hz):
	// low against mid is -26 to 4 dB against -37 to -56, where -15 to -26 is
	// speech through a handset that only falls off; cut against top is -4 to
	// -28 dB against -37 to -56.
	lowGone, lowThere = 0.0008, 0.002  // -31 and -27 dB
	cutGone, cutThere = 0.0004, 0.0013 // -34 and -29 dB
	toneShare         = 0.99           // of the power is in its two strongest lines
	toneSteady        = 1.4            // 1.5 dB from block to block
	toneBlocks        = 2              // after the first: 0.1 s
	toneLowestHz      = 330            // dial tone begins at 350 Hz
	toneReach         = 3              // bins of either side that a line has under the window
	upperThere        = 0.00005        // -43 dB below the peak
	upperGone         = 90             // speech blocks: 3 s; 1.3 s went by without a fricative in two of 120 wide clips
	upperEmpty        = 0.000001       // -60 dB: not even the noise of a microphone
	upperEmptyBlocks  = 4              // speech blocks
	telephoneLowHz    = 300
	telephoneHighHz   = 3400
	narrowHighHz      = 4000
	wideHighHz        = 8000
	// wideInHz is from where audio could carry more than a telephone does.
	wideInHz = 10000
)

func newFinder(rateHz int) *finder {
	n := 8
	for float64(n) < finderBlock*float64(rateHz)*0.75 {
		n *= 2
	}
	return &finder{
		spec: newSpectrum(n), binHz: float32(rateHz) / float32(n),
		block: make([]float32, 0, n), power: make([]float32, n/2+1),
	}
}

// assumed is the channel of a leg of which nothing has been heard.
func assumed(inHz int) Channel {
	ch := Channel{RateHz: inHz, LowHz: telephoneLowHz, HighHz: min(inHz/2, wideHighHz)}
	if inHz >= wideInHz {
		ch.LowHz = 0
	}
	return ch
}

// begin starts a stretch; what was found holds.
func (f *finder) begin() { f.block = f.block[:0] }

// reset forgets what was found: it was of another channel.
func (f *finder) reset() {
	*f = finder{spec: f.spec, binHz: f.binHz, block: f.block[:0], power: f.power}
}

// hear takes the next samples of x, up to the end of a block, and returns how
// many, and whether ch has changed with them.
func (f *finder) hear(x []float32, ch *Channel) (n int, changed bool) {
	n = min(len(x), f.spec.n-len(f.block))
	f.block = append(f.block, x[:n]...)
	if len(f.block) < f.spec.n {
		return n, false
	}
	f.spec.power(f.power, f.block)
	f.block = f.block[:0]
	was := *ch
	f.judge(ch)
	return n, *ch != was
}

// band is the power from lowHz to highHz in the last block.
func (f *finder) band(lowHz, highHz float32) (sum float32) {
	from, to := int(lowHz/f.binHz)+1, min(int(highHz/f.binHz), len(f.power)-1)
	for k := from; k <= to; k++ {
		sum += f.power[k]
	}
	return sum
}

func (f *finder) judge(ch *Channel) {
	all := f.band(280, 3400)
	f.judgeTone()
	f.peak = max(f.peak*finderPeak, all)
	if f.calm *= finderCalm; f.calm == 0 || all < f.calm {
		f.calm = max(all, 1)
	}
	if all < f.peak*finderPause {
		f.quiet = min(f.quiet+1, finderMemory)
		f.noiseLow += (f.band(94, 220) - f.noiseLow) / f.quiet
		f.noiseCut += (f.band(3450, 3650) - f.noiseCut) / f.quiet
	}
	if all < finderLeast || all < f.peak*finderBelow {
		f.upper = 0
		return
	}
	mid := f.band(330, 1000)
	f.heard = min(f.heard+1, finderMemory)
	f.low += (f.band(94, 220) - f.low) / f.heard
	f.mid += (mid - f.mid) / f.heard
	if f.heard >= finderFirst {
		f.known = f.known || f.peak > f.calm*finderMoves
		switch low := f.low - f.noiseLow*finderNoise; {
		case low < f.mid*lowGone:
			ch.LowHz = telephoneLowHz
		case low > f.mid*lowThere:
			ch.LowHz = 0
		}
	}
	f.judgeUpper(ch, all)
	// Vowels have little up there, and noise of the codec beside it.
	if top := f.band(2800, 3250); top > mid/50 {
		f.hissing = min(f.hissing+1, 2*finderMemory)
		f.top += (top - f.top) / f.hissing
		f.cut += (f.band(3450, 3650) - f.cut) / f.hissing
	}
	if ch.HighHz > narrowHighHz || f.hissing < finderHisses {
		return
	}
	switch cut := f.cut - f.noiseCut*finderNoise; {
	case cut < f.top*cutGone:
		ch.HighHz = telephoneHighHz
	case cut > f.top*cutThere:
		ch.HighHz = narrowHighHz
	}
}

// judgeTone looks whether the block is one or two tones and nothing else, the
// same as in the block before: ringing, busy, dialled digits, a fax. A voice
// has more lines than two, they glide, and its lowest is below those of the
// network.
func (f *finder) judgeTone() {
	var all float32
	for _, p := range f.power {
		all += p
	}
	first, one := f.line(-1)
	second, other := first, float32(0)
	if one < all*toneShare {
		second, other = f.line(first)
	}
	at := [2]int{min(first, second), max(first, second)}
	lines := one + other
	steady := max(at[0]-f.peaks[0], f.peaks[0]-at[0], at[1]-f.peaks[1], f.peaks[1]-at[1]) <= 1 &&
		lines < f.lines*toneSteady && f.lines < lines*toneSteady
	f.tones++
	if !steady || all < finderLeast || lines < all*toneShare || float32(at[0])*f.binHz < toneLowestHz {
		f.tones = 0
	}
	f.peaks, f.lines = at, lines
}

// line is the bin of the strongest line but that at besides, and its power.
//
//go:norace
func (f *finder) line(besides int) (best int, power float32) {
	apart := func(k int) bool { return besides < 0 || k < besides-toneReach || k > besides+toneReach }
	for k, p := range f.power {
		if p > f.power[best] && apart(k) || !apart(best) {
			best = k
		}
	}
	for k := max(0, best-toneReach); k <= min(best+toneReach, len(f.power)-1); k++ {
		if apart(k) {
			power += f.power[k]
		}
	}
	return best, power
}

// tone reports whether tones are heard, and no speech.
func (f *finder) tone() bool { return f.tones >= toneBlocks }

// judgeUpper looks whether audio that could carry more than 4 kHz does. A
// click fills one block, a fricative at least two. all is the block's power in
// the telephone band.
func (f *finder) judgeUpper(ch *Channel, all float32) {
	if ch.RateHz < wideInHz {
		return
	}
	f.without++
	f.empty++
	up := f.band(4400, 7500)
	if up > all*upperEmpty {
		f.empty = 0
	}
	if up < f.peak*upperThere {
		f.upper = 0
	} else if f.upper++; f.upper >= 2 {
		f.without = 0
		ch.HighHz = min(ch.RateHz/2, wideHighHz)
	}
	if ch.HighHz > narrowHighHz && (f.without >= upperGone || f.empty >= upperEmptyBlocks) {
		ch.HighHz = narrowHighHz
		f.heard, f.hissing = 0, 0 // another channel, or the first look at this one
	}
}
