package pcapsrc

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/media"
)

const (
	maxFlows = 100_000

	// A stream that was silent for so long is another call, without SIP that
	// says otherwise.
	callGap = time.Minute
	// What comes so soon after a BYE was on its way.
	afterBye = 500 * time.Millisecond

	// Without SIP that speaks of it, a stream counts if it has so many
	// packets, most of which follow on each other.
	fewPackets = 10
	// A flow that has so many of which few do is none of RTP.
	judgeAfter = 64
)

// flow is all that goes from one address to another.
type flow struct {
	src, dst netip.AddrPort
	segments []*segment
	over     bool          // its call has ended
	ended    time.Duration // when
	junk     bool          // no RTP
}

// segment is the part of a flow that belongs to one call.
type segment struct {
	src, dst    netip.AddrPort
	first, last time.Duration
	began       time.Duration // of the first packet, as the capture says it
	packets     int
	following   int // packets that follow on the one before
	cut         int // packets of which the end was not captured
	ssrc        uint32
	sequence    uint16
	timestamp   uint32
	ticks       int64 // of the RTP clock, over all
	types       []typeCount
	index       index
	taken       bool // has its call, without SIP
	end         *endpoint
	outgoing    bool // end is where it comes from
}

type typeCount struct {
	payloadType uint8
	packets     int
}

// isRTP reports whether b looks like an RTP packet, RFC 3550 appendix A.1, and
// not like RTCP on the same port, RFC 5761 section 4.
func isRTP(b []byte) bool {
	return len(b) >= 12 && b[0]>>6 == 2 && (b[1] < 192 || b[1] > 223)
}

// add counts a packet that is in the capture at refs.
func (f *flow) add(d *datagram, at, raw time.Duration, refs []ref) {
	ssrc := binary.BigEndian.Uint32(d.payload[8:])
	s := f.current()
	if s != nil && (at-s.last > callGap || f.over && (at-f.ended > afterBye || ssrc != s.ssrc)) {
		s = nil
	}
	if s == nil {
		f.over = false
		s = &segment{src: f.src, dst: f.dst, first: at, began: raw, ssrc: ssrc, sequence: binary.BigEndian.Uint16(d.payload[2:]) - 1, timestamp: binary.BigEndian.Uint32(d.payload[4:])}
		f.segments = append(f.segments, s)
	}
	s.add(d.payload, ssrc, at)
	if d.cut {
		s.cut++
	}
	for _, r := range refs {
		s.index.add(r)
	}
	if s.packets == judgeAfter && s.following < judgeAfter/4 {
		f.junk, f.segments = true, nil
	}
}

func (f *flow) current() *segment {
	if len(f.segments) == 0 {
		return nil
	}
	return f.segments[len(f.segments)-1]
}

func (s *segment) add(b []byte, ssrc uint32, at time.Duration) {
	sequence, timestamp := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:])
	if ahead := int16(sequence - s.sequence); ssrc == s.ssrc && ahead >= -16 && ahead <= 64 {
		s.following++
		if step := int32(timestamp - s.timestamp); step > 0 && step < 1<<20 {
			s.ticks += int64(step)
		}
	}
	s.ssrc, s.sequence, s.timestamp = ssrc, sequence, timestamp
	s.packets++
	s.last = at
	payloadType := b[1] & 0x7f
	i := slices.IndexFunc(s.types, func(t typeCount) bool { return t.payloadType == payloadType })
	if i < 0 {
		i = len(s.types)
		s.types = append(s.types, typeCount{payloadType: payloadType})
	}
	s.types[i].packets++
}

// isStream reports whether s is RTP even if SIP does not speak of it.
func (s *segment) isStream() bool {
	return s.packets >= fewPackets && s.following*10 >= s.packets*8
}

// overlap is how long both send.
func (s *segment) overlap(o *segment) time.Duration {
	return min(s.last, o.last) - max(s.first, o.first)
}

// byClock reports whether the capture's times cannot be those at which the
// packets came, as where they were written by a program: they bring far more
// audio than time.
func (s *segment) byClock(formats []media.Format) bool {
	clock := s.clock(formats)
	if clock == 0 {
		return false
	}
	audible := time.Duration(s.ticks) * time.Second / time.Duration(clock)
	return audible > 2*time.Second && audible > (s.last-s.first)*3/2+time.Second
}

// clock is that of most packets, in Hz; 0 where nobody says it.
func (s *segment) clock(formats []media.Format) int {
	most := 0
	clock := 0
	for _, t := range s.types {
		for _, f := range formats {
			if f.PayloadType == t.payloadType && t.packets > most && f.Kind() == media.Audio {
				most, clock = t.packets, f.ClockHz
			}
		}
	}
	return clock
}

// index is where the packets of a segment are, in two or three bytes each.
type index struct {
	buf  []byte
	last ref
}

func (x *index) add(r ref) {
	same := int64(0)
	if r.nic != x.last.nic {
		same = 1
	}
	x.buf = binary.AppendVarint(x.buf, (r.pos-x.last.pos)<<1|same)
	if same != 0 {
		x.buf = binary.AppendUvarint(x.buf, uint64(r.nic))
	}
	x.last = r
}

// cursor reads an index from its beginning.
type cursor struct {
	rest []byte
	at   ref
}

func (x *index) cursor() cursor { return cursor{rest: x.buf} }

func (c *cursor) next() (ref, bool) {
	step, n := binary.Varint(c.rest)
	if n <= 0 {
		return ref{}, false
	}
	c.rest = c.rest[n:]
	c.at.pos += step >> 1
	if step&1 != 0 {
		nic, n := binary.Uvarint(c.rest)
		c.rest = c.rest[n:]
		c.at.nic = int(nic)
	}
	return c.at, true
}
