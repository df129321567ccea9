package callclient_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/grpcsrc"
	"github.com/callwarden/callwarden/proto/callwarden/callclient"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/certs"
	"github.com/callwarden/callwarden/transcribe/certs/certstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef"

// busy refuses every call, behind TLS and a token.
func busy(t *testing.T) (address string, root *certstest.Root) {
	t.Helper()
	root = certstest.NewRoot(t)
	cfg := grpcsrc.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	cfg.TLS = root.Issue(t, t.TempDir(), "127.0.0.1", time.Now().Add(time.Hour))
	cfg.ClientsFile = filepath.Join(t.TempDir(), "clients.yml")
	if err := os.WriteFile(cfg.ClientsFile, []byte("- {name: crm, token: "+token+", tenants: [bank]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := grpcsrc.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = src.Serve(ctx, func(context.Context, *source.Call) error { return source.ErrBusy })
	}()
	t.Cleanup(func() { cancel(); <-served })
	return src.Addr().String(), root
}

func TestRefusalsHaveTheirReason(t *testing.T) {
	address, root := busy(t)
	store, err := certs.Open(certs.Files{CA: root.File}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token  string
		open   *callwardenv1.CallOpen
		code   codes.Code
		reason string
		retry  bool
	}{
		"busy":         {token, &callwardenv1.CallOpen{RateHz: 8000}, codes.ResourceExhausted, "BUSY", true},
		"no rate":      {token, &callwardenv1.CallOpen{}, codes.InvalidArgument, "OPTION_REFUSED", false},
		"not its call": {token, &callwardenv1.CallOpen{RateHz: 8000, Tenant: "other"}, codes.PermissionDenied, "TENANT_REFUSED", false},
		"no token":     {"", &callwardenv1.CallOpen{RateHz: 8000}, codes.Unauthenticated, "TOKEN_REFUSED", false},
	} {
		client, err := callclient.Dial(callclient.Config{Address: address, TLS: store.Client("127.0.0.1"), Token: c.token})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Begin(t.Context(), c.open)
		reason, retry := callclient.Reason(err)
		if status.Code(err) != c.code || reason != c.reason || (retry > 0) != c.retry {
			t.Errorf("%s: %v, %s, %v", name, err, reason, retry)
		}
		for _, err := range client.Watch(t.Context(), &callwardenv1.WatchRequest{}) {
			if err == nil {
				t.Errorf("%s: there is something to watch", name)
			}
		}
		if _, err := client.Verdict(t.Context(), &callwardenv1.VerdictRequest{}); err == nil {
			t.Errorf("%s: a verdict is taken", name)
		}
		_ = client.Close()
	}
}

func TestEndOfACallIsToldByResponses(t *testing.T) {
	address, stop := serve()
	defer stop()
	client, err := callclient.Dial(callclient.Config{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	call, err := client.Begin(t.Context(), &callwardenv1.CallOpen{RateHz: 8000, Encoding: callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMU})
	if err != nil {
		t.Fatal(err)
	}
	if call.Tenant() != "default" || !strings.HasPrefix(call.ID(), "grpc-") {
		t.Errorf("call %s of %s", call.ID(), call.Tenant())
	}
	if err := call.Send(callclient.Audio{Leg: callwardenv1.Leg_LEG_CALLER, PCM: make([]int16, 160)}); err == nil || !strings.Contains(err.Error(), "PCMU") {
		t.Errorf("PCM in a call of PCMU: %v", err)
	}
	if err := call.Send(callclient.Audio{Leg: callwardenv1.Leg_LEG_CALLER, Samples: make([]byte, 160)}); err != nil {
		t.Error(err)
	}
	if err := call.Keys(callwardenv1.Leg_LEG_CALLER, "nonsense"); err != nil {
		t.Error(err)
	}
	ended := error(nil)
	for _, err := range call.Responses() {
		ended = err
	}
	if reason, _ := callclient.Reason(ended); reason != "OPTION_REFUSED" && ended != nil {
		t.Errorf("the end: %v", ended)
	}
	if err := call.HangUp(""); err == nil {
		t.Error("what was over was hung up on")
	}
	// Leaving the loop ends the call too.
	call, err = client.Begin(t.Context(), &callwardenv1.CallOpen{RateHz: 8000})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range call.Responses() {
		if err != nil {
			t.Error(err)
		}
		break
	}
}
