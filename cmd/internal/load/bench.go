package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Config says what is played, and for how long.
type Config struct {
	Recordings []*Recording
	FraudShare float64 // of the calls; 0 to 1
	Modes      []string
	// Calls at once; 0 begins with First and goes up until the p95 lag passes
	// Limit or audio or calls are refused.
	Calls, First int
	Limit        time.Duration
	Warm         time.Duration // before a step is measured
	Measure      time.Duration // 0 measures no calls at once
	// Bare is how long the bare recogniser is measured; 0 leaves it out.
	Bare time.Duration
	// Churn is how many short calls are played at the end, in the first mode,
	// to see what they leave of memory; 0 plays none.
	Churn int
	Done  func(Progress) // may be nil; called by one goroutine
}

// Progress is where a run stands.
type Progress struct {
	Way  string // "bare", or a mode of listening
	Last *Step  // of the way, nil before
	Step string // what is done now
	Of   time.Duration
	At   time.Duration // of Of
}

// Validate says which value is wrong and what it must be.
func (c Config) Validate() error {
	switch {
	case len(c.Recordings) == 0:
		return errors.New("no recordings to play")
	case c.FraudShare < 0 || c.FraudShare > 1:
		return fmt.Errorf("share of frauds: %v must be from 0 to 1", c.FraudShare)
	case c.Calls < 0 || c.Calls > 10_000:
		return fmt.Errorf("calls: %d must be from 1 to 10000, or 0", c.Calls)
	case c.Calls == 0 && c.First < 1:
		return fmt.Errorf("first step: %d calls must be at least 1", c.First)
	case c.Limit <= 0 || c.Warm < 0:
		return fmt.Errorf("limit %v must be above 0, warm %v not below", c.Limit, c.Warm)
	case c.Measure != 0 && c.Measure < time.Second:
		return fmt.Errorf("measure: %v must be at least 1s, or 0", c.Measure)
	case c.Churn < 0 || len(c.Modes) == 0:
		return fmt.Errorf("churn: %d must not be below 0; modes: %d must be at least 1", c.Churn, len(c.Modes))
	}
	if !c.has(true) && c.FraudShare > 0 {
		return errors.New("no recording of a fraud: their names begin with fraud")
	}
	if !c.has(false) && c.FraudShare < 1 {
		return errors.New("no recording of an ordinary call: names that do not begin with fraud")
	}
	return nil
}

func (c Config) has(fraud bool) bool {
	for _, r := range c.Recordings {
		if r.Fraud == fraud {
			return true
		}
	}
	return false
}

// Parts are what hears and judges the calls; the caller opened them and closes
// them.
type Parts struct {
	Engine transcribe.Engine
	Listen func(mode string) (cfg listen.Config, done func() error)
	Judge  pipeline.Judge
	Out    sink.Sink // events are counted after it has taken them
	Log    *slog.Logger
}

// Run measures all ways, one after the other. A run that ctx ends returns what
// it has and ctx.Err().
func Run(ctx context.Context, cfg Config, parts Parts) (*Results, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Done == nil {
		cfg.Done = func(Progress) {}
	}
	info := parts.Engine.Info()
	r := &Results{
		Backend: info.Backend, Model: info.Model, Cores: runtime.GOMAXPROCS(0), Began: time.Now().Truncate(time.Second),
		SpeechShare: round(Speech(cfg.Recordings), 3), FraudShare: cfg.FraudShare, LagLimitMS: ms(cfg.Limit),
	}
	if cfg.Bare > 0 {
		bare, err := runBare(ctx, cfg, parts.Engine)
		if err != nil {
			return r, err
		}
		r.Bare = bare
	}
	for _, mode := range cfg.Modes {
		if cfg.Measure == 0 {
			break
		}
		w, err := runWay(ctx, cfg, parts, mode)
		if w != nil {
			r.add(w)
		}
		if err != nil {
			return r, err
		}
	}
	if cfg.Churn > 0 {
		c, err := Churn(ctx, cfg, parts, cfg.Modes[0], cfg.Churn)
		if err != nil {
			return r, err
		}
		r.Churn = c
	}
	return r, nil
}

