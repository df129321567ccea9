// Screeneval shows what the closed list hears: in frauds, which it should, and
// in honest speech, which it should not; what that costs beside the open
// vocabulary; and how well spoken codes are heard against the list of digits.
// It is what "make eval-screen" runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/recogniser"
	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/screen"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/detectors/talk"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

func main() {
	recogniser.Main(func(ctx context.Context, args []string) error { return run(ctx, args, os.Stdout) })
}

type settings struct {
	limit   int
	verbose bool
	against bool
	talk    *talk.Model
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("screeneval", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "screeneval [flags] MANIFEST.jsonl…\n\nEach line: id, audio, and label (scam, benign, …), set or digits.")
		flags.PrintDefaults()
	}
	var s settings
	flags.IntVar(&s.limit, "limit", 0, "recordings a set, evenly spread; 0 for all")
	flags.BoolVar(&s.verbose, "hits", false, "print every hit")
	flags.BoolVar(&s.against, "against-open", false, "decode with the open vocabulary as well, and tell the CPU time of the list by its")
	only := flags.String("sets", "", "beginnings of the names of sets that are heard, by comma; empty for all")
	packs := flags.String("packs", "", "folder of tactic packs instead of the built-in ones")
	model := flags.String("model", models.DefaultModel, "Vosk model: a name or a folder")
	library := flags.String("library", models.DefaultLibrary, "Vosk library: a name or a file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("no manifest is given")
	}
	items, err := readManifests(flags.Args(), strings.Split(*only, ","), s.limit)
	if err != nil {
		return err
	}
	lib, err := tactics.Load(*packs)
	if err != nil {
		return err
	}
	if s.talk, err = talk.Load(); err != nil {
		return err
	}
	engine, err := recogniser.Open(*library, *model, 0)
	if err != nil {
		return err
	}
	defer engine.Close()
	list, err := screen.Compile(lib.Set, engine.Knows)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d phrases, %d words not known to the model\n", len(list.Phrases()), len(list.Unheard()))
	return measure(ctx, engine, list, items, s, out)
}

// tally is what was heard in a set.
type tally struct {
	set                      string
	recordings, heard, woken int
	hits, wakes              int // a wake within two minutes of another is none
	audio, cpu, open, toWake time.Duration
	calls, awake             time.Duration // length of the calls, and how much of it is transcribed
}

func measure(ctx context.Context, engine *vosk.Engine, list *screen.List, items []item, s settings, out io.Writer) error {
	var order []string
	sets := map[string]*tally{}
	codes := codeTally{}
	for i, it := range items {
		fmt.Fprintf(os.Stderr, "\r%d of %d ", i+1, len(items))
		legs, err := load(ctx, it.audio, engine.Info().RateHz)
		if err != nil {
			return err
		}
		if it.digits != "" {
			if err := codes.hear(ctx, engine, list, it, legs); err != nil {
				return fmt.Errorf("%s: %w", it.audio, err)
			}
			continue
		}
		t := sets[it.set]
		if t == nil {
			t = &tally{set: it.set}
			sets[it.set] = t
			order = append(order, it.set)
		}
		if err := t.hear(ctx, engine, list, it, legs, s, out); err != nil {
			return fmt.Errorf("%s: %w", it.audio, err)
		}
	}
	fmt.Fprintln(os.Stderr)
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "set\trecordings\tminutes\twith hits\thits/h\twoken\twakes/h\tafter s\ttranscribed %\tCPU/s\tby open\t")
	for _, name := range order {
		t := sets[name]
		hours := t.audio.Hours()
		fmt.Fprintf(tw, "%s\t%d\t%.1f\t%d\t%.1f\t%d\t%.1f\t", t.set, t.recordings, t.audio.Minutes(), t.heard, float64(t.hits)/hours, t.woken, float64(t.wakes)/hours)
		after, by := "", ""
		if t.woken > 0 {
			after = fmt.Sprintf("%.1f", t.toWake.Seconds()/float64(t.woken))
		}
		if t.open > 0 {
			by = fmt.Sprintf("%.2f", t.cpu.Seconds()/t.open.Seconds())
		}
		fmt.Fprintf(tw, "%s\t%.0f\t%.4f\t%s\t\n", after, 100*t.awake.Seconds()/t.calls.Seconds(), t.cpu.Seconds()/t.audio.Seconds(), by)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	return codes.print(out)
}

