package audiosocketsrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// A socket's frames that wait to be read: of 60 ms, 3.8 s, which is more
	// than a call waits for its second leg. When full, TCP holds the peer back.
	socketFrames = 64

	// Audio further than this ahead of the clock waits: whoever sends a
	// recording as fast as it goes is held back to the speed of speech.
	maxAhead = 5 * time.Second

	hangUpWithin = time.Second // the peer may take so long to read our last word
)

// errHangUp ends a leg as its peer wants it.
var errHangUp = io.EOF

// socket is one peer's connection: one leg of a call.
type socket struct {
	conn  net.Conn
	began time.Time
	split splitter
	track track

	frames chan audio.Frame // pump sends and closes
	err    error            // why frames was closed; read after that
	quit   chan struct{}    // closed when nobody reads frames any more
}

func newSocket(conn net.Conn) *socket {
	return &socket{
		conn: conn, began: time.Now(),
		frames: make(chan audio.Frame, socketFrames), quit: make(chan struct{}),
	}
}

// hello reads the first message, which has to be the UUID.
func (s *socket) hello(within time.Duration) (uuid string, err error) {
	if err := s.conn.SetReadDeadline(s.began.Add(within)); err != nil {
		return "", err
	}
	for {
		kind, length, ok := s.split.begun()
		if ok && (kind != kindUUID || length > maxUUID) {
			return "", fmt.Errorf("the first message is of kind 0x%02x and %d bytes: it must be 0x01, the UUID", kind, length)
		}
		if m, ok := s.split.next(); ok {
			return parseUUID(m.payload)
		}
		if err := s.read(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("no UUID within %v", within)
			}
			return "", err
		}
	}
}

// read waits for some bytes.
func (s *socket) read() error {
	n, err := s.conn.Read(s.split.room())
	s.split.wrote(n)
	switch {
	case n > 0 || err == nil:
		return nil
	case errors.Is(err, io.EOF) && s.split.partial():
		return errors.New("the connection ended within a message")
	case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
		return err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without the addresses, which an event has no use for
	}
	return fmt.Errorf("the connection broke: %w", err)
}

// pump reads messages and sends frames until the peer hangs up, the connection
// breaks, nothing comes for the time of silence, or the socket is closed. It
// waits while there is no room.
func (s *socket) pump(silence time.Duration, count *counters) {
	s.err = s.listen(silence, count)
	for _, f := range s.track.take() { // what came before the end was heard
		select {
		case s.frames <- f:
		case <-s.quit:
		}
	}
	close(s.frames)
}

func (s *socket) listen(silence time.Duration, count *counters) error {
	heard := time.Duration(0) // when audio came last
	for {
		now := time.Since(s.began)
		for {
			m, ok := s.split.next()
			if !ok {
				break
			}
			if rateOf(m.kind) != 0 {
				heard = now
			}
			if err := s.message(m, now, count); err != nil {
				s.track.flush()
				return err
			}
		}
		if now-heard >= silence {
			return fmt.Errorf("no media for %v", silence)
		}
		if err := s.send(); err != nil {
			return err
		}
		// Where this fails the connection is closed, and read says so.
		_ = s.conn.SetReadDeadline(time.Now().Add(min(markEvery, silence)))
		switch err := s.read(); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.track.mark(time.Since(s.began))
		case err != nil:
			s.track.flush()
			return err
		}
	}
}

// message takes what one message says, at the time now.
func (s *socket) message(m message, now time.Duration, count *counters) error {
	if rate := rateOf(m.kind); rate != 0 {
		count.packets.Add(1)
		count.bytes.Add(uint64(len(m.payload)))
		if len(m.payload)%2 != 0 {
			count.malformed.Add(1)
		}
		s.track.sound(m.payload, rate, now)
		return nil
	}
	switch m.kind {
	case kindHangUp:
		return errHangUp
	case kindDigit:
		if digit, ok := digitOf(m.payload); ok {
			s.track.key(digit)
			return nil
		}
	case kindError:
		// Asterisk's codes are bits; the first is a hang-up of the caller.
		if len(m.payload) == 1 && m.payload[0]&1 != 0 {
			return errHangUp
		}
		return fmt.Errorf("the peer reports error %.8x", m.payload)
	}
	count.malformed.Add(1) // also kinds of later versions, which are no loss
	return nil
}

// send hands on what is ready, no faster than speech.
func (s *socket) send() error {
	for _, f := range s.track.take() {
		if ahead := f.End() - time.Since(s.began); ahead > maxAhead {
			t := time.NewTimer(ahead - maxAhead)
			select {
			case <-t.C:
			case <-s.quit:
			}
			t.Stop()
		}
		select {
		case s.frames <- f:
		case <-s.quit:
			return errHangUp
		}
	}
	return nil
}

// close hangs up. Nothing is read from the socket's frames after it, and pump
// ends.
func (s *socket) close() {
	close(s.quit)
	hangUp(s.conn)
}

// hangUp tells the peer that this is the end. Who does not read it in time
// hears it from TCP.
func hangUp(conn net.Conn) {
	_ = conn.SetWriteDeadline(time.Now().Add(hangUpWithin))
	_, _ = conn.Write([]byte{kindHangUp, 0, 0})
	_ = conn.Close()
}

// counters are the source's, added to by all sockets.
type counters struct {
	calls, legs       atomic.Int64
	begun, refused    atomic.Uint64
	packets, bytes    atomic.Uint64
	malformed         atomic.Uint64
	strange, unplaced atomic.Uint64
}

// conversation is the audio of the sockets that make one call.
type conversation struct {
	began time.Time
	legs  [2]*leg // the second may be missing
	left  int     // legs that have not ended
	err   error   // of the leg that ended last
}

type leg struct {
	*socket
	side   audio.Leg
	offset time.Duration // from the call's beginning to the socket's
	frames <-chan audio.Frame
}

func newConversation(sides []audio.Leg, sockets []*socket) *conversation {
	c := &conversation{began: sockets[0].began, left: len(sockets)}
	for _, s := range sockets {
		if s.began.Before(c.began) {
			c.began = s.began
		}
	}
	for i, s := range sockets {
		c.legs[i] = &leg{socket: s, side: sides[i], offset: s.began.Sub(c.began), frames: s.frames}
	}
	return c
}

// ReadFrame is an [audio.Reader]'s. The call is over when each leg is.
func (c *conversation) ReadFrame(ctx context.Context) (audio.Frame, error) {
	var first, second <-chan audio.Frame
	for c.left > 0 {
		first = c.legs[0].frames
		if c.legs[1] != nil {
			second = c.legs[1].frames
		}
		var l *leg
		var f audio.Frame
		var ok bool
		select {
		case f, ok = <-first:
			l = c.legs[0]
		case f, ok = <-second:
			l = c.legs[1]
		case <-ctx.Done():
			return audio.Frame{}, ctx.Err()
		}
		if ok {
			f.Leg = l.side
			f.Start += l.offset
			return f, nil
		}
		l.frames = nil // never ready again
		c.left--
		c.err = l.err
	}
	return audio.Frame{}, c.err
}
