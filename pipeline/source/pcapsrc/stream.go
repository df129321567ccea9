package pcapsrc

import (
	"net/netip"
	"time"
)

// Bounds of SIP over TCP.
const (
	maxStream   = 1 << 20 // bytes of a message, and of what waits of a stream
	maxStreams  = 10_000
	maxBuffered = 64 << 20 // bytes of all streams
)

// streams follows the TCP connections that carry SIP, each direction by itself
// and as far as segments come in order: what is missing loses the message it
// belongs to.
type streams struct {
	open     map[streamKey]*stream
	buffered int
}

type streamKey struct{ src, dst netip.AddrPort }

type stream struct {
	next uint32 // sequence number that is due
	buf  []byte
	used time.Duration
}

// segment takes what one TCP segment brings and calls found for each message
// that is whole. The message is good until found returns.
func (s *streams) segment(d *datagram, at time.Duration, found func(message)) {
	key := streamKey{d.src, d.dst}
	st := s.open[key]
	if st == nil {
		if len(d.payload) == 0 || !isSIP(d.payload) {
			return
		}
		if s.open == nil {
			s.open = make(map[streamKey]*stream)
		}
		s.shrink()
		st = &stream{next: d.seq}
		s.open[key] = st
	}
	st.used = at
	s.buffered -= len(st.buf)
	st.add(d)
	for len(st.buf) > 0 {
		st.resync()
		m, n, ok := parseSIP(st.buf, true)
		if n == 0 { // nothing we know: wait for the next message that begins a segment
			st.buf = nil
			break
		}
		if !ok {
			if len(st.buf) > maxStream {
				st.buf = nil
			}
			break
		}
		found(m)
		st.buf = st.buf[n:]
	}
	s.buffered += len(st.buf)
	if d.fin || d.syn {
		s.buffered -= len(st.buf)
		delete(s.open, key)
	}
}

// add appends what is new of a segment.
func (st *stream) add(d *datagram) {
	payload := d.payload
	switch ahead := int32(d.seq - st.next); {
	case ahead > 0: // something was not captured
		st.buf = nil
		if !isSIP(payload) {
			payload = nil
		}
	case int(-ahead) >= len(payload): // sent again
		return
	default:
		payload = payload[-ahead:]
	}
	st.next = d.seq + uint32(len(d.payload))
	st.buf = append(st.buf, payload...)
}

// resync passes over the empty lines that keep connections open, RFC 5626.
func (st *stream) resync() {
	for len(st.buf) > 0 && (st.buf[0] == '\r' || st.buf[0] == '\n') {
		st.buf = st.buf[1:]
	}
}

// shrink makes room for one more: the one that was not used for the longest
// goes.
func (s *streams) shrink() {
	for len(s.open) >= maxStreams || s.buffered > maxBuffered && len(s.open) > 0 {
		var oldest streamKey
		var used time.Duration
		first := true
		for key, st := range s.open {
			if first || st.used < used || st.used == used && less(key, oldest) {
				first, oldest, used = false, key, st.used
			}
		}
		s.buffered -= len(s.open[oldest].buf)
		delete(s.open, oldest)
	}
}

func less(a, b streamKey) bool {
	if c := a.src.Compare(b.src); c != 0 {
		return c < 0
	}
	return a.dst.Compare(b.dst) < 0
}
