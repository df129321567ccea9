package audiohooksrc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	sessionID      = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
	otherSession   = "41b0e395-84d3-4570-ac13-9a62d8f514c1"
	conversationID = "090eaa2f-72fa-480a-83e0-8667ff89c0ec"
	organizationID = "d7934305-0972-4844-938e-9060eef73d05"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// heard is a call as a handler saw it.
type heard struct {
	*source.Call
	frames []audio.Frame
	err    error
}

// listener is a handler that keeps what it hears.
type listener struct {
	mu     sync.Mutex
	calls  []heard
	began  chan *source.Call // where not nil
	refuse error
	tell   []sink.Event // at the end of each call
}

func (l *listener) handle(ctx context.Context, call *source.Call) error {
	if l.refuse != nil {
		return l.refuse
	}
	call.Admitted()
	if l.began != nil {
		l.began <- call
	}
	h := heard{Call: call}
	for h.err == nil {
		var f audio.Frame
		if f, h.err = call.Audio.ReadFrame(ctx); h.err == nil {
			h.frames = append(h.frames, f)
		}
	}
	for _, ev := range l.tell {
		call.Peer.Tell(ev)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, h)
	if errors.Is(h.err, io.EOF) {
		return nil
	}
	return h.err
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.ReconnectWait = 0
	return cfg
}

// start serves a source over HTTP until stop is called or the test ends.
func start(t *testing.T, cfg Config, handle source.Handler) (s *Source, url string, stop func()) {
	t.Helper()
	s, err := New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, handle) }()
	web := httptest.NewServer(s.Handler())
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
		web.Close()
	})
	t.Cleanup(stop)
	return s, "ws" + strings.TrimPrefix(web.URL, "http") + "/v1/audiohook/", stop
}

// peer is a client, written from the protocol's documentation.
type peer struct {
	t              *testing.T
	ws             *websocket.Conn
	id             string
	seq, serverSeq int
}

// message is one that a server sends, as the client sees it.
type said struct {
	Version    string
	ID         string
	Type       string
	Seq        int
	ClientSeq  int
	Parameters struct {
		Media     []media
		Languages []string `json:"supportedLanguages"`
		Reason    string
		Info      string
		Entities  []struct {
			Type string
			Data json.RawMessage
		}
	}
}

func headers(session string) http.Header {
	h := make(http.Header)
	h.Set(headerOrganization, organizationID)
	h.Set(headerSession, session)
	h.Set(headerCorrelation, "e160e428-53e2-487c-977d-96989bf5c99d")
	return h
}

func dial(t *testing.T, url, session string, h http.Header) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: h}) //nolint:bodyclose // the library's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(1 << 20)
	return &peer{t: t, ws: ws, id: session}
}

// refused returns the status of a connection that is not let in.
func refused(t *testing.T, url string, h http.Header) int {
	t.Helper()
	ws, res, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPHeader: h}) //nolint:bodyclose // the library's
	if err == nil {
		_ = ws.CloseNow()
		return http.StatusSwitchingProtocols
	}
	if res == nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

func (p *peer) raw(kind websocket.MessageType, data []byte) {
	p.t.Helper()
	if err := p.ws.Write(p.t.Context(), kind, data); err != nil {
		p.t.Error(err)
	}
}

func (p *peer) send(kind, parameters string) {
	p.t.Helper()
	p.seq++
	p.raw(websocket.MessageText, fmt.Appendf(nil, `{"version":"2","id":%q,"type":%q,"seq":%d,"serverseq":%d,"position":"PT0S","parameters":%s}`, p.id, kind, p.seq, p.serverSeq, parameters))
}

// read returns the next message, or false where the connection is over.
func (p *peer) read() (said, bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	_, data, err := p.ws.Read(ctx)
	if err != nil {
		return said{}, false
	}
	var m said
	if err := json.Unmarshal(data, &m); err != nil {
		p.t.Fatal(err)
	}
	if p.serverSeq++; m.Version != "2" || m.ID != p.id || m.Seq != p.serverSeq || m.ClientSeq > p.seq {
		p.t.Errorf("message %s, want seq %d of %s", data, p.serverSeq, p.id)
	}
	return m, true
}

// want reads on until a message of that type comes.
func (p *peer) want(kind string) said {
	p.t.Helper()
	for {
		m, ok := p.read()
		if !ok {
			p.t.Fatalf("the connection ended, and no %s came", kind)
		}
		if m.Type == kind {
			return m
		}
	}
}

