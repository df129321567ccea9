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
		MaxLead: time.Second,
	}
}

const (
	// A leg without audio is told the time once it is so far behind, up to
	// markLag ago: what is still on its way is not cut off.
	markAfter = time.Second
	markLag   = 500 * time.Millisecond
)

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
// from there on its timestamps count. It is used by one goroutine at a time.
type Track struct {
	cfg   TrackConfig
	types [128]*codec
	stats TrackStats

	// The source that is heard.
	started bool
	ssrc    uint32
	next    uint16 // sequence number that is due

	// The media clock: sample pos since epoch stands for timestamp due.
	epoch  time.Duration
	rateHz int // 0 until there was audio
	clock  int // Hz of the timestamps
	pos    int64
	due    uint32

	pending audio.Frame // not handed out yet; empty PCM for none
}

// NewTrack returns a track that has heard nothing. An error names the format
// that cannot be heard.
func NewTrack(cfg TrackConfig) (*Track, error) {
	t := &Track{cfg: cfg, epoch: cfg.After}
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
		c, err := newCodec(f)
		if err != nil {
			return err
		}
		types[f.PayloadType] = c
	}
	t.types = types
	return nil
}

// Stats returns what was counted so far.
func (t *Track) Stats() TrackStats { return t.stats }

// End is the media time up to which frames were made.
func (t *Track) End() time.Duration { return t.time(t.pos) }

func (t *Track) time(pos int64) time.Duration {
	if t.rateHz == 0 {
		return t.epoch
	}
	return t.epoch + audio.Span(int(pos), t.rateHz)
}

// Push takes one packet that came at the media time at, which never goes back,
// and appends the frames that are complete to out. The packet is not kept.
func (t *Track) Push(out []audio.Frame, datagram []byte, at time.Duration) []audio.Frame {
	p, err := parse(datagram)
	if err != nil {
		t.stats.Malformed++
		return out
	}
	if !t.started || p.ssrc != t.ssrc {
		t.started, t.ssrc, t.next = true, p.ssrc, p.sequence
		t.clock = 0
	}
	if int16(p.sequence-t.next) < 0 {
		t.stats.Late++
		return out
	}
	t.stats.Lost += uint64(p.sequence - t.next)
	t.next = p.sequence + 1
	return t.play(out, p, at)
}

// play decodes a packet whose turn it is.
func (t *Track) play(out []audio.Frame, p packet, at time.Duration) []audio.Frame {
	c := t.types[p.payloadType]
	if c == nil {
		t.stats.Unsupported++
		return out
	}
	t.stats.Packets++
	t.stats.Bytes += uint64(len(p.payload))
	if c.kind != Audio {
		return out
	}
	if c.rateHz != t.rateHz || c.ClockHz != t.clock {
		out = t.hand(out)
		t.epoch, t.pos = max(t.End(), at), 0
		t.rateHz, t.clock, t.due = c.rateHz, c.ClockHz, p.timestamp
	}
	if gap := int64(int32(p.timestamp-t.due)) * int64(t.rateHz) / int64(t.clock); gap > 0 && t.time(t.pos+gap) <= at+t.cfg.MaxLead {
		out = t.hand(out)
		t.pos += gap
	}
	t.begin()
	before := len(t.pending.PCM)
	pcm, err := c.decode(t.pending.PCM, p.payload)
	if err != nil {
		t.stats.Malformed++
	}
	t.pending.PCM = pcm
	n := len(pcm) - before
	t.pos += int64(n)
	t.due = p.timestamp + uint32(n*t.clock/t.rateHz)
	if t.pending.End()-t.pending.Start >= t.cfg.Span {
		out = t.hand(out)
	}
	return out
}

// begin makes room for audio at pos.
func (t *Track) begin() {
	if t.pending.PCM == nil {
		room := int(t.cfg.Span*time.Duration(t.rateHz)/time.Second) + t.rateHz/50
		t.pending = audio.Frame{Leg: t.cfg.Leg, Start: t.time(t.pos), Rate: t.rateHz, PCM: make([]int16, 0, room)}
	}
}

// hand appends what is pending to out.
func (t *Track) hand(out []audio.Frame) []audio.Frame {
	if len(t.pending.PCM) > 0 {
		out = append(out, t.pending)
		t.pending = audio.Frame{}
	}
	return out
}

// Advance says that it is at, appends what is complete by then to out, and a
// time mark where nothing came for a second.
func (t *Track) Advance(out []audio.Frame, at time.Duration) []audio.Frame {
	out = t.hand(out)
	if to := at - markLag; to-t.End() >= markAfter-markLag {
		rate := max(t.rateHz, minRateHz)
		t.epoch, t.pos = to, 0
		t.clock = 0
		out = append(out, audio.Frame{Leg: t.cfg.Leg, Start: to, Rate: rate})
	}
	return out
}

// Flush ends the stream: it appends what is left to out.
func (t *Track) Flush(out []audio.Frame) []audio.Frame { return t.hand(out) }
