package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/load"
	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/dialogue"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/screen"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/detectors/talk"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/supervised"
)

// killResults compare calls whose transcriber was killed with the same calls
// undisturbed.
type killResults struct {
	Calls    int      `json:"calls"`
	Live     bool     `json:"live"`
	Listen   string   `json:"listen"`
	Findings int      `json:"findings"`       // undisturbed, confirmed
	Again    int      `json:"findings_again"` // undisturbed a second time
	Killed   int      `json:"findings_killed"`
	Lost     []string `json:"lost"`             // of the undisturbed, in the killed run
	LostSame []string `json:"lost_undisturbed"` // and in the second undisturbed one
	Twice    []string `json:"twice"`            // confirmed more than once
	Levels   []string `json:"levels_lowered"`
	Restarts uint64   `json:"restarts"`
	// Of calls that said that a leg was deaf: from the kill until all of theirs
	// heard again, and until they had heard what they had missed.
	Deaf       int     `json:"deaf_calls"`
	AgainP50MS float64 `json:"hearing_again_p50_ms"`
	AgainMaxMS float64 `json:"hearing_again_max_ms"`
	WholeP50MS float64 `json:"caught_up_p50_ms"`
	WholeMaxMS float64 `json:"caught_up_max_ms"`
	StillDeaf  int     `json:"still_deaf"`
	DroppedS   float64 `json:"dropped_s"`
}

func (r *killResults) print(out io.Writer) {
	kind := "recorded"
	if r.Live {
		kind = "live"
	}
	fmt.Fprintf(out, "%d %s calls, listen %s: %d findings undisturbed, %d when their transcriber was killed (%d restarts), %d undisturbed once more\n",
		r.Calls, kind, r.Listen, r.Findings, r.Killed, r.Restarts, r.Again)
	fmt.Fprintf(out, "lost by the kill %d, lost without one %d, confirmed twice %d, calls with a lower level %d\n", len(r.Lost), len(r.LostSame), len(r.Twice), len(r.Levels))
	for _, l := range append(append(slices.Clone(r.Lost), r.Twice...), r.Levels...) {
		fmt.Fprintln(out, "  ", l)
	}
	if r.Live {
		fmt.Fprintf(out, "%d calls said deaf; from the kill until they heard again: p50 %.0f ms, max %.0f ms; still deaf %d\n",
			r.Deaf, r.AgainP50MS, r.AgainMaxMS, r.StillDeaf)
		fmt.Fprintf(out, "until less than a second was left of what they had missed: p50 %.0f ms, max %.0f ms; audio dropped %.1f s\n",
			r.WholeP50MS, r.WholeMaxMS, r.DroppedS)
	}
}

// found is a confirmed finding.
type found struct {
	call, tactic string
	leg          callwardenv1.Leg
	start, end   time.Duration
	words        string
}

func (f found) String() string {
	return fmt.Sprintf("%s %s %s %v-%v %q", f.call, f.tactic, f.leg, f.start.Round(10*time.Millisecond), f.end.Round(10*time.Millisecond), f.words)
}

// same reports whether both are of the same words, give or take how well they
// were heard.
func (f found) same(g found) bool {
	const near = 2 * time.Second
	return f.call == g.call && f.tactic == g.tactic && f.leg == g.leg && f.start < g.end+near && g.start < f.end+near
}

// ledger is a sink that keeps what is compared.
type ledger struct {
	mu      sync.Mutex
	found   map[string]found // by id
	twice   []string
	levels  map[string]callwardenv1.Level
	killed  time.Time
	deaf    map[string]bool
	late    map[string]bool
	again   []time.Duration
	whole   []time.Duration
	dropped time.Duration
}

// Publish implements [sink.Sink].
func (l *ledger) Publish(_ context.Context, ev sink.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch d := ev.Data.(type) {
	case *callwardenv1.RiskFinding:
		f := d.Finding
		id := ev.Call + " " + f.Id
		switch f.State {
		case callwardenv1.FindingState_FINDING_STATE_CONFIRMED:
			now := found{ev.Call, f.Tactic, f.Leg, f.Start.AsDuration(), f.End.AsDuration(), f.Words}
			if _, ok := l.found[id]; ok {
				l.twice = append(l.twice, now.String())
			}
			l.found[id] = now
		case callwardenv1.FindingState_FINDING_STATE_RETRACTED:
			delete(l.found, id)
		}
	case *callwardenv1.CallStatus:
		switch deaf := d.Hearing == callwardenv1.Hearing_HEARING_DEAF || d.Hearing == callwardenv1.Hearing_HEARING_DEGRADED && someDeaf(d); {
		case deaf:
			l.deaf[ev.Call] = true
		case l.deaf[ev.Call]:
			l.deaf[ev.Call] = false
			l.again = append(l.again, time.Since(l.killed))
			l.late[ev.Call] = true
		}
		if l.late[ev.Call] && !someLate(d) {
			l.late[ev.Call] = false
			l.whole = append(l.whole, time.Since(l.killed))
		}
	case *callwardenv1.CallEnded:
		l.levels[ev.Call] = d.Level
		for _, leg := range d.Legs {
			l.dropped += leg.Dropped.AsDuration()
		}
	}
	return nil
}

func someDeaf(s *callwardenv1.CallStatus) bool {
	return slices.ContainsFunc(s.Legs, func(l *callwardenv1.LegStatus) bool { return l.Hearing == callwardenv1.Hearing_HEARING_DEAF })
}

func someLate(s *callwardenv1.CallStatus) bool {
	return slices.ContainsFunc(s.Legs, func(l *callwardenv1.LegStatus) bool { return l.Lag.AsDuration() > 0 })
}

