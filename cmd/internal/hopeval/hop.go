package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// wayResults are one way of hearing.
type wayResults struct {
	CPU    float64 `json:"cpu_s_per_audio_s"` // of all processes, in real time
	P50MS  float64 `json:"p50_ms"`            // of a step of 100 ms
	P99MS  float64 `json:"p99_ms"`
	Steps  int     `json:"steps"`
	Legs   float64 `json:"legs"`                   // held, decoding as fast as it goes
	FullCP float64 `json:"full_cpu_s_per_audio_s"` // then
}

// hopResults compare them.
type hopResults struct {
	RealTimeLegs int        `json:"real_time_legs"`
	Here         wayResults `json:"in_process"`
	There        wayResults `json:"other_process"`
	// Hop is from sending 100 ms of silence in a session that hears nothing,
	// which costs the recogniser next to nothing, until the answer.
	HopP50MS float64 `json:"hop_p50_ms"`
	HopP99MS float64 `json:"hop_p99_ms"`
}

func (r *hopResults) print(out io.Writer) {
	fmt.Fprintf(out, "%-36s%12s%12s%12s\n", "", "in process", "other", "more")
	line := func(name, format string, a, b float64) {
		fmt.Fprintf(out, "%-36s%12s%12s%12s\n", name, fmt.Sprintf(format, a), fmt.Sprintf(format, b), percent(a, b))
	}
	line(fmt.Sprintf("CPU s an audio s, %d legs real time", r.RealTimeLegs), "%.4f", r.Here.CPU, r.There.CPU)
	line("step of 100 ms, p50 ms", "%.2f", r.Here.P50MS, r.There.P50MS)
	line("step of 100 ms, p99 ms", "%.2f", r.Here.P99MS, r.There.P99MS)
	line("legs held, as fast as it goes", "%.1f", r.Here.Legs, r.There.Legs)
	line("CPU s an audio s, then", "%.4f", r.Here.FullCP, r.There.FullCP)
	fmt.Fprintf(out, "the hop alone: p50 %.2f ms, p99 %.2f ms\n", r.HopP50MS, r.HopP99MS)
}

// cpu is the processor time of this process and, where there is one, of
// another.
func cpu(pid int) (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	used := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	if pid == 0 {
		return used, nil
	}
	// Of the scheduler, to the nanosecond; the ticks of stat are coarse.
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	for _, t := range tasks {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, t.Name()))
		if err != nil {
			continue // it has just ended
		}
		first, _, _ := bytes.Cut(data, []byte(" "))
		ns, err := strconv.ParseInt(string(first), 10, 64)
		if err != nil {
			return 0, err
		}
		used += time.Duration(ns)
	}
	return used, nil
}

// way is an engine to measure.
type way struct {
	engine transcribe.Engine
	pid    func() int
	slots  chan struct{} // nil where decoding is bounded elsewhere
	steps  []time.Duration
	audio  time.Duration
	used   time.Duration
	full   struct{ audio, used, wall time.Duration }
}

func (w *way) turn(fn func()) {
	if w.slots != nil {
		w.slots <- struct{}{}
		defer func() { <-w.slots }()
	}
	fn()
}

func measureHop(ctx context.Context, o options) (r *hopResults, err error) {
	here, err := openHere()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, here.Close()) }()
	there, err := openThere(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, there.Close()) }()
	legs, err := wide(here.Info().RateHz)
	if err != nil {
		return nil, err
	}
	ways := [2]*way{
		{engine: here, pid: func() int { return 0 }, slots: make(chan struct{}, runtime.GOMAXPROCS(0))},
		{engine: there, pid: there.Process},
	}
	for round := range o.rounds {
		for i := range ways { // each first as often as second
			w := ways[(i+round)%2]
			if err := w.realTime(ctx, o, legs, round); err != nil {
				return nil, err
			}
			if err := w.fast(ctx, o, legs, round); err != nil {
				return nil, err
			}
		}
	}
	r = &hopResults{RealTimeLegs: o.legs, Here: ways[0].results(), There: ways[1].results()}
	alone, err := ways[1].alone(ctx)
	if err != nil {
		return nil, err
	}
	r.HopP50MS, r.HopP99MS = at(alone, 0.5), at(alone, 0.99)
	return r, nil
}

