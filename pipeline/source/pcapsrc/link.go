package pcapsrc

import (
	"encoding/binary"
	"net/netip"
)

// LINKTYPE values of tcpdump.org that are read.
const (
	linkNull      = 0
	linkEthernet  = 1
	linkPPP       = 9
	linkRawBSD    = 12
	linkRawOpen   = 14
	linkCiscoHDLC = 104
	linkRaw       = 101
	linkLoop      = 108
	linkSLL       = 113
	linkIPv4      = 228
	linkIPv6      = 229
	linkSLL2      = 276
)

// Numbers of what is inside.
const (
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
	etherVLAN    = 0x8100
	etherQinQ    = 0x88a8
	etherQinQOld = 0x9100
	etherMPLS    = 0x8847
	etherMPLSMC  = 0x8848
	etherPPPoE   = 0x8864
	etherBridge  = 0x6558 // Ethernet in GRE
	etherERSPAN  = 0x88be
	etherERSPAN3 = 0x22eb

	protoHop, protoRouting, protoOptions, protoMobility = 0, 43, 60, 135 // of IPv6
	protoIPv4, protoTCP, protoUDP, protoIPv6            = 4, 6, 17, 41
	protoFragment, protoGRE, protoAH                    = 44, 47, 51

	portVXLAN = 4789
)

// maxDepth is how many headers are inside of each other at most.
const maxDepth = 16

// datagram is what UDP or TCP carries.
type datagram struct {
	src, dst netip.AddrPort
	payload  []byte
	cut      bool // there was more of it on the link
	tcp      bool
	seq      uint32 // of TCP
	syn, fin bool
}

// piece is a fragment of an IP datagram.
type piece struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
	offset   int
	more     bool
	data     []byte
}

// decoder takes the headers of one packet apart. It is reused.
type decoder struct {
	datagram
	piece   piece
	isPiece bool // piece holds a fragment, and datagram nothing
	cut     bool
	depth   int
}

// decode reports whether there is a datagram or a fragment in the packet.
func (d *decoder) decode(link uint32, data []byte, cut bool) bool {
	*d = decoder{cut: cut}
	switch link {
	case linkEthernet:
		return d.ethernet(data)
	case linkNull, linkLoop:
		return len(data) > 4 && d.ip(data[4:]) // the family says no more than the version
	case linkRaw, linkRawBSD, linkRawOpen, linkIPv4, linkIPv6:
		return d.ip(data)
	case linkSLL:
		return len(data) > 16 && d.ether(binary.BigEndian.Uint16(data[14:]), data[16:])
	case linkSLL2:
		return len(data) > 20 && d.ether(binary.BigEndian.Uint16(data), data[20:])
	case linkPPP:
		if len(data) > 2 && data[0] == 0xff && data[1] == 3 {
			data = data[2:]
		}
		return d.ppp(data)
	case linkCiscoHDLC:
		return len(data) > 4 && d.ether(binary.BigEndian.Uint16(data[2:]), data[4:])
	}
	return false
}

// isLink reports whether packets of the link type can be read.
func isLink(link uint32) bool {
	switch link {
	case linkEthernet, linkNull, linkLoop, linkRaw, linkRawBSD, linkRawOpen, linkIPv4, linkIPv6, linkSLL, linkSLL2, linkPPP, linkCiscoHDLC:
		return true
	}
	return false
}

func (d *decoder) ethernet(b []byte) bool {
	return len(b) > 14 && d.ether(binary.BigEndian.Uint16(b[12:]), b[14:])
}

// ether goes on with what an EtherType says.
func (d *decoder) ether(kind uint16, b []byte) bool {
	if d.depth++; d.depth > maxDepth {
		return false
	}
	switch kind {
	case etherIPv4, etherIPv6:
		return d.ip(b)
	case etherVLAN, etherQinQ, etherQinQOld:
		return len(b) > 4 && d.ether(binary.BigEndian.Uint16(b[2:]), b[4:])
	case etherMPLS, etherMPLSMC:
		return d.mpls(b)
	case etherPPPoE:
		return len(b) > 6 && d.ppp(b[6:])
	case etherBridge:
		return d.ethernet(b)
	}
	return false
}

// mpls passes over the labels, RFC 3032. What is below them is not said: it is
// IP, or Ethernet with or without a control word.
func (d *decoder) mpls(b []byte) bool {
	for len(b) > 4 {
		bottom := b[2]&1 != 0
		if b = b[4:]; !bottom {
			continue
		}
		switch b[0] >> 4 {
		case 4, 6:
			return d.ip(b)
		case 0:
			return len(b) > 4 && d.ethernet(b[4:])
		}
		return d.ethernet(b)
	}
	return false
}

func (d *decoder) ppp(b []byte) bool {
	if len(b) > 2 {
		switch binary.BigEndian.Uint16(b) {
		case 0x0021, 0x0057:
			return d.ip(b[2:])
		}
	}
	return false
}

func (d *decoder) ip(b []byte) bool {
	if d.depth++; d.depth > maxDepth || len(b) == 0 {
		return false
	}
	switch b[0] >> 4 {
	case 4:
		return d.ipv4(b)
	case 6:
		return d.ipv6(b)
	}
	return false
}

