package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/cmd/internal/caller"
	"github.com/callwarden/callwarden/pipeline/admit"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
)

// fraudInShort is a scripted fraud that is over in three seconds.
const fraudInShort = `0.1 1.1 caller final we just sent a six digit code to your phone please read me the code
1.3 2.3 callee final okay the code is four seven two nine one six`

const shortCall = 3 * time.Second

// lines is stdout of a server, readable while it runs.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// event is what tests look at of a line of JSON.
type event struct {
	Type    string
	Subject string
	Data    struct {
		Context             struct{ Tenant, Source string }
		Hearing, Reason     string
		Listen, Level       string
		Complete            bool
		Tactics             []string
		Attributes          map[string]string
		Legs                json.RawMessage
		Finding             struct{ Tactic, Pack string }
		Backend, Score, Why any
	}
}

func (l *lines) events(t *testing.T, typ string) (all []event) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		if !strings.HasSuffix(line, "\n") {
			break // still being written
		}
		var ev event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if ev.Type == "callwarden."+typ+".v1" {
			all = append(all, ev)
		}
	}
	return all
}

// served is a server that runs in this process.
type served struct {
	*server
	t    *testing.T
	out  *lines
	errs *lines
	stop context.CancelFunc // as SIGTERM does
	done chan error         // what run returned
}

// spoken speaks the same words in every call.
func spoken(t *testing.T, text string) func() (transcribe.Engine, error) {
	t.Helper()
	tr, err := script.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return func() (transcribe.Engine, error) {
		return script.New(func(string) (script.Transcript, error) { return tr, nil }), nil
	}
}

// startServer serves RTP and AudioSocket on ports of its own, with the script
// recogniser, and prints its events.
func startServer(t *testing.T, words string, change func(*serveConfig)) *served {
	t.Helper()
	cfg := defaultServeConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Listen.Mode = listen.Full
	cfg.Sources.RTP.Enabled = true
	cfg.Sources.RTP.Config.Media.Bind = "127.0.0.1"
	cfg.Sources.AudioSocket.Enabled = true
	cfg.Sources.AudioSocket.Config.Listen = "127.0.0.1:0"
	cfg.Sinks.NATS.Embedded.StoreDir = ""
	cfg.Sinks.NATS.Embedded.Listen = ""
	cfg.Desk.Config.Dir = ""
	cfg.Sinks.JSON.Enabled = true
	if change != nil {
		change(&cfg)
	}
	s := &served{t: t, out: &lines{}, errs: &lines{}, done: make(chan error, 1)}
	s.server = newServer(&app{out: s.out, err: s.errs, dataDir: t.TempDir()}, cfg)
	if words != "" { // else with the recogniser of the configuration
		s.open = spoken(t, words)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.done <- s.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Logf("stderr:\n%s", s.errs.String())
		}
	})
	select {
	case <-s.taking:
	case err := <-s.done:
		t.Fatalf("run: %v\n%s", err, s.errs.String())
	case <-time.After(20 * time.Second):
		t.Fatalf("no calls are taken\n%s", s.errs.String())
	}
	return s
}

// end stops the server and returns what run does.
func (s *served) end() error {
	s.t.Helper()
	s.stop()
	select {
	case err := <-s.done:
		return err
	case <-time.After(20 * time.Second):
		s.t.Fatal("the server does not end")
		return nil
	}
}

func (s *served) get(path string) (status int, body string) {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.answers + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// until waits for a thing to be so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !so() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited for %s", what)
		}
	}
}

// tones is a call of two legs with something to hear on both.
func tones(length time.Duration) *caller.Recording {
	rec := &caller.Recording{Path: "tones", RateHz: 8000}
	for _, leg := range []audio.Leg{audio.Caller, audio.Callee} {
		pcm := make([]int16, int(length.Seconds()*8000))
		for i := range pcm {
			pcm[i] = int16((i*37%200 - 100) * 40)
		}
		rec.Legs = append(rec.Legs, caller.Side{Leg: leg, PCM: pcm})
	}
	return rec
}

// call makes calls of a length by a way in and waits for their end.
func (s *served) call(ctx context.Context, way string, calls int, length time.Duration) (*caller.Results, error) {
	cfg := caller.DefaultConfig()
	cfg.Way, cfg.Calls = way, calls
	switch way {
	case caller.RTP:
		cfg.To = "http://" + s.answers
	case caller.AudioSocket:
		cfg.To, cfg.API = s.entrance(way).addresses(), "http://"+s.answers
	}
	return caller.Run(ctx, cfg, []*caller.Recording{tones(length)}, &caller.Progress{})
}

func (s *served) entrance(name string) *entrance {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.ways, func(e *entrance) bool { return e.way.name == name })
	return s.ways[i]
}