// Close implements [sink.Sink].
func (l *ledger) Close(context.Context) error { return nil }

func measureKill(ctx context.Context, o options) (r *killResults, err error) {
	engine, err := openThere(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	first, err := hearCalls(ctx, o, engine, false)
	if err != nil {
		return nil, err
	}
	second := first // recordings say the same again
	if o.live {
		if second, err = hearCalls(ctx, o, engine, false); err != nil {
			return nil, err
		}
	}
	before := engine.Restarts()
	killed, err := hearCalls(ctx, o, engine, true)
	if err != nil {
		return nil, err
	}
	r = &killResults{
		Calls: o.calls, Live: o.live, Listen: o.listen, Findings: len(first.found), Again: len(second.found), Killed: len(killed.found),
		Twice: killed.twice, Restarts: engine.Restarts() - before, DroppedS: killed.dropped.Seconds(),
		AgainP50MS: at(killed.again, 0.5), AgainMaxMS: at(killed.again, 1), WholeP50MS: at(killed.whole, 0.5), WholeMaxMS: at(killed.whole, 1), Deaf: len(killed.deaf),
		Lost: missing(first, killed), LostSame: missing(first, second),
	}
	for call, level := range first.levels {
		if now := killed.levels[call]; now < level {
			r.Levels = append(r.Levels, fmt.Sprintf("%s %s, undisturbed %s", call, now, level))
		}
	}
	for _, deaf := range killed.deaf {
		if deaf {
			r.StillDeaf++
		}
	}
	return r, nil
}

// missing are the findings of a that b has not.
func missing(a, b *ledger) (lost []string) {
	for _, f := range a.found {
		there := false
		for _, g := range b.found {
			there = there || f.same(g)
		}
		if !there {
			lost = append(lost, f.String())
		}
	}
	slices.Sort(lost)
	return lost
}

// closedLists are what the packs compile to.
type closedLists struct {
	*screen.List
	talk *talk.Model
}

func (l closedLists) Scorer() listen.Scorer { return l.List.Scorer(l.talk.NewCall()) }

// hearCalls hears all calls at once and, halfway, kills what hears them.
func hearCalls(ctx context.Context, o options, engine *supervised.Engine, kill bool) (*ledger, error) {
	lib, err := tactics.Load("")
	if err != nil {
		return nil, err
	}
	list, err := screen.Compile(lib.Set, engine.Knows)
	if err != nil {
		return nil, err
	}
	model, err := talk.Load()
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	l, err := listen.New(engine, listen.Config{Mode: o.listen, Screens: func() listen.Screen { return closedLists{list, model} }}, log)
	if err != nil {
		return nil, err
	}
	out := &ledger{found: make(map[string]found), levels: make(map[string]callwardenv1.Level), deaf: make(map[string]bool), late: make(map[string]bool)}
	judge := func(*source.Call) (detectors.Detector, *risk.Meter) {
		return dialogue.New(lib.Set, dialogue.Config{}), risk.NewMeter(risk.DefaultConfig())
	}
	pipe, err := pipeline.New(pipeline.DefaultConfig(), l, judge, out, log)
	if err != nil {
		return nil, err
	}
	rs, err := recordings()
	if err != nil {
		return nil, err
	}
	// Frauds first: with as many of them as there are calls, each second call.
	slices.SortStableFunc(rs, func(a, b *load.Recording) int { return cmp.Compare(b2i(b.Fraud), b2i(a.Fraud)) })
	var whole time.Duration
	for i := range o.calls {
		whole += rs[i%len(rs)].Length()
	}
	var heard atomic.Int64 // audio that was read
	var once sync.Once
	strike := func() {
		out.mu.Lock()
		out.killed = time.Now()
		out.mu.Unlock()
		_ = syscall.Kill(engine.Process(), syscall.SIGKILL) // it may have gone: then restarts say so
	}
	var errs []error
	var mu sync.Mutex
	var group sync.WaitGroup
	began := time.Now()
	for i := range o.calls {
		rec := rs[i%len(rs)]
		group.Go(func() {
			player := &player{r: rec, live: o.live, began: began, read: func(d time.Duration) {
				if heard.Add(int64(d)) > int64(whole/2) && kill {
					once.Do(strike)
				}
			}}
			err := pipe.Listen(ctx, &source.Call{
				ID: fmt.Sprintf("%02d-%s", i, rec.Name), Tenant: "hop", Source: "hop", Legs: []audio.Leg{audio.Caller, audio.Callee},
				Live: o.live, Audio: player,
			})
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	group.Wait()
	return out, errors.Join(errs...)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// player reads a recording, in real time if it is live.
type player struct {
	r     *load.Recording
	live  bool
	began time.Time
	read  func(time.Duration)
	at    int // sample
	leg   int
}

// ReadFrame implements [audio.Reader].
func (p *player) ReadFrame(ctx context.Context) (audio.Frame, error) {
	n := p.r.RateHz / 50
	if p.at+n > len(p.r.Legs[0]) {
		return audio.Frame{}, io.EOF
	}
	if wait := time.Until(p.began.Add(audio.Span(p.at+n, p.r.RateHz))); p.live && p.leg == 0 && wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return audio.Frame{}, err
	}
	f := audio.Frame{Leg: audio.Caller, Start: audio.Span(p.at, p.r.RateHz), Rate: p.r.RateHz, PCM: slices.Clone(p.r.Legs[p.leg][p.at : p.at+n])}
	if p.leg == 1 {
		f.Leg = audio.Callee
	}
	if p.leg++; p.leg == 2 {
		p.leg = 0
		p.at += n
		p.read(audio.Span(n, p.r.RateHz))
	}
	return f, nil
}
