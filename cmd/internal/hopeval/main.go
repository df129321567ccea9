// Command hopeval measures what it costs to hear in another process: the
// processor time and the delay that the hop adds to a leg, how many legs each
// way holds, and what is lost when the process is killed under its calls.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/load"
	"github.com/callwarden/callwarden/cmd/internal/recogniser"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/testdata"
	"github.com/callwarden/callwarden/transcribe/supervised"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

func main() {
	recogniser.Main(func(ctx context.Context, args []string) error { return run(ctx, args, os.Stdout) })
}

type options struct {
	program string
	legs    int
	rounds  int
	each    time.Duration
	calls   int
	listen  string
	live    bool
	hop     bool
	kill    bool
	asJSON  bool
}

// results are what was measured.
type results struct {
	Hop  *hopResults  `json:"hop,omitempty"`
	Kill *killResults `json:"kill,omitempty"`
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("hopeval", flag.ContinueOnError)
	f.StringVar(&o.program, "program", "bin/callwarden", "callwarden itself, for the other process")
	f.BoolVar(&o.hop, "hop", false, "measure processor time, delay and legs held, here and in another process in turn")
	f.IntVar(&o.legs, "legs", 4, "legs heard in real time for that")
	f.IntVar(&o.rounds, "rounds", 4, "rounds of each way")
	f.DurationVar(&o.each, "each", 10*time.Second, "length of a round")
	f.BoolVar(&o.kill, "kill", false, "kill the other process under calls, and compare with the same calls undisturbed")
	f.IntVar(&o.calls, "calls", 50, "calls at once for that")
	f.StringVar(&o.listen, "listen", listen.Screening, "way of listening to them: screen or full")
	f.BoolVar(&o.live, "live", false, "play them in real time, as live calls; else as fast as they go")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.hop == o.kill {
		return errors.New("one of --hop and --kill must be given")
	}
	var r results
	var err error
	if o.hop {
		r.Hop, err = measureHop(ctx, o)
	} else {
		r.Kill, err = measureKill(ctx, o)
	}
	if err != nil {
		return err
	}
	if o.asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	if r.Hop != nil {
		r.Hop.print(out)
	}
	if r.Kill != nil {
		r.Kill.print(out)
	}
	return nil
}

func openHere() (*vosk.Engine, error) {
	return recogniser.Open(models.DefaultLibrary, models.DefaultModel, 0)
}

func openThere(o options) (*supervised.Engine, error) {
	cfg := supervised.DefaultConfig()
	cfg.Command = []string{o.program, "transcriber", "serve", "--end-with-input"}
	return supervised.New(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1})))
}

func recordings() ([]*load.Recording, error) {
	rs, err := load.ReadFS(testdata.Calls)
	if err != nil {
		return nil, err
	}
	load.Fit(rs, 0.45)
	return rs, nil
}

// percent is by how much b is more than a.
func percent(a, b float64) string {
	if a == 0 {
		return "-"
	}
	return strings.Replace(fmt.Sprintf("%+.1f %%", 100*(b/a-1)), "+-", "-", 1)
}
