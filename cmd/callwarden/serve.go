package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/cmd/internal/metrics"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/admit"
	"github.com/callwarden/callwarden/pipeline/back"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/fansink"
	"github.com/callwarden/callwarden/pipeline/sink/jsonsink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	"github.com/callwarden/callwarden/pipeline/sink/reportsink"
	"github.com/callwarden/callwarden/pipeline/sink/termsink"
	"github.com/callwarden/callwarden/pipeline/sink/webhooksink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/remote"
)

// garbagePercent is how much garbage may lie beside what is in use, in place of
// Go's 100: with a thousand calls it is the larger part of the process. GOGC in
// the environment overrides it.
const garbagePercent = 50

// serveFlags take the place of keys of the file, for trying something out.
type serveFlags struct {
	backend, listen, nats, http string
}

func newServe(a *app) *cobra.Command {
	var path string
	var over serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Hear live calls by all configured ways in",
		Long: `Takes calls in by every way that the configuration enables, hears and judges
them, and publishes what it finds over NATS: to the embedded server, or to one
of your own. The first SIGTERM or interrupt ends it in order: no new calls are
taken, those in progress may end within drain.grace, what was found is
delivered, and the exit code is 0. A second one ends it at once.`,
		Example: `  callwarden check -c callwarden.yml
  callwarden serve -c callwarden.yml
  callwarden serve -c callwarden.yml --backend none   load tests: nothing is heard
  curl http://127.0.0.1:8080/readyz                   what is up, and what is missing
  callwarden watch                                    follow what is found`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadServeConfig(path)
			if err != nil {
				return err
			}
			if err := over.apply(&cfg); err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(garbagePercent)
			}
			return newServer(a, cfg).run(c.Context())
		},
	}
	addConfigFlag(cmd, &path)
	f := cmd.Flags()
	f.StringVar(&over.backend, "backend", "", "in place of transcriber.backend: "+strings.Join(backendNames(), ", "))
	f.StringVar(&over.listen, "listen", "", "in place of listen.mode: full, screen")
	f.StringVar(&over.nats, "nats", "", "in place of sinks.nats.url: the NATS server to publish to")
	f.StringVar(&over.http, "http", "", "in place of http.listen: the address of /healthz, /readyz and /metrics")
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(backendNames(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("listen", cobra.FixedCompletions([]string{listen.Full, listen.Screening}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// apply puts the flags in the place of their keys.
func (f serveFlags) apply(cfg *serveConfig) error {
	var errs []error
	if f.backend != "" {
		cfg.Transcriber.Mode, cfg.Transcriber.Backend = inProcess, f.backend
		errs = append(errs, oneOf("--backend", f.backend, backendNames()...))
	}
	if f.listen != "" {
		cfg.Listen.Mode = f.listen
		errs = append(errs, oneOf("--listen", f.listen, listen.Full, listen.Screening))
	}
	if f.nats != "" {
		cfg.Sinks.NATS.Enabled, cfg.Sinks.NATS.Config.URL = true, f.nats
		errs = append(errs, cfg.Sinks.NATS.Config.Validate())
	}
	if f.http != "" {
		cfg.HTTP.Listen = f.http
		errs = append(errs, cfg.HTTP.Validate())
	}
	if err := errors.Join(errs...); err != nil {
		return &usageError{err}
	}
	return nil
}

// server is one run of serve.
type server struct {
	*app
	cfg     serveConfig
	log     *slog.Logger
	health  *health
	metrics *metrics.Metrics
	rules   *admit.Rules
	pipe    *pipeline.Pipeline
	// open opens the recogniser; tests have their own.
	open func() (transcribe.Engine, error)
	// events are watched within this process, where something can.
	events *fansink.Sink
	// taking is closed when every way in takes calls.
	taking chan struct{}

	mu       sync.Mutex
	answers  string // address of the HTTP server
	listener *listen.Listener
	nats     *natssink.Sink
	natsAt   natssink.Connection // where that is connected to
	desk     http.Handler        // nil until there is one
	hooks    *webhooksink.Sink
	back     *back.Back
	ways     []*entrance
	restarts func() uint64
}

func newServer(a *app, cfg serveConfig) *server {
	s := &server{app: a, cfg: cfg, log: cfg.Log.logger(a), health: newHealth(), taking: make(chan struct{})}
	s.open = func() (transcribe.Engine, error) { return s.openTranscriber() }
	s.metrics = metrics.New(metrics.From{
		Version: version(), Listener: s.listenStats, NATS: s.natsStats, Sources: s.sourceStats, Restarts: s.restartStats,
		Prompts: s.promptCounts, Webhooks: s.webhookStats,
	})
	if g := &s.cfg.Sources.GRPC; g.Enabled {
		s.events = fansink.New()
		g.Config.Events, g.Config.Publish = s.events, s.publish
	}
	return s
}

func (c logConfig) logger(a *app) *slog.Logger {
	opt := &slog.HandlerOptions{Level: map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[c.Level]}
	if a.verbose {
		opt.Level = slog.LevelDebug
	}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(a.err, opt))
	}
	return slog.New(slog.NewTextHandler(a.err, opt))
}

// openTranscriber opens the recogniser that the configuration names.
func (s *server) openTranscriber() (transcribe.Engine, error) {
	c := s.cfg.Transcriber
	switch {
	case c.Mode == onOtherMachines:
		engine, err := remote.New(c.Remote, s.log)
		if err != nil {
			return nil, fmt.Errorf("transcriber.remote.%w", err)
		}
		return engine, nil
	case c.Mode == inProcess && c.Backend == routeBackend:
		return c.Backends.route(s.app, c.Routing, s.log)
	}
	f := &hearFlags{}
	f.flagSet() // the defaults of what has no key
	f.backend, f.model, f.library = c.Backend, cmp.Or(c.Model, models.DefaultModel), cmp.Or(c.Library, models.DefaultLibrary)
	if c.Mode == inOwnProcess {
		f.remote.behind = c.Backend
		return supervise(c.Supervised, s.app, f, s.log)
	}
	if _, own := c.Backends[c.Backend]; own {
		named, err := c.Backends.flags(c.Backend)
		if err != nil {
			return nil, usagef("transcriber.backends.%s.%w", c.Backend, err)
		}
		f = named
	}
	return f.engine(s.app, s.log)
}

// run serves until ctx ends, then drains. It leaves nothing behind.
func (s *server) run(ctx context.Context) (err error) {
	if s.rules, err = admit.New(s.cfg.Admit); err != nil {
		return usagef("admit: %w", err)
	}
	closeHTTP, err := s.serveHTTP()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeHTTP()) }()
	// Addresses first: one that cannot be had is told before a model is loaded.
	closeWays, err := s.openWays()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeWays()) }()

	engine, err := s.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	if r, ok := engine.(interface{ Restarts() uint64 }); ok {
		s.mu.Lock()
		s.restarts = r.Restarts
		s.mu.Unlock()
	}
	if own, ok := engine.(interface{ Collector() prometheus.Collector }); ok {
		if err := s.metrics.Also(own.Collector()); err != nil {
			return err
		}
	}
	s.health.set("engine", nil)
	if r, ok := engine.(interface{ Ready() error }); ok { // it may be lost and come back
		s.health.ask("engine", r.Ready)
	}

	judging := judgeFlags{packs: s.cfg.Judge.Packs, country: s.cfg.Judge.Country, unmasked: s.cfg.Calls.Unmasked, key: "judge.packs"}
	packs, judge, err := judging.judgeBy(s.cfg.Risk, s.log)
	if err != nil {
		return err
	}
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var watched sync.WaitGroup
	watched.Go(func() { _ = packs.Run(watching) })
	defer func() { stopWatching(); watched.Wait() }()

	closeListening, err := s.startListening(engine, packs.Library)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeListening()) }()

	out, closeSinks, err := s.openSinks()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSinks()) }()
	way, err := back.New(s.cfg.Back.config(), out, s.log)
	if err != nil {
		return usagef("back.%w", err)
	}
	s.mu.Lock()
	s.back = way
	s.mu.Unlock()
	calls := s.cfg.Calls
	calls.Levels = s.cfg.Sinks.NATS.Enabled && s.cfg.Sinks.NATS.Config.Levels
	if s.hasDesk() && calls.NumberKeyFile == "" {
		calls.NumberKeyFile, _ = s.cfg.Desk.Config.NumberKey() // the desk has made it where there was none
	}
	if s.pipe, err = pipeline.New(calls, s.listener, judge, way, s.log); err != nil {
		return usagef("calls: %w", err)
	}
	defer s.takeCommands(ctx, way)()
	return s.serveCalls(ctx)
}

