package rtpsrc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Media.Bind = "127.0.0.1"
	cfg.Media.Poll = 10 * time.Millisecond
	cfg.Media.Timeout = time.Second
	cfg.Media.Ports.Min, cfg.Media.Ports.Max = 42000, 42399
	return cfg
}

// freePort is an even UDP port that was free together with the one after it.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.LocalAddr().(*net.UDPAddr).Port
		b, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = a.Close()
		if err != nil {
			continue
		}
		_ = b.Close()
		if port%2 == 0 {
			return port
		}
	}
	t.Fatal("no pair of ports is free")
	return 0
}

// heard is a call as a handler saw it.
type heard struct {
	*source.Call
	samples map[audio.Leg]int
	err     error
}

// listener is a handler that keeps what it hears.
type listener struct {
	over chan heard
}

func newListener() *listener { return &listener{over: make(chan heard, 10)} }

func (l *listener) handle(ctx context.Context, call *source.Call) error {
	call.Admitted()
	h := heard{Call: call, samples: make(map[audio.Leg]int)}
	for {
		f, err := call.Audio.ReadFrame(ctx)
		if err != nil {
			h.err = err
			break
		}
		h.samples[f.Leg] += len(f.PCM)
	}
	l.over <- h
	if errors.Is(h.err, io.EOF) {
		return nil
	}
	return h.err
}

// open starts a source and its API, which run until the test ends.
func open(t *testing.T, cfg Config, handle source.Handler) (s *Source, api *httptest.Server, stop func()) {
	t.Helper()
	s, err := New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	api = httptest.NewServer(s.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, handle) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve returned %v", err)
		}
		api.CloseClientConnections()
		api.Close()
	})
	t.Cleanup(stop)
	return s, api, stop
}

// reply is an answer whose body was read.
type reply struct {
	StatusCode int
	Status     string
	Header     http.Header
}

// ask sends a request and decodes the answer.
func ask(t *testing.T, api *httptest.Server, method, path, body string, into any) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, api.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("answer %q: %v", text, err)
		}
	}
	return reply{resp.StatusCode, resp.Status, resp.Header}
}

// send sends n packets of 20 ms of PCMU.
func send(t *testing.T, to string, n int) {
	t.Helper()
	sendAs(t, to, n, func(b []byte) []byte { return b })
}

// sendAs sends n packets of 20 ms of PCMU, each as wrap makes it.
func sendAs(t *testing.T, to string, n int, wrap func([]byte) []byte) {
	t.Helper()
	conn, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 7, Timestamp: 1000, SequenceNumber: 9}, Payload: make([]byte, 160)}
	for range n {
		b, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(wrap(b)); err != nil {
			t.Fatal(err)
		}
		p.SequenceNumber++
		p.Timestamp += 160
	}
}

// hearing waits until a call has had its packets.
func hearing(t *testing.T, api *httptest.Server, call string, packets uint64) {
	t.Helper()
	for {
		var a Answer
		if r := ask(t, api, "GET", "/v1/rtp/calls/"+call, "", &a); r.StatusCode != http.StatusOK {
			t.Fatalf("call %s: %s", call, r.Status)
		}
		if a.Packets+a.Strange >= packets {
			return
		}
	}
}

func TestAnnouncedCallIsHeardOnItsPorts(t *testing.T) {
	l := newListener()
	s, api, stop := open(t, testConfig(), l.handle)
	var a Answer
	r := ask(t, api, "POST", "/v1/rtp/calls", `{"call":"c-1","tenant":"bank","from":"+15550100","announced":true,
		"legs":[{"leg":"caller","formats":["0 PCMU/8000","96 opus/48000/2"]},{"leg":"callee","remote":"127.0.0.1"}]}`, &a)
	if r.StatusCode != http.StatusCreated || r.Header.Get("Location") != "/v1/rtp/calls/c-1" || a.Call != "c-1" || a.Tenant != "bank" || a.State != "waiting" || len(a.Legs) != 2 {
		t.Fatalf("%s %v: %+v", r.Status, r.Header, a)
	}
	send(t, a.Legs[0].Address, 5)
	send(t, a.Legs[1].Address, 3)
	hearing(t, api, "c-1", 8)
	if st := s.Stats(); st.Calls != 1 || st.Legs != 2 || st.Packets != 8 {
		t.Errorf("stats in the call %+v", st)
	}
	if r := ask(t, api, "DELETE", "/v1/rtp/calls/c-1", "", nil); r.StatusCode != http.StatusNoContent {
		t.Errorf("ending: %s", r.Status)
	}
	h := <-l.over
	if h.ID != "c-1" || h.Tenant != "bank" || h.Source != "rtp" || !h.Live || h.Attributes["from"] != "+15550100" || h.Attributes["announced"] != "true" {
		t.Errorf("call %+v", h.Call)
	}
	if h.samples[audio.Caller] != 800 || h.samples[audio.Callee] != 480 || !errors.Is(h.err, io.EOF) {
		t.Errorf("heard %v until %v", h.samples, h.err)
	}
	stop()
	if st := s.Stats(); st.Calls != 0 || st.Begun != 1 || st.Packets != 8 || st.Bytes != 8*160 {
		t.Errorf("stats %+v", st)
	}
	if taken, _ := s.ports.Usage(); taken != 0 {
		t.Errorf("%d pairs of ports are not given back", taken)
	}
}

