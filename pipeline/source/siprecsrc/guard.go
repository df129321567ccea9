package siprecsrc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	maxHead     = 32 << 10 // bytes of a start line and headers
	maxDatagram = 32 << 10 // what sipgo reads of one; see sip.TransportBufferReadSize
	maxSkip     = 16 << 20 // of a body that is too long; the connection closes beyond

	// A message that has begun on a connection must go on within this time, and
	// so must a TLS handshake.
	messageTimeout = 10 * time.Second
	writeTimeout   = 10 * time.Second

	// sipgo remembers the addresses that datagrams came from for as long as it
	// reads: it is made to begin anew after so many changes of the sender.
	maxSenders = 1 << 20
)

// guard stands before the SIP stack, which trusts who speaks to it: it lets
// only those in who may, bounds what they send, and answers floods without
// remembering them.
type guard struct {
	cfg     Config
	allow   []netip.Prefix
	invites bucket
	request bucket

	conns     atomic.Int64
	refused   atomic.Uint64 // INVITEs of a flood
	stranger  atomic.Uint64 // messages and connections of who may not call
	malformed atomic.Uint64
	dropped   atomic.Uint64 // requests of a flood
}

// bucket lets rate events a second through, and twice as many at once.
type bucket struct {
	rate float64
	mu   sync.Mutex
	have float64
	at   time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at.IsZero() {
		b.have = 2 * b.rate
	} else {
		b.have = min(2*b.rate, b.have+now.Sub(b.at).Seconds()*b.rate)
	}
	b.at = now
	if b.have < 1 {
		return false
	}
	b.have--
	return true
}

// verdict is what becomes of a message: it passes where code is 0, is dropped
// where it is below, or else answered so.
type verdict struct {
	code   int
	reason string
}

var dropped = verdict{code: -1}

// judge looks at the headers of a message, to their blank line; body is how
// much of a body the message is said to have, -1 where it does not say.
func (g *guard) judge(head []byte, body int) verdict {
	if bytes.HasPrefix(head, []byte("SIP/2.0 ")) {
		return verdict{} // a response
	}
	if !g.request.take(time.Now()) {
		g.dropped.Add(1)
		return dropped
	}
	ack := bytes.HasPrefix(head, []byte("ACK "))
	switch {
	case ack && body > g.cfg.BodyBytes:
		return dropped // nothing answers an ACK
	case body > g.cfg.BodyBytes:
		return verdict{413, "Request Entity Too Large"}
	case bytes.HasPrefix(head, []byte("INVITE ")) && !g.invites.take(time.Now()):
		g.refused.Add(1)
		return verdict{503, "Service Unavailable"}
	}
	return verdict{}
}

// contentLength finds how long the body is said to be; -1 where nothing is.
func contentLength(head []byte) (int, error) {
	for line := range bytes.Lines(head) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		switch strings.ToLower(string(bytes.TrimSpace(name))) {
		case "content-length", "l":
			n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 31)
			if err != nil {
				return -1, errors.New("Content-Length is no number")
			}
			return int(n), nil
		}
	}
	return -1, nil
}

// answer makes a response to the request with these headers, without a
// transaction; nil where it cannot be answered. The second value is where it
// goes for a datagram.
func (g *guard) answer(head []byte, v verdict, from netip.AddrPort) ([]byte, netip.AddrPort) {
	msg, _ := sip.ParseMessage(head) // an error is of the body that is not there
	req, ok := msg.(*sip.Request)
	if !ok || req == nil || req.Via() == nil || req.IsAck() {
		return nil, from
	}
	to := from
	if _, rport := req.Via().Params.Get("rport"); !rport {
		to = netip.AddrPortFrom(from.Addr(), uint16(sip.DefaultUdpPort))
		if p := req.Via().Port; p > 0 && p < 65536 {
			to = netip.AddrPortFrom(from.Addr(), uint16(p))
		}
	}
	req.SetSource(from.String())
	res := sip.NewResponseFromRequest(req, v.code, v.reason, nil)
	if v.code == 503 {
		res.AppendHeader(retryAfter(g.cfg.RetryAfter))
	}
	return []byte(res.String()), to
}

func retryAfter(d time.Duration) sip.Header {
	return sip.NewHeader("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
}

// datagrams is a UDP socket behind the guard.
type datagrams struct {
	net.PacketConn
	guard  *guard
	closed atomic.Bool // the socket is

	// Of the one goroutine that reads.
	last    netip.AddrPort
	senders int
}

// errAnew makes sipgo end its reading, to be begun anew.
var errAnew = fmt.Errorf("%w: beginning anew", net.ErrClosed)

func (d *datagrams) ReadFrom(p []byte) (int, net.Addr, error) {
	if d.senders >= maxSenders {
		d.senders = 0
		return 0, nil, errAnew
	}
	for {
		n, addr, err := d.PacketConn.ReadFrom(p)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				d.closed.Store(true)
				return n, addr, err
			}
			continue // an ICMP error of somebody is not the end of all
		}
		from := addrPort(addr)
		if !fits(d.guard.allow, from.Addr()) {
			d.guard.stranger.Add(1)
			continue
		}
		if !d.pass(p[:n], from) {
			continue
		}
		if from != d.last {
			d.last = from
			d.senders++
		}
		return n, addr, nil
	}
}