// startListening makes the listening plan on engine.
func (s *server) startListening(engine transcribe.Engine, packs func() *tactics.Library) (closeListening func() error, err error) {
	f := hearFlags{listen: s.cfg.Listen.Mode}
	if slices.ContainsFunc(s.cfg.Admit.Rules, func(r admit.Rule) bool { return r.Listen == listen.Screening }) {
		f.listen = listen.Screening // for the calls of these rules
	}
	listening, closeListening := f.listening(s.app, engine, packs, s.log)
	listening.Language = s.cfg.Listen.Language
	if s.cfg.Listen.Mode == listen.Full {
		listening.Mode = listen.Full // but for those calls
	}
	listener, err := listen.New(engine, listening, s.log)
	if err != nil {
		return nil, errors.Join(usagef("%w", err), closeListening())
	}
	s.mu.Lock()
	s.listener = listener
	s.mu.Unlock()
	return closeListening, nil
}

// openSinks opens every way out that is enabled.
func (s *server) openSinks() (out sink.Sink, closeSinks func() error, err error) {
	sinks := []sink.Sink{s.metrics}
	if s.events != nil {
		sinks = append(sinks, s.events)
	}
	var closers []func() error // after the sinks, in this order
	closeSinks = func() error {
		err := closeSink(sink.Tee(sinks...), s.cfg.Drain.Deliver)
		for _, c := range closers {
			err = errors.Join(err, c())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeSinks())
		}
	}()
	c := s.cfg.Sinks
	if c.Terminal.Enabled {
		lines := c.Terminal.Config
		if width, ok := terminal(s.app.out); ok {
			lines.Color = lines.Color || os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
			if lines.Width == 0 {
				lines.Width = width
			}
		}
		sinks = append(sinks, termsink.New(s.app.out, lines))
	}
	if c.JSON.Enabled {
		w := s.app.out
		if c.JSON.File != "-" {
			file, err := os.OpenFile(c.JSON.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				return nil, closeSinks, fmt.Errorf("sinks.json.file: %w", err)
			}
			closers = append(closers, file.Close)
			w = file
		}
		sinks = append(sinks, jsonsink.New(w, c.JSON.Config))
	}
	if c.Reports.Enabled {
		reports, err := reportsink.New(reportsink.Config{
			Dir: c.Reports.Config.Dir, Unmasked: s.cfg.Calls.Unmasked,
			Thresholds: reportsink.Thresholds{Notice: s.cfg.Risk.Notice, Warning: s.cfg.Risk.Warning, Critical: s.cfg.Risk.Critical},
		})
		if err != nil {
			return nil, closeSinks, fmt.Errorf("sinks.reports: %w", err)
		}
		sinks = append(sinks, reports)
	}
	if c.NATS.Enabled {
		var embedded *natssink.Server
		if c.NATS.Config.URL == "" {
			if embedded, err = natssink.StartServer(c.NATS.Embedded, s.log); err != nil {
				return nil, closeSinks, fmt.Errorf("sinks.nats.embedded: %w", err)
			}
			closers = append(closers, func() error { embedded.Shutdown(); return nil })
		}
		own := c.NATS.sink(embedded)
		nats, err := natssink.New(own, s.log)
		if err != nil {
			return nil, closeSinks, fmt.Errorf("sinks.nats: %w", err)
		}
		s.mu.Lock()
		s.nats, s.natsAt = nats, own.Connection
		s.mu.Unlock()
		s.health.ask("nats", nats.Up)
		sinks = append(sinks, nats)
		closeDesk, err := s.startDesk()
		if err != nil {
			return nil, closeSinks, err
		}
		closers = append([]func() error{closeDesk}, closers...) // before the server that it reads from
	}
	if c.Webhook.Enabled { // last: it may use up the time to deliver
		hooks, err := webhooksink.New(c.Webhook.Config, s.log)
		if err != nil {
			return nil, closeSinks, fmt.Errorf("sinks.webhook.%w", err)
		}
		s.mu.Lock()
		s.hooks = hooks
		s.mu.Unlock()
		sinks = append(sinks, hooks)
	}
	return sink.Tee(sinks...), closeSinks, nil
}

