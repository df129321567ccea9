package pcapsrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// scanner reads a capture from its beginning to its end and finds out which
// packets are of which stream, and what SIP says of them.
type scanner struct {
	file      *container
	decoder   decoder
	fragments fragments
	streams   streams
	dialogs   *dialogs
	flows     map[streamKey]*flow
	order     []*flow                    // as they began
	touching  map[netip.AddrPort][]*flow // by each of their addresses
	clock     clock

	packets int
	unread  map[uint32]int // packets of links that we cannot read
	cut     bool           // the file ends within a packet
	broken  error          // what follows the end cannot be read
	left    int            // flows for which there was no room
}

// clock makes the times of a capture go forward: a clock that was set back goes
// on from where it was.
type clock struct {
	last  time.Duration
	shift []time.Duration // by interface
	begun bool
}

// setBack is how far time must go back to have been set; less is packets that
// passed each other.
const setBack = time.Second

func (c *clock) read(p *packet) time.Duration {
	for len(c.shift) <= p.nic {
		c.shift = append(c.shift, 0)
	}
	switch at := p.at + c.shift[p.nic]; {
	case p.at == noTime:
	case !c.begun:
		c.last, c.begun = at, true
	case at >= c.last:
		c.last = at
	case c.last-at > setBack:
		c.shift[p.nic] += c.last - at
	}
	return c.last
}

// checkEvery is how many packets are read between looks at the context.
const checkEvery = 4096

// scan reads all. An error says that nothing could be read, or wraps that of
// ctx.
func scan(ctx context.Context, file *container) (*scanner, error) {
	s := &scanner{
		file: file, flows: make(map[streamKey]*flow), touching: make(map[netip.AddrPort][]*flow),
		unread: make(map[uint32]int),
	}
	var err error
	if s.dialogs, err = newDialogs(s.over); err != nil {
		return nil, err
	}
	for {
		p, err := file.next()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return s, nil
		case errors.Is(err, errCut):
			s.cut = true
			return s, nil
		case errors.Is(err, ErrFormat) && s.packets > 0:
			s.broken = err
			return s, nil
		default:
			return nil, err
		}
		if s.packets++; s.packets%checkEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.packet(&p)
	}
}

func (s *scanner) packet(p *packet) {
	at := s.clock.read(p)
	if !isLink(p.link) {
		s.unread[p.link]++
		return
	}
	if !s.decoder.decode(p.link, p.data, p.cut) {
		return
	}
	refs := []ref{p.ref}
	if s.decoder.isPiece {
		whole := s.decoder.piece
		data, all := s.fragments.add(whole, p.ref, at)
		if data == nil {
			return
		}
		s.decoder = decoder{}
		if !s.decoder.transport(whole.proto, whole.src, whole.dst, data) {
			return
		}
		refs = all
	}
	d := &s.decoder.datagram
	found := func(m message) { s.dialogs.message(&m, at) }
	switch {
	case d.tcp:
		s.streams.segment(d, at, found)
	case isSIP(d.payload):
		if m, n, ok := parseSIP(d.payload, false); ok && n > 0 {
			found(m)
		}
	case isRTP(d.payload):
		s.media(d, at, p.at, refs)
	}
}

func (s *scanner) media(d *datagram, at, raw time.Duration, refs []ref) {
	key := streamKey{d.src, d.dst}
	f := s.flows[key]
	if f == nil {
		if len(s.flows) == maxFlows {
			s.left++
			return
		}
		f = &flow{src: d.src, dst: d.dst}
		s.flows[key] = f
		s.order = append(s.order, f)
		s.touching[d.src] = append(s.touching[d.src], f)
		s.touching[d.dst] = append(s.touching[d.dst], f)
	}
	if !f.junk {
		f.add(d, at, raw, refs)
	}
}

// over ends the calls of what comes to or from an address.
func (s *scanner) over(addr netip.AddrPort) {
	for _, f := range s.touching[addr] {
		if len(f.segments) > 0 && !f.over {
			f.over, f.ended = true, s.clock.last
		}
	}
}

// remarks are sentences about the capture as a whole.
func (s *scanner) remarks() []string {
	var all []string
	for link, n := range s.unread {
		all = append(all, fmt.Sprintf("%d packets of link type %d were passed over", n, link))
	}
	if s.broken != nil {
		all = append(all, fmt.Sprintf("it was read until a fault in it: %v", s.broken))
	}
	if s.left+s.dialogs.left > 0 {
		all = append(all, fmt.Sprintf("packets of more than %d streams, or SIP of more than %d calls, were passed over", maxFlows, maxDialogs))
	}
	return all
}
