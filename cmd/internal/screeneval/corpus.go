package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// item is a line of a manifest.
type item struct {
	id, set, audio, digits string
}

// readManifests picks up to limit recordings of each set. A set is what the
// line calls so, or its label.
func readManifests(paths, sets []string, limit int) ([]item, error) {
	bySet := map[string][]item{}
	var order []string
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for n := 1; lines.Scan(); n++ {
			var it struct{ ID, Set, Label, Audio, Digits, Condition string }
			if err := json.Unmarshal(lines.Bytes(), &it); err != nil {
				f.Close()
				return nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
			if it.Audio == "" {
				continue
			}
			set := it.Set
			switch {
			case it.Digits != "":
				set = "digits"
			case set == "" && it.Label != "":
				set = it.Label
			case set == "":
				set = filepath.Base(filepath.Dir(path))
			case it.Condition != "" && it.Condition != "clean" && it.Condition != "telephone":
				set += "+noise"
			}
			wanted := false
			for _, s := range sets {
				wanted = wanted || strings.HasPrefix(set, s)
			}
			file, err := locate(path, it.Audio)
			if err != nil {
				f.Close()
				return nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
			if !wanted {
				continue
			}
			if bySet[set] == nil {
				order = append(order, set)
			}
			bySet[set] = append(bySet[set], item{it.ID, set, file, it.Digits})
		}
		err = lines.Err()
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	var picked []item
	for _, set := range order {
		all := bySet[set]
		n := len(all)
		if limit > 0 {
			n = min(n, limit)
		}
		for i := range n {
			picked = append(picked, all[i*len(all)/n])
		}
	}
	if len(picked) == 0 {
		return nil, errors.New("the manifests have no recording of these sets")
	}
	return picked, nil
}

// locate finds a manifest's recording beside it or in a folder above.
func locate(manifest, name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	dir := filepath.Dir(manifest)
	for range 3 {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		dir = filepath.Join(dir, "..")
	}
	return "", fmt.Errorf("%s is neither beside the manifest nor above", name)
}

// leg is one side of a recording, as the recogniser wants it.
type leg struct {
	side   audio.Leg
	rateHz int
	pcm    []int16
}

func (l *leg) length() time.Duration { return audio.Span(len(l.pcm), l.rateHz) }

const telephoneHz = 8000

// load reads a recording through the front end, after a telephone's rate.
func load(ctx context.Context, path string, rateHz int) ([]leg, error) {
	f, err := audio.OpenFile(path, audio.FileOptions{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := map[audio.Leg][]float32{}
	for {
		frame, err := f.ReadFrame(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for _, v := range frame.PCM {
			raw[frame.Leg] = append(raw[frame.Leg], float32(v))
		}
	}
	var legs []leg
	for _, side := range f.Info().Legs {
		pcm, err := prepare(raw[side], f.Info().RateHz, rateHz)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		legs = append(legs, leg{side, rateHz, pcm})
	}
	return legs, nil
}

func prepare(samples []float32, fromHz, toHz int) ([]int16, error) {
	if fromHz > telephoneHz {
		narrow, err := audio.NewResampler(fromHz, telephoneHz)
		if err != nil {
			return nil, err
		}
		samples = narrow.Flush(narrow.Process(nil, samples))
		fromHz = telephoneHz
	}
	pcm := make([]int16, len(samples))
	for i, v := range samples {
		pcm[i] = int16(max(-32768, min(32767, v)))
	}
	front, err := audio.NewFrontEnd(audio.FrontEndConfig{RateHz: toHz})
	if err != nil {
		return nil, err
	}
	var out []int16
	keep := func(frames []audio.Frame) {
		for _, f := range frames {
			out = append(out, f.PCM...)
		}
	}
	step := fromHz / 20
	for at := 0; at < len(pcm); at += step {
		frames, err := front.Process(audio.Frame{Start: audio.Span(at, fromHz), Rate: fromHz, PCM: pcm[at:min(at+step, len(pcm))]})
		if err != nil {
			return nil, err
		}
		keep(frames)
	}
	keep(front.Flush())
	return out, nil
}
