package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/pipeline/back"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	"github.com/callwarden/callwarden/pipeline/sink/webhooksink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// asterisk is the two sockets of a call, as a peer of its own has them: it
// speaks, and hears what is spoken back to each side.
type asterisk struct {
	t     *testing.T
	conns []net.Conn

	mu    sync.Mutex
	heard [2][]int16 // caller, callee
	wg    sync.WaitGroup
}

// dialIn announces a call and connects both of its sides.
func dialIn(s *served, call string) *asterisk {
	s.t.Helper()
	a := &asterisk{t: s.t}
	for i, leg := range []string{"caller", "callee"} {
		id := fmt.Sprintf("%08x000040008000%012x", len(call), i+1)
		uuid := id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
		req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPut, "http://"+s.answers+"/v1/audiosocket/calls/"+uuid,
			strings.NewReader(fmt.Sprintf(`{"call":%q,"tenant":"bank","leg":%q}`, call, leg)))
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			s.t.Fatalf("announcing: %s", resp.Status)
		}
		conn, err := net.Dial("tcp", s.entrance("audiosocket").addresses())
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = conn.Close() })
		raw, err := hex.DecodeString(id)
		if err != nil {
			s.t.Fatal(err)
		}
		a.send(conn, 0x01, raw)
		a.conns = append(a.conns, conn)
		a.wg.Go(func() { a.listen(i, conn) })
	}
	return a
}

func (a *asterisk) send(conn net.Conn, kind byte, body []byte) {
	a.t.Helper()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(body))), body...)); err != nil {
		a.t.Error(err)
	}
}

// speak sends so much sound on both sides at once; what is early waits.
func (a *asterisk) speak(d time.Duration) {
	rec := tones(d)
	for i, side := range rec.Legs {
		for pcm := side.PCM; len(pcm) > 0; pcm = pcm[160:] {
			body := make([]byte, 0, 320)
			for _, v := range pcm[:160] {
				body = binary.LittleEndian.AppendUint16(body, uint16(v))
			}
			a.send(a.conns[i], 0x10, body)
		}
	}
}

func (a *asterisk) listen(side int, conn net.Conn) {
	for {
		var head [3]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint16(head[1:]))
		if _, err := io.ReadFull(conn, body); err != nil || head[0] != 0x10 {
			return
		}
		a.mu.Lock()
		for ; len(body) > 1; body = body[2:] {
			a.heard[side] = append(a.heard[side], int16(binary.LittleEndian.Uint16(body)))
		}
		a.mu.Unlock()
	}
}

func (a *asterisk) said(side int) []int16 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.heard[side])
}

func (a *asterisk) hangUp() {
	for _, conn := range a.conns {
		a.send(conn, 0x00, nil)
	}
	a.wg.Wait()
}

// ownPrompt writes a recording of 300 ms and returns it and its sound.
func ownPrompt(t *testing.T) (path string, pcm []int16) {
	t.Helper()
	pcm = make([]int16, 2400)
	for i := range pcm {
		pcm[i] = int16(i * 7)
	}
	var wav bytes.Buffer
	if err := audio.WriteWAV(&wav, audio.WAVPCM16, 8000, pcm); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "own.wav")
	if err := os.WriteFile(path, wav.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, pcm
}

// hooks is a web server that takes webhooks from the second attempt on.
type hooks struct {
	*httptest.Server
	mu       sync.Mutex
	attempts map[string]int
	events   []sink.Event
}

func takeHooks(t *testing.T) *hooks {
	h := &hooks{attempts: make(map[string]int)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		ev, err := sink.ParseCloudEvent(body)
		if err != nil || r.Header.Get("Webhook-Signature") == "" || r.Header.Get("Webhook-Id") != ev.ID {
			t.Errorf("a webhook that is none: %v %v", err, r.Header)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.attempts[ev.ID]++; h.attempts[ev.ID] == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		h.events = append(h.events, ev)
	}))
	return h
}