// ipv4 reads a header of RFC 791.
func (d *decoder) ipv4(b []byte) bool {
	if len(b) < 20 {
		return false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || header > len(b) {
		return false
	}
	switch {
	case total > len(b):
		d.cut = true
	case total >= header: // else the sending machine left it to its network card
		b = b[:total] // without the padding of short Ethernet frames
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	flags := binary.BigEndian.Uint16(b[6:])
	if more, offset := flags&0x2000 != 0, int(flags&0x1fff)*8; more || offset > 0 {
		return d.fragment(piece{
			src: src, dst: dst, id: uint32(binary.BigEndian.Uint16(b[4:])), proto: b[9],
			offset: offset, more: more, data: b[header:],
		})
	}
	return d.transport(b[9], src, dst, b[header:])
}

// ipv6 reads a header of RFC 8200 and those that extend it.
func (d *decoder) ipv6(b []byte) bool {
	if len(b) < 40 {
		return false
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	proto, total := b[6], 40+int(binary.BigEndian.Uint16(b[4:]))
	switch {
	case total > len(b):
		d.cut = true
	case total > 40:
		b = b[:total]
	}
	b = b[40:]
	for range maxDepth {
		if len(b) < 8 {
			return false
		}
		size := 0
		switch proto {
		case protoHop, protoRouting, protoOptions, protoMobility:
			size = 8 + int(b[1])*8
		case protoAH:
			size = 8 + int(b[1])*4
		case protoFragment:
			word := binary.BigEndian.Uint16(b[2:])
			more, offset := word&1 != 0, int(word&^7)
			if more || offset > 0 {
				return d.fragment(piece{
					src: src, dst: dst, id: binary.BigEndian.Uint32(b[4:]), proto: b[0],
					offset: offset, more: more, data: b[8:],
				})
			}
			size = 8
		default:
			return d.transport(proto, src, dst, b)
		}
		if size > len(b) {
			return false
		}
		proto, b = b[0], b[size:]
	}
	return false
}

// fragment keeps a fragment; one of which a part is missing is of no use.
func (d *decoder) fragment(p piece) bool {
	d.piece, d.isPiece = p, !d.cut
	return d.isPiece
}

func (d *decoder) transport(proto uint8, src, dst netip.Addr, b []byte) bool {
	switch proto {
	case protoUDP:
		return d.udp(src, dst, b)
	case protoTCP:
		return d.segment(src, dst, b)
	case protoGRE:
		return d.gre(b)
	case protoIPv4, protoIPv6:
		return d.ip(b)
	}
	return false
}

// udp reads a header of RFC 768.
func (d *decoder) udp(src, dst netip.Addr, b []byte) bool {
	if len(b) < 8 {
		return false
	}
	from, to, total := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), int(binary.BigEndian.Uint16(b[4:]))
	switch {
	case total > len(b):
		d.cut = true
	case total >= 8:
		b = b[:total]
	}
	if to == portVXLAN && len(b) > 16 && b[8] == 0x08 && b[9]|b[10]|b[11] == 0 { // RFC 7348
		inner := *d
		if inner.depth++; inner.depth <= maxDepth && inner.ethernet(b[16:]) {
			*d = inner
			return true
		}
	}
	d.datagram = datagram{src: netip.AddrPortFrom(src, from), dst: netip.AddrPortFrom(dst, to), payload: b[8:], cut: d.cut}
	return true
}

// segment reads a TCP header, RFC 9293.
func (d *decoder) segment(src, dst netip.Addr, b []byte) bool {
	if len(b) < 20 {
		return false
	}
	header := int(b[12]>>4) * 4
	if header < 20 || header > len(b) {
		return false
	}
	d.datagram = datagram{
		src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])),
		payload: b[header:], cut: d.cut, tcp: true,
		seq: binary.BigEndian.Uint32(b[4:]), syn: b[13]&2 != 0, fin: b[13]&5 != 0,
	}
	return true
}

// gre reads a header of RFC 2784 and 2890, and ERSPAN below it.
func (d *decoder) gre(b []byte) bool {
	if len(b) < 4 || b[1]&7 != 0 { // version 0
		return false
	}
	size := 4
	for _, flag := range []byte{0x80, 0x20, 0x10} { // checksum, key, sequence number
		if b[0]&flag != 0 {
			size += 4
		}
	}
	if b[0]&0x40 != 0 || len(b) <= size { // routing is long gone
		return false
	}
	kind, hasSequence := binary.BigEndian.Uint16(b[2:]), b[0]&0x10 != 0
	b = b[size:]
	switch {
	case kind == etherERSPAN && !hasSequence: // type I: no header
		return d.ether(etherBridge, b)
	case kind == etherERSPAN:
		return len(b) > 8 && d.ether(etherBridge, b[8:])
	case kind == etherERSPAN3:
		size = 12
		if len(b) > size && b[11]&1 != 0 { // platform header
			size += 8
		}
		return len(b) > size && d.ether(etherBridge, b[size:])
	}
	return d.ether(kind, b)
}
