package natssink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/callwarden/callwarden/pipeline/sink"
)

// external is a nats-server as an operator would run it, on a free port.
func external(t testing.TB, set func(*server.Options)) string {
	t.Helper()
	opts := &server.Options{
		ServerName: "external", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 8 << 30,
	}
	set(opts)
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(patience) {
		t.Fatal("server is not ready")
	}
	return "nats://" + srv.Addr().String()
}

func withUser(url, user string) string { return strings.Replace(url, "nats://", "nats://"+user+"@", 1) }

func TestPermissionDeniedIsReportedAndNotRetried(t *testing.T) {
	const api, inbox, risk = "$JS.API.>", "_INBOX.>", "callwarden.v1.risk.>"
	for name, tt := range map[string]struct {
		pub, sub []string
		manage   bool
		failed   int
		err      string
	}{
		"one kind":      {[]string{api, risk}, []string{inbox}, true, 1, `1 of 2 events refused`},
		"no api":        {[]string{"callwarden.v1.>"}, []string{inbox}, true, 0, "manage_stream: false"},
		"no inbox":      {[]string{api, "callwarden.v1.>"}, []string{"foo"}, true, 0, "_INBOX"},
		"api not asked": {[]string{"callwarden.v1.>"}, []string{inbox}, false, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			url := external(t, func(o *server.Options) {
				o.Users = []*server.User{
					{Username: "admin", Password: "pw"},
					{Username: "u", Password: "pw", Permissions: &server.Permissions{
						Publish:   &server.SubjectPermission{Allow: tt.pub},
						Subscribe: &server.SubjectPermission{Allow: tt.sub},
					}},
				}
			})
			cfg := configFor(withUser(url, "u:pw"))
			cfg.ManageStream = tt.manage
			if !tt.manage {
				admin := open(t, configFor(withUser(url, "admin:pw")))
				if err := admin.Ready(within(t, patience)); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, cfg)
			ended := finding("c1", 2)
			ended.Type = sink.CallEnded // its subject is another
			ctx := within(t, patience)
			first := s.Publish(ctx, ended)
			second := s.Publish(ctx, finding("c1", 1))
			err := errors.Join(first, second, s.Close(ctx))
			if ctx.Err() != nil {
				t.Fatal("Close waited for what can never come")
			}
			if tt.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v", err)
			}
			if st := s.Stats(); st.Failed != tt.failed {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestRefusedEventIsCountedAndOthersGoOn(t *testing.T) {
	for name, tt := range map[string]struct {
		server func(*server.Options)
		stream jetstream.StreamConfig
		events int
		stats  Stats
		err    string
	}{
		"payload too large for the server": {
			server: func(o *server.Options) { o.MaxPayload = 2048 },
			stats:  Stats{Published: 3, Delivered: 2, Failed: 1}, err: "maximum payload",
		},
		"too large for the stream": {
			server: func(*server.Options) {},
			stream: jetstream.StreamConfig{MaxMsgSize: 2048},
			stats:  Stats{Published: 3, Delivered: 2, Failed: 1}, err: "message size exceeds maximum",
		},
		"stream full": {
			server: func(*server.Options) {},
			stream: jetstream.StreamConfig{MaxMsgs: 1, Discard: jetstream.DiscardNew},
			stats:  Stats{Published: 3, Delivered: 1, Failed: 2}, err: "maximum messages exceeded",
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := external(t, tt.server)
			if tt.stream.MaxMsgSize+int32(tt.stream.MaxMsgs) > 0 {
				tt.stream.Name, tt.stream.Subjects = "CALLWARDEN", []string{"callwarden.v1.>"}
				js, err := jetstream.New(dial(t, url))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := js.CreateStream(within(t, patience), tt.stream); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, configFor(url))
			big := finding("c1", 2)
			big.Source = "callwarden/" + strings.Repeat("x", 4000)
			publish(t, s, finding("c1", 1), big, finding("c1", 3))
			err := s.Close(within(t, patience))
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "of 3 events refused") {
				t.Errorf("Close: %v", err)
			}
			if got := s.Stats(); got != tt.stats {
				t.Errorf("stats %+v, want %+v", got, tt.stats)
			}
		})
	}
}

func TestStreamIsMadeUpdatedOrLeftAlone(t *testing.T) {
	url := external(t, func(*server.Options) {})
	js, err := jetstream.New(dial(t, url))
	if err != nil {
		t.Fatal(err)
	}
	ready := func(change func(*Config)) (string, error) {
		cfg := configFor(url)
		change(&cfg)
		var lines strings.Builder
		s, err := New(cfg, slog.New(slog.NewTextHandler(&lines, nil)))
		if err != nil {
			t.Fatal(err)
		}
		err = s.Ready(within(t, patience))
		s.Close(within(t, patience))
		return lines.String(), err
	}
	age := func() time.Duration {
		st, err := js.Stream(within(t, patience), "CALLWARDEN")
		if err != nil {
			t.Fatal(err)
		}
		return st.CachedInfo().Config.MaxAge
	}
	for _, step := range []struct {
		age  time.Duration
		want string
	}{{time.Hour, "created"}, {time.Hour, ""}, {2 * time.Hour, "updated"}} {
		lines, err := ready(func(c *Config) { c.MaxAge = step.age })
		if err != nil || !strings.Contains(lines, step.want) || step.want == "" && lines != "" || age() != step.age {
			t.Errorf("max_age %v: %v, age %v, log %s", step.age, err, age(), lines)
		}
	}
	// An operator changes it: now it is theirs.
	st, err := js.Stream(within(t, patience), "CALLWARDEN")
	if err != nil {
		t.Fatal(err)
	}
	theirs := st.CachedInfo().Config
	theirs.MaxAge = 3 * time.Hour
	if _, err := js.UpdateStream(within(t, patience), theirs); err != nil {
		t.Fatal(err)
	}
	lines, err := ready(func(*Config) {})
	if err != nil || !strings.Contains(lines, "left as its operator configured it") || age() != 3*time.Hour {
		t.Errorf("operator's stream: %v, age %v, log %s", err, age(), lines)
	}
	if lines, err = ready(func(c *Config) { c.Stream = "OTHER" }); !errors.Is(err, errStream) || !strings.Contains(err.Error(), `stream "CALLWARDEN" already keeps`) {
		t.Errorf("overlapping stream: %v, log %s", err, lines)
	}
	theirs.Subjects = []string{"callwarden.v1.risk.>"}
	if _, err := js.UpdateStream(within(t, patience), theirs); err != nil {
		t.Fatal(err)
	}
	if _, err = ready(func(*Config) {}); !errors.Is(err, errStream) || !strings.Contains(err.Error(), "does not keep callwarden.v1.call.>") {
		t.Errorf("stream that covers half: %v", err)
	}
}

func TestServerWithoutJetStreamIsTold(t *testing.T) {
	s := open(t, configFor(external(t, func(o *server.Options) { o.JetStream = false })))
	if err := s.Ready(within(t, patience)); !errors.Is(err, errStream) || !strings.Contains(err.Error(), "no JetStream") {
		t.Errorf("Ready: %v", err)
	}
	if err := s.Publish(within(t, patience), finding("c1", 1)); !errors.Is(err, errStream) {
		t.Errorf("Publish: %v", err)
	}
}

func TestStreamThatVanishesIsMadeAgain(t *testing.T) {
	url := external(t, func(*server.Options) {})
	s := open(t, configFor(url))
	if err := s.Ready(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	nc := dial(t, url)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(within(t, patience), "CALLWARDEN"); err != nil {
		t.Fatal(err)
	}
	publish(t, s, finding("c1", 1))
	closeAll(t, s)
	wantOrder(t, stored(t, nc, "CALLWARDEN"), 1, 1)
}

// pair writes a self-signed certificate for 127.0.0.1 and its key.
func pair(t testing.TB, dir, name string) (cert, key string, c tls.Certificate) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	write(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder}))
	if c, err = tls.LoadX509KeyPair(cert, key); err != nil {
		t.Fatal(err)
	}
	return cert, key, c
}

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConnectsWithTLSAndCredentials(t *testing.T) {
	dir := t.TempDir()
	caFile, _, serverCert := pair(t, dir, "server")
	clientCert, clientKey, _ := pair(t, dir, "client")
	otherCA, _, _ := pair(t, dir, "other")
	clients := x509.NewCertPool()
	clientPEM, err := os.ReadFile(clientCert)
	if err != nil {
		t.Fatal(err)
	}
	clients.AppendCertsFromPEM(clientPEM)

	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	public, _ := user.PublicKey()
	write(t, filepath.Join(dir, "user.nk"), seed)
	other, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	otherSeed, _ := other.Seed()
	write(t, filepath.Join(dir, "other.nk"), otherSeed)

	tlsURL := external(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
		o.TLSTimeout = 5
		o.Nkeys = []*server.NkeyUser{{Nkey: public}}
	})
	plainURL := external(t, func(o *server.Options) { o.Username, o.Password = "u", "pw" })
	jwtURL, creds := operatorMode(t, dir)

	for name, tt := range map[string]struct {
		c  Connection
		ok bool
	}{
		"tls, nkey":         {Connection{URL: tlsURL, CA: caFile, Cert: clientCert, Key: clientKey, NKey: filepath.Join(dir, "user.nk")}, true},
		"another nkey":      {Connection{URL: tlsURL, CA: caFile, Cert: clientCert, Key: clientKey, NKey: filepath.Join(dir, "other.nk")}, false},
		"another ca":        {Connection{URL: tlsURL, CA: otherCA, Cert: clientCert, Key: clientKey, NKey: filepath.Join(dir, "user.nk")}, false},
		"server has no tls": {Connection{URL: withUser(plainURL, "u:pw"), CA: caFile}, false},
		"password":          {Connection{URL: withUser(plainURL, "u:pw")}, true},
		"wrong password":    {Connection{URL: withUser(plainURL, "u:no")}, false},
		"creds file":        {Connection{URL: jwtURL, Creds: creds}, true},
		"no creds":          {Connection{URL: jwtURL}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Connection = tt.c
			s := open(t, cfg)
			err := s.Ready(within(t, patience))
			if tt.ok {
				if err != nil {
					t.Fatal(err)
				}
				publish(t, s, finding("c1", 1))
				closeAll(t, s)
				return
			}
			if err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Ready: %v", err)
			}
			if strings.Contains(err.Error(), ":no@") {
				t.Error("the password is in the error")
			}
		})
	}
}

