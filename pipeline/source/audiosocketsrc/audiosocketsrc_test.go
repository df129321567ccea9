package audiosocketsrc

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	uuidA = "40325ec2-5efd-4bd3-805f-53576e581d13"
	uuidB = "0191e9a0-0000-7000-8000-000000000002"
)

func hello(uuid string) []byte {
	raw, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	if err != nil {
		panic(err)
	}
	return wire(kindUUID, raw...)
}

// heard is a call as a handler saw it.
type heard struct {
	*source.Call
	sum  map[audio.Leg]int // of sample values
	last map[audio.Leg]time.Duration
	keys string
	err  error
}

// listener is a handler that keeps what it hears.
type listener struct {
	mu    sync.Mutex
	calls []heard
	began chan string // ids of calls, where not nil
}

func (l *listener) handle(ctx context.Context, call *source.Call) error {
	if l.began != nil {
		l.began <- call.ID
	}
	h := heard{Call: call, sum: make(map[audio.Leg]int), last: make(map[audio.Leg]time.Duration)}
	for h.err == nil {
		var f audio.Frame
		if f, h.err = call.Audio.ReadFrame(ctx); h.err != nil {
			break
		}
		if f.Start < h.last[f.Leg] {
			h.err = fmt.Errorf("%v frame at %v after %v", f.Leg, f.Start, h.last[f.Leg])
		}
		h.last[f.Leg] = f.End()
		for _, v := range f.PCM {
			h.sum[f.Leg] += int(v)
		}
		h.keys += f.Keys
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, h)
	if errors.Is(h.err, io.EOF) {
		return nil
	}
	return h.err
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	return cfg
}

// open starts a source that serves until the test ends or stop is called.
func open(t *testing.T, cfg Config, handle source.Handler) (s *Source, stop func()) {
	t.Helper()
	s, err := New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, handle) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve returned %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func dial(t *testing.T, s *Source, parts ...[]byte) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, p := range parts {
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// lastWord is what the peer says before it closes.
func lastWord(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("reading the last word: %v", err)
	}
	return got
}

func announceTo(t *testing.T, s *Source, uuid, body string) (status int) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPut, "/v1/audiosocket/calls/"+uuid, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Code
}

func TestUnannouncedSocketIsOneUnknownLeg(t *testing.T) {
	var l listener
	cfg := testConfig()
	cfg.AnnounceWait = 0
	s, stop := open(t, cfg, l.handle)
	conn := dial(t, s, hello(uuidA), wire(0x10, pcm(160, 3)...), wire(kindDigit, '4'), wire(0x10, pcm(160, 3)...), wire(kindHangUp))
	if got := lastWord(t, conn); !bytes.Equal(got, wire(kindHangUp)) {
		t.Errorf("last word % x, want a hang-up", got)
	}
	stop()
	if len(l.calls) != 1 {
		t.Fatalf("%d calls", len(l.calls))
	}
	c := l.calls[0]
	if c.ID != uuidA || c.Tenant != "default" || c.Source != "audiosocket" || !c.Live || c.Began.IsZero() || len(c.Legs) != 1 || c.Legs[0] != audio.Unknown {
		t.Errorf("call %+v", c.Call)
	}
	if c.sum[audio.Unknown] != 2*160*3 || c.keys != "4" || !errors.Is(c.err, io.EOF) {
		t.Errorf("heard %v, keys %q, end %v", c.sum, c.keys, c.err)
	}
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "nobody announced") {
		t.Errorf("warnings %q", w)
	}
	if st := s.Stats(); st.Calls != 0 || st.Legs != 0 || st.Begun != 1 || st.Packets != 2 || st.Bytes != 640 || st.Refused+st.Malformed+st.Stranger+st.Unplaced != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestTwoSocketsAreOneCall(t *testing.T) {
	for _, order := range []string{"caller first", "callee first"} {
		t.Run(order, func(t *testing.T) {
			var l listener
			s, stop := open(t, testConfig(), l.handle)
			caller := `{"call":"c-1","tenant":"bank","leg":"caller","from":"+15550100","from_name":"A","direction":"inbound"}`
			callee := `{"call":"c-1","tenant":"bank","leg":"callee","to":"+15550199","consent":true}`
			for uuid, body := range map[string]string{uuidA: caller, uuidB: callee} {
				if status := announceTo(t, s, uuid, body); status != http.StatusCreated {
					t.Fatalf("announcing: %d", status)
				}
			}
			say := map[string][]byte{
				uuidA: bytes.Join([][]byte{hello(uuidA), wire(0x10, pcm(160, 3)...), wire(kindHangUp)}, nil),
				uuidB: bytes.Join([][]byte{hello(uuidB), wire(0x12, pcm(320, 5)...), wire(kindHangUp)}, nil),
			}
			first, second := uuidA, uuidB
			if order == "callee first" {
				first, second = second, first
			}
			a := dial(t, s, say[first])
			b := dial(t, s, say[second])
			lastWord(t, a)
			lastWord(t, b)
			stop()
			if len(l.calls) != 1 {
				t.Fatalf("%d calls", len(l.calls))
			}
			c := l.calls[0]
			if c.ID != "c-1" || c.Tenant != "bank" || len(c.Legs) != 2 || c.sum[audio.Caller] != 160*3 || c.sum[audio.Callee] != 320*5 {
				t.Errorf("call %+v heard %v", c.Call, c.sum)
			}
			want := map[string]string{"from": "+15550100", "from_name": "A", "to": "+15550199", "direction": "inbound", "consent": "true"}
			for k, v := range want {
				if c.Attributes[k] != v {
					t.Errorf("attribute %s is %q, want %q", k, c.Attributes[k], v)
				}
			}
			if w := c.Warnings(); len(w) != 0 {
				t.Errorf("warnings %q", w)
			}
		})
	}
}

