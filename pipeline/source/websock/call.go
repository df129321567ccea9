package websock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/callwarden/callwarden/pipeline/source"
)

// Fault is what a peer did wrong, and the status with which it is told so.
type Fault struct {
	Status  Status
	Why     string
	counted bool // as Malformed, where it was found
}

func (f *Fault) Error() string { return f.Why }

// Faultf is a Fault.
func Faultf(status Status, format string, args ...any) error {
	return &Fault{Status: status, Why: fmt.Sprintf(format, args...)}
}

// Refuse closes a connection on which no call has begun, with the status of a
// [Fault], and logs and counts that.
func (s *Server) Refuse(c *Conn, why error) {
	var f *Fault
	if errors.As(why, &f) {
		s.fault(f)
		s.warn("connection without a call", why)
		c.Close(f.Status, f.Why)
	}
}

func (s *Server) fault(f *Fault) {
	if !f.counted {
		s.Count.Malformed.Add(1)
	}
}

// Hear has handle hear a call: read puts its audio on line and returns why it
// ended, io.EOF for a normal hang-up. It reads c until then, on a goroutine of
// its own. Hear closes c with the protocol's own answer, returns when both are
// done, and counts. A [Fault] of read is told to the peer; ErrBusy of handle is
// status 1013.
func (s *Server) Hear(ctx context.Context, c *Conn, handle source.Handler, call *source.Call, line *Line, read func() error) {
	s.Count.Begun.Add(1)
	s.Count.Calls.Add(1)
	s.Count.Legs.Add(int64(len(call.Legs)))
	var reading sync.WaitGroup
	var f *Fault                 // of read, once ended is closed
	ended := make(chan struct{}) // closed below, before the line tells it
	reading.Go(func() {
		err := read()
		fault := errors.As(err, &f)
		close(ended)
		line.End(err)
		if fault {
			s.fault(f)
			s.log.Warn("call ended for what its peer sent", "source", s.protocol.Name, "call", call.ID, "err", err)
			c.Close(f.Status, f.Why)
		}
	})
	err := handle(ctx, call)
	s.Count.Calls.Add(-1)
	s.Count.Legs.Add(-int64(len(call.Legs)))
	line.Close()
	fault := false
	select {
	case <-ended:
		fault = f != nil
	default:
	}
	switch {
	case fault:
		c.Close(f.Status, f.Why)
	case errors.Is(err, source.ErrBusy):
		s.Count.Refused.Add(1)
		c.Close(TryLater, "busy")
	case err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF):
		s.log.Warn("call not heard to its end", "source", s.protocol.Name, "call", call.ID, "err", err)
		c.Close(Internal, "the call could not be heard to its end")
	default:
		c.Close(Normal, "")
	}
	reading.Wait()
}

// Names are the ids of the calls of the moment, by tenant.
type Names struct {
	mu    sync.Mutex
	taken map[[2]string]bool
}

// Take takes id, or where a call of that name goes on, id with a number after
// it. The name is free again once release was called.
func (n *Names) Take(tenant, id string) (own string, release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.taken == nil {
		n.taken = make(map[[2]string]bool)
	}
	own = id
	for k := 2; n.taken[[2]string{tenant, own}]; k++ {
		own = fmt.Sprintf("%s-%d", id, k)
	}
	key := [2]string{tenant, own}
	n.taken[key] = true
	return own, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.taken, key)
	}
}

// CallID makes what another system calls a call into one of our ids: what is
// not allowed in them becomes a dash. It is empty where nothing is left.
func CallID(s string) string {
	const most = 120 // bytes, with room for what Take adds
	out := []byte(s[:min(len(s), most)])
	some := false
	for i, b := range out {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9':
			some = true
		case b == '-', b == '_':
		default:
			out[i] = '-'
		}
	}
	if !some {
		return ""
	}
	return string(out)
}
