package audio

import (
	"fmt"
	"time"
)

// Voice tells one leg's speech from its other sounds. It is used by one
// goroutine at a time.
type Voice interface {
	// Start begins a stretch of audio at rateHz and returns how many samples
	// Speech takes at a time. What was learned of the leg may stay.
	Start(rateHz int) (window int)
	// Speech hears the stretch's next window and reports whether somebody
	// speaks in it. It does not keep the window.
	Speech(window []int16) bool
}

// GateConfig tunes a Gate.
type GateConfig struct {
	// PreRoll is what is let through of the audio before the window in which
	// speech was noticed: words begin softly.
	PreRoll time.Duration
	// HangOver is how long the gate stays open after the last speech. It
	// bridges the pauses within a sentence, carries soft endings, and gives
	// the recogniser the silence by which it knows the end of an utterance.
	HangOver time.Duration
}

// DefaultGateConfig clips no word and lets the recogniser see the end of what
// was said.
func DefaultGateConfig() GateConfig {
	return GateConfig{PreRoll: 300 * time.Millisecond, HangOver: 500 * time.Millisecond}
}

// Validate says which key is wrong and what it must be.
func (c GateConfig) Validate() error {
	if c.PreRoll < 0 || c.PreRoll > 2*time.Second {
		return fmt.Errorf("gate.pre_roll: %v must be from 0s to 2s", c.PreRoll)
	}
	if c.HangOver < 0 || c.HangOver > 10*time.Second {
		return fmt.Errorf("gate.hang_over: %v must be from 0s to 10s", c.HangOver)
	}
	return nil
}

// Gate lets a leg's speech through and holds the rest back, so that silence,
// tones and the noise of the line are not decoded. It serves one leg and is
// used by one goroutine at a time. The same audio passes however it is cut
// into frames.
type Gate struct {
	cfg   GateConfig
	voice Voice

	rate     int           // of the stretch; 0 before the first frame
	end      time.Duration // media time heard so far
	open     bool
	quiet    int     // samples since the last speech, while open
	hang     int     // samples of HangOver
	window   []int16 // of the voice, as far as it has come
	size     int     // samples of a whole one
	before   []int16 // ring of the last samples while closed
	at, held int     // where the ring is written next; samples in it
}

// NewGate returns a gate for one leg. The configuration has been validated.
func NewGate(cfg GateConfig, v Voice) *Gate { return &Gate{cfg: cfg, voice: v} }

// Process takes the leg's next frame and returns what of it and of the audio
// before it is to be decoded, in order, without overlap, with true times; open
// reports whether more of the same utterance may follow. A frame without
// samples says that nothing came until its Start. The frames are slices of
// f.PCM or new: they are the caller's, as f was.
func (g *Gate) Process(f Frame) (voiced []Frame, open bool) {
	if f.Rate <= 0 {
		f.Rate = g.rate
	}
	g.miss(f.Start)
	if len(f.PCM) == 0 {
		return nil, g.open
	}
	if f.Rate != g.rate {
		g.start(f.Rate)
	}
	from := 0 // first sample of f that is let through, while open
	for i := 0; i < len(f.PCM); {
		n := min(g.size-len(g.window), len(f.PCM)-i)
		part := f.PCM[i : i+n]
		g.window = append(g.window, part...)
		if !g.open {
			g.keep(part)
		}
		i += n
		if len(g.window) < g.size {
			break
		}
		speech := g.voice.Speech(g.window)
		g.window = g.window[:0]
		switch {
		case speech && !g.open:
			g.open, g.quiet = true, 0
			voiced = append(voiced, g.release(f, i))
			from = i
		case speech:
			g.quiet = 0
		case g.open:
			if g.quiet += g.size; g.quiet >= g.hang {
				g.open = false
				voiced = cut(voiced, f, from, i)
			}
		}
	}
	if g.open {
		voiced = cut(voiced, f, from, len(f.PCM))
	}
	g.end = max(g.end, f.End())
	return voiced, g.open
}

// Open reports whether the gate is open.
func (g *Gate) Open() bool { return g.open }

// cut appends f's samples from..to, in a frame of their own unless they go on
// from a pre-roll.
func cut(out []Frame, f Frame, from, to int) []Frame {
	if from >= to {
		return out
	}
	if n := len(out); n > 0 && from > 0 { // only a pre-roll ends within f
		out[n-1].PCM = append(out[n-1].PCM, f.PCM[from:to]...)
		return out
	}
	f.Start += Span(from, f.Rate)
	f.PCM = f.PCM[from:to:to]
	return append(out, f)
}

// miss notes audio that never came before to.
func (g *Gate) miss(to time.Duration) {
	gap := to - g.end
	if g.rate == 0 || gap <= Span(1, g.rate)+1 {
		return // a sample is rounding in the source's clock
	}
	g.end = to
	g.held = 0 // what lies before the gap is not what leads up to speech after it
	g.quiet += int(min(gap, g.cfg.HangOver+time.Second) * time.Duration(g.rate) / time.Second)
	if g.quiet >= g.hang {
		g.open = false
	}
}

// start begins audio at another rate.
func (g *Gate) start(rateHz int) {
	quiet := Span(g.quiet, g.rate)
	g.rate = rateHz
	g.size = g.voice.Start(rateHz)
	g.window = g.window[:0]
	g.quiet, g.hang = g.samples(quiet), g.samples(g.cfg.HangOver)
	// The ring takes the window in which speech is noticed, too.
	g.before = make([]int16, g.samples(g.cfg.PreRoll)+g.size)
	g.at, g.held = 0, 0
}

func (g *Gate) samples(d time.Duration) int {
	return int(d * time.Duration(g.rate) / time.Second)
}

// keep puts pcm into the ring.
func (g *Gate) keep(pcm []int16) {
	if len(pcm) > len(g.before) {
		pcm = pcm[len(pcm)-len(g.before):]
	}
	n := copy(g.before[g.at:], pcm)
	copy(g.before, pcm[n:])
	g.at = (g.at + len(pcm)) % len(g.before)
	g.held = min(g.held+len(pcm), len(g.before))
}

// release empties the ring, which ends with the first n samples of f, into a
// frame that has room for the rest of f.
func (g *Gate) release(f Frame, n int) Frame {
	pcm := make([]int16, 0, g.held+len(f.PCM)-n)
	oldest := (g.at - g.held + len(g.before)) % len(g.before)
	pcm = append(pcm, g.before[oldest:min(oldest+g.held, len(g.before))]...)
	pcm = append(pcm, g.before[:g.held-len(pcm)]...)
	f.Start = max(0, f.Start+Span(n, f.Rate)-Span(len(pcm), f.Rate))
	f.PCM = pcm
	g.held = 0
	return f
}
