// Bandeval shows what it is worth to put back what a telephone takes away: it
// sends a corpus through telephone lines, hears it with each filling and as it
// was before the line, and prints the word error rates; it draws them, with
// spectrograms, into a page. It is what "make eval-band" runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/cmd/internal/recogniser"
	"github.com/callwarden/callwarden/cmd/internal/wer"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func main() { recogniser.Main(run) }

type options struct {
	corpus, calls, scripts, spoken string
	rows, ways, words, page        string
	limit                          int
	model, library                 string
}

func run(ctx context.Context, args []string) error {
	var opt options
	flags := flag.NewFlagSet("bandeval", flag.ContinueOnError)
	flags.StringVar(&opt.corpus, "corpus", "", "folder with speech/manifest.jsonl")
	flags.StringVar(&opt.calls, "calls", "", "manifest of whole calls: the set \"dialogues\"")
	flags.StringVar(&opt.scripts, "scripts", "testdata/calls", "folder of written calls: the set \"demo\", if --spoken is given")
	flags.StringVar(&opt.spoken, "spoken", "", "folder with their recordings, 16 kHz")
	flags.StringVar(&opt.rows, "rows", "noizeus:8k,noizeus-10dB:8k,an4:16k,an4:8k,an4:300-3400,an4:g711,asterisk:8k,asterisk:300-3400,dialogues:16k,dialogues:300-3400,demo:16k,demo:300-3400",
		"SET:LINE by comma; those of sets that are not given are left out; lines are 16k, 8k, 300-3400, g711")
	flags.StringVar(&opt.ways, "ways", "sinc,simple,learned,original", "ways to compare, by comma: "+wayNames())
	flags.StringVar(&opt.words, "words", "demo:300-3400,robocall-noise:8k,robocall:8k", "rows whose words gained and lost are listed")
	flags.StringVar(&opt.page, "out", "", "HTML page to write")
	flags.IntVar(&opt.limit, "limit", 40, "clips a set, evenly spread; 0 for all")
	flags.StringVar(&opt.model, "model", models.DefaultModel, "Vosk model: a name or a folder")
	flags.StringVar(&opt.library, "library", models.DefaultLibrary, "Vosk library: a name or a file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if opt.corpus == "" {
		return errors.New("--corpus is missing: give the folder that holds speech/manifest.jsonl")
	}
	var chosen []way
	for name := range strings.SplitSeq(opt.ways, ",") {
		w, err := wayNamed(name)
		if err != nil {
			return err
		}
		chosen = append(chosen, w)
	}
	rows, err := chooseRows(opt)
	if err != nil {
		return err
	}
	engine, err := recogniser.Open(opt.library, opt.model, -1) // whole utterances only
	if err != nil {
		return err
	}
	defer engine.Close()
	for i := range rows {
		if err := rows[i].measure(ctx, engine, chosen); err != nil {
			return err
		}
	}
	if err := printTable(os.Stdout, chosen, rows); err != nil || opt.page == "" {
		return err
	}
	return writePage(ctx, opt.page, chosen, rows, engine.Info().RateHz)
}

// row is a set sent through a line, and what was heard of it.
type row struct {
	set    string
	line   line
	clips  []clip
	words  bool         // list the words gained and lost
	scored bool         // counted in the table
	heard  [][][]string // by way and clip; nil where the way has nothing to hear
}

