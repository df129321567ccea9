package vosk

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// loadModel loads a model with the library's own dither off. That is random
// noise from one generator for the whole process: with it the same recording
// is heard differently each time.
//
// The library takes the setting from the model's conf/mfcc.conf only, so it is
// shown a folder of links to the model with a conf of ours. It reads
// everything before it returns, so the folder is gone afterwards. The settings
// are lines for the end of its conf/model.conf.
//
// For the open vocabulary the model's other settings stay as they come. Tried
// on telephone speech, in points of word error rate (NOIZEUS, AN4, Asterisk
// prompts; more is worse): acoustic-scale 0.8 +5.6, 1.2 +2.7; frames-per-chunk
// 9 -0.3, 42 +1.3, 90 +3.1; global-frames before the first i-vector 50 instead
// of 200 +0.8; spoken noise not among the silence phones 0; 0.8 and 1.2 s of
// silence before the end of an utterance instead of 0.5 and 1.0 -0.4 to -0.8,
// which is not worth a later answer. What a recogniser has learned of the
// speaker is kept from utterance to utterance.
func loadModel(lib *library, dir string, settings ...string) (uintptr, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return 0, fmt.Errorf("vosk model: %w", err)
	}
	shadow, err := os.MkdirTemp("", "callwarden-vosk-")
	if err != nil {
		return 0, fmt.Errorf("vosk model: %w", err)
	}
	defer os.RemoveAll(shadow)
	if err := shadowModel(dir, shadow, settings); err != nil {
		return 0, fmt.Errorf("vosk model: %w", err)
	}
	return lib.modelNew(shadow), nil
}

func shadowModel(dir, shadow string, settings []string) error {
	if err := linkAll(dir, shadow, "conf"); err != nil {
		return err
	}
	from, to := filepath.Join(dir, "conf"), filepath.Join(shadow, "conf")
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	if err := linkAll(from, to, "mfcc.conf", "model.conf"); err != nil {
		return err
	}
	if err := extend(from, to, "mfcc.conf", "--dither=0"); err != nil {
		return err
	}
	return extend(from, to, "model.conf", settings...)
}

// extend copies a conf with more lines at its end: the last of two settings
// counts.
func extend(from, to, name string, lines ...string) error {
	conf, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return err
	}
	conf = append(conf, "\n"+strings.Join(lines, "\n")+"\n"...)
	return os.WriteFile(filepath.Join(to, name), conf, 0o600)
}

func linkAll(from, to string, except ...string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if slices.Contains(except, entry.Name()) {
			continue
		}
		if err := os.Symlink(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// dither adds the noise that the models were trained with (variance 1, Kaldi's
// default), the same for each session. Digital silence without it lies far
// outside of what a model has heard.
type dither struct {
	random rand.PCG // the zero value has a fixed seed
	out    []int16
}

// add returns pcm with noise, in a buffer that is good until the next call.
//
//go:norace
func (d *dither) add(pcm []int16) []int16 {
	d.out = d.out[:0]
	var coins uint64
	for i, v := range pcm {
		if i%16 == 0 {
			coins = d.random.Uint64()
		}
		// The heads among four tosses, less two: mean 0, variance 1.
		n := int32(v) + int32(bits.OnesCount64(coins&15)) - 2
		coins >>= 4
		d.out = append(d.out, int16(min(max(n, math.MinInt16), math.MaxInt16)))
	}
	return d.out
}
