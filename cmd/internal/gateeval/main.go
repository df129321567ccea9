// Gateeval shows what the gate lets through: of sounds that are not speech as
// little as possible, of speech everything that a recogniser needs. It prints
// the share that passes of each, the word error rate with and without the
// gate, and what the gate costs. It is what "make eval-gate" runs.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/cmd/internal/recogniser"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/audio/audiotest"
	"github.com/callwarden/callwarden/transcribe/audio/silero"
)

func main() { recogniser.Main(run) }

// gating is one way of gating; voice nil is none.
type gating struct {
	name  string
	voice func() audio.Voice
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("gateeval", flag.ContinueOnError)
	corpus := flags.String("corpus", "", "folder with speech/manifest.jsonl; none measures sounds only")
	sets := flags.String("sets", "noizeus,noizeus+noise,an4,asterisk", "sets of the corpus, by comma; SET is its clean clips, SET+noise the others")
	limit := flags.Int("limit", 36, "clips a set, evenly spread; 0 for all")
	only := flags.String("ways", "none,loudness,silero", "ways of gating to compare, by comma")
	music := flags.String("music", "", "folder of WAV files that are music on hold")
	cfg := audio.DefaultGateConfig()
	flags.DurationVar(&cfg.PreRoll, "pre-roll", cfg.PreRoll, "audio before speech that is let through")
	flags.DurationVar(&cfg.HangOver, "hang-over", cfg.HangOver, "how long the gate stays open after speech")
	vad := silero.DefaultConfig()
	begin := flags.Float64("begin", float64(vad.Begin), "probability from which on Silero's speech begins")
	last := flags.Float64("last", float64(vad.Last), "probability down to which it lasts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	vad.Begin, vad.Last = float32(*begin), float32(*last)
	ways, closeVoices, err := gatings(vad)
	if err != nil {
		return err
	}
	defer closeVoices()
	ways = slices.DeleteFunc(ways, func(w gating) bool { return !slices.Contains(strings.Split(*only, ","), w.name) })
	if err := showSounds(ctx, os.Stdout, cfg, ways, *music); err != nil || *corpus == "" {
		return err
	}
	legs, err := readLegs(ctx, *corpus, strings.Split(*sets, ","), *limit)
	if err != nil {
		return err
	}
	engine, err := recogniser.Open(models.DefaultLibrary, models.DefaultModel, -1) // whole utterances only
	if err != nil {
		return err
	}
	defer engine.Close()
	return showSpeech(ctx, os.Stdout, engine, cfg, ways, strings.Split(*sets, ","), legs)
}

func gatings(cfg silero.Config) (ways []gating, closeAll func(), err error) {
	dir, err := models.DataDir("")
	if err != nil {
		return nil, nil, err
	}
	store := models.Open(dir)
	if cfg.Library, err = store.Path(models.VoiceLibrary); err != nil {
		return nil, nil, err
	}
	if cfg.Model, err = store.Path(models.VoiceModel); err != nil {
		return nil, nil, err
	}
	engine, err := silero.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	return []gating{
		{"none", nil},
		{"loudness", func() audio.Voice { return audio.NewLoudVoice() }},
		{"silero", engine.Voice},
	}, func() { _ = engine.Close() }, nil
}

const (
	telephoneHz = 8000
	soundLength = 60 * time.Second
)

// showSounds prints how much of each sound passes.
func showSounds(ctx context.Context, out io.Writer, cfg audio.GateConfig, ways []gating, music string) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "not speech: passes, %")
	ways = slices.DeleteFunc(slices.Clone(ways), func(w gating) bool { return w.voice == nil })
	for _, w := range ways {
		fmt.Fprintf(tw, "\t%s", w.name)
	}
	fmt.Fprintln(tw, "\t")
	show := func(name string, pcm []int16) error {
		fmt.Fprint(tw, name)
		for _, w := range ways {
			passed := 0
			_ = gated(audio.NewGate(cfg, w.voice()), pcm, func(f audio.Frame) error { passed += len(f.PCM); return nil }, nil)
			fmt.Fprintf(tw, "\t%.1f", 100*float64(passed)/float64(len(pcm)))
		}
		fmt.Fprintln(tw, "\t")
		return nil
	}
	for _, s := range audiotest.Sounds() {
		if err := show(s.Name, s.Make(int(soundLength.Seconds())*telephoneHz, telephoneHz)); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(music, "*.wav"))
	if err != nil || music != "" && len(files) == 0 {
		return fmt.Errorf("music %q: no WAV files", music)
	}
	if music == "" {
		files = nil
	}
	for _, name := range files {
		pcm, err := load(ctx, name)
		if err != nil {
			return err
		}
		if err := show(strings.TrimSuffix(filepath.Base(name), ".wav"), pcm); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// gated sends pcm through g in frames of 20 ms; closed, where not nil, is
// called whenever the gate closes.
func gated(g *audio.Gate, pcm []int16, pass func(audio.Frame) error, closed func() error) error {
	const n = telephoneHz / 50
	was := false
	for at := 0; at < len(pcm); at += n {
		frame := append([]int16(nil), pcm[at:min(at+n, len(pcm))]...)
		voiced, open := g.Process(audio.Frame{Start: audio.Span(at, telephoneHz), Rate: telephoneHz, PCM: frame})
		for _, f := range voiced {
			if err := pass(f); err != nil {
				return err
			}
		}
		if was && !open && closed != nil {
			if err := closed(); err != nil {
				return err
			}
		}
		was = open
	}
	return nil
}

// figures are what one way of gating does to one set.
type figures struct {
	wrong, words  int
	heard, passed time.Duration
	gate          time.Duration // wall time in the gate, which waits for nothing
}

// showSpeech prints word error rate and share of each set and way.
func showSpeech(ctx context.Context, out io.Writer, engine transcribe.Engine, cfg audio.GateConfig, ways []gating, sets []string, legs []speechLeg) error {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "\nspeech: word error rate, %% (passes, %%)\t%s\tmean\tgate, ms per s\t\n", strings.Join(sets, "\t"))
	for _, w := range ways {
		bySet, err := measure(ctx, engine, cfg, w, legs)
		if err != nil {
			return err
		}
		fmt.Fprintf(tw, "%s", w.name)
		var mean float64
		var gate, heard time.Duration
		for _, set := range sets {
			f := bySet[set]
			rate := 100 * float64(f.wrong) / float64(max(1, f.words))
			mean += rate / float64(len(sets))
			gate += f.gate
			heard += f.heard
			fmt.Fprintf(tw, "\t%.1f (%.0f)", rate, 100*f.passed.Seconds()/f.heard.Seconds())
		}
		fmt.Fprintf(tw, "\t%.2f\t%.2f\t\n", mean, 1000*gate.Seconds()/heard.Seconds())
	}
	return tw.Flush()
}

// measure hears all legs one way, on all cores.
func measure(ctx context.Context, engine transcribe.Engine, cfg audio.GateConfig, w gating, legs []speechLeg) (map[string]figures, error) {
	each := make([]figures, len(legs))
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(legs); i = int(next.Add(1)) - 1 {
				var err error
				if each[i], err = legs[i].hear(ctx, engine, cfg, w); err != nil {
					return fmt.Errorf("%s: %w", legs[i].set, err)
				}
				fmt.Fprintf(os.Stderr, "\r%s: %d of %d legs ", w.name, i+1, len(legs))
			}
			return nil
		})
	}
	err := g.Wait()
	fmt.Fprintln(os.Stderr)
	bySet := map[string]figures{}
	for i, f := range each {
		s := bySet[legs[i].set]
		s.wrong += f.wrong
		s.words += f.words
		s.heard += f.heard
		s.passed += f.passed
		s.gate += f.gate
		bySet[legs[i].set] = s
	}
	return bySet, err
}
