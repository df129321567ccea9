package media

import (
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"time"

	"github.com/pion/rtcp"
)

// controlEvery is how often RTCP is looked at: nothing in it is urgent.
const controlEvery = time.Second

// control is a stream's side of RTCP.
type control struct {
	ssrc  uint32 // ours
	name  string // ours, meaning nothing: RFC 7022
	due   time.Duration
	wrong bool // a report could not be sent, and that was said

	from netip.AddrPort // where the peer's reports come from
	// The last sender report: the middle of its NTP time and when it came.
	senderSSRC uint32
	sender     uint32
	senderAt   time.Duration

	byeSSRC uint32
	bye     bool
	byeAt   time.Duration
}

// hearControl takes a compound RTCP packet for the streams of a pair.
func (p *pair) hearControl(b, plain []byte, from netip.AddrPort, at time.Duration) {
	for _, st := range p.streams {
		want := st.remote.Addr()
		if !want.IsValid() {
			want = st.cfg.Remote.Addr()
		}
		if want.IsValid() && want != from.Addr() {
			if st == p.streams[0] {
				st.stats.Stranger++
			}
			continue
		}
		packet := b
		if st.receive != nil {
			var err error
			if packet, err = st.receive.DecryptRTCP(plain, b, nil); err != nil {
				continue
			}
		}
		st.hearControl(packet, from, at)
	}
}

func (st *Stream) hearControl(b []byte, from netip.AddrPort, at time.Duration) {
	all, err := rtcp.Unmarshal(b)
	if err != nil {
		st.stats.Malformed++
		return
	}
	c := &st.control
	c.from = from
	for _, packet := range all {
		switch packet := packet.(type) {
		case *rtcp.SenderReport:
			c.senderSSRC, c.sender, c.senderAt = packet.SSRC, uint32(packet.NTPTime>>16), at
		case *rtcp.Goodbye:
			for _, ssrc := range packet.Sources {
				c.bye, c.byeSSRC, c.byeAt = true, ssrc, at
			}
		}
	}
}

// byeGrace is how long after a goodbye another source may begin: a sender that
// changes its source says goodbye too.
const byeGrace = 2 * time.Second

// saidGoodbye reports whether all streams that were heard have ended.
func (s *Session) saidGoodbye(at time.Duration) bool {
	some := false
	for _, st := range s.streams {
		o, c := &st.track.order, &st.control
		if !st.cfg.ByeEnds {
			return false
		}
		if !o.started {
			continue
		}
		if !c.bye || c.byeSSRC != o.ssrc || at-max(c.byeAt, st.heard) < byeGrace {
			return false
		}
		some = true
	}
	return some
}

// sendReport tells the peer how its stream comes, where it wants to know and it
// is time.
func (st *Stream) sendReport(at time.Duration) {
	c := &st.control
	if !st.cfg.Reports.IsValid() || !st.track.order.started || at < c.due {
		return
	}
	// So that the reports of many calls do not go out together, RFC 3550
	// section 6.2.
	every := st.session.cfg.Reports
	c.due = at + every/2 + time.Duration(mathrand.Int64N(int64(every)))
	err := st.report(at)
	if err != nil && !c.wrong {
		c.wrong = true // one line a stream
		st.session.log.Warn("sending a receiver report", slog.Any("err", err))
	}
}

func (st *Stream) report(at time.Duration) error {
	c, r := &st.control, &st.track.report
	if c.name == "" {
		var random [12]byte
		if _, err := rand.Read(random[:]); err != nil {
			return err
		}
		c.name, c.ssrc = hex.EncodeToString(random[:]), mathrand.Uint32()
	}
	total, share := r.lost()
	about := rtcp.ReceptionReport{
		SSRC: r.ssrc, FractionLost: share, TotalLost: total, LastSequenceNumber: r.newest, Jitter: r.jitter >> 4,
	}
	if c.senderSSRC == r.ssrc && c.senderAt > 0 {
		about.LastSenderReport = c.sender
		about.Delay = uint32((at - c.senderAt) * 65536 / time.Second)
	}
	b, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.ReceiverReport{SSRC: c.ssrc, Reports: []rtcp.ReceptionReport{about}},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
			Source: c.ssrc, Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: c.name}},
		}}},
	})
	if err != nil {
		return err
	}
	if st.receive != nil && st.send == nil {
		return nil // what must be secret cannot be said
	}
	if st.send != nil {
		if b, err = st.send.EncryptRTCP(nil, b, nil); err != nil {
			return err
		}
	}
	to, by := st.cfg.Reports, st.pair.rtcp
	if c.from.IsValid() {
		to = c.from
	}
	if st.cfg.Mux {
		by = st.pair.rtp
	}
	return by.send(b, to)
}
