package grpcsrc

import (
	"time"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// Runs are gathered into frames of so much audio: each hand-over to the
	// recogniser's queue costs more than what is in it.
	frameSpan = 60 * time.Millisecond

	// Audio without a start that comes this much later than the audio before
	// ended begins at its arrival: nothing was said in between. Less is the
	// network's doing.
	realGap = 500 * time.Millisecond

	// Starts that are so much before or after where the audio before ended were
	// taken from a clock that is not that of the samples: the audio follows on.
	early, late = 100 * time.Millisecond, 10 * time.Millisecond

	// A start further ahead of the clock than this is a mistake: a call's clock
	// begins at 0.
	farAhead = time.Minute

	maxKeys = 16 // a message; nobody presses more in its time
)

// track puts the audio of one leg in order. Times are since the call was
// opened. It is arithmetic only.
type track struct {
	leg     audio.Leg
	rateHz  int
	pending audio.Frame   // being gathered
	end     time.Duration // of what was gathered, or marked
	told    time.Duration // where the client's clock has come to
	shift   time.Duration // from the client's clock to ours: it fell behind what was marked
	began   bool
	out     []audio.Frame
}

// take returns the frames that are ready.
func (t *track) take() []audio.Frame {
	out := t.out
	t.out = nil
	return out
}

// sound takes a run that came at the time at; start is below 0 where it was not
// told. Its PCM is not kept.
func (t *track) sound(start time.Duration, pcm []int16, lost, at time.Duration) error {
	span := audio.Span(len(pcm), t.rateHz)
	switch {
	case start < 0:
		start = t.told
		if begin := at - span - t.shift; begin-start > realGap || !t.began && begin > start {
			start = begin
		}
	case start < t.told-early:
		return refuse(audioRefused, "audio of the %v that starts at %v overlaps what came before, to %v", t.leg, start, t.told)
	case start-max(at, t.told) > farAhead:
		return refuse(audioRefused, "audio of the %v starts at %v, and the call is at %v", t.leg, start, at.Round(time.Millisecond))
	case start < t.told+late:
		start = t.told
	}
	if len(pcm) == 0 {
		return nil
	}
	t.began = true
	t.told = start + span
	t.place(start)
	for len(pcm) > 0 {
		n := min(len(pcm), t.most()-len(t.pending.PCM))
		made := min(lost, audio.Span(n, t.rateHz))
		lost -= made
		if t.pending.PCM == nil {
			t.pending = audio.Frame{Leg: t.leg, Start: t.end, Rate: t.rateHz, PCM: make([]int16, 0, t.most())}
		}
		t.pending.PCM = append(t.pending.PCM, pcm[:n]...)
		t.pending.Lost += made
		t.end = t.pending.End()
		pcm = pcm[n:]
		if len(t.pending.PCM) == t.most() {
			t.flush()
		}
	}
	return nil
}

// place moves to where a run starts, if that is not where the one before ended.
func (t *track) place(start time.Duration) {
	at := start + t.shift
	switch gap := at - t.end; {
	case gap < 0: // late: the time was marked as empty
		t.shift -= gap
		return
	case t.shift > 0: // what was late has caught up, as far as the gap goes
		back := min(gap, t.shift)
		t.shift -= back
		at -= back
	}
	if at > t.end {
		t.flush()
		t.end = at
	}
}

func (t *track) most() int { return int(frameSpan * time.Duration(t.rateHz) / time.Second) }

// keys takes keypad digits.
func (t *track) keys(digits string) {
	t.flush()
	t.out = append(t.out, audio.Frame{Leg: t.leg, Start: t.end, Rate: t.rateHz, Keys: digits})
}

// mark tells that nothing came until at: what was gathered is ready, and the
// clock goes on without audio. What comes a little late still has its place.
func (t *track) mark(at time.Duration) {
	t.flush()
	if at-realGap > t.end {
		t.end = at - realGap
		t.out = append(t.out, audio.Frame{Leg: t.leg, Start: t.end, Rate: t.rateHz})
	}
}

// flush has what was gathered ready.
func (t *track) flush() {
	if len(t.pending.PCM) > 0 {
		t.out = append(t.out, t.pending)
	}
	t.pending = audio.Frame{}
}

// decode turns samples on the wire into PCM; ok is false where they end within
// one.
func decode(encoding callwardenv1.AudioEncoding, samples []byte) (pcm []int16, ok bool) {
	switch encoding {
	case callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMU:
		return audio.MuLaw.Decode(make([]int16, 0, len(samples)), samples), true
	case callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA:
		return audio.ALaw.Decode(make([]int16, 0, len(samples)), samples), true
	}
	if len(samples)%2 != 0 {
		return nil, false
	}
	pcm = make([]int16, len(samples)/2)
	for i := range pcm {
		pcm[i] = int16(uint16(samples[2*i]) | uint16(samples[2*i+1])<<8)
	}
	return pcm, true
}

// encode is the other way round.
func encode(encoding callwardenv1.AudioEncoding, pcm []int16) []byte {
	switch encoding {
	case callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMU:
		return audio.MuLaw.Encode(make([]byte, 0, len(pcm)), pcm)
	case callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA:
		return audio.ALaw.Encode(make([]byte, 0, len(pcm)), pcm)
	}
	samples := make([]byte, 0, 2*len(pcm))
	for _, v := range pcm {
		samples = append(samples, byte(v), byte(uint16(v)>>8))
	}
	return samples
}
