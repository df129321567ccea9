package websock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logs counts lines.
type logs struct {
	mu sync.Mutex
	strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(p)
}

func (l *logs) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.String()), "\n")
}

type peerTest struct {
	*Server
	url  string
	logs logs
}

// serve starts a server whose connections are given to each, and ends it with
// the test.
func serve(t *testing.T, change func(*Config), each func(context.Context, *Conn)) *peerTest {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	if change != nil {
		change(&cfg)
	}
	p := &peerTest{}
	s, err := New(Protocol{Name: "x", Subprotocols: []string{"audio.x"}, MessageBytes: 4096}, cfg, slog.New(slog.NewTextHandler(&p.logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	p.Server, p.url = s, "ws://"+s.Addrs()[0].String()+"/v1/x/"
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- s.Serve(ctx, each) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
		if n := s.Open(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
	return p
}

func waitClosed(p *peerTest) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for p.Open() > 0 {
		<-tick.C
	}
}

func dial(t *testing.T, url string, opt *websocket.DialOptions) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, opt) //nolint:bodyclose // the library has closed it
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

// ended reads until the connection is closed, and returns the status.
func ended(t *testing.T, ws *websocket.Conn) (Status, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		_, _, err := ws.Read(ctx)
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			return closed.Code, closed.Reason
		}
		if err != nil {
			t.Fatalf("no close frame: %v", err)
		}
	}
}

func echo(_ context.Context, c *Conn) {
	for {
		kind, data, err := c.Read()
		if err != nil {
			return
		}
		c.Send(kind, []byte(fmt.Sprintf("%s of %s", data, c.Request.URL.Query().Get("from"))))
	}
}