const offer = `[{"type":"audio","format":"PCMU","channels":["external","internal"],"rate":8000},{"type":"audio","format":"PCMU","channels":["external"],"rate":8000}]`

// opening are the parameters of an open, with more members.
func openingOf(conversation, more string) string {
	return `{"organizationId":"` + organizationID + `","conversationId":"` + conversation + `",` +
		`"participant":{"id":"883efee8-3d6c-4537-b500-6d7ca4b92fa0","ani":"tel:+12025550123","aniName":"Ünal <b>","dnis":"tel:+12025550199;ext=1"},` +
		`"media":` + offer + more + `}`
}

func (p *peer) open(more string) said {
	p.t.Helper()
	p.send("open", openingOf(conversationID, more))
	return p.want("opened")
}

// close ends the session as a client does.
func (p *peer) close(reason string) {
	p.t.Helper()
	p.send("close", `{"reason":"`+reason+`"}`)
	if m, _ := p.read(); m.Type != "closed" {
		p.t.Errorf("close was answered by %q", m.Type)
	}
	if m, ok := p.read(); ok {
		p.t.Errorf("%s after closed", m.Type)
	}
}

// await waits until what it asks for is so.
func await(t *testing.T, is func() bool) {
	t.Helper()
	tick := time.NewTicker(ms)
	defer tick.Stop()
	for late := time.After(20 * time.Second); !is(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it does not become so")
		}
	}
}

func TestCallIsHeardFromOpenToClose(t *testing.T) {
	var l listener
	s, url, stop := start(t, testConfig(), l.handle)
	p := dial(t, url, sessionID, headers(sessionID))
	opened := p.open(`,"language":"en-US","customConfig":{"queue":"fraud","vip":true,"Bad":"x","list":[1]}`)
	if m := opened.Parameters.Media; len(m) != 1 || len(m[0].Channels) != 2 || m[0].Format != "PCMU" {
		t.Errorf("media %+v", m)
	}
	p.send("ping", `{"rtt":"PT0.02S"}`)
	p.want("pong")
	for range 5 {
		p.raw(websocket.MessageBinary, interleaved(200*ms, 8, 16))
	}
	p.send("update", `{"language":"es-US"}`)
	p.want("updated")
	p.close("end")
	stop()
	if len(l.calls) != 1 {
		t.Fatalf("%d calls", len(l.calls))
	}
	c := l.calls[0]
	sum, end, _ := legsOf(c.frames)
	if sum[audio.Caller] != 8000*8 || sum[audio.Callee] != 8000*16 || end[audio.Caller] != time.Second || !errors.Is(c.err, io.EOF) {
		t.Errorf("sums %v, ends %v, end %v", sum, end, c.err)
	}
	if c.ID != conversationID+"-30b0e395" || c.Tenant != "default" || c.Source != "audiohook" || !c.Live || c.Began.IsZero() || c.Language != "en-US" {
		t.Errorf("call %+v", c.Call)
	}
	for name, value := range map[string]string{
		"from": "+12025550123", "from_name": "Ünal <b>", "to": "+12025550199", "direction": "inbound", "codec": "PCMU", "queue": "fraud",
		"vip": "true", "conversation": conversationID, "organization": organizationID, "language": "en-US", "Bad": "", "list": "",
	} {
		if c.Attributes[name] != value {
			t.Errorf("attribute %s is %q, want %q", name, c.Attributes[name], value)
		}
	}
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "es-US") {
		t.Errorf("warnings %q", w)
	}
	if st := s.Stats(); st.Calls+st.Legs != 0 || st.Begun != 1 || st.Packets != 5 || st.Bytes != 16000 || st.Malformed+st.Refused+st.Stranger != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestDirectionSaysWhoIsTheCaller(t *testing.T) {
	for name, c := range map[string]struct {
		external, custom string
		want             audio.Leg // of the channel external
		direction        string
	}{
		"as configured":   {"caller", `{}`, audio.Caller, "inbound"},
		"calls out":       {"callee", `{}`, audio.Callee, "outbound"},
		"said to be out":  {"caller", `{"direction":"outbound"}`, audio.Callee, "outbound"},
		"said to come in": {"callee", `{"direction":"inbound"}`, audio.Caller, "inbound"},
		"said to be odd":  {"caller", `{"direction":"up"}`, audio.Caller, "inbound"},
	} {
		t.Run(name, func(t *testing.T) {
			var p openParameters
			p.Custom = json.RawMessage(c.custom)
			d := describe(&p, stereo, c.external)
			if d.legs[0] != c.want || d.legs[1] != c.want.Other() || d.attributes["direction"] != c.direction {
				t.Errorf("legs %v, attributes %v", d.legs, d.attributes)
			}
		})
	}
}

