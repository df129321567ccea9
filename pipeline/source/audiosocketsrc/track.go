package audiosocketsrc

import (
	"encoding/binary"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// Messages are gathered into frames of so much audio: each hand-over to
	// the recogniser's queue costs more than what is in it.
	frameSpan = 60 * time.Millisecond

	// Audio that comes this much later than its samples say begins anew at
	// its arrival: nothing was sent in between. Less is the network's doing.
	realGap = 500 * time.Millisecond

	maxKeys = 16 // a frame; nobody presses more in its time

	// A leg that sends nothing is told the time about this often.
	markEvery = time.Second
)

// track puts the audio of one socket on a clock that counts its samples, and
// jumps where nothing came for a while. Times are since the socket came. It is
// arithmetic only.
type track struct {
	pending audio.Frame   // being gathered
	end     time.Duration // of what was gathered so far
	began   bool
	out     []audio.Frame
}

// take returns the frames that are ready.
func (t *track) take() []audio.Frame {
	out := t.out
	t.out = nil
	return out
}

// sound takes the samples of one message that came at the time at. A byte too
// many is left out.
func (t *track) sound(payload []byte, rateHz int, at time.Duration) {
	n := len(payload) / 2
	if n == 0 {
		return
	}
	begin := at - audio.Span(n, rateHz)
	if gap := begin - t.end; gap > realGap || !t.began && gap > 0 {
		t.flush()
		t.end = begin
	}
	t.began = true
	if t.pending.Rate != rateHz {
		t.flush()
	}
	if len(t.pending.PCM) == 0 && t.pending.Keys == "" {
		t.pending.Start = t.end
	}
	t.pending.Rate = rateHz
	if t.pending.PCM == nil {
		t.pending.PCM = make([]int16, 0, max(n, int(frameSpan*time.Duration(rateHz)/time.Second)))
	}
	for i := range n {
		t.pending.PCM = append(t.pending.PCM, int16(binary.LittleEndian.Uint16(payload[2*i:])))
	}
	t.end = t.pending.End()
	if t.end-t.pending.Start >= frameSpan {
		t.flush()
	}
}

// key takes a keypad digit.
func (t *track) key(digit string) {
	if len(t.pending.PCM) == 0 && t.pending.Keys == "" {
		t.pending.Start = t.end
	}
	t.pending.Keys += digit
	if len(t.pending.Keys) == maxKeys {
		t.flush()
	}
}

// mark tells that nothing came until at: what was gathered is ready, and the
// clock goes on without audio. What comes a little late still has its place.
func (t *track) mark(at time.Duration) {
	t.flush()
	if at-realGap > t.end {
		t.end = at - realGap
		t.out = append(t.out, audio.Frame{Start: t.end, Rate: t.rate()})
	}
}

func (t *track) flush() {
	if len(t.pending.PCM) == 0 && t.pending.Keys == "" {
		return
	}
	rate := t.rate()
	t.pending.Rate = rate
	t.out = append(t.out, t.pending)
	t.pending = audio.Frame{Rate: rate}
}

// rate is that of the audio so far.
func (t *track) rate() int {
	if t.pending.Rate == 0 {
		return 8000
	}
	return t.pending.Rate
}
