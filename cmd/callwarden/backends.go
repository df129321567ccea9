package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/source/filesrc"
	"github.com/callwarden/callwarden/pipeline/source/textsrc"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/none"
	"github.com/callwarden/callwarden/transcribe/script"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

// backend is a way to turn speech into text that is linked in.
type backend struct {
	name  string
	about string
	open  func(a *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error)
}

// backends is the whole list; a new backend is a folder below transcribe and a
// line here.
var backends = [...]backend{
	{"vosk", "libvosk in this process, with the model in the box or your own", openVosk},
	{"supervised", "vosk in a process of its own, which is started again when it crashes", openSupervised},
	{"remote", "callwarden transcriber serve, here or on other machines: --transcriber ADDR", openRemote},
	{"voskserver", "a Vosk server, over WebSocket or gRPC: --transcriber ws://ADDR or grpc://ADDR", openVoskServer},
	{"riva", "NVIDIA Riva: --transcriber ADDR", openRiva},
	{"openai", "whisper.cpp, faster-whisper or a cloud by OpenAI's interface: --transcriber URL", openOpenAI},
	{"sherpa", "sherpa-onnx in this process, with a streaming transducer: --model FOLDER", openSherpa},
	{routeBackend, "several of them by the rules of --backends FILE: fallbacks and shadows", nil}, // opens others of this list, see engine
	{"none", "hears nothing: for load tests and for trying out ways in", openNone},
	{"script", "speaks a prepared transcript: the .txt beside each recording, or alone", openScript},
}

func backendNames() []string {
	names := make([]string, len(backends))
	for i, b := range backends {
		names[i] = b.name
	}
	return names
}

// hearFlags say how speech becomes text; every command that hears has them.
type hearFlags struct {
	backend string
	model   string
	library string
	listen  string
	scripts scripts
	remote  remoteFlags
	// settings is a YAML file with the keys of the chosen backend's Config.
	settings string

	backendsFile string
	flags        *pflag.FlagSet // that add was called with
}

func (f *hearFlags) add(c *cobra.Command) {
	f.flags = c.Flags()
	f.addLocal(c)
	f.remote.add(c)
	c.Flags().StringVar(&f.backendsFile, "backends", "", "YAML file of backends under names of their own, and of the routes between them; see docs/backends.md")
	c.Flags().StringVar(&f.listen, "listen", listen.Full, "way of listening: full transcribes everything, screen only where the tactics' phrases are heard")
	_ = c.RegisterFlagCompletionFunc("listen", cobra.FixedCompletions([]string{listen.Full, listen.Screening}, cobra.ShellCompDirectiveNoFileComp))
}

// listening is the chosen way of listening with engine, screening for the
// tactics of the packs of the moment. The caller closes it after the last call.
func (f *hearFlags) listening(a *app, engine transcribe.Engine, packs func() *tactics.Library, log *slog.Logger) (cfg listen.Config, closeListening func() error) {
	cfg.Mode = f.listen
	cfg.Hints = (&hints{packs: packs}).current
	if f.listen != listen.Screening {
		return cfg, func() error { return nil }
	}
	lists, err := newScreens(engine, packs, log)
	if err != nil { // a model of another language, perhaps
		log.Error("cannot screen for these packs, listening fully", "err", err)
		cfg.Mode = listen.Full
		return cfg, func() error { return nil }
	}
	cfg.Screens = lists.current
	if !engine.Info().Phrases { // it will listen fully, and say so
		return cfg, func() error { return nil }
	}
	cfg.Voice, closeListening = a.openVoices(log)
	return cfg, closeListening
}

// engine opens the chosen backend. The caller closes it.
func (f *hearFlags) engine(a *app, log *slog.Logger) (transcribe.Engine, error) {
	if f.backendsFile != "" && f.backend != routeBackend {
		own, err := f.as(f.backend)
		if err != nil {
			return nil, err
		}
		return own.engine(a, log)
	}
	if f.backend == routeBackend {
		return openRoute(a, f, log)
	}
	for _, b := range backends {
		if b.name == f.backend {
			return b.open(a, f, log)
		}
	}
	return nil, usagef("--backend: %q is none of %s", f.backend, strings.Join(backendNames(), ", "))
}

func openVosk(a *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error) {
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	library, err := store.Locate(models.Library, f.library)
	if err != nil {
		return nil, err
	}
	model, err := store.Locate(models.Model, f.model)
	if err != nil {
		return nil, err
	}
	cfg := vosk.DefaultConfig()
	cfg.Library, cfg.Model = library, model
	engine, err := vosk.New(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("opening backend %q: %w", f.backend, err)
	}
	return engine, nil
}

func openNone(*app, *hearFlags, *slog.Logger) (transcribe.Engine, error) { return none.New(), nil }

func openScript(_ *app, f *hearFlags, _ *slog.Logger) (transcribe.Engine, error) {
	return script.New(f.scripts.lookup), nil
}

// scripts are the transcripts that the script backend speaks.
type scripts struct {
	mu    sync.Mutex
	calls map[string]script.Transcript // by call id
}

// open reads the transcript at path, or beside the recording at path, and
// returns the sound that goes with it: the recording's, or silence.
func (s *scripts) open(call, path string, callerRight bool) (*filesrc.Recording, error) {
	text := path
	isText := strings.EqualFold(filepath.Ext(path), ".txt")
	if !isText {
		text = strings.TrimSuffix(path, filepath.Ext(path)) + ".txt"
	}
	t, err := s.read(call, text)
	if err != nil {
		return nil, err
	}
	if !isText {
		return filesrc.OpenAudio(path, callerRight)
	}
	info := audio.FileInfo{Encoding: "transcript", Duration: t.Duration()}
	for _, leg := range []audio.Leg{audio.Caller, audio.Callee, audio.Unknown} {
		if slices.ContainsFunc(t.Lines, func(l script.Line) bool { return l.Leg == leg }) {
			info.Legs = append(info.Legs, leg)
		}
	}
	return &filesrc.Recording{
		Reader: textsrc.Silence(info.Duration, info.Legs...),
		Info:   info,
		Close:  func() error { return nil },
	}, nil
}

// read reads the transcript that call speaks.
func (s *scripts) read(call, text string) (t script.Transcript, err error) {
	file, err := os.Open(text)
	if err != nil {
		return t, fmt.Errorf("reading transcript: %w", err)
	}
	defer file.Close()
	if t, err = script.Parse(file); err != nil {
		return t, fmt.Errorf("%s: %w", text, err)
	}
	if len(t.Lines) == 0 {
		return t, fmt.Errorf("%s: the transcript has no lines", text)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls = make(map[string]script.Transcript)
	}
	s.calls[call] = t
	return t, nil
}

func (s *scripts) lookup(call string) (script.Transcript, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.calls[call]
	if !ok {
		return t, fmt.Errorf("no transcript for call %q", call)
	}
	return t, nil
}
