package caller

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// maxOgg bounds an Opus file, which is played from memory: an hour of stereo at
// 64 kbit/s is 30 MB.
const maxOgg = 256 << 20

// IsOpus reports whether the file is one for [OpenOpus], by its name.
func IsOpus(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".opus", ".ogg":
		return true
	}
	return false
}

// OpenOpus reads an Ogg file of Opus packets, as opusenc makes them: there is no
// encoder in this program. A stereo file is a call of two legs, the left the
// caller's. Its legs have no samples.
func OpenOpus(path string) (*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxOgg+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxOgg {
		return nil, fmt.Errorf("%s: more than %d MB, the most that is played", path, maxOgg>>20)
	}
	channels, packets, err := parseOgg(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r := &Recording{Path: path, RateHz: 48000, opus: packets, Legs: []Side{{Leg: audio.Unknown}}}
	if channels == 2 {
		r.Legs = []Side{{Leg: audio.Caller}, {Leg: audio.Callee}}
	}
	return r, nil
}

// oggHeader is how long the header of a page is, without its segment table,
// RFC 3533 section 6.
const oggHeader = 27

var errOgg = errors.New("no Ogg file of Opus packets")

// parseOgg returns the Opus packets of the first stream of an Ogg file, RFC
// 7845, all of 20 ms, and how many channels it says they have. What is cut off
// at the end is left out. The packets are parts of b, or copies.
func parseOgg(b []byte) (channels int, packets [][]byte, err error) {
	var serial uint32
	var part []byte // of a packet that goes on
	n := 0          // packets so far, headers too
	for page := 0; len(b) >= oggHeader; page++ {
		if !bytes.HasPrefix(b, []byte("OggS\x00")) {
			return 0, nil, fmt.Errorf("%w: page %d does not begin as one", errOgg, page)
		}
		table := int(b[26])
		if len(b) < oggHeader+table {
			break
		}
		segments, body := b[oggHeader:oggHeader+table], b[oggHeader+table:]
		of := binary.LittleEndian.Uint32(b[14:])
		size := 0
		for _, s := range segments {
			size += int(s)
		}
		if len(body) < size {
			break
		}
		b = body[size:]
		if page == 0 {
			serial = of
		}
		if of != serial {
			continue
		}
		for _, s := range segments {
			part = append(part, body[:s]...)
			body = body[s:]
			if s == 255 {
				continue // the packet goes on
			}
			switch n++; n {
			case 1:
				if len(part) < 19 || !bytes.HasPrefix(part, []byte("OpusHead")) {
					return 0, nil, fmt.Errorf("%w: the first packet is no OpusHead", errOgg)
				}
				if channels = int(part[9]); channels < 1 || channels > 2 {
					return 0, nil, fmt.Errorf("%w: %d channels must be 1 or 2", errOgg, channels)
				}
			case 2: // tags
			default:
				if d := opusTime(part); d != packetTime {
					return 0, nil, fmt.Errorf("packet %d lasts %v, and only %v are sent: encode with opusenc --framesize 20", n-2, d, packetTime)
				}
				packets = append(packets, part)
			}
			part = nil
		}
	}
	if len(packets) == 0 {
		return 0, nil, fmt.Errorf("%w: there is no audio in it", errOgg)
	}
	return channels, packets, nil
}

// opusTime is how long an Opus packet lasts, RFC 6716 section 3.1; 0 where that
// cannot be told.
func opusTime(packet []byte) time.Duration {
	if len(packet) == 0 {
		return 0
	}
	var frame time.Duration
	switch config := packet[0] >> 3; {
	case config < 12: // SILK
		frame = [...]time.Duration{10, 20, 40, 60}[config%4] * time.Millisecond
	case config < 16: // hybrid
		frame = [...]time.Duration{10, 20}[config%2] * time.Millisecond
	default: // CELT
		frame = 2500 * time.Microsecond << (config % 4)
	}
	switch packet[0] & 3 {
	case 0:
		return frame
	case 1, 2:
		return 2 * frame
	}
	if len(packet) < 2 {
		return 0
	}
	return time.Duration(packet[1]&0x3f) * frame
}
