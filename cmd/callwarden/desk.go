package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/cmd/internal/desk"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
)

func newDesk(a *app) *cobra.Command {
	var (
		flags     natsFlags
		cfg       = desk.DefaultConfig()
		listen    string
		stream    string
		cert, key string
	)
	cmd := &cobra.Command{
		Use:   "desk",
		Short: "The live page apart from the calls",
		Long: `Shows the live desk, which serve shows too, on a machine of its own: it reads
the events of a NATS server and tells it what people do. Without --tokens or
--proxy it is open to this machine only, and asks nobody to sign in.`,
		Example: `  callwarden desk                                         calls of the serve on this machine
  callwarden desk --nats nats://nats.example:4222 --listen 0.0.0.0:8090 --tokens desk.tokens
  callwarden desk --nats tls://nats.example:4222 --proxy 192.0.2.7`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return usagef("%w", err)
			}
			if (cert == "") != (key == "") {
				return usagef("--cert and --key go together")
			}
			from := desk.From{Connection: flags.connection(), Stream: stream, Version: version()}
			if err := from.Validate(); err != nil {
				return usagef("--nats: %w", err)
			}
			return a.desk(c.Context(), cfg, from, listen, cert, key)
		},
	}
	flags.addClient(cmd, "nats://127.0.0.1:4222", "NATS server to follow")
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:8090", "address of the page")
	f.StringVar(&cert, "cert", "", "PEM file of the page's certificate: it is served over TLS then")
	f.StringVar(&key, "key", "", "PEM file of the certificate's key")
	f.StringVar(&stream, "stream", natssink.DefaultConfig().Stream, "JetStream stream that keeps the events")
	f.StringVar(&cfg.TokensFile, "tokens", cfg.TokensFile, "file of those who may sign in: TOKEN USER ROLE TENANTS in each line")
	f.StringSliceVar(&cfg.Proxy.Networks, "proxy", nil, "networks of the reverse proxy that has people sign in")
	f.StringVar(&cfg.Dir, "dir", cfg.Dir, "folder of the history and the audit log; empty for neither")
	f.StringVar(&cfg.NumberKeyFile, "number-key", "", "file with the key of serve's calls.number_key_file, to find calls by masked numbers")
	f.IntVar(&cfg.Days, "days", cfg.Days, "how long calls stay in the history")
	f.DurationVar(&cfg.Keep, "keep", cfg.Keep, "how long an ended call stays in the overview")
	f.DurationVar(&cfg.Since, "since", cfg.Since, "how far back the stream is read at the start")
	return cmd
}

// desk serves the page until ctx ends.
func (a *app) desk(ctx context.Context, cfg desk.Config, from desk.From, listen, cert, key string) (err error) {
	log := a.log()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	d, err := desk.New(cfg, from, log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	srv := &http.Server{
		Handler: d.Handler(), ReadHeaderTimeout: httpHeaderTimeout, ReadTimeout: httpReadTimeout, IdleTimeout: httpIdleTimeout,
		MaxHeaderBytes: httpHeaderBytes,
	}
	scheme := "http"
	if cert != "" {
		scheme = "https"
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var serving sync.WaitGroup
	serving.Go(func() {
		serve := srv.Serve
		if cert != "" {
			serve = func(l net.Listener) error { return srv.ServeTLS(l, cert, key) }
		}
		if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			stop(err)
		}
	})
	fmt.Fprintf(a.err, "the desk is at %s://%s/\n", scheme, l.Addr())
	err = d.Run(ctx)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("serving the page: %w", cause))
	}
	err = errors.Join(err, srv.Close())
	serving.Wait()
	return err
}

// hasDesk says whether there is a desk, or will be: it shows what comes over
// NATS.
func (s *server) hasDesk() bool {
	return s.cfg.Desk.Enabled && s.cfg.HTTP.Listen != "" && s.cfg.Sinks.NATS.Enabled
}

// startDesk runs the desk, and tells how this machine is to those elsewhere,
// until the function that it returns is called.
func (s *server) startDesk() (closeDesk func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var ended error
	if s.hasDesk() {
		cfg := s.cfg.Desk.Config
		if cfg.NumberKeyFile == "" {
			cfg.NumberKeyFile = s.cfg.Calls.NumberKeyFile
		}
		d, err := desk.New(cfg, desk.From{Connection: s.natsAt, Stream: s.cfg.Sinks.NATS.Config.Stream, Version: version()}, s.log)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("desk.%w", err)
		}
		running.Go(func() { ended = d.Run(ctx) })
		s.mu.Lock()
		s.desk = d.Handler()
		s.mu.Unlock()
		s.log.Info("the desk is there", "address", "http://"+s.answers+"/")
	}
	running.Go(func() {
		at := s.natsAt
		at.Name += "-machine"
		if err := natssink.Announce(ctx, at, announceEvery, s.machine(), s.log); err != nil {
			s.log.Error("how this machine is cannot be told", "err", err)
		}
	})
	return func() error {
		cancel()
		running.Wait()
		return ended
	}, nil
}

// announceEvery is how often a machine tells how it is.
const announceEvery = 2 * time.Second

// serveDesk answers for the desk of the moment.
func (s *server) serveDesk(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	d := s.desk
	s.mu.Unlock()
	if d == nil {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Refresh", "1") // for who has typed the address too early
		http.Error(w, "callwarden is being started", http.StatusServiceUnavailable)
		return
	}
	d.ServeHTTP(w, r)
}
