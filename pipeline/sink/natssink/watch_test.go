package natssink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/callwarden/callwarden/pipeline/sink"
)

var errEnough = errors.New("enough")

// watch runs Watch until n events came and returns them.
func watch(t testing.TB, cfg WatchConfig, n int) (<-chan []sink.Event, func() WatchStats) {
	t.Helper()
	out := make(chan []sink.Event, 1)
	var stats WatchStats
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	wg.Go(func() {
		var got []sink.Event
		st, err := Watch(ctx, cfg, quiet(), func(ev sink.Event) error {
			if got = append(got, ev); len(got) == n {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Errorf("Watch ended with %v after %d of %d events", err, len(got), n)
		}
		stats = st
		out <- got
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return out, func() WatchStats { wg.Wait(); return stats }
}

func watching(url string) WatchConfig {
	cfg := DefaultWatchConfig()
	cfg.URL = url
	return cfg
}

// subscribed waits until the server knows n subscriptions under our subjects.
func subscribed(t testing.TB, srv *Server, n int) {
	t.Helper()
	ctx := within(t, patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if srv.nats.GlobalAccount().Interest("callwarden.v1.transcript.bank.c1") >= n {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("nobody subscribed")
		case <-tick.C:
		}
	}
}

func TestWatchFollowsLiveAndGivesBackWhatWasPublished(t *testing.T) {
	srv := listening(t)
	got, _ := watch(t, watching(srv.URL()), 3)
	subscribed(t, srv, 1)
	cfg := configFor(srv.URL())
	cfg.Transcripts = true
	s := open(t, cfg)
	want := []sink.Event{finding("c1", 1), segment("c1", 2), finding("c1", 3)}
	want[0].Time = time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)
	publish(t, s, want...)
	for i, ev := range <-got {
		if !proto.Equal(ev.Data, want[i].Data) {
			t.Errorf("event %d: data %v", i, ev.Data)
		}
		ev.Data, want[i].Data = nil, nil
		if ev != want[i] {
			t.Errorf("event %d: %+v, want %+v", i, ev, want[i])
		}
	}
	closeAll(t, s)
}

// TestWatchJoinsHistoryAndLiveWithoutGapOrDouble starts watching while events
// are being published.
func TestWatchJoinsHistoryAndLiveWithoutGapOrDouble(t *testing.T) {
	for name, set := range map[string]func(*WatchConfig){
		"all":   func(c *WatchConfig) { c.All = true },
		"since": func(c *WatchConfig) { c.Since = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			const n = 2000
			srv := listening(t)
			s := open(t, configFor(srv.URL()))
			half := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 1; i <= n; i++ {
					publish(t, s, finding("c1", i))
					if i == n/2 {
						close(half)
					}
				}
			})
			<-half
			cfg := watching(srv.URL())
			set(&cfg)
			got, _ := watch(t, cfg, n)
			for i, ev := range <-got {
				if want := sink.EventID("bank", "c1", sink.RiskFinding, i+1); ev.ID != want {
					t.Fatalf("event %d is that of %v", i+1, ev.At)
				}
			}
			wg.Wait()
			closeAll(t, s)
		})
	}
}

