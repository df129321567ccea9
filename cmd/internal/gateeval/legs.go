package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/wer"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// speechLeg is one leg of a call made of clips with pauses between them.
type speechLeg struct {
	set  string
	pcm  []int16 // at telephoneHz
	text []string
}

const (
	clipsPerLeg = 12
	pauseLength = 2500 * time.Millisecond
	lineNoise   = 15 // rms between the clips
)

// readLegs makes legs of up to limit clips of each set.
func readLegs(ctx context.Context, dir string, sets []string, limit int) ([]speechLeg, error) {
	f, err := os.Open(filepath.Join(dir, "speech", "manifest.jsonl"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	type clip struct{ Set, Audio, Text, Condition string }
	bySet := map[string][]clip{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var item clip
		if err := json.Unmarshal(lines.Bytes(), &item); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", f.Name(), n, err)
		}
		if item.Condition != "clean" {
			item.Set += "+noise"
		}
		bySet[item.Set] = append(bySet[item.Set], item)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var legs []speechLeg
	for _, set := range sets {
		all := bySet[set]
		if len(all) == 0 {
			return nil, fmt.Errorf("%s has no set %q", f.Name(), set)
		}
		n := len(all)
		if limit > 0 {
			n = min(n, limit)
		}
		var leg speechLeg
		for i := range n {
			c := all[i*len(all)/n]
			pcm, err := load(ctx, filepath.Join(dir, c.Audio))
			if err != nil {
				return nil, err
			}
			leg.set = set
			leg.pcm = append(append(leg.pcm, pause(random)...), pcm...)
			leg.text = append(leg.text, wer.Words(c.Text)...)
			if i == n-1 || (i+1)%clipsPerLeg == 0 {
				leg.pcm = append(leg.pcm, pause(random)...)
				legs = append(legs, leg)
				leg = speechLeg{}
			}
		}
	}
	return legs, nil
}

func pause(random *rand.Rand) []int16 {
	pcm := make([]int16, int(pauseLength.Seconds()*telephoneHz))
	for i := range pcm {
		pcm[i] = int16(lineNoise * random.NormFloat64())
	}
	return pcm
}

// load reads the first channel of a recording, at the rate of a telephone.
func load(ctx context.Context, path string) ([]int16, error) {
	f, err := audio.OpenFile(path, audio.FileOptions{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := audio.NewResampler(f.Info().RateHz, telephoneHz)
	if err != nil {
		return nil, err
	}
	var wide, narrow []float32
	for {
		frame, err := f.ReadFrame(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if frame.Leg != f.Info().Legs[0] {
			continue
		}
		wide = wide[:0]
		for _, v := range frame.PCM {
			wide = append(wide, float32(v))
		}
		narrow = r.Process(narrow, wide)
	}
	pcm := make([]int16, 0, len(narrow))
	for _, v := range r.Flush(narrow) {
		pcm = append(pcm, int16(min(max(v, -32768), 32767)))
	}
	return pcm, nil
}

// hear recognises the leg through one way of gating.
func (l speechLeg) hear(ctx context.Context, engine transcribe.Engine, cfg audio.GateConfig, w gating) (figures, error) {
	f := figures{words: len(l.text), heard: audio.Span(len(l.pcm), telephoneHz)}
	front, err := audio.NewFrontEnd(audio.FrontEndConfig{RateHz: engine.Info().RateHz})
	if err != nil {
		return f, err
	}
	session, err := engine.Open(ctx, transcribe.Options{RateHz: engine.Info().RateHz})
	if err != nil {
		return f, err
	}
	defer session.Close()
	var heard []string
	keep := func(segments []transcribe.Segment, err error) error {
		for _, s := range segments {
			if s.Final {
				heard = append(heard, wer.Words(s.Text)...)
			}
		}
		return err
	}
	var inside time.Duration // the recogniser
	began := time.Now()
	away := func(fn func() error) error {
		at := time.Now()
		defer func() { inside += time.Since(at) }()
		return fn()
	}
	write := func(frame audio.Frame) error {
		return away(func() error {
			f.passed += frame.End() - frame.Start
			wide, err := front.Process(frame)
			for _, frame := range wide {
				if err := keep(session.Write(ctx, frame)); err != nil {
					return err
				}
			}
			return err
		})
	}
	flush := func() error {
		for _, frame := range front.Flush() {
			if err := keep(session.Write(ctx, frame)); err != nil {
				return err
			}
		}
		return nil
	}
	if w.voice == nil {
		err = gated(audio.NewGate(cfg, always{}), l.pcm, write, nil)
	} else {
		err = gated(audio.NewGate(cfg, w.voice()), l.pcm, write, func() error {
			return away(func() error {
				if err := flush(); err != nil {
					return err
				}
				return keep(session.(transcribe.Pauser).Pause(ctx))
			})
		})
		f.gate = time.Since(began) - inside
	}
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = keep(session.Finish(ctx))
	}
	f.wrong = wer.Errors(l.text, heard)
	return f, err
}

// always hears speech in everything.
type always struct{}

func (always) Start(int) int       { return 160 }
func (always) Speech([]int16) bool { return true }
