package silero

import (
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Voice is one leg's voice activity. The model says whether what is loud is
// somebody speaking, and loudness where it begins and ends: the model, which
// hears soft beginnings late, is asked only while the leg is loud, and not for
// a while after it has said yes.
type Voice struct {
	e      *Engine
	loud   *audio.LoudVoice
	block  int              // samples that loud takes at a time
	rest   []int16          // that loud has not taken yet
	narrow *audio.Resampler // nil at 8 kHz
	wide   []float32
	at8k   []float32 // what the model has not taken yet
	window [windowLen]float32
	past   memory
	speech bool
	trust  int  // windows for which a yes of the model still holds
	broken bool // the model failed: loudness alone decides
}

var _ audio.Voice = (*Voice)(nil)

// trustLen is for how many windows the model is believed: half a second. It
// makes a fifth of the model's cost of speech without a pause, and at most so
// much of other sounds passes by mistake.
const trustLen = rateHz / 2 / windowLen

// Voice returns the voice activity of one more leg.
func (e *Engine) Voice() audio.Voice { return &Voice{e: e, loud: audio.NewLoudVoice()} }

// Start implements [audio.Voice].
func (v *Voice) Start(inHz int) int {
	v.block = v.loud.Start(inHz)
	v.rest, v.at8k = v.rest[:0], v.at8k[:0]
	v.narrow = nil
	if inHz != rateHz {
		r, err := audio.NewResampler(inHz, rateHz)
		if err != nil { // a rate that nothing else hears either
			v.broken = true
		}
		v.narrow = r
	}
	return max(1, inHz*windowLen/rateHz)
}

// Speech implements [audio.Voice].
func (v *Voice) Speech(window []int16) bool {
	loud := v.isLoud(window)
	if v.broken {
		return loud
	}
	v.take(window)
	for ; len(v.at8k) >= windowLen; v.at8k = v.at8k[:copy(v.at8k, v.at8k[windowLen:])] {
		v.trust = max(0, v.trust-1)
		if !loud || v.trust > 0 {
			v.speech = loud
			copy(v.past.context[:], v.at8k[windowLen-contextLen:])
			continue
		}
		copy(v.window[:], v.at8k)
		p, err := v.e.probability(&v.window, &v.past)
		if err != nil {
			v.broken = true
			v.e.fault(err)
			return loud
		}
		if v.speech {
			v.speech = p >= v.e.cfg.Last
		} else {
			v.speech = p >= v.e.cfg.Begin
		}
		if v.speech {
			v.trust = trustLen
		}
	}
	return v.speech
}

// isLoud asks the voice that goes by loudness, which takes smaller pieces.
func (v *Voice) isLoud(window []int16) (loud bool) {
	v.rest = append(v.rest, window...)
	at := 0
	for ; at+v.block <= len(v.rest); at += v.block {
		loud = v.loud.Speech(v.rest[at:at+v.block]) || loud
	}
	v.rest = v.rest[:copy(v.rest, v.rest[at:])]
	return loud
}

// take makes window samples of the model: at its rate, from -1 to 1.
func (v *Voice) take(window []int16) {
	v.wide = v.wide[:0]
	for _, s := range window {
		v.wide = append(v.wide, float32(s)/32768)
	}
	if v.narrow == nil {
		v.at8k = append(v.at8k, v.wide...)
		return
	}
	v.at8k = v.narrow.Process(v.at8k, v.wide)
}