func TestProbeIsOpenedAndIsNoCall(t *testing.T) {
	var l listener
	s, url, stop := start(t, testConfig(), l.handle)
	p := dial(t, url, sessionID, headers(sessionID))
	p.send("open", openingOf(noUUID, `,"supportedLanguages":true`))
	p.want("opened")
	p.send("ping", `{}`)
	p.want("pong")
	p.raw(websocket.MessageBinary, interleaved(20*ms, 0, 0))
	p.close("end")
	stop()
	if st := s.Stats(); len(l.calls) != 0 || st.Begun+st.Malformed != 0 {
		t.Errorf("%d calls, stats %+v", len(l.calls), st)
	}
}

func TestLanguagesAreToldToThoseWhoAsk(t *testing.T) {
	cfg := testConfig()
	cfg.Languages = []string{"en-US", "es-US"}
	var l listener
	_, url, _ := start(t, cfg, l.handle)
	for more, want := range map[string]int{`,"supportedLanguages":true`: 2, `,"supportedLanguages":false`: 0} {
		p := dial(t, url, sessionID, headers(sessionID))
		if got := p.open(more).Parameters.Languages; len(got) != want {
			t.Errorf("%s: languages %q", more, got)
		}
		p.close("end")
	}
}

func TestPausesAndGapsAreMarkedAndTold(t *testing.T) {
	var l listener
	_, url, stop := start(t, testConfig(), l.handle)
	p := dial(t, url, sessionID, headers(sessionID))
	p.open("")
	second := interleaved(time.Second, 8, 8)
	p.raw(websocket.MessageBinary, second)
	p.send("discarded", `{"start":"PT1S","discarded":"PT0.5S"}`)
	p.raw(websocket.MessageBinary, second)
	p.send("paused", `{}`)
	p.send("paused", `{}`)
	p.send("resumed", `{"start":"PT2.5S","discarded":"PT3S"}`)
	p.raw(websocket.MessageBinary, second)
	p.close("end")
	stop()
	c := l.calls[0]
	_, end, lost := legsOf(c.frames)
	if end[audio.Callee] != 6500*ms || lost[audio.Callee] != 500*ms {
		t.Errorf("ends %v, lost %v", end, lost)
	}
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, "did not send 500ms") {
		t.Errorf("warnings %q", w)
	}
}

