package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

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
	)
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Follow the live events of a NATS server in the terminal",
		Example: `  callwarden watch
  callwarden watch --nats nats://nats.example:4222 --since 1h
  callwarden watch --since all --json | jq .data.finding.tactic`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg.Connection = flags.connection()
			cfg.Connection.Name = "callwarden-watch"
			cfg.Transcripts = transcript
			switch d, err := time.ParseDuration(since); {
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
	f.BoolVar(&asJSON, "json", false, "print the events as JSON lines")
	f.BoolVar(&transcript, "transcript", false, "also transcript segments, where they are published")
	f.IntVar(&ended, "ended", 0, "stop after so many calls have ended")
	return cmd
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