func TestEncryptedCallIsHeardWithTheKeyThatIsAnnounced(t *testing.T) {
	crypto, err := media.NewCrypto(1, "AES_CM_128_HMAC_SHA1_80")
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := crypto.NewContext()
	if err != nil {
		t.Fatal(err)
	}
	l := newListener()
	_, api, _ := open(t, testConfig(), l.handle)
	var a Answer
	ask(t, api, "POST", "/v1/rtp/calls", `{"call":"c","legs":[{"srtp":"`+crypto.Line()+`"}]}`, &a)
	sendAs(t, a.Legs[0].Address, 5, func(b []byte) []byte {
		out, err := ctx.EncryptRTP(nil, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	})
	hearing(t, api, "c", 5)
	ask(t, api, "DELETE", "/v1/rtp/calls/c", "", nil)
	if h := <-l.over; h.samples[audio.Unknown] != 800 {
		t.Errorf("heard %v", h.samples)
	}
}

func TestAnnouncedCallWithoutMediaEnds(t *testing.T) {
	l := newListener()
	_, api, _ := open(t, testConfig(), l.handle)
	var a Answer
	ask(t, api, "POST", "/v1/rtp/calls", `{"legs":[{}]}`, &a)
	h := <-l.over
	if h.ID != a.Call || !strings.HasPrefix(a.Call, "rtp-") || h.err.Error() != "no media for 1s" {
		t.Errorf("call %s, answered %+v, ended with %v", h.ID, a, h.err)
	}
}

func TestStrangersAreCountedAndNotHeard(t *testing.T) {
	l := newListener()
	_, api, _ := open(t, testConfig(), l.handle)
	var a Answer
	ask(t, api, "POST", "/v1/rtp/calls", `{"call":"x","legs":[{"remote":"127.0.0.2"}]}`, &a)
	send(t, a.Legs[0].Address, 4)
	hearing(t, api, "x", 4)
	ask(t, api, "DELETE", "/v1/rtp/calls/x", "", nil)
	if h := <-l.over; h.samples[audio.Unknown] != 0 {
		t.Errorf("heard %v of a stranger", h.samples)
	}
}

func TestRequestsAreRefusedByFieldAndRule(t *testing.T) {
	l := newListener()
	cfg := testConfig()
	cfg.Calls = 1
	cfg.Media.Timeout = time.Minute
	s, api, _ := open(t, cfg, l.handle)
	ask(t, api, "POST", "/v1/rtp/calls", `{"call":"there","legs":[{"leg":"caller"}]}`, nil)
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{`{}`, 400, "legs: 0 must be 1 or 2"},
		{`{"legs":[{},{},{}]}`, 400, "legs: 3 must be 1 or 2"},
		{`{"legs":[{"leg":"caller"},{"leg":"caller"}]}`, 400, "legs[1].leg: caller must not be"},
		{`{"legs":[{"leg":"agent"}]}`, 400, "agent"},
		{`{"legs":[{"formats":["18 G729/8000"]}]}`, 400, "legs[0].formats: G729 is not supported"},
		{`{"legs":[{"formats":["opus"]}]}`, 400, "must be a payload type and its format"},
		{`{"legs":[{"formats":["200 opus/48000/2"]}]}`, 400, "from 0 to 127"},
		{`{"legs":[{"formats":["96 opus/48000/2","96 PCMU/8000"]}]}`, 400, "twice"},
		{`{"legs":[{"remote":"pbx.example"}]}`, 400, "legs[0].remote: "},
		{`{"legs":[{"srtp":"1 NULL inline:x"}]}`, 400, "legs[0].srtp: suite"},
		{`{"call":"a b","legs":[{}]}`, 400, "call: "},
		{`{"call":"there","legs":[{}]}`, 409, "heard already"},
		{`{"call":"other","legs":[{}]}`, 503, "1 calls are announced"},
	} {
		var e struct{ Error string }
		r := ask(t, api, "POST", "/v1/rtp/calls", c.body, &e)
		if r.StatusCode != c.status || !strings.Contains(e.Error, c.want) {
			t.Errorf("%s: %s %q, want %d and %q", c.body, r.Status, e.Error, c.status, c.want)
		}
		if c.status == 503 && r.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", c.body)
		}
	}
	for _, method := range []string{"GET", "DELETE"} {
		if r := ask(t, api, method, "/v1/rtp/calls/other", "", nil); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s of no call: %s", method, r.Status)
		}
	}
	if st := s.Stats(); st.Refused != 1 {
		t.Errorf("stats %+v", st)
	}
	ask(t, api, "DELETE", "/v1/rtp/calls/there", "", nil)
	<-l.over
}

func TestHandlersRefusalIsTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"busy":   {fmt.Errorf("full: %w", source.ErrBusy), http.StatusServiceUnavailable},
		"exempt": {nil, http.StatusOK},
		"fault":  {errors.New("no recogniser"), http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			s, api, stop := open(t, testConfig(), func(context.Context, *source.Call) error { return c.err })
			if r := ask(t, api, "POST", "/v1/rtp/calls", `{"legs":[{"leg":"caller"},{"leg":"callee"}]}`, nil); r.StatusCode != c.status {
				t.Errorf("answered %s, want %d", r.Status, c.status)
			}
			stop()
			if taken, _ := s.ports.Usage(); taken != 0 {
				t.Errorf("%d pairs of ports are not given back", taken)
			}
		})
	}
}

func TestWithoutServeCallsAreRefused(t *testing.T) {
	s, err := New(testConfig(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	api := httptest.NewServer(s.Handler())
	defer api.Close()
	if r := ask(t, api, "POST", "/v1/rtp/calls", `{"legs":[{}]}`, nil); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("answered %s", r.Status)
	}
}

func TestStaticPortsHearCallAfterCall(t *testing.T) {
	l := newListener()
	cfg := testConfig()
	cfg.Media.Timeout = time.Second
	a, b := freePort(t), freePort(t)
	cfg.Static = []Static{{
		Name: "line1", Tenant: "bank", Direction: "inbound", Trunk: "t9",
		Legs: []StaticLeg{{Leg: "caller", Port: a}, {Leg: "callee", Port: b}},
	}}
	s, _, stop := open(t, cfg, l.handle)
	if addrs := s.Addrs(); len(addrs) != 2 || addrs[1].String() != fmt.Sprintf("127.0.0.1:%d", b) {
		t.Errorf("addresses %v", addrs)
	}
	var ids []string
	for _, packets := range []int{4, 6} {
		send(t, fmt.Sprintf("127.0.0.1:%d", a), packets)
		send(t, fmt.Sprintf("127.0.0.1:%d", b), packets)
		h := <-l.over
		if h.samples[audio.Caller] != 160*packets || h.samples[audio.Callee] != 160*packets || h.err.Error() != "no media for 1s" {
			t.Errorf("heard %v until %v, want %d samples of each", h.samples, h.err, 160*packets)
		}
		if h.Tenant != "bank" || h.Attributes["direction"] != "inbound" || h.Attributes["trunk"] != "t9" || h.Attributes["line"] != "line1" || len(h.Legs) != 2 {
			t.Errorf("call %+v", h.Call)
		}
		ids = append(ids, h.ID)
	}
	if ids[0] == ids[1] || !strings.HasPrefix(ids[0], "line1-") {
		t.Errorf("ids %q", ids)
	}
	stop()
	if st := s.Stats(); st.Begun != 2 || st.Packets != 20 || st.Calls != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestStaticCallEndsWhenAllHaveSaidGoodbye(t *testing.T) {
	l := newListener()
	cfg := testConfig()
	cfg.Media.Timeout = time.Minute
	a, b := freePort(t), freePort(t)
	cfg.Static = []Static{{Name: "line1", Legs: []StaticLeg{{Leg: "caller", Port: a}, {Leg: "callee", Port: b}}}}
	open(t, cfg, l.handle)
	for _, port := range []int{a, b} {
		send(t, fmt.Sprintf("127.0.0.1:%d", port), 1)
		bye, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 7}, &rtcp.Goodbye{Sources: []uint32{7}}})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port+1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(bye); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if h := <-l.over; !errors.Is(h.err, io.EOF) || len(h.samples) != 2 {
		t.Errorf("heard %v until %v", h.samples, h.err)
	}
}

