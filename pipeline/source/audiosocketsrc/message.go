package audiosocketsrc

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Kinds of messages, as Asterisk's documentation of AudioSocket numbers them.
const (
	kindHangUp = 0x00
	kindUUID   = 0x01
	kindDigit  = 0x03
	kindError  = 0xff
)

// header is one byte of kind and two of length, big-endian.
const header = 3

// rateOf is the sample rate of an audio kind in Hz; 0 for other kinds. Audio
// is signed linear, 16 bit, little-endian, mono.
func rateOf(kind byte) int {
	rates := [...]int{8000, 12000, 16000, 24000, 32000, 44100, 48000, 96000, 192000} // 0x10 to 0x18
	if i := int(kind) - 0x10; i >= 0 && i < len(rates) {
		return rates[i]
	}
	return 0
}

// message is one message of a peer. Its payload is good until the splitter is
// used again.
type message struct {
	kind    byte
	payload []byte
}

// splitter cuts a byte stream into messages, however it comes in pieces. Room
// grows with the messages, whose length field allows 64 KiB.
type splitter struct {
	buf        []byte
	start, end int // what is not yet cut is buf[start:end]
}

const firstRoom = 2 << 10 // bytes: six messages of 20 ms at 8 kHz

// room returns where to read to; wrote says how much of it was filled.
func (s *splitter) room() []byte {
	if s.buf == nil {
		s.buf = make([]byte, firstRoom)
	}
	if s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	if need := s.need(); need > len(s.buf) {
		s.buf = append(make([]byte, 0, need), s.buf[:s.end]...)[:need]
	}
	return s.buf[s.end:]
}

func (s *splitter) wrote(n int) { s.end += n }

// need is the length of the message that is begun.
func (s *splitter) need() int {
	if s.end-s.start < header {
		return header
	}
	return header + int(binary.BigEndian.Uint16(s.buf[s.start+1:]))
}

// next returns the next whole message, and false where more must be read.
func (s *splitter) next() (message, bool) {
	need := s.need()
	if s.end-s.start < need {
		return message{}, false
	}
	m := message{kind: s.buf[s.start], payload: s.buf[s.start+header : s.start+need]}
	s.start += need
	return m, true
}

// begun returns the header of the message that has begun.
func (s *splitter) begun() (kind byte, length int, ok bool) {
	if s.end-s.start < header {
		return 0, 0, false
	}
	return s.buf[s.start], s.need() - header, true
}

// partial reports whether a message has begun and not ended.
func (s *splitter) partial() bool { return s.end > s.start }

const maxUUID = 36 // bytes

// parseUUID reads the 16 bytes of a UUID, or its 36 characters as some clients
// send them, and returns it in small letters.
func parseUUID(payload []byte) (string, error) {
	if len(payload) == maxUUID {
		return canonicalUUID(string(payload))
	}
	if len(payload) != 16 {
		return "", fmt.Errorf("a UUID of %d bytes must have 16", len(payload))
	}
	x := hex.EncodeToString(payload)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:], nil
}

// canonicalUUID checks the 8-4-4-4-12 form of RFC 9562 section 4.
func canonicalUUID(s string) (string, error) {
	bad := fmt.Errorf("UUID %.40q must look like 40325ec2-5efd-4bd3-805f-53576e581d13", s)
	if len(s) != maxUUID {
		return "", bad
	}
	out := []byte(s)
	for i, c := range out {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return "", bad
			}
		case c >= 'A' && c <= 'F':
			out[i] = c + 'a' - 'A'
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f':
		default:
			return "", bad
		}
	}
	return string(out), nil
}

// digitOf is the keypad digit of a message, and false where it is none.
func digitOf(payload []byte) (string, bool) {
	if len(payload) != 1 {
		return "", false
	}
	switch c := payload[0]; {
	case c >= '0' && c <= '9', c == '*', c == '#', c >= 'A' && c <= 'D':
		return string(rune(c)), true
	case c >= 'a' && c <= 'd':
		return string(rune(c - 'a' + 'A')), true
	}
	return "", false
}
