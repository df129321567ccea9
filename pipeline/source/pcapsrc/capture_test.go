package pcapsrc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/pion/rtp"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const ms = time.Millisecond

var began = time.Date(2026, 3, 14, 15, 9, 26, 535_897_000, time.UTC)

// sent is one datagram on its way.
type sent struct {
	at       time.Duration
	src, dst string // address and port
	payload  []byte
	tcp      uint32 // sequence number; 0 for UDP
}

// speech is n samples that differ from each other and from those of another
// seed.
func speech(n, seed int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16((i*37+seed*1009)%16000 - 8000)
	}
	return pcm
}

// talk is RTP of PCMU in packets of 20 ms, from at on.
func talk(at time.Duration, src, dst string, ssrc uint32, pcm []int16) []sent {
	var all []sent
	for i := 0; i*160 < len(pcm); i++ {
		chunk := pcm[i*160 : min(len(pcm), (i+1)*160)]
		p := rtp.Packet{
			Header:  rtp.Header{Version: 2, SSRC: ssrc, SequenceNumber: uint16(65530 + i), Timestamp: uint32(1<<32-800) + uint32(i)*160},
			Payload: audio.MuLaw.Encode(nil, chunk),
		}
		b, err := p.Marshal()
		if err != nil {
			panic(err)
		}
		all = append(all, sent{at: at + time.Duration(i)*20*ms, src: src, dst: dst, payload: b})
	}
	return all
}

// heardOf is what PCMU leaves of pcm.
func heardOf(pcm []int16) []int16 { return audio.MuLaw.Decode(nil, audio.MuLaw.Encode(nil, pcm)) }

// link wraps datagrams into packets of a link.
type link struct {
	layers.LinkType
	wrap func(ip []byte, v6 bool) []byte
}

func serialize(all ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		panic(err)
	}
	return bytes.Clone(buf.Bytes())
}

func etherType(v6 bool) layers.EthernetType {
	if v6 {
		return layers.EthernetTypeIPv6
	}
	return layers.EthernetTypeIPv4
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: kind}
}

var plainEthernet = link{layers.LinkTypeEthernet, func(ip []byte, v6 bool) []byte {
	return serialize(ethernet(etherType(v6)), gopacket.Payload(ip))
}}

// packetIP is the IP packet of a datagram.
func (s sent) ip(id uint16) (b []byte, v6 bool) {
	src, dst := netip.MustParseAddrPort(s.src), netip.MustParseAddrPort(s.dst)
	proto := layers.IPProtocolUDP
	if s.tcp != 0 {
		proto = layers.IPProtocolTCP
	}
	var network interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	} = &layers.IPv4{Version: 4, TTL: 64, Id: id, Protocol: proto, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	if v6 = src.Addr().Is6(); v6 {
		network = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	}
	if s.tcp != 0 {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: s.tcp, ACK: true, PSH: true, Window: 1000}
		if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
			panic(err)
		}
		return serialize(network, tcp, gopacket.Payload(s.payload)), v6
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	if err := udp.SetNetworkLayerForChecksum(network); err != nil {
		panic(err)
	}
	return serialize(network, udp, gopacket.Payload(s.payload)), v6
}

// capture writes what was sent, in order, as a pcap file.
func capture(on link, snap uint32, all ...[]sent) []byte {
	var buf bytes.Buffer
	w := pcapgo.NewWriterNanos(&buf)
	if err := w.WriteFileHeader(snap, on.LinkType); err != nil {
		panic(err)
	}
	for i, s := range inOrder(all...) {
		ip, v6 := s.ip(uint16(i))
		b := on.wrap(ip, v6)
		info := gopacket.CaptureInfo{Timestamp: began.Add(s.at), Length: len(b), CaptureLength: min(len(b), int(snap))}
		if err := w.WritePacket(info, b[:info.CaptureLength]); err != nil {
			panic(err)
		}
	}
	return buf.Bytes()
}

// inOrder merges by time.
func inOrder(all ...[]sent) []sent {
	var out []sent
	for {
		next := -1
		for i, s := range all {
			if len(s) > 0 && (next < 0 || s[0].at < all[next][0].at) {
				next = i
			}
		}
		if next < 0 {
			return out
		}
		out = append(out, all[next][0])
		all[next] = all[next][1:]
	}
}

// found is a call as it was heard.
type found struct {
	*Call
	pcm      map[audio.Leg][]int16
	start    map[audio.Leg]time.Duration // of the first sound
	keys     string
	lost     time.Duration
	warnings []string
}

// hear opens and hears the calls of a capture.
func hear(t testing.TB, file []byte, opt Options) ([]found, []string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "calls.pcap")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(context.Background(), path, opt)
	if err != nil {
		return nil, nil, err
	}
	var all []found
	for _, call := range c.Calls() {
		f := found{Call: call, pcm: make(map[audio.Leg][]int16), start: make(map[audio.Leg]time.Duration)}
		r, err := call.Open()
		if err != nil {
			f.warnings = append(f.warnings, err.Error())
			all = append(all, f)
			continue
		}
		ends := make(map[audio.Leg]time.Duration)
		for {
			frame, err := r.ReadFrame(context.Background())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if frame.Start < ends[frame.Leg] {
				t.Fatalf("frame of the %v at %v after %v", frame.Leg, frame.Start, ends[frame.Leg])
			}
			ends[frame.Leg] = frame.End()
			if len(frame.PCM) > 0 && len(f.pcm[frame.Leg]) == 0 {
				f.start[frame.Leg] = frame.Start
			}
			f.pcm[frame.Leg] = append(f.pcm[frame.Leg], frame.PCM...)
			f.keys += frame.Keys
			f.lost += frame.Lost
		}
		f.warnings = r.Warnings()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all, c.Remarks(), nil
}

// one hears a capture that holds one call.
func one(t testing.TB, file []byte, opt Options) found {
	t.Helper()
	all, remarks, err := hear(t, file, opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d calls, want 1; %q", len(all), remarks)
	}
	return all[0]
}

// sip writes a SIP message, with the lengths filled in.
func sip(start string, body string, headers ...string) []byte {
	out := start + "\r\n"
	for _, h := range headers {
		out += h + "\r\n"
	}
	return []byte(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", out, len(body), body))
}
