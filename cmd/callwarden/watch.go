package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/callwarden/callwarden/cmd/internal/console"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/jsonsink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	"github.com/callwarden/callwarden/pipeline/sink/termsink"
)

func newWatch(a *app) *cobra.Command {
	var (
		flags      natsFlags
		cfg        = natssink.DefaultWatchConfig()
		since      string
		asJSON     bool
		transcript bool
		ended      int
		plain      bool
		who        string
	)
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Watch the calls of a NATS server in the terminal",
		Long: `Shows the calls of the moment in the terminal, the worst first: who talks to
whom, the level and how it came about, the tactics, how well the call is heard.
Enter opens a call: what to say now, what was found and what it counts, and the
words of both sides where they are published. What you do there, such as saying
that it is a scam, is told to everybody under your name. ? shows the keys.

Where the output is no terminal, and with --plain, the events come as lines, and
with --json as JSON.`,
		Example: `  callwarden watch
  callwarden watch --plain
  callwarden watch --nats nats://nats.example:4222 --since 1h
  callwarden watch --since all --json | jq .data.finding.tactic`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg.Connection = flags.connection()
			cfg.Connection.Name = "callwarden-watch"
			cfg.Transcripts = transcript
			_, isTerminal := terminal(a.out)
			desk := isTerminal && !plain && !asJSON && ended == 0 && term.IsTerminal(int(os.Stdin.Fd()))
			switch d, err := time.ParseDuration(since); {
			case since == "" && desk:
				cfg.Since = deskSince // what goes on now has begun before
			case since == "":
			case since == "all":
				cfg.All = true
			case err != nil || d <= 0:
				return usagef("--since: %q must be a time such as 10m or 1h, or all", since)
			default:
				cfg.Since = d
			}
			if err := cfg.Validate(); err != nil {
				return usagef("%w", err)
			}
			if desk {
				return a.watchDesk(c.Context(), cfg, os.Stdin, who)
			}
			var out sink.Sink
			if asJSON {
				out = jsonsink.New(a.out, jsonsink.Config{Transcripts: transcript})
			} else {
				screen := newScreen(a.out, a.out, maxBars+1)
				out = termsink.New(a.out, termsink.Config{Color: screen.color, Width: screen.width, Calls: true})
			}
			return a.watch(c.Context(), cfg, out, ended)
		},
	}
	flags.addClient(cmd, "nats://127.0.0.1:4222", "NATS server to follow")
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "begin with what the server has kept of this last time, or all")
	f.StringVar(&cfg.Tenant, "tenant", "", "only this tenant's calls")
	f.StringVar(&cfg.Call, "call", "", "only this call")
	f.BoolVar(&plain, "plain", false, "print the events as lines, also on a terminal")
	f.StringVar(&who, "as", userName(), "your name, told with what you do about calls")
	f.BoolVar(&asJSON, "json", false, "print the events as JSON lines")
	f.BoolVar(&transcript, "transcript", false, "also transcript segments, where they are published")
	f.IntVar(&ended, "ended", 0, "stop after so many calls have ended")
	return cmd
}

// deskSince is how much of what was is read by the desk: calls that go on now
// have begun then.
const deskSince = 2 * time.Hour

// userName is what the system calls the person at the keyboard.
func userName() string {
	u, err := user.Current()
	if err != nil || u.Username == "" {
		return "somebody"
	}
	return u.Username
}

// watchDesk shows the calls to a person at a terminal.
func (a *app) watchDesk(ctx context.Context, cfg natssink.WatchConfig, in io.Reader, who string) error {
	// What goes wrong is on the screen; a line of log would spoil it.
	feed, err := console.NewFeed(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return usagef("%w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	fed := make(chan error, 1)
	go func() { fed <- feed.Run(ctx) }()
	err = console.Run(ctx, in, a.out, console.NewLook(a.out, os.Getenv), feed, who)
	stop()
	return errors.Join(err, <-fed)
}

// errEnough ends watching as the user asked.
var errEnough = errors.New("as many calls have ended as were asked for")

func (a *app) watch(ctx context.Context, cfg natssink.WatchConfig, out sink.Sink, ended int) error {
	left := ended
	seen, err := natssink.Watch(ctx, cfg, a.log(), func(ev sink.Event) error {
		if err := out.Publish(ctx, ev); err != nil {
			return err
		}
		if ev.Type == sink.CallEnded {
			if left--; left == 0 {
				return errEnough
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if seen.Missed > 0 {
		err = errors.Join(err, fmt.Errorf("%d events were missed: this terminal was too slow", seen.Missed))
	}
	return errors.Join(err, out.Close(context.WithoutCancel(ctx)))
}
