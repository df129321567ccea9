package pcapsrc

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// links are ways in which IP is carried; each makes a capture of one stream.
var links = []struct {
	name string
	file func(pcm []int16) []byte
}{
	{"Ethernet", on(plainEthernet, phoneA, phoneB)},
	{"Ethernet, IPv6", on(plainEthernet, "[2001:db8::1]:4000", "[2001:db8::2]:5000")},
	{"VLAN", on(link{layers.LinkTypeEthernet, func(ip []byte, v6 bool) []byte {
		return serialize(ethernet(layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 7, Type: etherType(v6)}, gopacket.Payload(ip))
	}}, phoneA, phoneB)},
	{"VLAN in VLAN", on(link{layers.LinkTypeEthernet, func(ip []byte, v6 bool) []byte {
		return serialize(ethernet(layers.EthernetTypeQinQ), &layers.Dot1Q{VLANIdentifier: 7, Type: layers.EthernetTypeDot1Q},
			&layers.Dot1Q{VLANIdentifier: 8, Type: etherType(v6)}, gopacket.Payload(ip))
	}}, phoneA, phoneB)},
	{"MPLS", on(link{layers.LinkTypeEthernet, func(ip []byte, _ bool) []byte {
		return serialize(ethernet(layers.EthernetTypeMPLSUnicast), &layers.MPLS{Label: 3000, TTL: 9}, &layers.MPLS{Label: 3001, StackBottom: true, TTL: 9}, gopacket.Payload(ip))
	}}, phoneA, phoneB)},
	{"Ethernet in MPLS", on(link{layers.LinkTypeEthernet, func(ip []byte, v6 bool) []byte {
		return serialize(ethernet(layers.EthernetTypeMPLSUnicast), &layers.MPLS{Label: 3000, StackBottom: true, TTL: 9},
			gopacket.Payload(append(make([]byte, 4), plainEthernet.wrap(ip, v6)...)))
	}}, phoneA, phoneB)},
	{"PPPoE", on(link{layers.LinkTypeEthernet, func(ip []byte, v6 bool) []byte {
		kind := layers.PPPTypeIPv4
		if v6 {
			kind = layers.PPPTypeIPv6
		}
		return serialize(ethernet(layers.EthernetTypePPPoESession), &layers.PPPoE{Version: 1, Type: 1, SessionId: 9}, &layers.PPP{PPPType: kind}, gopacket.Payload(ip))
	}}, phoneA, phoneB)},
	{"raw IP", on(link{layers.LinkTypeRaw, func(ip []byte, _ bool) []byte { return ip }}, phoneA, phoneB)},
	{"raw IPv6", on(link{layers.LinkType(linkIPv6 & 0xff), func(ip []byte, _ bool) []byte { return ip }}, "[2001:db8::1]:4000", "[2001:db8::2]:5000")},
	{"loopback", on(link{layers.LinkTypeNull, func(ip []byte, _ bool) []byte { return append([]byte{2, 0, 0, 0}, ip...) }}, phoneA, phoneB)},
	{"Linux cooked", on(link{layers.LinkTypeLinuxSLL, func(ip []byte, v6 bool) []byte {
		b := make([]byte, 14, 16)
		b[1], b[3], b[5] = 4, 1, 6
		return append(binary.BigEndian.AppendUint16(b, uint16(etherType(v6))), ip...)
	}}, phoneA, phoneB)},
	{"Linux cooked, version 2", func(pcm []int16) []byte {
		file := on(link{layers.LinkTypeEthernet, func(ip []byte, v6 bool) []byte {
			b := binary.BigEndian.AppendUint16(nil, uint16(etherType(v6)))
			return append(append(b, make([]byte, 18)...), ip...)
		}}, phoneA, phoneB)(pcm)
		binary.LittleEndian.PutUint32(file[20:], linkSLL2)
		return file
	}},
	{"GRE", on(inIP(layers.IPProtocolGRE, func(ip []byte, v6 bool) []gopacket.SerializableLayer {
		return []gopacket.SerializableLayer{&layers.GRE{Protocol: etherType(v6), KeyPresent: true, Key: 5}, gopacket.Payload(ip)}
	}), phoneA, phoneB)},
	{"ERSPAN I", on(inIP(layers.IPProtocolGRE, func(ip []byte, v6 bool) []gopacket.SerializableLayer {
		return []gopacket.SerializableLayer{&layers.GRE{Protocol: 0x88be}, gopacket.Payload(plainEthernet.wrap(ip, v6))}
	}), phoneA, phoneB)},
	{"ERSPAN II", on(inIP(layers.IPProtocolGRE, func(ip []byte, v6 bool) []gopacket.SerializableLayer {
		return []gopacket.SerializableLayer{&layers.GRE{Protocol: 0x88be, SeqPresent: true, Seq: 9}, &layers.ERSPANII{Version: 1, SessionID: 3}, gopacket.Payload(plainEthernet.wrap(ip, v6))}
	}), phoneA, phoneB)},
	{"ERSPAN III", on(inIP(layers.IPProtocolGRE, func(ip []byte, v6 bool) []gopacket.SerializableLayer {
		head := make([]byte, 20)
		head[0], head[11] = 0x20, 1
		return []gopacket.SerializableLayer{&layers.GRE{Protocol: 0x22eb, SeqPresent: true, Seq: 9}, gopacket.Payload(append(head, plainEthernet.wrap(ip, v6)...))}
	}), phoneA, phoneB)},
	{"VXLAN", on(inIP(layers.IPProtocolUDP, func(ip []byte, v6 bool) []gopacket.SerializableLayer {
		return []gopacket.SerializableLayer{&layers.UDP{SrcPort: 50000, DstPort: 4789}, &layers.VXLAN{ValidIDFlag: true, VNI: 77}, gopacket.Payload(plainEthernet.wrap(ip, v6))}
	}), phoneA, phoneB)},
	{"IP in IP", on(inIP(layers.IPProtocolIPv4, func(ip []byte, _ bool) []gopacket.SerializableLayer {
		return []gopacket.SerializableLayer{gopacket.Payload(ip)}
	}), phoneA, phoneB)},
	{"IPv6 with headers between", on(link{layers.LinkTypeEthernet, func(ip []byte, _ bool) []byte {
		// hop-by-hop and destination options of 8 bytes each
		out := slices.Clone(ip[:40])
		out[6] = protoHop
		binary.BigEndian.PutUint16(out[4:], uint16(len(ip)-40+16))
		out = append(out, protoOptions, 0, 1, 4, 0, 0, 0, 0, ip[6], 0, 1, 4, 0, 0, 0, 0)
		return serialize(ethernet(layers.EthernetTypeIPv6), gopacket.Payload(append(out, ip[40:]...)))
	}}, "[2001:db8::1]:4000", "[2001:db8::2]:5000")},
	{"padded Ethernet, length left to the card", on(link{layers.LinkTypeEthernet, func(ip []byte, v6 bool) []byte {
		ip = slices.Clone(ip)
		binary.BigEndian.PutUint16(ip[2:], 0)
		return append(plainEthernet.wrap(ip, v6), 0, 0, 0, 0)
	}}, phoneA, phoneB)},
	{"IPv4 fragments, out of order", fragmented(phoneA, phoneB)},
	{"IPv6 fragments, out of order", fragmented("[2001:db8::1]:4000", "[2001:db8::2]:5000")},
}

