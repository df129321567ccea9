package audio

import (
	"fmt"
	"math"
	"time"
)

// FrontEndConfig says what a recogniser wants to hear.
type FrontEndConfig struct {
	RateHz int // of the frames that come out: the model's
	// Unfilled leaves the band empty that narrow-band audio does not carry.
	// It is for showing what the filling is worth.
	Unfilled bool
}

// FrontEnd makes a leg sound like the speech that a recogniser was trained on:
// no direct current, no hum, speech at about -24 dBFS, the model's sample rate, and
// something in the band that a telephone channel does not carry. One FrontEnd
// serves one leg and is used by one goroutine at a time. The same audio gives
// the same output however it is cut into frames.
type FrontEnd struct {
	rateHz   int
	unfilled bool

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
	fill    *band // nil where nothing is to be filled

	levelled, resampled []float32
	pcm                 []int16
	frames              [2]Frame
}

// NewFrontEnd returns a front end for one leg.
func NewFrontEnd(cfg FrontEndConfig) (*FrontEnd, error) {
	if cfg.RateHz < minRateHz || cfg.RateHz > maxRateHz {
		return nil, fmt.Errorf("front end: rate %d Hz: %d to %d Hz are supported", cfg.RateHz, minRateHz, maxRateHz)
	}
	return &FrontEnd{rateHz: cfg.RateHz, unfilled: cfg.Unfilled, find: newFinder(cfg.RateHz)}, nil
}

// frontShape of resampling: speech goes on to a recogniser that looks at bands
// of a hundred Hz and more, and above a telephone's band something is filled in
// anyway. At twice the rate every other sample is the input's own. That takes
// a quarter of the time of the exact filter there and half of it elsewhere.
func frontShape() shape { return shape{stopDB: 60, passBand: 0.9, fold: true} }

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
		r, err := newResampler(f.Rate, e.rateHz, frontShape())
		if err != nil {
			return err
		}
		// The level learned so far holds.
		e.direct, e.hum = newDirect(f.Rate), newHum(f.Rate)
		e.level = e.level.at(f.Rate)
		e.resampl, e.fill = r, nil
		if !e.unfilled {
			e.fill = newBand(e.rateHz)
		}
		e.channel = assumed(f.Rate)
		e.find.reset()
	}
	e.resampl.Reset()
	e.find.begin()
	e.direct.begin()
	e.hum.begin()
	// A stretch's last sample may reach past its end by a part of a sample.
	e.base = max(f.Start, e.base+Span(e.given, e.rateHz))
	e.in, e.from, e.heard, e.given, e.open = f.Rate, f.Start, 0, 0, true
	return nil
}

// finish ends the stretch.
func (e *FrontEnd) finish(out []Frame, leg Leg) []Frame {
	e.open = false
	e.resampled = e.resampl.Flush(e.resampled[:0])
	return e.give(out, leg)
}

// give appends the resampled samples as a frame.
func (e *FrontEnd) give(out []Frame, leg Leg) []Frame {
	e.frames[0].Leg = leg // Flush reads it there
	if len(e.resampled) == 0 {
		return out
	}
	for rest := e.resampled; len(rest) > 0; {
		now := e.channel
		n, _ := e.find.hear(rest, &e.channel)
		if e.fill != nil {
			e.fill.apply(rest[:n], now)
		}
		rest = rest[n:]
	}
	at := len(e.pcm)
	for _, v := range e.resampled {
		e.pcm = append(e.pcm, clip16(v))
	}
	out = append(out, Frame{Leg: leg, Start: e.base + Span(e.given, e.rateHz), Rate: e.rateHz, PCM: e.pcm[at:len(e.pcm):len(e.pcm)]})
	e.given += len(e.resampled)
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
