// Package recogniser opens the installed recogniser for tools that measure, and
// ends them as callwarden itself ends.
package recogniser

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

// Open opens libvosk with a model, each a name or a path as for callwarden.
// partialEvery is how often it tells unfinished words: 0 as it usually does,
// below 0 never.
func Open(library, model string, partialEvery time.Duration) (*vosk.Engine, error) {
	dir, err := models.DataDir("")
	if err != nil {
		return nil, err
	}
	store := models.Open(dir)
	cfg := vosk.DefaultConfig()
	cfg.PartialEvery = partialEvery
	if cfg.Library, err = store.Locate(models.Library, library); err != nil {
		return nil, err
	}
	if cfg.Model, err = store.Locate(models.Model, model); err != nil {
		return nil, err
	}
	return vosk.New(cfg, slog.New(slog.DiscardHandler))
}

// Main runs a tool until it is done or interrupted, and ends the process: 0
// done, 1 failed, 3 something needed is not installed.
func Main(run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return
	case errors.Is(err, transcribe.ErrNotInstalled), errors.Is(err, models.ErrNotInstalled):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
