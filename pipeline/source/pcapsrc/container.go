package pcapsrc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"
)

// Limits of what a file may ask for. Tools write packets of up to 256 KiB.
const (
	maxPacket     = 1 << 20 // bytes
	maxBlock      = 1 << 24 // bytes of a pcapng block that is not a packet
	maxInterfaces = 4096
)

// errCut says that the file ends within a packet: what came before is good.
var errCut = errors.New("the capture ends within a packet")

// ErrFormat says that a file is no capture that can be read.
var ErrFormat = errors.New("capture cannot be read")

// nic is an interface of a capture: how its packets are to be read.
type nic struct {
	order  binary.ByteOrder // of its section
	link   uint32           // LINKTYPE
	snap   uint32           // packets were cut to so many bytes; 0 for none
	header int64            // bytes before each packet of a pcap file
	ticks  ticks
}

// ticks is a clock's unit: 10^-exp seconds, or 2^-exp.
type ticks struct {
	exp    uint8
	binary bool
	offset int64 // seconds
}

// time of n ticks since 1970.
func (t ticks) time(n uint64) time.Duration {
	ns := n
	switch {
	case t.binary && t.exp < 64:
		hi, lo := bits.Mul64(n, 1e9)
		ns = lo>>t.exp | hi<<(64-t.exp)
	case t.binary:
		hi, _ := bits.Mul64(n, 1e9)
		ns = hi >> (t.exp - 64)
	default:
		for e := t.exp; e < 9; e++ {
			ns *= 10
		}
		for e := uint8(9); e < t.exp && ns > 0; e++ {
			ns /= 10
		}
	}
	return time.Duration(ns&(1<<63-1)) + time.Duration(t.offset)*time.Second
}

// packet is one packet of a capture as it was on its link.
type packet struct {
	ref
	at   time.Duration // since 1970; noTime where the capture does not say
	link uint32
	data []byte // good until the next is read
	cut  bool   // there was more of it on the link
}

// ref is where a packet is in its file.
type ref struct {
	pos int64
	nic int
}

// container reads the packets of a pcap or pcapng file.
type container struct {
	window
	ng   bool
	nics []nic // of all sections
	base int   // first of the current section
	pos  int64 // of the next record or block
	// order is that of the section.
	order binary.ByteOrder
}

const noTime time.Duration = -1 << 63

// openContainer reads the header of a capture.
func openContainer(r io.ReaderAt, size int64) (*container, error) {
	c := &container{window: window{r: r, size: size, ahead: readAhead}}
	magic, err := c.bytes(0, 4)
	if err != nil {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrFormat, size)
	}
	if binary.BigEndian.Uint32(magic) == blockSection {
		c.ng = true
		return c, nil
	}
	n := nic{header: 16}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(magic) {
		case 0xa1b2c3d4:
			n.order, n.ticks.exp = order, 6
		case 0xa1b23c4d:
			n.order, n.ticks.exp = order, 9
		case 0xa1b2cd34: // Kuznetzov's: eight bytes more in each record
			n.order, n.ticks.exp, n.header = order, 6, 24
		}
	}
	if n.order == nil {
		if magic[0] == 0x1f && magic[1] == 0x8b {
			return nil, fmt.Errorf("%w: it is compressed: type gunzip FILE", ErrFormat)
		}
		return nil, fmt.Errorf("%w: it begins with % x, as neither pcap nor pcapng does", ErrFormat, magic)
	}
	header, err := c.bytes(0, 24)
	if err != nil {
		return nil, fmt.Errorf("%w: its header is cut off", ErrFormat)
	}
	n.snap = n.order.Uint32(header[16:])
	n.link = n.order.Uint32(header[20:]) & 0xffff // above: how frames end
	c.nics, c.order, c.pos = []nic{n}, n.order, 24
	return c, nil
}

// next returns the next packet. It returns io.EOF at the end, errCut where the
// file ends within a packet, and an error wrapping ErrFormat where what follows
// cannot be read.
func (c *container) next() (packet, error) {
	if c.ng {
		return c.nextBlock()
	}
	p, next, err := c.record(ref{pos: c.pos})
	if err == nil {
		c.pos = next
	}
	return p, err
}