// pass reports whether the stack may have the datagram.
func (d *datagrams) pass(b []byte, from netip.AddrPort) bool {
	if len(bytes.Trim(b, "\r\n\x00")) == 0 {
		return true // a keep-alive
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		d.guard.malformed.Add(1)
		return false
	}
	head, body := b[:end+4], len(b)-end-4
	said, err := contentLength(head)
	v := d.guard.judge(head, max(said, body))
	switch {
	case v != verdict{}:
	case err != nil:
		v = verdict{400, err.Error()}
	case said > body: // RFC 3261 section 18.3
		v = verdict{400, "Body Is Shorter Than Content-Length"}
		if len(b) >= maxDatagram {
			v = verdict{413, "Request Entity Too Large"}
		}
	default:
		return true
	}
	if v == dropped {
		return false
	}
	if v.code == 400 {
		d.guard.malformed.Add(1)
	}
	if res, to := d.guard.answer(head, v, from); res != nil {
		_, _ = d.WriteTo(res, net.UDPAddrFromAddrPort(to)) // a lost answer is asked for again
	}
	return false
}

func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// door is a TCP listener behind the guard.
type door struct {
	net.Listener
	guard *guard
}

func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			continue // the peer has gone already, or descriptors are short for now
		}
		switch {
		case !fits(d.guard.allow, addrPort(conn.RemoteAddr()).Addr()):
			d.guard.stranger.Add(1)
		case d.guard.conns.Add(1) > int64(d.guard.cfg.Connections):
			d.guard.conns.Add(-1)
			d.guard.refused.Add(1)
		default:
			return &counted{Conn: conn, guard: d.guard}, nil
		}
		_ = conn.Close()
	}
}

// counted is a connection that has a place among those allowed.
type counted struct {
	net.Conn
	guard *guard
	once  sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.guard.conns.Add(-1) })
	return c.Conn.Close()
}

// framer is a listener whose connections are read message by message. It is
// between TLS, if any, and the stack.
type framer struct {
	net.Listener
	guard *guard
}

func (f *framer) Accept() (net.Conn, error) {
	conn, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &messages{Conn: conn, guard: f.guard, from: addrPort(conn.RemoteAddr())}, nil
}

// messages hands a connection's bytes to the stack once the headers of their
// message are whole and judged. What the stack would choke on does not reach
// it.
type messages struct {
	net.Conn
	guard *guard
	from  netip.AddrPort

	writing sync.Mutex

	// Of the one goroutine that reads.
	in      []byte // not looked at yet
	out     []byte // to be handed on, a part of in
	body    int    // of the message that is handed on, still to come
	skip    int    // of one that is not
	closing error
}

func (c *messages) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *messages) Read(p []byte) (int, error) {
	for {
		if n := c.hand(p); n > 0 {
			return n, nil
		}
		if c.closing != nil {
			return 0, c.closing
		}
		if len(c.in) > 0 && c.frame() {
			continue
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

// hand moves what may be handed on into p.
func (c *messages) hand(p []byte) int {
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n
}

// fill reads more of the connection.
func (c *messages) fill() error {
	deadline := time.Time{} // between messages there is none: calls last
	if len(c.in) > 0 || c.body > 0 || c.skip > 0 {
		deadline = time.Now().Add(messageTimeout)
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	if cap(c.in)-len(c.in) < 4096 {
		c.in = append(make([]byte, 0, len(c.in)+8192), c.in...)
	}
	n, err := c.Conn.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// frame takes from what came and reports whether it got on.
func (c *messages) frame() bool {
	switch {
	case c.skip > 0:
		n := min(c.skip, len(c.in))
		c.skip -= n
		c.in = c.in[n:]
		return true
	case c.body > 0:
		n := min(c.body, len(c.in))
		c.body -= n
		c.out, c.in = c.in[:n:n], c.in[n:]
		return true
	}
	if blank := len(c.in) - len(bytes.TrimLeft(c.in, "\r\n")); blank > 0 {
		c.out, c.in = c.in[:blank:blank], c.in[blank:] // a keep-alive
		return true
	}
	end := bytes.Index(c.in, []byte("\r\n\r\n"))
	if end < 0 && len(c.in) < maxHead {
		return false
	}
	if end < 0 || end > maxHead {
		c.guard.malformed.Add(1)
		c.closing = errors.New("headers without end")
		return true
	}
	head := c.in[: end+4 : end+4]
	c.in = c.in[end+4:]
	c.message(head)
	return true
}

// message judges one message by its headers.
func (c *messages) message(head []byte) {
	body, err := contentLength(head)
	v := c.guard.judge(head, body)
	if v.code == 0 && (err != nil || body < 0) {
		// Where the next message begins nobody knows: RFC 3261 section 18.3.
		c.guard.malformed.Add(1)
		v, body = verdict{400, "Content-Length Is Missing Or Wrong"}, maxSkip+1
	}
	if v.code == 0 {
		c.out, c.body = head, body
		return
	}
	if v != dropped {
		if res, _ := c.guard.answer(head, v, c.from); res != nil {
			_, _ = c.Write(res) // who does not read it sends no more either
		}
	}
	c.skip = max(body, 0)
	if c.skip > maxSkip {
		c.closing = errors.New("a body too long to pass over")
	}
}
