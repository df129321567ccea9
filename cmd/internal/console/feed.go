// Package console is the desk for a terminal: the calls of the moment, the
// worst first, one call as it is spoken, and what a person does about it.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/callwarden/callwarden/cmd/internal/board"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
)

// Feed keeps a board of what a NATS server tells.
type Feed struct {
	cfg   natssink.WatchConfig
	log   *slog.Logger
	board *board.Board

	mu       sync.Mutex
	up       bool
	why      error // it is not
	since    time.Time
	missed   int
	machines map[string]machine
	out      *natssink.Sink
}

type machine struct {
	natssink.Machine
	seen time.Time
}

// NewFeed follows as cfg says once it runs.
func NewFeed(cfg natssink.WatchConfig, log *slog.Logger) (*Feed, error) {
	cfg.Transcripts, cfg.Levels, cfg.Machines = true, false, true
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b, err := board.New(board.DefaultConfig())
	if err != nil {
		return nil, err
	}
	return &Feed{cfg: cfg, log: log, board: b, since: time.Now(), machines: make(map[string]machine)}, nil
}

const (
	pauseLeast = time.Second
	pauseMost  = 10 * time.Second
	ageEvery   = time.Second
	// machineGone is how long after its last word a machine is not counted.
	machineGone = 10 * time.Second
	lastWords   = 2 * time.Second
)

// Run follows until ctx ends, beginning anew where it must. Its error is a
// server that does not let us in at all, or what was done and could not be
// told.
func (f *Feed) Run(ctx context.Context) error {
	cfg := natssink.DefaultConfig()
	cfg.Connection, cfg.Stream, cfg.ManageStream = f.cfg.Connection, f.cfg.Stream, false
	out, err := natssink.New(cfg, f.log)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.out = out
	f.mu.Unlock()
	var aging sync.WaitGroup
	aging.Go(func() { f.age(ctx) })
	f.follow(ctx)
	aging.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	return out.Close(last)
}

func (f *Feed) follow(ctx context.Context) {
	cfg := f.cfg
	for pause := pauseLeast; ctx.Err() == nil; pause = min(2*pause, pauseMost) {
		began := time.Now()
		seen, err := natssink.Follow(ctx, cfg, f.log, f.state, f.take)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) && (cfg.Since > 0 || cfg.All) {
			cfg.Since, cfg.All = 0, false // a server that keeps nothing: what is new will do
			continue
		}
		if err == nil {
			err = errors.New("the connection has ended")
		}
		f.mu.Lock()
		f.missed += seen.Missed
		f.mu.Unlock()
		f.state(err)
		if time.Since(began) > time.Minute {
			pause = pauseLeast
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

func (f *Feed) take(d natssink.Delivery) error {
	now := time.Now()
	if d.Machine != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.machines[d.Machine.Name] = machine{*d.Machine, now}
		return nil
	}
	received := now
	if !d.Stored.IsZero() && d.Stored.Before(now) {
		received = d.Stored
	}
	f.board.Take(d.Event, received)
	return nil
}

// state takes how we stand with the server.
func (f *Feed) state(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if up := err == nil; up != f.up {
		f.up, f.since = up, time.Now()
	}
	f.why = err
}

func (f *Feed) age(ctx context.Context) {
	tick := time.NewTicker(ageEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if gone, ok := f.lost(now); ok {
				f.board.Lose(now, gone)
			}
			f.board.Age(now)
		}
	}
}

// lost says whether calls that go on may be lost, as those of a process that was
// killed: not while none could be heard of. gone is when those who hear calls
// were heard of last, where they are gone or hear none.
func (f *Feed) lost(now time.Time) (gone time.Time, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.up || now.Sub(f.since) < 2*machineGone {
		return gone, false
	}
	for _, m := range f.machines {
		if now.Sub(m.seen) < machineGone && m.Calls > 0 {
			return gone, false
		}
	}
	if len(f.machines) == 0 {
		return gone, false // of an older version: nothing can be said
	}
	return now.Add(-2 * machineGone), true
}

// Link is how the feed stands with its server.
type Link struct {
	Up       bool
	Why      error     // it is not; nil while it is tried for the first time
	Since    time.Time // of either
	Missed   int       // events that came too fast
	Machines int       // that hear calls
	Full     bool      // one of them refuses calls
	LagP95   time.Duration
	// Words says whether the machines publish transcripts; known is false where
	// none has said.
	Words, Known bool
}

// Link is that of the moment.
func (f *Feed) Link() Link {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := Link{Up: f.up, Why: f.why, Since: f.since, Missed: f.missed}
	for _, m := range f.machines {
		if time.Since(m.seen) >= machineGone {
			continue
		}
		l.Machines++
		l.Known = true
		l.Full = l.Full || m.Full
		l.Words = l.Words || m.Transcripts
		l.LagP95 = max(l.LagP95, time.Duration(m.LagP95*float64(time.Second)))
	}
	return l
}

// errAway is what a person hears who does something while the server is away.
var errAway = errors.New("the server is away: not told; try again when it is back")

// Do tells everybody what a person did.
func (f *Feed) Do(ctx context.Context, act board.Act) error {
	f.mu.Lock()
	out, up := f.out, f.up
	f.mu.Unlock()
	if out == nil || !up {
		return errAway
	}
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if err := out.Publish(ctx, act.Event()); err != nil {
		return fmt.Errorf("not told: %w", err)
	}
	return nil
}
