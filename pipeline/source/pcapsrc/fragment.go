package pcapsrc

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Bounds of what waits for the rest of its datagram.
const (
	maxFragments   = 64          // of one datagram
	maxWaiting     = 1024        // datagrams
	maxDatagram    = 64 << 10    // bytes
	maxHeld        = 8 << 20     // bytes of all
	fragmentExpiry = time.Minute // RFC 8200 section 4.5
)

// fragments puts IP datagrams together again.
type fragments struct {
	waiting map[fragmentKey]*partial
	order   []fragmentKey // as they began; those that are gone count for nothing
	held    int
}

type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
}

type partial struct {
	began  time.Duration
	pieces []keptPiece
	refs   []ref
	total  int // -1 until the last piece is there
	bytes  int
}

type keptPiece struct {
	offset int
	data   []byte
}

// add takes a fragment that is in the packet at r, and returns the datagram
// that it completes, with where its pieces are, or nil.
func (f *fragments) add(p piece, r ref, at time.Duration) (data []byte, refs []ref) {
	if p.more && len(p.data)%8 != 0 || p.offset+len(p.data) > maxDatagram || len(p.data) == 0 {
		return nil, nil
	}
	key := fragmentKey{p.src, p.dst, p.id, p.proto}
	w := f.waiting[key]
	if w != nil && at-w.began > fragmentExpiry {
		f.drop(key)
		w = nil
	}
	if w == nil {
		w = f.begin(key, at)
	}
	if len(w.pieces) == maxFragments {
		f.drop(key)
		return nil, nil
	}
	w.pieces = append(w.pieces, keptPiece{p.offset, slices.Clone(p.data)})
	w.refs = append(w.refs, r)
	w.bytes += len(p.data)
	f.held += len(p.data)
	if !p.more {
		w.total = p.offset + len(p.data)
	}
	if w.total < 0 || w.bytes < w.total {
		f.shrink()
		return nil, nil
	}
	data = w.assemble()
	if data == nil {
		return nil, nil
	}
	refs = w.refs
	f.drop(key)
	return data, refs
}

func (f *fragments) begin(key fragmentKey, at time.Duration) *partial {
	if f.waiting == nil {
		f.waiting = make(map[fragmentKey]*partial)
	}
	w := &partial{began: at, total: -1}
	f.waiting[key] = w
	f.order = append(f.order, key)
	return w
}

// shrink forgets the oldest where too much waits.
func (f *fragments) shrink() {
	for (len(f.waiting) > maxWaiting || f.held > maxHeld) && len(f.order) > 0 {
		f.drop(f.order[0])
		f.order = f.order[1:]
	}
	if len(f.order) > 4*maxWaiting {
		f.order = slices.DeleteFunc(f.order, func(k fragmentKey) bool { return f.waiting[k] == nil })
	}
}

func (f *fragments) drop(key fragmentKey) {
	if w := f.waiting[key]; w != nil {
		f.held -= w.bytes
		delete(f.waiting, key)
	}
}

// assemble returns the whole, or nil where pieces are missing. What came first
// counts where pieces overlap.
func (p *partial) assemble() []byte {
	pieces := slices.Clone(p.pieces)
	slices.SortStableFunc(pieces, func(a, b keptPiece) int { return cmp.Compare(a.offset, b.offset) })
	out := make([]byte, 0, p.total)
	for _, k := range pieces {
		if k.offset > len(out) {
			return nil
		}
		if skip := len(out) - k.offset; skip < len(k.data) {
			out = append(out, k.data[skip:]...)
		}
	}
	if len(out) != p.total {
		return nil
	}
	return out
}
