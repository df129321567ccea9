package grpcsrc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/fansink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/certs"
	"github.com/callwarden/callwarden/transcribe/certs/certstest"
)

// watched is a source whose events the test publishes.
func watched(t testing.TB, limits limits, change func(*Config), options ...grpc.DialOption) (*running, *fansink.Sink) {
	t.Helper()
	fan := fansink.New()
	r := impatient(t, (&listener{}).handle, limits, func(c *Config) {
		c.Events, c.Publish = fan, fan.Publish
		if change != nil {
			change(c)
		}
	}, options...)
	return r, fan
}

func publish(t testing.TB, fan *fansink.Sink, tenant, call string, n int, data any) {
	t.Helper()
	about := &callwardenv1.CallContext{Tenant: tenant, Call: call}
	ev := sink.Event{ID: fmt.Sprintf("%s-%d", call, n), Tenant: tenant, Call: call, Time: time.Unix(1e9, 0)}
	switch d := data.(type) {
	case *callwardenv1.CallStarted:
		d.Context, ev.Data, ev.Type = about, d, sink.CallStarted
	case *callwardenv1.RiskLevel:
		d.Context, ev.Data, ev.Type = about, d, sink.RiskLevel
	case *callwardenv1.RiskFinding:
		d.Context, ev.Data, ev.Type = about, d, sink.RiskFinding
	case *callwardenv1.TranscriptSegment:
		d.Context, ev.Data, ev.Type = about, d, sink.TranscriptSegment
	case *callwardenv1.CallEnded:
		d.Context, ev.Data, ev.Type = about, d, sink.CallEnded
	default:
		t.Fatalf("%T", data)
	}
	if err := fan.Publish(t.Context(), ev); err != nil {
		t.Fatal(err)
	}
}

type view struct {
	t    testing.TB
	wire grpc.ServerStreamingClient[callwardenv1.WatchResponse]
}