// openWays takes the addresses of every way in that is enabled. What is not
// served is closed by the function that it returns.
func (s *server) openWays() (closeWays func() error, err error) {
	var open []*entrance
	closeWays = func() error {
		var errs []error
		for _, e := range open {
			errs = append(errs, e.close())
		}
		return errors.Join(errs...)
	}
	for _, w := range ways {
		if !w.enabled(&s.cfg) {
			continue
		}
		e := &entrance{way: w, s: s}
		if err := e.take(); err != nil {
			return nil, errors.Join(fmt.Errorf("sources.%s.%w", w.name, err), closeWays())
		}
		open = append(open, e)
	}
	s.mu.Lock()
	s.ways = open
	s.mu.Unlock()
	return closeWays, nil
}

// serveCalls serves every way in until ctx ends and the last call is over.
func (s *server) serveCalls(ctx context.Context) (err error) {
	calling, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	handle := func(of context.Context, call *source.Call) error { return s.handle(of, ctx, calling, call) }

	var serving sync.WaitGroup
	for _, e := range s.ways {
		s.health.ask("source "+e.way.name, e.trouble)
		e.begin()
		serving.Go(func() { e.serve(ctx, handle) })
		s.log.Info("taking calls", "source", e.way.name, "address", e.addresses())
	}
	s.health.set("ways in", nil)
	close(s.taking)

	<-ctx.Done()
	s.health.set("draining", errDraining)
	s.log.Info("draining: no new calls are taken", "calls", s.inProgress(), "grace", s.cfg.Drain.Grace)
	cut := time.AfterFunc(s.cfg.Drain.Grace, func() {
		if n := s.inProgress(); n > 0 {
			s.log.Warn("ending calls that are not over", "calls", n)
		}
		hangUp()
	})
	defer cut.Stop()
	serving.Wait()
	s.log.Info("all calls are over")
	return nil
}

