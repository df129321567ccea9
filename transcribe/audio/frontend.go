package audio

import (
	"fmt"
	"math"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio/extend"
)

// FrontEndConfig says what a recogniser wants to hear.
type FrontEndConfig struct {
	RateHz  int // of the frames that come out: the model's
	Filling Filling
}

// Filling is what takes the place of what a channel does not carry.
type Filling uint8

const (
	// Learned puts back what speech has there, as [extend.Extender] tells it
	// from the rest. Models of other rates than its own get Simple.
	Learned Filling = iota
	// Simple is a mirror image and a steady noise above 4 kHz. It shows what
	// the learned filling is worth.
	Simple
	// Unfilled leaves it empty.
	Unfilled
)

// FrontEnd makes a leg sound like the speech that a recogniser was trained on:
// no direct current, no hum, speech at about -24 dBFS, the model's sample rate, and
// something in the band that a telephone channel does not carry. One FrontEnd
// serves one leg and is used by one goroutine at a time. The same audio gives
// the same output however it is cut into frames.
type FrontEnd struct {
	rateHz int

	open    bool
	in      int           // rate of the stretch being heard
	from    time.Duration // where that stretch starts, in
	base    time.Duration // and out; later than from by less than a sample
	heard   int           // samples of the stretch so far, in
	given   int           // and out
	direct  direct
	hum     *hum
	level   gain
	resampl *Resampler
	find    *finder
	channel Channel
	extend  *extend.Extender // nil unless the filling is Learned
	simple  *band            // nil unless it is Simple

	levelled, resampled, filled []float32
	pcm                         []int16
	frames                      [2]Frame
}

// NewFrontEnd returns a front end for one leg.
func NewFrontEnd(cfg FrontEndConfig) (*FrontEnd, error) {
	if cfg.RateHz < minRateHz || cfg.RateHz > maxRateHz {
		return nil, fmt.Errorf("front end: rate %d Hz: %d to %d Hz are supported", cfg.RateHz, minRateHz, maxRateHz)
	}
	e := &FrontEnd{rateHz: cfg.RateHz, find: newFinder(cfg.RateHz)}
	switch {
	case cfg.Filling == Learned && cfg.RateHz == extend.RateHz:
		e.extend = extend.New(extend.Default())
	case cfg.Filling != Unfilled:
		e.simple = newBand(cfg.RateHz)
	}
	return e, nil
}

// Channel is what has been found out of the leg's channel so far: after some
// words, and anew where the rate changes. Over gaps it holds.
func (e *FrontEnd) Channel() Channel {
	if !e.find.known {
		return Channel{RateHz: e.in}
	}
	ch := e.channel
	ch.HumHz, ch.Clipped = e.hum.mainsHz, e.direct.clipped()
	if e.level.noise >= 0 {
		ch.NoiseDB = math.Round(10 * math.Log10(max(e.level.noise, 1)/(32768*32768)))
	}
	return ch
}

// Process takes the leg's next frame and returns what is complete with it: in
// steady state one frame, which lags the input by some milliseconds; none
// where f is very short; two where f does not continue the frame before, as
// the rate changed or audio is missing in between.
//
// The frames' times are true: Start is when the sample was spoken, and it never
// steps back. What of f overlaps audio that was heard before is dropped. The
// frames and their PCM are good until the next call; whoever keeps them copies
// them. f is not kept. An error means that the frame's rate is not supported:
// nothing was heard, and the next frame may do better.
func (e *FrontEnd) Process(f Frame) ([]Frame, error) {
	if f.Rate < minRateHz || f.Rate > maxRateHz {
		return nil, fmt.Errorf("frame of %d Hz: rates from %d to %d Hz are supported", f.Rate, minRateHz, maxRateHz)
	}
	out := e.frames[:0]
	e.pcm = e.pcm[:0]
	if e.open {
		// A time that is off by a sample is rounding in the source's clock.
		off := f.Start - e.end()
		slack := Span(1, f.Rate) + 1
		if off < -slack {
			late := int(min(int64(-off)*int64(f.Rate)/int64(time.Second), int64(len(f.PCM))))
			f.PCM = f.PCM[late:]
			f.Start = e.end()
			off = 0
		}
		if len(f.PCM) == 0 {
			return out, nil
		}
		if f.Rate != e.in || off > slack {
			out = e.finish(out, f.Leg)
		}
	}
	if len(f.PCM) == 0 {
		return out, nil
	}
	if !e.open {
		if err := e.start(f); err != nil {
			return out, err
		}
	}
	e.levelled = e.direct.apply(e.levelled[:0], f.PCM)
	e.hum.apply(e.levelled)
	e.level.apply(e.levelled)
	e.heard += len(f.PCM)
	e.resampled = e.resampl.Process(e.resampled[:0], e.levelled)
	e.fill()
	return e.give(out, f.Leg), nil
}

