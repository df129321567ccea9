package websock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Kinds of messages.
const (
	Text   = websocket.MessageText
	Binary = websocket.MessageBinary
)

// Kind of a message.
type Kind = websocket.MessageType

// Status with which a connection is closed (RFC 6455 section 7.4.1).
type Status = websocket.StatusCode

// Those that ways in use.
const (
	Normal      Status = websocket.StatusNormalClosure           // 1000
	GoingAway   Status = websocket.StatusGoingAway               // 1001
	Unsupported Status = websocket.StatusUnsupportedData         // 1003: binary for text, or the reverse
	Invalid     Status = websocket.StatusInvalidFramePayloadData // 1007: not what the message should hold
	Policy      Status = websocket.StatusPolicyViolation         // 1008
	TooBig      Status = websocket.StatusMessageTooBig           // 1009
	Internal    Status = websocket.StatusInternalError           // 1011
	TryLater    Status = websocket.StatusTryAgainLater           // 1013: busy
)

const (
	tickEvery = time.Second
	// closeWithin is how long a peer may take to read our last words and to
	// answer the end.
	closeWithin = time.Second
	maxReason   = 123 // bytes of a close frame

	// What waits for a peer that reads slowly; see Send.
	outBytes    = 2 << 20 // half a minute of a prompt in base64 at 16 kHz
	outMessages = 4096
)

// Conn is one connection that was let in. Read is for one goroutine; the other
// methods are for any.
type Conn struct {
	Request *http.Request // its body and context are of no use any more
	Asked   *url.URL      // what the peer asked for
	Began   time.Time

	server *Server
	bound  string // tenant; empty for any
	ws     *websocket.Conn
	raw    *tickingConn
	buf    []byte

	mu      sync.Mutex
	out     []message // waiting
	bytes   int       // of out
	writing bool      // the writer is at work on one message
	wake    chan struct{}
	drained chan struct{} // closed by the writer once it is idle and closing is set; nil before
	closing bool
	why     error
	writer  sync.WaitGroup
	closed  chan struct{} // closed once the connection is
}

type message struct {
	kind Kind
	data []byte
}

func newConn(s *Server, r *http.Request, p pass, ws *websocket.Conn, raw *tickingConn) *Conn {
	return &Conn{
		Request: r, Asked: p.asked, Began: time.Now(),
		server: s, bound: p.tenant, ws: ws, raw: raw, closed: make(chan struct{}),
	}
}

// Subprotocol is what was agreed on, empty for none.
func (c *Conn) Subprotocol() string { return c.ws.Subprotocol() }

// Tenant is whose the call is of which the peer says that it is said's, empty
// where it does not say. An error is a tenant that the connection may not name.
func (c *Conn) Tenant(said string) (string, error) { return c.server.door.tenantOf(c.bound, said) }

// OnTick has tick called by Read about once a second, whether messages come or
// not; at is the time since Began. An error ends Read, which returns it. It is
// set by the goroutine that reads.
func (c *Conn) OnTick(tick func(at time.Duration) error) {
	at := func() error { return tick(time.Since(c.Began)) }
	c.raw.tick.Store(&at) // Close may be reading in its turn
}

// Read waits for a message, which is good until the next Read. It returns
// io.EOF where the peer has closed in order (1000, 1001 or without a status),
// what Close was given where we did, and else what went wrong, which then has
// been told to the peer.
func (c *Conn) Read() (Kind, []byte, error) {
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return 0, nil, c.readError(err)
	}
	c.buf = c.buf[:0]
	for {
		if len(c.buf) == cap(c.buf) {
			c.buf = append(c.buf, make([]byte, max(512, len(c.buf)))...)[:len(c.buf)]
		}
		n, err := r.Read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+n]
		if errors.Is(err, io.EOF) {
			return kind, c.buf, nil
		}
		if err != nil {
			return 0, nil, c.readError(err)
		}
	}
}

// readError says what err of the library means to us.
func (c *Conn) readError(err error) error {
	c.mu.Lock()
	ours := c.why
	c.mu.Unlock()
	switch {
	case ours != nil:
		return ours
	case c.raw.ticked != nil:
		return c.raw.ticked
	}
	var closed websocket.CloseError
	var op *net.OpError
	switch {
	case errors.As(err, &closed):
		switch closed.Code {
		case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
			return io.EOF
		}
		return fmt.Errorf("the peer closed with status %d", closed.Code)
	case errors.Is(err, websocket.ErrMessageTooBig):
		c.server.Count.Malformed.Add(1)
		return &Fault{TooBig, fmt.Sprintf("a message of more than %d bytes", c.server.protocol.MessageBytes), true}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return errors.New("the connection broke without a close")
	case errors.As(err, &op):
		return fmt.Errorf("the connection broke: %w", op.Err) // without the addresses
	}
	c.server.Count.Malformed.Add(1)
	return &Fault{websocket.StatusProtocolError, fmt.Sprintf("not the WebSocket protocol: %v", errors.Unwrap(err)), true}
}

