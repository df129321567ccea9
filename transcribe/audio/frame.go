// Package audio carries the sound of a call from a source to a recogniser:
// decoding, resampling and the front end that makes telephone speech look like
// the speech a model was trained on. It knows nothing of words.
package audio

import (
	"context"
	"fmt"
	"time"
)

// Leg is one party's side of a call.
type Leg uint8

const (
	Unknown Leg = iota // mono recordings, conference mixes
	Caller             // the party who placed the call
	Callee             // the party who was called
)

// Other returns the opposite side of a two-leg call; the other side of an
// unknown leg is unknown.
func (l Leg) Other() Leg {
	switch l {
	case Caller:
		return Callee
	case Callee:
		return Caller
	}
	return Unknown
}

func (l Leg) String() string {
	switch l {
	case Caller:
		return "caller"
	case Callee:
		return "callee"
	}
	return "unknown"
}

// ParseLeg reads what [Leg.String] writes.
func ParseLeg(s string) (Leg, error) {
	switch s {
	case "caller":
		return Caller, nil
	case "callee":
		return Callee, nil
	case "unknown", "":
		return Unknown, nil
	}
	return Unknown, fmt.Errorf("leg %q is none of caller, callee, unknown", s)
}

// Frame is a run of mono 16-bit PCM of one leg. Whoever receives a frame owns
// its PCM.
type Frame struct {
	Leg   Leg
	Start time.Duration // media clock: samples since the call began
	Rate  int           // Hz
	PCM   []int16
	// Lost is how much of PCM never came and was made up in its place.
	Lost time.Duration
	// Keys are the keypad digits (0-9, *, #, A-D) whose tone or telephone-event
	// ended in this frame; empty for nearly all.
	Keys string
}

// End is the media time just after the frame's last sample.
func (f Frame) End() time.Duration { return f.Start + Span(len(f.PCM), f.Rate) }

// Span is how long n samples last at rateHz, rounded down to the nanosecond.
// It is exact for whole seconds, so times taken from sample counts do not
// drift however long a call lasts.
func Span(n, rateHz int) time.Duration {
	if rateHz <= 0 {
		return 0
	}
	return time.Duration(n/rateHz)*time.Second + time.Duration(n%rateHz)*time.Second/time.Duration(rateHz)
}

// Reader is the audio of one call.
//
// ReadFrame blocks for the next frame of any leg. Frames of one leg come in
// order and without overlap; legs interleave by media time. It returns io.EOF
// after a normal end and ctx.Err() when ctx ends first. Any other error means
// that audio was lost; what was returned before it is good. It is called from
// one goroutine only.
type Reader interface {
	ReadFrame(ctx context.Context) (Frame, error)
}
