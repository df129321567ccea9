package audio

import "math"

// LoudVoice is a Voice that goes by loudness: what stands out of the leg's
// noise floor and changes as speech does. Noise and tones that keep still are
// learned as floor within half a second. It takes music for speech, which
// costs processor time and nothing else.
//
// The floor is the least of the smoothed power in the last seconds (R. Martin,
// "Noise Power Spectral Density Estimation Based on Optimal Smoothing and
// Minimum Statistics", 2001, without its bias by variance), raised at once to
// a sound that has kept still.
type LoudVoice struct {
	block int     // samples of 10 ms
	pole  float32 // of the high-pass: hum and rumble are not loud
	x, y  [2]float32

	smooth float32   // power, over some 50 ms
	least  []float32 // of each of the last half seconds
	now    float32   // least of the current one
	blocks int       // in it so far
	loud   uint32    // one bit a block, the latest lowest: louder than the floor
	still  stillness
	speech bool
}

var _ Voice = (*LoudVoice)(nil)

const (
	loudHighPassHz = 200
	loudFloor      = 10.0 // rms, -70 dBFS: what is below is the noise of the channel
	loudSmooth     = 0.3  // share of a new block
	loudHalf       = 50   // blocks whose least is kept
	loudHalves     = 6    // such leasts: 3 s, longer than people speak without a stop in the breath
	loudBias       = 2.0  // the least of noise lies this far below its mean
	loudRatio      = 5.0  // 7 dB over the floor's mean begins speech
	loudLasting    = 2.5  // 4 dB over it goes on with it
	loudBegin      = 4    // loud blocks of the last eight that begin speech; a click has three
)

// NewLoudVoice returns a voice for one leg.
func NewLoudVoice() *LoudVoice { return &LoudVoice{} }

// Start implements [Voice].
func (v *LoudVoice) Start(rateHz int) int {
	*v = LoudVoice{block: max(1, rateHz/100), least: v.least[:0], now: math.MaxFloat32}
	v.pole = float32(math.Exp(-2 * math.Pi * loudHighPassHz / float64(rateHz)))
	for range loudHalves {
		v.least = append(v.least, loudFloor*loudFloor)
	}
	v.still.begin(rateHz)
	return v.block
}

// Speech implements [Voice].
//
//go:norace
func (v *LoudVoice) Speech(window []int16) bool {
	var power float32
	v.still.ended = false
	for _, s := range window {
		// Two simple high-passes in a row: 12 dB an octave.
		x := float32(s)
		a := x - v.x[0] + v.pole*v.y[0]
		b := a - v.y[0] + v.pole*v.y[1]
		v.x[0], v.y[0], v.y[1] = x, undenormal(a), undenormal(b)
		power += v.y[1] * v.y[1]
		v.still.add(v.y[1])
	}
	power /= float32(len(window))
	v.smooth += loudSmooth * (power - v.smooth)
	v.learn()

	floor := v.floor()
	ratio := float32(loudRatio)
	if v.speech {
		ratio = loudLasting
	}
	v.loud <<= 1
	if power > ratio*floor {
		v.loud |= 1
	}
	if v.still.now {
		v.loud, v.speech = 0, false
		return false
	}
	recent := v.loud & 0xff
	v.speech = recent != 0 && (v.speech || ones(recent) >= loudBegin)
	return v.speech
}

// learn follows the floor: it falls with the smoothed power at once, and rises
// when the half seconds in which it was lower have passed, or when a sound has
// kept still.
func (v *LoudVoice) learn() {
	if v.still.now && v.still.ended {
		for i := range v.least {
			v.least[i] = max(v.least[i], v.still.power/loudBias)
		}
		v.now = max(v.now, v.still.power/loudBias)
	}
	v.now = min(v.now, v.smooth)
	if v.blocks++; v.blocks == loudHalf {
		copy(v.least, v.least[1:])
		v.least[len(v.least)-1] = v.now
		v.now, v.blocks = math.MaxFloat32, 0
	}
}

func (v *LoudVoice) floor() float32 {
	least := v.now
	for _, p := range v.least {
		least = min(least, p)
	}
	return max(least*loudBias, loudFloor*loudFloor)
}

func ones(x uint32) (n int) {
	for ; x != 0; x &= x - 1 {
		n++
	}
	return n
}

// undenormal takes away what would decay through slow denormals.
func undenormal(v float32) float32 {
	if v < 1e-6 && v > -1e-6 {
		return 0
	}
	return v
}

// stillness looks whether a sound keeps its loudness and its colour, as tones
// and steady noise do and speech does not: the power of each tenth of a second
// and its autocorrelation are those of the tenth before. A tenth holds whole
// beats of the tone pairs that exchanges send.
type stillness struct {
	now   bool    // the sound has kept still
	ended bool    // a tenth has just ended
	power float32 // of the last tenth, mean

	lag    int                    // samples that the autocorrelation's lags are apart
	size   int                    // samples of a tenth
	pcm    []float32              // of the tenth so far, behind the last ones of the tenth before
	before [stillLags + 1]float32 // of that one: power, then autocorrelation over it
	tenths int                    // in a row that were like the one before
}

const (
	stillLags   = 4
	stillRatio  = 1.26 // power may change by 1 dB
	stillColour = 0.13 // and autocorrelation by this; that of noise wavers by 0.05
	stillTenths = 3    // like the one before: no vowel keeps still so long
)

func (s *stillness) begin(rateHz int) {
	*s = stillness{lag: max(1, rateHz/8000), size: rateHz / 10, pcm: s.pcm[:0]}
	s.pcm = append(s.pcm, make([]float32, stillLags*s.lag)...)
}

func (s *stillness) add(x float32) {
	s.pcm = append(s.pcm, x)
	if len(s.pcm) == stillLags*s.lag+s.size {
		s.end()
	}
}

// end compares a tenth with the one before.
func (s *stillness) end() {
	reach := stillLags * s.lag
	tenth := s.pcm[reach:]
	var colour [stillLags + 1]float32
	for k := range colour {
		colour[k] = dot(tenth, s.pcm[reach-k*s.lag:][:len(tenth)])
	}
	s.ended = true
	s.power = colour[0] / float32(s.size)
	like := s.power < s.before[0]*stillRatio && s.power*stillRatio > s.before[0]
	for k := 1; k <= stillLags; k++ {
		colour[k] /= max(s.power*float32(s.size), 1)
		d := colour[k] - s.before[k]
		like = like && d < stillColour && d > -stillColour
	}
	colour[0] = s.power
	s.before = colour
	s.pcm = append(s.pcm[:0], tenth[len(tenth)-reach:]...)
	if like {
		s.tenths++
	} else {
		s.tenths = 0
	}
	s.now = s.tenths >= stillTenths
}
