package remote_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/remote"
	"github.com/callwarden/callwarden/transcribe/service"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// installed opens what make models installs.
func installed(t testing.TB) *vosk.Engine {
	t.Helper()
	dir, err := models.DataDir("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := vosk.DefaultConfig()
	store := models.Open(dir)
	if cfg.Library, err = store.Path(models.DefaultLibrary); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	if cfg.Model, err = store.Path(models.DefaultModel); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	engine, err := vosk.New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// speech is two sentences at 16 kHz, those of the vosk backend's tests.
func speech(t testing.TB) []int16 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "vosk", "testdata", "speech.wav"))
	if err != nil {
		t.Fatal(err)
	}
	data = data[44:] // sox writes the plain header
	pcm := make([]int16, len(data)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return pcm
}

// server serves an engine until it is killed or the test ends.
type server struct {
	addr string
	kill context.CancelFunc
	done chan error // holds what Serve returned
	once sync.Once
	err  error
}

// stop ends the server at once and returns when it has ended.
func (s *server) stop() error {
	s.kill()
	s.once.Do(func() { s.err = <-s.done })
	return s.err
}

// serve serves engine at listen, a free port where it is empty.
func serve(t testing.TB, engine transcribe.Engine, listen string, change func(*service.Config)) *server {
	t.Helper()
	cfg := service.DefaultConfig()
	cfg.Grace = 0
	if cfg.Listen = listen; listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if change != nil {
		change(&cfg)
	}
	svc, err := service.New(cfg, engine, quiet())
	if err != nil {
		t.Fatal(err)
	}
	lis, err := service.Open(cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(context.Background())
	s := &server{addr: listen, kill: kill, done: make(chan error, 1)}
	if _, tcp := lis.Addr().(*net.TCPAddr); tcp {
		s.addr = lis.Addr().String()
	}
	go func() { s.done <- svc.Serve(ctx, lis) }() // ends with stop, which the cleanup calls
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func connect(t testing.TB, change func(*remote.Config), addresses ...string) *remote.Engine {
	t.Helper()
	cfg := remote.DefaultConfig()
	cfg.Addresses = addresses
	if change != nil {
		change(&cfg)
	}
	e, err := remote.New(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e
}

// whole closes what stands behind an engine with it.
type whole struct {
	*remote.Engine
	behind func() error
}

func (w whole) Close() error { return errors.Join(w.Engine.Close(), w.behind()) }

func TestConformance(t *testing.T) {
	transcribetest.Run(t, func(t *testing.T) transcribetest.Subject {
		local := installed(t)
		s := serve(t, local, "unix:"+filepath.Join(t.TempDir(), "s"), nil)
		e := connect(t, nil, s.addr)
		return transcribetest.Subject{
			Engine: whole{e, func() error { return errors.Join(s.stop(), local.Close()) }},
			RateHz: 16000, Speech: speech(t),
			Phrase: "verification code", NonWord: "anydesk",
		}
	})
}
