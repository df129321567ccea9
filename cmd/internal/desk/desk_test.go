package desk

import (
	"bufio"
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

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/cmd/internal/board"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, // see natssink
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

const patience = time.Minute // for what takes milliseconds on an idle machine

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); !ok(); {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// site is a desk that runs, its server, and somebody who publishes calls.
type site struct {
	t    testing.TB
	nats *natssink.Server
	out  *natssink.Sink
	desk *Desk
	http *httptest.Server
	stop func() error // ends the desk
}

func startNATS(t testing.TB, dir, listen string) *natssink.Server {
	t.Helper()
	cfg := natssink.DefaultServerConfig()
	cfg.Listen, cfg.StoreDir = listen, dir
	srv, err := natssink.StartServer(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	return srv
}

// publisher publishes events as serve does.
func publisher(t testing.TB, url string) *natssink.Sink {
	t.Helper()
	cfg := natssink.DefaultConfig()
	cfg.URL, cfg.Transcripts, cfg.Levels = url, true, true
	out, err := natssink.New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = out.Close(ctx)
	})
	if err := out.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	return out
}

// startSite has the test run beside others: they wait more than they work.
func startSite(t testing.TB, change func(*Config)) *site {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		test.Parallel()
	}
	s := &site{t: t, nats: startNATS(t, "", "127.0.0.1:0")}
	s.out = publisher(t, s.nats.URL())
	s.begin(change)
	return s
}

// begin starts the desk.
func (s *site) begin(change func(*Config)) {
	s.t.Helper()
	cfg := DefaultConfig()
	cfg.Dir = s.t.TempDir()
	if change != nil {
		change(&cfg)
	}
	from := From{Connection: natssink.Connection{URL: s.nats.URL(), Name: "test"}, Stream: "CALLWARDEN", Version: "test"}
	d, err := New(cfg, from, quiet())
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	s.desk, s.http = d, httptest.NewServer(d.Handler())
	var once sync.Once
	s.stop = func() (err error) {
		once.Do(func() {
			cancel()
			err = <-done
			s.http.CloseClientConnections()
			s.http.Close()
		})
		return err
	}
	s.t.Cleanup(func() { _ = s.stop() })
	eventually(s.t, "the desk to follow", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.nats.state == "up"
	})
}

// call publishes the events of one call.
type call struct {
	s      *site
	tenant string
	id     string
	n      int
	began  time.Time
	attrs  map[string]string
}

func (s *site) call(id string) *call {
	return &call{s: s, tenant: "default", id: id, began: time.Now(), attrs: map[string]string{"from": "+1 ### ###", "from_name": "<b>Bank</b>"}}
}

func (c *call) about() *callwardenv1.CallContext {
	return &callwardenv1.CallContext{Tenant: c.tenant, Call: c.id, Source: "rtp"}
}

func (c *call) publish(typ sink.Type, at time.Duration, data proto.Message) {
	c.s.t.Helper()
	c.n++
	ev := sink.Event{
		ID: sink.EventID(c.tenant, c.id, typ, c.n), Type: typ, Tenant: c.tenant, Call: c.id, Source: "callwarden/rtp",
		At: at, Time: c.began.Add(at), Data: data,
	}
	if err := c.s.out.Publish(within(c.s.t), ev); err != nil {
		c.s.t.Fatal(err)
	}
}

func (c *call) start() {
	c.s.t.Helper()
	c.publish(sink.CallStarted, 0, &callwardenv1.CallStarted{
		Context: c.about(), Began: timestamppb.New(c.began), Attributes: c.attrs,
		Legs: []callwardenv1.Leg{callwardenv1.Leg_LEG_CALLER, callwardenv1.Leg_LEG_CALLEE},
	})
}

