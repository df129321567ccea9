package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
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
	scripts map[string]script.Transcript // by call id, for the script backend
}

func (f *hearFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.backend, "backend", backends[0].name, "speech-to-text: "+strings.Join(backendNames(), ", "))
	c.Flags().StringVar(&f.model, "model", models.DefaultModel, "Vosk model: a name of 'models list', or a folder")
	c.Flags().StringVar(&f.library, "library", models.DefaultLibrary, "Vosk library: a name of 'models list', or a file")
	c.Flags().StringVar(&f.listen, "listen", "full", "way of listening: full")
	_ = c.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(backendNames(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("listen", cobra.FixedCompletions([]string{"full"}, cobra.ShellCompDirectiveNoFileComp))
}

// engine opens the chosen backend. The caller closes it.
func (f *hearFlags) engine(a *app, log *slog.Logger) (transcribe.Engine, error) {
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
	engine, err := vosk.New(vosk.Config{Library: library, Model: model}, log)
	if err != nil {
		return nil, fmt.Errorf("opening backend %q: %w", f.backend, err)
	}
	return engine, nil
}

func openScript(_ *app, f *hearFlags, _ *slog.Logger) (transcribe.Engine, error) {
	return script.New(func(call string) (script.Transcript, error) {
		t, ok := f.scripts[call]
		if !ok {
			return script.Transcript{}, fmt.Errorf("no transcript for call %q: put a .txt beside the recording", call)
		}
		return t, nil
	}), nil
}
