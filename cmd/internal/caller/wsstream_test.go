package caller

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/forksrc"
	"github.com/callwarden/callwarden/pipeline/source/twiliosrc"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// socketSource is a way in over WebSockets.
type socketSource interface {
	source.Source
	Handler() http.Handler
}

// socketServer serves src and returns the URL of its WebSocket.
func socketServer(t *testing.T, src socketSource, name string, l *ledger) string {
	t.Helper()
	serve(t, src, l)
	web := httptest.NewServer(src.Handler())
	t.Cleanup(web.Close)
	return "ws" + strings.TrimPrefix(web.URL, "http") + "/v1/" + name + "/"
}

// heardOf runs the calls and waits until their source has heard them.
func heardOf(t *testing.T, cfg Config, rec *Recording, l *ledger) *Results {
	t.Helper()
	got := run(t, cfg, rec)
	await(t, "the calls", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.calls) == got.Answered })
	return got
}

func TestMediaStreamsOfEveryDialectAreHeardAsSent(t *testing.T) {
	rec := twoLegs(500 * time.Millisecond)
	for _, c := range []struct {
		dialect, codec, said string
		coded                func([]int16) []int16
	}{
		{"twilio", "PCMU", "PCMU/8000", muLawed},
		{"signalwire", "L16", "L16/8000", nil},
		{"telnyx", "PCMA", "PCMA/8000", func(pcm []int16) []int16 { return audio.ALaw.Decode(nil, audio.ALaw.Encode(nil, pcm)) }},
		{"telnyx", "L16", "L16/8000", nil},
		{"exotel", "L16", "L16/8000", nil},
	} {
		t.Run(c.dialect+" "+c.codec, func(t *testing.T) {
			src, err := twiliosrc.New(twiliosrc.DefaultConfig(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			var l ledger
			cfg := DefaultConfig()
			cfg.Way, cfg.To, cfg.Dialect, cfg.Codec, cfg.Calls = Twilio, socketServer(t, src, "twilio", &l), c.dialect, c.codec, 3
			cfg.Params, cfg.Reorder, cfg.Jitter = []string{"queue=fraud"}, 3, 60*time.Millisecond
			if got := heardOf(t, cfg, rec, &l); !got.Good() || got.Codec != c.codec {
				t.Fatalf("results %+v", got)
			}
			for i, call := range l.calls {
				for name, want := range map[string]string{"from": cfg.From, "to": cfg.Number, "queue": "fraud", "codec": c.said} {
					if call.Attributes[name] != want {
						t.Errorf("%s is %q, want %q", name, call.Attributes[name], want)
					}
				}
				for _, side := range rec.Legs {
					want := side.PCM
					if c.coded != nil {
						want = c.coded(want)
					}
					if !contains(l.heard[i][side.Leg], want) {
						t.Errorf("call %d: what was heard of the %s is not what was sent", i, side.Leg)
					}
				}
			}
			if st := src.Stats(); st.Lost+st.Late+st.Malformed > 0 {
				t.Errorf("counted %+v", st)
			}
		})
	}
}

func muLawed(pcm []int16) []int16 { return audio.MuLaw.Decode(nil, audio.MuLaw.Encode(nil, pcm)) }

func TestMediaStreamsAreSigned(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	config := twiliosrc.DefaultConfig()
	config.Accounts = []twiliosrc.Account{{AuthTokenFile: file, Tenant: "bank"}}
	src, err := twiliosrc.New(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var l ledger
	rec := twoLegs(100 * time.Millisecond)
	cfg := DefaultConfig()
	cfg.Way, cfg.To, cfg.AuthToken = Twilio, socketServer(t, src, "twilio", &l), token
	if got := heardOf(t, cfg, rec, &l); !got.Good() || l.calls[0].Tenant != "bank" {
		t.Errorf("results %+v", got)
	}
	cfg.AuthToken = "another"
	if got := run(t, cfg, rec); got.Refused["401 Unauthorized"] != 1 {
		t.Errorf("with another token: %+v", got)
	}
}

// safe is a writer for many.
type safe struct {
	mu sync.Mutex
	bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.Write(p)
}

func TestPromptsAndEventsComeBack(t *testing.T) {
	ev := sink.Event{
		ID: "e1", Type: sink.RiskLevel, Tenant: "default", Call: "c", Source: "callwarden/x",
		Data: &callwardenv1.RiskLevel{Context: &callwardenv1.CallContext{Tenant: "default", Call: "c"}},
	}
	prompt := source.Prompt{ID: "hang-up", Text: "Please hang up.", Rate: 8000, PCM: make([]int16, 800)}
	twilioSource, err := twiliosrc.New(twiliosrc.DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	forkSource, err := forksrc.New(forksrc.DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	rec := twoLegs(500 * time.Millisecond)
	for _, c := range []struct {
		way, speak string
		src        socketSource
		events     uint64
		want       string
	}{
		{Twilio, "same", twilioSource, 0, `"prompt":"callwarden hang-up"`},
		{Fork, "json", forkSource, 1, `"prompt":"hang-up"`},
	} {
		l := ledger{tell: []sink.Event{ev}, say: &prompt}
		var out safe
		cfg := DefaultConfig()
		cfg.Way, cfg.To, cfg.Speak, cfg.Events = c.way, socketServer(t, c.src, c.way, &l), c.speak, &out
		got := heardOf(t, cfg, rec, &l)
		if !got.Good() || got.Events != c.events || got.Prompts != 1 {
			t.Errorf("%s: results %+v", c.way, got)
		}
		if !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: printed %s", c.way, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s: %s is no JSON", c.way, line)
			}
		}
	}
}

func TestForksAreHeardAsSent(t *testing.T) {
	rec := twoLegs(500 * time.Millisecond)
	for _, c := range []struct {
		rate int
		rec  *Recording
	}{{0, rec}, {48000, rec}, {8000, &Recording{Path: "mono", RateHz: rec.RateHz, Legs: rec.Legs[:1]}}} {
		src, err := forksrc.New(forksrc.DefaultConfig(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		var l ledger
		cfg := DefaultConfig()
		cfg.Way, cfg.To, cfg.SampleRate, cfg.Calls = Fork, socketServer(t, src, "fork", &l), c.rate, 2
		if got := heardOf(t, cfg, c.rec, &l); !got.Good() {
			t.Fatalf("results %+v", got)
		}
		rate := c.rate
		if rate == 0 {
			rate = rec.RateHz
		}
		for i, call := range l.calls {
			if want := fmt.Sprintf("L16/%d", rate); call.Attributes["codec"] != want || call.Attributes["from"] != cfg.From {
				t.Errorf("attributes %v", call.Attributes)
			}
			for _, side := range c.rec.Legs {
				want, err := resampled(side.PCM, rec.RateHz, rate)
				if err != nil {
					t.Fatal(err)
				}
				if !contains(l.heard[i][side.Leg], want) {
					t.Errorf("at %d Hz, call %d: what was heard of the %s is not what was sent", rate, i, side.Leg)
				}
			}
		}
	}
}

func TestStreamsThatAreRefusedSayHow(t *testing.T) {
	src, err := forksrc.New(forksrc.DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l := ledger{refuse: source.ErrBusy}
	cfg := DefaultConfig()
	cfg.Way, cfg.To = Fork, socketServer(t, src, "fork", &l)
	if got := run(t, cfg, twoLegs(2*time.Second)); got.Answered != 0 || got.Refused["closed with 1013 busy"] != 1 {
		t.Errorf("results %+v", got)
	}
}

func TestStreamFlagsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"--to: ":         func(c *Config) { c.To = "http://x" },
		"--param: ":      func(c *Config) { c.Params = []string{"x"} },
		"--jitter: ":     func(c *Config) { c.Jitter = -1 },
		"--dialect: ":    func(c *Config) { c.Dialect = "x" },
		"--codec: ":      func(c *Config) { c.Codec = "L16" },
		"--auth-token: ": func(c *Config) { c.Dialect, c.AuthToken = "exotel", "x" },
		"--sample-rate":  func(c *Config) { c.Way, c.SampleRate = Fork, 4000 },
	} {
		cfg := DefaultConfig()
		cfg.Way, cfg.To = Twilio, "ws://127.0.0.1:1/"
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v does not begin with %s", err, want)
		}
	}
}
