package natssink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// A stream that is created while nats-server shuts down keeps its file store
// open for the life of the process (v2.15.2, seldom, on a busy machine): tests
// that pull the server away meet that now and then, and it is not ours to end.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

const patience = 20 * time.Second // for what takes milliseconds on an idle machine

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// finding is the n-th event of a call.
func finding(call string, n int) sink.Event {
	about := &callwardenv1.CallContext{Tenant: "bank", Call: call, Source: "file"}
	at := time.Duration(n) * time.Second
	return sink.Event{
		ID:   sink.EventID("bank", call, sink.RiskFinding, n),
		Type: sink.RiskFinding, Tenant: "bank", Call: call, Source: "callwarden/file", At: at,
		Data: &callwardenv1.RiskFinding{
			Context: about, At: durationpb.New(at), Level: callwardenv1.Level_LEVEL_WARNING, Score: 42,
			Finding: &callwardenv1.Finding{
				Id: fmt.Sprintf("f%d", n), Tactic: "otp_request", Stage: callwardenv1.Stage_STAGE_ASK,
				Leg: callwardenv1.Leg_LEG_CALLER, Words: "read me the code",
				State: callwardenv1.FindingState_FINDING_STATE_CONFIRMED,
			},
		},
	}
}

func segment(call string, n int) sink.Event {
	at := time.Duration(n) * time.Second
	return sink.Event{
		ID:   sink.EventID("bank", call, sink.TranscriptSegment, n),
		Type: sink.TranscriptSegment, Tenant: "bank", Call: call, Source: "callwarden/file", At: at,
		Data: &callwardenv1.TranscriptSegment{
			Context: &callwardenv1.CallContext{Tenant: "bank", Call: call, Source: "file"},
			Leg:     callwardenv1.Leg_LEG_CALLEE, Utterance: int32(n), Final: true,
			Start: durationpb.New(at - time.Second), End: durationpb.New(at), Text: "one two",
		},
	}
}

func startServer(t testing.TB, cfg ServerConfig) *Server {
	t.Helper()
	srv, err := StartServer(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	return srv
}

// listening is a server of its own on a free loopback port.
func listening(t testing.TB) *Server {
	t.Helper()
	cfg := DefaultServerConfig()
	cfg.Listen = "127.0.0.1:0"
	return startServer(t, cfg)
}

func configFor(url string) Config {
	cfg := DefaultConfig()
	cfg.URL = url
	return cfg
}

func open(t testing.TB, cfg Config) *Sink {
	t.Helper()
	s, err := New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Close(ctx)
	})
	return s
}

func publish(t testing.TB, s sink.Sink, events ...sink.Event) {
	t.Helper()
	ctx := within(t, patience)
	for _, ev := range events {
		if err := s.Publish(ctx, ev); err != nil {
			t.Fatal(err)
		}
	}
}

func closeAll(t testing.TB, s sink.Sink) {
	t.Helper()
	if err := s.Close(within(t, patience)); err != nil {
		t.Fatal(err)
	}
}