func (r *running) watch(ctx context.Context, t testing.TB, req *callwardenv1.WatchRequest) view {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	t.Cleanup(cancel)
	wire, err := r.client.Watch(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return view{t, wire}
}

// next are the next n answers in short.
func (v view) next(n int) (all []string) {
	v.t.Helper()
	for range n {
		m, err := v.wire.Recv()
		if err != nil {
			v.t.Fatalf("after %q: %v", all, err)
		}
		switch m := m.Response.(type) {
		case *callwardenv1.WatchResponse_State:
			text := "state " + m.State.GetStarted().GetStarted().GetContext().GetCall()
			if l := m.State.GetLevel().GetLevel(); l != nil {
				text += " " + l.GetLevel().String()[len("LEVEL_"):]
			}
			all = append(all, fmt.Sprintf("%s %d", text, len(m.State.GetFindings())))
		case *callwardenv1.WatchResponse_Current:
			all = append(all, fmt.Sprintf("current %d", m.Current.GetCalls()))
		case *callwardenv1.WatchResponse_Missed:
			all = append(all, "missed")
		case *callwardenv1.WatchResponse_Event:
			all = append(all, strings.TrimPrefix(fmt.Sprintf("%T", m.Event.GetData()), "*callwardenv1.CallEvent_")+" "+m.Event.GetId())
		}
	}
	return all
}

func (v view) expect(want ...string) {
	v.t.Helper()
	if got := v.next(len(want)); !slices.Equal(got, want) {
		v.t.Errorf("got %q, want %q", got, want)
	}
}

func (v view) end() error {
	for {
		if _, err := v.wire.Recv(); err != nil {
			return err
		}
	}
}

func TestWatcherSeesWhatGoesOnThenWhatHappens(t *testing.T) {
	r, fan := watched(t, defaultLimits(), nil)
	publish(t, fan, "bank", "a", 1, &callwardenv1.CallStarted{})
	publish(t, fan, "bank", "a", 2, &callwardenv1.RiskFinding{Finding: &callwardenv1.Finding{Id: "f"}})
	publish(t, fan, "bank", "a", 3, &callwardenv1.RiskLevel{Level: callwardenv1.Level_LEVEL_WARNING})
	publish(t, fan, "other", "b", 1, &callwardenv1.CallStarted{})
	bank := r.watch(t.Context(), t, &callwardenv1.WatchRequest{Tenant: "bank", Transcripts: true})
	high := r.watch(t.Context(), t, &callwardenv1.WatchRequest{Level: callwardenv1.Level_LEVEL_CRITICAL})
	bank.expect("state a WARNING 1", "current 1")
	high.expect("current 0")
	publish(t, fan, "bank", "a", 4, &callwardenv1.TranscriptSegment{Final: true})
	publish(t, fan, "other", "b", 2, &callwardenv1.RiskLevel{Level: callwardenv1.Level_LEVEL_CRITICAL})
	publish(t, fan, "other", "b", 3, &callwardenv1.CallEnded{})
	publish(t, fan, "bank", "a", 5, &callwardenv1.CallEnded{})
	bank.expect("Transcript a-4", "Ended a-5")
	high.expect("state b CRITICAL 0", "Ended b-3")
}

func TestWatchRefusesWhatItDoesNotKnow(t *testing.T) {
	r, _ := watched(t, defaultLimits(), func(c *Config) { c.Watchers = 1 })
	for text, req := range map[string]*callwardenv1.WatchRequest{
		"tenant: ": {Tenant: "a.b"}, "call: ": {Call: "*"}, "level: ": {Level: 9},
	} {
		if err := r.watch(t.Context(), t, req).end(); reasonOf(err) != "OPTION_REFUSED" || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	r.watch(t.Context(), t, &callwardenv1.WatchRequest{}).expect("current 0")
	if err := r.watch(t.Context(), t, &callwardenv1.WatchRequest{}).end(); reasonOf(err) != "FULL" {
		t.Errorf("a second watcher: %v", err)
	}
}

func TestNothingToWatchIsUnimplemented(t *testing.T) {
	r := start(t, (&listener{}).handle, nil)
	if err := r.watch(t.Context(), t, &callwardenv1.WatchRequest{}).end(); status.Code(err) != codes.Unimplemented {
		t.Errorf("Watch: %v", err)
	}
	if _, err := r.client.Verdict(t.Context(), &callwardenv1.VerdictRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("Verdict: %v", err)
	}
}

func TestWatcherThatNeverReadsGoes(t *testing.T) {
	limits := defaultLimits()
	limits.read = 100 * ms
	r, fan := watched(t, limits, nil)
	publish(t, fan, "bank", "a", 1, &callwardenv1.CallStarted{})
	deaf := r.watch(t.Context(), t, &callwardenv1.WatchRequest{Transcripts: true})
	good := r.watch(t.Context(), t, &callwardenv1.WatchRequest{})
	good.expect("state a 0", "current 1")
	until(t, "both watch", func() bool { watchers, _ := fan.Stats(); return watchers == 2 })
	long := strings.Repeat("word ", 1000)
	until(t, "the watcher is gone", func() bool {
		publish(t, fan, "bank", "a", 2, &callwardenv1.TranscriptSegment{Final: true, Text: long})
		watchers, _ := fan.Stats()
		return watchers == 1
	})
	if err := deaf.end(); reasonOf(err) != "EVENTS_NOT_READ" {
		t.Errorf("%v", err)
	}
	publish(t, fan, "bank", "a", 3, &callwardenv1.CallEnded{})
	good.expect("Ended a-3")
}

func TestWatchersAreToldOfTheLastCallBeforeTheServerEnds(t *testing.T) {
	r, fan := watched(t, defaultLimits(), nil)
	publish(t, fan, "bank", "a", 1, &callwardenv1.CallStarted{}) // of another way in
	v := r.watch(t.Context(), t, &callwardenv1.WatchRequest{})
	v.expect("state a 0", "current 1")
	r.end()
	until(t, "the door is closed", func() bool {
		r.door.mu.Lock()
		defer r.door.mu.Unlock()
		return r.door.draining
	})
	if err := r.watch(t.Context(), t, &callwardenv1.WatchRequest{}).end(); reasonOf(err) != "DRAINING" {
		t.Errorf("a new watcher: %v", err)
	}
	publish(t, fan, "bank", "a", 2, &callwardenv1.CallEnded{})
	v.expect("Ended a-2")
	if err := v.end(); reasonOf(err) != "DRAINING" || status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	r.stop()
}

const clients = `
- name: crm
  token: 0123456789abcdef-crm
  tenants: [bank]
- name: wall
  token: 0123456789abcdef-wall
  tenants: [bank, other]
  may: [watch]
- name: ops
  token: 0123456789abcdef-ops
  tenants: ["*"]
- name: former
  token: 0123456789abcdef-former
  tenants: [bank]
  expires: 2020-01-01T00:00:00Z
`

func clientsFile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clients.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTokensLetInWhoMayForWhom(t *testing.T) {
	r, _ := watched(t, defaultLimits(), func(c *Config) { c.ClientsFile = clientsFile(t, clients) })
	ok := "OK"
	for name, c := range map[string]struct {
		token, tenant          string
		stream, watch, verdict string
		as                     string // the tenant of the call
	}{
		"none":                     {"", "", "TOKEN_REFUSED", "TOKEN_REFUSED", "TOKEN_REFUSED", ""},
		"unknown":                  {"0123456789abcdef", "", "TOKEN_REFUSED", "TOKEN_REFUSED", "TOKEN_REFUSED", ""},
		"expired":                  {"0123456789abcdef-former", "bank", "TOKEN_REFUSED", "TOKEN_REFUSED", "TOKEN_REFUSED", ""},
		"good, says no tenant":     {"0123456789abcdef-crm", "", ok, ok, ok, "bank"},
		"good, says it":            {"0123456789abcdef-crm", "bank", ok, ok, ok, "bank"},
		"another tenant's":         {"0123456789abcdef-crm", "other", "TENANT_REFUSED", "TENANT_REFUSED", "TENANT_REFUSED", ""},
		"without the right":        {"0123456789abcdef-wall", "other", "RIGHT_REFUSED", ok, "RIGHT_REFUSED", ""},
		"for all, says no tenant":  {"0123456789abcdef-ops", "", ok, ok, ok, "default"},
		"for all, says any tenant": {"0123456789abcdef-ops", "third", ok, ok, ok, "third"},
	} {
		ctx := t.Context()
		if c.token != "" {
			ctx = as(ctx, c.token)
		}
		got, err := r.callAs(ctx, t, opens(&callwardenv1.CallOpen{Tenant: c.tenant}), hangsUp()).hear()
		if reasonOf(err) != c.stream {
			t.Errorf("%s: Stream: %v, want %s", name, err, c.stream)
		}
		if err == nil && got[0].GetOpened().GetTenant() != c.as {
			t.Errorf("%s: the call is %v", name, got[0])
		}
		v := r.watch(ctx, t, &callwardenv1.WatchRequest{Tenant: c.tenant})
		if c.watch == ok {
			v.expect("current 0")
		} else if err := v.end(); reasonOf(err) != c.watch {
			t.Errorf("%s: Watch: %v, want %s", name, err, c.watch)
		}
		if _, err := r.client.Verdict(ctx, &callwardenv1.VerdictRequest{Tenant: c.tenant, Call: "c", Action: callwardenv1.Action_ACTION_SCAM}); reasonOf(err) != c.verdict {
			t.Errorf("%s: Verdict: %v, want %s", name, err, c.verdict)
		}
	}
	if _, err := healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	ask := func(ctx context.Context) error {
		wire, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = wire.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		_, err = wire.Recv()
		_ = wire.CloseSend()
		return err
	}
	if err := ask(t.Context()); reasonOf(err) != "TOKEN_REFUSED" {
		t.Errorf("reflection without a token: %v", err)
	}
	if err := ask(as(t.Context(), "0123456789abcdef-crm")); err != nil {
		t.Errorf("reflection: %v", err)
	}
	if st := r.Stats(); st.Stranger < 9 {
		t.Errorf("stats %+v", st)
	}
}

func TestWatcherOfSeveralTenantsSeesNoOther(t *testing.T) {
	r, fan := watched(t, defaultLimits(), func(c *Config) { c.ClientsFile = clientsFile(t, clients) })
	v := r.watch(as(t.Context(), "0123456789abcdef-wall"), t, &callwardenv1.WatchRequest{})
	v.expect("current 0")
	for _, tenant := range []string{"third", "other", "bank"} {
		publish(t, fan, tenant, tenant, 1, &callwardenv1.CallStarted{})
	}
	v.expect("Started other-1", "Started bank-1")
}

func TestTokenThatIsTakenAwayEndsWatching(t *testing.T) {
	limits := defaultLimits()
	limits.look = 10 * ms
	file := clientsFile(t, clients)
	r, _ := watched(t, limits, func(c *Config) { c.ClientsFile = file })
	v := r.watch(as(t.Context(), "0123456789abcdef-wall"), t, &callwardenv1.WatchRequest{Tenant: "bank"})
	v.expect("current 0")
	if err := os.WriteFile(file, []byte("- {name: crm, token: nonsense"), 0o600); err != nil { // halfway through an edit
		t.Fatal(err)
	}
	r.grants.mu.Lock()
	r.grants.looked = time.Time{}
	r.grants.mu.Unlock()
	if _, err := r.client.Verdict(as(t.Context(), "0123456789abcdef-crm"), &callwardenv1.VerdictRequest{Call: "c", Action: callwardenv1.Action_ACTION_SCAM}); err != nil {
		t.Errorf("after half an edit: %v", err)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(clients, "- name: wall\n  token: 0123456789abcdef-wall", "- name: wall\n  token: 0123456789abcdef-another")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.end(); reasonOf(err) != "TOKEN_REFUSED" {
		t.Errorf("%v", err)
	}
}

func TestClientsFileNamesEntryAndRule(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "0 tokens",
		"hello":                     "YAML list",
		"- {name: a, secret: b}":    "YAML list",
		"- {name: a b}":             `entry 1: name: "a b"`,
		"- {name: a, token: short}": "entry 1: token: the one of a must be at least 16",
		"- {name: a, token: '0123456789 abcdef', tenants: [x]}":                                                  "entry 1: token: ",
		"- {name: a, token: 0123456789abcdef}":                                                                   "entry 1: tenants: a has none",
		"- {name: a, token: 0123456789abcdef, tenants: ['*', x]}":                                                `entry 1: tenants: "*" of a`,
		"- {name: a, token: 0123456789abcdef, tenants: [x], may: [read]}":                                        `entry 1: may: "read" of a`,
		"- {name: a, token: 0123456789abcdef, tenants: [x]}\n- {name: b, token: 0123456789abcdef, tenants: [y]}": "entry 2: token: a and b",
		strings.Repeat("#", maxFile+1):                                                                           "are the most",
	} {
		cfg := DefaultConfig()
		cfg.Listen, cfg.ClientsFile = "127.0.0.1:0", clientsFile(t, text)
		_, err := New(cfg, quiet())
		if err == nil || !strings.HasPrefix(err.Error(), "clients_file: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "0123456789") {
			t.Errorf("the error tells a token: %v", err)
		}
	}
	cfg := DefaultConfig()
	cfg.ClientsFile = "/nowhere/clients.yml"
	if _, err := New(cfg, quiet()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// Whatever the file says, it is refused or what it grants is whole, and no
// token is kept as it was written.
func FuzzClientsFile(f *testing.F) {
	f.Add([]byte(clients))
	f.Add([]byte("- {name: a, token: 0123456789abcdef, tenants: ['*'], expires: 2030-01-01}"))
	f.Add([]byte("[]"))
	f.Add([]byte("- &a {name: a}\n- *a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := parseGrants(data)
		if (err == nil) == (len(all) == 0) {
			t.Fatalf("%d grants, %v", len(all), err)
		}
		for digest, g := range all {
			if g.Token != "" || g.Name == "" || len(g.Tenants) == 0 || digest == sha256.Sum256(nil) {
				t.Fatalf("%+v", g)
			}
		}
	})
}

func TestVerdictIsAnEventThatWatchersSee(t *testing.T) {
	r, _ := watched(t, defaultLimits(), func(c *Config) { c.ClientsFile = clientsFile(t, clients) })
	ctx := as(t.Context(), "0123456789abcdef-crm")
	v := r.watch(ctx, t, &callwardenv1.WatchRequest{})
	v.expect("current 0")
	req := &callwardenv1.VerdictRequest{
		Call: "c-9", Action: callwardenv1.Action_ACTION_NOT_SCAM, Note: "her own son, code 4729\nsaid so", Who: "ann", Request: "r1",
	}
	first, err := r.client.Verdict(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	m, err := v.wire.Recv()
	if err != nil {
		t.Fatal(err)
	}
	ev := m.GetEvent()
	a := ev.GetAction()
	if ev.GetId() != first.GetId() || a.GetContext().GetTenant() != "bank" || a.GetContext().GetCall() != "c-9" || a.GetWho() != "crm/ann" ||
		a.GetAction() != callwardenv1.Action_ACTION_NOT_SCAM || a.GetNote() != "her own son, code ####\nsaid so" || time.Since(a.GetWhen().AsTime()) > time.Minute || ev.GetTime() == nil {
		t.Errorf("event %v", ev)
	}
	again, err := r.client.Verdict(ctx, req)
	if err != nil || again.GetId() != first.GetId() {
		t.Errorf("said again: %v, %v", again, err)
	}
	req.Request = ""
	other, err := r.client.Verdict(ctx, req)
	if err != nil || other.GetId() == first.GetId() {
		t.Errorf("another: %v, %v", other, err)
	}
}

func TestVerdictNamesFieldAndRule(t *testing.T) {
	r, _ := watched(t, defaultLimits(), nil)
	good := callwardenv1.Action_ACTION_SCAM
	for text, req := range map[string]*callwardenv1.VerdictRequest{
		"tenant: ":  {Tenant: "a b", Call: "c", Action: good},
		"call: ":    {Action: good},
		"action: ":  {Call: "c"},
		"action: A": {Call: "c", Action: callwardenv1.Action_ACTION_PROMPT_PLAYED},
		"note: it":  {Call: "c", Action: good, Note: strings.Repeat("a", 2001)},
		"note: it ": {Call: "c", Action: good, Note: "\x1b[31m"},
		"note: the": {Call: "c", Action: callwardenv1.Action_ACTION_NOTE},
		"who: 129":  {Call: "c", Action: good, Who: strings.Repeat("a", 129)},
		"who: must": {Call: "c", Action: good, Who: "a\nb"},
		"request: ": {Call: "c", Action: good, Request: strings.Repeat("a", 257)},
		"undoes: ":  {Call: "c", Action: good, Undoes: "a b"},
	} {
		if _, err := r.client.Verdict(t.Context(), req); reasonOf(err) != "OPTION_REFUSED" || !strings.Contains(status.Convert(err).Message(), strings.TrimSpace(text)) {
			t.Errorf("%s: %v", text, err)
		}
	}
	r.cfg.Publish = func(context.Context, sink.Event) error { return errors.New("our server is away") }
	_, err := r.client.Verdict(t.Context(), &callwardenv1.VerdictRequest{Call: "c", Action: good})
	if reasonOf(err) != "NOT_PUBLISHED" || status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "away") {
		t.Errorf("%v", err)
	}
}

func secured(t *testing.T, files certs.Files) grpc.DialOption {
	t.Helper()
	store, err := certs.Open(files, quiet())
	if err != nil {
		t.Fatal(err)
	}
	cfg := store.Client("127.0.0.1")
	cfg.NextProtos = []string{"h2"}
	return grpc.WithTransportCredentials(credentials.NewTLS(cfg))
}

func TestTLSLetsInWhoMay(t *testing.T) {
	root, stranger := certstest.NewRoot(t), certstest.NewRoot(t)
	later := time.Now().Add(24 * time.Hour)
	server := root.Issue(t, t.TempDir(), "127.0.0.1", later)
	with := func(f certs.Files, ca string) certs.Files { f.CA = ca; return f }
	client := root.Issue(t, t.TempDir(), "client", later)
	foreign := stranger.Issue(t, t.TempDir(), "client", later)
	for name, c := range map[string]struct {
		server certs.Files
		client grpc.DialOption
		want   codes.Code
	}{
		"TLS":                        {server, secured(t, certs.Files{CA: root.File}), codes.OK},
		"mutual TLS":                 {with(server, root.File), secured(t, with(client, root.File)), codes.OK},
		"no certificate":             {with(server, root.File), secured(t, certs.Files{CA: root.File}), codes.Unavailable},
		"a stranger's":               {with(server, root.File), secured(t, with(foreign, root.File)), codes.Unavailable},
		"no TLS where there is some": {server, grpc.WithTransportCredentials(insecure.NewCredentials()), codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := watched(t, defaultLimits(), func(cfg *Config) { cfg.TLS = c.server }, c.client)
			_, err := r.client.Verdict(t.Context(), &callwardenv1.VerdictRequest{Call: "c", Action: callwardenv1.Action_ACTION_SCAM})
			if status.Code(err) != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
			if c.want != codes.OK {
				until(t, "it is counted", func() bool { return r.Stats().Stranger > 0 })
			}
		})
	}
}

func TestConfigNamesKeyAndRule(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"listen: ":                  func(c *Config) { c.Listen = "8082" },
		"tls.cert: ":                func(c *Config) { c.TLS.Cert = "x" },
		"tls.cert: it":              func(c *Config) { c.TLS.CA = "x" },
		`tenant: "a.b"`:             func(c *Config) { c.Tenant = "a.b" },
		"calls: 0 must be":          func(c *Config) { c.Calls = 0 },
		"watchers: 100001 must be":  func(c *Config) { c.Watchers = 100_001 },
		"media_timeout: 1ms must ":  func(c *Config) { c.MediaTimeout = ms },
		"tls: reading certificate ": func(c *Config) { c.TLS.Cert, c.TLS.Key = "/nowhere", "/nowhere" },
		"listen: listen tcp":        func(c *Config) { c.Listen = "256.0.0.1:1" },
	} {
		cfg := DefaultConfig()
		cfg.Listen = "127.0.0.1:0"
		change(&cfg)
		if _, err := New(cfg, quiet()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v does not begin with %q", err, want)
		}
	}
}

func TestSourceThatIsNotServedGivesItsAddressBack(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	s, err := New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = s.Addr().String()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

// Connections of every sort, a thousand of them, leave nothing behind.
func TestThousandConnectionsLeaveNothingBehind(t *testing.T) {
	r, fan := watched(t, defaultLimits(), func(c *Config) { c.Calls = 10_000 })
	kinds := []func(conn *grpc.ClientConn, ctx context.Context, cancel func()){
		func(conn *grpc.ClientConn, ctx context.Context, _ func()) { // a whole call
			wire, err := callwardenv1.NewCallServiceClient(conn).Stream(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			l := &line{t, wire}
			l.say(opens(&callwardenv1.CallOpen{}), sounds(callerLeg, make([]byte, 3200)...), hangsUp())
			if _, err := l.hear(); err != nil {
				t.Error(err)
			}
		},
		func(conn *grpc.ClientConn, ctx context.Context, cancel func()) { // goes away in the middle
			if wire, err := callwardenv1.NewCallServiceClient(conn).Stream(ctx); err == nil {
				_ = wire.Send(opens(&callwardenv1.CallOpen{}))
				_, _ = wire.Recv()
				cancel()
			}
		},
		func(conn *grpc.ClientConn, ctx context.Context, _ func()) { // rubbish
			if wire, err := callwardenv1.NewCallServiceClient(conn).Stream(ctx); err == nil {
				_ = wire.Send(sounds(callerLeg, 1))
				_, _ = wire.Recv()
			}
		},
		func(conn *grpc.ClientConn, ctx context.Context, cancel func()) { // watches for a moment
			if wire, err := callwardenv1.NewCallServiceClient(conn).Watch(ctx, &callwardenv1.WatchRequest{}); err == nil {
				_, _ = wire.Recv()
				cancel()
			}
		},
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, 50)
	for i := range 1000 {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			conn, err := grpc.NewClient("passthrough:///"+r.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			kinds[i%len(kinds)](conn, ctx, cancel)
		})
	}
	wait.Wait()
	until(t, "all are gone", func() bool {
		watchers, _ := fan.Stats()
		return r.inside() == 0 && watchers == 0 && r.Stats().Calls == 0
	})
	r.stop() // Serve returns when its goroutines have ended; goleak looks for others
	if st := r.Stats(); st.Begun != 500 || st.Malformed != 250 {
		t.Errorf("stats %+v", st)
	}
}
