package websock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/announce"
)

// Protocol is what one way in speaks over its connections.
type Protocol struct {
	Name         string   // of the way in
	Subprotocols []string // that it knows; a peer may ask for none
	Guard        Guard    // nil: tokens only
	// MessageBytes is the longest message; a longer one closes the connection
	// with status 1009.
	MessageBytes int64
}

// Counters are a way in's, counted by all its connections. The server counts
// who is not let in (Stranger), who has no room (Unplaced), and as Malformed
// the connections that it has to close; the rest is the protocol's.
type Counters struct {
	Calls, Legs                   atomic.Int64
	Begun, Refused                atomic.Uint64
	Packets, Bytes                atomic.Uint64
	Lost, Late, Duplicate         atomic.Uint64
	Stranger, Malformed, Unplaced atomic.Uint64
	Told, Untold                  atomic.Uint64
}

// Stats are the counters of the moment.
func (c *Counters) Stats() source.Stats {
	return source.Stats{
		Calls: int(c.Calls.Load()), Legs: int(c.Legs.Load()), Begun: c.Begun.Load(), Refused: c.Refused.Load(),
		Packets: c.Packets.Load(), Bytes: c.Bytes.Load(), Lost: c.Lost.Load(), Late: c.Late.Load(), Duplicate: c.Duplicate.Load(),
		Stranger: c.Stranger.Load(), Malformed: c.Malformed.Load(), Unplaced: c.Unplaced.Load(),
		Told: c.Told.Load(), Untold: c.Untold.Load(),
	}
}

// startTime is how long a connection that is early waits for Serve.
const startTime = time.Second

// Server takes the connections of one way in, from its own address and through
// its Handler.
type Server struct {
	protocol Protocol
	cfg      Config
	log      *slog.Logger
	door     *door
	listener net.Listener // nil without an address of its own
	Count    Counters

	begun func() // Serve has
	ready <-chan struct{}

	mu   sync.Mutex
	each func(*Conn)    // nil while not served
	live sync.WaitGroup // connections; added to under mu while each is set
	open int

	logged   time.Time // when a refusal was logged last
	unlogged int       // since then
}

// New takes the address that cfg names, if any. Who does not Serve has to
// Close.
func New(protocol Protocol, cfg Config, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d, err := newDoor(protocol.Name, cfg, protocol.Guard)
	if err != nil {
		return nil, err
	}
	l, err := cfg.listen()
	if err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	return &Server{
		protocol: protocol, cfg: cfg, log: log, door: d, listener: l,
		begun: sync.OnceFunc(func() { close(ready) }), ready: ready,
	}, nil
}

// Addrs are the addresses of its own.
func (s *Server) Addrs() []net.Addr {
	if s.listener == nil {
		return nil
	}
	return []net.Addr{s.listener.Addr()}
}

// Close gives back the address. After Serve it does nothing.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Limits of the own address's HTTP server, which only ever sees handshakes.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 30 * time.Second
	headerBytes   = 16 << 10
)

// Serve runs each once per connection until ctx ends, and returns when all
// have returned. A connection ends with each: one that it has not closed is
// closed with status 1000. ctx is that of Serve: when it ends, each goes on
// with the call that it has.
func (s *Server) Serve(ctx context.Context, each func(ctx context.Context, c *Conn)) error {
	s.mu.Lock()
	s.each = func(c *Conn) { each(ctx, c) }
	s.mu.Unlock()
	s.begun()
	defer s.live.Wait()
	defer func() {
		s.mu.Lock()
		s.each = nil
		s.mu.Unlock()
	}()
	if s.listener == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	srv := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // failed TLS handshakes of strangers
	}
	var closing sync.WaitGroup
	defer closing.Wait()
	over := make(chan struct{}) // closed below
	closing.Go(func() {
		select {
		case <-ctx.Done():
		case <-over:
		}
		_ = srv.Close() // not the connections that are WebSockets by now
	})
	err := srv.Serve(s.listener)
	close(over)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("taking connections at %s: %w", s.listener.Addr(), err)
}

// Handler takes connections at any path; /v1/<name>/ is where it is mounted.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.take) }

// take answers one request and, where it is let in, stays until its connection
// is over.
func (s *Server) take(w http.ResponseWriter, r *http.Request) {
	p, err := s.door.admit(r, time.Now())
	if err != nil {
		s.Count.Stranger.Add(1)
		s.refuse(w, err)
		return
	}
	select { // the address answers a moment before Serve is called
	case <-s.ready:
	case <-r.Context().Done():
	case <-time.After(startTime):
	}
	each, err := s.enter()
	if err != nil {
		s.Count.Unplaced.Add(1)
		w.Header().Set("Retry-After", "10")
		s.refuse(w, err)
		return
	}
	defer s.leave()
	hijack := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(hijack, r, &websocket.AcceptOptions{
		Subprotocols: s.protocol.Subprotocols, InsecureSkipVerify: true, // the door has looked at the origin
	})
	if err != nil { // the answer has been given
		s.Count.Malformed.Add(1)
		s.warn("no WebSocket", errors.New("the request is no handshake of RFC 6455"))
		return
	}
	ws.SetReadLimit(s.protocol.MessageBytes)
	c := newConn(s, r, p, ws, hijack.conn)
	defer c.end()
	each(c)
}

// errFull is told before the handshake.
var (
	errFull   = &refusal{http.StatusServiceUnavailable, "too many connections"}
	errClosed = &refusal{http.StatusServiceUnavailable, "no calls are taken at the moment"}
)

func (s *Server) enter() (each func(*Conn), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.each == nil:
		return nil, errClosed
	case s.open >= s.cfg.Connections:
		return nil, errFull
	}
	s.open++
	s.live.Add(1)
	return s.each, nil
}

func (s *Server) leave() {
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	s.live.Done()
}

// Open is how many connections there are.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func (s *Server) refuse(w http.ResponseWriter, why error) {
	status := http.StatusServiceUnavailable
	var r *refusal
	if errors.As(why, &r) {
		status = r.status
	}
	if status == http.StatusUnauthorized {
		w.Header().Add("WWW-Authenticate", "Bearer")
		w.Header().Add("WWW-Authenticate", `Basic realm="callwarden"`)
	}
	s.warn("connection refused", why)
	announce.Refuse(w, status, why)
}

const logEvery = time.Second // refusals of strangers, who may come thousands a second

// warn logs, at most once a second.
func (s *Server) warn(what string, why error) {
	s.mu.Lock()
	now := time.Now()
	if now.Sub(s.logged) < logEvery {
		s.unlogged++
		s.mu.Unlock()
		return
	}
	others := s.unlogged
	s.logged, s.unlogged = now, 0
	s.mu.Unlock()
	args := []any{"source", s.protocol.Name, "err", why}
	if others > 0 {
		args = append(args, "others", others)
	}
	s.log.Warn(what, args...)
}