// chooseRows reads what the options name. Rows of sets that nobody gave are
// left out.
func chooseRows(opt options) ([]row, error) {
	sets, err := readCorpus(opt.corpus)
	if err != nil {
		return nil, err
	}
	if opt.calls != "" {
		if sets["dialogues"], err = readCalls(opt.calls, "dialogues"); err != nil {
			return nil, err
		}
	}
	if opt.spoken != "" {
		if sets["demo"], err = readScripts(opt.scripts, opt.spoken, "demo"); err != nil {
			return nil, err
		}
	}
	var rows []row
	add := func(name string, words bool) error {
		set, lineName, _ := strings.Cut(name, ":")
		l, err := lineNamed(lineName)
		if err != nil {
			return err
		}
		for i := range rows {
			if rows[i].set == set && rows[i].line.name == l.name {
				rows[i].words = rows[i].words || words
				return nil
			}
		}
		if clips := spread(sets[set], opt.limit); len(clips) > 0 {
			rows = append(rows, row{set: set, line: l, clips: clips, words: words, scored: !words})
		}
		return nil
	}
	for name := range strings.SplitSeq(opt.rows, ",") {
		if err := add(name, false); err != nil {
			return nil, err
		}
	}
	for name := range strings.SplitSeq(opt.words, ",") {
		if err := add(name, true); err != nil {
			return nil, err
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("--rows: nothing given has any of %s", opt.rows)
	}
	return rows, nil
}

// rate is a way's word error rate in per cent, and whether it has one.
func (r row) rate(way int) (percent float64, ok bool) {
	wrong, said := 0, 0
	for i, c := range r.clips {
		if r.heard[way][i] == nil {
			return 0, false
		}
		wrong += wer.Errors(c.text, r.heard[way][i])
		said += len(c.text)
	}
	return 100 * float64(wrong) / float64(max(said, 1)), r.scored
}

// measure hears all clips through all ways, on all cores.
func (r *row) measure(ctx context.Context, engine transcribe.Engine, ways []way) error {
	began := time.Now()
	r.heard = make([][][]string, len(ways))
	for w := range ways {
		r.heard[w] = make([][]string, len(r.clips))
	}
	var next, done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(r.clips) {
					return nil
				}
				if err := r.hear(ctx, engine, ways, i); err != nil {
					return fmt.Errorf("%s: %w", r.clips[i].path, err)
				}
				progress(r.set+" "+r.line.name, int(done.Add(1)), len(r.clips), began)
			}
		})
	}
	return g.Wait()
}

// hear takes one clip through the line and all ways.
func (r *row) hear(ctx context.Context, engine transcribe.Engine, ways []way, i int) error {
	pcm, rateHz, err := r.clips[i].load(ctx)
	if err != nil {
		return err
	}
	sent, sentHz, err := r.line.send(pcm, rateHz)
	if err != nil {
		return err
	}
	modelHz := engine.Info().RateHz
	for w, way := range ways {
		in, inHz := sent, sentHz
		if way.original {
			if rateHz <= telephoneHz || r.line.name == "16k" {
				continue // there is none, or it is the same as learned
			}
			in, inHz = pcm, rateHz
		}
		if in, err = way.make(in, inHz, modelHz); err != nil {
			return err
		}
		if r.heard[w][i], err = recognise(ctx, engine, in); err != nil {
			return err
		}
	}
	return nil
}

// progress keeps one line on a terminal; elsewhere it says when a row is done.
func progress(name string, done, of int, began time.Time) {
	info, err := os.Stderr.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	switch line := fmt.Sprintf("%-20s %d of %d clips, %v", name, done, of, time.Since(began).Round(time.Second)); {
	case done == of && terminal:
		fmt.Fprintf(os.Stderr, "\r%s\n", line)
	case done == of:
		fmt.Fprintln(os.Stderr, line)
	case terminal:
		fmt.Fprintf(os.Stderr, "\r%s ", line)
	}
}

// recognise hears samples at the model's rate. It is never nil.
func recognise(ctx context.Context, engine transcribe.Engine, pcm []int16) ([]string, error) {
	modelHz := engine.Info().RateHz
	session, err := engine.Open(ctx, transcribe.Options{RateHz: modelHz})
	if err != nil {
		return nil, err
	}
	defer session.Close()
	text := []string{}
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

// printTable writes a line for each row, then the words gained and lost.
func printTable(out io.Writer, ways []way, rows []row) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "word error rate, %\tclips\twords\t")
	for _, w := range ways {
		fmt.Fprintf(tw, "%s\t", w.name)
	}
	fmt.Fprintln(tw)
	for _, r := range rows {
		if !r.scored {
			continue
		}
		said := 0
		for _, c := range r.clips {
			said += len(c.text)
		}
		fmt.Fprintf(tw, "%s %s\t%d\t%d\t", r.set, r.line.name, len(r.clips), said)
		for w := range ways {
			if rate, ok := r.rate(w); ok {
				fmt.Fprintf(tw, "%.1f\t", rate)
			} else {
				fmt.Fprint(tw, "–\t")
			}
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, c := range changes(ways, rows) {
		fmt.Fprintf(out, "\n%s\n  gained: %s\n  lost:   %s\n", c.Name, strings.Join(c.Gained, " "), strings.Join(c.Lost, " "))
	}
	return nil
}