// operatorMode is a server with an operator, one account and one user, and the
// user's credentials file.
func operatorMode(t testing.TB, dir string) (url, creds string) {
	t.Helper()
	key := func(kp nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		if err != nil {
			t.Fatal(err)
		}
		pub, err := kp.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return kp, pub
	}
	must := func(token string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	okp, opub := key(nkeys.CreateOperator())
	akp, apub := key(nkeys.CreateAccount())
	_, syspub := key(nkeys.CreateAccount())
	ukp, upub := key(nkeys.CreateUser())
	oc := jwt.NewOperatorClaims(opub)
	oc.SystemAccount = syspub
	operator, err := jwt.DecodeOperatorClaims(must(oc.Encode(okp)))
	if err != nil {
		t.Fatal(err)
	}
	ac := jwt.NewAccountClaims(apub)
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: 4 << 30, MemoryStorage: -1, Streams: -1, Consumer: -1}
	accounts := new(server.MemAccResolver)
	if err := accounts.Store(apub, must(ac.Encode(okp))); err != nil {
		t.Fatal(err)
	}
	if err := accounts.Store(syspub, must(jwt.NewAccountClaims(syspub).Encode(okp))); err != nil {
		t.Fatal(err)
	}
	userJWT := must(jwt.NewUserClaims(upub).Encode(akp))
	seed, err := ukp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file, err := jwt.FormatUserConfig(userJWT, seed)
	if err != nil {
		t.Fatal(err)
	}
	creds = filepath.Join(dir, "user.creds")
	write(t, creds, file)
	return external(t, func(o *server.Options) {
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{operator}, accounts, syspub
	}), creds
}

