package media

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is one UDP port that is looked at now and then. It is not known to
// Go's poller: that would wake the process for every packet, which costs more
// than all that is done with it, while the kernel keeps packets and the times
// at which they came for nothing.
type socket struct {
	fd       int
	local    netip.AddrPort
	overflow uint32 // datagrams that the kernel had no room for
}

// receiveBuffer is asked of the kernel for each port: two seconds of 50
// packets of up to a kilobyte of its own accounting each.
const receiveBuffer = 128 << 10

func openSocket(at netip.AddrPort) (_ *socket, err error) {
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}()
	for _, option := range []int{unix.SO_TIMESTAMPNS, unix.SO_RXQ_OVFL} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return nil, fmt.Errorf("setsockopt: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
		return nil, fmt.Errorf("setsockopt: %w", err)
	}
	if err := unix.Bind(fd, sockaddr(at, at.Addr())); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	s := &socket{fd: fd}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		s.local = netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *unix.SockaddrInet6:
		s.local = netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port))
	}
	return s, nil
}

// sockaddr is at for a socket that is bound to local.
func sockaddr(at netip.AddrPort, local netip.Addr) unix.Sockaddr {
	if local.Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

func (s *socket) close() error { return unix.Close(s.fd) }

// send sends one datagram; what the kernel has no room for is lost, as
// datagrams may be.
func (s *socket) send(b []byte, to netip.AddrPort) error {
	if err := unix.Sendto(s.fd, b, unix.MSG_DONTWAIT, sockaddr(to, s.local.Addr())); err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("sending to media port: %w", err)
	}
	return nil
}

const (
	batchSize   = 16   // datagrams read at once
	maxDatagram = 2048 // no telephone sends longer ones; a longer one is cut off
)

// batch is the room for datagrams being read. Sessions share a few of them.
type batch struct {
	headers  [batchSize]mmsghdr
	vectors  [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6 // the larger of the two kinds
	controls [batchSize][64]byte
	data     [batchSize][maxDatagram]byte
	plain    [maxDatagram]byte // what one was before it was encrypted
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

func newBatch() *batch {
	b := new(batch)
	for i := range b.headers {
		b.vectors[i].Base = &b.data[i][0]
		b.vectors[i].SetLen(maxDatagram)
		h := &b.headers[i].header
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Control = &b.controls[i][0]
	}
	return b
}

// read fills b with what came to s and returns how many datagrams that is,
// none where nothing came. It does not wait.
func (s *socket) read(b *batch) (int, error) {
	for i := range b.headers {
		h := &b.headers[i].header
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(b.controls[i]))
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd),
			uintptr(unsafe.Pointer(&b.headers)), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR, unix.ECONNREFUSED: // an ICMP answer to a report of ours
			continue
		}
		return 0, fmt.Errorf("reading media port %v: %w", s.local, errno)
	}
}

// datagram is one that came; its payload is the batch's.
type datagram struct {
	payload  []byte
	from     netip.AddrPort
	came     time.Time // zero where the kernel did not say
	overflow uint32    // how many it had no room for until then
}

// datagram is the i-th of the last read.
func (b *batch) datagram(i int) datagram {
	m := &b.headers[i]
	d := datagram{payload: b.data[i][:m.length]}
	name := &b.names[i]
	switch name.Family {
	case unix.AF_INET:
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		d.from = netip.AddrPortFrom(netip.AddrFrom4(four.Addr), port(four.Port))
	case unix.AF_INET6:
		d.from = netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), port(name.Port))
	}
	d.came, d.overflow = ancillary(b.controls[i][:m.header.Controllen])
	return d
}

// port turns a port in network order, as it lies in memory, into a number.
func port(raw uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&raw))
	return uint16(b[0])<<8 | uint16(b[1])
}

// ancillary reads when the kernel got a datagram, and how many it had no room
// for so far.
func ancillary(b []byte) (came time.Time, overflow uint32) {
	const header = unix.SizeofCmsghdr
	for len(b) >= header {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < header || size > len(b) {
			break
		}
		data := b[header:size]
		switch {
		case h.Level != unix.SOL_SOCKET:
		case h.Type == unix.SCM_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			at := (*unix.Timespec)(unsafe.Pointer(&data[0]))
			came = time.Unix(at.Unix())
		case h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			overflow = *(*uint32)(unsafe.Pointer(&data[0]))
		}
		b = b[min(len(b), unix.CmsgSpace(size-header)):]
	}
	return came, overflow
}
