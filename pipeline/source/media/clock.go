package media

import (
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// How a sender's clock is followed. The least delay of the packets of a
	// while is free of most jitter; crystals differ by up to 100 ppm, 0.36 s
	// in an hour.
	driftWindow  = 2 * time.Second
	driftPackets = 10 // fewer in a window tell nothing
	driftAllowed = 80 * time.Millisecond

	// A stream that is so late is set right at once, in the middle of a word
	// if need be. One that is early waits for a pause: nothing is cut off.
	driftForced = 300 * time.Millisecond

	// quietMean is the mean level under which nobody speaks: -46 dB of full
	// scale.
	quietMean = 160

	// A timestamp that is further back is not of a packet that was late after a
	// time mark.
	maxBack = 2 * time.Second

	// Gaps of less are a sender's rounding.
	minGap = 2 * time.Millisecond
)

// clock is where a stream stands on the media clock: sample pos since epoch is
// due with the timestamp due.
type clock struct {
	epoch  time.Duration
	rateHz int // 0 until there was audio
	hz     int // of the timestamps; 0 where the next packet begins anew
	pos    int64
	due    uint32

	// The least lateness of packets since windowAt.
	windowAt time.Duration
	packets  int
	least    time.Duration
	owed     time.Duration // to be put in, or left out where negative
	paused   bool          // nobody spoke in the last packet, and something is owed

	twice int // packets in a row whose timestamps went on twice as far as their audio
}

func (c *clock) time(pos int64) time.Duration {
	if c.rateHz == 0 {
		return c.epoch
	}
	return c.epoch + audio.Span(int(pos), c.rateHz)
}

// end is the media time of the next sample.
func (c *clock) end() time.Duration { return c.time(c.pos) }

// samples is how many samples last d, none where it is negative.
func (c *clock) samples(d time.Duration) int {
	return samples(max(0, d), c.rateHz)
}

// samples is how many samples last d, rounded towards zero.
func samples(d time.Duration, rateHz int) int {
	return int(d/time.Second)*rateHz + int(d%time.Second*time.Duration(rateHz)/time.Second)
}

// ticks is how far the timestamps go in n samples.
func (c *clock) ticks(n int) uint32 {
	return uint32(int64(n) * int64(c.hz) / int64(c.rateHz))
}

// samplesTo is how many samples a timestamp is ahead of the one that is due.
func (c *clock) samplesTo(timestamp uint32) int {
	return int(int64(int32(timestamp-c.due)) * int64(c.rateHz) / int64(c.hz))
}

// anchor begins anew with a timestamp at the time at which it came.
func (c *clock) anchor(rateHz, hz int, timestamp uint32, at time.Duration) {
	*c = clock{epoch: max(c.end(), at), rateHz: rateHz, hz: hz, due: timestamp}
	c.restart(at)
}

// silence moves on to a time at which nothing came.
func (c *clock) silence(to time.Duration) {
	if c.rateHz == 0 {
		c.epoch = max(c.epoch, to)
		return
	}
	n := c.samples(to - c.end())
	c.pos += int64(n)
	if c.hz != 0 {
		c.due += c.ticks(n)
	}
}

// gap returns how many samples lie between what there is and the timestamp of a
// packet that came at the time at. jumped says that the timestamp cannot be
// meant: then the time of arrival counts.
func (c *clock) gap(timestamp uint32, at, maxLead time.Duration) (n int, jumped bool) {
	d := int64(c.samplesTo(timestamp))
	c.due = timestamp
	if c.time(c.pos+d) > at+maxLead || d < -int64(c.samples(maxBack)) {
		d, jumped = int64(c.samples(at-c.end())), true
	}
	if d <= int64(c.samples(minGap)) {
		d = 0
	}
	switch {
	case jumped:
		c.restart(at)
	case c.owed != 0 && d > 0, c.owed > 0 && c.paused, c.owed > driftForced:
		// Not later than it came, for it may not be late any more.
		d = max(0, min(d+int64(samples(c.owed, c.rateHz)), max(d, int64(c.samples(at-c.end())))))
		c.restart(at)
	}
	return int(d), jumped
}

// A sender that counts G.722 at the rate of its audio, not by the clock that RFC
// 3551 section 4.5.2 keeps, is known by so many timestamps in a row that go on
// twice as far as they should, and by audio that seems to come ahead of its time.
const (
	doubledPackets = 10
	doubledLead    = 100 * time.Millisecond
)

// doubled reports whether the timestamps run at twice the rate that was said.
// gap samples lie before a packet that came at the time at; usual is how many
// one has.
func (c *clock) doubled(gap, usual int, at time.Duration) bool {
	if gap != usual || usual == 0 {
		c.twice = 0
		return false
	}
	c.twice++
	return c.twice >= doubledPackets && c.time(c.pos+int64(gap))-at > doubledLead
}

// measure looks at how late the packet is that comes next.
func (c *clock) measure(at time.Duration) {
	c.packets++
	c.least = min(c.least, at-c.end())
	if at-c.windowAt < driftWindow {
		return
	}
	owed := c.least
	if c.packets < driftPackets || owed < driftAllowed && owed > -driftAllowed {
		owed = 0
	}
	c.restart(at)
	c.owed = owed
}

// restart forgets what was measured.
func (c *clock) restart(at time.Duration) {
	c.windowAt, c.packets, c.least, c.owed, c.paused = at, 0, 1<<62, 0, false
}

// drops takes note of whether anybody speaks in pcm, and reports whether it is to
// be left out because the stream is early.
func (c *clock) drops(pcm []int16) bool {
	c.paused = c.owed != 0 && quiet(pcm)
	span := audio.Span(len(pcm), c.rateHz)
	if !c.paused || c.owed > -span {
		return false
	}
	c.owed += span
	c.packets, c.least = 0, 1<<62
	return true
}

func quiet(pcm []int16) bool {
	sum := 0
	for _, v := range pcm {
		sum += max(int(v), -int(v))
	}
	return sum < quietMean*len(pcm)
}
