package reportsink

import (
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// A drawing starts with peaks of drawStep and keeps at most drawPeaks per leg,
// some times more than a page shows unzoomed: a call of over half an hour is
// drawn more coarsely, and none costs more than half a megabyte.
const (
	drawStep  = 50 * time.Millisecond
	drawPeaks = 40_000
)

// waveforms are the legs that e has heard.
func waveforms(e *audio.Envelope) []Waveform {
	var out []Waveform
	for _, leg := range []audio.Leg{audio.Unknown, audio.Caller, audio.Callee} {
		levels := e.Levels(leg)
		if len(levels) == 0 {
			continue
		}
		w := Waveform{Leg: leg, Step: e.Window(), Peaks: make([]int16, len(levels))}
		for i, l := range levels {
			w.Peaks[i] = l.Peak
		}
		out = append(out, w)
	}
	return out
}