func (s *server) inProgress() int {
	st, _ := s.listenStats()
	return st.Calls
}

// handle is what every way in does with a call. ctx is the source's; when that
// ends because calls are not taken any more, the call goes on until its audio
// ends or calling does.
func (s *server) handle(ctx, taking, calling context.Context, call *source.Call) error {
	d := s.rules.Decide(call)
	if !d.Heard {
		s.metrics.NotMonitored(metrics.Exempt)
		s.log.Debug("call is exempt", "call", call.ID, "source", call.Source, "rule", d.Rule)
		if !d.Told {
			return nil
		}
		return s.pipe.Skip(context.WithoutCancel(ctx), call, d.Reason())
	}
	if d.Listen != "" {
		call.Listen = d.Listen
	}
	if d.Language != "" {
		call.Language = d.Language
	}
	if d.Tenant != "" {
		call.Tenant = d.Tenant
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(calling, cancel)()
	defer context.AfterFunc(ctx, func() {
		if taking.Err() == nil { // the source means this call
			cancel()
		}
	})()
	admitted := false
	tell := call.Admitted
	call.Admitted = func() {
		admitted = true
		if tell != nil {
			tell()
		}
	}
	defer s.back.Attach(call)()
	err := s.pipe.Listen(own, call)
	switch {
	case errors.Is(err, source.ErrBusy):
		s.metrics.NotMonitored(metrics.Busy)
	case err != nil && !admitted:
		s.metrics.NotMonitored(metrics.Failed)
	}
	return err
}

// entrance is a way in of this run: the source that is served, and the next
// one when that fails.
type entrance struct {
	way way
	s   *server

	mu     sync.Mutex
	served bool          // from then on Serve closes what it served
	source source.Source // nil while it cannot be had
	why    error
	before source.Stats // of sources that have failed
}

const (
	sourceBackOff     = time.Second // doubles with every failure in a row
	sourceBackOffMost = 30 * time.Second
	sourceSteady      = time.Minute // a source that has served so long begins anew
)

// take opens the source.
func (e *entrance) take() error {
	src, err := e.way.open(&e.s.cfg, e.s.log)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.source, e.why = nil, err
		return err
	}
	e.source, e.why = src, nil
	return nil
}

