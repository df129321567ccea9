//go:build e2e

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/pion/rtp"

	"github.com/callwarden/callwarden/cmd/internal/caller"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// call is one of our demo calls: two legs, µ-law.
func call(t *testing.T, name string) (file string, rec *caller.Recording) {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("../../../testdata/calls", name+".wav"))
	if err != nil {
		t.Fatal(err)
	}
	rec, err = caller.Open(file, false)
	if err != nil {
		t.Fatal(err)
	}
	return file, rec
}

// capture writes the call as a capture of RTP: packets of 20 ms to port 20000
// for the first leg, two ports above for the second.
func capture(t *testing.T, rec *caller.Recording) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "call.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := pcapgo.NewWriter(file)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	const each = 160
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for n := 0; n*each < len(rec.Legs[0].PCM); n++ {
		for leg, side := range rec.Legs {
			pcm := side.PCM[n*each : min((n+1)*each, len(side.PCM))]
			p := rtp.Packet{
				Header: rtp.Header{
					Version: 2, SequenceNumber: uint16(1000 + n), Timestamp: uint32(n * each),
					SSRC: uint32(0xca110 + leg), Marker: n == 0,
				},
				Payload: audio.MuLaw.Encode(nil, pcm),
			}
			data, err := p.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			at := begin.Add(time.Duration(n)*20*time.Millisecond + time.Duration(leg)*time.Millisecond)
			frame := datagram(t, uint16(20000+2*leg), data)
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(frame), Length: len(frame)}, frame); err != nil {
				t.Fatal(err)
			}
		}
	}
	return file.Name()
}

func datagram(t *testing.T, port uint16, payload []byte) []byte {
	t.Helper()
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP,
		SrcIP: net.IPv4(192, 0, 2, 8), DstIP: net.IPv4(192, 0, 2, 9),
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(port), DstPort: layers.UDPPort(port)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(payload))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mono writes both parties of a call on one channel, as a telephone at one end
// would send them, and with samples that µ-law does not change.
func mono(t *testing.T, rec *caller.Recording) string {
	t.Helper()
	pcm := make([]int16, len(rec.Legs[0].PCM))
	for i := range pcm {
		sum := int(rec.Legs[0].PCM[i]) + int(rec.Legs[1].PCM[i])
		pcm[i] = int16(min(max(sum, -32768), 32767))
	}
	pcm = audio.MuLaw.Decode(nil, audio.MuLaw.Encode(nil, pcm))
	file, err := os.Create(filepath.Join(t.TempDir(), "mono.wav"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := audio.WriteWAV(file, audio.WAVPCM16, rec.RateHz, pcm); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}
