package media

import (
	"fmt"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// TrackConfig is what a Track must know of its stream.
type TrackConfig struct {
	Leg     audio.Leg
	Formats []Format // the payload types that may come; see StaticFormats
	// Channel is which of a stereo stream's channels is heard.
	Channel Channel
	// Window is how long a missing packet is waited for; nothing waits where
	// none is missing. Up to 31 packets wait.
	Window time.Duration
	// Span is how much audio a frame holds before it is handed out without
	// Advance.
	Span time.Duration
	// MaxLead is how far the audio may be ahead of the times at which it came.
	// What a stream that is sent faster brings beyond that is not heard.
	MaxLead time.Duration
	// After is the media time before which no frame may begin.
	After time.Duration
}

// DefaultTrackConfig returns what suits a live stream of leg.
func DefaultTrackConfig(leg audio.Leg) TrackConfig {
	return TrackConfig{
		Leg:     leg,
		Formats: StaticFormats(),
		Window:  200 * time.Millisecond, // ten packets of 20 ms out of order
		Span:    60 * time.Millisecond,
		MaxLead: 3 * time.Second, // a sender that was stopped, moved and set going again
	}
}

// TrackStats are what a track counted since it began.
type TrackStats struct {
	Packets     uint64 // understood, of the stream, in time
	Bytes       uint64 // of their payload
	Lost        uint64 // never came, or too late
	Late        uint64 // came after they were given up
	Duplicate   uint64
	Malformed   uint64 // no RTP, or a payload that cannot be decoded
	Unsupported uint64 // of a payload type that the track does not know
	Foreign     uint64 // of another source than the one that is heard
	Early       uint64 // beyond MaxLead
	Changes     uint64 // of the source, or jumps of its sequence or clock
}

// Track turns the packets of one RTP stream into frames. It is arithmetic: what
// comes out is a function of the packets and of the times at which they came.
//
// A stream's place on the media clock is that of its first packet's arrival;
// from there on its timestamps count. Where packets are missing, something like
// the sound before them is made up and counted in Frame.Lost; where the peer
// sent none, there is a gap between frames. A sender's clock that is not ours
// is followed: once the packets come 80 ms off for two seconds, the difference
// is put in or left out where nobody speaks.
//
// It is used by one goroutine at a time.
type Track struct {
	cfg     TrackConfig
	types   [128]*codec
	stats   TrackStats
	now     time.Duration // the latest time that was told
	order   order
	clock   clock
	key     key
	comfort comfort
	hidden  concealer
	report  reception

	usual   int         // samples of the last packet with audio
	pending audio.Frame // not handed out yet; empty PCM for none
}

// NewTrack returns a track that has heard nothing. An error names the format
// that cannot be heard.
func NewTrack(cfg TrackConfig) (*Track, error) {
	t := &Track{cfg: cfg, clock: clock{epoch: cfg.After}}
	if err := t.SetFormats(cfg.Formats); err != nil {
		return nil, err
	}
	return t, nil
}

// SetFormats changes which payload types may come from now on. After an error
// nothing has changed.
func (t *Track) SetFormats(formats []Format) error {
	var types [128]*codec
	for _, f := range formats {
		if f.PayloadType > 127 {
			return fmt.Errorf("payload type %d must be from 0 to 127", f.PayloadType)
		}
		if old := t.types[f.PayloadType]; old != nil && old.Format == f {
			types[f.PayloadType] = old
			continue
		}
		c, err := newCodec(f, t.cfg.Channel)
		if err != nil {
			return err
		}
		types[f.PayloadType] = c
	}
	t.types = types
	return nil
}

// takes reports whether packets of the type are understood.
func (t *Track) takes(payloadType uint8) bool { return t.types[payloadType&0x7f] != nil }

// Stats returns what was counted so far.
func (t *Track) Stats() TrackStats { return t.stats }

// End is the media time up to which frames were made.
func (t *Track) End() time.Duration { return t.clock.end() }

// Push takes one packet that came at the media time at, which never goes back,
// and appends the frames that are complete to out. The packet is not kept.
func (t *Track) Push(out []audio.Frame, datagram []byte, at time.Duration) []audio.Frame {
	p, err := parse(datagram)
	if err != nil {
		t.stats.Malformed++
		return out
	}
	out = t.expire(out, at)
	return t.place(out, p, t.now)
}

// Advance says that it is at, appends what is complete by then to out, and a
// time mark where nothing came for a second.
func (t *Track) Advance(out []audio.Frame, at time.Duration) []audio.Frame {
	out = t.expire(out, at)
	out = t.soothe(out, t.now)
	out = t.hand(out)
	return t.mark(out, t.now)
}

// Flush ends the stream: it appends what is left to out. What a missing packet
// was waited for is heard without it.
func (t *Track) Flush(out []audio.Frame) []audio.Frame {
	for t.order.waiting > 0 {
		out = t.release(out)
	}
	if t.key.down {
		out = t.press(out, t.now)
	}
	return t.hand(out)
}

// expire does what is due at the time at.
func (t *Track) expire(out []audio.Frame, at time.Duration) []audio.Frame {
	t.now = max(t.now, at)
	for t.order.waiting > 0 && t.now-t.order.since >= t.cfg.Window {
		out = t.release(out)
	}
	if t.key.down && t.now-t.key.at >= keyTimeout {
		out = t.press(out, t.now)
	}
	return out
}

// play hears a packet whose turn it is, which came at the time at; before it
// lost packets never came.
func (t *Track) play(out []audio.Frame, p packet, at time.Duration, lost int) []audio.Frame {
	c := t.types[p.payloadType]
	if c == nil {
		t.stats.Unsupported++
		return out
	}
	t.stats.Packets++
	t.stats.Bytes += uint64(len(p.payload))
	switch c.kind {
	case Events:
		return t.event(out, p, at)
	case Noise:
		return t.rest(out, c, p, at, lost)
	}
	return t.hear(out, c, p, at, lost)
}

// hear decodes a packet of audio.
func (t *Track) hear(out []audio.Frame, c *codec, p packet, at time.Duration, lost int) []audio.Frame {
	if c.rateHz == t.clock.rateHz && c.ClockHz == t.clock.hz &&
		t.clock.doubled(t.clock.samplesTo(p.timestamp), t.usual, at) {
		c.ClockHz *= 2
		t.stats.Changes++
	}
	out = t.moveTo(out, c.rateHz, c.ClockHz, p.timestamp, at, lost)
	t.comfort.on = false
	early := t.clock.end()-at > t.cfg.MaxLead
	t.begin()
	before := len(t.pending.PCM)
	pcm, err := c.decode(t.pending.PCM, p.payload)
	if err != nil {
		t.stats.Malformed++
		t.clock.due = p.timestamp + t.clock.ticks(t.usual)
		if early {
			return out
		}
		return t.fill(out, t.usual)
	}
	n := len(pcm) - before
	t.clock.due = p.timestamp + t.clock.ticks(n)
	if n == 0 {
		return out
	}
	t.usual = n
	t.hidden.blend(pcm[before:])
	t.hidden.remember(pcm[before:], c.rateHz)
	switch {
	case early:
		t.stats.Early++
		return out
	case t.clock.drops(pcm[before:]):
		return out
	}
	t.pending.PCM = pcm
	t.clock.pos += int64(n)
	return t.handFull(out)
}

// moveTo makes the timestamp the next that is due, with whatever lies before
// it: what was lost, comfort noise, or nothing.
func (t *Track) moveTo(out []audio.Frame, rateHz, clockHz int, timestamp uint32, at time.Duration, lost int) []audio.Frame {
	if rateHz != t.clock.rateHz || clockHz != t.clock.hz {
		out = t.hand(out)
		t.clock.anchor(rateHz, clockHz, timestamp, at)
		t.hidden.forget()
		return out
	}
	gap, jumped := t.clock.gap(timestamp, at, t.cfg.MaxLead)
	if jumped {
		t.stats.Changes++
	}
	if lost > 0 && !t.comfort.on && t.usual > 0 {
		// Sums may be wrong where silence was lost too, but never in how
		// long it was.
		made := min(gap, lost*t.usual, t.clock.samples(maxMadeUp))
		out = t.fill(out, made)
		gap -= made
	}
	if t.comfort.on {
		quiet := min(gap, t.clock.samples(t.comfort.until-t.clock.end()))
		out = t.hush(out, quiet)
		gap -= max(0, quiet)
	}
	if gap > 0 {
		out = t.hand(out)
		t.clock.pos += int64(gap)
		t.hidden.forget()
	}
	t.clock.measure(at)
	return out
}

// maxMadeUp is the most that is made up for one loss. What is longer is a gap.
const maxMadeUp = 2 * time.Second

// fill makes up n samples.
func (t *Track) fill(out []audio.Frame, n int) []audio.Frame {
	for n > 0 {
		t.begin()
		m := min(n, t.room())
		t.pending.PCM = t.hidden.conceal(t.pending.PCM, m)
		t.pending.Lost += audio.Span(m, t.clock.rateHz)
		t.clock.pos += int64(m)
		n -= m
		out = t.handFull(out)
	}
	return out
}

// room is how many samples pending takes until it is full, at least 1.
func (t *Track) room() int {
	return max(1, t.clock.samples(t.cfg.Span)-len(t.pending.PCM))
}

// begin makes room for audio at the end of what there is.
func (t *Track) begin() {
	if t.pending.PCM == nil {
		room := t.clock.samples(t.cfg.Span) + max(t.usual, t.clock.rateHz/50)
		t.pending = audio.Frame{Leg: t.cfg.Leg, Start: t.clock.end(), Rate: t.clock.rateHz, PCM: make([]int16, 0, room)}
	}
	if len(t.pending.PCM) == 0 {
		t.pending.Start = t.clock.end()
	}
}

// handFull appends what is pending to out if it is a frame's worth.
func (t *Track) handFull(out []audio.Frame) []audio.Frame {
	if len(t.pending.PCM) >= t.clock.samples(t.cfg.Span) {
		return t.hand(out)
	}
	return out
}

// hand appends what is pending to out.
func (t *Track) hand(out []audio.Frame) []audio.Frame {
	if len(t.pending.PCM) > 0 {
		out = append(out, t.pending)
		t.pending = audio.Frame{}
	}
	return out
}

const (
	// A leg without audio is told the time once it is so far behind, up to
	// markLag ago: once a second, and what is still on its way is not cut off.
	markAfter = 1500 * time.Millisecond
	markLag   = 500 * time.Millisecond
)

// mark tells the time where nothing came for long.
func (t *Track) mark(out []audio.Frame, at time.Duration) []audio.Frame {
	if t.order.waiting > 0 || at-t.clock.end() < markAfter {
		return out
	}
	return append(out, t.silence(at-markLag))
}

// silence moves the clock on to a time at which nothing came. Pending must have
// been handed out.
func (t *Track) silence(to time.Duration) audio.Frame {
	t.clock.silence(to)
	t.hidden.forget()
	return audio.Frame{Leg: t.cfg.Leg, Start: t.clock.end(), Rate: max(t.clock.rateHz, minRateHz)}
}
