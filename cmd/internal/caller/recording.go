package caller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// Recording is a call to be played: one leg, or two of the same length.
type Recording struct {
	Path   string
	RateHz int
	Legs   []Side
	opus   [][]byte // packets, in place of the legs' samples; see OpenOpus
}

// Side is what one party of the recorded call says.
type Side struct {
	Leg audio.Leg
	PCM []int16
}

// Length is how long it lasts.
func (r *Recording) Length() time.Duration {
	if r.opus != nil {
		return time.Duration(len(r.opus)) * packetTime
	}
	return audio.Span(len(r.Legs[0].PCM), r.RateHz)
}

// Only keeps one leg of the call.
func (r *Recording) Only(leg audio.Leg) (*Recording, error) {
	for _, s := range r.Legs {
		if s.Leg == leg {
			return &Recording{Path: r.Path, RateHz: r.RateHz, Legs: []Side{s}}, nil
		}
	}
	return nil, fmt.Errorf("%s has no leg of the %s: it has one channel", r.Path, leg)
}

// longest is how much audio a recording may hold: it is played from memory.
const longest = 4 * time.Hour

// Open reads the WAV or FLAC file at path; the left channel of a stereo
// recording is the caller, unless callerRight.
func Open(path string, callerRight bool) (*Recording, error) {
	f, err := audio.OpenFile(path, audio.FileOptions{CallerRight: callerRight})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info := f.Info()
	r := &Recording{Path: path, RateHz: info.RateHz}
	for _, leg := range info.Legs {
		r.Legs = append(r.Legs, Side{Leg: leg})
	}
	for {
		frame, err := f.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if frame.End() > longest {
			return nil, fmt.Errorf("%s: longer than %v, the most that is played", path, longest)
		}
		for i := range r.Legs {
			if r.Legs[i].Leg == frame.Leg {
				r.Legs[i].PCM = append(r.Legs[i].PCM, frame.PCM...)
			}
		}
	}
	n := 0
	for _, s := range r.Legs {
		n = max(n, len(s.PCM))
	}
	if n == 0 {
		return nil, fmt.Errorf("%s: there is no audio in it", path)
	}
	for i := range r.Legs {
		s := &r.Legs[i]
		s.PCM = append(s.PCM, make([]int16, n-len(s.PCM))...)
	}
	return r, nil
}