func TestServedCallsAreHeardJudgedAndTold(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := startServer(t, fraudInShort, nil)
	var calling sync.WaitGroup
	for _, way := range []string{caller.RTP, caller.AudioSocket} {
		calling.Go(func() {
			if r, err := s.call(t.Context(), way, 1, shortCall); err != nil || !r.Good() {
				t.Errorf("%s: %v, %+v", way, err, r)
			}
		})
	}
	calling.Wait()
	until(t, "the end of both calls", func() bool { return len(s.out.events(t, "call.ended")) == 2 })
	if code, text := s.get("/readyz"); code != http.StatusOK {
		t.Errorf("readyz %d: %s", code, text)
	}
	_, text := s.get("/metrics")
	for _, want := range []string{
		`callwarden_calls_begun_total 2`,
		`callwarden_calls_ended_total{complete="yes"} 2`,
		`callwarden_calls 0`,
		`callwarden_alerts_total{level="critical"} 2`,
		`callwarden_findings_total{state="confirmed",tactic="otp_readback"} 2`,
		`callwarden_nats_connected 1`,
		`callwarden_source_calls_begun_total{source="rtp"} 1`,
		`callwarden_source_bound{source="audiosocket"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics do not say %s", want)
		}
	}
	if strings.Contains(text, "2025550123") {
		t.Error("a number is in the metrics")
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	sources := map[string]bool{}
	for _, ev := range s.out.events(t, "call.ended") {
		sources[ev.Data.Context.Source] = true
		if !ev.Data.Complete || ev.Data.Level != "LEVEL_CRITICAL" || !slices.Contains(ev.Data.Tactics, "otp_readback") {
			t.Errorf("ended as %+v", ev.Data)
		}
	}
	if !sources["rtp"] || !sources["audiosocket"] {
		t.Errorf("calls came by %v", sources)
	}
	for _, ev := range s.out.events(t, "call.started") {
		if from := ev.Data.Attributes["from"]; from == "" || strings.ContainsAny(from, "0123456789") {
			t.Errorf("from is told as %q", from)
		}
	}
	if st := s.nats.Stats(); st.Published == 0 || st.Delivered != st.Published {
		t.Errorf("delivered %+v", st)
	}
}

func TestDrainLetsCallsEndAndTakesNoMore(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := startServer(t, fraudInShort, nil)
	var calling sync.WaitGroup
	for _, way := range []string{caller.RTP, caller.AudioSocket} {
		calling.Go(func() {
			if r, err := s.call(t.Context(), way, 1, shortCall); err != nil || !r.Good() {
				t.Errorf("%s: %v, %+v", way, err, r)
			}
		})
	}
	until(t, "both calls", func() bool { return len(s.out.events(t, "call.started")) == 2 })
	s.stop()
	until(t, "readyz to say that it drains", func() bool {
		code, text := s.get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "draining")
	})
	if code, _ := s.get("/healthz"); code != http.StatusOK {
		t.Errorf("healthz %d while draining", code)
	}
	if r, err := s.call(t.Context(), caller.RTP, 1, time.Second); err == nil && r.Good() {
		t.Errorf("a call was taken while draining: %+v", r)
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	calling.Wait()
	ended := s.out.events(t, "call.ended")
	if len(ended) != 2 {
		t.Fatalf("%d calls ended", len(ended))
	}
	for _, ev := range ended {
		if !ev.Data.Complete || ev.Data.Level != "LEVEL_CRITICAL" {
			t.Errorf("a call was cut off: %+v", ev.Data)
		}
	}
}

func TestCallsThatOutstayTheGraceAreEndedAndTold(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := startServer(t, fraudInShort, func(c *serveConfig) { c.Drain.Grace = time.Second })
	ctx, hangUp := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	calling.Go(func() { _, _ = s.call(ctx, caller.AudioSocket, 1, time.Minute) })
	until(t, "what was said", func() bool { return len(s.out.events(t, "risk.finding")) > 0 })
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	hangUp()
	calling.Wait()
	ended := s.out.events(t, "call.ended")
	if len(ended) != 1 || ended[0].Data.Reason != "cancelled" {
		t.Errorf("ended %+v", ended)
	}
}

func TestRulesSayWhichCallsAreHeardAndHow(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := startServer(t, fraudInShort, func(c *serveConfig) {
		c.Admit.Rules = []admit.Rule{
			{Name: "helpline", Then: admit.Skip, Source: []string{"rtp"}, To: []string{"+1202555xxxx"}},
			{Name: "sockets", Then: admit.Listen, Source: []string{"audiosocket"}, SetTenant: "pbx"},
		}
	})
	for _, way := range []string{caller.RTP, caller.AudioSocket} {
		if _, err := s.call(t.Context(), way, 1, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the end of both calls", func() bool { return len(s.out.events(t, "call.ended")) == 2 })
	_, text := s.get("/metrics")
	if !strings.Contains(text, `callwarden_calls_not_monitored_total{why="exempt"} 1`+"\n") {
		t.Error("the exempt call is not counted")
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	for _, ev := range s.out.events(t, "call.status") {
		switch ev.Data.Context.Source {
		case "rtp":
			if ev.Data.Hearing != "HEARING_NOT_MONITORED" || ev.Data.Reason != "exempt by rule helpline" {
				t.Errorf("told %+v", ev.Data)
			}
		case "audiosocket":
			if ev.Data.Context.Tenant != "pbx" {
				t.Errorf("tenant %q", ev.Data.Context.Tenant)
			}
		}
	}
}

func TestReadyzSaysWhatIsMissing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := l.Addr().String()
	l.Close()
	s := startServer(t, fraudInShort, func(c *serveConfig) {
		c.Sinks.NATS.Config.URL = "nats://" + away
		c.Drain.Deliver = 100 * time.Millisecond
	})
	code, text := s.get("/readyz")
	if code != http.StatusServiceUnavailable || !strings.Contains(text, "missing: nats: ") || !strings.Contains(text, "ok: source rtp") {
		t.Errorf("readyz %d: %s", code, text)
	}
	if err := s.end(); err != nil {
		t.Errorf("nothing was to be delivered: %v", err)
	}
}

func TestAddressThatIsTakenIsNamedWithItsKey(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for key, change := range map[string]func(*serveConfig){
		"http.listen":                func(c *serveConfig) { c.HTTP.Listen = l.Addr().String() },
		"sources.audiosocket.listen": func(c *serveConfig) { c.Sources.AudioSocket.Config.Listen = l.Addr().String() },
		"sinks.nats.embedded":        func(c *serveConfig) { c.Sinks.NATS.Embedded.Listen = l.Addr().String() },
	} {
		cfg := defaultServeConfig()
		cfg.HTTP.Listen = "127.0.0.1:0"
		cfg.Sources.AudioSocket.Enabled = true
		cfg.Sources.AudioSocket.Config.Listen = "127.0.0.1:0"
		cfg.Sinks.NATS.Embedded.StoreDir, cfg.Sinks.NATS.Embedded.Listen, cfg.Desk.Config.Dir = "", "", ""
		change(&cfg)
		s := newServer(&app{out: io.Discard, err: io.Discard, dataDir: t.TempDir()}, cfg)
		s.open = spoken(t, fraudInShort)
		err := s.run(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), key) || !strings.Contains(err.Error(), l.Addr().String()) || exitCode(err) != exitFailed {
			t.Errorf("%s: %v, exit code %d", key, err, exitCode(err))
		}
	}
}

func TestRecogniserThatIsNotInstalledEndsServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yml")
	if err := os.WriteFile(path, []byte("http: {listen: 127.0.0.1:0}\ntranscriber: {mode: inprocess}\nsources: {audiosocket: {enabled: true, listen: 127.0.0.1:0}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs lines
	if code := run(t.Context(), []string{"serve", "-c", path, "--data-dir", t.TempDir()}, &out, &errs); code != exitNotInstalled {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

func TestServeFlagsTakeThePlaceOfTheirKeys(t *testing.T) {
	cfg := defaultServeConfig()
	if err := (serveFlags{backend: "none", listen: "full", nats: "nats://192.0.2.1", http: "127.0.0.1:1"}).apply(&cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Transcriber.Backend != "none" || cfg.Listen.Mode != "full" || cfg.Sinks.NATS.Config.URL != "nats://192.0.2.1" || cfg.HTTP.Listen != "127.0.0.1:1" {
		t.Errorf("%+v", cfg)
	}
	var usage *usageError
	for _, bad := range []serveFlags{{backend: "ears"}, {listen: "half"}, {nats: "ftp://x"}, {http: "8080"}} {
		if err := bad.apply(&cfg); !errors.As(err, &usage) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A call keeps the packs with which it began; the next one has the new ones.
func TestPacksThatChangeInMidCallCountForTheNext(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	write := func(version string) {
		pack := strings.NewReplacer("VERSION", version).Replace(`tactic: otp_request
language: en
version: VERSION
stage: ask
points: 6
patterns:
  - name: asks
    phrases: ["read me the code"]
examples:
  match: ["read me the code"]
  no_match: ["hello"]
`)
		if err := os.WriteFile(filepath.Join(dir, "en", "otp_request.yaml"), []byte(pack), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "en"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("1")
	const late = "2.6 3.1 caller final read me the code"
	s := startServer(t, late, func(c *serveConfig) { c.Judge.Packs = dir })
	var calling sync.WaitGroup
	calling.Go(func() { _, _ = s.call(t.Context(), caller.AudioSocket, 1, 3500*time.Millisecond) })
	until(t, "the first call", func() bool { return len(s.out.events(t, "call.started")) == 1 })
	write("2")
	until(t, "the packs to be reloaded", func() bool { return strings.Contains(s.errs.String(), "tactic packs reloaded") })
	calling.Go(func() { _, _ = s.call(t.Context(), caller.AudioSocket, 1, 3500*time.Millisecond) })
	until(t, "both calls to end", func() bool { return len(s.out.events(t, "call.ended")) == 2 })
	calling.Wait()
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	var packs []string
	for _, ev := range s.out.events(t, "risk.finding") {
		packs = append(packs, ev.Data.Finding.Pack)
	}
	if !slices.Equal(packs, []string{"otp_request/en@1", "otp_request/en@2"}) {
		t.Errorf("judged by %v", packs)
	}
}
