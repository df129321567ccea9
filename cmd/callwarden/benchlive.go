package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/cmd/internal/caller"
	"github.com/callwarden/callwarden/cmd/internal/live"
	"github.com/callwarden/callwarden/cmd/internal/load"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/testdata"
	"github.com/callwarden/callwarden/transcribe/audio"
)

type benchLive struct {
	*app
	cfg    live.Config
	calls  string
	audio  string
	opus   string
	speech float64
	frauds float64
	asJSON bool
}

func newBenchLive(a *app) *cobra.Command {
	b := &benchLive{app: a}
	cmd := &cobra.Command{
		Use:   "live",
		Short: "Measure what calls cost that come over the network",
		Long: `Starts callwarden as a process of its own, calls it over the network from this
one, and says what the calls cost: packets in and lost, processor time per
second of a leg, memory per call, and how soon calls are answered. Both share
this machine's cores, so the caller's own cost is told too.

Without a recogniser each call goes on over the whole step, which measures the
way from the wire. With one, calls follow one another as in 'callwarden bench',
whose figures the number of calls held compares with.`,
		Example: `  callwarden bench live
  callwarden bench live --calls 200,500,1000 --codec PCMA
  opusenc call.wav call.opus && callwarden bench live --way whip --opus call.opus --calls 300 --rate 20
  callwarden bench live --backend vosk --listen screen --calls 20,24,28`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return b.run(c.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&b.calls, "calls", "1000", "calls at once; several steps by comma")
	f.StringVar(&b.cfg.Way, "way", caller.SIPREC, "how calls come: "+strings.Join(live.Ways(), ", "))
	f.StringVar(&b.cfg.Codec, "codec", "PCMU", "of the audio: "+strings.Join(caller.Codecs(), ", "))
	f.StringVar(&b.cfg.Transport, "transport", "udp", "of SIP: udp or tcp")
	f.Float64Var(&b.cfg.Rate, "rate", 50, "calls begun a second")
	f.StringVar(&b.cfg.Backend, "backend", "none", "speech-to-text of callwarden: none, vosk")
	f.StringVar(&b.cfg.Listen, "listen", listen.Screening, "way of listening: screen or full")
	f.DurationVar(&b.cfg.Limit, "limit", 500*time.Millisecond, "95th percentile of the lag up to which the machine holds the calls")
	f.DurationVar(&b.cfg.Warm, "warm", 10*time.Second, "time before each measurement, after the last call has begun")
	f.DurationVar(&b.cfg.Measure, "measure", 20*time.Second, "time of each measurement")
	f.StringVar(&b.audio, "audio", "", "folder of stereo WAV files to play, left the caller; those whose name begins with fraud are frauds")
	f.StringVar(&b.opus, "opus", "", "Opus file that every call plays, in place of recordings; for whip")
	f.Float64Var(&b.speech, "speech", 0.45, "share of each leg's time in which somebody speaks: pauses are shortened or added")
	f.Float64Var(&b.frauds, "frauds", 0.05, "share of the calls that are frauds")
	f.BoolVar(&b.asJSON, "json", false, "print the results as JSON")
	return cmd
}

func (b *benchLive) run(ctx context.Context) (err error) {
	for n := range strings.SplitSeq(b.calls, ",") {
		v, err := strconv.Atoi(strings.TrimSpace(n))
		if err != nil {
			return usagef("--calls: %q is no number", n)
		}
		b.cfg.Calls = append(b.cfg.Calls, v)
	}
	if b.speech <= 0 || b.speech > 1 {
		return usagef("--speech: %v must be above 0 and at most 1", b.speech)
	}
	if b.cfg.Binary, err = os.Executable(); err != nil {
		return err
	}
	b.cfg.DataDir, b.cfg.Turnover = b.dataDir, b.cfg.Backend != "none"
	if err := b.cfg.Validate(); err != nil {
		return usagef("%w", err)
	}
	if b.cfg.Recordings, err = b.recordings(); err != nil {
		return err
	}
	b.cfg.Say = func(what string) {
		if _, ok := terminal(b.err); ok {
			fmt.Fprintln(b.err, what)
		}
	}
	results, err := live.Run(ctx, b.cfg)
	if results == nil {
		return err
	}
	results.Version = version()
	if b.asJSON {
		enc := json.NewEncoder(b.out)
		enc.SetIndent("", "  ")
		return errors.Join(err, enc.Encode(results))
	}
	printLive(b.out, results)
	return err
}

// recordings are those of bench, in the order in which it plays them.
func (b *benchLive) recordings() ([]*caller.Recording, error) {
	if b.opus != "" {
		if b.cfg.Way != caller.WHIP {
			return nil, usagef("--opus: only --way %s sends Opus", caller.WHIP)
		}
		r, err := caller.OpenOpus(b.opus)
		if err != nil {
			return nil, usagef("--opus: %w", err)
		}
		b.cfg.Codec = "opus"
		return []*caller.Recording{r}, nil
	}
	files := testdata.Calls
	var rs []*load.Recording
	var err error
	if b.audio == "" {
		rs, err = load.ReadFS(files)
	} else if rs, err = load.ReadFS(os.DirFS(b.audio)); err != nil {
		err = usagef("--audio %s: %w", b.audio, err)
	}
	if err != nil {
		return nil, err
	}
	mix := load.Config{
		Recordings: rs, FraudShare: b.frauds, Modes: []string{b.cfg.Listen}, First: 1, Limit: b.cfg.Limit, Measure: b.cfg.Measure,
	}
	if err := mix.Validate(); err != nil {
		return nil, usagef("%w", err)
	}
	load.Fit(rs, b.speech)
	// After so many calls the mix begins again, near enough: a share of 5 % is
	// one in 20, and the recordings of a kind take turns.
	const round = 200
	all := make([]*caller.Recording, round)
	same := make(map[*load.Recording]*caller.Recording)
	for n := range all {
		r := mix.Turn(n)
		if same[r] == nil {
			same[r] = &caller.Recording{Path: r.Name, RateHz: r.RateHz, Legs: []caller.Side{
				{Leg: audio.Caller, PCM: r.Legs[0]},
				{Leg: audio.Callee, PCM: r.Legs[1]},
			}}
		}
		all[n] = same[r]
	}
	return all, nil
}

func printLive(out io.Writer, r *live.Results) {
	fmt.Fprintf(out, "%s over %s, backend %s, --listen %s, on %d cores with the caller\n\n", r.Codec, r.Way, r.Backend, r.Listen, r.Cores)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "CALLS\tHELD\tPACKETS/s\tLOST BEFORE\tINSIDE\tCPU\tms A LEG s\tCALLER'S CPU\tKB A CALL\tMEMORY\tBEFORE\tAFTER\tANSWERED p50\tp99\tLAG p95\t")
	for _, s := range r.Steps {
		held := "yes"
		if !s.Held {
			held = "no"
		}
		p50, p99 := "-", "-"
		if s.Setup != nil {
			p50, p99 = fmt.Sprintf("%.1f ms", s.Setup.P50), fmt.Sprintf("%.1f ms", s.Setup.P99)
		}
		fmt.Fprintf(w, "%d\t%s\t%.0f\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f MB\t%.0f MB\t%.0f MB\t%s\t%s\t%.0f ms\t\n", s.Calls, held, s.PacketsASec,
			s.LostKernel, s.LostInside, s.CPU, s.CPUPerLegMS, s.ClientCPU, s.MemoryPerCallKB, s.MemoryMB, s.MemoryBeforeMB, s.MemoryAfterMB,
			p50, p99, s.LagP95MS)
	}
	_ = w.Flush() // to a terminal or a pipe; a broken one shows elsewhere
	for _, s := range r.Steps {
		if s.Why != "" {
			fmt.Fprintf(out, "%d calls: %s\n", s.Calls, s.Why)
		}
	}
}
