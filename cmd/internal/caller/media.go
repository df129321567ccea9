package caller

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// media is what all calls over RTP share: the pacer, a lane for each leg, and
// the recording in packets.
type media struct {
	cfg   Config
	codec codec
	local netip.Addr
	pacer *pacer
	lanes []*lane // by leg
	plays []*play // what calls play, in turn

	sent, spoilt, reports, told atomic.Uint64 // of calls that are over
}

// play is a recording in packets.
type play struct {
	rec   *Recording
	sides [][][]byte // payloads by leg
}

// newMedia encodes the recordings and binds ports on the way to peer.
func newMedia(cfg Config, recs []*Recording, peer string) (*media, error) {
	m := &media{cfg: cfg, pacer: &pacer{}}
	m.pacer.flush = m.flush
	var err error
	if m.codec, err = codecFor(cfg.Codec, recs[0].RateHz); err != nil {
		return nil, err
	}
	if m.local, err = localAddr(cfg.Bind, peer); err != nil {
		return nil, err
	}
	encoded := make(map[*Recording]*play) // one recording may be there many times
	for _, rec := range recs {
		if p := encoded[rec]; p != nil {
			m.plays = append(m.plays, p)
			continue
		}
		p := &play{rec: rec}
		encoded[rec] = p
		for _, side := range rec.Legs {
			payloads, err := m.codec.packets(side.PCM, rec.RateHz)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", rec.Path, err)
			}
			p.sides = append(p.sides, payloads)
		}
		m.plays = append(m.plays, p)
	}
	for range recs[0].Legs {
		l, err := newLane(m.local)
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		m.lanes = append(m.lanes, l)
	}
	return m, nil
}

// localAddr is the address from which peer is reached.
func localAddr(bind, peer string) (netip.Addr, error) {
	if bind != "" {
		return netip.ParseAddr(bind)
	}
	conn, err := net.Dial("udp", peer) // sends nothing, only looks up the route
	if err != nil {
		return netip.Addr{}, fmt.Errorf("finding the way to %s: %w", peer, err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

func (m *media) flush() {
	for _, l := range m.lanes {
		l.flush()
	}
}

// run sends and listens until ctx ends.
func (m *media) run(ctx context.Context) {
	var group sync.WaitGroup
	for _, l := range m.lanes {
		group.Go(func() { l.listen(ctx) })
	}
	m.pacer.run(ctx)
	group.Wait()
}

func (m *media) close() error {
	var err error
	for _, l := range m.lanes {
		err = errors.Join(err, l.close())
	}
	return err
}

func (m *media) count(r *Results) {
	r.Codec = m.codec.name
	r.Packets, r.Spoilt = m.sent.Load(), m.spoilt.Load()
	r.Reports, r.ReportedLost = m.reports.Load(), m.told.Load()
	for _, l := range m.lanes {
		r.Unsent += l.unsent.Load()
	}
	r.Behind = float64(m.pacer.lateness().Microseconds()) / 1000
}

// packets is which packet of a recorded leg call n begins with, and how many
// it sends.
func (c Config) packets(n, recorded int) (from, count int) {
	if c.Stagger && n < c.Calls {
		from = int(math.Mod(float64(n)*math.Phi, 1) * float64(recorded))
	}
	count = recorded - from
	if c.Loop {
		count = math.MaxInt
	}
	if c.Span > 0 {
		count = min(count, max(1, int(c.Span/packetTime)))
	}
	return from, count
}

// ear is where one leg of a call is to be sent.
type ear struct {
	rtp  netip.AddrPort
	rtcp netip.AddrPort // invalid where no reports are wanted
	key  []byte         // of SRTP, nil for none
}

// turn is what call n plays.
func (m *media) turn(n int) *play { return m.plays[n%len(m.plays)] }

// stream readies leg number side of call n.
func (m *media) stream(n, side int, to ear) (*stream, error) {
	p := m.turn(n)
	s := newStream(m.lanes[side], m.codec, p.sides[side], to.rtp)
	s.from, s.packets = m.cfg.packets(n, len(s.payloads))
	s.loss, s.reorder = m.cfg.Loss, m.cfg.Reorder
	leg := p.rec.Legs[side].Leg
	s.silent = m.cfg.Silent != audio.Unknown && leg == m.cfg.Silent
	if to.rtcp.IsValid() && !m.cfg.NoRTCP {
		s.reportTo = net.UDPAddrFromAddrPort(to.rtcp)
	}
	if to.key != nil {
		var err error
		if s.protect, err = newProtection(to.key); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// play sends streams to their end, until ctx ends, or until the peer says
// through over why it ends the call, which play returns. Each time due gives a
// value, then is called.
func (m *media) play(ctx context.Context, streams []*stream, over <-chan string, due <-chan time.Time, then func()) (end string) {
	all := make([]paced, len(streams))
	for i, s := range streams {
		all[i] = s
	}
	playing := m.pacer.add(all...)
	ended := make(chan struct{})
	go func() { // ends with the streams, which stop ends too
		for _, p := range playing {
			<-p.done
		}
		close(ended)
	}()
	for going := true; going; {
		select {
		case <-ended:
			going = false
		case <-ctx.Done():
			going = false
		case end = <-over:
			going = false
		case <-due:
			then()
		}
	}
	m.pacer.stop(playing...)
	<-ended
	for _, s := range streams {
		if !m.cfg.DropBye {
			s.bye()
		}
		s.lane.forget(s)
		m.sent.Add(s.total.Load())
		m.spoilt.Add(s.spoilt.Load())
		m.reports.Add(uint64(s.reports.Load()))
		m.told.Add(uint64(s.reportedLost.Load()))
	}
	return end
}

// newKey is a master key and salt for SRTP.
func newKey() []byte {
	key := make([]byte, 30)
	_, _ = rand.Read(key) // never fails
	return key
}