func (c *call) find(id string, score float64, level callwardenv1.Level, at time.Duration) {
	c.s.t.Helper()
	c.publish(sink.RiskFinding, at, &callwardenv1.RiskFinding{
		Context: c.about(), At: durationpb.New(at), Score: score, Level: level,
		Finding: &callwardenv1.Finding{
			Id: id, Tactic: "otp_request", State: callwardenv1.FindingState_FINDING_STATE_CONFIRMED, Points: score,
			Leg: callwardenv1.Leg_LEG_CALLER, Words: "read me the code",
		},
	})
}

func (c *call) say(n int, text string) {
	c.s.t.Helper()
	at := time.Duration(n) * time.Second
	c.publish(sink.TranscriptSegment, at, &callwardenv1.TranscriptSegment{
		Context: c.about(), Leg: callwardenv1.Leg_LEG_CALLER, Utterance: int32(n), Final: true,
		Start: durationpb.New(at), End: durationpb.New(at + time.Second), Text: text,
	})
}

func (c *call) end(at time.Duration) {
	c.s.t.Helper()
	c.publish(sink.CallEnded, at, &callwardenv1.CallEnded{Context: c.about(), Duration: durationpb.New(at), Reason: "end of audio", Complete: true})
}

// on waits until the call is on the board, and as ok says.
func (c *call) on(ok func(*board.Row) bool) {
	c.s.t.Helper()
	eventually(c.s.t, "call "+c.id, func() bool {
		row := c.s.desk.board.Row(board.Key{Tenant: c.tenant, Call: c.id})
		return row != nil && ok(row)
	})
}

func (c *call) seen() { c.s.t.Helper(); c.on(func(*board.Row) bool { return true }) }
func (c *call) over() {
	c.s.t.Helper()
	c.on(func(r *board.Row) bool { return r.State == board.Ended })
}

// kept waits until the call is in the history.
func (c *call) kept() {
	c.s.t.Helper()
	eventually(c.s.t, "call "+c.id+" in the history", func() bool {
		_, ok, err := c.s.desk.store.get(board.Key{Tenant: c.tenant, Call: c.id})
		return ok && err == nil
	})
}

// asking changes a request before it is sent.
type asking func(*http.Request)

func withToken(token string) asking {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func withHeader(name, value string) asking {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// ask asks the desk and decodes the answer into into, which may be nil.
func (s *site) ask(method, path, body string, into any, how ...asking) (status int) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(within(s.t), method, s.http.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range how {
		h(r)
	}
	res, err := http.DefaultTransport.RoundTrip(r) // without following redirects
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if into != nil {
		if text, ok := into.(*string); ok {
			*text = string(data)
		} else if err := json.Unmarshal(data, into); err != nil {
			s.t.Fatalf("%s %s: %v: %s", method, path, err, data)
		}
	}
	return res.StatusCode
}

func (s *site) want(status int, method, path, body string, into any, how ...asking) {
	s.t.Helper()
	if got := s.ask(method, path, body, into, how...); got != status {
		s.t.Errorf("%s %s: status %d, want %d (%v)", method, path, got, status, into)
	}
}

// told is one event of a stream.
type told struct {
	event, id string
	data      json.RawMessage
}

// streaming is a stream that is read.
type streaming struct {
	t      testing.TB
	events chan told // closed when the stream ends
	cut    func()
	status int
}

func (s *site) stream(path string, how ...asking) *streaming {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.http.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range how {
		h(r)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	st := &streaming{t: s.t, events: make(chan told, 10_000), status: res.StatusCode}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(st.events)
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 64<<20)
		var ev told
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				ev.event = value
			case "id":
				ev.id = value
			case "data":
				ev.data = json.RawMessage(value)
			case "":
				st.events <- ev
				ev = told{}
			}
		}
	})
	st.cut = func() { cancel(); reading.Wait() }
	s.t.Cleanup(st.cut)
	return st
}

// next is the next event of that name; others are passed over.
func (s *streaming) next(name string) told {
	s.t.Helper()
	ctx := within(s.t)
	for {
		select {
		case ev, ok := <-s.events:
			if !ok {
				s.t.Fatalf("the stream ended before %q", name)
			}
			if ev.event == name {
				return ev
			}
		case <-ctx.Done():
			s.t.Fatalf("no %q came", name)
		}
	}
}