// wide is the recordings' legs as a recogniser gets them.
func wide(rateHz int) (legs [][]int16, err error) {
	rs, err := recordings()
	if err != nil {
		return nil, err
	}
	for _, rec := range rs {
		for _, pcm := range rec.Legs {
			front, err := audio.NewFrontEnd(audio.FrontEndConfig{RateHz: rateHz})
			if err != nil {
				return nil, err
			}
			frames, err := front.Process(audio.Frame{Rate: rec.RateHz, PCM: pcm})
			if err != nil {
				return nil, err
			}
			var out []int16
			for _, f := range frames {
				out = append(out, f.PCM...)
			}
			legs = append(legs, out)
		}
	}
	return legs, nil
}

// realTime hears some legs as they are spoken, in frames of 20 ms.
func (w *way) realTime(ctx context.Context, o options, legs [][]int16, round int) error {
	var mu sync.Mutex
	before, err := cpu(w.pid())
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	rate := w.engine.Info().RateHz
	for i := range o.legs {
		group.Go(func() error {
			s, err := w.engine.Open(ctx, transcribe.Options{})
			if err != nil {
				return err
			}
			defer s.Close()
			pcm := legs[(i+round)%len(legs)]
			n := rate / 50
			began := time.Now().Add(time.Duration(i) * 17 * time.Millisecond) // not in step
			timer := time.NewTimer(0)
			defer timer.Stop()
			var took []time.Duration
			var heard time.Duration
			for k := 0; heard < o.each; k++ {
				heard = audio.Span((k+1)*n, rate)
				timer.Reset(time.Until(began.Add(heard)))
				select {
				case <-timer.C:
				case <-ctx.Done():
					return ctx.Err()
				}
				f := audio.Frame{Start: audio.Span(k*n, rate), Rate: rate, PCM: make([]int16, n)}
				from := k * n % (len(pcm) - n)
				copy(f.PCM, pcm[from:from+n])
				at := time.Now()
				w.turn(func() { _, err = s.Write(ctx, f) })
				if err != nil {
					return err
				}
				if k%5 == 4 { // the others only gather
					took = append(took, time.Since(at))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			w.steps = append(w.steps, took...)
			w.audio += heard
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	after, err := cpu(w.pid())
	w.used += after - before
	return err
}

// fast decodes as much as it can.
func (w *way) fast(ctx context.Context, o options, legs [][]int16, round int) error {
	before, err := cpu(w.pid())
	if err != nil {
		return err
	}
	began := time.Now()
	var heard atomic.Int64
	rate := w.engine.Info().RateHz
	group, ctx := errgroup.WithContext(ctx)
	for i := range 2 * runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for k := i + round; time.Since(began) < o.each; k++ {
				s, err := w.engine.Open(ctx, transcribe.Options{})
				if err != nil {
					return err
				}
				pcm, n := legs[k%len(legs)], rate/10
				for at := 0; at+n <= len(pcm) && time.Since(began) < o.each; at += n {
					f := audio.Frame{Start: audio.Span(at, rate), Rate: rate, PCM: slices.Clone(pcm[at : at+n])}
					w.turn(func() { _, err = s.Write(ctx, f) })
					if err != nil {
						return errors.Join(err, s.Close())
					}
					heard.Add(int64(n))
				}
				if err := s.Close(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	after, err := cpu(w.pid())
	w.full.wall += time.Since(began)
	w.full.used += after - before
	w.full.audio += audio.Span(int(heard.Load()), rate)
	return err
}

// alone is how long steps take in which there is nothing to hear.
func (w *way) alone(ctx context.Context) (took []time.Duration, err error) {
	s, err := w.engine.Open(ctx, transcribe.Options{})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	p, ok := s.(transcribe.Pauser)
	if !ok {
		return nil, errors.New("the recogniser knows no pauses")
	}
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	if _, err := s.Write(ctx, audio.Frame{Rate: w.engine.Info().RateHz, PCM: make([]int16, w.engine.Info().RateHz/10)}); err != nil {
		return nil, err
	}
	for range 1000 {
		<-every.C
		at := time.Now()
		if _, err := p.Pause(ctx); err != nil { // nothing has come since the last
			return nil, err
		}
		took = append(took, time.Since(at))
	}
	return took, nil
}

func (w *way) results() wayResults {
	return wayResults{
		CPU: w.used.Seconds() / w.audio.Seconds(), P50MS: at(w.steps, 0.5), P99MS: at(w.steps, 0.99), Steps: len(w.steps),
		Legs: w.full.audio.Seconds() / w.full.wall.Seconds(), FullCP: w.full.used.Seconds() / w.full.audio.Seconds(),
	}
}

// at is a quantile in milliseconds.
func at(took []time.Duration, q float64) float64 {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]) / float64(time.Millisecond)
}