// Expect refuses the connection, see [Server.Refuse], unless the function that it returns is called
// within that time and before ctx ends; what is awaited by then.
func (c *Conn) Expect(ctx context.Context, within time.Duration, awaited string) (came func()) {
	t := time.AfterFunc(within, func() {
		why := Faultf(Policy, "no %s within %v", awaited, within)
		c.server.Refuse(c, why)
	})
	stop := context.AfterFunc(ctx, func() { c.Close(GoingAway, "no calls are taken any more") })
	return func() {
		t.Stop()
		stop()
	}
}

// Send queues messages in order, all of them or, with false, none for want of
// room or because the connection is over. It does not wait. The data is the
// connection's from then on.
func (c *Conn) Send(kind Kind, data ...[]byte) bool {
	size := 0
	for _, d := range data {
		size += len(d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.bytes+size > outBytes || len(c.out)+len(data) > outMessages {
		return false
	}
	for _, d := range data {
		c.out = append(c.out, message{kind, d})
	}
	c.bytes += size
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
		c.writer.Go(c.write)
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return true
}

// Open reports whether Send could still take anything.
func (c *Conn) Open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closing
}

// write is the goroutine that sends; it ends with the connection. A peer that
// does not read keeps it waiting, and its calls are heard nevertheless.
func (c *Conn) write() {
	for {
		c.mu.Lock()
		if len(c.out) == 0 {
			c.writing = false
			if c.drained != nil {
				close(c.drained)
				c.mu.Unlock()
				return
			}
			c.mu.Unlock()
			select {
			case <-c.wake:
				continue
			case <-c.closed:
				return
			}
		}
		m := c.out[0]
		c.out[0] = message{}
		c.out = c.out[1:]
		c.bytes -= len(m.data)
		c.writing = true
		c.mu.Unlock()
		if err := c.ws.Write(context.Background(), m.kind, m.data); err != nil {
			c.mu.Lock()
			c.closing = true // nothing more is taken
			c.mu.Unlock()
			return
		}
	}
}

// Close ends the connection with a status and a reason, cut to what a close
// frame holds, after what was sent; Read then returns the reason as its error.
// It waits for the peer, though not for long. Only the first one counts.
func (c *Conn) Close(status Status, reason string) {
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		<-c.closed
		return
	}
	c.why = errors.New(reason)
	c.closing = true
	var drained chan struct{}
	if c.wake != nil {
		drained = make(chan struct{})
		c.drained = drained
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	c.mu.Unlock()

	force := time.AfterFunc(2*closeWithin, func() { _ = c.raw.Conn.Close() })
	if drained != nil {
		written := make(chan struct{})
		go func() { c.writer.Wait(); close(written) }() // ends with the writer, at the latest when raw is closed
		t := time.NewTimer(closeWithin)
		select {
		case <-written:
		case <-t.C:
		}
		t.Stop()
	}
	c.raw.quiet.Store(true) // from here on it may be this goroutine that reads
	_ = c.ws.Close(status, reason[:min(len(reason), maxReason)])
	force.Stop()
	_ = c.raw.Conn.Close()
	close(c.closed)
	c.writer.Wait()
}

// end closes what is not closed, and waits for the writer.
func (c *Conn) end() {
	c.Close(Normal, "")
}

// Warn logs what was wrong with this connection.
func (c *Conn) Warn(what string, err error) { c.server.warn(what, err) }

// hijacker gives the library our end of the connection in place of the bare
// one.
type hijacker struct {
	http.ResponseWriter
	conn *tickingConn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = &tickingConn{Conn: conn}
	return h.conn, rw, nil
}

// tickingConn calls tick from within Read about once a second. That costs a
// deadline a second; a timer and a second goroutine for each connection would
// cost more.
type tickingConn struct {
	net.Conn
	tick   atomic.Pointer[func() error] // nil for none
	ticked error                        // what it returned
	next   time.Time
	quiet  atomic.Bool // tick is not called any more
}

// Read implements net.Conn.
func (t *tickingConn) Read(p []byte) (int, error) {
	for tick := t.tick.Load(); tick != nil; {
		now := time.Now()
		if !now.Before(t.next) {
			if !t.next.IsZero() && !t.quiet.Load() {
				if t.ticked = (*tick)(); t.ticked != nil {
					return 0, t.ticked
				}
			}
			t.next = now.Add(tickEvery)
			if err := t.Conn.SetReadDeadline(t.next); err != nil {
				return 0, err
			}
		}
		n, err := t.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
	return t.Conn.Read(p)
}
