package caller

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"
)

const (
	// reportEvery is how many packets apart sender reports are: 5 s, the
	// interval of RFC 3550 6.2.
	reportEvery = int(5 * time.Second / packetTime)
	// heldBack is the share of packets that Config.Reorder sends later.
	heldBack = 0.05
)

// stream sends one leg of one call. It is paced, and of the pacer's goroutine
// alone but for its counters.
type stream struct {
	lane     *lane
	to       net.Addr
	reportTo *net.UDPAddr // nil: sends no reports
	codec    codec
	payloads [][]byte
	from     int // payload that it begins with
	packets  int // to send; the payloads repeat
	silent   bool
	protect  *protection // nil: RTP in the clear

	ssrc      uint32
	sequence  uint16
	timestamp uint32
	loss      float64
	reorder   int
	chance    *rand.Rand
	held      []held

	sent, octets  uint32 // as sender reports count them
	total, spoilt atomic.Uint64
	reports       atomic.Uint32
	reportedLost  atomic.Uint32
}

// held is a packet that is sent late, out of order.
type held struct{ n, due int }

// newStream sends payloads from l to the address.
func newStream(l *lane, c codec, payloads [][]byte, to netip.AddrPort) *stream {
	chance := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	s := &stream{
		lane: l, to: net.UDPAddrFromAddrPort(to), codec: c, payloads: payloads,
		ssrc: chance.Uint32(), sequence: uint16(chance.Uint32()), timestamp: chance.Uint32(), chance: chance,
	}
	l.watch(s)
	return s
}

// packet implements paced.
func (s *stream) packet(n int) (more bool) {
	last := n+1 >= s.packets
	if !s.silent {
		s.spoil(n, last)
	}
	if s.reportTo != nil && (n+int(s.ssrc%uint32(reportEvery)))%reportEvery == 0 {
		s.report(n)
	}
	return !last
}

// spoil sends packet n, loses it, or holds it back, and sends what was held
// back until now.
func (s *stream) spoil(n int, last bool) {
	switch {
	case s.loss > 0 && s.chance.Float64() < s.loss:
		s.spoilt.Add(1)
	case s.reorder > 0 && !last && s.chance.Float64() < heldBack:
		s.held = append(s.held, held{n, n + 1 + s.chance.IntN(s.reorder)})
	default:
		s.send(n)
	}
	rest := s.held[:0]
	for _, h := range s.held {
		if h.due <= n || last {
			s.send(h.n)
		} else {
			rest = append(rest, h)
		}
	}
	s.held = rest
}

// send queues packet n (RFC 3550 5.1).
func (s *stream) send(n int) {
	payload := s.payloads[(s.from+n)%len(s.payloads)]
	second := s.codec.payload
	if n == 0 {
		second |= 0x80 // the marker begins a talk spurt (RFC 3551 4.1)
	}
	head := append(s.lane.next(), 0x80, second)
	head = binary.BigEndian.AppendUint16(head, s.sequence+uint16(n))
	head = binary.BigEndian.AppendUint32(head, s.timestamp+uint32(n)*s.codec.tick())
	head = binary.BigEndian.AppendUint32(head, s.ssrc)
	size := len(payload)
	if s.protect != nil {
		sealed, err := s.protect.encrypt(append(head, payload...))
		if err != nil {
			s.lane.unsent.Add(1)
			return
		}
		head, payload = sealed, nil
	}
	s.lane.put(s.to, head, payload)
	s.sent++
	s.octets += uint32(size)
	s.total.Add(1)
}

// report sends a sender report (RFC 3550 6.4.1) at once: there are few.
func (s *stream) report(n int) {
	now := time.Now()
	packets := []rtcp.Packet{
		&rtcp.SenderReport{
			SSRC: s.ssrc, NTPTime: ntp(now), RTPTime: s.timestamp + uint32(n)*s.codec.tick(),
			PacketCount: s.sent, OctetCount: s.octets,
		},
		s.description(),
	}
	s.control(packets)
}

// bye says that the stream is over (RFC 3550 6.6). The pacer must be done with
// it.
func (s *stream) bye() {
	if s.reportTo != nil {
		s.control([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: s.ssrc}, s.description(), &rtcp.Goodbye{Sources: []uint32{s.ssrc}}})
	}
}

func (s *stream) description() rtcp.Packet {
	return &rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
		Source: s.ssrc,
		Items:  []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: fmt.Sprintf("%08x@callwarden", s.ssrc)}},
	}}}
}

func (s *stream) control(packets []rtcp.Packet) {
	data, err := rtcp.Marshal(packets)
	if err == nil && s.protect != nil {
		data, err = s.protect.context.EncryptRTCP(nil, data, nil)
	}
	if err == nil {
		_, err = s.lane.rtcp.WriteToUDP(data, s.reportTo)
	}
	if err != nil {
		s.lane.unsent.Add(1)
	}
}

// ntp is t as RTCP counts it: seconds since 1900 with 32 bits of fraction.
func ntp(t time.Time) uint64 {
	const from1900 = 2208988800
	return uint64(t.Unix()+from1900)<<32 | uint64(t.Nanosecond())<<32/1e9
}

// protection encrypts one stream by SRTP (RFC 3711) with a key that SDP tells
// (RFC 4568).
type protection struct {
	context *srtp.Context
	key     []byte // 16 bytes of key, then 14 of salt
	buf     []byte
}

func newProtection(key []byte) (*protection, error) {
	ctx, err := srtp.CreateContext(key[:16], key[16:30], srtp.ProtectionProfileAes128CmHmacSha1_80)
	if err != nil {
		return nil, err
	}
	return &protection{context: ctx, key: key}, nil
}

// encrypt seals a packet; what it returns may share its memory.
func (p *protection) encrypt(packet []byte) ([]byte, error) {
	p.buf = append(p.buf[:0], packet...)
	return p.context.EncryptRTP(packet[:0], p.buf, nil)
}
