package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/certs"
	"github.com/callwarden/callwarden/transcribe/peer"
	"github.com/callwarden/callwarden/transcribe/service"
	"github.com/callwarden/callwarden/transcribe/voskws"
)

// serveVosk serves engine over the Vosk server's WebSocket protocol at addr,
// with the certificate, the token and the room of the gRPC service; nowhere if
// addr is empty. The returned function takes no more sessions and lets those
// that are open go on for the grace time; it may be called again.
func serveVosk(addr string, engine transcribe.Engine, cfg service.Config, log *slog.Logger) (listening net.Addr, stop func(), err error) {
	if addr == "" {
		return nil, func() {}, nil
	}
	own := voskws.DefaultConfig()
	own.MaxSessions = cfg.Streams
	sessions, err := voskws.NewServer(engine, own, log)
	if err != nil {
		return nil, nil, err
	}
	var handler http.Handler = sessions
	if cfg.TokenFile != "" {
		token, err := peer.ReadSecret(cfg.TokenFile)
		if err != nil {
			return nil, nil, err
		}
		handler = bearing(token, handler)
	}
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	listening = lis.Addr()
	if cfg.TLS.Cert != "" {
		store, err := certs.Open(cfg.TLS, log)
		if err != nil {
			return nil, nil, errors.Join(err, lis.Close())
		}
		lis = tls.NewListener(lis, store.Server("http/1.1"))
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: httpHeaderTimeout, IdleTimeout: httpIdleTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(lis) }) // it ends with the Close below
	return listening, sync.OnceFunc(func() {     // who comes second waits for the first
		ctx, cancel := context.WithTimeout(context.Background(), max(cfg.Grace, time.Millisecond))
		defer cancel()
		if err := sessions.Shutdown(ctx); err != nil {
			log.Info("vosk sessions were ended", "err", err)
		}
		_ = server.Close()
		serving.Wait()
	}), nil
}

// bearing lets requests through that carry the token.
func bearing(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the request does not carry this server's token", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// voskAddress is how a client is told of the address.
func voskAddress(addr net.Addr, secure bool) string {
	scheme := "ws"
	if secure {
		scheme = "wss"
	}
	return fmt.Sprintf("%s://%s", scheme, addr)
}
