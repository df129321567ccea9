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

	"github.com/callwarden/callwarden/cmd/internal/wer"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// clip is one leg of a recording and what is said in it.
type clip struct {
	set, name string
	path      string
	leg       int // of the recording's, counted from 0
	text      []string
}

// readCorpus reads speech/manifest.jsonl below dir: by set, SET for clean
// clips, SET-10dB for those with noise of that ratio, SET-noise for others.
func readCorpus(dir string) (map[string][]clip, error) {
	sets := map[string][]clip{}
	err := eachLine(filepath.Join(dir, "speech", "manifest.jsonl"), func(data []byte) error {
		var item struct {
			ID, Set, Audio, Text, Condition string
			SNR                             *float64 `json:"snr_db"`
		}
		if err := json.Unmarshal(data, &item); err != nil {
			return err
		}
		set := item.Set
		switch {
		case item.Condition == "clean":
		case item.SNR != nil:
			set += fmt.Sprintf("-%gdB", *item.SNR)
		default:
			set += "-noise"
		}
		sets[set] = append(sets[set], clip{set: set, name: item.ID, path: filepath.Join(dir, item.Audio), text: wer.Words(item.Text)})
		return nil
	})
	return sets, err
}

// readCalls reads a manifest of whole calls, a clip for each leg that has
// words. Recordings lie beside the manifest or in the folder beside.
func readCalls(manifest, set string) ([]clip, error) {
	var clips []clip
	err := eachLine(manifest, func(data []byte) error {
		var item struct {
			ID, Audio string
			Channels  []string
			Turns     []struct{ Role, Text string }
		}
		if err := json.Unmarshal(data, &item); err != nil {
			return err
		}
		for leg, role := range item.Channels {
			c := clip{set: set, name: item.ID + " " + role, path: filepath.Join(filepath.Dir(manifest), item.Audio), leg: leg}
			for _, t := range item.Turns {
				if t.Role == role {
					c.text = append(c.text, wer.Words(t.Text)...)
				}
			}
			if len(c.text) > 0 {
				clips = append(clips, c)
			}
		}
		return nil
	})
	return clips, err
}

// readScripts reads calls written as NAME.txt, "caller: words" and "callee:
// words" a line, whose recordings are NAME.wav in the folder spoken: caller
// left, callee right.
func readScripts(scripts, spoken, set string) ([]clip, error) {
	paths, err := filepath.Glob(filepath.Join(scripts, "*.txt"))
	if err != nil {
		return nil, err
	}
	var clips []clip
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		for leg, role := range []string{"caller", "callee"} {
			c := clip{set: set, name: name + " " + role, path: filepath.Join(spoken, name+".wav"), leg: leg}
			for text := range strings.Lines(string(data)) {
				if words, ok := strings.CutPrefix(text, role+": "); ok {
					c.text = append(c.text, wer.Words(words)...)
				}
			}
			clips = append(clips, c)
		}
	}
	return clips, nil
}

// spread picks n of clips evenly; all for 0.
func spread(clips []clip, n int) []clip {
	if n <= 0 || n >= len(clips) {
		return clips
	}
	picked := make([]clip, n)
	for i := range picked {
		picked[i] = clips[i*len(clips)/n]
	}
	return picked
}

func eachLine(path string, do func([]byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		if err := do(lines.Bytes()); err != nil {
			return fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// load reads the clip's leg.
func (c clip) load(ctx context.Context) (pcm []int16, rateHz int, err error) {
	f, err := audio.OpenFile(c.path, audio.FileOptions{})
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if c.leg >= len(f.Info().Legs) {
		return nil, 0, fmt.Errorf("%s has %d channels, not %d", c.path, len(f.Info().Legs), c.leg+1)
	}
	for {
		frame, err := f.ReadFrame(ctx)
		if errors.Is(err, io.EOF) {
			return pcm, f.Info().RateHz, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if frame.Leg == f.Info().Legs[c.leg] {
			pcm = append(pcm, frame.PCM...)
		}
	}
}
