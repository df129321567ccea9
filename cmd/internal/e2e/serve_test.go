//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// warden is a running "callwarden serve" whose events are collected over NATS.
type warden struct {
	t    *testing.T
	http string
	cmd  *exec.Cmd
	log  lockedBuffer
	dead chan struct{} // closed when the process has ended

	mu     sync.Mutex
	events map[string][]event // by call, in order
	ended  chan string        // calls, as they end
}

// event is what the tests look at.
type event struct {
	Type string
	Data struct {
		Reason     string            `json:"reason"`
		Hearing    string            `json:"hearing"`
		Attributes map[string]string `json:"attributes"`
		Legs       []any             `json:"legs"`
		Finding    struct {
			Tactic string `json:"tactic"`
			Leg    string `json:"leg"`
			Words  string `json:"words"`
			State  string `json:"state"`
			Muted  string `json:"muted"`
		} `json:"finding"`
		Level    string   `json:"level"`
		Tactics  []string `json:"tactics"`
		Duration string   `json:"duration"`
		Context  struct {
			Call   string `json:"call"`
			Source string `json:"source"`
		} `json:"context"`
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// startWarden serves with the YAML of config, which takes the port of HTTP and
// of NATS. It is ready when startWarden returns, and ends with the test.
func startWarden(t *testing.T, httpPort, natsPort int, config string) *warden {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "callwarden.yml")
	config = fmt.Sprintf(`
http: {listen: "127.0.0.1:%d"}
sinks:
  nats: {embedded: {store_dir: %q, listen: "127.0.0.1:%d"}}
desk: {dir: %q}
%s`, httpPort, filepath.Join(dir, "events"), natsPort, filepath.Join(dir, "desk"), config)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &warden{
		t: t, http: fmt.Sprintf("http://127.0.0.1:%d", httpPort),
		events: make(map[string][]event), ended: make(chan string, 10000), dead: make(chan struct{}),
	}
	w.cmd = exec.Command(binary, "serve", "-c", file)
	w.cmd.Stdout, w.cmd.Stderr = &w.log, &w.log
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = w.cmd.Wait(); close(w.dead) }()
	t.Cleanup(func() {
		_ = w.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-w.dead:
		case <-time.After(60 * time.Second):
			_ = w.cmd.Process.Kill()
			t.Error("serve did not end within a minute of SIGTERM")
		}
		if t.Failed() {
			t.Logf("callwarden said:\n%s", &w.log)
		}
	})
	w.await("readiness", 30*time.Second, func() bool {
		r, err := http.Get(w.http + "/readyz")
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	w.follow(fmt.Sprintf("nats://127.0.0.1:%d", natsPort))
	return w
}

// await asks ok until it says yes.
func (w *warden) await(what string, most time.Duration, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(most); !ok(); <-time.After(50 * time.Millisecond) {
		select {
		case <-w.dead:
			w.t.Fatalf("waiting for %s: callwarden has ended", what)
		default:
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// follow collects all events, as any consumer would.
func (w *warden) follow(url string) {
	w.t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	consumer, err := js.OrderedConsumer(ctx, "CALLWARDEN", jetstream.OrderedConsumerConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		e := event{Type: m.Headers().Get("ce-type")}
		if err := json.Unmarshal(m.Data(), &e.Data); err != nil {
			w.t.Errorf("event %s: %v", e.Type, err)
			return
		}
		w.mu.Lock()
		call := e.Data.Context.Call
		w.events[call] = append(w.events[call], e)
		w.mu.Unlock()
		if e.Type == "callwarden.call.ended.v1" {
			w.ended <- call
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(consuming.Stop)
}

// nextEnd is the next call that ends, with all its events.
func (w *warden) nextEnd(within time.Duration) (string, []event) {
	w.t.Helper()
	select {
	case call := <-w.ended:
		w.mu.Lock()
		defer w.mu.Unlock()
		return call, w.events[call]
	case <-w.dead:
		w.t.Fatal("callwarden has ended")
	case <-time.After(within):
		w.t.Fatalf("no call ended within %v", within)
	}
	return "", nil
}

// metric is the sum of a metric's values whose labels contain all of having.
func (w *warden) metric(name string, having ...string) float64 {
	w.t.Helper()
	r, err := http.Get(w.http + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || key != name && !strings.HasPrefix(key, name+"{") {
			continue
		}
		if slices.ContainsFunc(having, func(h string) bool { return !strings.Contains(key, h) }) {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err != nil {
			w.t.Fatalf("metric %q: %v", line, err)
		}
		sum += v
	}
	return sum
}

// findings are those that were confirmed and count: who said what.
func findings(events []event) []string {
	var all []string
	for _, e := range events {
		f := e.Data.Finding
		if e.Type == "callwarden.risk.finding.v1" && f.State == "FINDING_STATE_CONFIRMED" && f.Muted == "" {
			all = append(all, fmt.Sprintf("%s %s %q", f.Tactic, f.Leg, f.Words))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// replayed are the events of "callwarden replay" of a recording.
func replayed(t *testing.T, wav string, flags ...string) []event {
	t.Helper()
	var complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"replay", wav, "--json"}, flags...)...)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("replay: %v\n%s", err, &complaints)
	}
	var all []event
	for line := range bytes.Lines(out) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("replay: %v in %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

// ending is the last event, which says how the call ended.
func ending(t *testing.T, events []event) event {
	t.Helper()
	last := events[len(events)-1]
	if last.Type != "callwarden.call.ended.v1" {
		t.Fatalf("the last event is %s", last.Type)
	}
	return last
}
