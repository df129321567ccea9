package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/cmd/internal/load"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/testdata"
)

type benchmark struct {
	*app
	hear  hearFlags
	judge judgeFlags
	cfg   load.Config

	audio  string
	speech float64
	out    string
	asJSON bool
}

func newBench(a *app) *cobra.Command {
	b := &benchmark{app: a}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how many calls this machine holds, and at what latency",
		Long: `Plays recorded two-leg calls in real time, more and more of them at once, until
they are heard too late, and says how many this machine holds: calls and legs a
core, processor time per minute of a call, memory per call, how late audio is
decoded and events are published. In the same run the bare recogniser decodes
the same audio, everything and as fast as it can, to compare with.

Without --audio our own recordings are played: ordinary calls, and demo frauds
among them. Other work on the machine makes the figures worse.`,
		Example: `  callwarden bench
  callwarden bench --calls 50
  callwarden bench --listen full --limit 300ms --out bench/
  callwarden bench --measure 0s --bare 0s --churn 1000
  callwarden bench --audio calls/ --frauds 0.02 --json > bench.json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return b.run(c.Context()) },
	}
	cmd.AddCommand(newBenchLive(a))
	b.hear.add(cmd)
	b.judge.add(cmd)
	f := cmd.Flags()
	// Both ways are the point of it, so the flag means more than elsewhere.
	f.Lookup("listen").Usage = "ways of listening to measure, by comma: screen, full"
	f.Lookup("listen").DefValue = "screen,full"
	_ = f.Set("listen", "screen,full")
	f.StringVar(&b.audio, "audio", "", "folder of stereo WAV files to play, left the caller; those whose name begins with fraud are frauds")
	f.Float64Var(&b.speech, "speech", 0.45, "share of each leg's time in which somebody speaks: pauses are shortened or added")
	f.Float64Var(&b.cfg.FraudShare, "frauds", 0.05, "share of the calls that are frauds")
	f.IntVar(&b.cfg.Calls, "calls", 0, "calls at once (default: more and more)")
	f.IntVar(&b.cfg.First, "first", 4, "calls at once to begin with")
	f.DurationVar(&b.cfg.Limit, "limit", 500*time.Millisecond, "95th percentile of the lag up to which the machine holds the calls")
	f.DurationVar(&b.cfg.Warm, "warm", 10*time.Second, "time before each measurement")
	f.DurationVar(&b.cfg.Measure, "measure", 20*time.Second, "time of each measurement; 0 measures no calls at once")
	f.DurationVar(&b.cfg.Bare, "bare", 20*time.Second, "time for the bare recogniser; 0 leaves it out")
	f.IntVar(&b.cfg.Churn, "churn", 0, "at the end so many short calls, as fast as they go: what is left of their memory (with --measure 0s only these)")
	f.StringVar(&b.out, "out", "", "write bench.json and a page with curves, bench.html, into this folder")
	f.BoolVar(&b.asJSON, "json", false, "print the results as JSON")
	return cmd
}

func (b *benchmark) run(ctx context.Context) (err error) {
	if b.speech <= 0 || b.speech > 1 {
		return usagef("--speech: %v must be above 0 and at most 1", b.speech)
	}
	for mode := range strings.SplitSeq(b.hear.listen, ",") {
		if mode != listen.Full && mode != listen.Screening {
			return usagef("--listen: %q must be %s or %s", mode, listen.Screening, listen.Full)
		}
		b.cfg.Modes = append(b.cfg.Modes, mode)
	}
	if b.hear.backend == "script" {
		return usagef("--backend: script hears no audio, so there is nothing to measure")
	}
	if b.cfg.Recordings, err = b.recordings(); err != nil {
		return err
	}
	if err := b.cfg.Validate(); err != nil {
		return usagef("%w", err)
	}
	load.Fit(b.cfg.Recordings, b.speech)
	log := discardLog() // a full machine warns of each call; that it is full is the result
	if b.verbose {
		log = b.log()
	}
	engine, err := b.hear.engine(b.app, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	packs, judge, err := b.judge.judge(log)
	if err != nil {
		return err
	}
	nats, server, err := (&natsFlags{}).open(ctx, log, false)
	if err != nil {
		return err
	}
	defer server.Shutdown()
	bar := newBenchBar(b.err)
	b.cfg.Done = bar.update
	results, err := load.Run(ctx, b.cfg, load.Parts{
		Engine: engine,
		Listen: func(mode string) (listen.Config, func() error) {
			hear := hearFlags{listen: mode}
			return hear.listening(b.app, engine, packs.Library, log)
		},
		Judge: judge, Out: nats, Log: log,
	})
	bar.close()
	err = errors.Join(err, closeSink(nats, time.Minute))
	if results == nil {
		return err
	}
	results.Version, results.Partial = version(), err != nil
	return errors.Join(err, b.conclude(results))
}

func (b *benchmark) recordings() ([]*load.Recording, error) {
	if b.audio == "" {
		return load.ReadFS(testdata.Calls)
	}
	rs, err := load.ReadFS(os.DirFS(b.audio))
	if err != nil {
		return nil, usagef("--audio %s: %w", b.audio, err)
	}
	return rs, nil
}

func (b *benchmark) conclude(r *load.Results) error {
	var failed error
	if b.out != "" {
		failed = errors.Join(os.MkdirAll(b.out, 0o755), r.Write(filepath.Join(b.out, "bench.json")), r.WritePage(filepath.Join(b.out, "bench.html")))
	}
	if b.asJSON {
		enc := json.NewEncoder(b.app.out)
		enc.SetIndent("", "  ")
		return errors.Join(failed, enc.Encode(r))
	}
	printBench(b.app.out, r)
	if b.out != "" && failed == nil {
		fmt.Fprintf(b.app.out, "\nresults and curves in %s\n", b.out)
	}
	return failed
}

func printBench(out io.Writer, r *load.Results) {
	fmt.Fprintf(out, "%s %s on %d cores; %.0f %% speech a leg, %.0f %% of the calls frauds\n\n", r.Backend, r.Model, r.Cores, 100*r.SpeechShare, 100*r.FraudShare)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "WAY\tCALLS HELD\tA CORE\tLEGS A CORE\tCPU s A CALL MIN\tA SPOKEN s\tMB A CALL\tLAG p50\tp95\tTO EVENT p50\tp95\tTO ALERT p50\tTIMES BARE\tBY CPU\t")
	if r.Bare != nil {
		fmt.Fprintf(w, "bare\t-\t%.1f\t%.1f\t%.2f\t\t\t\t\t\t\t\t1\t1\t\n", r.Bare.CallsPerCore, 2*r.Bare.CallsPerCore, r.Bare.CPUPerCallMinute)
	}
	for _, way := range r.Ways {
		s := way.Held
		if s == nil {
			fmt.Fprintf(w, "%s\tnone\t\t\t\t\t\t\t\t\t\t\t\t\n", way.Listen)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%.2f\t%.4f\t%.1f\t%.0f ms\t%.0f ms\t%s\t%s\t%s\t%s\t%s\t\n", way.Listen, way.Calls, way.CallsPerCore, way.LegsPerCore,
			way.CPUPerCallMinute, way.CPUPerSpoken, way.MemoryPerCallMB, s.LagP50MS, s.LagP95MS,
			benchMS(s.Delay, func(p *load.Percentile) float64 { return p.P50 }), benchMS(s.Delay, func(p *load.Percentile) float64 { return p.P95 }),
			benchMS(s.TimeToAlert, func(p *load.Percentile) float64 { return p.P50 }), benchTimes(way.TimesBare), benchTimes(way.CPUTimesBare))
	}
	_ = w.Flush() // to a terminal or a pipe; a broken one shows elsewhere
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "WAY\tCALLS\tHELD\tLAG p50\tp95\tmax\tCPU\tMEMORY\tTRANSCRIBED\tSHED\tREFUSED\tDROPPED\tFRAUDS ALERTED\tFALSE\t")
	for _, way := range r.Ways {
		for _, s := range way.Steps {
			fmt.Fprintf(w, "%s\t%d\t%s\t%.0f ms\t%.0f ms\t%.0f ms\t%.2f\t%.0f MB\t%d\t%d\t%d\t%.1f s\t%d of %d\t%d of %d\t\n", way.Listen, s.Calls, yesNo(s.Held),
				s.LagP50MS, s.LagP95MS, s.LagMaxMS, s.CPU, s.MemoryMB, s.Transcribing, s.Sheds, s.Refused, s.DroppedS,
				s.Alerted, s.Frauds, s.FalseAlarms, s.Honest())
		}
		if way.Note != "" {
			fmt.Fprintf(w, "%s: %s\n", way.Listen, way.Note)
		}
	}
	_ = w.Flush()
	for _, way := range r.Ways {
		fmt.Fprintf(out, "\n%s: %.0f MB before the first call, %.0f MB after the last\n", way.Listen, way.MemoryBeforeMB, way.MemoryAfterMB)
	}
	if c := r.Churn; c != nil {
		fmt.Fprintf(out, "\n%s: %.0f MB before %d calls of %.0f s, %.0f MB after (%.0f s)\n", c.Listen, c.MemoryBeforeMB, c.Calls, c.CallSeconds, c.MemoryAfterMB, c.WallS)
	}
	if r.Partial {
		fmt.Fprintln(out, "\ninterrupted: these are partial results")
	}
}

func benchMS(p *load.Percentile, of func(*load.Percentile) float64) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", of(p))
}

func benchTimes(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}

// benchBar shows what is measured, on a terminal only.
type benchBar struct {
	bars  progress.Writer // nil where there are none
	track *progress.Tracker
	what  string
}

func newBenchBar(w io.Writer) *benchBar {
	b := &benchBar{}
	width, ok := terminal(w)
	if !ok {
		return b
	}
	b.bars = newBars(w, width)
	b.bars.SetMessageLength(max(20, min(70, width/2)))
	go b.bars.Render() // ends with close, which waits for it
	return b
}

func (b *benchBar) update(p load.Progress) {
	if b.bars == nil {
		return
	}
	what := p.Way + ": " + p.Step
	if p.Last != nil {
		what += fmt.Sprintf(" (%d: p95 %.0f ms)", p.Last.Calls, p.Last.LagP95MS)
	}
	if what != b.what {
		if b.track != nil {
			b.track.MarkAsDone()
		}
		b.what = what
		b.track = &progress.Tracker{Message: what, Total: p.Of.Milliseconds()}
		b.bars.AppendTracker(b.track)
	}
	b.track.SetValue(min(p.At, p.Of).Milliseconds())
}

func (b *benchBar) close() {
	if b.bars == nil {
		return
	}
	if b.track != nil {
		b.track.MarkAsDone()
	}
	stopBars(b.bars)
}
