package webhooksink

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second // for what takes milliseconds on an idle machine

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of the specification's example
	newSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// TestSignatureIsThatOfTheSpecification has the example that implementations of
// Standard Webhooks are tested with.
func TestSignatureIsThatOfTheSpecification(t *testing.T) {
	secrets, err := parseSecrets(oldSecret)
	if err != nil {
		t.Fatal(err)
	}
	got := signer{secrets}.header("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// verify is what a receiver does, written from the specification.
func verify(r *http.Request, body []byte, secret string) error {
	at, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("timestamp %q", r.Header.Get("webhook-timestamp"))
	}
	key, err := base64.StdEncoding.DecodeString(secret[len("whsec_"):])
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", r.Header.Get("webhook-id"), at, body)
	for one := range strings.FieldsSeq(r.Header.Get("webhook-signature")) {
		version, sig, _ := strings.Cut(one, ",")
		if raw, err := base64.StdEncoding.DecodeString(sig); err == nil && version == "v1" && hmac.Equal(raw, mac.Sum(nil)) {
			return nil
		}
	}
	return errors.New("no signature fits")
}

// receiver is a web server that keeps what it is sent.
type receiver struct {
	*httptest.Server
	t      *testing.T
	secret string
	say    func(n int, id string, w http.ResponseWriter) // nil: 204. n counts requests from 1

	mu       sync.Mutex
	requests []string // ids, one a request
	events   []sink.Event
}

func receive(t *testing.T, say func(n int, id string, w http.ResponseWriter)) *receiver {
	t.Helper()
	r := &receiver{t: t, secret: oldSecret, say: say}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender has given up
	}
	if err := verify(req, body, r.secret); err != nil {
		r.t.Errorf("signature: %v", err)
	}
	if req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" {
		r.t.Errorf("%s %s", req.Method, req.Header)
	}
	ev, err := sink.ParseCloudEvent(body)
	if err != nil || ev.ID != req.Header.Get("Webhook-Id") {
		r.t.Errorf("body of %s: %v", req.Header.Get("Webhook-Id"), err)
	}
	r.mu.Lock()
	r.requests = append(r.requests, ev.ID)
	n := len(r.requests)
	r.mu.Unlock()
	status := &kept{ResponseWriter: w, status: http.StatusNoContent}
	if r.say != nil {
		r.say(n, ev.ID, status)
	}
	if status.status/100 == 2 {
		r.mu.Lock()
		r.events = append(r.events, ev)
		r.mu.Unlock()
	}
	if !status.wrote {
		status.WriteHeader(http.StatusNoContent)
	}
}

// kept remembers the status.
type kept struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (k *kept) WriteHeader(status int) {
	k.status, k.wrote = status, true
	k.ResponseWriter.WriteHeader(status)
}

func (r *receiver) seen() (requests, delivered []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.events {
		delivered = append(delivered, ev.ID)
	}
	return slices.Clone(r.requests), delivered
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func quickly() Config {
	cfg := DefaultConfig()
	cfg.RetryFirst, cfg.RetryMost = time.Millisecond, 10*time.Millisecond
	return cfg
}

func endpointOf(t *testing.T, r *receiver) Endpoint {
	return Endpoint{Name: "hook", URL: r.URL, SecretFile: secretFile(t, oldSecret+"\n")}
}

func open(t *testing.T, cfg Config) *Sink {
	t.Helper()
	s, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Close(ctx)
	})
	return s
}

func closed(t *testing.T, s *Sink) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.Close(ctx)
}

func finding(call string, n int, level callwardenv1.Level) sink.Event {
	about := &callwardenv1.CallContext{Tenant: "bank", Call: call, Source: "test"}
	return sink.Event{
		ID: fmt.Sprintf("%s-%d", call, n), Type: sink.RiskFinding, Tenant: "bank", Call: call, Source: "callwarden/test",
		Data: &callwardenv1.RiskFinding{Context: about, At: durationpb.New(time.Duration(n)), Level: level},
	}
}

