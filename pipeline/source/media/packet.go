package media

import (
	"encoding/binary"
	"errors"
)

// packet is an RTP packet, RFC 3550 section 5.1. Its payload is a part of the
// datagram that it was read from. The library's own parser makes objects of
// extensions that nobody here looks at; this one makes none.
type packet struct {
	marker      bool
	payloadType uint8
	sequence    uint16
	timestamp   uint32
	ssrc        uint32
	payload     []byte
}

const rtpHeader = 12 // bytes, without contributing sources

var errPacket = errors.New("not an RTP packet")

// parse reads one datagram. No length in it is trusted.
func parse(b []byte) (packet, error) {
	if len(b) < rtpHeader || b[0]>>6 != 2 {
		return packet{}, errPacket
	}
	p := packet{
		marker:      b[1]&0x80 != 0,
		payloadType: b[1] & 0x7f,
		sequence:    binary.BigEndian.Uint16(b[2:]),
		timestamp:   binary.BigEndian.Uint32(b[4:]),
		ssrc:        binary.BigEndian.Uint32(b[8:]),
	}
	at := rtpHeader + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 { // extension: profile, length in words
		if len(b) < at+4 {
			return packet{}, errPacket
		}
		at += 4 + 4*int(binary.BigEndian.Uint16(b[at+2:]))
	}
	end := len(b)
	if b[0]&0x20 != 0 { // padding, whose last byte is how much it is
		end -= int(b[end-1])
	}
	if at > end || b[0]&0x20 != 0 && b[len(b)-1] == 0 {
		return packet{}, errPacket
	}
	p.payload = b[at:end]
	return p, nil
}

// isRTCP tells RTCP from RTP on a shared port, RFC 5761 section 4.
func isRTCP(b []byte) bool { return len(b) >= 2 && b[1] >= 192 && b[1] <= 223 }

// SSRC returns the synchronisation source of an RTP packet and its payload
// type, and false for what is none.
func SSRC(b []byte) (ssrc uint32, payloadType uint8, ok bool) {
	p, err := parse(b)
	return p.ssrc, p.payloadType, err == nil && !isRTCP(b)
}
