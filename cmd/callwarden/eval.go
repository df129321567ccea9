package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/cmd/internal/eval"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/pipeline/source/filesrc"
)

type evaluation struct {
	*app
	hear  hearFlags
	judge judgeFlags

	mode       string
	parallel   int
	alertLevel string
	outFile    string
	reportDir  string
	against    string
	require    string
	asJSON     bool
}

func newEval(a *app) *cobra.Command {
	e := &evaluation{app: a}
	cmd := &cobra.Command{
		Use:   "eval MANIFEST.jsonl…",
		Short: "Measure recall, precision and time to alert on a labelled corpus",
		Long: `Measures callwarden on labelled calls: which frauds it finds, how early, and which
honest calls it disturbs. In audio mode recordings are heard; in text mode the
written words are judged as if a recogniser had heard them without a mistake.

A manifest is JSON lines, each a call:
  id                     unique
  audio, channels        recording, beside the manifest or in a folder above; the
                         role of each channel: caller, callee, agent, customer, …
  turns                  [{role, text, start, end, tactics}], times in seconds or none
  text                   one side's words, or what is said in the recording
  label                  scam, scam_hook (an opening: a notice is enough), benign, unclear
  tactics                those present; where turns have them, theirs count
  first_actionable_turn  counted from 0; time to alert begins with it
  digits                 a spoken code that should be heard

Several backends, by comma, are measured one after the other and set side by
side. The results file is then the first one's, the others under
"compared_with"; figures to reach hold for each.`,
		Example: `  callwarden eval corpus/manifest.jsonl
  callwarden eval calls.jsonl --mode text --out results.json --report report/
  callwarden eval calls.jsonl --against yesterday.json
  callwarden eval calls.jsonl --backend vosk,remote --transcriber 10.0.0.5:7060
  callwarden eval calls.jsonl --backend small,large --backends backends.yml
  callwarden eval calls.jsonl --require recall=0.95,false_alarms_per_100=2,otp_request.recall=0.9`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return e.run(c.Context(), args) },
	}
	e.hear.add(cmd)
	e.judge.add(cmd)
	f := cmd.Flags()
	f.StringVar(&e.mode, "mode", "", "audio hears recordings, text speaks written words (default audio if an item has any)")
	f.IntVar(&e.parallel, "parallel", runtime.GOMAXPROCS(0), "items measured side by side")
	f.StringVar(&e.alertLevel, "alert-level", risk.Warning.String(), "level from which on a call is alerted: notice, warning, critical")
	f.StringVar(&e.outFile, "out", "", "write the results into this JSON file")
	f.StringVar(&e.reportDir, "report", "", "write a page with curves and every missed or false call into this folder")
	f.StringVar(&e.against, "against", "", "earlier results file to compare with")
	f.StringVar(&e.require, "require", "", "figures to reach, such as recall=0.95,false_alarms_per_100=2; exit 1 if one is not")
	f.BoolVar(&e.asJSON, "json", false, "print a JSON line for each item")
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{eval.Audio, eval.Text}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("alert-level", cobra.FixedCompletions([]string{"notice", "warning", "critical"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (e *evaluation) run(ctx context.Context, manifests []string) (err error) {
	cfg := eval.Config{Mode: e.mode, Parallel: e.parallel, Unmasked: e.judge.unmasked}
	if e.parallel < 1 {
		return usagef("--parallel: %d must be at least 1", e.parallel)
	}
	if cfg.AlertLevel, err = alertLevel(e.alertLevel); err != nil {
		return err
	}
	var reqs []eval.Requirement
	if e.require != "" {
		if reqs, err = eval.ParseRequirements(e.require); err != nil {
			return usagef("--require: %w", err)
		}
	}
	var before *eval.Results
	if e.against != "" {
		old, err := eval.Read(e.against)
		if err != nil {
			return usagef("--against: %w", err)
		}
		before = &old
	}
	log := e.log()
	var packs *tactics.Watcher // nobody runs it: all items are judged alike
	if packs, cfg.Judge, err = e.judge.judge(log); err != nil {
		return err
	}
	items, bad, err := eval.ReadManifests(manifests)
	if err != nil {
		return err
	}
	for _, b := range bad {
		fmt.Fprintln(e.err, "callwarden:", b)
	}
	switch cfg.Mode {
	case "":
		cfg.Mode = eval.Text
		if slices.ContainsFunc(items, func(it eval.Item) bool { return it.Audio != "" }) {
			cfg.Mode = eval.Audio
		}
	case eval.Audio, eval.Text:
	default:
		return usagef("--mode: %q must be audio or text", cfg.Mode)
	}
	names, each, err := e.hear.several()
	if err != nil {
		return err
	}
	if len(names) > 1 && cfg.Mode == eval.Text {
		return usagef("--backend: written words need no backend, so there is nothing to compare; --mode audio compares them")
	}
	var all []eval.Results
	for i, hear := range each {
		name := ""
		if len(each) > 1 {
			name = names[i]
		}
		results, err := e.measure(ctx, cfg, name, hear, items, packs, log)
		if err != nil {
			return err
		}
		results.Version, results.Packs = version(), "built-in"
		if e.judge.packs != "" {
			results.Packs = e.judge.packs
		}
		results.Summary.BadLines = len(bad)
		results.Summary.Failed += len(bad)
		results.Name = name
		all = append(all, results)
		if results.Partial {
			break
		}
	}
	first := all[0]
	first.ComparedWith = all[1:]
	return e.conclude(first, before, reqs)
}

// measure runs items with one backend: alone, so that the processor time is
// its own. name is for results of several.
func (e *evaluation) measure(ctx context.Context, cfg eval.Config, name string, hear *hearFlags, items []eval.Item, packs *tactics.Watcher, log *slog.Logger) (_ eval.Results, err error) {
	if cfg.Mode == eval.Audio {
		if cfg.Engine, err = hear.engine(e.app, log); err != nil {
			return eval.Results{}, err
		}
		defer func() { err = errors.Join(err, cfg.Engine.Close()) }()
		listening, closeListening := hear.listening(e.app, cfg.Engine, packs.Library, log)
		defer func() { err = errors.Join(err, closeListening()) }()
		cfg.Listen = listening
		cfg.Open = filesrcOpen(hear)
	}
	bar := &evalBar{}
	if _, lines := terminal(e.out); !e.asJSON || !lines { // lines and bars would tear each other
		bar = newEvalBar(e.err, len(items))
	}
	cfg.Done = bar.done
	if e.asJSON {
		enc := json.NewEncoder(e.out)
		enc.SetEscapeHTML(false)
		cfg.Row = func(r eval.Row) {
			r.Backend = name
			_ = enc.Encode(r) // a broken pipe ends the program
		}
	}
	results, err := eval.Run(ctx, cfg, items, log)
	bar.close()
	if err != nil {
		return results, usagef("%w", err)
	}
	return results, nil
}

// filesrcOpen is how the chosen backend wants its recordings opened.
func filesrcOpen(hear *hearFlags) eval.OpenFunc {
	if hear.backend == scriptBackend {
		return hear.scripts.open
	}
	return func(_, path string, callerRight bool) (*filesrc.Recording, error) {
		return filesrc.OpenAudio(path, callerRight)
	}
}

func alertLevel(name string) (risk.Level, error) {
	for _, l := range []risk.Level{risk.Notice, risk.Warning, risk.Critical} {
		if l.String() == name {
			return l, nil
		}
	}
	return 0, usagef("--alert-level: %q must be notice, warning or critical", name)
}

// conclude writes the results, prints them, and says what is not as it should
// be.
func (e *evaluation) conclude(r eval.Results, before *eval.Results, reqs []eval.Requirement) error {
	var failed []error
	note := func(err error) {
		fmt.Fprintln(e.err, "callwarden:", err)
		failed = append(failed, err)
	}
	if e.outFile != "" {
		if err := r.Write(e.outFile); err != nil {
			note(fmt.Errorf("writing results: %w", err))
		}
	}
	table := e.out
	if e.asJSON {
		table = e.err
	}
	runs := r.All()
	for i, run := range runs {
		if i > 0 {
			fmt.Fprintln(table)
		}
		printSummary(table, run)
	}
	if len(runs) > 1 {
		printBeside(table, eval.NewBeside(runs))
	}
	var against *eval.Comparison
	if before != nil {
		c := eval.Compare(*before, r)
		against = &c
		printComparison(table, c)
	}
	if e.reportDir != "" {
		if err := eval.WriteReport(e.reportDir, r, against); err != nil {
			note(fmt.Errorf("writing report: %w", err))
		} else {
			fmt.Fprintf(table, "\nreport in %s\n", filepath.Join(e.reportDir, eval.ReportName))
		}
	}
	for _, run := range runs {
		of := ""
		if run.Name != "" {
			of = run.Name + ": "
		}
		for _, row := range run.Items {
			if row.Error != "" {
				note(fmt.Errorf("%s%s: %s", of, row.ID, row.Error))
			}
		}
		for _, why := range eval.Unmet(reqs, run.Summary) {
			note(fmt.Errorf("%snot met: %s", of, why))
		}
	}
	if n := r.Summary.BadLines; n > 0 {
		note(fmt.Errorf("%d bad lines in the manifests", n))
	}
	if runs[len(runs)-1].Partial {
		note(errors.New("interrupted: these are partial results"))
	}
	if len(failed) > 0 {
		return &quietError{errors.Join(failed...)}
	}
	return nil
}

func printSummary(out io.Writer, r eval.Results) {
	s := r.Summary
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", label, fmt.Sprintf(format, args...))
	}
	if r.Name != "" {
		line("backend", "%s", r.Name)
	}
	line("mode", "%s, %s %s, listening %s", r.Mode, r.Backend, r.Model, r.Listen)
	line("items", "%d: %d scam, %d openings, %d benign, %d unclear; %d failed, %d skipped",
		s.Calls, s.Scam, s.ScamHook, s.Benign, s.Unclear, s.Failed, s.Skipped)
	if s.Scam > 0 {
		line("recall", "%s: %d of %d at %s", figure(s.Recall), s.TrueAlerts, s.Scam, s.AlertLevel)
	}
	if s.Benign > 0 {
		line("false alarms", "%d of %d, %s per 100, %s an hour; at notice %s per 100", s.FalseAlarms, s.Benign,
			figure(s.FalsePer100), figure(s.FalsePerHour), figure(s.FalseNoticePer100))
	}
	if s.Precision != nil {
		line("precision", "%s", figure(s.Precision))
	}
	if s.NoticeRecall != nil {
		line("recall at notice", "%s; of openings %s", figure(s.NoticeRecall), figure(s.HookRecall))
	}
	if s.BeforeCompliance != nil {
		line("before compliance", "%s", figure(s.BeforeCompliance))
	}
	if s.TimeToAlert.P50 != nil {
		line("time to alert", "median %s s, 90 %% within %s s", figure(s.TimeToAlert.P50), figure(s.TimeToAlert.P90))
	}
	if s.WER.Rate != nil {
		line("word error rate", "%s: %d of %d words", figure(s.WER.Rate), s.WER.Errors, s.WER.Words)
	}
	if d := s.Digits; d.Codes > 0 {
		line("spoken codes", "%d: %s detected, %s counted to one, %d right, digit errors %s", d.Codes,
			figure(d.Rate), figure(d.CountWithinOne), d.Right, figure(d.DigitErrors))
	}
	line("took", "%g s, %g CPU s for %g s of calls", s.WallS, s.CPUS, s.AudioS)
	_ = w.Flush() // to a terminal or a pipe; a broken one shows elsewhere
	if len(s.PerTactic) == 0 {
		return
	}
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\nTACTIC\tRIGHT\tFALSE\tMISSED\tPRECISION\tRECALL\t")
	for _, name := range slices.Sorted(maps.Keys(s.PerTactic)) {
		t := s.PerTactic[name]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t\n", name, t.TP, t.FP, t.FN, figure(t.Precision), figure(t.Recall))
	}
	_ = w.Flush()
}

// printBeside sets backends side by side; the best figure of a line has a star.
func printBeside(out io.Writer, b eval.Beside) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\nSIDE BY SIDE\t%s\t\n", strings.Join(b.Names, "\t"))
	for _, f := range b.Figures {
		fmt.Fprintf(w, "%s\t", f.Label)
		for i, v := range f.Values {
			star := " "
			if f.Best[i] {
				star = "*"
			}
			fmt.Fprintf(w, "%s%s\t", figure(v), star)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // to a terminal or a pipe; a broken one shows elsewhere
	fmt.Fprintf(out, "%d items did not end alike\n", len(b.Items))
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, it := range b.Items[:min(len(b.Items), maxMoves)] {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", it.ID, it.Label, strings.Join(it.Outcomes, "\t"))
	}
	_ = w.Flush()
	if more := len(b.Items) - maxMoves; more > 0 {
		fmt.Fprintf(out, "  and %d more\n", more)
	}
}

// maxMoves is how many items a comparison names on the terminal; the report
// has them all.
const maxMoves = 20

func printComparison(out io.Writer, c eval.Comparison) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nAGAINST THE EARLIER RESULTS\tBEFORE\tNOW\t")
	for _, p := range c.Figures {
		mark := ""
		switch {
		case p.Better:
			mark = "better"
		case p.Worse:
			mark = "worse"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Label, figure(p.Old), figure(p.New), mark)
	}
	_ = w.Flush()
	moves := func(title string, ms []eval.Move) {
		fmt.Fprintf(out, "%d items %s\n", len(ms), title)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, m := range ms[:min(len(ms), maxMoves)] {
			fmt.Fprintf(w, "  %s\t%s\t%s\t-> %s\n", m.ID, m.Label, m.Was, m.Is)
		}
		_ = w.Flush()
		if more := len(ms) - maxMoves; more > 0 {
			fmt.Fprintf(out, "  and %d more\n", more)
		}
	}
	moves("worse", c.Worse)
	moves("better", c.Better)
	if c.Only > 0 {
		fmt.Fprintf(out, "%d items are in one of the two only\n", c.Only)
	}
}

func figure(v *float64) string {
	if v == nil {
		return "-"
	}
	return strings.TrimSuffix(fmt.Sprintf("%.3f", *v), "0")
}

// evalBar shows how many items are done, on a terminal only.
type evalBar struct {
	bars                progress.Writer // nil where there are none
	track               *progress.Tracker
	missed, falseAlarms int
}

func newEvalBar(w io.Writer, items int) *evalBar {
	b := &evalBar{}
	width, ok := terminal(w)
	if !ok {
		return b
	}
	b.bars = newBars(w, width)
	b.bars.Style().Visibility.ETA = true
	b.track = &progress.Tracker{Message: "items", Total: int64(items)}
	b.bars.AppendTracker(b.track)
	go b.bars.Render() // ends with close, which waits for it
	return b
}

func (b *evalBar) done(r eval.Row) {
	if b.bars == nil {
		return
	}
	switch alerted := r.AlertAtS != nil; {
	case r.Label == eval.Scam && !alerted && r.Error == "":
		b.missed++
	case r.Label == eval.Benign && alerted:
		b.falseAlarms++
	}
	b.track.UpdateMessage(fmt.Sprintf("%d missed, %d false", b.missed, b.falseAlarms))
	b.track.Increment(1)
}

func (b *evalBar) close() {
	if b.bars == nil {
		return
	}
	b.track.MarkAsDone()
	stopBars(b.bars)
}
