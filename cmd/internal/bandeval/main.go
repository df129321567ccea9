// Bandeval shows what stands in for the band that a telephone takes away: it
// hears a corpus through several ways of making 8 kHz speech into the 16 kHz
// that the model wants, and prints the word error rate of each. It is what
// "make bench-band" runs.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/cmd/internal/wer"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return
	case errors.Is(err, transcribe.ErrNotInstalled):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bandeval", flag.ContinueOnError)
	corpus := flags.String("corpus", "", "folder with speech/manifest.jsonl")
	names := flags.String("ways", wayNames(), "ways to compare, by comma; the first is what the others are compared to")
	sets := flags.String("sets", "noizeus,noizeus+noise,an4,asterisk", "sets of the corpus, by comma; SET is its clean clips, SET+noise the others")
	limit := flags.Int("limit", 40, "clips a set, evenly spread; 0 for all")
	model := flags.String("model", models.DefaultModel, "Vosk model: a name or a folder")
	library := flags.String("library", models.DefaultLibrary, "Vosk library: a name or a file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *corpus == "" {
		return errors.New("--corpus is missing: give the folder that holds speech/manifest.jsonl")
	}
	var chosen []way
	for name := range strings.SplitSeq(*names, ",") {
		w, err := wayNamed(name)
		if err != nil {
			return err
		}
		chosen = append(chosen, w)
	}
	clips, err := readCorpus(*corpus, strings.Split(*sets, ","), *limit)
	if err != nil {
		return err
	}
	engine, err := openEngine(*library, *model)
	if err != nil {
		return err
	}
	defer engine.Close()

	var results []result
	for _, w := range chosen {
		r, err := measure(ctx, engine, w, clips)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	return printTable(os.Stdout, strings.Split(*sets, ","), results)
}

func openEngine(library, model string) (*vosk.Engine, error) {
	dir, err := models.DataDir("")
	if err != nil {
		return nil, err
	}
	store := models.Open(dir)
	cfg := vosk.DefaultConfig()
	cfg.PartialEvery = 0
	if cfg.Library, err = store.Locate(models.Library, library); err != nil {
		return nil, err
	}
	if cfg.Model, err = store.Locate(models.Model, model); err != nil {
		return nil, err
	}
	return vosk.New(cfg, slog.New(slog.DiscardHandler))
}

// clip is one recording of the corpus.
type clip struct {
	set  string
	path string
	text []string
}

// readCorpus picks up to limit clips of each set.
func readCorpus(dir string, sets []string, limit int) ([]clip, error) {
	f, err := os.Open(filepath.Join(dir, "speech", "manifest.jsonl"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bySet := map[string][]clip{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var item struct{ Set, Audio, Text, Condition string }
		if err := json.Unmarshal(lines.Bytes(), &item); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", f.Name(), n, err)
		}
		if item.Condition != "clean" {
			item.Set += "+noise"
		}
		bySet[item.Set] = append(bySet[item.Set], clip{item.Set, filepath.Join(dir, item.Audio), wer.Words(item.Text)})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	var picked []clip
	for _, set := range sets {
		all := bySet[set]
		if len(all) == 0 {
			return nil, fmt.Errorf("%s has no set %q", f.Name(), set)
		}
		n := len(all)
		if limit > 0 {
			n = min(n, limit)
		}
		for i := range n {
			picked = append(picked, all[i*len(all)/n])
		}
	}
	return picked, nil
}

// result is how a way did.
type result struct {
	way            string
	errors, spoken map[string]int // by set
}

func (r result) rate(set string) float64 {
	return 100 * float64(r.errors[set]) / float64(r.spoken[set])
}

// measure hears all clips through one way, on all cores.
func measure(ctx context.Context, engine transcribe.Engine, w way, clips []clip) (result, error) {
	wrong := make([]int, len(clips))
	var next, done atomic.Int64
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(clips) {
					return nil
				}
				heard, err := hear(ctx, engine, w, clips[i].path)
				if err != nil {
					return fmt.Errorf("%s: %w", clips[i].path, err)
				}
				wrong[i] = wer.Errors(clips[i].text, heard)
				progress(w.name, int(done.Add(1)), len(clips), began)
			}
		})
	}
	if err := g.Wait(); err != nil {
		return result{}, err
	}
	r := result{w.name, map[string]int{}, map[string]int{}}
	for i, c := range clips {
		r.errors[c.set] += wrong[i]
		r.spoken[c.set] += len(c.text)
	}
	return r, nil
}

// progress keeps one line on a terminal; elsewhere it says when a way is done.
func progress(name string, done, of int, began time.Time) {
	info, err := os.Stderr.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	switch line := fmt.Sprintf("%-12s %d of %d clips, %v", name, done, of, time.Since(began).Round(time.Second)); {
	case done == of && terminal:
		fmt.Fprintf(os.Stderr, "\r%s\n", line)
	case done == of:
		fmt.Fprintln(os.Stderr, line)
	case terminal:
		fmt.Fprintf(os.Stderr, "\r%s ", line)
	}
}

// hear recognises one clip. All ways start from the same 8 kHz, except the one
// that shows what a wide-band call would give.
func hear(ctx context.Context, engine transcribe.Engine, w way, path string) ([]string, error) {
	pcm, rateHz, err := load(ctx, path)
	if err != nil {
		return nil, err
	}
	if !w.wide && rateHz != telephoneHz {
		if pcm, err = resample(pcm, rateHz, telephoneHz); err != nil {
			return nil, err
		}
		rateHz = telephoneHz
	}
	modelHz := engine.Info().RateHz
	if pcm, err = w.make(pcm, rateHz, modelHz); err != nil {
		return nil, err
	}
	session, err := engine.Open(ctx, transcribe.Options{RateHz: modelHz})
	if err != nil {
		return nil, err
	}
	defer session.Close()
	var text []string
	keep := func(segments []transcribe.Segment) {
		for _, s := range segments {
			if s.Final {
				text = append(text, wer.Words(s.Text)...)
			}
		}
	}
	const frame = 1600 // 100 ms
	for at := 0; at < len(pcm); at += frame {
		segments, err := session.Write(ctx, audio.Frame{Start: audio.Span(at, modelHz), Rate: modelHz, PCM: pcm[at:min(at+frame, len(pcm))]})
		if err != nil {
			return nil, err
		}
		keep(segments)
	}
	segments, err := session.Finish(ctx)
	keep(segments)
	return text, err
}

// load reads the first channel of a recording.
func load(ctx context.Context, path string) (pcm []int16, rateHz int, err error) {
	f, err := audio.OpenFile(path, audio.FileOptions{})
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	for {
		frame, err := f.ReadFrame(ctx)
		if errors.Is(err, io.EOF) {
			return pcm, f.Info().RateHz, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if frame.Leg == f.Info().Legs[0] {
			pcm = append(pcm, frame.PCM...)
		}
	}
}

// printTable writes a line for each way: rates by set, their mean, and how far
// that is from the first way's.
func printTable(out io.Writer, sets []string, results []result) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "word error rate, %%\t%s\tmean\tagainst %s\t\n", strings.Join(sets, "\t"), results[0].way)
	mean := func(r result) (m float64) {
		for _, set := range sets {
			m += r.rate(set) / float64(len(sets))
		}
		return m
	}
	for _, r := range results {
		fmt.Fprintf(tw, "%s\t", r.way)
		for _, set := range sets {
			fmt.Fprintf(tw, "%.1f\t", r.rate(set))
		}
		fmt.Fprintf(tw, "%.1f\t%+.1f\t\n", mean(r), mean(r)-mean(results[0]))
	}
	return tw.Flush()
}
