// Package textsrc takes calls in of which only the words are known: silence
// for as long as they take, for a recogniser that speaks a prepared transcript.
package textsrc

import (
	"context"
	"io"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// Name is the way in that calls and events carry.
const Name = "text"

const (
	rateHz = 8000
	frame  = 200 * time.Millisecond
)

// Silence is the audio of a call that lasts d: nothing on each of legs.
func Silence(d time.Duration, legs ...audio.Leg) audio.Reader {
	return &silence{left: d, legs: legs}
}

type silence struct {
	legs    []audio.Leg
	at      time.Duration
	left    time.Duration // not yet read, of the leg that is furthest behind
	pending int           // legs that have had the frame at at
}

func (s *silence) ReadFrame(ctx context.Context) (audio.Frame, error) {
	if err := ctx.Err(); err != nil {
		return audio.Frame{}, err
	}
	if s.left <= 0 || len(s.legs) == 0 {
		return audio.Frame{}, io.EOF
	}
	f := audio.Frame{
		Leg: s.legs[s.pending], Start: s.at, Rate: rateHz,
		PCM: make([]int16, rateHz*int(frame/time.Millisecond)/1000),
	}
	if s.pending++; s.pending == len(s.legs) {
		s.pending = 0
		s.at += frame
		s.left -= frame
	}
	return f, nil
}
