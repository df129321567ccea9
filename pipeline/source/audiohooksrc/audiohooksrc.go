// Package audiohooksrc takes live calls in from Genesys Cloud and whatever else
// speaks AudioHook version 2, a protocol of JSON messages and audio over
// WebSocket, and tells the agent's desktop what is found.
package audiohooksrc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Name is the way in that calls and events carry.
const Name = "audiohook"

// Source takes connections while it serves.
type Source struct {
	cfg    Config
	log    *slog.Logger
	server *websock.Server

	mu      sync.Mutex
	calls   map[[2]string]*call // by tenant and id of their session
	hearing sync.WaitGroup      // calls; added to while a connection is served
}

var (
	_ source.Source  = (*Source)(nil)
	_ source.Counted = (*Source)(nil)
)

// New reads the keys and takes the address of its own, if it has one. Who does
// not Serve has to Close.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keys, err := cfg.keys()
	if err != nil {
		return nil, err
	}
	protocol := websock.Protocol{Name: Name, MessageBytes: max(maxText, maxAudio)}
	if len(keys) > 0 {
		protocol.Guard = newGuard(keys).check
	}
	server, err := websock.New(protocol, cfg.WebSocket, log)
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, log: log, server: server, calls: make(map[[2]string]*call)}, nil
}

// Handler takes connections; /v1/audiohook/ is where it is mounted.
func (s *Source) Handler() http.Handler { return s.server.Handler() }

// Addrs are the addresses of its own.
func (s *Source) Addrs() []net.Addr { return s.server.Addrs() }

// Close gives back the address. After Serve it does nothing.
func (s *Source) Close() error { return s.server.Close() }

// Stats counts a message of audio as a packet.
func (s *Source) Stats() source.Stats { return s.server.Count.Stats() }

// Serve takes sessions until ctx ends, and returns when the calls that had
// begun are over.
func (s *Source) Serve(ctx context.Context, handle source.Handler) error {
	defer s.hearing.Wait()
	return s.server.Serve(ctx, func(ctx context.Context, conn *websock.Conn) {
		s.serve(ctx, conn, handle)
	})
}

// closeWithin is how long a client may take to close a session that we want to
// end.
const closeWithin = 5 * time.Second

// serve follows one connection to its end.
func (s *Source) serve(ctx context.Context, conn *websock.Conn, handle source.Handler) {
	c := &connection{source: s, conn: conn, heard: time.Now()}
	c.session = &session{
		organization: conn.Request.Header.Get(headerOrganization), languages: s.cfg.Languages,
		id:   conn.Request.Header.Get(headerSession),
		send: func(data []byte) bool { return conn.Send(websock.Text, data) },
	}
	c.session.open = func(p *openParameters, m media) ([]audio.Leg, time.Duration, error) {
		return c.open(ctx, p, m, handle)
	}
	came := conn.Expect(ctx, s.cfg.WebSocket.HelloTimeout, "open")
	defer came()
	c.opened = came
	conn.OnTick(func(time.Duration) error { c.tick(time.Now()); return nil })
	end := c.listen()
	if c.call != nil {
		c.call.leave(c, end)
	}
	c.done()
	conn.Close(websock.Normal, "")
}

// connection is one session on its connection. It belongs to the goroutine
// that reads, but for the session's own lock.
type connection struct {
	source  *Source
	conn    *websock.Conn
	session *session
	call    *call // nil before open, and of a probe
	opened  func()
	heard   time.Time // when anything came last
	refused error     // the first fault
	noted   bool      // by the call, what was wrong with it

	mu    sync.Mutex
	force *time.Timer // closes the connection where the client does not
	over  bool
}

// ended is why a connection's audio ended.
type ended struct {
	err   error // of the call: io.EOF for a normal end
	again bool  // the client may go on in another connection
}

// listen reads messages until the session is closed or its connection is over.
func (c *connection) listen() ended {
	for {
		kind, data, err := c.conn.Read()
		if err != nil {
			return c.cut(err)
		}
		now := time.Now()
		c.heard = now
		if kind == websock.Binary {
			c.source.server.Count.Packets.Add(1)
			c.source.server.Count.Bytes.Add(uint64(len(data)))
			err = c.session.binary(data, now)
		} else {
			err = c.session.text(data, now)
		}
		c.hand()
		var by *closing
		switch {
		case errors.As(err, &by):
			return c.close(by.reason)
		case err != nil && c.refused == nil:
			c.refuse(err)
		}
	}
}

// hand gives the call what is ready to be heard.
func (c *connection) hand() {
	if c.session.clock != nil && c.call != nil {
		c.call.hear(c, c.session.clock.take())
	}
}