// at returns the packet at r, which next has returned before.
func (c *container) at(r ref) (packet, error) {
	var p packet
	var err error
	if c.ng {
		p, _, err = c.block(r.pos, c.nics[r.nic].order, r.nic)
	} else {
		p, _, err = c.record(r)
	}
	return p, err
}

// record reads a record of a pcap file and says where the next is.
func (c *container) record(r ref) (p packet, next int64, err error) {
	n := &c.nics[0]
	header, err := c.bytes(r.pos, n.header)
	if err != nil {
		return p, 0, err
	}
	seconds, fraction := n.order.Uint32(header), n.order.Uint32(header[4:])
	length, original := n.order.Uint32(header[8:]), n.order.Uint32(header[12:])
	if length > maxPacket {
		return p, 0, fmt.Errorf("%w: at byte %d a packet of %d bytes, limit %d", ErrFormat, r.pos, length, maxPacket)
	}
	p = packet{ref: r, link: n.link, cut: original > length}
	p.at = time.Duration(seconds)*time.Second + n.ticks.time(uint64(fraction))
	p.data, err = c.bytes(r.pos+n.header, int64(length))
	if err != nil {
		return p, 0, errCut
	}
	return p, r.pos + n.header + int64(length), nil
}

// pcapng blocks.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockOldPacket = 2
	blockSimple    = 3
	blockEnhanced  = 6

	minBlock = 12
)

// nextBlock reads blocks until one is a packet.
func (c *container) nextBlock() (packet, error) {
	for {
		head, err := c.bytes(c.pos, 8)
		if err != nil {
			return packet{}, err
		}
		if binary.BigEndian.Uint32(head) == blockSection {
			if err := c.section(); err != nil {
				return packet{}, err
			}
			continue
		}
		if c.order == nil {
			return packet{}, fmt.Errorf("%w: no section header", ErrFormat)
		}
		switch kind := c.order.Uint32(head); kind {
		case blockInterface:
			if err := c.addInterface(); err != nil {
				return packet{}, err
			}
		case blockEnhanced, blockSimple, blockOldPacket:
			p, next, err := c.block(c.pos, c.order, -1)
			if err != nil {
				return p, err
			}
			c.pos = next
			return p, nil
		default:
			length, err := c.length(c.pos, c.order)
			if err != nil {
				return packet{}, err
			}
			c.pos += length
		}
	}
}

// length of the block at pos, checked against what is possible.
func (c *container) length(pos int64, order binary.ByteOrder) (int64, error) {
	head, err := c.bytes(pos, 8)
	if err != nil {
		return 0, err
	}
	length := int64(order.Uint32(head[4:]))
	if length < minBlock || length%4 != 0 || length > maxBlock {
		return 0, fmt.Errorf("%w: at byte %d a block of %d bytes, which must be %d to %d and a multiple of 4", ErrFormat, pos, length, minBlock, maxBlock)
	}
	if pos+length > c.size {
		return 0, errCut
	}
	return length, nil
}

// section begins a new section, with a byte order of its own.
func (c *container) section() error {
	head, err := c.bytes(c.pos, 12)
	if err != nil {
		return err
	}
	switch magic := head[8:12]; {
	case binary.LittleEndian.Uint32(magic) == 0x1a2b3c4d:
		c.order = binary.LittleEndian
	case binary.BigEndian.Uint32(magic) == 0x1a2b3c4d:
		c.order = binary.BigEndian
	default:
		return fmt.Errorf("%w: at byte %d a section with byte order % x", ErrFormat, c.pos, magic)
	}
	length, err := c.length(c.pos, c.order)
	if err != nil {
		return err
	}
	c.base = len(c.nics)
	c.pos += length
	return nil
}