// on captures a stream on a link.
func on(l link, src, dst string) func(pcm []int16) []byte {
	return func(pcm []int16) []byte { return capture(l, 65535, talk(0, src, dst, 1, pcm)) }
}

// inIP is a tunnel.
func inIP(proto layers.IPProtocol, inside func(ip []byte, v6 bool) []gopacket.SerializableLayer) link {
	return link{layers.LinkTypeEthernet, func(ip []byte, v6 bool) []byte {
		outer := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
		all := []gopacket.SerializableLayer{ethernet(layers.EthernetTypeIPv4), outer}
		for _, l := range inside(ip, v6) {
			if udp, ok := l.(*layers.UDP); ok {
				if err := udp.SetNetworkLayerForChecksum(outer); err != nil {
					panic(err)
				}
			}
			all = append(all, l)
		}
		return serialize(all...)
	}}
}

// fragmented captures a stream of which each packet comes in three pieces, the
// last one first, mixed with those of the packet after it.
func fragmented(src, dst string) func(pcm []int16) []byte {
	return func(pcm []int16) []byte {
		var pieces [][]byte
		for i, s := range talk(0, src, dst, 1, pcm) {
			ip, v6 := s.ip(uint16(i))
			at := 8 * i
			for _, p := range pieced(ip, v6, uint32(i)) {
				pieces = slices.Insert(pieces, min(len(pieces), max(0, at-i%3)), p)
			}
		}
		file := capture(plainEthernet, 65535)
		for i, p := range pieces {
			v6 := p[0]>>4 == 6
			b := plainEthernet.wrap(p, v6)
			at := began.Add(time.Duration(i) * 20 * ms / 3)
			for _, v := range []uint32{uint32(at.Unix()), uint32(at.Nanosecond()), uint32(len(b)), uint32(len(b))} {
				file = binary.LittleEndian.AppendUint32(file, v)
			}
			file = append(file, b...)
		}
		return file
	}
}