func TestWatchWithHistoryGoesOnAfterServerRestart(t *testing.T) {
	cfg := DefaultServerConfig()
	cfg.StoreDir, cfg.Listen = t.TempDir(), "127.0.0.1:0"
	srv := startServer(t, cfg)
	cfg.Listen = strings.TrimPrefix(srv.URL(), "nats://")
	s := open(t, configFor(srv.URL()))
	publish(t, s, finding("c1", 1))
	if err := s.Ready(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	wc := watching(srv.URL())
	wc.All = true
	first := make(chan struct{})
	done := make(chan error)
	var ids []string
	go func() {
		_, err := Watch(within(t, patience), wc, quiet(), func(ev sink.Event) error {
			if ids = append(ids, ev.ID); len(ids) == 1 {
				close(first)
			}
			if len(ids) == 3 {
				return errEnough
			}
			return nil
		})
		done <- err
	}()
	<-first
	srv.Shutdown()
	startServer(t, cfg)
	publish(t, s, finding("c1", 2), finding("c1", 3))
	if err := <-done; !errors.Is(err, errEnough) {
		t.Fatalf("Watch: %v after %d events", err, len(ids))
	}
	for i, id := range ids {
		if id != sink.EventID("bank", "c1", sink.RiskFinding, i+1) {
			t.Errorf("event %d is another", i+1)
		}
	}
	closeAll(t, s)
}

func TestWatchFiltersByTenantAndCall(t *testing.T) {
	srv := listening(t)
	s := open(t, configFor(srv.URL()))
	other := finding("c2", 1)
	publish(t, s, finding("c1", 1), other, finding("c1", 2))
	closeAll(t, s)
	cfg := watching(srv.URL())
	cfg.All, cfg.Tenant, cfg.Call = true, "bank", "c2"
	got, _ := watch(t, cfg, 1)
	if evs := <-got; evs[0].ID != other.ID {
		t.Errorf("got %+v", evs)
	}
}

func TestWatchPassesOverForeignMessagesAndCountsThem(t *testing.T) {
	srv := listening(t)
	got, stats := watch(t, watching(srv.URL()), 2)
	subscribed(t, srv, 1)
	nc := dial(t, srv.URL())
	structured, err := finding("c1", 1).CloudEvent()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*nats.Msg{
		{Subject: "callwarden.v1.risk.bank.c1", Data: []byte("hello")},
		{Subject: "callwarden.v1.risk.bank.c2", Data: structured}, // of another call
		{Subject: "callwarden.v1.risk.bank.c1", Data: structured, Header: nats.Header{"Content-Type": {"application/cloudevents+json; charset=utf-8"}}},
		{Subject: "callwarden.v1.call.bank.c1", Data: nil, Header: nats.Header{"ce-specversion": {"0.3"}}},
		{Subject: "callwarden.v1.risk.bank.c1", Data: structured}, // without a header
	} {
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	<-got
	if st := stats(); st.Foreign != 3 || st.Events != 2 {
		t.Errorf("stats %+v", st)
	}
}

func TestWatchSaysThatThereIsNoStream(t *testing.T) {
	srv := listening(t)
	cfg := watching(srv.URL())
	cfg.All = true
	_, err := Watch(within(t, patience), cfg, quiet(), func(sink.Event) error { return nil })
	if err == nil || !strings.Contains(err.Error(), `stream "CALLWARDEN"`) {
		t.Errorf("Watch: %v", err)
	}
}

func TestWatchEndsQuietlyWithItsContext(t *testing.T) {
	srv := listening(t)
	for _, url := range []string{srv.URL(), "nats://127.0.0.1:1"} {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := Watch(ctx, watching(url), quiet(), func(sink.Event) error { return nil }); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestWatchNeedsNoDeadline(t *testing.T) {
	srv := listening(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	states := make(chan error, 8)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := Follow(ctx, watching(srv.URL()), quiet(), func(err error) { states <- err }, func(Delivery) error { return nil }); err != nil {
			t.Error(err)
			states <- err
		}
	})
	if err := <-states; err != nil {
		t.Errorf("state %v", err)
	}
	cancel()
	wg.Wait()
}

// decodeTable is what Decode makes of messages; also the fuzz seeds.
var decodeTable = []struct {
	name, header, payload, err string
}{
	{"binary", "ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, ""},
	{"upper case names", "CE-SpecVersion: 1.0|Ce-Id: x|CE-SOURCE: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, ""},
	{"json with parameters", "ce-datacontenttype: application/json; charset=utf-8|ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, ""},
	{"unknown extension", "ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-more: 1|ce-type: callwarden.call.ended.v1", ended, ""},
	{"quoted", `ce-specversion: "1.0"|ce-id: "x \"y\""|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1`, ended, ""},
	{"needless percent", "ce-specversion: %31.0|ce-id: x|ce-source: s|ce-subject: %63|ce-type: callwarden.call.ended.v1", ended, ""},
	{"structured", "Content-Type: application/cloudevents+json", `{"specversion":"1.0","id":"x","source":"s","type":"callwarden.call.ended.v1","subject":"c","data":` + ended + `}`, ""},
	{"structured without header", "", `{"specversion":"1.0","id":"x","source":"s","type":"callwarden.call.ended.v1","subject":"c","data":` + ended + `}`, ""},
	{"newer data", "ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", `{"context":{"tenant":"t","call":"c"},"yet_unknown":1}`, ""},

	{"empty", "", "", "no CloudEvents JSON"},
	{"version", "ce-specversion: 0.3|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, "specversion"},
	{"no id", "ce-specversion: 1.0|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, "id: missing"},
	{"unknown type", "ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v9", ended, "type:"},
	{"twice", "ce-specversion: 1.0|ce-id: x|CE-ID: y|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, "header ce-id is there twice"},
	{"half a percent", "ce-specversion: 1.0|ce-id: x%4|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, "header ce-id: percent"},
	{"overlong UTF-8", "ce-specversion: 1.0|ce-id: x%C0%A0|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, "header ce-id: not UTF-8"},
	{"control", "ce-specversion: 1.0|ce-id: x%1b[2J|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, "id: has control"},
	{"time", "ce-time: yesterday|ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, "time:"},
	{"content", "ce-datacontenttype: text/xml|ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", ended, "datacontenttype"},
	{"other data", "ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", `{"context":7}`, "data: is no"},
	{"other call", "ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", `{"context":{"tenant":"t","call":"d"}}`, "another call"},
	{"no tenant", "ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", `{"context":{"call":"c"}}`, "tenant"},
	{"other tenant", "ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", `{"context":{"tenant":"u","call":"c"}}`, "belongs on"},
	{"tenant no token", "ce-specversion: 1.0|ce-id: x|ce-source: s|ce-subject: c|ce-type: callwarden.call.ended.v1", `{"context":{"tenant":"t.u","call":"c"}}`, "no legal NATS subject token"},
	{"batch", "Content-Type: application/cloudevents-batch+json", `[]`, "no CloudEvents JSON"},
}

const ended = `{"context":{"tenant":"t","call":"c","source":"file"},"duration":"61.500s","reason":"end of audio","complete":true}`

func parseHeader(s string) nats.Header {
	h := nats.Header{}
	for line := range strings.SplitSeq(s, "|") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			h[name] = append(h[name], strings.TrimSpace(value))
		}
	}
	return h
}

func TestDecodeChecksForeignMessages(t *testing.T) {
	for _, tt := range decodeTable {
		t.Run(tt.name, func(t *testing.T) {
			ev, err := Decode("callwarden.v1.call.t.c", parseHeader(tt.header), []byte(tt.payload))
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				if ev.Tenant != "t" || ev.Call != "c" || ev.Type != sink.CallEnded || ev.At != 61500*time.Millisecond && tt.name != "newer data" {
					t.Errorf("got %+v", ev)
				}
				return
			}
			if !errors.Is(err, sink.ErrNotEvent) || !strings.Contains(err.Error(), tt.err) ||
				!strings.Contains(err.Error(), `subject "callwarden.v1.call.t.c"`) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
}

// FuzzDecode: whatever the bytes, an event that is accepted can be published
// again, and comes back equal.
func FuzzDecode(f *testing.F) {
	for _, tt := range decodeTable {
		f.Add("callwarden.v1.call.t.c", tt.header, []byte(tt.payload))
	}
	f.Fuzz(func(t *testing.T, subject, header string, payload []byte) {
		ev, err := Decode(subject, parseHeader(header), payload)
		if err != nil {
			if !errors.Is(err, sink.ErrNotEvent) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		data, err := ev.JSON()
		if err != nil {
			t.Fatalf("accepted data cannot be written: %v", err)
		}
		back, err := Decode(subject, headersOf(ev), data)
		if err != nil {
			t.Fatalf("%+v does not come back: %v", ev, err)
		}
		if !proto.Equal(back.Data, ev.Data) && !strings.Contains(fmt.Sprint(ev.Data), "nan") {
			t.Fatalf("data %v came back as %v", ev.Data, back.Data)
		}
		back.Data, ev.Data = nil, nil
		if back != ev {
			t.Fatalf("%+v came back as %+v", ev, back)
		}
	})
}

func TestHeaderValuesSurviveTheRoundTrip(t *testing.T) {
	for _, s := range []string{"", "plain", "Euro € 😀", `a "b" \c`, "100%", "%41", "a\tb\r\n", "~!"} {
		enc := percentEncode(s)
		for _, c := range []byte(enc) {
			if c <= ' ' || c > '~' || c == '"' {
				t.Errorf("%q is encoded as %q", s, enc)
			}
		}
		if got, err := percentDecode(enc); err != nil || got != s {
			t.Errorf("%q came back as %q, %v", s, got, err)
		}
	}
	if got := percentEncode("Euro € 😀"); got != "Euro%20%E2%82%AC%20%F0%9F%98%80" { // the binding's own example
		t.Errorf("got %s", got)
	}
}
