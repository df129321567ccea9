package websock

import (
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// frameSpan is how much audio is gathered into a frame: each hand-over costs
	// more than what is in it.
	frameSpan = 60 * time.Millisecond

	// realGap is how late audio must come, by what its samples say, for nothing
	// to have been sent in between. Less is the network's doing.
	realGap = 500 * time.Millisecond

	// maxFill is how much lost audio is filled with silence. A longer hole is a
	// jump of the clock.
	maxFill = 2 * time.Second

	maxKeys = 16 // a frame; nobody presses more in its time
)

// Track puts the audio of one leg on a clock that counts its samples, and
// jumps where nothing came for a while. All times are since the call began. It
// is arithmetic only: who calls it hands the frames of Take on.
type Track struct {
	Leg audio.Leg

	pending audio.Frame   // being gathered
	end     time.Duration // of what was gathered so far
	began   bool
	out     []audio.Frame
}

// Take returns the frames that are ready, which are good until the next call
// of any method.
func (t *Track) Take() []audio.Frame {
	out := t.out
	t.out = t.out[:0]
	return out
}

// End is where the next sample has its place.
func (t *Track) End() time.Duration { return t.end }

// Came takes n samples at rateHz that decode appends to what it is given. They
// came at the time at: where that is later than the samples before allow, the
// clock jumps.
func (t *Track) Came(at time.Duration, rateHz, n int, decode func(dst []int16) []int16) {
	if n == 0 {
		return
	}
	begin := at - audio.Span(n, rateHz)
	if gap := begin - t.end; gap > realGap || !t.began && gap > 0 {
		t.Skip(begin)
	}
	t.Add(rateHz, n, decode)
}

// Add takes n samples that follow those before.
func (t *Track) Add(rateHz, n int, decode func(dst []int16) []int16) {
	if n == 0 {
		return
	}
	t.began = true
	if t.pending.Rate != rateHz {
		t.Flush()
	}
	t.open(rateHz, n)
	t.pending.PCM = decode(t.pending.PCM)
	t.end = t.pending.End()
	if t.end-t.pending.Start >= frameSpan {
		t.Flush()
	}
}

// Lose has the audio up to the time to, which will not come, made up: silence
// where it is short, and a jump where it is long.
func (t *Track) Lose(to time.Duration) {
	hole := to - t.end
	if hole <= 0 {
		return
	}
	if hole > maxFill || !t.began {
		t.Skip(to)
		return
	}
	rate := t.rate()
	n := int(hole * time.Duration(rate) / time.Second)
	t.open(rate, n)
	t.pending.PCM = append(t.pending.PCM, make([]int16, n)...)
	t.pending.Lost += audio.Span(n, rate)
	t.end = t.pending.End()
	t.Flush()
}

// Key takes a keypad digit.
func (t *Track) Key(digit string) {
	t.open(t.rate(), 0)
	t.pending.Keys += digit
	if len(t.pending.Keys) >= maxKeys {
		t.Flush()
	}
}

// Mark tells that nothing came until at: what was gathered is ready, and the
// clock goes on without audio. What comes a little late still has its place.
func (t *Track) Mark(at time.Duration) {
	t.Flush()
	if at-realGap > t.end {
		t.end = at - realGap
		t.out = append(t.out, audio.Frame{Leg: t.Leg, Start: t.end, Rate: t.rate()})
	}
}

// Flush makes ready what was gathered.
func (t *Track) Flush() {
	if len(t.pending.PCM) == 0 && t.pending.Keys == "" {
		return
	}
	t.out = append(t.out, t.pending)
	t.pending = audio.Frame{Rate: t.pending.Rate}
}

// Skip moves the clock on to a time before which nothing was sent.
func (t *Track) Skip(to time.Duration) {
	if to > t.end {
		t.Flush()
		t.end = to
	}
}

// open has room for n more samples in the frame that is gathered.
func (t *Track) open(rateHz, n int) {
	if len(t.pending.PCM) == 0 && t.pending.Keys == "" {
		t.pending.Start, t.pending.Leg = t.end, t.Leg
	}
	t.pending.Rate = rateHz
	if t.pending.PCM == nil && n > 0 {
		t.pending.PCM = make([]int16, 0, max(n, int(frameSpan*time.Duration(rateHz)/time.Second)))
	}
}

// rate is that of the audio so far.
func (t *Track) rate() int {
	if t.pending.Rate == 0 {
		return 8000
	}
	return t.pending.Rate
}
