package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/jsonsink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	"github.com/callwarden/callwarden/pipeline/sink/reportsink"
	"github.com/callwarden/callwarden/pipeline/sink/termsink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/filesrc"
	"github.com/callwarden/callwarden/pipeline/source/pcapsrc"
)

type replay struct {
	*app
	hear  hearFlags
	judge judgeFlags
	nats  natsFlags
	files filesrc.Config

	caller     string
	formats    []string
	asJSON     bool
	transcript bool
	quiet      bool
	outDir     string
	deliver    time.Duration
}

func newReplay(a *app) *cobra.Command {
	r := &replay{app: a, files: filesrc.DefaultConfig()}
	cmd := &cobra.Command{
		Use:   "replay FILE|DIR…",
		Short: "Hear recorded calls: live lines, events over NATS, a report for each",
		Long: `Hears recorded calls and judges them as if they were live: WAV, FLAC, and the RTP
in network captures, pcap or pcapng. A stereo recording is two legs, the left
channel the caller; a mono recording is one leg whose role is not known. In a
capture SIP says who called whom and with which codecs, and may be SIPREC;
without it, two streams that go to and fro are a call, of which the one that
begins first is the caller's. Events go to NATS: to the embedded server, or to
the one at --nats. Replaying the same file again gives the same events.`,
		Example: `  callwarden replay call.wav
  callwarden replay calls/ --out report     report/<call>/report.html and events.jsonl
  callwarden replay call.wav --json | jq .type
  callwarden replay call.wav --speed 1 --nats nats://127.0.0.1:4222
  callwarden replay trunk.pcapng            every call in the capture
  callwarden replay rtp.pcap --map 96=opus/48000/2 --map 97=PCMU/8000
  callwarden replay call.txt --backend script`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			r.files.Paths = args
			return r.run(c.Context())
		},
	}
	r.hear.add(cmd)
	r.judge.add(cmd)
	f := cmd.Flags()
	f.Float64Var(&r.files.Speed, "speed", 0, "1 plays in real time; 0 goes as fast as it goes")
	f.StringVar(&r.caller, "caller", "left", "channel of the caller in a stereo recording: left or right; in a capture without SIP right says that the stream that begins first is the callee's")
	f.StringArrayVar(&r.formats, "map", nil, "in captures: what a payload type is where SIP does not say it, as 96=opus/48000/2; may be repeated")
	f.IntVar(&r.files.Parallel, "parallel", r.files.Parallel, "calls heard side by side")
	f.StringVar(&r.files.Tenant, "tenant", r.files.Tenant, "tenant that the calls belong to")
	f.BoolVar(&r.asJSON, "json", false, "print the events as JSON lines")
	f.BoolVar(&r.transcript, "transcript", false, "with --json and in events.jsonl: what was said too, digits masked")
	f.BoolVarP(&r.quiet, "quiet", "q", false, "print no live lines")
	f.StringVar(&r.outDir, "out", "", "write events.jsonl and report.html of each call into this folder")
	f.DurationVar(&r.deliver, "deliver", 30*time.Second, "how long to wait at the end for events to be delivered")
	r.nats.addClient(cmd, "", "publish to this NATS server instead of the embedded one")
	r.nats.addServer(cmd)
	_ = cmd.RegisterFlagCompletionFunc("caller", cobra.FixedCompletions([]string{"left", "right"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (r *replay) run(ctx context.Context) (err error) {
	switch r.caller {
	case "left", "right":
		r.files.CallerRight = r.caller == "right"
	default:
		return usagef("--caller: %q must be left or right", r.caller)
	}
	log := r.log()
	src, err := r.source(log)
	if err != nil {
		return err
	}
	engine, err := r.hear.engine(r.app, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	packs, judge, err := r.judge.judge(log)
	if err != nil {
		return err
	}
	watching, stopWatching := context.WithCancel(ctx)
	watched := make(chan struct{}) // closed when nobody watches any more
	go func() { defer close(watched); _ = packs.Run(watching) }()
	defer func() { stopWatching(); <-watched }()
	listening, closeListening := r.hear.listening(r.app, engine, packs.Library, log)
	defer func() { err = errors.Join(err, closeListening()) }()
	listener, err := listen.New(engine, listening, log)
	if err != nil {
		return usagef("%w", err)
	}

	nats, server, err := r.nats.open(ctx, log, r.transcript)
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Shutdown()
		if r.nats.listen != "" {
			fmt.Fprintf(r.err, "NATS server at %s\n", server.URL())
		}
	}
	screen := newScreen(r.out, r.err, len(src.Files()))
	tally := newTally()
	sinks := []sink.Sink{tally}
	var reports *reportsink.Sink
	if r.outDir != "" {
		levels := risk.DefaultConfig()
		reports, err = reportsink.New(reportsink.Config{
			Dir: r.outDir, Unmasked: r.judge.unmasked,
			Thresholds: reportsink.Thresholds{Notice: levels.Notice, Warning: levels.Warning, Critical: levels.Critical},
		})
		if err != nil {
			return errors.Join(err, closeSink(nats, r.deliver))
		}
		sinks = append(sinks, reports, newEventFiles(r.outDir, jsonsink.Config{Transcripts: r.transcript}))
	}
	switch {
	case r.asJSON:
		sinks = append(sinks, jsonsink.New(r.out, jsonsink.Config{Transcripts: r.transcript}))
	case !r.quiet:
		sinks = append(sinks, termsink.New(screen.lines(), termsink.Config{
			Color: screen.color, Width: screen.width, Calls: len(src.Files()) > 1 || slices.ContainsFunc(src.Files(), isCapture),
		}))
	}
	out := sink.Tee(append(sinks, nats)...)
	cfg := pipeline.DefaultConfig()
	cfg.Unmasked = r.judge.unmasked
	pipe, err := pipeline.New(cfg, listener, judge, out, log)
	if err != nil {
		return errors.Join(err, closeSink(out, r.deliver))
	}

	heard := src.Serve(ctx, func(ctx context.Context, call *source.Call) error {
		if reports != nil {
			call.Audio = reports.Draw(call.Tenant, call.ID, call.Audio)
		}
		done := screen.follow(call)
		defer done()
		return pipe.Listen(ctx, call)
	})
	screen.close()
	if reports != nil {
		for _, e := range eachError(heard) {
			var bad *filesrc.FileError
			if errors.As(e, &bad) && !tally.knows(filepath.Base(bad.Path)) {
				reports.Failed(bad.Path, bad.Err.Error())
			}
		}
	}
	delivered := closeSink(out, r.deliver)
	return r.conclude(tally, nats.Stats(), heard, delivered)
}

// conclude tells what was heard and delivered, and what was not.
func (r *replay) conclude(t *tally, stats natssink.Stats, heard, delivered error) error {
	summary := r.out
	if r.asJSON {
		summary = r.err
	}
	t.print(summary)
	fmt.Fprintf(summary, "%d of %d events delivered to NATS\n", stats.Delivered+stats.Duplicates, stats.Published)
	if r.outDir != "" {
		fmt.Fprintf(summary, "reports in %s\n", r.outDir)
	}
	for _, e := range eachError(heard) {
		if errors.Is(e, context.Canceled) {
			continue // told once, below
		}
		fmt.Fprintln(r.err, "callwarden:", e)
	}
	if delivered != nil {
		fmt.Fprintln(r.err, "callwarden:", delivered)
	}
	unheard := t.unheard()
	for _, e := range eachError(unheard) {
		fmt.Fprintln(r.err, "callwarden:", e)
	}
	if errors.Is(heard, context.Canceled) {
		fmt.Fprintln(r.err, "callwarden: interrupted: calls were not heard to their end")
	}
	if err := errors.Join(heard, unheard, delivered); err != nil {
		return &quietError{err}
	}
	return nil
}

// eachError takes joined errors apart.
func eachError(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// closeSink drains s for at most wait. It has its own time: an interrupted
// replay still delivers what it has heard.
func closeSink(s sink.Sink, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	return s.Close(ctx)
}

// source finds the recordings, or the transcripts for the script backend.
func (r *replay) source(log *slog.Logger) (*filesrc.Source, error) {
	captures, err := newCaptures(r.formats, r.files.CallerRight, log)
	if err != nil {
		return nil, err
	}
	r.files.Extensions = append(r.files.Extensions, pcapsrc.Extensions()...)
	if r.hear.backend == "script" {
		r.files.Extensions = []string{".txt"}
		r.files.Open = func(call, path string) (*filesrc.Recording, error) {
			return r.hear.scripts.open(call, path, r.files.CallerRight)
		}
		captures.speak = &r.hear.scripts
	}
	r.files.Split = captures.split
	src, err := filesrc.New(r.files)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return src, nil
}
