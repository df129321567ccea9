package media

import (
	"math"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// comfortSpan is how much noise is made after a packet of it. Two seconds
	// are enough for every rule by which a recogniser ends an utterance; after
	// that silence is as good, and costs nothing.
	comfortSpan = 2 * time.Second

	// loudest is the loudest noise that is believed, in -dB of overload: it is
	// for the comfort of the listener, and ours is a recogniser.
	loudest = 45
)

// comfort is the noise that stands for silence, RFC 3389.
type comfort struct {
	on        bool
	until     time.Duration
	amplitude int32
	random    uint32
}

// rest hears a packet of comfort noise: its sender says nothing for a while.
func (t *Track) rest(out []audio.Frame, c *codec, p packet, at time.Duration, lost int) []audio.Frame {
	level := loudest
	if len(p.payload) > 0 {
		level = max(level, int(p.payload[0]&0x7f))
	}
	rateHz := t.clock.rateHz
	if rateHz == 0 {
		rateHz = minRateHz
	}
	if t.clock.hz != 0 && t.clock.hz != c.ClockHz {
		return out // of no clock that we know
	}
	out = t.moveTo(out, rateHz, c.ClockHz, p.timestamp, at, lost)
	t.comfort.on = true
	t.comfort.until = t.clock.end() + comfortSpan
	// Uniform noise has a root mean square of its peak by the root of 3.
	t.comfort.amplitude = int32(math.Sqrt(3) * 32768 * math.Pow(10, -float64(level)/20))
	return out
}

// soothe makes the noise that is due at the time at. It stays behind by the
// reorder window: speech that is on its way comes in its place.
func (t *Track) soothe(out []audio.Frame, at time.Duration) []audio.Frame {
	if !t.comfort.on || t.order.waiting > 0 {
		return out
	}
	to := min(t.comfort.until, at-max(t.cfg.Window, minSoothe))
	n := t.clock.samples(to - t.clock.end())
	out = t.hush(out, n)
	t.clock.due += t.clock.ticks(n)
	return out
}

// minSoothe is the jitter that is allowed for where there is no window.
const minSoothe = 60 * time.Millisecond

// hush makes n samples of noise.
func (t *Track) hush(out []audio.Frame, n int) []audio.Frame {
	for n > 0 {
		t.begin()
		m := min(n, t.room())
		for range m {
			t.comfort.random = t.comfort.random*1664525 + 1013904223
			v := int32(t.comfort.random>>16) - 1<<15
			t.pending.PCM = append(t.pending.PCM, int16(v*t.comfort.amplitude>>15))
		}
		t.clock.pos += int64(m)
		n -= m
		out = t.handFull(out)
	}
	return out
}
