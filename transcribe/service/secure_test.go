package service

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/certs"
	"github.com/callwarden/callwarden/transcribe/certs/certstest"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

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

func (r *running) ask() error {
	_, err := r.client.GetCapabilities(context.Background(), &callwardenv1.GetCapabilitiesRequest{})
	return err
}

func TestTLSLetsInWhoMayAndTellsOthersWhy(t *testing.T) {
	root, stranger := certstest.NewRoot(t), certstest.NewRoot(t)
	dir := t.TempDir()
	later, past := time.Now().Add(24*time.Hour), time.Now().Add(-time.Hour)
	server := root.Issue(t, dir, "127.0.0.1", later)
	expired := root.Issue(t, t.TempDir(), "127.0.0.1", past)
	with := func(f certs.Files, ca string) certs.Files { f.CA = ca; return f }
	client := root.Issue(t, dir, "client", later)
	for name, c := range map[string]struct {
		server certs.Files
		client grpc.DialOption
		says   []string // one of them; none: all is well
	}{
		"TLS":                          {server, secured(t, certs.Files{CA: root.File}), nil},
		"mutual TLS":                   {with(server, root.File), secured(t, with(client, root.File)), nil},
		"no certificate":               {with(server, root.File), secured(t, certs.Files{CA: root.File}), []string{"certificate required", "broken pipe", "EOF", "reset"}},
		"a stranger's":                 {with(server, root.File), secured(t, with(stranger.Issue(t, t.TempDir(), "client", later), root.File)), []string{"unknown certificate authority", "bad certificate", "broken pipe", "reset"}},
		"an expired one":               {with(server, root.File), secured(t, with(root.Issue(t, t.TempDir(), "client", past), root.File)), []string{"expired certificate", "broken pipe", "reset"}},
		"the server's has expired":     {expired, secured(t, certs.Files{CA: root.File}), []string{"certificate has expired"}},
		"the server is another's":      {server, secured(t, certs.Files{CA: stranger.File}), []string{"unknown authority"}},
		"no TLS where it is asked for": {server, grpc.WithTransportCredentials(insecure.NewCredentials()), []string{"error reading server preface", "EOF", "reset", "broken pipe"}},
		"TLS where there is none":      {certs.Files{}, secured(t, certs.Files{CA: root.File}), []string{"first record does not look like a TLS handshake"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, &transcribetest.Echo{}, func(cfg *Config) { cfg.TLS = c.server }, c.client)
			err := r.ask()
			if len(c.says) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if status.Code(err) != codes.Unavailable {
				t.Fatalf("%v, want UNAVAILABLE", err)
			}
			for _, s := range c.says {
				if strings.Contains(err.Error(), s) {
					return
				}
			}
			t.Errorf("%v says none of %q", err, c.says)
		})
	}
}

func TestTokenIsAskedForButByThoseWhoAskForHealth(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, &transcribetest.Echo{}, func(c *Config) { c.TokenFile = file })
	for value, want := range map[string]codes.Code{
		"": codes.Unauthenticated, "Bearer": codes.Unauthenticated, "Bearer 0123456789abcdeg": codes.Unauthenticated,
		"Basic 0123456789abcdef": codes.Unauthenticated, "Bearer 0123456789abcdef": codes.OK, "bearer 0123456789abcdef": codes.OK,
	} {
		ctx := t.Context()
		if value != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
		}
		if _, err := r.client.GetCapabilities(ctx, &callwardenv1.GetCapabilitiesRequest{}); status.Code(err) != want {
			t.Errorf("authorization %q: %v, want %v", value, err, want)
		}
		wire, err := r.client.Transcribe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = wire.Send(config(nil))
		if _, err := wire.Recv(); status.Code(err) != want || want != codes.OK && reasonOf(err) != reasonTokenRefused {
			t.Errorf("authorization %q: a stream: %v, want %v", value, err, want)
		}
		_ = wire.CloseSend()
	}
	if _, err := healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.TokenFile = file
	if _, err := New(cfg, &transcribetest.Echo{}, quiet()); err == nil || !strings.Contains(err.Error(), "at least 16") {
		t.Errorf("a token of five letters: %v", err)
	}
}