// addInterface reads an interface description block.
func (c *container) addInterface() error {
	length, err := c.length(c.pos, c.order)
	if err != nil {
		return err
	}
	if length < 20 || len(c.nics) >= maxInterfaces {
		return fmt.Errorf("%w: at byte %d interface %d of %d bytes", ErrFormat, c.pos, len(c.nics), length)
	}
	b, err := c.bytes(c.pos, length)
	if err != nil {
		return errCut
	}
	n := nic{order: c.order, link: uint32(c.order.Uint16(b[8:])), snap: c.order.Uint32(b[12:]), ticks: ticks{exp: 6}}
	for options := b[16 : length-4]; len(options) >= 4; {
		code, size := c.order.Uint16(options), int(c.order.Uint16(options[2:]))
		padded := (size + 3) &^ 3
		if code == 0 || 4+padded > len(options) {
			break
		}
		value := options[4 : 4+size]
		switch {
		case code == 9 && size == 1: // if_tsresol
			n.ticks.exp, n.ticks.binary = value[0]&0x7f, value[0]&0x80 != 0
		case code == 14 && size == 8: // if_tsoffset
			n.ticks.offset = int64(c.order.Uint64(value))
		}
		options = options[4+padded:]
	}
	c.nics = append(c.nics, n)
	c.pos += length
	return nil
}

// block reads a packet block of the given interface, or, where it is negative,
// of the one in the current section that the block names.
func (c *container) block(pos int64, order binary.ByteOrder, of int) (p packet, next int64, err error) {
	length, err := c.length(pos, order)
	if err != nil {
		return p, 0, err
	}
	b, err := c.bytes(pos, length)
	if err != nil {
		return p, 0, errCut
	}
	bad := fmt.Errorf("%w: at byte %d a packet block of %d bytes", ErrFormat, pos, length)
	kind, body := order.Uint32(b), b[8:length-4]
	named, high, low, captured, original := 0, uint32(0), uint32(0), 0, 0
	switch {
	case kind == blockSimple && len(body) >= 4:
		original = int(order.Uint32(body))
		captured, body = original, body[4:]
	case kind == blockEnhanced && len(body) >= 20:
		named = int(order.Uint32(body))
		high, low = order.Uint32(body[4:]), order.Uint32(body[8:])
		captured, original, body = int(order.Uint32(body[12:])), int(order.Uint32(body[16:])), body[20:]
	case kind == blockOldPacket && len(body) >= 20:
		named = int(order.Uint16(body))
		high, low = order.Uint32(body[4:]), order.Uint32(body[8:])
		captured, original, body = int(order.Uint32(body[12:])), int(order.Uint32(body[16:])), body[20:]
	default:
		return p, 0, bad
	}
	if of < 0 {
		of = c.base + named
	}
	if of >= len(c.nics) || captured < 0 {
		return p, 0, bad
	}
	n := &c.nics[of]
	if kind == blockSimple {
		if n.snap != 0 {
			captured = min(captured, int(n.snap))
		}
		captured = min(captured, len(body))
	}
	if captured > len(body) {
		return p, 0, bad
	}
	p = packet{ref: ref{pos, of}, link: n.link, data: body[:captured], cut: original > captured, at: noTime}
	if kind != blockSimple { // which has no time
		p.at = n.ticks.time(uint64(high)<<32 | uint64(low))
	}
	return p, pos + length, nil
}

// Reading ahead is worth much where all packets are read, and little where a
// few are.
const (
	readAhead = 1 << 20
	readOne   = 4 << 10
)

// window is the part of a file that is in memory.
type window struct {
	r     io.ReaderAt
	size  int64
	ahead int64 // how much is read at once
	begin int64
	buf   []byte
}

// bytes returns n bytes at pos, good until the next call. It returns io.EOF at
// the end of the file and errCut where it ends before pos+n.
func (w *window) bytes(pos, n int64) ([]byte, error) {
	switch {
	case pos >= w.size && n > 0:
		return nil, io.EOF
	case pos+n > w.size:
		return nil, errCut
	}
	if pos < w.begin || pos+n > w.begin+int64(len(w.buf)) {
		if err := w.fill(pos, min(max(n, w.ahead), w.size-pos)); err != nil {
			return nil, err
		}
	}
	return w.buf[pos-w.begin : pos-w.begin+n], nil
}

func (w *window) fill(pos, n int64) error {
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	w.buf, w.begin = w.buf[:n], pos
	got, err := w.r.ReadAt(w.buf, pos)
	if int64(got) == n {
		return nil
	}
	w.buf = w.buf[:0]
	if err == nil || errors.Is(err, io.EOF) {
		return errCut // it has become shorter since it was opened
	}
	return err
}