func TestWarningIsSpokenOnceAndHooksAreCalled(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path, pcm := ownPrompt(t)
	h := takeHooks(t)
	defer h.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, fraudInShort, func(c *serveConfig) {
		c.Back.Sources.AudioSocket.Prompt = path
		c.Sinks.Webhook.Enabled = true
		c.Sinks.Webhook.Config.RetryFirst = time.Millisecond
		c.Sinks.Webhook.Config.Endpoints = []webhooksink.Endpoint{
			{Name: "fraud desk", URL: h.URL, SecretFile: secret, Types: []string{string(sink.RiskLevel), string(sink.CallAction)}},
		}
	})
	a := dialIn(s, "c-1")
	a.speak(shortCall)
	until(t, "the prompt", func() bool { return len(a.said(1)) >= len(pcm) })
	a.hangUp()
	until(t, "the end of the call", func() bool { return len(s.out.events(t, "call.ended")) == 1 })
	_, text := s.get("/metrics")
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.said(1), pcm) {
		t.Errorf("the callee heard %d samples, not the prompt's %d once", len(a.said(1)), len(pcm))
	}
	if len(a.said(0)) != 0 {
		t.Error("the caller heard it too")
	}
	critical := 0
	for _, ev := range h.events {
		if d, ok := ev.Data.(*callwardenv1.RiskLevel); ok && d.GetLevel() == callwardenv1.Level_LEVEL_CRITICAL {
			critical++
		}
	}
	if critical != 1 || h.events[len(h.events)-1].Type != sink.CallAction {
		t.Errorf("the hooks were told %d times of the level; of %d events the last is %s", critical, len(h.events), h.events[len(h.events)-1].Type)
	}
	for id, n := range h.attempts {
		if n != 2 {
			t.Errorf("event %s was sent %d times", id, n)
		}
	}
	for _, want := range []string{
		`callwarden_prompts_total{outcome="played",source="audiosocket"} 1`,
		`callwarden_prompts_total{outcome="refused",source="audiosocket"} 0`,
		`callwarden_webhook_up{endpoint="fraud desk"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics do not say %s", want)
		}
	}
}

func TestPromptIsPlayedWhenSomebodyAsksOverNATS(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path, pcm := ownPrompt(t)
	s := startServer(t, fraudInShort, func(c *serveConfig) {
		c.Sinks.NATS.Embedded.Listen = "127.0.0.1:0"
		c.Back.Prompts = []back.Own{{Name: "short", File: path}}
	})
	at := natssink.Connection{URL: s.natsAt.Server.URL()}
	a := dialIn(s, "c-1")
	a.speak(time.Second)
	until(t, "the call", func() bool { return len(s.out.events(t, "call.started")) == 1 })
	ask := func(call, prompt string) error {
		return natssink.Send(t.Context(), at, "bank", call, natssink.Command{Play: prompt, Who: "ann"})
	}
	if err := ask("c-1", "short"); err != nil {
		t.Fatal(err)
	}
	until(t, "the prompt", func() bool { return len(a.said(1)) >= len(pcm) })
	if got := a.said(1); !slices.Equal(got, pcm) {
		t.Errorf("%d samples were heard, not the prompt's %d", len(got), len(pcm))
	}
	var refusal natssink.Refusal
	if err := ask("c-1", "loud"); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "customer, agent, short") {
		t.Errorf("a prompt that is not there: %v", err)
	}
	if err := ask("c-2", "short"); !errors.Is(err, natssink.ErrNoAnswer) {
		t.Errorf("a call that is not there: %v", err)
	}
	a.hangUp()
	until(t, "the end of the call", func() bool { return len(s.out.events(t, "call.ended")) == 1 })
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	if acts := s.out.events(t, "call.action"); len(acts) != 1 || acts[0].Subject != "c-1" {
		t.Errorf("actions %+v", acts)
	}
}

func TestShippedWarningSaysTheAdvice(t *testing.T) {
	lib, err := tactics.Load("")
	if err != nil {
		t.Fatal(err)
	}
	advice, ok := lib.Advice("any", "en", "", "critical")
	text, err := os.ReadFile("../../pipeline/back/prompts/customer.en.txt")
	if err != nil || !ok || !strings.HasSuffix(strings.TrimSpace(string(text)), advice.Text) {
		t.Errorf("%q does not end with %q: %v", text, advice.Text, err)
	}
}

func TestCheckReadsThePromptsAndRefusesWhatCannotBe(t *testing.T) {
	for text, want := range map[string]string{
		"back: {sources: {audiosocket: {prompt: missing.wav}}}":             "back.sources.audiosocket.prompt: open missing.wav: no such file",
		"back: {sources: {whip: {prompt: costumer}}}":                       `back.sources.whip.prompt: "costumer" must be`,
		"back: {sources: {twilio: {events: all}}}":                          `back.sources.twilio.events: "all" must be none`,
		"back: {sources: {audiohook: {prompt: agent}}}":                     `back.sources.audiohook.prompt: "agent" must be empty`,
		"back: {prompts: [{name: de, file: x.wav}]}":                        "back.prompts[0].file: open x.wav",
		"sinks: {webhook: {enabled: true}}":                                 "sinks.webhook.endpoints: [] must be at least one",
		"sinks: {webhook: {enabled: true, endpoints: [{name: a, url: b}]}}": "sinks.webhook.endpoints[0].url: must be one such as",
	} {
		code, _, errs := checkedConfig(t, "sources: {audiosocket: {enabled: true}}\n"+text+"\n")
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d: %s", text, code, errs)
		}
	}
	if code, _, errs := checkedConfig(t, "sources: {audiosocket: {enabled: true}}\nback: {sources: {audiosocket: {prompt: customer}, grpc: {prompt: agent}}}\n"); code != exitDone {
		t.Errorf("shipped prompts: exit %d: %s", code, errs)
	}
}
