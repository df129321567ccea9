package twiliosrc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/callwarden/callwarden/transcribe/audio"
)

type codec uint8

const (
	muLaw codec = iota
	aLaw
	linear // 16 bit, of either byte order
	g722
)

// Rates that can be heard.
const (
	leastRateHz = 8000
	mostRateHz  = 48000
)

// format is what the payloads of a stream are.
type format struct {
	codec  codec
	rateHz int
}

func (f format) String() string {
	return [...]string{"PCMU", "PCMA", "L16", "G722"}[f.codec] + "/" + strconv.Itoa(f.rateHz)
}

var errEncoding = errors.New("encoding is not supported: take PCMU, PCMA, G722 or L16")

// parseFormat reads an encoding as any of the dialects names it, such as
// audio/x-mulaw, PCMU, audio/L16;rate=16000 or L16@24000h, with a rate of 0
// where it is not told.
func parseFormat(encoding string, rateHz, channels int) (format, error) {
	if channels > 1 {
		return format{}, fmt.Errorf("channels: %d must be 1: ask for separate tracks", channels)
	}
	name, rest := strings.ToLower(strings.TrimSpace(encoding)), ""
	if i := strings.IndexAny(name, ";@/ "); i >= 0 {
		if strings.HasPrefix(name, "audio/") {
			name = strings.TrimPrefix(name, "audio/")
			i = strings.IndexAny(name, ";@/ ")
		}
		if i >= 0 {
			name, rest = name[:i], name[i+1:]
		}
	}
	if digits := strings.TrimFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); rateHz == 0 && digits != "" {
		if n, err := strconv.Atoi(digits); err == nil {
			rateHz = n
		}
	}
	f := format{rateHz: rateHz}
	switch strings.TrimPrefix(name, "x-") {
	case "", "mulaw", "ulaw", "pcmu", "g711u", "basic":
		f.codec = muLaw
	case "alaw", "pcma", "g711a":
		f.codec = aLaw
	case "l16", "lin16", "linear16", "pcm", "pcm16", "pcm_s16le", "s16le", "slin", "slin16", "raw", "base64":
		f.codec = linear // Exotel's base64 says how it is wrapped; inside is L16
	case "g722":
		f.codec, f.rateHz = g722, 16000 // its clock says 8000 (RFC 3551 4.5.2)
	default:
		return format{}, fmt.Errorf("%.40q: %w", encoding, errEncoding)
	}
	if f.rateHz == 0 {
		f.rateHz = 8000
	}
	if f.rateHz < leastRateHz || f.rateHz > mostRateHz {
		return format{}, fmt.Errorf("sample rate: %d must be %d to %d Hz", f.rateHz, leastRateHz, mostRateHz)
	}
	return f, nil
}

// samples is how many of them so many bytes are.
func (f format) samples(bytes int) int {
	switch f.codec {
	case linear:
		return bytes / 2
	case g722:
		return bytes * 2
	}
	return bytes
}

// decoder makes samples of one leg's payloads.
type decoder struct {
	format
	g722  audio.G722Decoder
	order byteOrder
}

// decode appends the samples of a payload.
func (d *decoder) decode(dst []int16, payload []byte) []int16 {
	switch d.codec {
	case aLaw:
		return audio.ALaw.Decode(dst, payload)
	case g722:
		return d.g722.Decode(dst, payload)
	case linear:
		big := d.order.see(payload)
		for i := 0; i+1 < len(payload); i += 2 {
			v := binary.LittleEndian.Uint16(payload[i:])
			if big {
				v = v>>8 | v<<8
			}
			dst = append(dst, int16(v))
		}
		return dst
	}
	return audio.MuLaw.Decode(dst, payload)
}

// encode makes the payload of samples.
func (f format) encode(pcm []int16, big bool) []byte {
	switch f.codec {
	case aLaw:
		return audio.ALaw.Encode(nil, pcm)
	case g722:
		var e audio.G722Encoder
		return e.Encode(nil, pcm)
	case linear:
		out := make([]byte, 0, 2*len(pcm))
		for _, v := range pcm {
			if big {
				out = binary.BigEndian.AppendUint16(out, uint16(v))
			} else {
				out = binary.LittleEndian.AppendUint16(out, uint16(v))
			}
		}
		return out
	}
	return audio.MuLaw.Encode(nil, pcm)
}

// byteOrder finds out which byte of L16 comes first, as the dialects differ and
// do not say: speech changes little from sample to sample, and a lot with its
// bytes exchanged.
type byteOrder struct {
	big         atomic.Bool // as far as is known; read by who speaks, too
	decided     bool
	little, swp int64 // sums of the steps between samples, either way
}

const (
	orderSure   = 4       // times smoother
	orderEnough = 1 << 20 // of steps the rough way: a tenth of a second of quiet speech
)

// see looks at a payload and says whether its high bytes come first.
func (o *byteOrder) see(payload []byte) (big bool) {
	if o.decided || len(payload) < 4 {
		return o.big.Load()
	}
	a, b := int16(binary.LittleEndian.Uint16(payload)), int16(binary.BigEndian.Uint16(payload))
	for i := 2; i+1 < len(payload); i += 2 {
		c, d := int16(binary.LittleEndian.Uint16(payload[i:])), int16(binary.BigEndian.Uint16(payload[i:]))
		o.little += abs(int64(c) - int64(a))
		o.swp += abs(int64(d) - int64(b))
		a, b = c, d
	}
	most, least := max(o.little, o.swp), min(o.little, o.swp)
	big = o.swp < o.little
	o.big.Store(big)
	o.decided = most > orderEnough && most > orderSure*least
	return big
}

func abs(v int64) int64 { return max(v, -v) }
