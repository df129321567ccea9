package media

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"go.uber.org/goleak"

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
	crypto  *srtp.Context
}

// dial returns a sender of PCMU to a stream's port.
func dial(t testing.TB, st *Stream, ssrc uint32) *sender {
	t.Helper()
	conn := dialPort(t, "127.0.0.1", st.Port())
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
	if s.crypto != nil {
		if b, err = s.crypto.EncryptRTP(nil, b, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	s.SequenceNumber++
	s.Timestamp += 160
}

// dialPort connects from an address of the loopback network to a port.
func dialPort(t testing.TB, from string, port int) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// add adds a stream that must find ports.
func addStream(t testing.TB, s *Session, cfg StreamConfig) *Stream {
	t.Helper()
	if cfg.Formats == nil {
		cfg.Formats = StaticFormats()
	}
	st, err := s.Add(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// newSession is a session on the loopback address.
func newSession(t testing.TB) *Session {
	t.Helper()
	s := loopback(t, 500).NewSession(slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// read returns the next frame, which must come.
func read(t testing.TB, s *Session) audio.Frame {
	t.Helper()
	f, err := s.ReadFrame(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// readUntil reads until so many packets were counted of what is asked for.
func readUntil(t testing.TB, s *Session, what func(source.Stats) uint64, want uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for what(s.Stats()) < want {
		step, done := context.WithTimeout(ctx, 2*s.cfg.Poll)
		_, err := s.ReadFrame(step)
		done()
		if err != nil && ctx.Err() != nil {
			t.Fatalf("counted %+v, want %d", s.Stats(), want)
		}
	}
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

func TestPortsExhaustedAreBusyUntilTheyAreGivenBack(t *testing.T) {
	p := loopback(t, 1)
	s := p.NewSession(slog.New(slog.DiscardHandler))
	defer s.Close()
	st := addStream(t, s, StreamConfig{})
	if _, err := s.Add(StreamConfig{Formats: StaticFormats()}); !errors.Is(err, source.ErrBusy) {
		t.Fatalf("without a free port: %v, want busy", err)
	}
	if taken, all := p.Usage(); taken != 1 || all != 1 {
		t.Errorf("%d of %d taken", taken, all)
	}
	if err := st.Remove(); err != nil {
		t.Fatal(err)
	}
	addStream(t, s, StreamConfig{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if taken, _ := p.Usage(); taken != 0 {
		t.Errorf("%d taken after the end", taken)
	}
}

func TestSessionDropsStrangers(t *testing.T) {
	s := newSession(t)
	st := addStream(t, s, StreamConfig{Leg: audio.Caller, Remote: netip.MustParseAddrPort("127.0.0.2:9")})
	stranger := dial(t, st, 1)
	friend := dial(t, st, 2)
	friend.Conn = dialPort(t, "127.0.0.2", st.Port())
	stranger.next(t)
	friend.next(t)
	stranger.next(t)
	readUntil(t, s, func(c source.Stats) uint64 { return c.Packets + c.Stranger }, 3)
	if got := s.Stats(); got.Packets != 1 || got.Stranger != 2 {
		t.Errorf("counted %+v", got)
	}
}

func TestSessionLatchesOnTheFirstAddress(t *testing.T) {
	s := newSession(t)
	st := addStream(t, s, StreamConfig{Leg: audio.Caller})
	first, second := dial(t, st, 1), dial(t, st, 1)
	second.Conn = dialPort(t, "127.0.0.3", st.Port())
	first.next(t)
	readUntil(t, s, func(c source.Stats) uint64 { return c.Packets }, 1)
	second.next(t)
	first.next(t)
	readUntil(t, s, func(c source.Stats) uint64 { return c.Packets + c.Stranger }, 3)
	if got := s.Stats(); got.Packets != 2 || got.Stranger != 1 {
		t.Errorf("counted %+v", got)
	}
	// The peer moves, and says so.
	if err := st.Change(StreamConfig{Leg: audio.Caller, Formats: StaticFormats(), Remote: netip.MustParseAddrPort("127.0.0.3:1")}); err != nil {
		t.Fatal(err)
	}
	second.SequenceNumber = first.SequenceNumber
	second.next(t)
	readUntil(t, s, func(c source.Stats) uint64 { return c.Packets }, 3)
}

func TestSessionEndsWithoutMediaUnlessHeld(t *testing.T) {
	s := newSession(t)
	s.cfg.Timeout = 50 * time.Millisecond
	cfg := StreamConfig{Leg: audio.Caller, Formats: StaticFormats(), Held: true}
	st := addStream(t, s, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.ReadFrame(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("held: %v", err)
	}
	cfg.Held = false
	if err := st.Change(cfg); err != nil {
		t.Fatal(err)
	}
	resumed := time.Now()
	_, err := s.ReadFrame(t.Context())
	if err == nil || err.Error() != "no media for 50ms" {
		t.Errorf("silent: %v", err)
	}
	if d := time.Since(resumed); d < 50*time.Millisecond {
		t.Errorf("ended after %v: the hold counts as silence", d)
	}
}

func TestSessionHearsOnlyWhoHoldsTheKey(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.name, func(t *testing.T) {
			s := newSession(t)
			ours, err := NewCrypto(1, suite.name)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := NewCrypto(1, suite.name)
			if err != nil {
				t.Fatal(err)
			}
			st := addStream(t, s, StreamConfig{Leg: audio.Caller, Receive: &theirs, Send: &ours})
			peer := dial(t, st, 1)
			peer.next(t) // not encrypted
			if peer.crypto, err = ours.NewContext(); err != nil {
				t.Fatal(err)
			}
			peer.next(t) // by another key
			if peer.crypto, err = theirs.NewContext(); err != nil {
				t.Fatal(err)
			}
			for range 20 { // the sequence numbers begin anew meanwhile
				peer.next(t)
			}
			readUntil(t, s, func(c source.Stats) uint64 { return c.Packets }, 20)
			if got := s.Stats(); got.Packets != 20 || got.Stranger != 2 || got.Bytes != 20*160 {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

func TestSessionTellsStreamsOnOnePortApart(t *testing.T) {
	for _, known := range []bool{false, true} {
		s := newSession(t)
		caller, callee := StreamConfig{Leg: audio.Caller}, StreamConfig{Leg: audio.Callee, Formats: StaticFormats()}
		if known { // and in the other order
			caller.SSRC, callee.SSRC = 22, 11
		}
		st := addStream(t, s, caller)
		if _, err := s.AddTo(st, callee); err != nil {
			t.Fatal(err)
		}
		first, second := dial(t, st, 11), dial(t, st, 22)
		second.Conn = first.Conn
		for range 4 {
			first.next(t)
		}
		for range 2 {
			second.next(t)
		}
		got := map[audio.Leg]int{}
		for got[audio.Caller]+got[audio.Callee] < 6*160 {
			f := read(t, s)
			got[f.Leg] += len(f.PCM)
		}
		want := map[audio.Leg]int{audio.Caller: 640, audio.Callee: 320}
		if known {
			want = map[audio.Leg]int{audio.Caller: 320, audio.Callee: 640}
		}
		if got[audio.Caller] != want[audio.Caller] || got[audio.Callee] != want[audio.Callee] {
			t.Errorf("sources known %v: heard %v, want %v", known, got, want)
		}
	}
}

// reports are what a peer gets by RTCP.
func reports(t *testing.T, conn net.Conn, decrypt *srtp.Context) *rtcp.ReceiverReport {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1500)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	b = b[:n]
	if decrypt != nil {
		if b, err = decrypt.DecryptRTCP(nil, b, nil); err != nil {
			t.Fatal(err)
		}
	}
	all, err := rtcp.Unmarshal(b)
	if err != nil || len(all) != 2 {
		t.Fatalf("read %d packets, %v", len(all), err)
	}
	rr, ok := all[0].(*rtcp.ReceiverReport)
	if _, named := all[1].(*rtcp.SourceDescription); !ok || !named {
		t.Fatalf("a report is %T and %T", all[0], all[1])
	}
	return rr
}

func TestSessionSendsReceiverReports(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		s := newSession(t)
		s.cfg.Reports = time.Second
		cfg := StreamConfig{Leg: audio.Caller}
		ours, err := NewCrypto(1, suites[1].name)
		if err != nil {
			t.Fatal(err)
		}
		peer := &sender{}
		var decrypt *srtp.Context
		if encrypted {
			cfg.Receive, cfg.Send = &ours, &ours
			if decrypt, err = ours.NewContext(); err != nil {
				t.Fatal(err)
			}
		}
		st := addStream(t, s, cfg)
		peer = dial(t, st, 77)
		if encrypted {
			if peer.crypto, err = ours.NewContext(); err != nil {
				t.Fatal(err)
			}
		}
		control := dialPort(t, "127.0.0.1", st.Port()+1)
		cfg.Formats = StaticFormats()
		cfg.Reports = netip.MustParseAddrPort(control.LocalAddr().String())
		if err := st.Change(cfg); err != nil {
			t.Fatal(err)
		}
		sr, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: 77, NTPTime: 0x1122334455667788}})
		if err != nil {
			t.Fatal(err)
		}
		if encrypted {
			if sr, err = peer.crypto.EncryptRTCP(nil, sr, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := control.Write(sr); err != nil {
			t.Fatal(err)
		}
		peer.next(t)
		peer.SequenceNumber++ // lost
		for range 6 {
			peer.next(t)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := s.ReadFrame(t.Context()); err != nil {
					return
				}
			}
		}()
		rr := reports(t, control, decrypt)
		s.End(nil)
		<-done
		if len(rr.Reports) != 1 {
			t.Fatalf("%d reports", len(rr.Reports))
		}
		got := rr.Reports[0]
		if got.SSRC != 77 || got.TotalLost != 1 || got.FractionLost != 256/8 || got.LastSequenceNumber != 65537 || got.LastSenderReport != 0x33445566 {
			t.Errorf("encrypted %v: reported %+v", encrypted, got)
		}
	}
}

func TestSessionEndsAfterGoodbyes(t *testing.T) {
	s := newSession(t)
	st := addStream(t, s, StreamConfig{Leg: audio.Caller, ByeEnds: true})
	addStream(t, s, StreamConfig{Leg: audio.Callee, ByeEnds: true}) // never heard
	dial(t, st, 77).next(t)
	bye, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 77}, &rtcp.Goodbye{Sources: []uint32{77}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dialPort(t, "127.0.0.1", st.Port()+1).Write(bye); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := s.ReadFrame(t.Context()); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("ended by %v", err)
			}
			break
		}
	}
}

func TestSessionAwaitsCallAfterCall(t *testing.T) {
	s := newSession(t)
	st := addStream(t, s, StreamConfig{Leg: audio.Caller})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := s.Await(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("without media: %v", err)
	}
	for i := range uint32(3) {
		peer := dial(t, st, i)
		peer.next(t)
		if err := s.Await(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f := read(t, s); f.Start > 100*time.Millisecond || len(f.PCM) != 160 {
			t.Errorf("call %d begins at %v with %d samples", i, f.Start, len(f.PCM))
		}
		s.End(errors.New("enough"))
		if _, err := s.ReadFrame(t.Context()); err == nil || err.Error() != "enough" {
			t.Errorf("call %d ends with %v", i, err)
		}
	}
	if got := s.Stats(); got.Packets != 3 {
		t.Errorf("counted %+v over all", got)
	}
}

func TestStreamChangesInMidCall(t *testing.T) {
	s := newSession(t)
	st := addStream(t, s, StreamConfig{Leg: audio.Caller})
	err := st.Change(StreamConfig{Leg: audio.Caller, Formats: []Format{{PayloadType: 18, Encoding: "G729", ClockHz: 8000}}})
	if !errors.Is(err, ErrCodec) || !strings.Contains(err.Error(), "G729") {
		t.Fatalf("G729: %v", err)
	}
	peer := dial(t, st, 1)
	peer.next(t)
	before := read(t, s)
	// It becomes the other party's.
	if err := st.Change(StreamConfig{Leg: audio.Callee, Formats: StaticFormats()}); err != nil {
		t.Fatal(err)
	}
	peer.next(t)
	after := read(t, s)
	if before.Leg != audio.Caller || after.Leg != audio.Callee || len(after.PCM) != 160 {
		t.Errorf("heard %v then %v", before.Leg, after.Leg)
	}
	if got := s.Stats(); got.Packets != 2 {
		t.Errorf("counted %+v over both", got)
	}
	// A second stream of a leg cannot speak over the first.
	again := addStream(t, s, StreamConfig{Leg: audio.Callee})
	other := dial(t, again, 2)
	for range 10 {
		peer.next(t)
		other.next(t)
	}
	end := after.End()
	for heard := 0; heard < 1600; {
		f := read(t, s)
		if f.Start < end {
			t.Fatalf("a frame begins at %v before %v", f.Start, end)
		}
		end = f.End()
		heard += len(f.PCM)
	}
}

func TestSocketReadsIPv6AndTellsWhenItCame(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		s, err := openSocket(netip.AddrPortFrom(netip.MustParseAddr(address), 0))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("udp", s.local.String())
		if err != nil {
			t.Fatal(err)
		}
		before := time.Now().Round(0)
		for i := range byte(40) {
			if _, err := conn.Write([]byte{i}); err != nil {
				t.Fatal(err)
			}
		}
		b := newBatch()
		for seen := byte(0); seen < 40; {
			n, err := s.read(b)
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				d := b.datagram(i)
				if len(d.payload) != 1 || d.payload[0] != seen || d.from.String() != conn.LocalAddr().String() {
					t.Fatalf("datagram %d is %v from %v", seen, d.payload, d.from)
				}
				if d.came.Before(before.Add(-time.Millisecond)) || d.came.After(time.Now()) {
					t.Fatalf("it came at %v, sent after %v", d.came, before)
				}
				seen++
			}
		}
		if err := s.send([]byte("answer"), netip.MustParseAddrPort(conn.LocalAddr().String())); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 10)
		if n, err := conn.Read(answer); err != nil || string(answer[:n]) != "answer" {
			t.Errorf("%s: answered %q, %v", address, answer[:n], err)
		}
		if err := errors.Join(conn.Close(), s.close()); err != nil {
			t.Error(err)
		}
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Both legs' packets lie in the kernel until they are read together, and have
// the times at which they came all the same.
func TestSessionHearsWhenPacketsCameNotWhenTheyAreRead(t *testing.T) {
	s := newSession(t)
	var peers []*sender
	for i, leg := range []audio.Leg{audio.Caller, audio.Callee} {
		peers = append(peers, dial(t, addStream(t, s, StreamConfig{Leg: leg}), uint32(i)))
	}
	// The callee is heard first, and read last.
	peers[1].next(t)
	sent := time.Since(s.Began())
	pause, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	<-pause.Done()
	again := time.Since(s.Began())
	peers[0].next(t)
	callee, caller := read(t, s), read(t, s)
	if callee.Leg != audio.Callee || callee.Start > sent+5*time.Millisecond {
		t.Errorf("sent before %v, %v is at %v", sent, callee.Leg, callee.Start)
	}
	if caller.Leg != audio.Caller || caller.Start < again {
		t.Errorf("sent after %v, %v is at %v", again, caller.Leg, caller.Start)
	}
}

// A stranger who sends more than can be read holds nobody up.
func TestSessionBoundsWhatItReadsOfAFlood(t *testing.T) {
	s := newSession(t)
	st := addStream(t, s, StreamConfig{Leg: audio.Caller, Remote: netip.MustParseAddrPort("127.0.0.2:9")})
	flood := dial(t, st, 1)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := flood.Write(make([]byte, 100)); err != nil {
					return
				}
			}
		}
	}()
	for range 5 {
		before := s.Stats()
		if _, err := s.round(); err != nil {
			t.Fatal(err)
		}
		after := s.Stats()
		if n := after.Stranger - before.Stranger; n > maxBatches*batchSize {
			t.Errorf("%d datagrams read at a time", n)
		}
	}
	close(stop)
	<-stopped
}