// dial is an independent client: plain nats.go.
func dial(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	gone := make(chan struct{})
	nc, err := nats.Connect(url, append(opts, nats.ClosedHandler(func(*nats.Conn) { close(gone) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); <-gone })
	return nc
}

// stored is what the stream keeps, as the raw client sees it.
func stored(t testing.TB, nc *nats.Conn, stream string) []*jetstream.RawStreamMsg {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, patience)
	st, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	state := st.CachedInfo().State
	var all []*jetstream.RawStreamMsg
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		m, err := st.GetMsg(ctx, seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// wantOrder checks that the stream holds findings 1 to n of each call, each
// once and in order.
func wantOrder(t testing.TB, msgs []*jetstream.RawStreamMsg, calls, n int) {
	t.Helper()
	next := map[string]int{}
	for _, m := range msgs {
		ev, err := Decode(m.Subject, m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		next[ev.Call]++
		if want := sink.EventID("bank", ev.Call, sink.RiskFinding, next[ev.Call]); ev.ID != want {
			t.Fatalf("call %s: event at %v is number %d in the stream", ev.Call, ev.At, next[ev.Call])
		}
	}
	if len(next) != calls {
		t.Fatalf("%d calls in the stream, want %d", len(next), calls)
	}
	for call, got := range next {
		if got != n {
			t.Errorf("call %s: %d events in the stream, want %d", call, got, n)
		}
	}
}

func TestPublishReachesIndependentSubscriberAsTheBindingSays(t *testing.T) {
	srv := listening(t)
	nc := dial(t, srv.URL())
	sub, err := nc.SubscribeSync("callwarden.v1.>")
	if err != nil {
		t.Fatal(err)
	}
	cfg := configFor(srv.URL())
	cfg.Transcripts = true
	s := open(t, cfg)
	ev := finding("c1", 1)
	ev.Source = `callwarden/fi "le" 100%€`
	ev.Time = time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.FixedZone("", 3600))
	publish(t, s, ev, segment("c1", 2))
	m, err := sub.NextMsgWithContext(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "callwarden.v1.risk.bank.c1" {
		t.Errorf("subject %s", m.Subject)
	}
	want := map[string]string{
		"ce-specversion": "1.0", "ce-id": ev.ID, "ce-type": "callwarden.risk.finding.v1",
		"ce-source": "callwarden/fi%20%22le%22%20100%25%E2%82%AC", "ce-subject": "c1",
		"ce-time": "2026-03-04T04:06:07.89Z", "ce-datacontenttype": "application/json",
		"Nats-Msg-Id": ev.ID,
	}
	for name, value := range want {
		if got := m.Header.Get(name); got != value {
			t.Errorf("header %s is %q, want %q", name, got, value)
		}
	}
	if payload, _ := ev.JSON(); string(m.Data) != string(payload) {
		t.Errorf("payload %s", m.Data)
	}
	if m, err = sub.NextMsgWithContext(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if m.Subject != "callwarden.v1.transcript.bank.c1" || m.Header["ce-time"] != nil {
		t.Errorf("subject %s, time %q", m.Subject, m.Header["ce-time"])
	}
	closeAll(t, s)
	if got, want := s.Stats(), (Stats{Published: 2, Delivered: 2}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	if kept := stored(t, nc, "CALLWARDEN"); len(kept) != 1 {
		t.Errorf("stream keeps %d events, want the finding alone", len(kept))
	}
}

func TestTranscriptsStayInsideUnlessAsked(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Server = startServer(t, DefaultServerConfig())
	s := open(t, cfg)
	publish(t, s, segment("c1", 1))
	closeAll(t, s)
	if got := s.Stats(); got != (Stats{}) {
		t.Errorf("stats %+v", got)
	}
}

func TestSameEventTwiceIsStoredOnce(t *testing.T) {
	srv := listening(t)
	for i, want := range []Stats{
		{Published: 4, Delivered: 3, Duplicates: 1},
		{Published: 4, Duplicates: 4},
	} {
		s := open(t, configFor(srv.URL()))
		publish(t, s, finding("c1", 1), finding("c1", 2), finding("c1", 2), finding("c1", 3))
		closeAll(t, s)
		if got := s.Stats(); got != want {
			t.Errorf("run %d: %+v, want %+v", i, got, want)
		}
	}
	wantOrder(t, stored(t, dial(t, srv.URL()), "CALLWARDEN"), 1, 3)
}

func TestTwoSinksShareOneStream(t *testing.T) {
	srv := listening(t)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			s := open(t, configFor(srv.URL()))
			for n := 1; n <= 200; n++ {
				publish(t, s, finding(fmt.Sprintf("c%d", i), n))
			}
			closeAll(t, s)
		})
	}
	wg.Wait()
	wantOrder(t, stored(t, dial(t, srv.URL()), "CALLWARDEN"), 2, 200)
}

// TestServerRestartLosesNothingAndKeepsOrder restarts the server twice while
// four calls publish.
func TestServerRestartLosesNothingAndKeepsOrder(t *testing.T) {
	const calls, each = 4, 1500
	cfg := DefaultServerConfig()
	cfg.StoreDir, cfg.Listen = t.TempDir(), "127.0.0.1:0"
	srv := startServer(t, cfg)
	cfg.Listen = strings.TrimPrefix(srv.URL(), "nats://")
	s := open(t, configFor(srv.URL()))
	var wg sync.WaitGroup
	third, twoThirds := make(chan struct{}, calls), make(chan struct{}, calls)
	for c := range calls {
		wg.Go(func() {
			for n := 1; n <= each; n++ {
				publish(t, s, finding(fmt.Sprintf("c%d", c), n))
				switch n {
				case each / 3:
					third <- struct{}{}
				case 2 * each / 3:
					twoThirds <- struct{}{}
				}
			}
		})
	}
	for _, reached := range []chan struct{}{third, twoThirds} {
		<-reached
		srv.Shutdown()
		srv = startServer(t, cfg)
	}
	wg.Wait()
	closeAll(t, s)
	st := s.Stats()
	if st.Delivered+st.Duplicates != calls*each || st.Pending != 0 || st.Failed != 0 {
		t.Errorf("stats %+v", st)
	}
	wantOrder(t, stored(t, dial(t, srv.URL()), "CALLWARDEN"), calls, each)
}

func TestServerAwayAtStartIsWaitedFor(t *testing.T) {
	srv := listening(t)
	cfg := DefaultServerConfig()
	cfg.Listen = strings.TrimPrefix(srv.URL(), "nats://")
	url := srv.URL()
	srv.Shutdown()
	s := open(t, configFor(url))
	publish(t, s, finding("c1", 1), finding("c1", 2))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Ready(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Ready without a server: %v", err)
	}
	if st := s.Stats(); st.Pending != 2 {
		t.Errorf("stats %+v", st)
	}
	startServer(t, cfg)
	if err := s.Ready(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	closeAll(t, s)
	wantOrder(t, stored(t, dial(t, url), "CALLWARDEN"), 1, 2)
}

func TestCloseSaysHowManyWereNotDelivered(t *testing.T) {
	srv := listening(t)
	url := srv.URL()
	srv.Shutdown()
	s := open(t, configFor(strings.Replace(url, "nats://", "nats://scott:tiger@", 1)))
	publish(t, s, finding("c1", 1), finding("c1", 2), finding("c2", 1))
	err := s.Close(within(t, 300*time.Millisecond))
	if err == nil || !strings.Contains(err.Error(), "3 of 3 events not delivered to "+url) ||
		!strings.Contains(err.Error(), "connection refused") && !errors.Is(err, nats.ErrNoServers) {
		t.Errorf("Close: %v", err)
	}
	if strings.Contains(err.Error(), "tiger") {
		t.Error("the password is in the error")
	}
	if again := s.Close(context.Background()); again != err { //nolint:errorlint // the very same error
		t.Errorf("second Close: %v", again)
	}
	if err := s.Publish(context.Background(), finding("c1", 3)); !errors.Is(err, ErrClosed) {
		t.Errorf("Publish after Close: %v", err)
	}
	if got, want := s.Stats(), (Stats{Published: 3, Pending: 3}); got != want {
		t.Errorf("stats %+v", got)
	}
}

func TestFullOutboxMakesPublishWait(t *testing.T) {
	srv := listening(t)
	url := srv.URL()
	again := DefaultServerConfig()
	again.Listen = strings.TrimPrefix(url, "nats://")
	srv.Shutdown()
	for name, limit := range map[string]func(*Config){
		"events": func(c *Config) { c.OutboxEvents = 2 },
		"bytes":  func(c *Config) { c.OutboxBytes = 2000 }, // two of some 800
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configFor(url)
			limit(&cfg)
			s := open(t, cfg)
			publish(t, s, finding("c1", 1), finding("c1", 2))
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := s.Publish(ctx, finding("c1", 3)); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "outbox is full") {
				t.Fatalf("Publish into a full outbox: %v", err)
			}
			waited := make(chan error)
			go func() { waited <- s.Publish(context.Background(), finding("c1", 3)) }()
			srv := startServer(t, again)
			if err := <-waited; err != nil {
				t.Fatal(err)
			}
			closeAll(t, s)
			wantOrder(t, stored(t, dial(t, url), "CALLWARDEN"), 1, 3)
			srv.Shutdown()
		})
	}
}

func TestPublishRefusesNamesThatAreNoTokens(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Server = startServer(t, DefaultServerConfig())
	s := open(t, cfg)
	for _, name := range []string{"", "a.b", "a*", ">", "a b", "a\tb", "a\nb", "a\xff", strings.Repeat("x", 300)} {
		ev := finding("c1", 1)
		ev.Call = name
		if err := s.Publish(within(t, patience), ev); !errors.Is(err, ErrName) {
			t.Errorf("call %q: %v", name, err)
		}
		ev = finding("c1", 1)
		ev.Tenant = name
		if err := s.Publish(within(t, patience), ev); !errors.Is(err, ErrName) {
			t.Errorf("tenant %q: %v", name, err)
		}
	}
	closeAll(t, s)
}
