package supervised

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/service"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

// asChild says what a process that the tests start is to be; the program is
// this one.
const asChild = "CALLWARDEN_TEST_CHILD"

func TestMain(m *testing.M) {
	if kind := os.Getenv(asChild); kind != "" {
		os.Exit(child(kind))
	}
	goleak.VerifyTestMain(m)
}

// poison is the word that ends the process that hears it.
const poison = 13

// child serves a recogniser until its input ends.
func child(kind string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var engine transcribe.Engine
	switch kind {
	case "echo":
		engine = &transcribetest.Echo{Write: func(f audio.Frame) error {
			for _, v := range f.PCM {
				if v == poison {
					fmt.Fprintln(os.Stderr, "fatal: the lattice bites")
					os.Exit(99)
				}
			}
			return nil
		}}
	case "vosk":
		var err error
		if engine, err = installed(); err != nil {
			log.Error("no recogniser", "err", err)
			return 3
		}
	case "missing":
		log.Error("no model", "err", "type: callwarden models install")
		return 3
	default: // a program that is none of ours
		fmt.Fprintln(os.Stderr, "usage: something else")
		return 2
	}
	cfg := service.DefaultConfig()
	cfg.Grace = 0
	svc, err := service.New(cfg, engine, log)
	if err != nil {
		log.Error("no service", "err", err)
		return 1
	}
	lis, err := service.Open(os.Args[len(os.Args)-1])
	if err != nil {
		log.Error("no socket", "err", err)
		return 1
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := svc.Serve(ctx, lis); err != nil {
		return 1
	}
	return 0
}

func installed() (*vosk.Engine, error) {
	dir, err := models.DataDir("")
	if err != nil {
		return nil, err
	}
	cfg := vosk.DefaultConfig()
	store := models.Open(dir)
	var noLibrary, noModel error
	cfg.Library, noLibrary = store.Path(models.DefaultLibrary)
	cfg.Model, noModel = store.Path(models.DefaultModel)
	if err := errors.Join(noLibrary, noModel); err != nil {
		return nil, err
	}
	return vosk.New(cfg, slog.New(slog.DiscardHandler))
}

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func config(t *testing.T, kind string) Config {
	t.Helper()
	t.Setenv(asChild, kind)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Command, cfg.NotInstalled = []string{program}, 3
	return cfg
}

func start(t *testing.T, kind string) (*Engine, *lines) {
	t.Helper()
	log := &lines{}
	e, err := New(config(t, kind), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e, log
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// alive reports whether a process of ours is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// hear writes pcm in frames of 20 ms and returns what was said and how often
// the session was away.
func hear(t testing.TB, s transcribe.Session, at time.Duration, pcm []int16) (said []string, away int) {
	t.Helper()
	for i := 0; i < len(pcm); i += 320 {
		segs, err := s.Write(context.Background(), audio.Frame{Start: at + audio.Span(i, 16000), Rate: 16000, PCM: pcm[i:min(i+320, len(pcm))]})
		if errors.Is(err, transcribe.ErrAway) {
			away++
		} else if err != nil {
			t.Error(err)
			return said, away
		}
		said = append(said, finals(segs)...)
	}
	return said, away
}

func finals(segs []transcribe.Segment) (said []string) {
	for _, s := range segs {
		if s.Final {
			said = append(said, s.Text)
		}
	}
	return said
}

// back looks until the session has caught up.
func back(t *testing.T, s transcribe.Session) (said []string) {
	t.Helper()
	waitFor(t, "the session to be back", func() bool {
		segs, err := s.Write(context.Background(), audio.Frame{Rate: 16000})
		said = append(said, finals(segs)...)
		return err == nil
	})
	return said
}

func finish(t testing.TB, s transcribe.Session) []string {
	t.Helper()
	segs, err := s.Finish(context.Background())
	if err != nil {
		t.Error(err)
	}
	return finals(segs)
}

func words(from, to int16) (all []int16, text string) {
	var b []string
	for w := from; w <= to; w++ {
		all = append(all, w)
		b = append(b, transcribetest.EchoWord(w))
	}
	return all, strings.Join(b, " ")
}

func TestKilledProcessIsReplacedAndNothingIsLost(t *testing.T) {
	e, log := start(t, "echo")
	if info := e.Info(); info.Backend != "supervised" || info.Native || !info.Hints {
		t.Errorf("info %+v", info)
	}
	numbers, want := words(20, 79)
	pcm := transcribetest.Speak(16000, numbers, 200*time.Millisecond, 6)
	s, err := e.Open(t.Context(), transcribe.Options{Live: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	third := len(pcm) / 3
	said, _ := hear(t, s, 0, pcm[:third])
	first := e.Process()
	kill(t, first)
	waitFor(t, "its end", func() bool { return e.Process() != first })
	more, _ := hear(t, s, audio.Span(third, 16000), pcm[third:2*third])
	said = append(said, more...)
	said = append(said, back(t, s)...)
	more, _ = hear(t, s, audio.Span(2*third, 16000), pcm[2*third:])
	said = append(append(said, more...), finish(t, s)...)
	if got := strings.Join(said, " "); got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if e.Restarts() != 1 || e.Process() == first {
		t.Errorf("%d restarts, process %d after %d", e.Restarts(), e.Process(), first)
	}
	if text := log.String(); !strings.Contains(text, "transcriber process has ended") || !strings.Contains(text, "signal: killed") {
		t.Errorf("log says\n%s", text)
	}
}

func TestProcessThatIsGoneIsNotReady(t *testing.T) {
	e, _ := start(t, "echo")
	if err := e.Ready(); err != nil {
		t.Fatalf("at the start: %v", err)
	}
	t.Setenv(asChild, "missing") // for those that come after it
	kill(t, e.Process())
	waitFor(t, "that to be said", func() bool { return e.Ready() != nil })
	if err := e.Ready(); !strings.Contains(err.Error(), "supervised.test") {
		t.Errorf("it is said as %q", err)
	}
	t.Setenv(asChild, "echo")
	waitFor(t, "the next one", func() bool { return e.Ready() == nil })
}

// Audio that ends every process that hears it is left out after some, with all
// other calls heard on.
func TestAudioThatKillsIsLeftOut(t *testing.T) {
	e, log := start(t, "echo")
	numbers, want := words(1, 30)
	pcm := transcribetest.Speak(16000, numbers, 200*time.Millisecond, 6)
	honest, wantHonest := words(40, 69)
	var beside sync.WaitGroup
	beside.Go(func() {
		s, err := e.Open(context.Background(), transcribe.Options{})
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		said, _ := hear(t, s, 0, transcribetest.Speak(16000, honest, 200*time.Millisecond, 6))
		if got := strings.Join(append(said, finish(t, s)...), " "); got != wantHonest {
			t.Errorf("the call beside it said %q", got)
		}
	})
	s, err := e.Open(t.Context(), transcribe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	said, _ := hear(t, s, 0, pcm)
	got := strings.Join(append(said, finish(t, s)...), " ")
	beside.Wait()
	if want = strings.Replace(want, transcribetest.EchoWord(poison)+" ", "", 1); got != want {
		t.Errorf("said %q, want all but the word that kills", got)
	}
	if n := e.Restarts(); n < 2 || n > 8 {
		t.Errorf("%d restarts", n)
	}
	text := log.String()
	for _, want := range []string{"audio that breaks recognisers is left out", "the lattice bites", "exit status 99"} {
		if !strings.Contains(text, want) {
			t.Errorf("log does not say %q:\n%s", want, text)
		}
	}
}

// The real recogniser, killed without a chance under calls: what they say is
// what they say without that, but for a word that it knew the speaker by.
func TestVoskKilledUnderCallsLosesNoWords(t *testing.T) {
	e, _ := start(t, "vosk")
	data, err := os.ReadFile(filepath.Join("..", "vosk", "testdata", "speech.wav"))
	if err != nil {
		t.Fatal(err)
	}
	data = data[44:] // sox writes the plain header
	pcm := make([]int16, len(data)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	const calls = 4
	var group sync.WaitGroup
	half := sync.WaitGroup{}
	half.Add(calls)
	killed := make(chan struct{}) // closed when the process is gone
	said := make([]string, calls)
	for i := range calls {
		group.Go(func() {
			s, err := e.Open(context.Background(), transcribe.Options{})
			if err != nil {
				t.Error(err)
				half.Done()
				return
			}
			defer s.Close()
			cut := len(pcm) * (3 + i) / 9
			first, _ := hear(t, s, 0, pcm[:cut])
			half.Done()
			<-killed
			rest, _ := hear(t, s, audio.Span(cut, 16000), pcm[cut:])
			said[i] = strings.Join(append(append(first, rest...), finish(t, s)...), " ")
		})
	}
	half.Wait()
	kill(t, e.Process())
	close(killed)
	group.Wait()
	for i, got := range said {
		for _, phrase := range []string{"verification code", "tell anyone about this call"} {
			if strings.Count(got, phrase) != 1 {
				t.Errorf("call %d said %q, want %q once", i, got, phrase)
			}
		}
	}
}

// A process that does not come up is told with its last words, and what
// started it is cleaned up.
func TestProcessThatDoesNotStartSaysWhy(t *testing.T) {
	for kind, want := range map[string]string{"missing": "type: callwarden models install", "other": "usage: something else"} {
		began := time.Now()
		e, err := New(config(t, kind), slog.New(slog.DiscardHandler))
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, transcribe.ErrNotInstalled) != (kind == "missing") {
			t.Errorf("%s: error %v, want %q", kind, err, want)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%s: took %v", kind, took)
		}
	}
	cfg := config(t, "echo")
	cfg.Command = []string{filepath.Join(t.TempDir(), "none")}
	if e, err := New(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no program: %v", err)
		if err == nil {
			e.Close()
		}
	}
}

// The process ends with its parent, also when nobody tells it to.
func TestProcessEndsWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Fatal("this test reads /proc")
	}
	e, _ := start(t, "echo")
	pid := e.Process()
	if !alive(pid) {
		t.Fatalf("process %d is not there", pid)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("the process is there after Close")
	}
	if _, err := os.Stat(e.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of its socket is left: %v", err)
	}
}

func TestConfigNamesKeyValueAndRule(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"start: 0s must be from 1s":       func(c *Config) { c.Start = 0 },
		"stop: -1s must be from 0s":       func(c *Config) { c.Stop = -time.Second },
		"backoff: 1ms must be from":       func(c *Config) { c.Backoff = time.Millisecond },
		"command: it must name a program": func(c *Config) { c.Command = nil },
	} {
		cfg := DefaultConfig()
		cfg.Command = []string{"x"}
		change(&cfg)
		if e, err := New(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
			if err == nil {
				e.Close()
			}
		}
	}
}