// stayAwake is how long a call that was woken is transcribed, at least, and
// ring how far back.
const (
	stayAwake = 2 * time.Minute
	ring      = 30 * time.Second
)

// hear screens the legs of one recording, one after the other in steps as the
// call goes on.
func (t *tally) hear(ctx context.Context, engine *vosk.Engine, list *screen.List, it item, legs []leg, s settings, out io.Writer) error {
	began := cpuTime()
	segs, err := decode(ctx, engine, transcribe.Options{Phrases: list.Phrases(), Thrifty: true}, legs)
	if err != nil {
		return err
	}
	t.cpu += cpuTime() - began
	t.recordings++
	for _, l := range legs {
		t.audio += l.length()
	}
	if s.against {
		began = cpuTime()
		if _, err := decode(ctx, engine, transcribe.Options{}, legs); err != nil {
			return err
		}
		t.open += cpuTime() - began
	}
	scorer, finder := list.Scorer(s.talk.NewCall()), list.NewFinder()
	hits, awake := 0, time.Duration(-1)
	var length time.Duration
	for _, l := range legs {
		length = max(length, l.length())
	}
	t.calls += length
	first := time.Duration(-1)
	for _, seg := range segs {
		verdict := scorer.Hear(seg)
		woke := ""
		if verdict == detectors.Wake {
			if awake < 0 || seg.End > awake {
				t.wakes++
				woke = "WAKE "
			}
			until := min(length, seg.End+stayAwake)
			t.awake += max(0, until-max(awake, seg.End-ring))
			awake = seg.End + stayAwake
			if first < 0 {
				first = seg.End
			}
		}
		if !seg.Final {
			continue
		}
		found := finder.Hits(seg, nil)
		hits += len(found)
		if s.verbose {
			for _, h := range found {
				fmt.Fprintf(out, "%s\t%s\t%s\t%.1f\t%s\t%.2f\t%.2f\t%s%q\n", it.set, it.id, seg.Leg, h.Start.Seconds(), h.Pattern.Rule(), h.Worth, h.Confidence, woke, h.Words)
			}
		}
	}
	t.hits += hits
	if hits > 0 {
		t.heard++
	}
	if first >= 0 {
		t.woken++
		t.toWake += first
	}
	return nil
}

// decode hears all legs in steps of 100 ms, side by side.
func decode(ctx context.Context, engine *vosk.Engine, opt transcribe.Options, legs []leg) ([]transcribe.Segment, error) {
	sessions := make([]transcribe.Session, len(legs))
	opt.RateHz = engine.Info().RateHz
	for i, l := range legs {
		opt.Leg = l.side
		s, err := engine.Open(ctx, opt)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		sessions[i] = s
	}
	var all []transcribe.Segment
	step := opt.RateHz / 10
	for at, more := 0, true; more; at += step {
		more = false
		for i, l := range legs {
			if at >= len(l.pcm) {
				continue
			}
			more = true
			segs, err := sessions[i].Write(ctx, audio.Frame{
				Leg: l.side, Start: audio.Span(at, opt.RateHz), Rate: opt.RateHz, PCM: l.pcm[at:min(at+step, len(l.pcm))],
			})
			if err != nil {
				return nil, err
			}
			all = append(all, segs...)
		}
	}
	for _, s := range sessions {
		segs, err := s.Finish(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, segs...)
	}
	return all, nil
}
