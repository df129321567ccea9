package media

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// loopback is a range of ports on the loopback address.
func loopback(t testing.TB, pairs int) *Ports {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Bind = "127.0.0.1"
	cfg.Poll = 10 * time.Millisecond
	// The range of another test process is skipped port by port.
	cfg.Ports = PortsRange{Min: 40000, Max: 40000 + 2*pairs - 1}
	p, err := NewPorts(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sender is a peer that sends RTP.
type sender struct {
	net.Conn
	rtp.Header
	payload []byte
}

// dial returns a sender of PCMU to a stream's port.
func dial(t testing.TB, st *Stream, ssrc uint32) *sender {
	t.Helper()
	conn, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(st.Port())).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &sender{Conn: conn, Header: rtp.Header{Version: 2, SSRC: ssrc, SequenceNumber: 65530, Timestamp: 1 << 31}}
	s.payload = audio.MuLaw.Encode(nil, tone(160, 8000))
	return s
}

// next sends one packet of 20 ms.
func (s *sender) next(t testing.TB) {
	t.Helper()
	b, err := (&rtp.Packet{Header: s.Header, Payload: s.payload}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	s.SequenceNumber++
	s.Timestamp += 160
}

// tone is n samples of a voice-like 200 Hz.
func tone(n, rateHz int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		phase := i * 200 % rateHz
		pcm[i] = int16(8000 - 16000*phase/rateHz)
	}
	return pcm
}

func TestSessionYieldsBothLegsUntilTheEnd(t *testing.T) {
	s := loopback(t, 100).NewSession(slog.New(slog.DiscardHandler))
	defer s.Close()
	for i, leg := range []audio.Leg{audio.Caller, audio.Callee} {
		st, err := s.Add(StreamConfig{Leg: leg, Formats: StaticFormats()})
		if err != nil {
			t.Fatal(err)
		}
		peer := dial(t, st, uint32(i))
		for range 10 {
			peer.next(t)
		}
	}
	got := map[audio.Leg]int{}
	for got[audio.Caller]+got[audio.Callee] < 3200 {
		f, err := s.ReadFrame(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		got[f.Leg] += len(f.PCM)
	}
	if got[audio.Caller] != 1600 || got[audio.Callee] != 1600 {
		t.Errorf("heard %v samples, want 1600 of each leg", got)
	}
	s.End(nil)
	if _, err := s.ReadFrame(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want io.EOF", err)
	}
	if got := s.Stats(); got.Packets != 20 || got.Bytes != 3200 || got.Lost != 0 {
		t.Errorf("counted %+v, want 20 packets of 160 bytes", got)
	}
}

func TestPortsExhaustedAreBusy(t *testing.T) {
	p := loopback(t, 1)
	s := p.NewSession(slog.New(slog.DiscardHandler))
	defer s.Close()
	for range 2 {
		if _, err := s.Add(StreamConfig{Formats: StaticFormats()}); err != nil {
			if !errors.Is(err, source.ErrBusy) {
				t.Fatalf("%v is not busy", err)
			}
			return
		}
	}
	t.Fatal("two streams on one pair of ports")
}
