package silero

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/audio/audiotest"
)

// installed is a Config for what make models installs.
func installed(t testing.TB) Config {
	t.Helper()
	dir, err := models.DataDir("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	store := models.Open(dir)
	if cfg.Library, err = store.Path(models.VoiceLibrary); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	if cfg.Model, err = store.Path(models.VoiceModel); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	return cfg
}

func newEngine(t testing.TB) *Engine {
	t.Helper()
	e, err := New(installed(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// demo is one leg of a demo call, at 8 kHz.
func demo(t testing.TB, name string, leg audio.Leg) (pcm []int16) {
	t.Helper()
	f, err := audio.OpenFile(filepath.Join("..", "..", "..", "testdata", "calls", name+".wav"), audio.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		frame, err := f.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			return pcm
		}
		if err != nil {
			t.Fatal(err)
		}
		if frame.Leg == leg {
			pcm = append(pcm, frame.PCM...)
		}
	}
}

// answers is what v says of each window of pcm.
func answers(v audio.Voice, pcm []int16, inHz int) (out []bool) {
	n := v.Start(inHz)
	for at := 0; at+n <= len(pcm); at += n {
		out = append(out, v.Speech(pcm[at:at+n]))
	}
	return out
}

func share(answers []bool) float64 {
	n := 0
	for _, speech := range answers {
		if speech {
			n++
		}
	}
	return float64(n) / float64(len(answers))
}

// resampled is pcm of 8 kHz at another rate.
func resampled(t testing.TB, pcm []int16, outHz int) []int16 {
	t.Helper()
	r, err := audio.NewResampler(rateHz, outHz)
	if err != nil {
		t.Fatal(err)
	}
	in := make([]float32, len(pcm))
	for i, v := range pcm {
		in[i] = float32(v)
	}
	var out []int16
	for _, v := range r.Flush(r.Process(nil, in)) {
		out = append(out, int16(min(max(v, -32768), 32767)))
	}
	return out
}

// Whoever speaks softly is heard as whoever speaks loudly, at any rate that a
// line may have.
func TestSpeechIsHeardAtAnyLevelAndRate(t *testing.T) {
	e := newEngine(t)
	pcm := demo(t, "honest-help-desk", audio.Callee)
	want := share(answers(e.Voice(), pcm, rateHz))
	if want < 0.2 || want > 0.6 {
		t.Fatalf("%.0f %% of the leg is speech", 100*want)
	}
	for _, shift := range []uint{2, 4} { // 12 and 24 dB
		quiet := slices.Clone(pcm)
		for i := range quiet {
			quiet[i] >>= shift
		}
		if got := share(answers(e.Voice(), quiet, rateHz)); got < want-0.06 || got > want+0.06 {
			t.Errorf("%d dB down: %.0f %% is speech, want %.0f", 6*shift, 100*got, 100*want)
		}
	}
	for _, inHz := range []int{11025, 16000, 48000} {
		if got := share(answers(e.Voice(), resampled(t, pcm, inHz), inHz)); got < want-0.04 || got > want+0.04 {
			t.Errorf("%d Hz: %.0f %% is speech, want %.0f", inHz, 100*got, 100*want)
		}
	}
}

// A tone, a ringing line, fax and music on hold pass through the gate for a
// moment at most.
func TestOtherSoundsAreNotSpeech(t *testing.T) {
	e := newEngine(t)
	const seconds = 10
	for _, s := range audiotest.Sounds() {
		g := audio.NewGate(audio.DefaultGateConfig(), e.Voice())
		voiced, _ := g.Process(audio.Frame{Rate: rateHz, PCM: s.Make(seconds*rateHz, rateHz)})
		passed := time.Duration(0)
		for _, f := range voiced {
			passed += f.End() - f.Start
		}
		if passed > 2*time.Second {
			t.Errorf("%s: %v of %d s pass", s.Name, passed, seconds)
		}
	}
}

func TestLegsDoNotDisturbEachOther(t *testing.T) {
	e := newEngine(t)
	pcm := demo(t, "fraud-code", audio.Caller)
	const legs, length = 4, 10 * rateHz
	leg := func(i int) []int16 { return pcm[i*3*rateHz:][:length] } // each another part of the call
	var alone [legs][]bool
	for i := range alone {
		alone[i] = answers(e.Voice(), leg(i), rateHz)
	}
	var wait sync.WaitGroup
	for i := range alone {
		wait.Go(func() {
			if got := answers(e.Voice(), leg(i), rateHz); !slices.Equal(got, alone[i]) {
				t.Errorf("leg %d hears other speech than when it was alone", i)
			}
		})
	}
	wait.Wait()
}

func TestNewRefusesWhatIsNoLibraryOrModel(t *testing.T) {
	good := installed(t)
	model, err := os.ReadFile(filepath.Join(good.Model, "silero_vad_v5.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	file := func(data []byte) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	with := func(edit func(*Config)) Config {
		cfg := good
		edit(&cfg)
		return cfg
	}
	for name, cfg := range map[string]Config{
		"no library":            with(func(c *Config) { c.Library = filepath.Join(t.TempDir(), "gone.so") }),
		"a library of nothing":  with(func(c *Config) { c.Library = file(nil) }),
		"a library that is not": with(func(c *Config) { c.Library = file(model) }),
		"another library":       with(func(c *Config) { c.Library = "libm.so.6" }),
		"no model":              with(func(c *Config) { c.Model = filepath.Join(t.TempDir(), "gone.onnx") }),
		"an empty model":        with(func(c *Config) { c.Model = file(nil) }),
		"half a model":          with(func(c *Config) { c.Model = file(model[:len(model)/2]) }),
		"a model that is text":  with(func(c *Config) { c.Model = file([]byte(strings.Repeat("voice ", 100))) }),
		"an empty folder":       with(func(c *Config) { c.Model = t.TempDir() }),
	} {
		e, err := New(cfg, slog.New(slog.DiscardHandler))
		if !errors.Is(err, transcribe.ErrNotInstalled) {
			t.Errorf("%s: %v, want ErrNotInstalled", name, err)
		}
		if e != nil {
			t.Errorf("%s: an engine beside the error", name)
		}
	}
}

func TestConfigNamesTheWrongKey(t *testing.T) {
	for want, cfg := range map[string]Config{
		"silero.begin": {Begin: 1, Last: 0.3},
		"silero.last":  {Begin: 0.5, Last: 0.6},
	} {
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%+v: %v, want %s", cfg, err, want)
		}
	}
}

// A model that fails in mid call leaves the leg with its other ear, and is
// told once.
func TestFailingModelLeavesLoudness(t *testing.T) {
	var log bytes.Buffer
	e, err := New(installed(t), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	// The run refuses an input of another length than the model's: a tensor
	// of the state stands where the window should.
	for _, s := range e.all {
		s.ins[0], s.ins[1] = s.ins[1], s.ins[0]
	}
	pcm := demo(t, "fraud-code", audio.Caller)
	want := share(answers(audio.NewLoudVoice(), pcm, rateHz))
	for range 2 {
		if got := share(answers(e.Voice(), pcm, rateHz)); got < want-0.05 || got > want+0.1 {
			t.Errorf("%.0f %% is speech, want %.0f as by loudness", 100*got, 100*want)
		}
	}
	if n := strings.Count(log.String(), "voice activity model failed"); n != 1 {
		t.Errorf("told %d times: %s", n, log.String())
	}
}

// BenchmarkVoice is what a second of a leg costs in processor time, by who
// speaks in it: nobody, somebody half of the time, somebody all the time.
func BenchmarkVoice(b *testing.B) {
	e := newEngine(b)
	talk := demo(b, "fraud-code", audio.Callee)
	var nonstop []int16
	v := e.Voice()
	for n, at := v.Start(rateHz), 0; at+n <= len(talk); at += n {
		if v.Speech(talk[at : at+n]) {
			nonstop = append(nonstop, talk[at:at+n]...)
		}
	}
	for _, bb := range []struct {
		name string
		pcm  []int16
	}{{"silence", make([]int16, rateHz)}, {"call", talk}, {"nonstop", nonstop}} {
		b.Run(bb.name, func(b *testing.B) {
			v := e.Voice()
			n := v.Start(rateHz)
			at, before := 0, cpu(b)
			for b.Loop() {
				v.Speech(bb.pcm[at : at+n])
				if at += n; at+n > len(bb.pcm) {
					at = 0
				}
			}
			b.ReportMetric(1000*(cpu(b)-before).Seconds()/audio.Span(b.N*n, rateHz).Seconds(), "cpu-ms/audio-s")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