// runWay measures one way of listening.
func runWay(ctx context.Context, cfg Config, parts Parts, mode string) (w *Way, err error) {
	listening, done := parts.Listen(mode)
	defer func() { err = errors.Join(err, done()) }()
	l, err := listen.New(parts.Engine, listening, parts.Log)
	if err != nil {
		return nil, err
	}
	probe := newProbe()
	pipe, err := pipeline.New(pipeline.DefaultConfig(), l, parts.Judge, sink.Tee(parts.Out, probe), parts.Log)
	if err != nil {
		return nil, err
	}
	w = &Way{Listen: l.Mode(), MemoryBeforeMB: round(residentMB(), 1)}
	if l.Mode() != mode {
		w.Note = l.Reason()
	}
	f := &fleet{cfg: cfg, mode: mode, pipe: pipe, probe: probe, listener: l, way: w}
	err = f.ramp(ctx)
	f.set(ctx, 0)
	err = errors.Join(err, f.failed())
	w.MemoryAfterMB = round(residentMB(), 1)
	w.conclude()
	return w, err
}

// fleet is the calls that run at once. Its methods are called by one
// goroutine.
type fleet struct {
	cfg      Config
	mode     string
	pipe     *pipeline.Pipeline
	probe    *probe
	listener *listen.Listener
	way      *Way

	lines []*line
	n     atomic.Int64 // calls begun
	began int          // lines begun

	mu      sync.Mutex
	refused int
	err     error // the first that is no refusal
}

// line plays one call after the other until it is stopped.
type line struct {
	stop context.CancelFunc
	done chan struct{} // closed when it has ended
}

// ramp measures the one step that was asked for, or looks for the most calls.
func (f *fleet) ramp(ctx context.Context) error {
	if f.cfg.Calls > 0 {
		_, err := f.step(ctx, f.cfg.Calls)
		return err
	}
	return search(f.cfg.First, func(n int) (bool, error) {
		held, err := f.step(ctx, n)
		if !held {
			f.set(ctx, n/2) // the machine comes to rest before the next step
		}
		return held, err
	})
}

// search tries more and more, half as many again each time, until try says no;
// then between the most that was good and the least that was not, until they
// are a twentieth apart.
func search(first int, try func(n int) (good bool, err error)) error {
	good, bad := 0, 0
	for n := first; n > good && (bad == 0 || n < bad); {
		held, err := try(n)
		if err != nil {
			return err
		}
		if held {
			good = n
		} else {
			bad = n
		}
		switch {
		case bad == 0:
			n = max(n+1, n*3/2)
		case bad-good <= max(1, good/20):
			return nil
		default:
			n = (good + bad) / 2
		}
	}
	return nil
}

// step measures n calls at once and reports whether the machine held them.
func (f *fleet) step(ctx context.Context, n int) (held bool, err error) {
	f.set(ctx, n)
	if err := f.wait(ctx, n, "warming up", f.cfg.Warm, nil); err != nil {
		return false, err
	}
	f.probe.take()
	f.mu.Lock()
	f.refused = 0
	f.mu.Unlock()
	before := f.listener.Stats()
	cpu, at := cpuTime(), time.Now()
	var p50, p95, most []time.Duration
	err = f.wait(ctx, n, "measuring", f.cfg.Measure, func() {
		s := f.listener.Stats()
		p50, p95, most = append(p50, s.LagP50), append(p95, s.LagP95), append(most, s.LagMax)
	})
	if err != nil {
		return false, err
	}
	took, used := time.Since(at), cpuTime()-cpu
	after, seen := f.listener.Stats(), f.probe.take()
	s := &Step{
		Calls:            n,
		LagP50MS:         ms(quantile(p50, 0.5)),
		LagP95MS:         ms(mean(p95)),
		LagMaxMS:         ms(quantile(most, 1)),
		CPU:              round(used.Seconds()/took.Seconds(), 2),
		CPUPerCallMinute: round(60*used.Seconds()/took.Seconds()/float64(n), 3),
		Transcribing:     after.Transcribing,
		Wakes:            after.Wakes - before.Wakes,
		Sheds:            after.Sheds - before.Sheds,
		Refused:          after.Refused - before.Refused,
		DroppedS:         round(seen.Dropped.Seconds(), 1),
		Incomplete:       seen.Incomplete,
		Ended:            seen.Ended, Frauds: seen.Frauds, Alerted: seen.Alerted, FalseAlarms: seen.FalseAlarms,
		Delay: percentiles(seen.Delays), TimeToAlert: percentiles(seen.Alerts),
		MemoryMB: round(residentMB(), 1),
	}
	s.Held = mean(p95) <= f.cfg.Limit && s.Sheds == 0 && s.Refused == 0 && seen.Dropped == 0
	f.way.Steps = append(f.way.Steps, s)
	return s.Held, f.failed()
}

