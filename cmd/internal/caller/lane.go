package caller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// batch is how many datagrams one system call takes: a slot of 1,000 calls.
	batch = 64
	// mostPacket has room for 20 ms of L16 at 16 kHz, the header of RTP and the
	// tag of SRTP.
	mostPacket = 640 + 12 + 16
)

// lane is an even port for RTP and the odd one above it for RTCP (RFC 3550
// 11). All calls send one leg from the same lane, as they would through the
// media relay of a session border controller: 2,000 ports would cost more.
type lane struct {
	rtp, rtcp *net.UDPConn
	write     func([]ipv4.Message) (int, error)

	// Of the pacer's goroutine only.
	queue  []ipv4.Message
	used   int
	failed error // first packet that could not be sent

	unsent  atomic.Uint64
	mu      sync.Mutex
	streams map[uint32]*stream // by SSRC: whom receiver reports are about
}

// newLane binds two ports at ip.
func newLane(ip netip.Addr) (*lane, error) {
	const attempts = 50 // a free even port has a free odd one above it nearly always
	var last error
	for range attempts {
		l, err := bindLane(ip)
		if err == nil {
			return l, nil
		}
		last = err
	}
	return nil, fmt.Errorf("binding a pair of RTP ports at %v: %w", ip, last)
}

var errOdd = errors.New("the port is odd")

func bindLane(ip netip.Addr) (*lane, error) {
	network := "udp4"
	if !ip.Is4() {
		network = "udp6"
	}
	l := &lane{streams: make(map[uint32]*stream)}
	var err error
	l.rtp, err = net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		return nil, err
	}
	port := l.rtp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if port%2 != 0 {
		_ = l.rtp.Close()
		return nil, errOdd
	}
	l.rtcp, err = net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, port+1)))
	if err != nil {
		_ = l.rtp.Close()
		return nil, err
	}
	if network == "udp4" {
		l.write = func(m []ipv4.Message) (int, error) { return ipv4.NewPacketConn(l.rtp).WriteBatch(m, 0) }
	} else {
		l.write = func(m []ipv4.Message) (int, error) { return ipv6.NewPacketConn(l.rtp).WriteBatch(m, 0) }
	}
	_ = l.rtp.SetWriteBuffer(4 << 20) // best effort: the system's limit may be lower
	return l, nil
}

func (l *lane) port() int { return l.rtp.LocalAddr().(*net.UDPAddr).Port }

func (l *lane) close() error { return errors.Join(l.rtp.Close(), l.rtcp.Close()) }

// next is room for one more datagram to addr, whose bytes the caller appends
// to buf and hands to put.
func (l *lane) next() (buf []byte) {
	if l.used == batch {
		l.flush()
	}
	if l.used == len(l.queue) {
		l.queue = append(l.queue, ipv4.Message{Buffers: [][]byte{make([]byte, 0, mostPacket)}})
	}
	return l.queue[l.used].Buffers[0][:0]
}

// put queues the datagram whose bytes are head, which next gave, and payload.
func (l *lane) put(to net.Addr, head, payload []byte) {
	m := &l.queue[l.used]
	m.Buffers = append(m.Buffers[:0], head)
	if len(payload) > 0 {
		m.Buffers = append(m.Buffers, payload)
	}
	m.Addr = to
	l.used++
}

// flush sends what is queued. What cannot be sent is counted and forgotten:
// the time of these packets is over.
func (l *lane) flush() {
	rest := l.queue[:l.used]
	for len(rest) > 0 {
		n, err := l.write(rest)
		if err != nil {
			l.unsent.Add(1)
			if l.failed == nil {
				l.failed = err
			}
			n = max(n, 0) + 1
		}
		rest = rest[n:]
	}
	l.used = 0
}

// listen takes the receivers' reports until ctx ends.
func (l *lane) listen(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		now := time.Now()
		_ = l.rtp.SetReadDeadline(now)
		_ = l.rtcp.SetReadDeadline(now)
	})
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { l.read(l.rtp) }) // where RTCP shares the port (RFC 5761)
	group.Go(func() { l.read(l.rtcp) })
	group.Wait()
}

func (l *lane) read(conn *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) || isTimeout(err) {
			return
		}
		if err == nil {
			l.report(buf[:n])
		}
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// report takes what a receiver says of our streams. With SRTP its words are
// encrypted and are not read.
func (l *lane) report(datagram []byte) {
	if len(datagram) < 8 || datagram[1] < 200 || datagram[1] > 207 { // RFC 5761 4: not RTCP
		return
	}
	packets, err := rtcp.Unmarshal(datagram)
	if err != nil {
		return
	}
	for _, p := range packets {
		var reports []rtcp.ReceptionReport
		switch p := p.(type) {
		case *rtcp.ReceiverReport:
			reports = p.Reports
		case *rtcp.SenderReport:
			reports = p.Reports
		}
		for _, r := range reports {
			l.mu.Lock()
			s := l.streams[r.SSRC]
			l.mu.Unlock()
			if s != nil {
				s.reports.Add(1)
				s.reportedLost.Store(r.TotalLost)
			}
		}
	}
}

func (l *lane) watch(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[s.ssrc] = s
}

func (l *lane) forget(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, s.ssrc)
}
