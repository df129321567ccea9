package caller

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/audiohooksrc"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// hookServer serves AudioHook to who has the key, and returns its URL.
func hookServer(t *testing.T, key, secret string, l *ledger) string {
	t.Helper()
	cfg := audiohooksrc.DefaultConfig()
	dir := t.TempDir()
	for name, text := range map[string]string{"key": key, "secret": secret} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Keys = []audiohooksrc.Key{{File: filepath.Join(dir, "key"), SecretFile: filepath.Join(dir, "secret"), Tenant: "bank"}}
	src, err := audiohooksrc.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, src, l)
	web := httptest.NewServer(src.Handler())
	t.Cleanup(web.Close)
	return "ws" + strings.TrimPrefix(web.URL, "http") + "/v1/audiohook/?integration=7"
}

func TestAudioHookIsHeardAsSentAndSigned(t *testing.T) {
	key, secret := "a key of some length", base64.StdEncoding.EncodeToString([]byte("a secret of some length"))
	rec := twoLegs(500 * time.Millisecond)
	for _, codec := range []string{"PCMU", "L16"} {
		t.Run(codec, func(t *testing.T) {
			var l ledger
			url := hookServer(t, key, secret, &l)
			cfg := DefaultConfig()
			cfg.Way, cfg.To, cfg.Codec, cfg.Calls, cfg.From = AudioHook, url, codec, 3, "+12025550177"
			cfg.APIKey, cfg.ClientSecret = key, secret
			if got := run(t, cfg, rec); !got.Good() || got.Packets != 3*5 || got.Setup == nil {
				t.Fatalf("results %+v", got)
			}
			await(t, "three calls", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.calls) == 3 })
			for i, call := range l.calls {
				if call.Tenant != "bank" || call.Attributes["from"] != cfg.From || call.Attributes["to"] != cfg.Number || call.Attributes["codec"] != codec {
					t.Errorf("tenant %s, attributes %v", call.Tenant, call.Attributes)
				}
				for _, side := range rec.Legs {
					want := side.PCM
					if codec == "PCMU" {
						want = audio.MuLaw.Decode(nil, audio.MuLaw.Encode(nil, want))
					}
					if !contains(l.heard[i][side.Leg], want) {
						t.Errorf("call %d: what was heard of the %s is not what was sent", i, side.Leg)
					}
				}
			}
			cfg.ClientSecret = base64.StdEncoding.EncodeToString([]byte("another secret of length"))
			if got := run(t, cfg, rec); got.Answered != 0 || got.Refused["401 Unauthorized"] != 3 {
				t.Errorf("with another secret: %+v", got)
			}
		})
	}
}

func TestAudioHookRefusalsAndEventsAreTold(t *testing.T) {
	key, secret := "a key of some length", base64.StdEncoding.EncodeToString([]byte("a secret of some length"))
	cfg := DefaultConfig()
	cfg.Way, cfg.Loop, cfg.Span, cfg.APIKey, cfg.ClientSecret = AudioHook, true, time.Second, key, secret
	rec := twoLegs(time.Second)

	busy := ledger{refuse: source.ErrBusy}
	cfg.To = hookServer(t, key, secret, &busy)
	if got := run(t, cfg, rec); got.Answered != 0 || got.Refused["disconnect: error (busy: the call is not monitored)"] != 1 {
		t.Errorf("busy: %+v", got)
	}

	told := ledger{tell: []sink.Event{{ID: "1", Type: sink.RiskFinding, Data: &callwardenv1.RiskFinding{Score: 3}}}}
	cfg.To = hookServer(t, key, secret, &told)
	var printed bytes.Buffer
	cfg.Events = &printed
	if got := run(t, cfg, rec); !got.Good() || got.Events != 1 || !strings.Contains(printed.String(), `{"type":"callwarden.risk.finding.v1"`) {
		t.Errorf("results %+v, printed %s", got, printed.String())
	}
}

func TestAudioHookFlagsAreChecked(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"--to: ":                        func(c *Config) { c.To = "http://x" },
		"--client-secret: needs":        func(c *Config) { c.ClientSecret = "AAAA" },
		"--client-secret: must be":      func(c *Config) { c.APIKey, c.ClientSecret = "k", "%%" },
		"--codec: AudioHook has no G72": func(c *Config) { c.Codec = "G722" },
	} {
		cfg := DefaultConfig()
		cfg.Way, cfg.To = AudioHook, "ws://127.0.0.1:1/"
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v does not begin with %q", err, want)
		}
	}
}
