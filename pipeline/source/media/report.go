package media

import "time"

// reception is what a receiver report tells of a source, RFC 3550 section
// 6.4.1.
type reception struct {
	ssrc          uint32
	first, newest uint32 // extended sequence numbers
	received      uint32
	transit       uint32 // of the last packet, in clock units
	timed         bool   // transit is known
	jitter        uint32 // times 16

	expectedBefore, receivedBefore uint32 // at the last report
}

// begin forgets the source that was.
func (r *reception) begin(p packet) {
	*r = reception{ssrc: p.ssrc, first: uint32(p.sequence), newest: uint32(p.sequence)}
}

// add counts a packet that came.
func (r *reception) add(p packet, at time.Duration, clockHz int) {
	r.received++
	if d := int16(p.sequence - uint16(r.newest)); d > 0 {
		r.newest += uint32(d)
	}
	// Appendix A.8.
	now := uint32(samples(at, clockHz))
	transit := now - p.timestamp
	if r.timed {
		d := int64(int32(transit - r.transit))
		r.jitter += uint32(max(d, -d)) - (r.jitter+8)>>4
	}
	r.transit, r.timed = transit, true
}

// lost are the counts of appendix A.3: since the source began, limited to 24
// bits, and the share since the last call in 1/256.
func (r *reception) lost() (total uint32, share uint8) {
	expected := r.newest - r.first + 1
	missing := int64(expected) - int64(r.received)
	total = uint32(min(max(missing, -1<<23), 1<<23-1)) & 0xffffff
	expectedNow, receivedNow := expected-r.expectedBefore, r.received-r.receivedBefore
	r.expectedBefore, r.receivedBefore = expected, r.received
	if missingNow := int64(expectedNow) - int64(receivedNow); expectedNow > 0 && missingNow > 0 {
		share = uint8(min(255, missingNow*256/int64(expectedNow)))
	}
	return total, share
}
