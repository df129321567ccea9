package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/trypage"
	"github.com/callwarden/callwarden/pipeline/source"
)

var (
	errStarting = errors.New("not there yet")
	errDraining = errors.New("no new calls are taken")
)

// health knows what serve needs to take calls, and what of it is missing.
type health struct {
	mu    sync.Mutex
	parts map[string]func() error // nil is well
}

func newHealth() *health {
	h := &health{parts: make(map[string]func() error)}
	for _, part := range []string{"engine", "ways in"} {
		h.set(part, errStarting)
	}
	return h
}

// set says how a part is until it is said again.
func (h *health) set(part string, err error) { h.ask(part, func() error { return err }) }

// ask has a part say how it is.
func (h *health) ask(part string, how func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts[part] = how
}

// draining says whether no new calls are taken any more.
func (h *health) draining() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	how, ok := h.parts["draining"]
	return ok && errors.Is(how(), errDraining)
}

// report is a line for every part, what is missing first.
func (h *health) report() (text string, ready bool) {
	h.mu.Lock()
	parts := make(map[string]func() error, len(h.parts))
	for part, how := range h.parts {
		parts[part] = how
	}
	h.mu.Unlock()
	var missing, well []string
	for part, how := range parts {
		if err := how(); err != nil {
			missing = append(missing, fmt.Sprintf("missing: %s: %v\n", part, err))
		} else if part != "ways in" {
			well = append(well, fmt.Sprintf("ok: %s\n", part))
		}
	}
	slices.Sort(missing)
	slices.Sort(well)
	return strings.Join(append(missing, well...), ""), len(missing) == 0
}

func (h *health) ready(w http.ResponseWriter, _ *http.Request) {
	text, ready := h.report()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprint(w, text)
}

// Limits of the HTTP server: what asks is a probe, a scraper or a PBX.
const (
	httpHeaderTimeout = 5 * time.Second
	httpReadTimeout   = 15 * time.Second
	httpIdleTimeout   = 2 * time.Minute
	httpHeaderBytes   = 16 << 10
)

// serveHTTP answers at http.listen until the function that it returns is
// called. It is there before the recogniser is loaded, and while calls end.
func (s *server) serveHTTP() (closeHTTP func() error, err error) {
	if s.cfg.HTTP.Listen == "" {
		return func() error { return nil }, nil
	}
	l, err := net.Listen("tcp", s.cfg.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w", err)
	}
	srv := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: httpHeaderTimeout, ReadTimeout: httpReadTimeout, IdleTimeout: httpIdleTimeout,
		MaxHeaderBytes: httpHeaderBytes,
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("http server has ended", "err", err)
		}
	})
	s.answers = l.Addr().String()
	s.log.Info("http server answers", "address", s.answers)
	return func() error {
		err := srv.Close()
		serving.Wait()
		return err
	}, nil
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.health.ready)
	mux.Handle("GET /metrics", s.metrics.Handler())
	if s.cfg.HTTP.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	if s.cfg.HTTP.Try {
		mux.Handle(trypage.Path, trypage.Handler(s.about()))
	}
	if s.hasDesk() {
		mux.HandleFunc("/", s.serveDesk)
	}
	for _, w := range ways {
		if w.enabled(&s.cfg) {
			mux.Handle("/v1/"+w.name+"/", s.api(w.name))
			mux.Handle("/v1/"+w.name, s.api(w.name)) // a redirect is too much for most WebSocket clients
		}
	}
	return mux
}

// about is what the page /try/ has to know.
func (s *server) about() trypage.About {
	return trypage.About{
		WHIP:   slices.ContainsFunc(ways[:], func(w way) bool { return w.name == "whip" && w.enabled(&s.cfg) }),
		Listen: s.cfg.Listen.Mode,
		Notice: s.cfg.Risk.Notice, Warning: s.cfg.Risk.Warning, Critical: s.cfg.Risk.Critical,
	}
}

// api is the HTTP API of a way in, where it has one: that of the source of the
// moment.
func (s *server) api(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		src := s.source(name)
		switch src := src.(type) {
		case nil:
			http.Error(w, "this way in takes no calls at the moment", http.StatusServiceUnavailable)
		case interface{ Handler() http.Handler }:
			src.Handler().ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

func (s *server) source(name string) source.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.ways {
		if e.way.name == name {
			return e.current()
		}
	}
	return nil
}
