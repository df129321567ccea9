package load

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// runBare decodes everything with the open vocabulary, as fast as all cores
// can, with nothing around the recogniser: what a loop around libvosk does.
// Real time would cost it some more.
func runBare(ctx context.Context, cfg Config, engine transcribe.Engine) (*Bare, error) {
	rateHz := engine.Info().RateHz
	var legs [][]int16
	for _, r := range cfg.Recordings {
		for _, pcm := range r.Legs {
			wide, err := resampled(pcm, r.RateHz, rateHz)
			if err != nil {
				return nil, err
			}
			legs = append(legs, wide)
		}
	}
	cores := runtime.GOMAXPROCS(0)
	var heard, next atomic.Int64 // samples; legs begun
	began, cpu := time.Now(), cpuTime()
	g, work := errgroup.WithContext(ctx)
	for range cores {
		g.Go(func() error {
			for time.Since(began) < cfg.Bare {
				if err := bareLeg(work, engine, legs[int(next.Add(1)-1)%len(legs)], rateHz, began.Add(cfg.Bare), &heard); err != nil {
					return err
				}
			}
			return nil
		})
	}
	finished := make(chan struct{}) // closed below
	g.Go(func() error {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				cfg.Done(Progress{Way: "bare", Step: "decoding", At: min(time.Since(began), cfg.Bare), Of: cfg.Bare})
			case <-work.Done():
				return nil
			case <-finished:
				return nil
			}
		}
	})
	time.AfterFunc(cfg.Bare, func() { close(finished) })
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("bare recogniser: %w", err)
	}
	took, used := time.Since(began), cpuTime()-cpu
	calls := audio.Span(int(heard.Load()), rateHz).Seconds() / 2 // two legs
	return &Bare{
		CallsPerCore:     round(calls/took.Seconds()/float64(cores), 2),
		CPUPerCallMinute: round(60*used.Seconds()/calls, 3),
		CallSeconds:      round(calls, 1),
	}, nil
}

func bareLeg(ctx context.Context, engine transcribe.Engine, pcm []int16, rateHz int, until time.Time, heard *atomic.Int64) error {
	s, err := engine.Open(ctx, transcribe.Options{RateHz: rateHz})
	if err != nil {
		return err
	}
	defer s.Close()
	n := rateHz / 10
	for at := 0; at+n <= len(pcm) && time.Now().Before(until); at += n {
		if _, err := s.Write(ctx, audio.Frame{Start: audio.Span(at, rateHz), Rate: rateHz, PCM: pcm[at : at+n]}); err != nil {
			return err
		}
		heard.Add(int64(n))
	}
	return nil
}

func resampled(pcm []int16, fromHz, toHz int) ([]int16, error) {
	r, err := audio.NewResampler(fromHz, toHz)
	if err != nil {
		return nil, err
	}
	in := make([]float32, len(pcm))
	for i, v := range pcm {
		in[i] = float32(v)
	}
	wide := r.Flush(r.Process(nil, in))
	out := make([]int16, len(wide))
	for i, v := range wide {
		out[i] = int16(min(max(v, -32768), 32767))
	}
	return out, nil
}