// Flush ends the leg's audio, or a stretch of it, and returns what was waiting
// for samples to come. Process may follow.
func (e *FrontEnd) Flush() []Frame {
	e.pcm = e.pcm[:0]
	if !e.open {
		return nil
	}
	return e.finish(e.frames[:0], e.frames[0].Leg)
}

// end is the media time just after what was heard.
func (e *FrontEnd) end() time.Duration { return e.from + Span(e.heard, e.in) }

// start begins a stretch of audio without gaps at one rate.
func (e *FrontEnd) start(f Frame) error {
	if e.resampl == nil || e.in != f.Rate {
		r, err := NewSpeechResampler(f.Rate, e.rateHz)
		if err != nil {
			return err
		}
		// The level learned so far holds.
		e.direct, e.hum = newDirect(f.Rate), newHum(f.Rate)
		e.level = e.level.at(f.Rate)
		e.resampl = r
		e.channel = assumed(f.Rate)
		e.find.reset()
	}
	e.resampl.Reset()
	e.find.begin()
	e.direct.begin()
	e.hum.begin()
	if e.extend != nil {
		e.extend.Reset()
	}
	// A stretch's last sample may reach past its end by a part of a sample.
	e.base = max(f.Start, e.base+Span(e.given, e.rateHz))
	e.in, e.from, e.heard, e.given, e.open = f.Rate, f.Start, 0, 0, true
	return nil
}

// finish ends the stretch.
func (e *FrontEnd) finish(out []Frame, leg Leg) []Frame {
	e.open = false
	e.resampled = e.resampl.Flush(e.resampled[:0])
	e.fill()
	if e.extend != nil {
		e.filled = e.extend.Flush(e.filled)
	}
	return e.give(out, leg)
}

// fill puts what the channel does not carry beside the resampled samples. What
// is found out of the channel counts from the next sample on.
func (e *FrontEnd) fill() {
	e.filled = e.filled[:0]
	for rest := e.resampled; len(rest) > 0; {
		ch := e.channel
		if e.find.tone() {
			ch.LowHz, ch.HighHz = 0, wideHighHz // what is no speech must not be made into it
		}
		n, _ := e.find.hear(rest, &e.channel)
		switch {
		case e.extend != nil:
			e.filled = e.extend.Process(e.filled, rest[:n], extend.Edges{LowHz: ch.LowHz, HighHz: ch.HighHz})
		case e.simple != nil:
			e.simple.apply(rest[:n], ch)
			fallthrough
		default:
			e.filled = append(e.filled, rest[:n]...)
		}
		rest = rest[n:]
	}
}

// give appends the filled samples as a frame.
func (e *FrontEnd) give(out []Frame, leg Leg) []Frame {
	e.frames[0].Leg = leg // Flush reads it there
	if len(e.filled) == 0 {
		return out
	}
	at := len(e.pcm)
	for _, v := range e.filled {
		e.pcm = append(e.pcm, clip16(v))
	}
	out = append(out, Frame{Leg: leg, Start: e.base + Span(e.given, e.rateHz), Rate: e.rateHz, PCM: e.pcm[at:len(e.pcm):len(e.pcm)]})
	e.given += len(e.filled)
	return out
}

// clip16 rounds v to a sample.
func clip16(v float32) int16 {
	switch {
	case v >= 32767:
		return 32767
	case v <= -32768:
		return -32768
	case v < 0:
		return int16(v - 0.5)
	}
	return int16(v + 0.5)
}