func TestSecondLegThatIsLateIsHeardByItself(t *testing.T) {
	l := listener{began: make(chan string, 2)}
	cfg := testConfig()
	cfg.JoinWait = ms
	s, stop := open(t, cfg, l.handle)
	announceTo(t, s, uuidA, `{"call":"c-1","leg":"caller"}`)
	announceTo(t, s, uuidB, `{"call":"c-1","leg":"callee"}`)
	a := dial(t, s, hello(uuidA))
	<-l.began
	b := dial(t, s, hello(uuidB), wire(0x10, pcm(160, 1)...), wire(kindHangUp))
	if id := <-l.began; id != "c-1-callee" {
		t.Errorf("late leg is call %q", id)
	}
	lastWord(t, b)
	if _, err := a.Write(wire(kindHangUp)); err != nil {
		t.Fatal(err)
	}
	lastWord(t, a)
	stop()
	for _, c := range l.calls {
		if c.ID == "c-1" && (c.Attributes["missing_leg"] != "callee" || len(c.Warnings()) != 1 || len(c.Legs) != 1 || c.Legs[0] != audio.Caller) {
			t.Errorf("first leg: %+v, %q", c.Call, c.Warnings())
		}
	}
}

func TestSameUUIDTwiceIsTwoCalls(t *testing.T) {
	l := listener{began: make(chan string, 2)}
	cfg := testConfig()
	cfg.AnnounceWait = 0
	s, _ := open(t, cfg, l.handle)
	dial(t, s, hello(uuidA))
	first := <-l.began
	dial(t, s, hello(uuidA))
	if second := <-l.began; first != uuidA || second != uuidA+"-2" {
		t.Errorf("calls %q and %q", first, second)
	}
}

func TestAnnouncementShortlyAfterTheSocketCounts(t *testing.T) {
	l := listener{began: make(chan string, 1)}
	cfg := testConfig()
	cfg.AnnounceWait = maxJoinWait
	s, _ := open(t, cfg, l.handle)
	dial(t, s, hello(uuidA))
	announceTo(t, s, uuidB, `{"call":"other"}`)
	announceTo(t, s, uuidA, `{"call":"mine"}`)
	if id := <-l.began; id != "mine" {
		t.Errorf("call %q", id)
	}
}