func TestFaultsAreToldAndEndTheSession(t *testing.T) {
	message := func(id, kind string, seq, serverSeq int, parameters string) []byte {
		return fmt.Appendf(nil, `{"version":"2","id":%q,"type":%q,"seq":%d,"serverseq":%d,"position":"PT0S","parameters":%s}`, id, kind, seq, serverSeq, parameters)
	}
	ping := func(seq, serverSeq int) []byte { return message(sessionID, "ping", seq, serverSeq, "{}") }
	for name, c := range map[string]struct {
		kind   websocket.MessageType
		data   []byte
		opened bool
		reason string
		info   string
	}{
		"text for audio":               {websocket.MessageText, []byte("\x7f\x7f\x7f\x7f"), true, "error", "not JSON"},
		"audio before open":            {websocket.MessageBinary, interleaved(20*ms, 1, 1), false, "error", "audio: the session is not open"},
		"half a sample":                {websocket.MessageBinary, make([]byte, 161), true, "error", "whole samples"},
		"seq that goes back":           {websocket.MessageText, ping(1, 1), true, "error", "seq: is 1 after 1"},
		"seq that jumps":               {websocket.MessageText, ping(5, 1), true, "error", "seq: is 5 after 1"},
		"serverseq ahead":              {websocket.MessageText, ping(2, 7), true, "error", "serverseq: is 7"},
		"another session's id":         {websocket.MessageText, message(otherSession, "ping", 2, 1, "{}"), true, "error", "id: is not that"},
		"open twice":                   {websocket.MessageText, message(sessionID, "open", 2, 1, "{}"), true, "error", "the session is open"},
		"paused before open":           {websocket.MessageText, message(sessionID, "paused", 1, 0, "{}"), false, "error", "paused: the session is not open"},
		"unknown type":                 {websocket.MessageText, message(sessionID, "dance", 2, 1, "{}"), true, "error", "type: is none that is known"},
		"discarded without numbers":    {websocket.MessageText, message(sessionID, "discarded", 2, 1, "{}"), true, "error", "start and discarded"},
		"discarded for hours":          {websocket.MessageText, message(sessionID, "discarded", 2, 1, `{"start":"PT0S","discarded":"PT99H"}`), true, "error", "what was not sent"},
		"no media":                     {websocket.MessageText, message(sessionID, "open", 1, 0, `{"organizationId":"`+organizationID+`","conversationId":"`+conversationID+`","media":[]}`), false, "error", "media: none"},
		"media that nobody hears":      {websocket.MessageText, message(sessionID, "open", 1, 0, strings.ReplaceAll(openingOf(conversationID, ""), "PCMU", "OPUS")), false, "error", "media: none that is offered"},
		"a conversation without an id": {websocket.MessageText, message(sessionID, "open", 1, 0, openingOf("x", "")), false, "error", "conversationId"},
		"another organization":         {websocket.MessageText, message(sessionID, "open", 1, 0, strings.ReplaceAll(openingOf(conversationID, ""), organizationID, otherSession)), false, "unauthorized", "organizationId"},
		"48 kHz said to be 8":          {websocket.MessageBinary, make([]byte, 64<<10), true, "error", "is not PCMU at 8000 Hz"},
	} {
		t.Run(name, func(t *testing.T) {
			var l listener
			s, url, stop := start(t, testConfig(), l.handle)
			p := dial(t, url, sessionID, headers(sessionID))
			if c.opened {
				p.open("")
			}
			p.seq = 8
			p.raw(c.kind, c.data)
			if len(c.data) == 64<<10 {
				for range 5 {
					p.raw(c.kind, c.data)
				}
			}
			var m said
			for m.Type != "disconnect" {
				var ok bool
				if m, ok = p.read(); !ok {
					t.Fatal("no disconnect came")
				}
			}
			if m.Parameters.Reason != c.reason || !strings.Contains(m.Parameters.Info, c.info) {
				t.Errorf("disconnected for %q: %q; want %q: %q", m.Parameters.Reason, m.Parameters.Info, c.reason, c.info)
			}
			p.close("disconnect")
			await(t, func() bool { return s.Stats().Calls == 0 })
			stop()
			if st := s.Stats(); st.Malformed != 1 || st.Calls != 0 {
				t.Errorf("stats %+v", st)
			}
			if c.opened && (len(l.calls) != 1 || !strings.Contains(l.calls[0].err.Error(), c.info)) {
				t.Errorf("calls %+v", l.calls)
			}
		})
	}
}

func TestMessageOfTenMegabytesClosesTheConnection(t *testing.T) {
	var l listener
	s, url, stop := start(t, testConfig(), l.handle)
	p := dial(t, url, sessionID, headers(sessionID))
	p.open("")
	_ = p.ws.Write(t.Context(), websocket.MessageText, []byte(strings.Repeat("[", 10<<20))) // may be cut off
	for {
		if _, _, err := p.ws.Read(t.Context()); err != nil {
			break
		}
	}
	await(t, func() bool { return s.Stats().Calls == 0 })
	stop()
	if len(l.calls) != 1 || l.calls[0].err == nil || errors.Is(l.calls[0].err, io.EOF) {
		t.Errorf("calls %+v", l.calls)
	}
}