// close gives back the addresses of a source that was never served.
func (e *entrance) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.source.(interface{ Close() error }); ok && !e.served {
		return c.Close()
	}
	return nil
}

// current is the source that is served, nil for none.
func (e *entrance) current() source.Source {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.served {
		return nil
	}
	return e.source
}

// begin says that the source is served from now on.
func (e *entrance) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.served = true
}

// serve serves the source until ctx ends, opening it again when it fails.
func (e *entrance) serve(ctx context.Context, handle source.Handler) {
	for failures := 0; ; {
		began := time.Now()
		if src := e.current(); src != nil {
			err := src.Serve(ctx, handle)
			if ctx.Err() != nil {
				return
			}
			e.lose(src, err)
		}
		if time.Since(began) > sourceSteady {
			failures = 0
		}
		failures++
		if !source.Pause(ctx, backOff(failures)) {
			return
		}
		if err := e.take(); err != nil {
			e.s.log.Error("a way in cannot be had", "source", e.way.name, "err", err)
		} else {
			e.s.log.Info("taking calls again", "source", e.way.name, "address", e.addresses())
		}
	}
}

// lose notes that src takes no calls any more.
func (e *entrance) lose(src source.Source, why error) {
	if why == nil {
		why = errors.New("it has ended")
	}
	e.s.log.Error("a way in has failed", "source", e.way.name, "err", why)
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := src.(source.Counted); ok {
		e.before.Add(c.Stats())
		e.before.Calls, e.before.Legs = 0, 0
	}
	e.source, e.why = nil, why
}

// trouble is why no calls are taken, nil if they are.
func (e *entrance) trouble() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.why
}

// stats are those of all sources that were served.
func (e *entrance) stats() metrics.Source {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := metrics.Source{Name: e.way.name, Bound: e.served && e.source != nil, Stats: e.before}
	if c, ok := e.source.(source.Counted); ok {
		st.Stats.Add(c.Stats())
	}
	return st
}

// addresses are where the source takes calls, as far as it says.
func (e *entrance) addresses() string {
	switch src := e.current().(type) {
	case interface{ Addr() net.Addr }:
		return src.Addr().String()
	case interface{ Addrs() []net.Addr }:
		var all []string
		for _, a := range src.Addrs() {
			all = append(all, a.Network()+" "+a.String())
		}
		return strings.Join(all, ", ")
	}
	return ""
}

// backOff is how long to wait after so many failures in a row, a quarter of it
// by chance.
func backOff(failures int) time.Duration {
	d := sourceBackOffMost
	if failures < 6 {
		d = min(sourceBackOff<<(failures-1), sourceBackOffMost)
	}
	return d*3/4 + rand.N(d/4+1)
}

func (s *server) listenStats() (listen.Stats, bool) {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return listen.Stats{}, false
	}
	return l.Stats(), true
}

func (s *server) natsStats() (stats natssink.Stats, connected, ok bool) {
	s.mu.Lock()
	n := s.nats
	s.mu.Unlock()
	if n == nil {
		return stats, false, false
	}
	return n.Stats(), n.Up() == nil, true
}

// publish tells what somebody did about a call, as what is found in it is told.
func (s *server) publish(ctx context.Context, ev sink.Event) error {
	s.mu.Lock()
	b := s.back
	s.mu.Unlock()
	if b == nil {
		return errStarting
	}
	return b.Publish(ctx, ev)
}

func (s *server) webhookStats() []webhooksink.Stats {
	s.mu.Lock()
	h := s.hooks
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	return h.Stats()
}

func (s *server) promptCounts() []back.Counts {
	s.mu.Lock()
	b := s.back
	s.mu.Unlock()
	if b == nil {
		return nil
	}
	return b.Counts()
}

func (s *server) sourceStats() []metrics.Source {
	s.mu.Lock()
	open := s.ways
	s.mu.Unlock()
	all := make([]metrics.Source, len(open))
	for i, e := range open {
		all[i] = e.stats()
	}
	return all
}

func (s *server) restartStats() (uint64, bool) {
	s.mu.Lock()
	restarts := s.restarts
	s.mu.Unlock()
	if restarts == nil {
		return 0, false
	}
	return restarts(), true
}
