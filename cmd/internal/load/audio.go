// Package load plays many calls at once in real time and measures how many a
// machine holds, how late they are heard and what they cost.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// Recording is a two-leg call that is played again and again.
type Recording struct {
	Name   string
	Fraud  bool // its name begins with "fraud"
	RateHz int
	Legs   [2][]int16 // caller, callee; of the same length
}

// Length is how long it lasts.
func (r *Recording) Length() time.Duration { return audio.Span(len(r.Legs[0]), r.RateHz) }

// ReadFS reads all stereo WAV files below a file system.
func ReadFS(files fs.FS) ([]*Recording, error) {
	dir, err := os.MkdirTemp("", "callwarden-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var all []*Recording
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.EqualFold(path.Ext(name), ".wav") {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, path.Base(name))
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return err
		}
		r, err := read(file)
		if err != nil {
			return err
		}
		all = append(all, r)
		return nil
	})
	if err == nil && len(all) == 0 {
		err = errors.New("no WAV files")
	}
	return all, err
}

func read(name string) (*Recording, error) {
	f, err := audio.OpenFile(name, audio.FileOptions{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &Recording{Name: filepath.Base(name), RateHz: f.Info().RateHz}
	r.Fraud = strings.HasPrefix(r.Name, "fraud")
	if len(f.Info().Legs) != len(r.Legs) {
		return nil, fmt.Errorf("%s: %d channels; a call has two, left the caller", r.Name, len(f.Info().Legs))
	}
	for {
		frame, err := f.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		side := 0
		if frame.Leg == audio.Callee {
			side = 1
		}
		r.Legs[side] = append(r.Legs[side], frame.PCM...)
	}
	n := min(len(r.Legs[0]), len(r.Legs[1]))
	if n < r.RateHz {
		return nil, fmt.Errorf("%s: it is shorter than a second", r.Name)
	}
	for i := range r.Legs {
		r.Legs[i] = r.Legs[i][:n:n]
	}
	return r, nil
}

// Speech is the share of the legs' time in which somebody speaks.
func Speech(rs []*Recording) float64 {
	var speech, all float64
	for _, r := range rs {
		for _, leg := range r.speech() {
			all += float64(len(leg))
			for _, speaks := range leg {
				if speaks {
					speech++
				}
			}
		}
	}
	return speech / max(1, all)
}

// speech tells of each 10 ms of each leg whether somebody speaks.
func (r *Recording) speech() (out [2][]bool) {
	for i, pcm := range r.Legs {
		v := audio.NewLoudVoice()
		n := v.Start(r.RateHz)
		for at := 0; at+n <= len(pcm); at += n {
			out[i] = append(out[i], v.Speech(pcm[at:at+n]))
		}
	}
	return out
}

// Fit brings the share of speech of each recording to share: it appends the
// noise of a quiet line, or shortens the pauses in which neither side speaks,
// as far as there are any.
func Fit(rs []*Recording, share float64) {
	for _, r := range rs {
		have := Speech([]*Recording{r})
		if have < share {
			r.tighten(1 - have/share)
			continue
		}
		n := int(float64(len(r.Legs[0])) * (have/share - 1))
		for i := range r.Legs {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range n {
				r.Legs[i] = append(r.Legs[i], int16(3*random.NormFloat64()))
			}
		}
	}
}

const (
	leastPause = 15 // windows of 10 ms that are left of a pause at either end
	windowsIn  = 100
)

// tighten takes a share of the time out, in pauses, the same part of each.
func (r *Recording) tighten(share float64) {
	speech := r.speech()
	type span struct{ from, to int } // windows that can be spared
	var spare []span
	var sum int
	quiet := 0 // windows in a row
	for i := 0; i <= len(speech[0]); i++ {
		if i < len(speech[0]) && !speech[0][i] && !speech[1][i] {
			quiet++
			continue
		}
		if s := (span{i - quiet + leastPause, i - leastPause}); s.from < s.to {
			spare = append(spare, s)
			sum += s.to - s.from
		}
		quiet = 0
	}
	part := min(1, share*float64(len(speech[0]))/float64(max(1, sum)))
	window := r.RateHz / windowsIn
	for k := range r.Legs {
		var kept []int16
		at := 0
		for _, s := range spare {
			from := s.from + int(float64(s.to-s.from)*(1-part))
			kept = append(kept, r.Legs[k][at:from*window]...)
			at = s.to * window
		}
		r.Legs[k] = append(kept, r.Legs[k][at:]...)
	}
}

const frameLength = 20 * time.Millisecond

// player reads a recording in real time, a frame of each leg every 20 ms,
// none before its last sample has been spoken.
type player struct {
	r     *Recording
	began time.Time
	at    int // sample of the next frame
	leg   int // whose turn it is
	timer *time.Timer
}

var _ audio.Reader = (*player)(nil)

func (p *player) ReadFrame(ctx context.Context) (audio.Frame, error) {
	n := int(frameLength) * p.r.RateHz / int(time.Second)
	if p.at+n > len(p.r.Legs[0]) {
		return audio.Frame{}, io.EOF
	}
	if wait := time.Until(p.began.Add(audio.Span(p.at+n, p.r.RateHz))); p.leg == 0 && wait > 0 {
		if p.timer == nil {
			p.timer = time.NewTimer(wait)
		} else {
			p.timer.Reset(wait)
		}
		select {
		case <-p.timer.C:
		case <-ctx.Done():
			p.timer.Stop()
			return audio.Frame{}, ctx.Err()
		}
	}
	f := audio.Frame{Leg: audio.Caller, Start: audio.Span(p.at, p.r.RateHz), Rate: p.r.RateHz}
	if p.leg == 1 {
		f.Leg = audio.Callee
	}
	f.PCM = append(f.PCM, p.r.Legs[p.leg][p.at:p.at+n]...)
	if p.leg++; p.leg == len(p.r.Legs) {
		p.leg = 0
		p.at += n
	}
	return f, nil
}
