package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	remotebackend "github.com/callwarden/callwarden/transcribe/remote"
	"github.com/callwarden/callwarden/transcribe/service"
	supervisedbackend "github.com/callwarden/callwarden/transcribe/supervised"
)

func newTranscriber(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transcriber",
		Short: "A recogniser for other processes and other machines",
		Args:  unknownCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(newTranscriberServe(a))
	return cmd
}

type transcriberServe struct {
	*app
	hear    hearFlags
	cfg     service.Config
	metrics string
	vosk    string
	input   bool
}

func newTranscriberServe(a *app) *cobra.Command {
	t := &transcriberServe{app: a, cfg: service.DefaultConfig()}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a local recogniser over gRPC",
		Long: `Serves a recogniser of this machine as callwarden.v1.TranscribeService, with gRPC
health and reflection. Others hear with it by --backend remote --transcriber ADDR.
The first signal takes no more streams and lets those that are open go on for
--grace; the second ends it.`,
		Example: `  callwarden transcriber serve
  callwarden transcriber serve --listen unix:/run/callwarden/transcriber
  callwarden transcriber serve --listen :7070 --tls-cert c.pem --tls-key k.pem --client-ca ca.pem --token-file t
  callwarden transcriber serve --vosk-listen :2700
  callwarden replay call.wav --backend remote --transcriber 127.0.0.1:7070`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return t.run(c.Context(), os.Stdin) },
	}
	t.hear.addLocal(cmd)
	f := cmd.Flags()
	f.StringVar(&t.cfg.Listen, "listen", t.cfg.Listen, "where to serve: host:port, or unix:PATH")
	f.IntVar(&t.cfg.Streams, "streams", t.cfg.Streams, "legs heard at once at most")
	f.DurationVar(&t.cfg.Grace, "grace", t.cfg.Grace, "how long open streams may go on when it is to end")
	f.StringVar(&t.cfg.TLS.Cert, "tls-cert", "", "own certificate, PEM; read again when it changes")
	f.StringVar(&t.cfg.TLS.Key, "tls-key", "", "its key, PEM")
	f.StringVar(&t.cfg.TLS.CA, "client-ca", "", "ask clients for certificates from these roots, PEM")
	f.StringVar(&t.cfg.TokenFile, "token-file", "", "file with the token that requests must carry")
	f.StringVar(&t.metrics, "metrics", "", "serve Prometheus figures at http://ADDR/metrics")
	f.StringVar(&t.vosk, "vosk-listen", "", "also speak the Vosk server's WebSocket protocol at this host:port, to clients of that")
	f.BoolVar(&t.input, "end-with-input", false, "end when standard input ends: for whoever starts this as a child")
	_ = f.MarkHidden("end-with-input")
	return cmd
}

func (t *transcriberServe) run(ctx context.Context, in io.Reader) (err error) {
	switch t.hear.backend {
	case "script", "remote", "supervised":
		return usagef("--backend: %s cannot be served, only what hears in this process", t.hear.backend)
	}
	t.cfg.Version = version()
	if err := t.cfg.Validate(); err != nil {
		return usagef("%w", flagOf(err))
	}
	if t.input {
		// Signals to the whole group, as from a terminal or systemd, are for
		// whoever started it, and still has calls to hear to their end.
		ctx = context.WithoutCancel(ctx)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if t.input {
		t.cfg.Grace = 0 // whoever started it is gone, or wants it gone
		go func() {     // ends with the input, which is when the process does
			_, _ = io.Copy(io.Discard, in)
			stop()
		}()
	}
	log := t.log()
	lis, err := service.Open(t.cfg.Listen) // before the model is loaded: who waits sees it coming
	if err != nil {
		return fmt.Errorf("--listen %s: %w", t.cfg.Listen, err)
	}
	defer lis.Close() // again, where Serve has
	engine, err := t.hear.engine(t.app, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	svc, err := service.New(t.cfg, engine, log)
	if err != nil {
		return usagef("%w", flagOf(err))
	}
	t.warn(log)
	figuresAt, closeMetrics, err := serveFigures(t.metrics, svc)
	if err != nil {
		return fmt.Errorf("--metrics %s: %w", t.metrics, err)
	}
	defer closeMetrics()
	voskAt, stopVosk, err := serveVosk(t.vosk, engine, t.cfg, log)
	if err != nil {
		return fmt.Errorf("--vosk-listen %s: %w", t.vosk, err)
	}
	defer stopVosk()
	defer context.AfterFunc(ctx, stopVosk)() // beside the streams of the other
	if voskAt != nil {
		fmt.Fprintf(t.err, "Vosk clients are served at %s\n", voskAddress(voskAt, t.cfg.TLS.Cert != ""))
	}
	if figuresAt != nil {
		fmt.Fprintf(t.err, "figures at http://%s/metrics\n", figuresAt)
	}
	if !t.input {
		fmt.Fprintf(t.err, "transcriber listens at %s\n", addressOf(lis))
	}
	return svc.Serve(ctx, lis)
}

// warn says who can listen along or use the machine.
func (t *transcriberServe) warn(log *slog.Logger) {
	host, _, err := net.SplitHostPort(t.cfg.Listen)
	if ip := net.ParseIP(host); strings.HasPrefix(t.cfg.Listen, "unix:") || err != nil || ip != nil && ip.IsLoopback() || host == "localhost" {
		return
	}
	if t.cfg.TLS.Cert == "" {
		log.Warn("calls cross the network in the clear; give --tls-cert and --tls-key")
	}
	if t.cfg.TLS.CA == "" && t.cfg.TokenFile == "" {
		log.Warn("anybody who reaches this address can use it; give --client-ca or --token-file")
	}
}

func addressOf(lis net.Listener) string {
	if lis.Addr().Network() == "unix" {
		return "unix:" + lis.Addr().String()
	}
	return lis.Addr().String()
}

// flagOf gives a message about a key the name of its flag.
func flagOf(err error) error {
	key, rule, ok := strings.Cut(err.Error(), ":")
	flag := map[string]string{"tls.cert": "tls-cert", "tls.key": "tls-key", "tls.ca": "client-ca", "token_file": "token-file"}[key]
	if flag == "" {
		flag = key
	}
	if !ok {
		return err
	}
	return fmt.Errorf("--%s:%s", flag, rule)
}

// serveFigures serves them at http://addr/metrics; nowhere if it is empty.
func serveFigures(addr string, figures prometheus.Collector) (at net.Addr, closeServer func(), err error) {
	if addr == "" {
		return nil, func() {}, nil
	}
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(figures, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: httpHeaderTimeout, ReadTimeout: httpReadTimeout, IdleTimeout: httpIdleTimeout}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(lis) }) // it ends with the Close below
	return lis.Addr(), func() {
		_ = server.Close()
		serving.Wait()
	}, nil
}