func TestFilesThatCannotBeReadAreToldAtTheStart(t *testing.T) {
	for key, set := range map[string]func(*Config){
		"creds": func(c *Config) { c.Creds = "no/such" },
		"nkey":  func(c *Config) { c.NKey = "no/such" },
		"ca":    func(c *Config) { c.CA = "no/such" },
		"cert":  func(c *Config) { c.Cert, c.Key = "no/such", "no/such" },
	} {
		cfg := configFor("nats://127.0.0.1:1")
		set(&cfg)
		if _, err := New(cfg, quiet()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestValidateNamesKeyAndRule(t *testing.T) {
	for want, set := range map[string]func(*Config){
		"url: must not be empty":           func(c *Config) { c.URL = "" },
		`url: scheme "http" must be`:       func(c *Config) { c.URL = "http://a:1" },
		"url: is no URL":                   func(c *Config) { c.URL = "nats://a:1,nats://u:%zz@b" },
		"creds: must be empty":             func(c *Config) { c.Creds, c.NKey = "a", "b" },
		"cert: must be given":              func(c *Config) { c.Cert = "a" },
		`stream: "a.b" must be a name`:     func(c *Config) { c.Stream = "a.b" },
		"max_bytes: -1 must be at least 0": func(c *Config) { c.MaxBytes = -1 },
		"replicas: 0 must be at least 1":   func(c *Config) { c.Replicas = 0 },
		"dedup: 0s must be at least 1s":    func(c *Config) { c.Dedup = 0 },
		"outbox_events: 0 must":            func(c *Config) { c.OutboxEvents = 0 },
		"outbox_bytes: 0 must":             func(c *Config) { c.OutboxBytes = 0 },
		"ack_wait: 0s must":                func(c *Config) { c.AckWait = 0 },
		"max_age: 1m0s must be 0 or at":    func(c *Config) { c.MaxAge = time.Minute },
	} {
		cfg := configFor("nats://127.0.0.1:4222,otherhost:4222")
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		set(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestEmbeddedServerSaysWhatIsTaken(t *testing.T) {
	cfg := DefaultServerConfig()
	cfg.StoreDir, cfg.Listen = t.TempDir(), "127.0.0.1:0"
	first := startServer(t, cfg)
	if _, err := StartServer(cfg, quiet()); err == nil || !strings.Contains(err.Error(), cfg.StoreDir+" is used by another process") {
		t.Errorf("same folder: %v", err)
	}
	second := cfg
	second.StoreDir, second.Listen = "", strings.TrimPrefix(first.URL(), "nats://")
	if _, err := StartServer(second, quiet()); err == nil || !strings.Contains(err.Error(), "cannot listen on "+second.Listen) {
		t.Errorf("same port: %v", err)
	}
	first.Shutdown()
	first.Shutdown()
	startServer(t, cfg) // the folder is free again
	for _, listen := range []string{"127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"} {
		bad := cfg
		bad.Listen = listen
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "listen:") {
			t.Errorf("listen %q: %v", listen, err)
		}
	}
}

func TestTemporaryStoreIsRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	srv := startServer(t, DefaultServerConfig())
	cfg := DefaultConfig()
	cfg.Server = srv
	s := open(t, cfg)
	publish(t, s, finding("c1", 1))
	closeAll(t, s)
	if srv.URL() != "" {
		t.Errorf("listens on %s unasked", srv.URL())
	}
	srv.Shutdown()
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCoversKnowsWildcards(t *testing.T) {
	for _, tt := range []struct {
		pattern, sub string
		want         bool
	}{
		{"callwarden.v1.risk.>", "callwarden.v1.risk.>", true},
		{"callwarden.>", "callwarden.v1.risk.>", true},
		{">", "callwarden.v1.risk.>", true},
		{"callwarden.v1.*.>", "callwarden.v1.risk.>", true},
		{"callwarden.v1.*.*.*", "callwarden.v1.risk.>", false},
		{"callwarden.v1.risk", "callwarden.v1.risk.>", false},
		{"callwarden.v1.risk.>", "callwarden.v1.call.>", false},
		{"callwarden.v1.risk.a.>", "callwarden.v1.risk.>", false},
	} {
		if got := covers(tt.pattern, tt.sub); got != tt.want {
			t.Errorf("covers(%q, %q) = %v", tt.pattern, tt.sub, got)
		}
	}
}

// TestFullOutboxWaitsNoLongerThanAsked has no server in it, so time can be
// made to pass.
func TestFullOutboxWaitsNoLongerThanAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := newOutbox(1, 100)
		if err := box.put(t.Context(), &letter{lane: "a", size: 1000}); err != nil {
			t.Fatalf("a letter larger than the empty outbox: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := box.put(ctx, &letter{lane: "b", size: 1}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("waited %v: %v", time.Since(began), err)
		}
		waiting := make(chan error)
		for range 2 {
			go func() { waiting <- box.put(t.Context(), &letter{lane: "b", size: 1}) }()
		}
		synctest.Wait()
		box.delivered(box.next(), false)
		if err := <-waiting; err != nil { // one fits
			t.Error(err)
		}
		synctest.Wait()
		box.shut()
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("Publish that waits when the sink closes: %v", err)
		}
	})
}

func TestBackOffGrowsToItsBound(t *testing.T) {
	for n := range 100 {
		want := backOffMost
		if n <= 6 {
			want = min(backOffFirst<<max(n-1, 0), backOffMost)
		}
		for range 50 {
			if d := backOff(n); d < want/2 || d > want {
				t.Fatalf("attempt %d waits %v, want %v to %v", n, d, want/2, want)
			}
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for name, calls := range map[string]int{"1 call": 1, "100 calls": 100} {
		b.Run(name, func(b *testing.B) {
			cfg := DefaultConfig()
			cfg.Server = startServer(b, DefaultServerConfig())
			s := open(b, cfg)
			events := make([]sink.Event, calls)
			for i := range events {
				events[i] = finding(fmt.Sprint("c", i), 1)
			}
			ctx := within(b, time.Minute)
			if err := s.Ready(ctx); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				ev := events[n%calls]
				n++
				ev.ID = sink.EventID("bank", ev.Call, ev.Type, n)
				if err := s.Publish(ctx, ev); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Close(ctx); err != nil { // inside the time: it counts as delivered only then
				b.Fatal(err)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkLatency is from Publish to the handler of a plain subscriber.
func BenchmarkLatency(b *testing.B) {
	srv := listening(b)
	cfg := configFor(srv.URL())
	s := open(b, cfg)
	if err := s.Ready(within(b, patience)); err != nil {
		b.Fatal(err)
	}
	sub, err := dial(b, srv.URL()).SubscribeSync("callwarden.v1.>")
	if err != nil {
		b.Fatal(err)
	}
	ctx := within(b, time.Minute)
	n := 0
	for b.Loop() {
		n++
		publish(b, s, finding("c1", n))
		if _, err := sub.NextMsgWithContext(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
