// Command callwarden listens to phone calls and says when one turns into a
// fraud.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
)

// Exit codes.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2
	exitNotInstalled = 3
)

func main() {
	// The first signal ends the work in order, the second ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program: data goes to stdout, everything else to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(&app{out: stdout, err: stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var quiet *quietError
	if !errors.As(err, &quiet) {
		fmt.Fprintln(stderr, "callwarden:", err)
	}
	return exitCode(err)
}

// exitCode is what the shell is told of err.
func exitCode(err error) int {
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, models.ErrNotInstalled), errors.Is(err, transcribe.ErrNotInstalled):
		return exitNotInstalled
	}
	return exitFailed
}

// usageError is a command line or configuration that cannot be carried out.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// quietError has been told already, where it happened.
type quietError struct{ err error }

func (e *quietError) Error() string { return e.err.Error() }
func (e *quietError) Unwrap() error { return e.err }

// app is what every command has: where to write and the flags of the root.
type app struct {
	out, err io.Writer
	dataDir  string
	verbose  bool
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (a *app) log() *slog.Logger {
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
}

// terminal reports whether w is one, and how wide.
func terminal(w io.Writer) (width int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return width, true
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "callwarden",
		Short: "Listens to phone calls and says when one turns into a fraud",
		Long: `callwarden listens to phone calls while they happen and says, within a second,
when one turns into a fraud: somebody asks for remote access, for gift cards
or for a one-time code, and the other side is about to give it.`,
		Example: `  callwarden models install            once: the speech model and library
  callwarden replay call.wav           hear a recorded call, print its events
  callwarden replay calls/ --out r     a report to look at for each call
  callwarden serve -c callwarden.yml   hear live calls by all configured ways in
  callwarden watch                     follow the events of a NATS server`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.PersistentFlags().StringVar(&a.dataDir, "data-dir", "", "folder of installed models (default $CALLWARDEN_DATA, else the user's data folder)")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log what happens to stderr")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, c.CommandPath())
	})
	root.AddCommand(
		newServe(a),
		newCheck(a),
		newReplay(a),
		newEval(a),
		newBench(a),
		newCall(a),
		newDesk(a),
		newWatch(a),
		newModels(a),
		newTactics(a),
		newDoctor(a),
		newTranscriber(a),
	)
	return root
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	msg := fmt.Sprintf("%q is no command of %s", args[0], c.CommandPath())
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		msg += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return usagef("%s; see %s --help", msg, c.CommandPath())
}

// usageArgs makes a wrong number of arguments wrong usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usagef("%w; see %s --help", err, c.CommandPath())
		}
		return nil
	}
}

// version is the module's, or of the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v == "(devel)" {
			v = "devel " + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
