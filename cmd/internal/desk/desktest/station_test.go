//go:build e2e

package desktest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
	"github.com/callwarden/callwarden/cmd/internal/desk"
	"github.com/callwarden/callwarden/cmd/internal/desk/desktest"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
)

// soon is how long a page may take to show what has happened, on a machine that
// has much else to do.
const soon = 20 * time.Second

// station is a desk with a NATS server of its own.
type station struct {
	URL string // as the browser gets to it

	t    testing.TB
	dir  string
	nats *natssink.Server
	url  string // of the NATS server
	desk *desk.Desk
	out  *natssink.Sink
	wire *wire
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// open opens a desk that change has changed the configuration of. It closes
// with the test.
func open(t testing.TB, change func(dir string, cfg *desk.Config)) *station {
	t.Helper()
	s := &station{t: t, dir: t.TempDir()}
	s.url = "nats://" + free(t)
	s.startNATS()
	t.Cleanup(func() { s.nats.Shutdown() })

	out := natssink.DefaultConfig()
	out.URL, out.Transcripts, out.Levels = s.url, true, true
	var err error
	if s.out, err = natssink.New(out, discard()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		_ = s.out.Close(ctx) // what is not delivered now nobody waits for
	})
	ready, stop := context.WithTimeout(t.Context(), soon)
	defer stop()
	if err := s.out.Ready(ready); err != nil {
		t.Fatal(err)
	}

	cfg := desk.DefaultConfig()
	cfg.Dir = filepath.Join(s.dir, "desk")
	if change != nil {
		change(s.dir, &cfg)
	}
	if s.desk, err = desk.New(cfg, desk.From{Connection: natssink.Connection{URL: s.url, Name: "desk"}, Stream: "CALLWARDEN", Version: "test"}, discard()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.desk.Run(ctx) }()
	server := httptest.NewUnstartedServer(s.desk.Handler())
	server.Start()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Log("the desk: ", err) // some tests take its server away for good
		}
		server.CloseClientConnections()
		server.Close()
	})
	s.wire = openWire(t, server.Listener.Addr().String())
	s.URL = "http://" + s.wire.addr
	return s
}

func (s *station) startNATS() {
	s.t.Helper()
	cfg := natssink.DefaultServerConfig()
	cfg.StoreDir, cfg.Listen = filepath.Join(s.dir, "events"), strings.TrimPrefix(s.url, "nats://")
	for deadline := time.Now().Add(soon); ; <-time.After(50 * time.Millisecond) {
		var err error
		if s.nats, err = natssink.StartServer(cfg, discard()); err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal(err)
		}
	}
}

func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// must fails the test where an event could not be told.
func (s *station) must(errs ...error) {
	s.t.Helper()
	for _, err := range errs {
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *station) call(id string, ago time.Duration, attributes ...string) *desktest.Call {
	s.t.Helper()
	c, err := desktest.Start(s.t.Context(), s.out, id, ago, pairs(attributes))
	s.must(err)
	return c
}

func (s *station) fraud(id string, attributes ...string) *desktest.Call {
	s.t.Helper()
	c, err := desktest.Fraud(s.t.Context(), s.out, id, pairs(attributes))
	s.must(err)
	return c
}

func pairs(list []string) map[string]string {
	m := make(map[string]string)
	for i := 0; i+1 < len(list); i += 2 {
		m[list[i]] = list[i+1]
	}
	return m
}

// wire is what is between browser and desk, and can be cut.
type wire struct {
	addr string

	t     testing.TB
	to    string
	group sync.WaitGroup

	mu    sync.Mutex
	l     net.Listener
	conns map[net.Conn]struct{}
	cut   bool
	bytes int64 // that the browser was sent
}

func openWire(t testing.TB, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{addr: l.Addr().String(), t: t, to: to, l: l, conns: make(map[net.Conn]struct{})}
	w.group.Go(w.accept)
	t.Cleanup(func() {
		_ = l.Close()
		w.Cut()
		w.group.Wait()
	})
	return w
}

func (w *wire) accept() {
	for {
		c, err := w.l.Accept()
		if err != nil {
			return
		}
		w.group.Go(func() { w.pass(c) })
	}
}

func (w *wire) pass(c net.Conn) {
	defer c.Close()
	if !w.hold(c) {
		return
	}
	defer w.let(c)
	d, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer d.Close()
	if !w.hold(d) {
		return
	}
	defer w.let(d)
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(d, c); _ = d.Close() })
	n, _ := io.Copy(c, d)
	_ = c.Close()
	both.Wait()
	w.mu.Lock()
	w.bytes += n
	w.mu.Unlock()
}

func (w *wire) hold(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.cut {
		w.conns[c] = struct{}{}
	}
	return !w.cut
}

func (w *wire) let(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
}

// Cut cuts every connection and lets none through.
func (w *wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for c := range w.conns {
		_ = c.Close()
	}
}

// Mend lets connections through again.
func (w *wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

// signedIn opens a page and signs in with a token.
func signedIn(p *browsertest.Page, s *station, token string) {
	p.Expect("401")
	p.Open(s.URL + "/")
	p.Wait("the form", soon, `document.querySelector(".signin #token")`)
	p.Type("#token", token)
	p.Click(".signin button")
	p.Wait("the desk", soon, `document.querySelector("#nav:not([hidden])") && document.querySelector(".tiles")`)
}

// rows is how many calls the list shows.
const rows = `document.querySelectorAll("main ol.calls:first-of-type > li").length`

// texts are what the elements show that a selector fits.
func texts(p *browsertest.Page, selector string) []string {
	return browsertest.Eval[[]string](p, fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.innerText)`, selector))
}

// write puts text into a file below the station's folder.
func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ask asks the desk as a program does, and returns its answer.
func ask(t testing.TB, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}