// remoteFlags say where other recognisers are.
type remoteFlags struct {
	cfg    remotebackend.Config
	behind string // the backend of a supervised process
}

func (f *remoteFlags) add(c *cobra.Command) {
	f.cfg = remotebackend.DefaultConfig()
	flags := c.Flags()
	flags.StringSliceVar(&f.cfg.Addresses, "transcriber", nil, "where it is, for the backends that are elsewhere: remote host:port or unix:PATH, voskserver, riva, openai; several by comma")
	flags.BoolVar(&f.cfg.Secure, "transcriber-tls", false, "reach it over TLS, with the system's roots")
	flags.StringVar(&f.cfg.TLS.CA, "transcriber-ca", "", "reach it over TLS, with these roots, PEM")
	flags.StringVar(&f.cfg.TLS.Cert, "transcriber-cert", "", "own certificate to show it, PEM")
	flags.StringVar(&f.cfg.TLS.Key, "transcriber-key", "", "its key, PEM")
	flags.StringVar(&f.cfg.TokenFile, "transcriber-token-file", "", "file with the token to show it")
}

func openRemote(_ *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error) {
	cfg := f.remote.cfg
	if len(cfg.Addresses) == 0 {
		return nil, usagef("--transcriber: --backend remote needs the address of one, such as 127.0.0.1:7070")
	}
	if err := cfg.Validate(); err != nil {
		return nil, usagef("--transcriber: %w", err)
	}
	return remotebackend.New(cfg, log)
}

func openSupervised(a *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error) {
	return supervise(supervisedbackend.DefaultConfig(), a, f, log)
}

// supervise is openSupervised with other times than the usual.
func supervise(cfg supervisedbackend.Config, a *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	behind := f.remote.behind
	if behind == "" {
		behind = "vosk"
	}
	cfg.Command = []string{program, "transcriber", "serve", "--end-with-input", "--backend", behind, "--model", f.model, "--library", f.library}
	if a.dataDir != "" {
		cfg.Command = append(cfg.Command, "--data-dir", a.dataDir)
	}
	cfg.NotInstalled = exitNotInstalled
	engine, err := supervisedbackend.New(cfg, log)
	if err != nil {
		return nil, err
	}
	return engine, nil
}

// addLocal adds the flags of what hears in this process.
func (f *hearFlags) addLocal(c *cobra.Command) {
	c.Flags().StringVar(&f.backend, "backend", backends[0].name, "speech-to-text: "+strings.Join(backendNames(), ", "))
	c.Flags().StringVar(&f.model, "model", models.DefaultModel, "model: a name of 'models list' or a folder; for riva and openai, what the server calls it")
	c.Flags().StringVar(&f.settings, "backend-settings", "", "YAML file with further settings of the backend: docs/recognisers.md has their keys")
	c.Flags().StringVar(&f.library, "library", models.DefaultLibrary, "native library: a name of 'models list', or a file")
	_ = c.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(backendNames(), cobra.ShellCompDirectiveNoFileComp))
}
