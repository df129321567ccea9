package load

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Churned is what many short calls left behind.
type Churned struct {
	Listen         string  `json:"listen"`
	Calls          int     `json:"calls"`
	CallSeconds    float64 `json:"call_s"`           // of each
	MemoryBeforeMB float64 `json:"memory_before_mb"` // when some calls had ended and none ran
	MemoryAfterMB  float64 `json:"memory_after_mb"`  // when all had
	WallS          float64 `json:"wall_s"`
}

const (
	churnLength = 5 * time.Second
	// churnWarm calls a core come before the first look at the memory: models
	// are loaded by then, and caches of the process filled.
	churnWarm = 2
)

// Churn plays calls short calls as fast as they go, one a core at a time.
func Churn(ctx context.Context, cfg Config, parts Parts, mode string, calls int) (c *Churned, err error) {
	listening, done := parts.Listen(mode)
	defer func() { err = errors.Join(err, done()) }()
	l, err := listen.New(parts.Engine, listening, parts.Log)
	if err != nil {
		return nil, err
	}
	pipe, err := pipeline.New(pipeline.DefaultConfig(), l, parts.Judge, sink.Tee(parts.Out, newProbe()), parts.Log)
	if err != nil {
		return nil, err
	}
	c = &Churned{Listen: l.Mode(), Calls: calls, CallSeconds: churnLength.Seconds()}
	cores := runtime.GOMAXPROCS(0)
	if err := churn(ctx, cfg, pipe, 0, churnWarm*cores, calls); err != nil {
		return nil, err
	}
	c.MemoryBeforeMB = round(residentMB(), 1)
	began := time.Now()
	if err := churn(ctx, cfg, pipe, churnWarm*cores, calls, calls); err != nil {
		return nil, err
	}
	c.MemoryAfterMB = round(residentMB(), 1)
	c.WallS = round(time.Since(began).Seconds(), 1)
	return c, nil
}

// churn plays the calls from..from+n.
func churn(ctx context.Context, cfg Config, pipe *pipeline.Pipeline, from, n, of int) error {
	next := atomic.Int64{}
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return ctx.Err()
				}
				r := cfg.Turn(from + i).part(i)
				err := pipe.Listen(ctx, &source.Call{
					ID: fmt.Sprintf("churn-%d", from+i), Tenant: "bench", Source: "bench",
					Legs: []audio.Leg{audio.Caller, audio.Callee}, Duration: r.Length(), Audio: &player{r: r}, // began long ago
				})
				if err != nil {
					return err
				}
			}
		})
	}
	ended := make(chan error, 1) // the goroutine below sends once
	go func() { ended <- g.Wait() }()
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-every.C:
			at := time.Duration(min(int(next.Load()), n))
			cfg.Done(Progress{Way: "churn", Step: fmt.Sprintf("%d calls in %v", at, time.Since(began).Round(time.Second)), At: at, Of: time.Duration(of)})
		}
	}
}

// part is churnLength of the recording, each time another.
func (r *Recording) part(i int) *Recording {
	p := *r
	n := min(int(churnLength.Seconds()*float64(r.RateHz)), len(r.Legs[0]))
	at := 0
	if last := len(r.Legs[0]) - n; last > 0 {
		at = i * n % last
	}
	for k := range p.Legs {
		p.Legs[k] = r.Legs[k][at : at+n]
	}
	return &p
}
