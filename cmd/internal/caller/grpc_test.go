package caller

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/grpcsrc"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/certs/certstest"
)

// grpcServer serves CallService.
func grpcServer(t *testing.T, l *ledger, change func(*grpcsrc.Config)) (address string) {
	t.Helper()
	cfg := grpcsrc.DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	if change != nil {
		change(&cfg)
	}
	src, err := grpcsrc.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, src, l)
	return src.Addr().String()
}

func TestGRPCIsHeardAsSent(t *testing.T) {
	rec := twoLegs(500 * time.Millisecond)
	for codec, want := range map[string]func([]int16) []int16{
		"PCMU": func(pcm []int16) []int16 { return audio.MuLaw.Decode(nil, audio.MuLaw.Encode(nil, pcm)) },
		"PCMA": func(pcm []int16) []int16 { return audio.ALaw.Decode(nil, audio.ALaw.Encode(nil, pcm)) },
		"L16":  func(pcm []int16) []int16 { return pcm },
	} {
		t.Run(codec, func(t *testing.T) {
			root := certstest.NewRoot(t)
			const token = "0123456789abcdef"
			var l ledger
			cfg := DefaultConfig()
			cfg.To = grpcServer(t, &l, func(c *grpcsrc.Config) {
				c.TLS = root.Issue(t, t.TempDir(), "127.0.0.1", time.Now().Add(time.Hour))
				c.ClientsFile = filepath.Join(t.TempDir(), "clients.yml")
				if err := os.WriteFile(c.ClientsFile, []byte("- {name: a, token: "+token+", tenants: [bank]}"), 0o600); err != nil {
					t.Fatal(err)
				}
			})
			var events bytes.Buffer
			cfg.Way, cfg.Codec, cfg.Calls, cfg.From, cfg.Message = GRPC, codec, 3, "+12025550177", 40*time.Millisecond
			cfg.CA, cfg.Token, cfg.Events = root.File, token, &events
			if got := run(t, cfg, rec); !got.Good() || got.Packets != 3*13 || got.Setup == nil {
				t.Fatalf("results %+v", got)
			}
			if len(l.calls) != 3 {
				t.Fatalf("%d calls", len(l.calls))
			}
			for i, call := range l.calls {
				if call.Tenant != "bank" || call.Attributes["from"] != cfg.From || call.Attributes["to"] != cfg.Number || call.Attributes["codec"] != codec {
					t.Errorf("tenant %s, attributes %v", call.Tenant, call.Attributes)
				}
				for _, side := range rec.Legs {
					if !contains(l.heard[i][side.Leg], want(side.PCM)) {
						t.Errorf("call %d: what was heard of the %s is not what was sent", i, side.Leg)
					}
				}
			}
		})
	}
}

func TestGRPCRefusalsAreTold(t *testing.T) {
	rec := twoLegs(100 * time.Millisecond)
	cfg := DefaultConfig()
	cfg.Way, cfg.Calls = GRPC, 2
	cfg.To = grpcServer(t, &ledger{refuse: source.ErrBusy}, nil)
	if got := run(t, cfg, rec); got.Answered != 0 || got.Refused["BUSY"] != 2 {
		t.Errorf("busy: %+v", got)
	}
	cfg.To = "127.0.0.1:1"
	if got := run(t, cfg, rec); got.Answered != 0 || len(got.Failed) == 0 {
		t.Errorf("nobody there: %+v", got)
	}
	for want, change := range map[string]func(*Config){
		"--to: ":      func(c *Config) { c.To = "here" },
		"--codec: ":   func(c *Config) { c.Codec = "G722" },
		"--message: ": func(c *Config) { c.Message = 30 * time.Millisecond },
		"--tls-ca: ":  func(c *Config) { c.CA = "/nowhere" },
	} {
		bad := cfg
		change(&bad)
		if _, err := Run(t.Context(), bad, []*Recording{rec}, &Progress{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s%v", want, err)
		}
	}
}
