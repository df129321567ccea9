package media

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"

	"github.com/callwarden/callwarden/pipeline/source"
)

// Ports hands out the UDP ports of a range in pairs, RTP and RTCP. Its methods
// may be called from any goroutine.
type Ports struct {
	cfg  Config
	bind netip.Addr

	mu    sync.Mutex
	taken []bool // by pair
	next  int    // where the next search begins: what was freed rests longest
	used  int
}

// NewPorts returns the ports of a range, none of them opened.
func NewPorts(cfg Config) (*Ports, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	bind, err := netip.ParseAddr(cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	return &Ports{cfg: cfg, bind: bind, taken: make([]bool, cfg.Ports.pairs())}, nil
}

// Address is where peers are told to send to; unspecified where neither the
// advertised nor the bound address says it.
func (p *Ports) Address() netip.Addr {
	if a, err := netip.ParseAddr(p.cfg.Advertise); err == nil {
		return a
	}
	return p.bind
}

// Usage is how many pairs are taken, and of how many.
func (p *Ports) Usage() (taken, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used, len(p.taken)
}

// errExhausted makes a source give its answer for "no room".
var errExhausted = fmt.Errorf("no media port is free: %w", source.ErrBusy)

// take opens a free pair.
func (p *Ports) take() (*pair, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range p.taken {
		i := p.next
		p.next = (p.next + 1) % len(p.taken)
		if p.taken[i] {
			continue
		}
		s, err := openPair(netip.AddrPortFrom(p.bind, uint16(p.cfg.Ports.first()+2*i)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue // somebody else's
		}
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			return nil, fmt.Errorf("%w: each stream has two; raise the limit (ulimit -n): %w", err, source.ErrBusy)
		}
		if err != nil {
			return nil, err
		}
		p.taken[i] = true
		p.used++
		s.free = func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.taken[i] = false
			p.used--
		}
		return s, nil
	}
	return nil, errExhausted
}

// pair is two sockets and the streams that are received there, mostly one. Its
// session guards it.
type pair struct {
	rtp, rtcp *socket
	free      func() // gives the ports back
	streams   []*Stream
}

// openPair opens RTP at the address and RTCP on the port after it.
func openPair(at netip.AddrPort) (*pair, error) {
	rtp, err := openSocket(at)
	if err != nil {
		return nil, fmt.Errorf("opening media port %v: %w", at, err)
	}
	at = netip.AddrPortFrom(at.Addr(), rtp.local.Port()+1)
	rtcp, err := openSocket(at)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening media port %v: %w", at, err), rtp.close())
	}
	return &pair{rtp: rtp, rtcp: rtcp, free: func() {}}, nil
}

func (p *pair) close() error {
	defer p.free()
	return errors.Join(p.rtp.close(), p.rtcp.close())
}