// pieced cuts an IP packet into fragments of 64 bytes and more.
func pieced(ip []byte, v6 bool, id uint32) [][]byte {
	header := 20
	if v6 {
		header = 40
	}
	body := ip[header:]
	var all [][]byte
	for at := 0; at < len(body); at += 64 {
		part := body[at:min(len(body), at+64)]
		more := uint16(0)
		if at+64 < len(body) {
			more = 1
		}
		b := slices.Clone(ip[:header])
		if v6 {
			b[6] = protoFragment
			binary.BigEndian.PutUint16(b[4:], uint16(8+len(part)))
			b = append(b, ip[6], 0)
			b = binary.BigEndian.AppendUint16(b, uint16(at)|more)
			b = binary.BigEndian.AppendUint32(b, id)
		} else {
			binary.BigEndian.PutUint16(b[2:], uint16(header+len(part)))
			binary.BigEndian.PutUint16(b[6:], uint16(at/8)|more<<13)
		}
		all = slices.Insert(all, 0, append(b, part...))
	}
	return all
}

func TestVoiceIsTheSameOnEachLink(t *testing.T) {
	pcm := speech(3200, 1)
	for _, c := range links {
		t.Run(c.name, func(t *testing.T) {
			f := one(t, c.file(pcm), Options{})
			if !slices.Equal(f.pcm[audio.Unknown], heardOf(pcm)) {
				t.Errorf("%d samples are not the %d that were sent; warnings %q", len(f.pcm[audio.Unknown]), len(pcm), f.warnings)
			}
		})
	}
}

// Whatever the bytes, what is found lies within them.
func FuzzDecode(f *testing.F) {
	for i, s := range talk(0, phoneA, phoneB, 1, speech(160, 1)) {
		ip, v6 := s.ip(uint16(i))
		f.Add(uint16(linkEthernet), plainEthernet.wrap(ip, v6))
		f.Add(uint16(linkRaw), ip)
		f.Add(uint16(linkSLL2), append(make([]byte, 20), ip...))
		for _, p := range pieced(ip, v6, 1) {
			f.Add(uint16(linkLoop), append([]byte{0, 0, 0, 2}, p...))
		}
	}
	f.Fuzz(func(t *testing.T, link uint16, data []byte) {
		var d decoder
		if !d.decode(uint32(link), data, false) {
			return
		}
		if d.isPiece {
			if d.piece.offset < 0 || d.piece.offset > 1<<16 || len(d.piece.data) > len(data) {
				t.Fatalf("piece of %d bytes at %d", len(d.piece.data), d.piece.offset)
			}
			return
		}
		if len(d.payload)+8 > len(data) || !d.src.IsValid() || !d.dst.IsValid() {
			t.Fatalf("payload of %d bytes in %d", len(d.payload), len(data))
		}
	})
}

func TestFragmentsHoldNoMoreThanTheirBounds(t *testing.T) {
	var f fragments
	src := netip.MustParseAddr("192.0.2.1")
	for i := range uint32(20_000) {
		p := piece{src: src, dst: src, id: i, proto: 17, more: true, data: make([]byte, 1400)}
		if data, _ := f.add(p, ref{pos: int64(i)}, time.Duration(i)*time.Microsecond); data != nil {
			t.Fatal("a first fragment is a whole datagram")
		}
		if len(f.waiting) > maxWaiting+1 || f.held > maxHeld+1400 || len(f.order) > 5*maxWaiting {
			t.Fatalf("%d datagrams of %d bytes wait, %d in order", len(f.waiting), f.held, len(f.order))
		}
	}
}

func TestFragmentsOfNonsenseMakeNothing(t *testing.T) {
	src := netip.MustParseAddr("192.0.2.1")
	for name, pieces := range map[string][]piece{
		"longer than a datagram": {{offset: 65528, data: make([]byte, 1000)}},
		"empty":                  {{offset: 0, more: true}, {offset: 0}},
		"no multiple of eight":   {{offset: 0, more: true, data: make([]byte, 7)}, {offset: 8, data: make([]byte, 8)}},
		"a hole":                 {{offset: 0, more: true, data: make([]byte, 8)}, {offset: 0, more: true, data: make([]byte, 8)}, {offset: 16, data: make([]byte, 8)}},
		"too many":               slices.Repeat([]piece{{offset: 0, more: true, data: make([]byte, 8)}}, maxFragments+1),
	} {
		var f fragments
		for i, p := range pieces {
			p.src, p.dst = src, src
			if data, _ := f.add(p, ref{pos: int64(i)}, 0); data != nil {
				t.Errorf("%s: %d bytes", name, len(data))
			}
		}
		if f.held < 0 {
			t.Errorf("%s: %d bytes are held", name, f.held)
		}
	}
}

func TestIndexGivesBackWhatItTook(t *testing.T) {
	var x index
	want := []ref{{24, 0}, {300, 0}, {280, 1}, {1 << 40, 1}, {1<<40 + 7, 4095}, {5, 0}}
	for _, r := range want {
		x.add(r)
	}
	c := x.cursor()
	for _, w := range want {
		if got, ok := c.next(); !ok || got != w {
			t.Fatalf("%+v, want %+v", got, w)
		}
	}
	if got, ok := c.next(); ok {
		t.Errorf("%+v after the last", got)
	}
}
