package route

import (
	"fmt"
	"math"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// converter makes the frames of a session those that a backend of another rate
// wants. Times stay those of the media clock.
type converter struct {
	leg      audio.Leg
	in, out  int
	r        *audio.Resampler
	begun    bool
	base     time.Duration // media time of sample 0 of the run
	taken    int           // samples of the run that came in
	given    int           // and went out
	src, dst []float32
}

// newConverter returns nil where in is out.
func newConverter(in, out int, leg audio.Leg) (*converter, error) {
	if in <= 0 {
		return nil, fmt.Errorf("%w: rate %d Hz", transcribe.ErrOption, in)
	}
	if in == out {
		return nil, nil //nolint:nilnil // there is nothing to convert
	}
	r, err := audio.NewSpeechResampler(in, out)
	if err != nil {
		return nil, fmt.Errorf("%w: rate %d Hz: %w", transcribe.ErrOption, in, err)
	}
	return &converter{leg: leg, in: in, out: out, r: r}, nil
}

// process returns f, and before it the end of the run before, if there is a
// gap between them.
func (c *converter) process(f audio.Frame) []audio.Frame {
	var frames []audio.Frame
	if end := c.base + audio.Span(c.taken, c.in); c.begun && f.Start-end > slack {
		frames = c.flush()
	}
	if !c.begun {
		c.begun, c.base, c.taken, c.given = true, f.Start, 0, 0
	}
	c.src = c.src[:0]
	for _, v := range f.PCM {
		c.src = append(c.src, float32(v))
	}
	c.taken += len(f.PCM)
	return c.append(frames, c.r.Process(c.dst[:0], c.src))
}

// flush ends the run.
func (c *converter) flush() []audio.Frame {
	if !c.begun {
		return nil
	}
	frames := c.append(nil, c.r.Flush(c.dst[:0]))
	c.r.Reset()
	c.begun = false
	return frames
}

func (c *converter) append(frames []audio.Frame, samples []float32) []audio.Frame {
	c.dst = samples
	// Rounded up, the last sample may lie behind the end of what came in.
	limit := int(int64(c.taken) * int64(c.out) / int64(c.in))
	n := min(len(samples), limit-c.given)
	if n <= 0 {
		return frames
	}
	pcm := make([]int16, n)
	for i, v := range samples[:n] {
		pcm[i] = int16(max(math.MinInt16, min(math.MaxInt16, math.RoundToEven(float64(v)))))
	}
	f := audio.Frame{Leg: c.leg, Start: c.base + audio.Span(c.given, c.out), Rate: c.out, PCM: pcm}
	c.given += len(pcm)
	return append(frames, f)
}