func TestBusyIsToldByADisconnect(t *testing.T) {
	for name, c := range map[string]struct {
		handle source.Handler
		reason string
		info   string
		busy   uint64
	}{
		"busy":   {func(context.Context, *source.Call) error { return fmt.Errorf("full: %w", source.ErrBusy) }, "error", "busy", 1},
		"exempt": {func(context.Context, *source.Call) error { return nil }, "completed", "not monitored", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, url, stop := start(t, testConfig(), c.handle)
			p := dial(t, url, sessionID, headers(sessionID))
			p.open("")
			m := p.want("disconnect")
			if m.Parameters.Reason != c.reason || !strings.Contains(m.Parameters.Info, c.info) {
				t.Errorf("disconnect %+v", m.Parameters)
			}
			p.close("disconnect")
			stop()
			if st := s.Stats(); st.Refused != c.busy || st.Calls != 0 || st.Malformed != 0 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestConnectionsBeyondTheLimitAreAnswered503(t *testing.T) {
	cfg := testConfig()
	cfg.WebSocket.Connections = 1
	var l listener
	_, url, _ := start(t, cfg, l.handle)
	p := dial(t, url, sessionID, headers(sessionID))
	p.open("")
	if got := refused(t, url, nil); got != http.StatusServiceUnavailable {
		t.Errorf("answered %d", got)
	}
	p.close("end")
}

// keyed writes the files of a key.
func keyed(t *testing.T, key, secret, tenant string) Key {
	t.Helper()
	dir := t.TempDir()
	k := Key{File: filepath.Join(dir, "key"), Tenant: tenant}
	if err := os.WriteFile(k.File, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		k.SecretFile = filepath.Join(dir, "secret")
		if err := os.WriteFile(k.SecretFile, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func TestSignedRequestsAreTheirTenants(t *testing.T) {
	cfg := testConfig()
	cfg.Keys = []Key{keyed(t, publishedKey, publishedSecret, "bank"), keyed(t, "a key without secret", "", "shop")}
	var l listener
	s, url, stop := start(t, cfg, l.handle)
	r := httptest.NewRequest(http.MethodGet, "/v1/audiohook/", nil)
	r.Header = headers(sessionID)
	host := strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/v1/audiohook/")
	sign(r, host, publishedKey, publishedSecret, "a nonce of enough characters", time.Now().Unix())
	p := dial(t, url, sessionID, r.Header)
	p.open("")
	p.close("end")
	if got := refused(t, url, r.Header); got != http.StatusUnauthorized {
		t.Errorf("the same request again: answered %d", got)
	}
	for name, h := range map[string]http.Header{
		"no key":    headers(sessionID),
		"wrong key": {headerKey: {"some other key of length"}},
		"unsigned":  {headerKey: {publishedKey}},
	} {
		if got := refused(t, url, h); got != http.StatusUnauthorized {
			t.Errorf("%s: answered %d", name, got)
		}
	}
	h := headers(otherSession)
	h.Set(headerKey, "a key without secret")
	p = dial(t, url, otherSession, h)
	p.open("")
	p.close("end")
	stop()
	if len(l.calls) != 2 || l.calls[0].Tenant != "bank" || l.calls[1].Tenant != "shop" {
		t.Errorf("calls %+v", l.calls)
	}
	if st := s.Stats(); st.Stranger != 4 {
		t.Errorf("stats %+v", st)
	}
}

func event(call *source.Call, typ sink.Type, at time.Duration, data proto.Message) sink.Event {
	ev := sink.Event{ID: "event-" + string(typ), Type: typ, At: at, Data: data}
	if call != nil {
		ev.Tenant, ev.Call = call.Tenant, call.ID
	}
	return ev
}

func critical() *callwardenv1.RiskLevel {
	return &callwardenv1.RiskLevel{
		Level: callwardenv1.Level_LEVEL_CRITICAL, Previous: callwardenv1.Level_LEVEL_NOTICE, Score: 80,
		Contributions: []*callwardenv1.Contribution{{Tactic: "otp_request", Points: 50}, {Tactic: "otp_request", Points: 10}, {Tactic: "urgency", Points: 5}},
		Advice:        &callwardenv1.Advice{Id: "a", Language: "en", Text: "Do not read <codes> to anybody."},
	}
}

func TestFindingsReachTheAgentsDesktop(t *testing.T) {
	l := listener{began: make(chan *source.Call, 1)}
	l.tell = []sink.Event{event(nil, sink.RiskFinding, 2*time.Second, &callwardenv1.RiskFinding{Score: 99})}
	s, url, stop := start(t, testConfig(), l.handle)
	p := dial(t, url, sessionID, headers(sessionID))
	p.open(`,"language":"en-GB"`)
	call := <-l.began
	call.Peer.Tell(event(call, sink.RiskLevel, 1500*ms, critical()))
	m := p.want("event")
	if len(m.Parameters.Entities) != 2 {
		t.Fatalf("entities %+v", m.Parameters.Entities)
	}
	var shown assist
	if e := m.Parameters.Entities[0]; e.Type != "agentassist" || json.Unmarshal(e.Data, &shown) != nil || len(shown.Suggestions) != 1 || !isUUID(shown.ID) {
		t.Fatalf("entity %s %s", e.Type, e.Data)
	}
	if s := shown.Suggestions[0]; s.Type != "faq" || s.Question != "Fraud: critical (otp request, urgency)" || s.Answer != "Do not read &lt;codes&gt; to anybody." || time.Duration(s.Position) != 1500*ms || s.Confidence != 1 {
		t.Errorf("suggestion %+v", s)
	}
	if e := m.Parameters.Entities[1]; e.Type != "callwarden.risk.level.v1" || !strings.Contains(string(e.Data), "LEVEL_CRITICAL") {
		t.Errorf("entity %s %s", e.Type, e.Data)
	}
	call.Peer.Tell(event(call, sink.TranscriptSegment, 2*time.Second, &callwardenv1.TranscriptSegment{
		Leg: callwardenv1.Leg_LEG_CALLEE, Final: true, Text: "the code please", Start: durationpb.New(time.Second), End: durationpb.New(2 * time.Second),
		Words: []*callwardenv1.Word{{Text: "the", Start: durationpb.New(time.Second), End: durationpb.New(1200 * ms), Confidence: 0.5}},
	}))
	m = p.want("event")
	var words transcript
	if e := m.Parameters.Entities[0]; e.Type != "transcript" || json.Unmarshal(e.Data, &words) != nil || words.Channel != internal || !words.IsFinal ||
		words.Alternatives[0].Interpretations[0].Transcript != "the code please" || words.Alternatives[0].Confidence != 0.5 || words.Alternatives[0].Languages[0] != "en-GB" {
		t.Errorf("entity %s %s", e.Type, e.Data)
	}
	p.send("close", `{"reason":"end"}`)
	if m, _ := p.read(); m.Type != "event" || m.Parameters.Entities[0].Type != "callwarden.risk.finding.v1" {
		t.Errorf("before the end came %+v", m)
	}
	p.want("closed")
	stop()
	call.Peer.Tell(event(call, sink.RiskLevel, 3*time.Second, critical()))
	if st := s.Stats(); st.Told != 3 || st.Untold != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestClientThatNeverReadsIsNotWaitedFor(t *testing.T) {
	l := listener{began: make(chan *source.Call, 1)}
	s, url, stop := start(t, testConfig(), l.handle)
	p := dial(t, url, sessionID, headers(sessionID))
	p.open("")
	call := <-l.began
	big := &callwardenv1.RiskFinding{Finding: &callwardenv1.Finding{Words: strings.Repeat("word ", 10_000)}}
	for s.Stats().Untold == 0 {
		call.Peer.Tell(event(call, sink.RiskFinding, time.Second, big))
	}
	p.raw(websocket.MessageBinary, interleaved(time.Second, 8, 8))
	await(t, func() bool { return s.Stats().Packets == 1 })
	_ = p.ws.CloseNow()
	await(t, func() bool { return s.Stats().Calls == 0 })
	stop()
	sum, _, _ := legsOf(l.calls[0].frames)
	if sum[audio.Caller] != 8000*8 {
		t.Errorf("heard %v", sum)
	}
}

func TestCallGoesOnInAnotherConnection(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(p *peer)
		next  string // session
		more  string
		calls int
	}{
		"reconnect, with a new session": {func(p *peer) { p.close("reconnect") }, otherSession, `,"continuedSessions":[{"id":"` + sessionID + `","serverseq":1,"clientseq":1}]`, 1},
		"broken, with the same session": {func(p *peer) { _ = p.ws.CloseNow() }, sessionID, "", 1},
		"ended":                         {func(p *peer) { p.close("end") }, otherSession, `,"continuedSessions":[{"id":"` + sessionID + `"}]`, 2},
		"another session":               {func(p *peer) { p.close("reconnect") }, otherSession, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.ReconnectWait = maxReconnectWait
			l := listener{began: make(chan *source.Call, 2)}
			s, url, stop := start(t, cfg, l.handle)
			p := dial(t, url, sessionID, headers(sessionID))
			p.open("")
			p.raw(websocket.MessageBinary, interleaved(time.Second, 8, 8))
			c.leave(p)
			await(t, func() bool { return s.server.Open() == 0 }) // our end of a broken connection too
			p = dial(t, url, c.next, headers(c.next))
			p.open(c.more)
			p.raw(websocket.MessageBinary, interleaved(time.Second, 8, 8))
			call := <-l.began
			if c.calls == 1 {
				call.Peer.Tell(event(call, sink.RiskLevel, time.Hour, critical()))
				p.want("event")
			}
			p.close("end")
			stop()
			if len(l.calls) != c.calls {
				t.Fatalf("%d calls", len(l.calls))
			}
			if c.calls == 1 {
				sum, end, _ := legsOf(l.calls[0].frames)
				if sum[audio.Caller] != 2*8000*8 || end[audio.Caller] < 2*time.Second {
					t.Errorf("sum %v, end %v", sum, end)
				}
				if w := strings.Join(l.calls[0].Warnings(), "\n"); !strings.Contains(w, "the connection was lost") {
					t.Errorf("warnings %q", w)
				}
			}
		})
	}
}

func TestSessionCannotBeOpenTwice(t *testing.T) {
	cfg := testConfig()
	cfg.ReconnectWait = maxReconnectWait
	l := listener{began: make(chan *source.Call, 1)}
	_, url, _ := start(t, cfg, l.handle)
	p := dial(t, url, sessionID, headers(sessionID))
	p.open("")
	<-l.began
	q := dial(t, url, sessionID, headers(sessionID))
	q.open("")
	if m := q.want("disconnect"); !strings.Contains(m.Parameters.Info, "open in another connection") {
		t.Errorf("disconnect %+v", m.Parameters)
	}
	q.close("disconnect")
	p.close("end")
}

func TestSilentClientsAreNotKept(t *testing.T) {
	cfg := testConfig()
	cfg.WebSocket.HelloTimeout, cfg.WebSocket.MediaTimeout = 50*ms, time.Second
	var l listener
	s, url, stop := start(t, cfg, l.handle)
	p := dial(t, url, sessionID, headers(sessionID))
	if m, ok := p.read(); ok {
		t.Errorf("%s came", m.Type)
	}
	p = dial(t, url, sessionID, headers(sessionID))
	p.open("")
	if m := p.want("disconnect"); m.Parameters.Info != "no media for 1s" {
		t.Errorf("disconnect %+v", m.Parameters)
	}
	p.close("disconnect")
	await(t, func() bool { return s.Stats().Calls == 0 })
	stop()
	if len(l.calls) != 1 || l.calls[0].err.Error() != "no media for 1s" {
		t.Errorf("calls %+v, stats %+v", l.calls, s.Stats())
	}
}

func TestCallsGoOnWhenNoMoreAreTaken(t *testing.T) {
	l := listener{began: make(chan *source.Call, 1)}
	s, err := New(testConfig(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	calling := context.WithoutCancel(t.Context())
	go func() {
		served <- s.Serve(ctx, func(_ context.Context, call *source.Call) error { return l.handle(calling, call) })
	}()
	web := httptest.NewServer(s.Handler())
	defer web.Close()
	url := "ws" + strings.TrimPrefix(web.URL, "http")
	p := dial(t, url, sessionID, headers(sessionID))
	p.open("")
	<-l.began
	cancel()
	p.raw(websocket.MessageBinary, interleaved(time.Second, 8, 8))
	p.close("end")
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
	if sum, _, _ := legsOf(l.calls[0].frames); sum[audio.Caller] != 8000*8 {
		t.Errorf("heard %v", sum)
	}
}

func TestConfigNamesKeyAndRule(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	short := keyed(t, "a key of some length", "c2hvcnQ=AAAAAAAAAAAAAAAA", "")
	for want, change := range map[string]func(*Config){
		"connections: 0":          func(c *Config) { c.WebSocket.Connections = 0 },
		"keys[0].file: must":      func(c *Config) { c.Keys = []Key{{}} },
		`keys[0].tenant: "a.b"`:   func(c *Config) { c.Keys = []Key{{File: "f", Tenant: "a.b"}} },
		"keys[0].organization: ":  func(c *Config) { c.Keys = []Key{{File: "f", Organization: "acme"}} },
		`external: "agent"`:       func(c *Config) { c.External = "agent" },
		`languages[0]: "english"`: func(c *Config) { c.Languages = []string{"english"} },
		"reconnect_wait: 1h0m0s":  func(c *Config) { c.ReconnectWait = time.Hour },
		"keys[0].file: reading":   func(c *Config) { c.Keys = []Key{{File: "/nowhere/key"}} },
		"keys[0].secret_file: ":   func(c *Config) { c.Keys = []Key{short} },
	} {
		cfg := testConfig()
		change(&cfg)
		if _, err := New(cfg, quiet()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v does not begin with %q", err, want)
		}
	}
}