func TestWhatIsNoAudioSocketIsHungUpOn(t *testing.T) {
	var l listener
	s, stop := open(t, testConfig(), l.handle)
	for name, bytesOf := range map[string][]byte{
		"a web browser":     streams["a web browser"],
		"audio first":       wire(0x10, pcm(160, 1)...),
		"UUID of 3 bytes":   wire(kindUUID, 1, 2, 3),
		"UUID of 36 others": wire(kindUUID, bytes.Repeat([]byte{'x'}, 36)...),
	} {
		if got := lastWord(t, dial(t, s, bytesOf)); !bytes.HasSuffix(wire(kindHangUp), got) {
			t.Errorf("%s: answered % x", name, got)
		}
	}
	stop()
	if st := s.Stats(); len(l.calls) != 0 || st.Malformed != 4 {
		t.Errorf("%d calls, stats %+v", len(l.calls), st)
	}
}

func TestBusyIsAnsweredByHangingUp(t *testing.T) {
	cfg := testConfig()
	cfg.AnnounceWait = 0
	s, stop := open(t, cfg, func(context.Context, *source.Call) error { return fmt.Errorf("no room: %w", source.ErrBusy) })
	if got := lastWord(t, dial(t, s, hello(uuidA))); !bytes.Equal(got, wire(kindHangUp)) {
		t.Errorf("answered % x", got)
	}
	stop()
	if st := s.Stats(); st.Refused != 1 || st.Calls != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestSocketsBeyondTheLimitAreHungUpOn(t *testing.T) {
	l := listener{began: make(chan string, 1)}
	cfg := testConfig()
	cfg.AnnounceWait, cfg.Sockets = 0, 1
	s, stop := open(t, cfg, l.handle)
	dial(t, s, hello(uuidA))
	<-l.began
	if got := lastWord(t, dial(t, s)); !bytes.Equal(got, wire(kindHangUp)) {
		t.Errorf("answered % x", got)
	}
	stop()
	if st := s.Stats(); st.Unplaced != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestStrangersAreNotHeard(t *testing.T) {
	var l listener
	cfg := testConfig()
	cfg.Allow = []string{"192.0.2.0/24"}
	s, stop := open(t, cfg, l.handle)
	conn := dial(t, s)
	if got := lastWord(t, conn); len(got) != 0 {
		t.Errorf("answered % x", got)
	}
	stop()
	if st := s.Stats(); st.Stranger != 1 {
		t.Errorf("stats %+v", st)
	}
}

// pipe serves one socket over an in-memory connection, on the bubble's clock.
func pipe(t *testing.T, cfg Config, l *listener, say func(conn net.Conn)) heard {
	t.Helper()
	s := &Source{
		cfg: cfg, log: quiet(), register: newRegister(cfg.AnnouncedMost, cfg.AnnouncedFor),
	}
	here, there := net.Pipe()
	var group sync.WaitGroup
	group.Go(func() { s.serve(t.Context(), newSocket(there), l.handle) })
	group.Go(func() { say(here); _, _ = io.Copy(io.Discard, here) })
	group.Wait()
	if len(l.calls) != 1 {
		t.Fatalf("%d calls", len(l.calls))
	}
	return l.calls[0]
}

func mustWrite(t *testing.T, conn net.Conn, parts ...[]byte) {
	t.Helper()
	for _, p := range parts {
		if _, err := conn.Write(p); err != nil {
			t.Error(err)
			return
		}
	}
}

func TestEndsHaveTheirReason(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(t *testing.T, conn net.Conn)
		want string
		took time.Duration
	}{
		"hang-up": {func(t *testing.T, conn net.Conn) { mustWrite(t, conn, wire(kindHangUp)) }, "EOF", time.Second},
		"closed":  {func(_ *testing.T, conn net.Conn) { _ = conn.Close() }, "EOF", time.Second},
		"closed within a message": {func(t *testing.T, conn net.Conn) {
			mustWrite(t, conn, []byte{0x10, 1, 64, 0, 0})
			_ = conn.Close()
		}, "the connection ended within a message", time.Second},
		"nothing comes":          {func(*testing.T, net.Conn) {}, "no media for 1m0s", time.Minute},
		"hang-up of the caller":  {func(t *testing.T, conn net.Conn) { mustWrite(t, conn, wire(kindError, 1)) }, "EOF", time.Second},
		"error":                  {func(t *testing.T, conn net.Conn) { mustWrite(t, conn, wire(kindError, 4)) }, "the peer reports error 04", time.Second},
		"error without a code":   {func(t *testing.T, conn net.Conn) { mustWrite(t, conn, wire(kindError)) }, "the peer reports error ", time.Second},
		"a message never ending": {func(t *testing.T, conn net.Conn) { mustWrite(t, conn, []byte{0x10, 0xff, 0xff, 0}) }, "no media for 1m0s", time.Minute},
		"half messages": {func(t *testing.T, conn net.Conn) {
			for _, b := range wire(0x10, pcm(160, 1)...) {
				mustWrite(t, conn, []byte{b})
				time.Sleep(ms) //nolint:forbidigo // the bubble's clock
			}
			mustWrite(t, conn, wire(kindHangUp))
		}, "EOF", time.Second + 323*ms},
		"kinds of later versions": {func(t *testing.T, conn net.Conn) {
			mustWrite(t, conn, wire(0x7f, 1, 2), wire(kindUUID, 1), wire(kindDigit), wire(0x10), wire(kindHangUp))
		}, "EOF", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				h := pipe(t, testConfig(), &listener{}, func(conn net.Conn) {
					mustWrite(t, conn, hello(uuidA))
					c.say(t, conn)
				})
				if h.err.Error() != c.want {
					t.Errorf("end %q, want %q", h.err, c.want)
				}
				if took := time.Since(began); took < c.took-time.Second || took > c.took+markEvery {
					t.Errorf("took %v, want %v", took, c.took)
				}
			})
		})
	}
}

func TestSenderFasterThanSpeechIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.AnnounceWait = 0
		began := time.Now()
		h := pipe(t, cfg, &listener{}, func(conn net.Conn) {
			mustWrite(t, conn, hello(uuidA))
			for range 20 * 50 { // 20 s
				mustWrite(t, conn, wire(0x10, pcm(160, 1)...))
			}
			mustWrite(t, conn, wire(kindHangUp))
		})
		if took := time.Since(began); took < 14*time.Second || took > 16*time.Second {
			t.Errorf("20 s of audio took %v, want 5 s less", took)
		}
		if h.sum[audio.Unknown] != 20*50*160 || h.last[audio.Unknown] != 20*time.Second {
			t.Errorf("heard %d samples to %v", h.sum[audio.Unknown], h.last[audio.Unknown])
		}
	})
}

func TestSilentLegIsToldTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MediaTimeout = 10 * time.Second
		h := pipe(t, cfg, &listener{}, func(conn net.Conn) { mustWrite(t, conn, hello(uuidA)) })
		if at := h.last[audio.Unknown]; at < 8*time.Second || at > 10*time.Second {
			t.Errorf("the last mark is at %v", at)
		}
	})
}

func TestStrangerThatSaysNothingIsHungUpOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Source{cfg: testConfig(), log: quiet()}
		here, there := net.Pipe()
		began := time.Now()
		var group sync.WaitGroup
		group.Go(func() { s.serve(t.Context(), newSocket(there), nil) })
		got, err := io.ReadAll(here)
		group.Wait()
		if err != nil || !bytes.Equal(got, wire(kindHangUp)) || time.Since(began) != s.cfg.HelloTimeout {
			t.Errorf("% x, %v after %v", got, err, time.Since(began))
		}
	})
}

func TestCancelEndsCallsAndSockets(t *testing.T) {
	l := listener{began: make(chan string, 1)}
	cfg := testConfig()
	cfg.AnnounceWait = 0
	s, stop := open(t, cfg, l.handle)
	idle := dial(t, s)
	conn := dial(t, s, hello(uuidA))
	<-l.began
	stop()
	if got := lastWord(t, conn); !bytes.Equal(got, wire(kindHangUp)) {
		t.Errorf("last word % x", got)
	}
	if _, err := idle.Read(make([]byte, 8)); err == nil {
		t.Error("an idle socket is still open")
	}
	if !errors.Is(l.calls[0].err, context.Canceled) {
		t.Errorf("the call ended with %v", l.calls[0].err)
	}
}

func TestAnnouncementsAreKeptForAWhileAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegister(2, time.Minute)
		for _, uuid := range []string{"a", "b", "b"} {
			if _, err := r.put(uuid, Announcement{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.put("c", Announcement{}); !errors.Is(err, errFull) {
			t.Errorf("a third: %v", err)
		}
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the bubble's clock
		if _, ok, _ := r.get("a"); ok {
			t.Error("an announcement is kept for ever")
		}
		if _, err := r.put("c", Announcement{}); err != nil {
			t.Errorf("after the others' time: %v", err)
		}
	})
}

func TestHTTPAnswersSayWhatIsWrong(t *testing.T) {
	cfg := testConfig()
	cfg.AnnouncedMost = 1
	s, err := New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		method, uuid, body string
		status             int
		want               string
	}{
		{"PUT", "nonsense", `{}`, 400, "must look like"},
		{"PUT", uuidA, `{"leg":"agent"}`, 400, "none of caller, callee, unknown"},
		{"PUT", uuidA, `{"call":"a.b"}`, 400, "call: "},
		{"PUT", uuidA, `{"leg":"caller","from":"1"}`, 201, `"leg":"caller"`},
		{"PUT", strings.ToUpper(uuidA), `{"leg":"callee"}`, 200, `"leg":"callee"`},
		{"PUT", uuidB, `{}`, 503, "too many"},
		{"GET", uuidA, "", 200, `"leg":"callee"`},
		{"GET", uuidB, "", 404, "no such UUID"},
		{"DELETE", uuidA, "", 204, ""},
		{"DELETE", uuidA, "", 404, "no such UUID"},
		{"POST", uuidA, `{"leg":"callee"}`, 201, `"leg":"callee"`},
		{"PATCH", uuidA, "", 405, ""},
	} {
		r := httptest.NewRequest(c.method, "/v1/audiosocket/calls/"+c.uuid, strings.NewReader(c.body))
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s %s: %d %s, want %d and %s", c.method, c.uuid, c.body, w.Code, w.Body, c.status, c.want)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/v1/audiosocket/calls/"+uuidA, nil)
	w := httptest.NewRecorder()
	if s.Handler().ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
		t.Errorf("a stranger is answered %d", w.Code)
	}
}

func TestConfigNamesKeyAndRule(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"listen: ":                     func(c *Config) { c.Listen = "9092" },
		`allow[1]: "x"`:                func(c *Config) { c.Allow = []string{"10.0.0.0/8", "x"} },
		`tenant: "a.b"`:                func(c *Config) { c.Tenant = "a.b" },
		"sockets: 0":                   func(c *Config) { c.Sockets = 0 },
		"hello_timeout: 0s":            func(c *Config) { c.HelloTimeout = 0 },
		"media_timeout: -1s":           func(c *Config) { c.MediaTimeout = -time.Second },
		"announced_for: 0s":            func(c *Config) { c.AnnouncedFor = 0 },
		"announced_most: 0":            func(c *Config) { c.AnnouncedMost = 0 },
		"announce_wait: 4s must be 0s": func(c *Config) { c.AnnounceWait = 4 * time.Second },
		"join_wait: 1h0m0s must be 0s": func(c *Config) { c.JoinWait = time.Hour },
		"token_file: reading":          func(c *Config) { c.TokenFile = "/nowhere/token" },
	} {
		cfg := testConfig()
		change(&cfg)
		if _, err := New(cfg, quiet()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v does not begin with %q", err, want)
		}
	}
}