func TestExemptStaticCallIsAskedForOnce(t *testing.T) {
	cfg := testConfig()
	cfg.Static = []Static{{Name: "line1", Legs: []StaticLeg{{Leg: "caller", Port: freePort(t)}}}}
	asked := make(chan string, 10)
	_, _, stop := open(t, cfg, func(_ context.Context, call *source.Call) error {
		asked <- call.ID
		return nil
	})
	to := fmt.Sprintf("127.0.0.1:%d", cfg.Static[0].Legs[0].Port)
	send(t, to, 1)
	first := <-asked
	for range 20 { // it goes on, and is none of ours to hear
		send(t, to, 5)
	}
	select {
	case again := <-asked:
		t.Errorf("calls %s and %s were one", first, again)
	case <-time.After(200 * time.Millisecond):
	}
	stop()
}

func TestStaticPortInUseIsNamed(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).Port
	cfg := testConfig()
	cfg.Static = []Static{
		{Name: "a", Legs: []StaticLeg{{Port: freePort(t)}}},
		{Name: "b", Legs: []StaticLeg{{Port: port}}},
	}
	if _, err := New(cfg, quiet()); err == nil || !strings.Contains(err.Error(), "static[1]") || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Errorf("error %v does not name static[1] and port %d", err, port)
	}
}

func TestConfigNamesKeyAndRule(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	good := func() Static { return Static{Name: "a", Legs: []StaticLeg{{Leg: "caller", Port: 4000}}} }
	for want, change := range map[string]func(*Config){
		`tenant: "a.b"`:     func(c *Config) { c.Tenant = "a.b" },
		"calls: -1":         func(c *Config) { c.Calls = -1 },
		"media.ports.max: ": func(c *Config) { c.Media.Ports.Max = 70000 },
		`static[0].name: ""`: func(c *Config) {
			c.Static = []Static{{Legs: good().Legs}}
		},
		`static[1].name: "a" must not be`: func(c *Config) { c.Static = []Static{good(), good()} },
		"static[0].legs: 0":               func(c *Config) { c.Static = []Static{{Name: "a"}} },
		`static[0].direction: "up"`: func(c *Config) {
			s := good()
			s.Direction = "up"
			c.Static = []Static{s}
		},
		`static[0].tenant: "*"`: func(c *Config) {
			s := good()
			s.Tenant = "*"
			c.Static = []Static{s}
		},
		"static[0].legs[0].leg: ": func(c *Config) {
			c.Static = []Static{{Name: "a", Legs: []StaticLeg{{Leg: "agent", Port: 4000}}}}
		},
		"static[0].legs[1].leg: caller must not be": func(c *Config) {
			c.Static = []Static{{Name: "a", Legs: []StaticLeg{{Leg: "caller", Port: 4000}, {Leg: "caller", Port: 4002}}}}
		},
		"static[0].legs[0].port: 0": func(c *Config) {
			c.Static = []Static{{Name: "a", Legs: []StaticLeg{{}}}}
		},
		"static[0].legs[1].port: 4001, with RTCP": func(c *Config) {
			c.Static = []Static{{Name: "a", Legs: []StaticLeg{{Leg: "caller", Port: 4000}, {Leg: "callee", Port: 4001}}}}
		},
		"static[0].legs[0].formats: GSM": func(c *Config) {
			s := good()
			s.Legs[0].Formats = []string{"3 GSM/8000"}
			c.Static = []Static{s}
		},
		"static[0].legs[0].remote: ": func(c *Config) {
			s := good()
			s.Legs[0].Remote = "here"
			c.Static = []Static{s}
		},
	} {
		cfg := DefaultConfig()
		change(&cfg)
		err := cfg.Validate()
		if err == nil {
			t.Errorf("%s is no fault", want)
			continue
		}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v does not begin with %q", err, want)
		}
	}
}
