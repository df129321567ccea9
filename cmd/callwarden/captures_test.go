package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/pion/rtp"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// trunk writes a capture of a call in PCMU, whose SIP is between two exchanges.
type trunk struct {
	w  *pcapgo.Writer
	at time.Time
}

func newTrunk(t *testing.T, file io.Writer) *trunk {
	t.Helper()
	w := pcapgo.NewWriter(file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	return &trunk{w: w, at: time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)}
}

// send writes one datagram between the hosts 192.0.2.from and 192.0.2.to.
func (tr *trunk) send(t *testing.T, at time.Duration, from, to byte, fromPort, toPort int, payload []byte) {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: []byte{192, 0, 2, from}, DstIP: []byte{192, 0, 2, to}}
	udp := &layers.UDP{SrcPort: layers.UDPPort(fromPort), DstPort: layers.UDPPort(toPort)}
	buf := gopacket.NewSerializeBuffer()
	err := errors.Join(udp.SetNetworkLayerForChecksum(ip), gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, from}, DstMAC: []byte{2, 0, 0, 0, 0, to}, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(payload)))
	if err == nil {
		n := len(buf.Bytes())
		err = tr.w.WritePacket(gopacket.CaptureInfo{Timestamp: tr.at.Add(at), Length: n, CaptureLength: n}, buf.Bytes())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// call writes a call of both legs; id makes its ports and its Call-ID.
func (tr *trunk) call(t *testing.T, id int, caller, callee []int16) {
	t.Helper()
	portA, portB := 4000+10*id, 5000+10*id
	sdp := func(host byte, port int) string {
		return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 192.0.2.%d\r\ns=-\r\nc=IN IP4 192.0.2.%d\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\n", host, host, port)
	}
	sip := func(at time.Duration, fromA bool, start, cseq, body string) {
		text := fmt.Sprintf("%s\r\nCall-ID: %d@192.0.2.1\r\nFrom: <sip:+15550100@a.example>;tag=a\r\nTo: <sip:+15550199@b.example>\r\nCSeq: %s\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s",
			start, id, cseq, len(body), body)
		if fromA {
			tr.send(t, at, 1, 2, 5060, 5060, []byte(text))
		} else {
			tr.send(t, at, 2, 1, 5060, 5060, []byte(text))
		}
	}
	sip(0, true, "INVITE sip:+15550199@b.example SIP/2.0", "1 INVITE", sdp(1, portA))
	sip(time.Millisecond, false, "SIP/2.0 200 OK", "1 INVITE", sdp(2, portB))
	for i := 0; i*160 < max(len(caller), len(callee)); i++ {
		at := 2*time.Millisecond + time.Duration(i)*20*time.Millisecond
		for leg, pcm := range [][]int16{caller, callee} {
			if i*160 >= len(pcm) {
				continue
			}
			b, err := (&rtp.Packet{
				Header:  rtp.Header{Version: 2, SSRC: uint32(10*id + leg), SequenceNumber: uint16(i), Timestamp: uint32(i) * 160},
				Payload: audio.MuLaw.Encode(nil, pcm[i*160:min(len(pcm), (i+1)*160)]),
			}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if leg == 0 {
				tr.send(t, at, 1, 2, portA, portB, b)
			} else {
				tr.send(t, at, 2, 1, portB, portA, b)
			}
		}
	}
	sip(2*time.Millisecond+audio.Span(max(len(caller), len(callee)), 8000), true, "BYE sip:+15550199@b.example SIP/2.0", "2 BYE", "")
}

// legsOf reads a recording whole.
func legsOf(t *testing.T, path string) map[audio.Leg][]int16 {
	t.Helper()
	f, err := audio.OpenFile(path, audio.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	legs := make(map[audio.Leg][]int16)
	for {
		frame, err := f.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			return legs
		}
		if err != nil {
			t.Fatal(err)
		}
		legs[frame.Leg] = append(legs[frame.Leg], frame.PCM...)
	}
}

// findings are those of the events in out, one line each, and the calls that
// began with their attributes.
func findings(t *testing.T, out string) (found []string, calls []map[string]string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var ev struct {
			Type string
			Data struct {
				Attributes map[string]string
				Finding    struct {
					Tactic, Leg, State, Words string
					Start, End                string
				}
			}
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		switch ev.Type {
		case "callwarden.call.started.v1":
			calls = append(calls, ev.Data.Attributes)
		case "callwarden.risk.finding.v1":
			f := ev.Data.Finding
			if strings.HasSuffix(f.State, "CONFIRMED") {
				found = append(found, fmt.Sprintf("%s %s %s-%s %q", f.Tactic, f.Leg, f.Start, f.End, f.Words))
			}
		}
	}
	return found, calls
}

// What is said in a capture is heard as it is in a recording of the same call,
// by the real recogniser.
func TestWholeCaptureGivesTheFindingsOfItsRecording(t *testing.T) {
	wav := filepath.Join(calls, "fraud-code.wav")
	legs := legsOf(t, wav)
	var file bytes.Buffer
	newTrunk(t, &file).call(t, 1, legs[audio.Caller], legs[audio.Callee])
	path := filepath.Join(t.TempDir(), "trunk.pcap")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := callwarden(t, "replay", wav, "--json")
	if code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	want, _ := findings(t, out)
	code, out, stderr = callwarden(t, "replay", path, "--json")
	if code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	got, began := findings(t, out)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("findings of the capture\n  %s\nof the recording\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	if len(began) != 1 || !strings.HasPrefix(began[0]["codec"], "PCMU/") || began[0]["file"] != "trunk.pcap" || began[0]["from"] == "" {
		t.Errorf("calls %v", began)
	}
}

// A folder mixes recordings and captures; each call of a capture is one of the
// replay's, and one that cannot be heard does not keep the others.
func TestCapturesAreReplayedBesideRecordings(t *testing.T) {
	dir := t.TempDir()
	pcm := make([]int16, 8000)
	var file bytes.Buffer
	tr := newTrunk(t, &file)
	tr.call(t, 1, pcm, pcm)
	tr.at = tr.at.Add(time.Minute)
	tr.call(t, 2, pcm, pcm)
	for name, data := range map[string][]byte{"two.pcap": file.Bytes(), "noise.pcapng": []byte("no capture at all")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wav, err := os.Create(filepath.Join(dir, "one.wav"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(audio.WriteWAV(wav, audio.WAVPCM16, 8000, pcm, pcm), wav.Close()); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := callwarden(t, "replay", dir, "--backend", "none", "--json")
	if code != exitFailed || !strings.Contains(stderr, "noise.pcapng") || !strings.Contains(stderr, "neither pcap nor pcapng") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	_, began := findings(t, out)
	var files []string
	for _, c := range began {
		files = append(files, c["file"])
	}
	slices.Sort(files)
	if len(files) != 3 || files[0] != "one.wav" || !strings.HasPrefix(files[1], "two.pcap#sip-") || !strings.HasPrefix(files[2], "two.pcap#sip-") || files[1] == files[2] {
		t.Errorf("calls of %q", files)
	}
}

func TestMapSaysWhatItTakes(t *testing.T) {
	for value, want := range map[string]string{
		"opus/48000/2":    "must be a payload type and what it is",
		"x=opus/48000/2":  "must be a payload type and what it is",
		"200=PCMU/8000":   "from 0 to 127",
		"96=G729/8000":    "G729 is not supported",
		"96=opus/48000/x": "channels",
	} {
		code, _, stderr := callwarden(t, "replay", "x.pcap", "--map", value)
		if code != exitUsage || !strings.Contains(stderr, "--map") || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d\n%s", value, code, stderr)
		}
	}
}