// hears reads what is spoken to the peer until n samples came.
func hears(t *testing.T, conn net.Conn, n int) (pcm []int16) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for len(pcm) < n {
		var h [header]byte
		if _, err := io.ReadFull(conn, h[:]); err != nil {
			t.Fatalf("after %d of %d samples: %v", len(pcm), n, err)
		}
		body := make([]byte, binary.BigEndian.Uint16(h[1:]))
		if _, err := io.ReadFull(conn, body); err != nil {
			t.Fatal(err)
		}
		if h[0] != 0x10 || len(body) != 320 {
			t.Fatalf("a message of kind %#x and %d bytes: want 20 ms of audio at 8 kHz", h[0], len(body))
		}
		for ; len(body) > 0; body = body[2:] {
			pcm = append(pcm, int16(binary.LittleEndian.Uint16(body)))
		}
	}
	return pcm
}

func TestPromptIsHeardByTheConfiguredSide(t *testing.T) {
	ramp := make([]int16, 1600) // 200 ms
	for i := range ramp {
		ramp[i] = int16(10*i - 8000)
	}
	for _, c := range []struct {
		to             string
		caller, callee bool // hear it
	}{{"callee", false, true}, {"caller", true, false}, {"all", true, true}} {
		t.Run(c.to, func(t *testing.T) {
			var l listener
			cfg := testConfig()
			cfg.PromptTo = c.to
			s, stop := open(t, cfg, func(ctx context.Context, call *source.Call) error {
				if err := call.Peer.(source.Player).Play(source.Prompt{ID: "ramp", Rate: 8000, PCM: ramp}); err != nil {
					t.Error(err)
				}
				return l.handle(ctx, call) // goes on while it is spoken
			})
			announceTo(t, s, uuidA, `{"call":"c-1","leg":"caller"}`)
			announceTo(t, s, uuidB, `{"call":"c-1","leg":"callee"}`)
			caller := dial(t, s, hello(uuidA), wire(0x10, pcm(160, 3)...))
			callee := dial(t, s, hello(uuidB), wire(0x10, pcm(160, 3)...))
			for _, side := range []struct {
				conn  net.Conn
				hears bool
			}{{caller, c.caller}, {callee, c.callee}} {
				if side.hears {
					if got := hears(t, side.conn, len(ramp)); !slices.Equal(got, ramp) {
						t.Error("another sound than was played")
					}
				}
			}
			for _, conn := range []net.Conn{caller, callee} {
				mustWrite(t, conn, wire(0x10, pcm(160, 3)...), wire(kindHangUp))
			}
			for _, conn := range []net.Conn{caller, callee} { // they end together
				if got := lastWord(t, conn); !bytes.Equal(got, wire(kindHangUp)) {
					t.Errorf("after it came % .20x, want a hang-up", got)
				}
			}
			stop()
		})
	}
}

func TestOnlySocketOfACallHearsThePromptWhateverItsSide(t *testing.T) {
	played := make(chan error, 1)
	cfg := testConfig()
	cfg.AnnounceWait = 0
	s, _ := open(t, cfg, func(ctx context.Context, call *source.Call) error {
		played <- call.Peer.(source.Player).Play(source.Prompt{Rate: 16000, PCM: make([]int16, 16000/5)})
		_, err := call.Audio.ReadFrame(ctx)
		for err == nil {
			_, err = call.Audio.ReadFrame(ctx)
		}
		return nil
	})
	conn := dial(t, s, hello(uuidA))
	if err := <-played; err != nil {
		t.Fatal(err)
	}
	hears(t, conn, 1600)
}

func TestPeerThatDoesNotListenIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe() // which has no room at all
		m := newMouth("callee", []audio.Leg{audio.Unknown}, []*socket{newSocket(there)})
		hush := m.speak()
		long := source.Prompt{Rate: 8000, PCM: make([]int16, 8000)}
		for i := range promptsMost {
			if err := m.Play(long); err != nil {
				t.Fatalf("prompt %d: %v", i, err)
			}
		}
		if err := m.Play(long); !errors.Is(err, source.ErrNoRoom) {
			t.Errorf("one too many: %v", err)
		}
		<-time.After(speakWithin + time.Millisecond)
		synctest.Wait()
		if err := m.Play(long); err == nil || !strings.Contains(err.Error(), "does not read") {
			t.Errorf("to a peer that does not read: %v", err)
		}
		hush()
		_ = here.Close()
	})
}
