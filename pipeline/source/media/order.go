package media

import (
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// Sequence numbers that are so far off are not of packets that were lost
	// or late, but of a sender that began anew: RFC 3550 appendix A.1.
	maxDropout  = 3000
	maxMisorder = 100

	// slots is how many packets may wait for missing ones, and the missing
	// ones with them. A power of two.
	slots = 32

	// A source that was not heard for so long makes room for another at once.
	// Before, two packets in sequence must come of the new one, and none of the
	// old between them.
	yields = 500 * time.Millisecond
)

// order puts packets into the order of their sequence numbers.
type order struct {
	started bool
	ssrc    uint32
	next    uint16        // sequence number that is due
	seen    uint64        // bit i: the packet i+1 before next came
	heard   time.Duration // when the source was last heard

	waiting int                // packets in held
	held    *[slots]heldPacket // by sequence number; nil until needed
	since   time.Duration      // when the first came that waits for the same missing ones

	stray    heldPacket // the first packet of what may be a new source, or sequence
	straying bool
}

// heldPacket is a packet with a payload of its own, whose memory is used again.
type heldPacket struct {
	packet
	at   time.Duration
	full bool
}

func (h *heldPacket) keep(p packet, at time.Duration) {
	own := h.payload[:0]
	own = append(own, p.payload...)
	h.packet, h.at, h.full = p, at, true
	h.payload = own
}

// place hears a packet, or keeps it until its turn.
func (t *Track) place(out []audio.Frame, p packet, at time.Duration) []audio.Frame {
	o := &t.order
	if !o.started {
		o.started = true
		t.begins(p)
	}
	ahead := int(int16(p.sequence - o.next))
	if p.ssrc != o.ssrc || ahead < -maxMisorder || ahead > maxDropout {
		return t.astray(out, p, at)
	}
	o.heard, o.straying = at, false
	if c := t.types[p.payloadType]; c != nil {
		t.report.add(p, at, c.ClockHz)
	}
	switch {
	case ahead < 0:
		if -ahead <= 64 && o.seen>>(-ahead-1)&1 == 0 {
			t.stats.Late++
		} else {
			t.stats.Duplicate++
		}
		return out
	case ahead == 0:
		o.pass(true)
		return t.drain(t.play(out, p, at, 0))
	}
	return t.hold(out, p, at)
}

// begins makes p the first packet of its source.
func (t *Track) begins(p packet) {
	t.order.ssrc, t.order.next, t.order.seen = p.ssrc, p.sequence, ^uint64(0)
	t.report.begin(p)
}

// pass counts one sequence number as done.
func (o *order) pass(came bool) {
	o.seen <<= 1
	if came {
		o.seen |= 1
	}
	o.next++
}

// hold keeps a packet that is ahead of its turn.
func (t *Track) hold(out []audio.Frame, p packet, at time.Duration) []audio.Frame {
	o := &t.order
	if o.held == nil {
		o.held = new([slots]heldPacket)
	}
	for int(int16(p.sequence-o.next)) >= slots && o.waiting > 0 {
		out = t.release(out)
	}
	if missing := int(int16(p.sequence - o.next)); missing >= slots || missing == 0 {
		// A long loss: nothing that came shortly before it is on its way.
		t.missed(missing)
		o.pass(true)
		return t.drain(t.play(out, p, at, missing))
	}
	h := &o.held[p.sequence%slots]
	if h.full {
		t.stats.Duplicate++
		return out
	}
	if o.waiting == 0 {
		o.since = at
	}
	h.keep(p, at)
	o.waiting++
	return out
}

// missed gives up n packets.
func (t *Track) missed(n int) {
	t.stats.Lost += uint64(n)
	for range n {
		t.order.pass(false)
	}
}

// release gives up the missing packets that the next ones wait for.
func (t *Track) release(out []audio.Frame) []audio.Frame {
	o := &t.order
	n := 0
	for !o.held[(o.next+uint16(n))%slots].full {
		n++
	}
	t.missed(n)
	return t.take(out, n)
}

// take hears the held packet that is due.
func (t *Track) take(out []audio.Frame, lost int) []audio.Frame {
	o := &t.order
	h := &o.held[o.next%slots]
	h.full = false
	o.waiting--
	o.pass(true)
	return t.drain(t.play(out, h.packet, h.at, lost))
}

// drain hears what waits no longer.
func (t *Track) drain(out []audio.Frame) []audio.Frame {
	o := &t.order
	for o.waiting > 0 && o.held[o.next%slots].full {
		h := &o.held[o.next%slots]
		h.full = false
		o.waiting--
		o.pass(true)
		out = t.play(out, h.packet, h.at, 0)
	}
	if o.waiting > 0 {
		o.since = t.now
		for i := range o.held {
			if h := &o.held[i]; h.full {
				o.since = min(o.since, h.at)
			}
		}
	}
	return out
}

// astray takes a packet that does not go on from those before it.
func (t *Track) astray(out []audio.Frame, p packet, at time.Duration) []audio.Frame {
	o := &t.order
	follows := o.straying && p.ssrc == o.stray.ssrc && p.sequence == o.stray.sequence+1
	if !follows && at-o.heard < yields {
		if o.straying {
			t.stats.Foreign++
		}
		o.straying = true
		o.stray.keep(p, at)
		return out
	}
	for o.waiting > 0 {
		out = t.release(out)
	}
	t.stats.Changes++
	first := p
	if follows {
		first = o.stray.packet
	}
	if first.ssrc != o.ssrc {
		// Another source has another clock, and maybe another voice.
		out = t.hand(out)
		t.clock.hz = 0
	}
	t.begins(first)
	o.straying = false
	if follows {
		out = t.place(out, first, o.stray.at)
	}
	return t.place(out, p, at)
}
