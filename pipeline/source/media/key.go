package media

import (
	"encoding/binary"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// keyTimeout ends a key whose last packets were lost: they come every 50 ms
// while it is held, RFC 4733 section 2.5.1.2.
const keyTimeout = 300 * time.Millisecond

// longHeld is when a key is held for so long that its duration may soon not fit
// into 16 bits: then it goes on in another segment, RFC 4733 section 2.5.1.3.
const longHeld = 0x8000

// key is the keypad event that came last.
type key struct {
	known     bool // there was one
	down      bool // it has not ended
	timestamp uint32
	code      uint8
	duration  uint16
	at        time.Duration // of its last packet
}

// event hears a packet of RFC 4733 section 2.3: event, end bit and volume,
// duration. All packets of one event have the timestamp of its beginning, and
// the last is sent three times.
func (t *Track) event(out []audio.Frame, p packet, at time.Duration) []audio.Frame {
	if len(p.payload) < 4 {
		t.stats.Malformed++
		return out
	}
	code, ended := p.payload[0], p.payload[1]&0x80 != 0
	duration := binary.BigEndian.Uint16(p.payload[2:])
	k := &t.key
	since := int32(p.timestamp - k.timestamp)
	switch {
	case k.known && since == 0 && code == k.code:
		if !k.down {
			return out
		}
	case k.known && since < 0 && since > -1<<20:
		return out // of a key before this one
	case k.down && code == k.code && !p.marker && k.duration > longHeld && since >= int32(k.duration) && since <= 0xffff:
		// The next segment of the same event.
	default:
		if k.down {
			out = t.press(out, at) // its end was lost
		}
		k.down = true
	}
	k.known, k.timestamp, k.code, k.duration, k.at = true, p.timestamp, code, duration, at
	if ended {
		out = t.press(out, at)
	}
	return out
}

// press hands out the key that has ended, with the audio before it.
func (t *Track) press(out []audio.Frame, at time.Duration) []audio.Frame {
	t.key.down = false
	const digits = "0123456789*#ABCD" // section 3.2, table 3
	if int(t.key.code) >= len(digits) {
		return out // hook flash, fax and modem tones
	}
	out = t.hand(out)
	f := t.silence(at - markLag)
	f.Keys = digits[t.key.code : t.key.code+1]
	return append(out, f)
}
