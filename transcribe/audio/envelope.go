package audio

import (
	"context"
	"math"
	"time"
)

// Envelope is a Reader that hands another's frames through and keeps how loud
// each leg was, for drawing it. Its memory is bounded: when there would be
// more windows than allowed, each two become one.
type Envelope struct {
	src    Reader
	window time.Duration
	most   int
	legs   [Callee + 1][]loudness
}

var _ Reader = (*Envelope)(nil)

// Level is how loud one window was.
type Level struct {
	Peak int16 // largest magnitude of a sample
	RMS  int16 // root of the mean square; both 0 where nothing was heard
}

type loudness struct {
	peak int16
	sum  float64 // of squares
	n    int64
}

// NewEnvelope wraps src. A window is at first as given, the number of windows
// never above most, which is at least 2.
func NewEnvelope(src Reader, window time.Duration, most int) *Envelope {
	return &Envelope{src: src, window: max(window, time.Millisecond), most: max(most, 2)}
}

// ReadFrame implements [Reader].
func (e *Envelope) ReadFrame(ctx context.Context) (Frame, error) {
	f, err := e.src.ReadFrame(ctx)
	if err == nil && f.Rate > 0 && f.Start >= 0 && f.Leg <= Callee {
		e.add(f)
	}
	return f, err
}

// Window is how long a window is now. It has doubled some times where the
// call was long.
func (e *Envelope) Window() time.Duration { return e.window }

// Levels are leg's windows from the start of the call to the last one heard of
// that leg. It is called from the goroutine that reads, or after it is done.
func (e *Envelope) Levels(leg Leg) []Level {
	if leg > Callee {
		return nil
	}
	out := make([]Level, len(e.legs[leg]))
	for i, w := range e.legs[leg] {
		out[i].Peak = w.peak
		if w.n > 0 {
			out[i].RMS = clip16(float32(math.Sqrt(w.sum / float64(w.n))))
		}
	}
	return out
}

func (e *Envelope) add(f Frame) {
	for at := 0; at < len(f.PCM); {
		t := f.Start + Span(at, f.Rate)
		for int64(t/e.window) >= int64(e.most) {
			e.halve()
		}
		i := int(t / e.window)
		// Samples up to the window's end; at least one, for a window may be
		// shorter than a sample's rounding.
		left := (time.Duration(i+1)*e.window - t).Seconds() * float64(f.Rate)
		end := min(len(f.PCM), at+max(1, int(math.Ceil(left))))
		windows := e.legs[f.Leg]
		for len(windows) <= i {
			windows = append(windows, loudness{})
		}
		windows[i].add(f.PCM[at:end])
		e.legs[f.Leg] = windows
		at = end
	}
}

// halve makes one window of each two.
func (e *Envelope) halve() {
	e.window *= 2
	for leg, windows := range e.legs {
		n := (len(windows) + 1) / 2
		for i := range n {
			w := windows[2*i]
			if 2*i+1 < len(windows) {
				next := windows[2*i+1]
				w.peak, w.sum, w.n = max(w.peak, next.peak), w.sum+next.sum, w.n+next.n
			}
			windows[i] = w
		}
		e.legs[leg] = windows[:n]
	}
}

func (w *loudness) add(pcm []int16) {
	for _, v := range pcm {
		if v < 0 {
			v = max(v, -math.MaxInt16) // -32768 has no positive
			v = -v
		}
		w.peak = max(w.peak, v)
		w.sum += float64(v) * float64(v)
	}
	w.n += int64(len(pcm))
}
