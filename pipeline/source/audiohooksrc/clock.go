package audiohooksrc

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// Messages are gathered into frames of at least frameSpan and cut into
	// frames of at most frameMost: each hand-over costs more than what is in it.
	frameSpan = 60 * time.Millisecond
	frameMost = 100 * time.Millisecond

	// A call that is paused is told the time this often, one that is not but
	// of which nothing comes is told after lateAfter: what was only held up has
	// its place until then.
	markEvery = time.Second
	lateAfter = 2 * time.Second

	// Audio may come faster than it is spoken where a client sends what it has
	// kept back. More than this ahead of the clock is not what it is said to
	// be: other samples than agreed, or a recording.
	maxAhead = 20 * time.Second

	// maxAudio bounds a message of audio: 4 s of both parties. Clients send
	// 20 to 200 ms.
	maxAudio = 64 << 10 // bytes
)

// clock puts the audio of a session on the media clock of its call: the
// positions of the client, which count what it sent and what it says that it
// did not send, from wherever the call had come before. It is arithmetic only;
// times are since the session was opened.
type clock struct {
	media media
	legs  []audio.Leg // of the channels

	sent  time.Duration // position: what came and what was said not to have come
	shift time.Duration // from positions to the media clock
	told  time.Duration // media time up to which something was told
	heard time.Duration // when audio came last

	paused  bool
	since   time.Duration // when it was paused
	pending [][]int16     // of each leg, until they are worth a frame
	begin   time.Duration // media time of pending
	samples int           // that came, in all
	skipped time.Duration // that did not come, in all
	out     []audio.Frame
}

// newClock begins at the media time from.
func newClock(m media, legs []audio.Leg, from time.Duration) *clock {
	return &clock{media: m, legs: legs, shift: from, told: from, pending: make([][]int16, len(legs))}
}

// take returns the frames that are ready.
func (c *clock) take() []audio.Frame {
	out := c.out
	c.out = nil
	return out
}

// at is the media time of what comes next.
func (c *clock) at() time.Duration { return c.sent + c.shift }

// audio takes the samples of one message that came at now. An error says that
// it is not the audio that was agreed upon.
func (c *clock) audio(payload []byte, now time.Duration) error {
	size := 1
	if c.media.Format == "L16" {
		size = 2
	}
	channels := len(c.legs)
	if len(payload)%(size*channels) != 0 {
		return fmt.Errorf("audio of %d bytes: must be whole samples of %d channels with %d bytes", len(payload), channels, size)
	}
	n := len(payload) / (size * channels)
	if n == 0 {
		return nil
	}
	c.paused = false
	c.heard = now
	if len(c.pending[0]) == 0 {
		c.begin = max(c.at(), c.told)
		c.shift = c.begin - c.sent
	}
	for leg := range c.legs {
		if c.pending[leg] == nil {
			c.pending[leg] = make([]int16, 0, max(n, c.count(frameSpan)))
		}
		c.pending[leg] = c.channel(c.pending[leg], payload, leg, channels)
	}
	c.samples += n
	c.sent = audio.Span(c.samples, c.media.Rate) + c.skipped
	if len(c.pending[0]) >= c.count(frameSpan) {
		c.flush()
	}
	if ahead := c.sent - now; ahead > maxAhead {
		return fmt.Errorf("%v of audio came in %v: it is not %s at %d Hz, or not live", c.sent.Round(time.Second), now.Round(time.Second), c.media.Format, c.media.Rate)
	}
	return nil
}

func (c *clock) count(d time.Duration) int { return int(d * time.Duration(c.media.Rate) / time.Second) }

// channel appends one channel's samples of payload. L16 is little-endian, as
// the protocol's reference client has it.
func (c *clock) channel(dst []int16, payload []byte, channel, channels int) []int16 {
	if c.media.Format == "L16" {
		for i := 2 * channel; i < len(payload); i += 2 * channels {
			dst = append(dst, int16(binary.LittleEndian.Uint16(payload[i:])))
		}
		return dst
	}
	if channels == 1 {
		return audio.MuLaw.Decode(dst, payload)
	}
	for i := channel; i < len(payload); i += channels {
		dst = audio.MuLaw.Decode(dst, payload[i:i+1])
	}
	return dst
}

// flush makes frames of what is pending.
func (c *clock) flush() {
	n := len(c.pending[0])
	if n == 0 {
		return
	}
	pieces := (n + c.count(frameMost) - 1) / c.count(frameMost)
	for i := range pieces {
		from, to := i*n/pieces, (i+1)*n/pieces
		for leg, side := range c.legs {
			c.out = append(c.out, audio.Frame{
				Leg: side, Start: c.begin + audio.Span(from, c.media.Rate), Rate: c.media.Rate,
				PCM: slices.Clip(c.pending[leg][from:to]),
			})
		}
	}
	c.told = c.begin + audio.Span(n, c.media.Rate)
	for leg := range c.pending {
		c.pending[leg] = nil
	}
}

// lost takes that so much was not sent from start on, though it was there.
func (c *clock) lost(start, long, now time.Duration) error { return c.skip(start, long, long, now) }

// pause takes that nothing is sent from now on.
func (c *clock) pause(now time.Duration) {
	if !c.paused {
		c.flush()
		c.paused, c.since = true, now
	}
}

// resume takes that audio is sent again, and so much was not meanwhile. It
// returns how long the pause was.
func (c *clock) resume(start, long, now time.Duration) (was time.Duration, err error) {
	if c.paused {
		was = now - c.since
	}
	c.paused, c.heard = false, now
	return was, c.skip(start, long, 0, now)
}

// skip moves the position to the end of what was not sent. Positions never go
// back, nor further than the clock.
func (c *clock) skip(start, long, lost, now time.Duration) error {
	if long <= 0 {
		return nil
	}
	to := max(start, c.sent) + long
	if to > now+maxAhead {
		return fmt.Errorf("what was not sent ends at %v, and the session is %v old", to.Round(time.Second), now.Round(time.Second))
	}
	c.flush()
	c.skipped += to - c.sent
	c.sent = to
	c.mark(c.at(), lost)
	return nil
}

// mark tells each leg that nothing came until at, and how much of that was
// lost.
func (c *clock) mark(at, lost time.Duration) {
	if at <= c.told && lost == 0 {
		return
	}
	c.told = max(at, c.told)
	for _, side := range c.legs {
		c.out = append(c.out, audio.Frame{Leg: side, Start: c.told, Rate: c.media.Rate, Lost: lost})
	}
}

// tick tells the time where nothing has come for a while. It is called about
// once a second.
func (c *clock) tick(now time.Duration) {
	switch {
	case c.paused:
		c.mark(c.at()+now-c.since, 0)
	case now-c.heard >= lateAfter:
		c.flush()
		c.mark(c.told+markEvery, 0)
	}
}
