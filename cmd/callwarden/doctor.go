package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	"github.com/callwarden/callwarden/transcribe"
)

func newDoctor(a *app) *cobra.Command {
	var (
		natsURL, audioFile, caller string
		asJSON                     bool
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is installed, what is missing, and how well a recording is heard",
		Example: `  callwarden doctor
  callwarden doctor --nats nats://127.0.0.1:4222
  callwarden doctor --audio call.wav   level, noise, channel, hum; what to do about it`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if audioFile != "" {
				if caller != "left" && caller != "right" {
					return usagef("--caller: %q must be left or right", caller)
				}
				return a.doctorAudio(c.Context(), audioFile, caller == "right", asJSON)
			}
			return a.doctor(c.Context(), natsURL, asJSON)
		},
	}
	cmd.Flags().StringVar(&audioFile, "audio", "", "look at this recording instead")
	cmd.Flags().StringVar(&caller, "caller", "left", "channel of a stereo recording that is the caller: left or right")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON lines")
	cmd.Flags().StringVar(&natsURL, "nats", "", "also look whether this NATS server answers")
	return cmd
}

// check is one thing that doctor looks at.
type check struct {
	what string
	// look returns what was found, or what is wrong.
	look func(ctx context.Context) (string, error)
	// fix is what to type when look fails; it may be part of the error.
	fix string
}

// checked is a line of --json.
type checked struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Found string `json:"found,omitempty"`
	Error string `json:"error,omitempty"`
	Fix   string `json:"fix,omitempty"` // what to type
}

func (c checked) print(out io.Writer) {
	if c.OK {
		fmt.Fprintf(out, "ok       %-18s %s\n", c.What, c.Found)
		return
	}
	fmt.Fprintf(out, "MISSING  %-18s %s\n", c.What, c.Error)
	if c.Fix != "" && !strings.Contains(c.Error, c.Fix) {
		fmt.Fprintf(out, "         %-18s type: %s\n", "", c.Fix)
	}
}

func (a *app) doctor(ctx context.Context, natsURL string, asJSON bool) error {
	checks := []check{
		{"platform", checkPlatform, ""},
		{"tactic packs", checkPacks, ""},
		{"npm", checkNPM, "sudo apt-get install npm (only 'callwarden models install' needs it)"},
		{models.DefaultLibrary, a.checkModel(models.DefaultLibrary), "callwarden models install"},
		{models.DefaultModel, a.checkModel(models.DefaultModel), "callwarden models install"},
		{"recogniser", a.checkRecogniser, "callwarden models install, then callwarden models verify --full"},
		{"voice activity", a.checkVoice, ""},
		{"embedded NATS", checkEmbedded, ""},
	}
	if natsURL != "" {
		checks = append(checks, check{natsURL, checkServer(natsURL), "is the address right, and does the server run?"})
	}
	var needed error
	for _, c := range checks {
		found, err := c.look(ctx)
		line := checked{What: c.what, OK: true, Found: found}
		switch {
		case err == nil:
		case c.what == "npm" && a.installed():
			line.Found = "not there, and not needed any more"
		default:
			line = checked{What: c.what, Error: err.Error(), Fix: c.fix}
			if needed == nil {
				needed = err
			}
		}
		if !asJSON {
			line.print(a.out)
		} else if err := json.NewEncoder(a.out).Encode(line); err != nil {
			return err
		}
	}
	if needed != nil {
		return &quietError{fmt.Errorf("%w: %w", transcribe.ErrNotInstalled, needed)}
	}
	return nil
}

func checkPlatform(context.Context) (string, error) {
	p := runtime.GOOS + "/" + runtime.GOARCH
	if p != "linux/amd64" {
		return "", fmt.Errorf("%s: the speech library in the box is for linux/amd64; give --library your own", p)
	}
	return p, nil
}

func checkPacks(context.Context) (string, error) {
	lib, err := tactics.Load("")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d built in", len(lib.Set.Packs())), nil
}

func checkNPM(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "npm", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("npm is not in PATH")
	}
	return strings.TrimSpace(string(out)), nil
}

func (a *app) installed() bool {
	store, err := a.store()
	return err == nil && store.Verify(models.DefaultLibrary, false) == nil && store.Verify(models.DefaultModel, false) == nil
}

func (a *app) checkModel(name string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		store, err := a.store()
		if err != nil {
			return "", err
		}
		return store.Path(name)
	}
}

// checkRecogniser loads the model and opens a session: files may be there and
// still not load.
func (a *app) checkRecogniser(ctx context.Context) (string, error) {
	began := time.Now()
	f := hearFlags{backend: "vosk", model: models.DefaultModel, library: models.DefaultLibrary}
	engine, err := f.engine(a, a.log())
	if err != nil {
		return "", err
	}
	defer engine.Close()
	s, err := engine.Open(ctx, transcribe.Options{})
	if err != nil {
		return "", err
	}
	if err := s.Close(); err != nil {
		return "", err
	}
	info := engine.Info()
	return fmt.Sprintf("%s %s at %d Hz, loaded in %.1f s", info.Backend, info.Language, info.RateHz, time.Since(began).Seconds()), nil
}

// checkVoice is about something that can be done without.
func (a *app) checkVoice(context.Context) (string, error) {
	engine, err := a.silero(discardLog())
	if err != nil {
		return fmt.Sprintf("by loudness alone, which takes music for speech (%v)", err), nil
	}
	return "Silero on ONNX Runtime", engine.Close()
}

func checkEmbedded(context.Context) (string, error) {
	cfg := natssink.DefaultServerConfig()
	server, err := natssink.StartServer(cfg, discardLog())
	if err != nil {
		return "", err
	}
	server.Shutdown()
	return "starts", nil
}

func checkServer(url string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		cfg := natssink.DefaultConfig()
		cfg.URL = url
		cfg.ManageStream = false
		s, err := natssink.New(cfg, discardLog())
		if err != nil {
			return "", err
		}
		defer s.Close(ctx)
		if err := s.Ready(ctx); err != nil {
			return "", err
		}
		return "answers", nil
	}
}