// tick is called by Read about once a second.
func (c *connection) tick(now time.Time) {
	s := c.session
	silent := now.Sub(c.heard)
	if s.clock != nil && c.call != nil {
		at := now.Sub(s.began)
		s.clock.tick(at)
		c.hand()
		if !s.clock.paused {
			silent = at - s.clock.heard
		}
	}
	if most := c.source.cfg.WebSocket.MediaTimeout; silent >= most && s.stateNow() == active {
		err := &fault{reasonError, fmt.Sprintf("no media for %v", most)}
		s.leave(err.reason, err.info)
		c.refuse(err)
	}
}

// refuse ends the session for a fault of the client, which has been told, and
// counts and logs it once.
func (c *connection) refuse(err error) {
	if c.refused != nil {
		return
	}
	c.refused = err
	c.hurry()
	var f *fault
	if errors.As(err, &f) && f.reason == reasonCompleted {
		return
	}
	c.source.server.Count.Malformed.Add(1)
	id := ""
	if c.call != nil {
		id = c.call.id
	}
	c.source.log.Warn("session refused", "source", Name, "call", id, "err", err)
}

// hurry closes the connection where the client takes too long to. It may be
// called from any goroutine.
func (c *connection) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.force == nil && !c.over {
		c.force = time.AfterFunc(closeWithin, func() { c.conn.Close(websock.Policy, "the session was not closed") })
	}
}

// done says that the connection is over.
func (c *connection) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.force != nil {
		c.force.Stop()
	}
}

// cut is what the end of the connection, without a close of the session, means
// to the call.
func (c *connection) cut(err error) ended {
	if c.refused != nil {
		return ended{err: c.refused}
	}
	if c.session.stateNow() == leaving {
		return ended{err: errOver}
	}
	return ended{err: err, again: true}
}

// close is what a close of the session means to the call. Its last events come
// before the answer.
func (c *connection) close(reason string) ended {
	var end ended
	switch {
	case c.refused != nil:
		end.err = c.refused
	case reason == "reconnect":
		end = ended{err: errors.New("the client did not reconnect"), again: true}
	case reason == "error":
		end.err = errors.New("the peer reports an error")
	default:
		end.err = errOver
	}
	if c.call != nil {
		if !end.again {
			c.call.close(c, end.err)
			c.call.wait(lastWords)
		}
		c.call.leave(c, end)
		c.call = nil
	}
	c.session.finish()
	return end
}

// lastWords is how long the events that an ended call brings may take until the
// session is closed; clients wait 10 s.
const lastWords = 2 * time.Second

// open begins a call, or goes on with one whose connection was lost.
func (c *connection) open(ctx context.Context, p *openParameters, m media, handle source.Handler) ([]audio.Leg, time.Duration, error) {
	c.opened()
	if c.session.probe {
		return nil, 0, nil
	}
	tenant, err := c.conn.Tenant("")
	if err != nil {
		return nil, 0, &fault{reasonUnauthorized, err.Error()}
	}
	if ctx.Err() != nil {
		return nil, 0, &fault{reasonCompleted, "no calls are taken any more"}
	}
	d := describe(p, m, c.source.cfg.External)
	s := c.source
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range append([]string{c.session.id}, p.continued()...) {
		old := s.calls[[2]string{tenant, id}]
		if old == nil {
			continue
		}
		from, ok := old.join(c, d.legs)
		if !ok && id == c.session.id {
			return nil, 0, wrong("open: this session is open in another connection")
		}
		if ok {
			c.call = old
			s.log.Info("call goes on in another connection", "source", Name, "call", old.id)
			return d.legs, from, nil
		}
	}
	begun := newCall(s, tenant, c.session.id, d, c)
	c.call, s.calls[begun.key] = begun, begun
	// The connection may have left the call before it is heard.
	s.hearing.Go(func() { s.hear(ctx, begun, handle) })
	return d.legs, 0, nil
}

// hear has one call heard to its end.
func (s *Source) hear(ctx context.Context, c *call, handle source.Handler) {
	count := &s.server.Count
	count.Begun.Add(1)
	count.Calls.Add(1)
	count.Legs.Add(int64(len(c.legs)))
	admitted := false
	// One that waits for its client ends when no connections are taken any more.
	stop := context.AfterFunc(ctx, c.abandon)
	err := handle(ctx, c.call(func() { admitted = true }))
	stop()
	count.Calls.Add(-1)
	count.Legs.Add(-int64(len(c.legs)))
	s.mu.Lock()
	delete(s.calls, c.key)
	s.mu.Unlock()
	switch {
	case errors.Is(err, source.ErrBusy):
		count.Refused.Add(1)
		c.finish(reasonError, "busy: the call is not monitored")
	case err == nil && !admitted:
		c.finish(reasonCompleted, "the call is not monitored")
	default:
		c.finish(reasonCompleted, "")
	}
	if err != nil && !errors.Is(err, source.ErrBusy) && !errors.Is(err, context.Canceled) {
		s.log.Warn("call not heard to its end", "source", Name, "call", c.id, "err", err)
	}
}