// wait waits for d and calls tick every second.
func (f *fleet) wait(ctx context.Context, n int, what string, d time.Duration, tick func()) error {
	var last *Step
	if len(f.way.Steps) > 0 {
		last = f.way.Steps[len(f.way.Steps)-1]
	}
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for began := time.Now(); ; {
		at := time.Since(began)
		f.cfg.Done(Progress{Way: f.mode, Last: last, Step: fmt.Sprintf("%s %d calls", what, n), At: at, Of: d})
		if at >= d {
			return nil
		}
		select {
		case <-every.C:
			if tick != nil {
				tick()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set makes it n lines; those that are stopped are waited for.
func (f *fleet) set(ctx context.Context, n int) {
	for len(f.lines) < n {
		// A line is its own context's: it ends with ctx, or when it is stopped.
		lineCtx, stop := context.WithCancel(ctx)
		l := &line{stop: stop, done: make(chan struct{})}
		f.lines = append(f.lines, l)
		number := f.began
		f.began++
		go func() { // ends before set forgets the line
			defer close(l.done)
			f.play(lineCtx, number)
		}()
	}
	stopped := f.lines[n:]
	f.lines = f.lines[:n:n]
	for _, l := range stopped {
		l.stop()
	}
	for _, l := range stopped {
		<-l.done
	}
}

// play plays calls on one line, the first from somewhere in its middle, so
// that the lines are not in step.
func (f *fleet) play(ctx context.Context, number int) {
	late := math.Mod(float64(number)*math.Phi, 1)
	for first := true; ctx.Err() == nil; first = false {
		n := f.n.Add(1) - 1
		r := f.cfg.Turn(int(n))
		if first {
			r = r.from(late)
		}
		p := &player{r: r, began: time.Now()}
		id := fmt.Sprintf("bench-%s-%d", f.mode, n)
		f.probe.begin(id, p.began, r.Fraud)
		err := f.pipe.Listen(ctx, &source.Call{
			ID: id, Tenant: "bench", Source: "bench", Legs: []audio.Leg{audio.Caller, audio.Callee},
			Began: p.began, Duration: r.Length(), Live: true, Audio: p,
		})
		f.probe.end(id, err == nil && !first)
		switch {
		case err == nil, ctx.Err() != nil:
		case errors.Is(err, source.ErrBusy):
			select { // as a caller who tries again
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		default:
			f.mu.Lock()
			if f.err == nil {
				f.err = err
			}
			f.mu.Unlock()
			return
		}
	}
}

func (f *fleet) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Turn is the recording of the n-th call, from 0: every so many a fraud, and
// those of a kind in turn.
func (c Config) Turn(n int) *Recording {
	before, after := math.Floor(float64(n)*c.FraudShare), math.Floor(float64(n+1)*c.FraudShare)
	of := n - int(before) // ordinary calls so far
	if after > before {
		of = int(before)
	}
	var kind []*Recording
	for _, r := range c.Recordings {
		if r.Fraud == (after > before) {
			kind = append(kind, r)
		}
	}
	return kind[of%len(kind)]
}

// from is the rest of a recording after a share of it.
func (r *Recording) from(share float64) *Recording {
	rest := *r
	at := int(share * float64(len(r.Legs[0])))
	for i := range rest.Legs {
		rest.Legs[i] = r.Legs[i][at:]
	}
	return &rest
}

func mean(ds []time.Duration) (m time.Duration) {
	for _, d := range ds {
		m += d
	}
	return m / time.Duration(max(1, len(ds)))
}
