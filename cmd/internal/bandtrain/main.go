// Bandtrain trains the net that puts back what a telephone takes away, from
// recordings of wide-band speech. It is what "make train-band" runs.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/audio/extend"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("bandtrain", flag.ContinueOnError)
	out := flags.String("out", "", "file to write")
	cfg := defaultTraining()
	flags.IntVar(&cfg.Hidden, "hidden", cfg.Hidden, "units of the net")
	flags.IntVar(&cfg.Passes, "passes", cfg.Passes, "times that all speech is gone through")
	flags.IntVar(&cfg.Variants, "variants", cfg.Variants, "lines that each clip is sent through")
	flags.Float64Var(&cfg.Noisy, "noisy", cfg.Noisy, "share of clips spoken in noise")
	flags.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of all that is drawn at random")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: bandtrain --out FILE FOLDER…: folders of 16 kHz speech, WAV or FLAC")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || flags.NArg() == 0 {
		flags.Usage()
		return errors.New("--out or the folders are missing")
	}
	rec := record{Training: cfg}
	var sets [][][]float32
	for _, dir := range flags.Args() {
		clips, err := readFolder(dir)
		if err != nil {
			return err
		}
		if len(clips) == 0 {
			return fmt.Errorf("%s has no speech at %d Hz", dir, extend.RateHz)
		}
		f := newFolder(dir, clips)
		fmt.Fprintf(os.Stderr, "%s: %d clips, %.1f min\n", dir, f.Clips, f.Minutes)
		rec.Speech = append(rec.Speech, f)
		sets = append(sets, clips)
	}
	streams, err := prepare(sets, cfg)
	if err != nil {
		return err
	}
	net, square := train(cfg, streams, os.Stderr)
	rec.SquareError = math.Round(1000*square) / 1000
	if net.Record, err = json.MarshalIndent(rec, "", "  "); err != nil {
		return err
	}
	b, err := net.MarshalBinary()
	if err != nil {
		return err
	}
	return os.WriteFile(*out, b, 0o644) //nolint:gosec // for everybody to read
}

// record tells what a net was trained on. It goes into the net's file.
type record struct {
	Training    trainConfig `json:"training"`
	Speech      []folder    `json:"speech"`
	SquareError float64     `json:"mean_square_error"` // of log energies, in the last pass
}

type folder struct {
	Name    string  `json:"name"`
	Clips   int     `json:"clips"`
	Minutes float64 `json:"minutes"`
	SHA256  string  `json:"sha256"` // of the levelled samples
}

func newFolder(dir string, clips [][]float32) folder {
	f := folder{Name: filepath.Base(dir), Clips: len(clips)}
	sum := sha256.New()
	samples := 0
	for _, c := range clips {
		b := make([]byte, 0, 4*len(c))
		for _, v := range c {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		sum.Write(b)
		samples += len(c)
	}
	f.Minutes = math.Round(float64(samples)/extend.RateHz/6) / 10
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return f
}

// prepare joins clips to streams of some seconds, each through a channel.
func prepare(sets [][][]float32, cfg trainConfig) ([]stream, error) {
	type job struct {
		wide   []float32
		others [][]float32
		random *rand.Rand
	}
	var jobs []job
	for s, clips := range sets {
		for v := range cfg.Variants {
			random := rand.New(rand.NewPCG(cfg.Seed, uint64(1000*s+v)))
			order := random.Perm(len(clips))
			var joined []float32
			for i, k := range order {
				joined = append(joined, clips[k]...)
				if len(joined) > 7*extend.RateHz || i == len(order)-1 {
					jobs = append(jobs, job{joined, clips, rand.New(rand.NewPCG(random.Uint64(), 2))})
					joined = nil
				}
			}
		}
	}
	streams := make([]stream, len(jobs))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, j := range jobs {
		g.Go(func() (err error) {
			streams[i], err = simulate(drawChannel(j.random, cfg.Noisy), j.wide, j.others, j.random)
			return err
		})
	}
	return streams, g.Wait()
}

func readFolder(dir string) ([][]float32, error) {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".wav") || strings.HasSuffix(path, ".flac")) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	sort.Strings(paths)
	var clips [][]float32
	for _, p := range paths {
		x, err := readClip(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		if len(x) > extend.RateHz/2 {
			level(x)
			clips = append(clips, x)
		}
	}
	return clips, nil
}

func readClip(path string) (x []float32, err error) {
	f, err := audio.OpenFile(path, audio.FileOptions{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Info().RateHz != extend.RateHz {
		return nil, nil
	}
	for {
		frame, err := f.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			return x, nil
		}
		if err != nil {
			return nil, err
		}
		if frame.Leg == f.Info().Legs[0] {
			for _, v := range frame.PCM {
				x = append(x, float32(v))
			}
		}
	}
}