func TestMessagesGoBothWays(t *testing.T) {
	p := serve(t, nil, echo)
	ws := dial(t, p.url+"?from=you", &websocket.DialOptions{Subprotocols: []string{"other", "audio.x"}})
	if ws.Subprotocol() != "audio.x" {
		t.Errorf("subprotocol %q", ws.Subprotocol())
	}
	ctx := context.Background()
	for n := range 100 {
		if err := ws.Write(ctx, Text, []byte(fmt.Sprint("word ", n))); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 100 {
		_, data, err := ws.Read(ctx)
		if want := fmt.Sprintf("word %d of you", n); err != nil || string(data) != want {
			t.Fatalf("message %q, %v; want %q", data, err, want)
		}
	}
	if err := ws.Close(Normal, ""); err != nil {
		t.Error(err)
	}
}

func TestRefusalsComeBeforeTheHandshake(t *testing.T) {
	hold := make(chan struct{})
	p := serve(t, func(c *Config) { c.Connections = 1; c.Tokens = []Token{{File: secretFile(t, secretA)}} }, func(context.Context, *Conn) { <-hold })
	defer close(hold)
	answer := func(header http.Header) (int, string) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ws, res, err := websocket.Dial(ctx, p.url, &websocket.DialOptions{HTTPHeader: header})
		if err == nil {
			_ = ws.CloseNow()
			return http.StatusSwitchingProtocols, ""
		}
		if res == nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	right := http.Header{"Authorization": {"Bearer " + secretA}}
	if status, body := answer(http.Header{"Authorization": {"Bearer of another secret"}}); status != 401 || !strings.Contains(body, "token is missing or wrong") {
		t.Errorf("wrong token: %d %s", status, body)
	}
	if status, body := answer(http.Header{"Authorization": right["Authorization"], "Origin": {"https://evil.example"}}); status != 403 {
		t.Errorf("foreign page: %d %s", status, body)
	}
	ws := dial(t, p.url, &websocket.DialOptions{HTTPHeader: right})
	defer func() { _ = ws.CloseNow() }()
	if status, body := answer(right); status != 503 {
		t.Errorf("no room: %d %s", status, body)
	}
	if st := p.Count.Stats(); st.Stranger != 2 || st.Unplaced != 1 {
		t.Errorf("counted %+v", st)
	}
	if lines := p.logs.lines(); len(lines) != 1 || strings.Contains(lines[0], secretA) {
		t.Errorf("logged %q: one line a second, without secrets", lines)
	}
}

func TestPlainRequestIsTold(t *testing.T) {
	p := serve(t, nil, echo)
	res, err := http.Get("http" + strings.TrimPrefix(p.url, "ws"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("status %s", res.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestConnectionsEndWithTheProtocolsStatus(t *testing.T) {
	big := make([]byte, 10<<20)
	for _, c := range []struct {
		name   string
		each   func(context.Context, *Conn)
		send   []byte
		status Status
		reason string
	}{
		{"longer message than allowed", echo, big, TooBig, ""},
		{"no hello", func(ctx context.Context, c *Conn) {
			c.Expect(ctx, 50*ms, "start")
			_, _, _ = c.Read()
		}, nil, Policy, "no start within 50ms"},
		{"each that says why", func(_ context.Context, c *Conn) { c.Close(TryLater, "busy") }, nil, TryLater, "busy"},
		{"each that ends", func(context.Context, *Conn) {}, nil, Normal, ""},
		{"a long reason", func(_ context.Context, c *Conn) { c.Close(Invalid, strings.Repeat("long ", 100)) }, nil, Invalid, strings.Repeat("long ", 100)[:123]},
	} {
		p := serve(t, nil, c.each)
		ws := dial(t, p.url, nil)
		if c.send != nil {
			go func() { _ = ws.Write(context.Background(), Binary, c.send) }()
		}
		status, reason := ended(t, ws)
		if status != c.status || c.reason != "" && reason != c.reason {
			t.Errorf("%s: closed with %d %q, want %d %q", c.name, status, reason, c.status, c.reason)
		}
		_ = ws.CloseNow()
	}
}

func TestReadTellsHowItEnded(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*websocket.Conn, net.Conn)
		want string
	}{
		{"in order", func(ws *websocket.Conn, _ net.Conn) { _ = ws.Close(Normal, "") }, "EOF"},
		{"going away", func(ws *websocket.Conn, _ net.Conn) { _ = ws.Close(GoingAway, "") }, "EOF"},
		{"with an error", func(ws *websocket.Conn, _ net.Conn) { _ = ws.Close(Internal, "+12025550123") }, "the peer closed with status 1011"},
		{"without a word", func(ws *websocket.Conn, _ net.Conn) { _ = ws.CloseNow() }, "the connection broke without a close"},
		{"in a frame", func(_ *websocket.Conn, raw net.Conn) { _, _ = raw.Write([]byte{0x81, 0xfe}); _ = raw.Close() }, "the connection broke without a close"},
		{"not the protocol", func(_ *websocket.Conn, raw net.Conn) { _, _ = raw.Write([]byte{0x81, 0x01, 'x'}) }, "not the WebSocket protocol"},
	} {
		read := make(chan error, 1)
		p := serve(t, nil, func(_ context.Context, conn *Conn) {
			_, _, err := conn.Read()
			read <- err
		})
		var raw net.Conn
		transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var err error
			raw, err = (&net.Dialer{}).DialContext(ctx, network, addr)
			return raw, err
		}}
		ws := dial(t, p.url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
		c.end(ws, raw)
		if err := <-read; err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		_ = ws.CloseNow()
	}
}

func TestReadTicksWhileNothingComes(t *testing.T) {
	ticks := make(chan time.Duration, 10)
	p := serve(t, nil, func(_ context.Context, c *Conn) {
		c.OnTick(func(at time.Duration) error {
			ticks <- at
			if len(ticks) == 2 {
				return errors.New("no media")
			}
			return nil
		})
		if _, _, err := c.Read(); err == nil || err.Error() != "no media" {
			t.Errorf("read ended with %v", err)
		}
	})
	ws := dial(t, p.url, nil)
	ended(t, ws)
	first, second := <-ticks, <-ticks
	if first < tickEvery || second < first+tickEvery {
		t.Errorf("ticks at %v and %v", first, second)
	}
}

func TestPeerThatNeverReadsIsHeardAndHoldsNothingUp(t *testing.T) {
	const most = 10_000
	untold := make(chan int, 1)
	p := serve(t, nil, func(_ context.Context, c *Conn) {
		word := make([]byte, 4096)
		n := 0
		for n < most && c.Send(Text, word) {
			n++
		}
		untold <- most - n
		_, data, err := c.Read() // it still speaks
		if err != nil || string(data) != "hello" {
			t.Errorf("read %q, %v", data, err)
		}
	})
	ws := dial(t, p.url, nil)
	defer func() { _ = ws.CloseNow() }()
	if n := <-untold; n == 0 {
		t.Error("everything was queued: the queue has no bound")
	}
	begin := time.Now()
	if err := ws.Write(context.Background(), Text, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	waitClosed(p)
	if took := time.Since(begin); took > 5*closeWithin {
		t.Errorf("closing took %v", took)
	}
}

func TestEndOfServingLetsCallsEnd(t *testing.T) {
	cfg := DefaultConfig()
	s, err := New(Protocol{Name: "x", MessageBytes: 4096}, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	defer web.Close()
	url := "ws" + strings.TrimPrefix(web.URL, "http")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	calls := make(chan *Conn)
	go func() {
		served <- s.Serve(ctx, func(ctx context.Context, c *Conn) {
			came := c.Expect(ctx, time.Minute, "start")
			if _, _, err := c.Read(); err != nil {
				return
			}
			came()
			calls <- c
			_, _, _ = c.Read() // until the peer ends
		})
	}()
	for begun := false; !begun; runtime.Gosched() {
		s.mu.Lock()
		begun = s.each != nil
		s.mu.Unlock()
	}
	call, waiting := dial(t, url, nil), dial(t, url, nil)
	if err := call.Write(ctx, Text, []byte("start")); err != nil {
		t.Fatal(err)
	}
	<-calls
	cancel()
	if status, _ := ended(t, waiting); status != GoingAway {
		t.Errorf("a connection without a call was closed with %d", status)
	}
	if _, res, err := websocket.Dial(context.Background(), url, nil); err == nil || res == nil || res.StatusCode != http.StatusServiceUnavailable { //nolint:bodyclose // the library has closed it
		t.Errorf("a new connection: %v", err)
	}
	select {
	case err := <-served:
		t.Errorf("Serve returned before the call was over: %v", err)
	default:
	}
	_ = call.Close(Normal, "")
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNothingIsLeftOfAThousandConnections(t *testing.T) {
	p := serve(t, nil, echo)
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	once := func(n int) {
		ws := dial(t, p.url, &websocket.DialOptions{HTTPClient: client})
		switch n % 4 {
		case 0:
			_ = ws.Close(Normal, "")
		case 1:
			_ = ws.CloseNow()
		case 2:
			_ = ws.Write(context.Background(), Text, []byte("hello"))
			_ = ws.CloseNow()
		case 3:
			_ = ws.Write(context.Background(), Binary, make([]byte, 5000))
			_, _ = ended(t, ws)
		}
	}
	for n := range 20 {
		once(n)
	}
	settle := func() (int, uint64) {
		waitClosed(p)
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	goroutines, heap := settle()
	for n := range 1000 {
		once(n)
	}
	g, h := settle()
	if g > goroutines+5 {
		t.Errorf("%d goroutines, %d before", g, goroutines)
	}
	if h > heap+2<<20 {
		t.Errorf("%d bytes in use, %d before", h, heap)
	}
}
