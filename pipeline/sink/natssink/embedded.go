package natssink

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// ServerConfig is the NATS server inside this process.
type ServerConfig struct {
	// StoreDir keeps the streams. Empty means a temporary folder that
	// Shutdown removes.
	StoreDir string `yaml:"store_dir"`
	// Listen is host:port for other processes; port 0 picks a free one. Empty
	// means that only this process can connect. There is no password: listen
	// on addresses that only trusted machines reach.
	Listen string `yaml:"listen"`
	// MaxStore bounds the streams on disk, in bytes.
	MaxStore int64 `yaml:"max_store"`
}

// DefaultServerConfig is a server for this process alone that leaves nothing
// behind.
func DefaultServerConfig() ServerConfig {
	return ServerConfig{MaxStore: 4 << 30}
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c ServerConfig) Validate() error {
	var errs []error
	if c.Listen != "" {
		if _, _, err := c.address(); err != nil {
			errs = append(errs, err)
		}
	}
	if c.MaxStore < 1<<20 {
		errs = append(errs, fmt.Errorf("max_store: %d must be at least %d", c.MaxStore, 1<<20))
	}
	return errors.Join(errs...)
}

func (c ServerConfig) address() (host string, port int, err error) {
	host, p, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen: %q must be host:port", c.Listen)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("listen: %q must have a port from 0 to 65535", c.Listen)
	}
	return host, port, nil
}

// Server is a running embedded server.
type Server struct {
	nats *server.Server
	log  *slog.Logger
	lock *os.File
	temp string // to be removed, if any
	once sync.Once
}

// StartServer starts a server and returns when clients can connect. Its errors
// name the address or the folder that cannot be had.
func StartServer(cfg ServerConfig, log *slog.Logger) (_ *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{log: log}
	defer func() {
		if err != nil {
			s.Shutdown()
		}
	}()
	dir := cfg.StoreDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "callwarden-nats-"); err != nil {
			return nil, fmt.Errorf("making a folder for the event store: %w", err)
		}
		s.temp = dir
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the event store's folder: %w", err)
	}
	if s.lock, err = lockFile(filepath.Join(dir, "callwarden.lock")); err != nil {
		return nil, fmt.Errorf("event store %s is used by another process; end that one, choose another folder, "+
			"or connect to its NATS server: %w", dir, err)
	}
	opts := &server.Options{
		ServerName:        "callwarden",
		DontListen:        cfg.Listen == "",
		NoSigs:            true,
		NoSystemAccount:   true,
		JetStream:         true,
		StoreDir:          dir,
		JetStreamMaxStore: cfg.MaxStore,
		// Streams of ours are on disk; this only keeps the server from
		// claiming three quarters of the machine.
		JetStreamMaxMemory: 64 << 20,
	}
	if cfg.Listen != "" {
		host, port, err := cfg.address()
		if err != nil {
			return nil, err
		}
		if port == 0 {
			port = server.RANDOM_PORT
		}
		if opts.Host, opts.Port = host, port; host == "" {
			opts.Host = "0.0.0.0"
		}
		if ip := net.ParseIP(opts.Host); ip != nil && !ip.IsLoopback() {
			log.Warn("embedded nats server is open to the network without a password", "listen", cfg.Listen)
		}
	}
	if s.nats, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("setting up the embedded NATS server: %w", err)
	}
	lines := &serverLog{log: log}
	s.nats.SetLogger(lines, false, false)
	s.nats.Start()
	switch fatal := lines.started(); {
	case fatal != "" && cfg.Listen != "" && !s.listens():
		return nil, fmt.Errorf("embedded NATS server cannot listen on %s; choose another address, "+
			"or connect to the server that has it: %s", cfg.Listen, fatal)
	case fatal != "":
		return nil, fmt.Errorf("starting the embedded NATS server in %s: %s", dir, fatal)
	case !s.nats.ReadyForConnections(10*time.Second) || !s.nats.JetStreamEnabled():
		return nil, fmt.Errorf("embedded NATS server in %s is not ready after 10 s", dir)
	}
	return s, nil
}

// URL is where other processes connect, empty where the server does not listen.
func (s *Server) URL() string {
	if !s.listens() {
		return ""
	}
	return "nats://" + s.nats.Addr().String()
}

func (s *Server) listens() bool { return s.nats.Addr() != nil }

// Shutdown ends the server and returns when it is gone and its folder free for
// another. A second Shutdown does nothing.
func (s *Server) Shutdown() {
	s.once.Do(func() {
		if s.nats != nil {
			s.nats.Shutdown()
			s.nats.WaitForShutdown()
		}
		if s.lock != nil {
			s.lock.Close() // closing unlocks
		}
		if s.temp != "" {
			if err := os.RemoveAll(s.temp); err != nil {
				s.log.Warn("removing the temporary event store", "err", err)
			}
		}
	})
}

// serverLog sends what nats-server logs to slog. Its notices are for people
// who debug. A fatal error during the start is kept for the caller of
// StartServer, who returns it.
type serverLog struct {
	log *slog.Logger

	mu    sync.Mutex
	up    bool
	fatal string
}

func (l *serverLog) started() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = true
	return l.fatal
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up {
		l.Errorf(format, v...)
	} else if l.fatal == "" {
		l.fatal = fmt.Sprintf(format, v...)
	}
}

func (l *serverLog) Noticef(f string, v ...any) {
	l.log.Debug("nats-server", "text", fmt.Sprintf(f, v...))
}

func (l *serverLog) Debugf(f string, v ...any) {
	l.log.Debug("nats-server", "text", fmt.Sprintf(f, v...))
}
func (l *serverLog) Tracef(string, ...any) {} // would hold payloads
func (l *serverLog) Warnf(f string, v ...any) {
	l.log.Warn("nats-server", "text", fmt.Sprintf(f, v...))
}

func (l *serverLog) Errorf(f string, v ...any) {
	l.log.Error("nats-server", "text", fmt.Sprintf(f, v...))
}
