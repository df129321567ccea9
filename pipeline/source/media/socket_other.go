//go:build !linux

package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// socket is one UDP port that is looked at now and then. Here the time at which
// a packet is read stands for that at which it came.
type socket struct {
	conn     *net.UDPConn
	local    netip.AddrPort
	overflow uint32 // never known here
}

func openSocket(at netip.AddrPort) (*socket, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("own address: %w", err), conn.Close())
	}
	return &socket{conn: conn, local: local}, nil
}

func (s *socket) close() error { return s.conn.Close() }

// send sends one datagram.
func (s *socket) send(b []byte, to netip.AddrPort) error {
	if _, err := s.conn.WriteToUDPAddrPort(b, to); err != nil {
		return fmt.Errorf("sending to media port: %w", err)
	}
	return nil
}

const (
	batchSize   = 16
	maxDatagram = 2048
	// readWait is how long a read takes where nothing came: one whose deadline
	// has passed reads nothing.
	readWait = time.Millisecond
)

// batch is the room for datagrams being read. Sessions share a few of them.
type batch struct {
	got   [batchSize]datagram
	data  [batchSize][maxDatagram]byte
	plain [maxDatagram]byte // what one was before it was encrypted
}

func newBatch() *batch { return new(batch) }

// read fills b with what came to s and returns how many datagrams that is.
func (s *socket) read(b *batch) (int, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(readWait)); err != nil {
		return 0, fmt.Errorf("reading media port %v: %w", s.local, err)
	}
	for i := range batchSize {
		n, from, err := s.conn.ReadFromUDPAddrPort(b.data[i][:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return i, nil
		}
		if err != nil {
			return i, fmt.Errorf("reading media port %v: %w", s.local, err)
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		b.got[i] = datagram{payload: b.data[i][:n], from: from, came: time.Now()}
	}
	return batchSize, nil
}

// datagram is one that came; its payload is the batch's.
type datagram struct {
	payload  []byte
	from     netip.AddrPort
	came     time.Time
	overflow uint32
}

// datagram is the i-th of the last read.
func (b *batch) datagram(i int) datagram { return b.got[i] }
