package reportsink

import (
	"context"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// drawStep is how much sound one peak stands for: 20 a second are 140 kB per
// leg and hour, and finer than a page can show.
const drawStep = 50 * time.Millisecond

// maxPeaks bounds a waveform against frames whose times are nonsense: 48 h.
const maxPeaks = int(48 * time.Hour / drawStep)

// drawing is an audio.Reader that keeps the peaks of what is read through it.
type drawing struct {
	r audio.Reader

	mu   sync.Mutex
	legs [3][]int16 // by audio.Leg
}

func (d *drawing) ReadFrame(ctx context.Context) (audio.Frame, error) {
	f, err := d.r.ReadFrame(ctx)
	if err == nil {
		d.take(f)
	}
	return f, err
}

func (d *drawing) take(f audio.Frame) {
	if int(f.Leg) >= len(d.legs) || f.Rate <= 0 || f.Start < 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	peaks := d.legs[f.Leg]
	for i := 0; i < len(f.PCM); {
		at := int((f.Start + audio.Span(i, f.Rate)) / drawStep)
		if at >= maxPeaks {
			break
		}
		// The samples up to the end of this step.
		left := time.Duration(at+1)*drawStep - f.Start
		end := min(max(int(left*time.Duration(f.Rate)/time.Second), i+1), len(f.PCM))
		for len(peaks) <= at {
			peaks = append(peaks, 0)
		}
		for _, v := range f.PCM[i:end] {
			if v < 0 {
				v = -max(v, -32767)
			}
			peaks[at] = max(peaks[at], v)
		}
		i = end
	}
	d.legs[f.Leg] = peaks
}

func (d *drawing) waveforms() []Waveform {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Waveform
	for leg, peaks := range d.legs {
		if len(peaks) > 0 {
			out = append(out, Waveform{Leg: audio.Leg(leg), Step: drawStep, Peaks: peaks})
		}
	}
	return out
}