func as(typ sink.Type, ev sink.Event) sink.Event {
	about := ev.Data.(*callwardenv1.RiskFinding).GetContext()
	ev.Type = typ
	ev.ID += string(typ)
	switch typ {
	case sink.CallStarted:
		ev.Data = &callwardenv1.CallStarted{Context: about}
	case sink.CallAction:
		ev.Data = &callwardenv1.CallAction{Context: about}
	case sink.CallEnded:
		ev.Data = &callwardenv1.CallEnded{Context: about}
	case sink.TranscriptSegment:
		ev.Data = &callwardenv1.TranscriptSegment{Context: about}
	}
	return ev
}

const (
	notice   = callwardenv1.Level_LEVEL_NOTICE
	warning  = callwardenv1.Level_LEVEL_WARNING
	critical = callwardenv1.Level_LEVEL_CRITICAL
)

func publish(t *testing.T, s *Sink, events ...sink.Event) {
	t.Helper()
	for _, ev := range events {
		if err := s.Publish(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEventsOfACallComeInOrderAndSigned(t *testing.T) {
	r := receive(t, nil)
	cfg := quickly()
	cfg.Endpoints = []Endpoint{endpointOf(t, r)}
	s := open(t, cfg)
	want := map[string][]string{}
	for n := range 25 {
		for _, call := range []string{"a", "b", "c"} {
			ev := finding(call, n, warning)
			want[call] = append(want[call], ev.ID)
			publish(t, s, ev)
		}
	}
	if err := closed(t, s); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, ev := range r.events {
		got[ev.Call] = append(got[ev.Call], ev.ID)
	}
	for call := range want {
		if !slices.Equal(got[call], want[call]) {
			t.Errorf("call %s: %v", call, got[call])
		}
	}
	if st := s.Stats()[0]; st != (Stats{Endpoint: "hook", Taken: 75, Delivered: 75, Attempts: 75}) {
		t.Errorf("%+v", st)
	}
	if err := s.Publish(t.Context(), finding("a", 99, warning)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestFailedAttemptIsMadeAgainWithTheSameID(t *testing.T) {
	failing := map[int]int{1: 500, 2: 503, 3: 429, 4: 404, 5: 302, 6: 401}
	r := receive(t, func(n int, _ string, w http.ResponseWriter) {
		if status := failing[n]; status != 0 {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}
	})
	cfg := quickly()
	cfg.Endpoints = []Endpoint{endpointOf(t, r)}
	s := open(t, cfg)
	publish(t, s, finding("a", 1, warning), finding("a", 2, warning))
	if err := closed(t, s); err != nil {
		t.Fatal(err)
	}
	requests, delivered := r.seen()
	want := append(slices.Repeat([]string{"a-1"}, len(failing)+1), "a-2")
	if !slices.Equal(requests, want) || !slices.Equal(delivered, []string{"a-1", "a-2"}) {
		t.Errorf("requests %v, delivered %v", requests, delivered)
	}
	if st := s.Stats()[0]; st.Delivered != 2 || st.Attempts != 8 || st.Away {
		t.Errorf("%+v", st)
	}
}

func TestServerThatGoesAwayLosesNothing(t *testing.T) {
	r := receive(t, nil)
	cfg := quickly()
	cfg.Endpoints = []Endpoint{endpointOf(t, r)}
	cfg.Endpoints[0].URL = "http://" + unused(t)
	s := open(t, cfg)
	publish(t, s, finding("a", 1, warning), finding("b", 1, warning))
	until(t, func() bool { return s.Stats()[0].Attempts >= 3 })
	st := s.Stats()[0]
	if !st.Away || st.Pending != 2 || st.Failed+st.Dropped != 0 {
		t.Errorf("while it is away: %+v", st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); err == nil || !strings.Contains(err.Error(), "webhook endpoint hook: of 2 events 2 not delivered in time") {
		t.Errorf("Close: %v", err)
	}
}

// until waits for what the accounts say: nobody tells when they change.
func until(t *testing.T, there func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !there(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it never came to that")
		}
	}
}

// unused is an address at which nobody listens.
func unused(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestEventThatTheServerDoesNotBearHoldsUpNoOtherCall(t *testing.T) {
	r := receive(t, func(_ int, id string, w http.ResponseWriter) {
		if id == "poison-1" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	cfg := quickly()
	cfg.GiveUp = 300 * time.Millisecond
	cfg.Endpoints = []Endpoint{endpointOf(t, r)}
	s := open(t, cfg)
	publish(t, s, finding("poison", 1, warning))
	for n := range 10 {
		publish(t, s, finding("well", n, warning))
	}
	until(t, func() bool { return s.Stats()[0].Failed == 1 })
	publish(t, s, finding("poison", 2, warning))
	err := closed(t, s)
	if err == nil || !strings.Contains(err.Error(), "of 12 events 1 refused or given up: given up after 300ms") {
		t.Errorf("Close: %v", err)
	}
	if _, delivered := r.seen(); len(delivered) != 11 || delivered[10] != "poison-2" {
		t.Errorf("delivered %v", delivered)
	}
}

func TestRefusedEventIsNotSentAgain(t *testing.T) {
	r := receive(t, func(n int, _ string, w http.ResponseWriter) {
		if n == 1 {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	})
	cfg := quickly()
	cfg.Endpoints = []Endpoint{endpointOf(t, r)}
	s := open(t, cfg)
	publish(t, s, finding("a", 1, warning), finding("a", 2, warning))
	err := closed(t, s)
	if err == nil || !strings.Contains(err.Error(), "1 refused or given up: it answers 422") {
		t.Errorf("Close: %v", err)
	}
	if requests, _ := r.seen(); !slices.Equal(requests, []string{"a-1", "a-2"}) {
		t.Errorf("requests %v", requests)
	}
}

func TestServerThatIsGoneIsLeftAlone(t *testing.T) {
	all := make(chan struct{}) // closed when all wait
	r := receive(t, func(_ int, _ string, w http.ResponseWriter) {
		<-all
		w.WriteHeader(http.StatusGone)
	})
	well := receive(t, nil)
	cfg := quickly()
	cfg.Endpoints = []Endpoint{endpointOf(t, r), endpointOf(t, well)}
	cfg.Endpoints[1].Name = "well"
	cfg.AtOnce = 1
	s := open(t, cfg)
	for n := range 5 {
		publish(t, s, finding("a", n, warning), finding("b", n, warning))
	}
	close(all)
	until(t, func() bool { return s.Stats()[0].Pending == 0 })
	publish(t, s, finding("c", 1, warning))
	err := closed(t, s)
	if err == nil || !strings.Contains(err.Error(), "it answers 410") || strings.Contains(err.Error(), "well") {
		t.Errorf("Close: %v", err)
	}
	if requests, _ := r.seen(); len(requests) != 1 {
		t.Errorf("%d requests", len(requests))
	}
	st := s.Stats()
	if st[0].Failed != 10 || st[0].Dropped != 1 || st[1].Delivered != 11 {
		t.Errorf("%+v", st)
	}
}

func TestFullQueueLosesNewEventsAndNobodyWaits(t *testing.T) {
	release := make(chan struct{})
	r := receive(t, func(int, string, http.ResponseWriter) { <-release })
	cfg := quickly()
	cfg.QueueEvents = 3
	cfg.Endpoints = []Endpoint{endpointOf(t, r)}
	s := open(t, cfg)
	for n := range 10 {
		publish(t, s, finding("a", n, warning))
	}
	if st := s.Stats()[0]; st.Taken != 3 || st.Dropped != 7 {
		t.Errorf("%+v", st)
	}
	close(release)
	if err := closed(t, s); err == nil || !strings.Contains(err.Error(), "of 10 events 7 lost for want of room") {
		t.Errorf("Close: %v", err)
	}
	if _, delivered := r.seen(); !slices.Equal(delivered, []string{"a-0", "a-1", "a-2"}) {
		t.Errorf("delivered %v", delivered)
	}
}

func TestServerThatNeverAnswersIsGivenItsTimeOnly(t *testing.T) {
	release := make(chan struct{})
	r := receive(t, func(n int, _ string, _ http.ResponseWriter) {
		if n == 1 {
			<-release
		}
	})
	defer close(release)
	cfg := quickly()
	cfg.Timeout = 50 * time.Millisecond
	cfg.Endpoints = []Endpoint{endpointOf(t, r)}
	s := open(t, cfg)
	publish(t, s, finding("a", 1, warning))
	if err := closed(t, s); err != nil {
		t.Fatal(err)
	}
	if requests, _ := r.seen(); !slices.Equal(requests, []string{"a-1", "a-1"}) {
		t.Errorf("requests %v", requests)
	}
}

func TestEndpointIsToldWhatItWants(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Endpoint)
		want   []string
	}{
		"all":        {func(*Endpoint) {}, []string{"a-0started", "a-1", "a-2", "a-3", "a-4ended", "b-1", "c-1", "a-5action"}},
		"one type":   {func(e *Endpoint) { e.Types = []string{string(sink.CallEnded)} }, []string{"a-4ended"}},
		"the words":  {func(e *Endpoint) { e.Types = []string{string(sink.TranscriptSegment)} }, []string{"a-2segment"}},
		"one tenant": {func(e *Endpoint) { e.Tenants = []string{"other"} }, []string{"c-1"}},
		"warnings":   {func(e *Endpoint) { e.Level = "warning" }, []string{"a-2", "a-3", "a-4ended", "c-1", "a-5action"}},
		"critical":   {func(e *Endpoint) { e.Level = "critical" }, []string{"a-5action"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, nil)
			cfg := quickly()
			cfg.AtOnce = 1
			cfg.Endpoints = []Endpoint{endpointOf(t, r)}
			c.change(&cfg.Endpoints[0])
			s := open(t, cfg)
			other := finding("c", 1, warning)
			other.Tenant = "other"
			other.Data.(*callwardenv1.RiskFinding).Context.Tenant = "other"
			publish(t, s,
				as(sink.CallStarted, finding("a", 0, 0)), finding("a", 1, notice), finding("a", 2, warning),
				as(sink.TranscriptSegment, finding("a", 2, 0)), finding("a", 3, notice),
				as(sink.CallEnded, finding("a", 4, 0)), finding("b", 1, notice), other,
				as(sink.CallAction, finding("a", 5, 0)))
			if err := closed(t, s); err != nil {
				t.Fatal(err)
			}
			_, got := r.seen()
			for i, id := range got {
				got[i] = strings.NewReplacer("callwarden.call.", "", "callwarden.transcript.", "", ".v1", "").Replace(id)
			}
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			if n := len(s.endpoints[0].reached); name == "warnings" && n != 1 { // call c goes on
				t.Errorf("%d calls are kept that have ended", n-1)
			}
		})
	}
}

func TestBothSecretsSignWhileOneIsReplaced(t *testing.T) {
	for _, secret := range []string{oldSecret, newSecret} {
		r := receive(t, nil)
		r.secret = secret
		cfg := quickly()
		cfg.Endpoints = []Endpoint{{Name: "hook", URL: r.URL, SecretFile: secretFile(t, newSecret+"\n\n"+oldSecret+"\n")}}
		s := open(t, cfg)
		publish(t, s, finding("a", 1, warning))
		if err := closed(t, s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServerIsKnownByItsCertificate(t *testing.T) {
	r := &receiver{t: t, secret: oldSecret}
	r.Server = httptest.NewTLSServer(r)
	defer r.Close()
	r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	var of bytes.Buffer
	if err := pem.Encode(&of, &pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, of.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := quickly()
	trusts, doubts := endpointOf(t, r), endpointOf(t, r)
	trusts.CA, doubts.Name = ca, "doubts"
	cfg.Endpoints = []Endpoint{trusts, doubts}
	s := open(t, cfg)
	publish(t, s, finding("a", 1, warning))
	until(t, func() bool { return s.Stats()[0].Delivered == 1 && s.Stats()[1].Attempts > 0 })
	if requests, _ := r.seen(); len(requests) != 1 {
		t.Errorf("%d requests", len(requests))
	}
}

func TestNoTokenOfAURLIsTold(t *testing.T) {
	var log bytes.Buffer
	cfg := quickly()
	cfg.Endpoints = []Endpoint{{Name: "hook", URL: "http://user:geheim@" + unused(t) + "/t0ken", SecretFile: secretFile(t, oldSecret)}}
	s, err := New(cfg, slog.New(slog.NewJSONHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	publish(t, s, finding("a", 1, warning))
	until(t, func() bool { return s.Stats()[0].Attempts > 0 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	all := s.Close(ctx).Error() + log.String()
	for _, secret := range []string{"geheim", "t0ken", oldSecret[6:]} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is told: %s", secret, all)
		}
	}
}

func TestRetryAfterIsReadAndBounded(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "rubbish": 0, "999999999": afterMost,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:00:00 GMT": 0,
	} {
		resp := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {value}}}
		if got := judge(resp, now); got.after != want || got.err == nil || got.refused || got.gone {
			t.Errorf("%q: %+v, want %v", value, got, want)
		}
	}
}

// secrets are files of secrets and what is wrong with them.
var secrets = []struct{ name, text, fault string }{
	{"one", oldSecret, ""},
	{"two", oldSecret + "\r\n\n" + newSecret, ""},
	{"none", "\n", "0 secrets must be 1 to 4"},
	{"five", strings.Repeat(oldSecret+"\n", 5), "5 secrets"},
	{"no prefix", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "line 1 must be whsec_"},
	{"no base64", oldSecret + "\nwhsec_!!!", "line 2 must be whsec_"},
	{"short", "whsec_AAAA", "24 to 64 bytes"},
}

func TestSecretsAreCheckedAndNeverRepeated(t *testing.T) {
	for _, c := range secrets {
		_, err := parseSecrets(c.text)
		if (err == nil) != (c.fault == "") || err != nil && (!strings.Contains(err.Error(), c.fault) || strings.Contains(err.Error(), "MfKQ")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzParseSecrets: whatever is taken for secrets has the length of one.
func FuzzParseSecrets(f *testing.F) {
	for _, c := range secrets {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseSecrets(text)
		if err == nil && (len(all) == 0 || len(all) > secretsMost) {
			t.Errorf("%d secrets", len(all))
		}
		for _, s := range all {
			if len(s) < secretLeast || len(s) > secretMost {
				t.Errorf("a secret of %d bytes", len(s))
			}
		}
	})
}

func TestConfigNamesKeyValueAndRule(t *testing.T) {
	good := func() Config {
		cfg := DefaultConfig()
		cfg.Endpoints = []Endpoint{{Name: "a", URL: "https://hooks.example.com/x", SecretFile: "s"}}
		return cfg
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"endpoints: []":                         func(c *Config) { c.Endpoints = nil },
		`endpoints[0].name: ""`:                 func(c *Config) { c.Endpoints[0].Name = "" },
		`endpoints[1].name: "a" is taken`:       func(c *Config) { c.Endpoints = append(c.Endpoints, c.Endpoints[0]) },
		"endpoints[0].url: must be one such as": func(c *Config) { c.Endpoints[0].URL = "hooks" },
		`endpoints[0].url: scheme "ftp"`:        func(c *Config) { c.Endpoints[0].URL = "ftp://secret@host/" },
		`endpoints[0].secret_file: ""`:          func(c *Config) { c.Endpoints[0].SecretFile = "" },
		`endpoints[0].types[0]: "risk"`:         func(c *Config) { c.Endpoints[0].Types = []string{"risk"} },
		`endpoints[0].level: "high" must be`:    func(c *Config) { c.Endpoints[0].Level = "high" },
		`endpoints[0].cert: "c" and key: ""`:    func(c *Config) { c.Endpoints[0].Cert = "c" },
		"timeout: 0s must be above 0":           func(c *Config) { c.Timeout = 0 },
		"retry_most: 1ms must be at least":      func(c *Config) { c.RetryMost = time.Millisecond },
		"queue_events: 0 must be at least 1":    func(c *Config) { c.QueueEvents = 0 },
		"at_once: 0 must be at least 1":         func(c *Config) { c.AtOnce = 0 },
		"queue_bytes: -1 must be at least 1":    func(c *Config) { c.QueueBytes = -1 },
		"give_up: -1s must be above 0":          func(c *Config) { c.GiveUp = -time.Second },
	} {
		cfg := good()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, change := range map[string]func(*Endpoint){
		"endpoints[0].secret_file: ": func(*Endpoint) {},
		"endpoints[0].ca: ":          func(e *Endpoint) { e.SecretFile, e.CA = secretFile(t, oldSecret), "missing.pem" },
		"endpoints[0].cert: ":        func(e *Endpoint) { e.SecretFile, e.Cert, e.Key = secretFile(t, oldSecret), "missing.pem", "missing" },
	} {
		cfg := good()
		change(&cfg.Endpoints[0])
		if _, err := New(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestBodyIsTheEventAsJSON(t *testing.T) {
	ev := finding("a", 1, critical)
	body, err := ev.CloudEvent()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(body, &got); err != nil || got["type"] != string(sink.RiskFinding) || got["id"] != "a-1" {
		t.Errorf("%s: %v", body, err)
	}
}
