package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/pipeline/sink/natssink"
)

// natsFlags say which NATS server is used; every command that talks to one has
// them.
type natsFlags struct {
	url, creds, nkey, ca, cert, key string
	listen, store                   string
}

func (f *natsFlags) addClient(c *cobra.Command, urlDefault, urlHelp string) {
	c.Flags().StringVar(&f.url, "nats", urlDefault, urlHelp)
	c.Flags().StringVar(&f.creds, "nats-creds", "", "credentials file (user JWT and nkey seed)")
	c.Flags().StringVar(&f.nkey, "nats-nkey", "", "nkey seed file")
	c.Flags().StringVar(&f.ca, "nats-ca", "", "PEM file of the authority that signed the server's certificate")
	c.Flags().StringVar(&f.cert, "nats-cert", "", "PEM file of the client's certificate")
	c.Flags().StringVar(&f.key, "nats-key", "", "PEM file of the client's key")
}

func (f *natsFlags) addServer(c *cobra.Command) {
	c.Flags().StringVar(&f.listen, "nats-listen", "", "let others connect to the embedded server, for example at 127.0.0.1:4222")
	c.Flags().StringVar(&f.store, "nats-store", "", "folder where the embedded server keeps its stream (default a temporary one)")
}

func (f *natsFlags) connection() natssink.Connection {
	return natssink.Connection{
		URL: f.url, Name: "callwarden",
		Creds: f.creds, NKey: f.nkey, CA: f.ca, Cert: f.cert, Key: f.key,
	}
}

// open starts the embedded server unless a URL is given, and a sink on it. The
// caller closes the sink, then shuts down the server, which is nil for a URL.
// The embedded server is ready when open returns; one at a URL may be away and
// come later.
func (f *natsFlags) open(ctx context.Context, log *slog.Logger, transcripts bool) (*natssink.Sink, *natssink.Server, error) {
	cfg := natssink.DefaultConfig()
	cfg.Connection = f.connection()
	cfg.Transcripts = transcripts
	if f.url != "" {
		if f.listen != "" || f.store != "" {
			return nil, nil, usagef("--nats-listen and --nats-store are of the embedded server; they cannot go with --nats %s", f.url)
		}
		s, err := natssink.New(cfg, log)
		return s, nil, err
	}
	server, err := startNATS(f.listen, f.store, log)
	if err != nil {
		return nil, nil, err
	}
	cfg.Server = server
	s, err := natssink.New(cfg, log)
	if err == nil {
		if err = s.Ready(ctx); err == nil {
			return s, server, nil
		}
		err = errors.Join(err, s.Close(ctx))
	}
	server.Shutdown()
	return nil, nil, err
}

func startNATS(listen, store string, log *slog.Logger) (*natssink.Server, error) {
	cfg := natssink.DefaultServerConfig()
	cfg.Listen, cfg.StoreDir = listen, store
	return natssink.StartServer(cfg, log)
}