// view is what a page knows that follows the overview.
type view struct {
	rows map[string]*board.Row
	id   string
	more int // rows that came though they were known as they were
}

func (v *view) take(t testing.TB, ev told) {
	t.Helper()
	var d struct {
		Calls []*board.Row
		Gone  []string
	}
	if ev.event != "snapshot" && ev.event != "delta" {
		return
	}
	if err := json.Unmarshal(ev.data, &d); err != nil {
		t.Fatalf("%v: %s", err, ev.data)
	}
	if ev.event == "snapshot" || v.rows == nil {
		v.rows = make(map[string]*board.Row)
	}
	for _, row := range d.Calls {
		old := v.rows[row.Key().String()]
		if old != nil && fmt.Sprintf("%+v", *old) == fmt.Sprintf("%+v", *row) {
			v.more++
		}
		v.rows[row.Key().String()] = row
	}
	for _, key := range d.Gone {
		delete(v.rows, key)
	}
	v.id = ev.id
}

// until takes what comes until ok.
func (v *view) until(t testing.TB, s *streaming, what string, ok func() bool) {
	t.Helper()
	ctx := within(t)
	for !ok() {
		select {
		case ev, open := <-s.events:
			if !open {
				t.Fatalf("the stream ended before %s", what)
			}
			v.take(t, ev)
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

const (
	notice   = callwardenv1.Level_LEVEL_NOTICE
	warning  = callwardenv1.Level_LEVEL_WARNING
	critical = callwardenv1.Level_LEVEL_CRITICAL
)

func TestOverviewShowsACallFromItsFirstEventToItsEnd(t *testing.T) {
	s := startSite(t, nil)
	stream := s.stream("/api/live")
	var v view
	c := s.call("c1")
	c.start()
	v.until(t, stream, "the call", func() bool { return v.rows["default/c1"] != nil })
	c.find("f", 7, warning, 2*time.Second)
	v.until(t, stream, "the warning", func() bool { return v.rows["default/c1"].Level == "warning" })
	c.end(3 * time.Second)
	v.until(t, stream, "the end", func() bool { return v.rows["default/c1"].State == board.Ended })
	row := v.rows["default/c1"]
	if row.FromName != "<b>Bank</b>" || row.Dur != 3 || len(row.Tactics) != 1 || row.Source != "rtp" {
		t.Errorf("row is %+v", row)
	}
}

func TestStreamThatWasCutGoesOnWithoutLostOrDoubledRows(t *testing.T) {
	s := startSite(t, nil)
	var calls []*call
	for i := range 50 {
		c := s.call(fmt.Sprint("c", i))
		c.start()
		calls = append(calls, c)
	}
	calls[49].seen()
	stream := s.stream("/api/live")
	var v view
	v.until(t, stream, "all calls", func() bool { return len(v.rows) == 50 })
	stream.cut()
	calls[7].find("f", 7, warning, time.Second)
	calls[8].find("f", 7, warning, time.Second)
	calls[8].on(func(r *board.Row) bool { return r.Level == "warning" })
	s.desk.board.Remove(board.Key{Tenant: "default", Call: "c9"})
	again := s.stream("/api/live", withHeader("Last-Event-ID", v.id))
	first := <-again.events
	v.more = 0
	v.take(t, first)
	if first.event != "delta" || len(v.rows) != 49 || v.rows["default/c7"].Level != "warning" || v.rows["default/c8"].Level != "warning" {
		t.Errorf("%s came, and %d rows are known", first.event, len(v.rows))
	}
	if n := strings.Count(string(first.data), `"tenant"`); n != 2 || v.more != 0 {
		t.Errorf("%d rows came, %d of them known already; want the two that changed", n, v.more)
	}
}

func TestStreamOfAnotherDeskBeginsAnew(t *testing.T) {
	s := startSite(t, nil)
	s.call("c1").start()
	s.call("c1").seen()
	for _, id := range []string{"OTHER-1", "nonsense", s.desk.epoch + "-99999", s.desk.epoch + "-x"} {
		stream := s.stream("/api/live?since=" + id)
		if ev := <-stream.events; ev.event != "snapshot" {
			t.Errorf("%s was resumed with %q", id, ev.event)
		}
	}
}

func TestReaderThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	s := startSite(t, nil)
	// A stream of which nothing is read: the client's buffers fill.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.http.URL+"/api/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	other := s.stream("/api/live")
	var v view
	c := s.call("c1")
	c.attrs["from_name"] = strings.Repeat("a long name ", 2000)
	c.start()
	for i := range 300 {
		c.find(fmt.Sprint("f", i), float64(i%12), notice, time.Duration(i)*time.Second)
	}
	c.find("last", 13, critical, 400*time.Second)
	v.until(t, other, "the last change", func() bool {
		return v.rows["default/c1"] != nil && v.rows["default/c1"].Level == "critical"
	})
}

func TestCallViewFollowsWordsFindingsAndLevels(t *testing.T) {
	s := startSite(t, nil)
	c := s.call("c1")
	c.start()
	c.seen()
	stream := s.stream("/api/calls/default/c1/live")
	stream.next("snapshot")
	c.say(1, "read me the code")
	c.find("f", 7, warning, 2*time.Second)
	c.publish(sink.CallLevels, 0, &callwardenv1.CallLevels{
		Context: c.about(), Start: durationpb.New(0), Step: durationpb.New(100 * time.Millisecond),
		Legs: []*callwardenv1.LegLevels{{Leg: callwardenv1.Leg_LEG_CALLER, Below: []byte{20, 30}}},
	})
	var got board.Update
	for got.Segments == nil || got.Findings == nil || got.Levels == nil {
		var u board.Update
		if err := json.Unmarshal(stream.next("update").data, &u); err != nil {
			t.Fatal(err)
		}
		got.Segments = append(got.Segments, u.Segments...)
		got.Findings = append(got.Findings, u.Findings...)
		got.Levels = append(got.Levels, u.Levels...)
	}
	if got.Segments[0].Text != "read me the code" || got.Findings[0].ID != "f" || got.Levels[0].Below[1] != 30 {
		t.Errorf("updates are %+v", got)
	}
}

func TestEventsWhileTheServerIsAwayAreToldWhenItIsBack(t *testing.T) {
	s := &site{t: t}
	dir := t.TempDir()
	s.nats = startNATS(t, dir, "127.0.0.1:0")
	listen := strings.TrimPrefix(s.nats.URL(), "nats://")
	s.out = publisher(t, s.nats.URL())
	s.begin(nil)
	c := s.call("c1")
	c.start()
	c.seen()
	stream := s.stream("/api/live")
	var v view
	v.until(t, stream, "the call", func() bool { return len(v.rows) == 1 })
	s.nats.Shutdown()
	var st status
	for st.NATS != "away" {
		if err := json.Unmarshal(stream.next("status").data, &st); err != nil {
			t.Fatal(err)
		}
	}
	var refused struct{ Code string }
	s.want(http.StatusServiceUnavailable, "POST", "/api/calls/default/c1/actions", `{"action":"scam"}`, &refused)
	if refused.Code != "nats_away" {
		t.Errorf("code is %q", refused.Code)
	}
	if s.desk.board.Row(board.Key{Tenant: "default", Call: "c1"}) == nil {
		t.Error("what was known is gone")
	}
	startNATS(t, dir, listen)
	c.find("f", 7, warning, time.Second) // waits in the outbox until it is back
	v.more = 0
	v.until(t, stream, "the warning", func() bool { return v.rows["default/c1"].Level == "warning" })
	if len(v.rows) != 1 || v.more != 0 {
		t.Errorf("%d rows, %d of them doubled", len(v.rows), v.more)
	}
}

func TestDeskThatBeginsLaterKnowsWhatGoesOn(t *testing.T) {
	s := startSite(t, nil)
	c := s.call("c1")
	c.start()
	c.find("f", 7, warning, time.Second)
	c.on(func(r *board.Row) bool { return r.Level == "warning" })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.begin(nil)
	c.on(func(r *board.Row) bool { return r.Level == "warning" && r.FromName != "" })
}

func TestTwoAnalystsSeeWhatEachOtherDid(t *testing.T) {
	s := startSite(t, withTokens(t))
	c := s.call("c1")
	c.start()
	c.seen()
	stream := s.stream("/api/live", withToken(bensToken))
	var v view
	var done struct{ ID string }
	s.want(http.StatusAccepted, "POST", "/api/calls/default/c1/actions", `{"action":"acknowledged"}`, nil, withToken(annasToken))
	s.want(http.StatusAccepted, "POST", "/api/calls/default/c1/actions", `{"action":"scam","note":"he said 4711"}`, &done, withToken(annasToken))
	v.until(t, stream, "anna's verdict", func() bool {
		r := v.rows["default/c1"]
		return r != nil && r.Verdict == "scam" && r.VerdictBy == "anna" && r.Ack == "anna"
	})
	s.want(http.StatusAccepted, "POST", "/api/calls/default/c1/actions", `{"action":"scam","undoes":"`+done.ID+`"}`, nil, withToken(bensToken))
	v.until(t, stream, "the verdict to be taken back", func() bool { return v.rows["default/c1"].Verdict == "" })
	s.want(http.StatusConflict, "POST", "/api/calls/default/c1/actions", `{"action":"scam","undoes":"`+done.ID+`"}`, nil, withToken(bensToken))
	var whole board.Call
	s.want(http.StatusOK, "GET", "/api/calls/default/c1", "", &whole, withToken(bensToken))
	if len(whole.Actions) != 2 || whole.Actions[1].Note != "he said ####" || whole.Actions[1].UndoneBy != "ben" {
		t.Errorf("actions are %+v", whole.Actions)
	}
}

func TestActionsThatAreNoneAreRefused(t *testing.T) {
	s := startSite(t, nil)
	c := s.call("c1")
	c.start()
	c.seen()
	for body, status := range map[string]int{
		`{"action":"prompt_played"}`: http.StatusBadRequest,
		`{"action":"unspecified"}`:   http.StatusBadRequest,
		`{"action":"fly"}`:           http.StatusBadRequest,
		`{"action":"note"}`:          http.StatusBadRequest,
		`{"action":"note","note":"` + strings.Repeat("x", noteMost+1) + `"}`: http.StatusBadRequest,
		`{"action":"scam","undoes":"nothing"}`:                               http.StatusConflict,
		`{"action":"scam","more":1}`:                                         http.StatusBadRequest,
		`[]`:                                                                 http.StatusBadRequest,
		`{"note":"` + strings.Repeat("x", bodyMost) + `"}`:                   http.StatusRequestEntityTooLarge,
	} {
		s.want(status, "POST", "/api/calls/default/c1/actions", body, nil)
	}
	s.want(http.StatusNotFound, "POST", "/api/calls/default/none/actions", `{"action":"scam"}`, nil)
	s.want(http.StatusGatewayTimeout, "POST", "/api/calls/default/c1/prompt", `{"prompt":"customer"}`, nil)
	s.want(http.StatusNotFound, "POST", "/api/calls/default/none/prompt", `{"prompt":"customer"}`, nil)
}

func TestPromptIsPlayedByWhoHasTheCall(t *testing.T) {
	s := startSite(t, nil)
	c := s.call("c1")
	c.start()
	c.seen()
	ctx, cancel := context.WithCancel(t.Context())
	var taking sync.WaitGroup
	asked := make(chan natssink.Command, 10)
	taking.Go(func() {
		_ = natssink.TakeCommands(ctx, natssink.Connection{URL: s.nats.URL()}, quiet(), func(_ context.Context, _, _ string, cmd natssink.Command) error {
			asked <- cmd
			if cmd.Play == "agent" {
				return errors.New("it cannot be spoken into")
			}
			return nil
		})
	})
	defer taking.Wait()
	defer cancel()
	eventually(t, "somebody who takes commands", func() bool {
		return s.ask("POST", "/api/calls/default/c1/prompt", `{"prompt":"customer"}`, nil) == http.StatusOK
	})
	if cmd := <-asked; cmd.Play != "customer" || cmd.Who != "local" {
		t.Errorf("asked was %+v", cmd)
	}
	var no struct{ Error string }
	s.want(http.StatusConflict, "POST", "/api/calls/default/c1/prompt", `{"prompt":"agent"}`, &no)
	if !strings.Contains(no.Error, "cannot be spoken into") {
		t.Errorf("error is %q", no.Error)
	}
}

func TestMachinesAndWhatIsMissingAreShown(t *testing.T) {
	s := startSite(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var telling sync.WaitGroup
	telling.Go(func() {
		_ = natssink.Announce(ctx, natssink.Connection{URL: s.nats.URL()}, 10*time.Millisecond, func() natssink.Machine {
			return natssink.Machine{Name: "rack1", Calls: 3, LagP95: 0.25, Load: 0.5, Levels: true}
		}, quiet())
	})
	defer telling.Wait()
	defer cancel()
	stream := s.stream("/api/live")
	for {
		var st status
		switch ev := <-stream.events; ev.event {
		case "snapshot":
			var first struct{ Status status }
			if err := json.Unmarshal(ev.data, &first); err != nil {
				t.Fatal(err)
			}
			st = first.Status
		case "status":
			if err := json.Unmarshal(ev.data, &st); err != nil {
				t.Fatal(err)
			}
		case "":
			t.Fatal("the stream ended")
		}
		if len(st.Machines) == 0 {
			continue
		}
		if m := st.Machines[0]; m.Name != "rack1" || m.Calls != 3 || m.LagP95 != 0.25 || m.Load != 0.5 || m.Gone {
			t.Errorf("machine is %+v", m)
		}
		if *st.Transcripts || !*st.Levels || len(st.Keys) != 1 || st.Keys[0] != "sinks.nats.transcripts" {
			t.Errorf("transcripts %v, levels %v, keys %v", *st.Transcripts, *st.Levels, st.Keys)
		}
		return
	}
}

func TestPageIsServedUnderItsPolicy(t *testing.T) {
	s := startSite(t, nil)
	res, err := http.Get(s.http.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	h := res.Header
	if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Frame-Options") != "DENY" || h.Get("ETag") == "" ||
		h.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("headers are %v", h)
	}
	s.want(http.StatusNotModified, "GET", "/", "", nil, withHeader("If-None-Match", h.Get("ETag")), withHeader("Accept-Encoding", "gzip"), func(r *http.Request) {
		// of the deflated page another one
		r.Header.Set("If-None-Match", strings.TrimSuffix(s.desk.files["index.html"].tag, `"`)+`-z"`)
	})
	s.want(http.StatusNotFound, "GET", "/web/web.go", "", nil)
	s.want(http.StatusOK, "GET", "/web/app.js", "", nil)
}

const (
	annasToken = "anna-0123456789abcdef"
	bensToken  = "ben-0123456789abcdef"
	viewsToken = "view-0123456789abcdef"
	adminToken = "admin-0123456789abcdef"
	otherToken = "other-0123456789abcdef"
)

const tokenLines = `# people
` + annasToken + ` anna analyst default
` + bensToken + ` ben analyst *
` + viewsToken + ` vera viewer default
` + adminToken + ` root admin *
` + otherToken + ` olaf admin other-bank
`

// withTokens has people sign in.
func withTokens(t testing.TB) func(*Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte(tokenLines), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.TokensFile = file }
}
