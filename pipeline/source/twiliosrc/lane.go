package twiliosrc

import (
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// mostHeld is how many messages of a track may wait for one that is
	// missing: the longest window of the shortest messages, 10 ms.
	mostHeld = 100

	// A stamp may be this far ahead of the clock: beyond it it counts something
	// else than milliseconds, and is not looked at any more.
	trusted = time.Second
	// Nor is it after so many messages in a row that seem to be of the past.
	backwards = 25

	mostStamp = 9e12 // milliseconds: what nanoseconds in 64 bits can hold

	// drift is how far stamps and samples may differ before the clock jumps:
	// less is the difference between two crystals.
	drift = 100 * time.Millisecond
)

// lane is one track of a stream: it puts its messages in order, by their
// stamps, and their audio on the clock. It is arithmetic only.
type lane struct {
	websock.Track
	decoder
	window time.Duration
	count  *websock.Counters
	base   *base // shared by both lanes

	begun    bool
	distrust bool          // stamps are of no use
	next     time.Duration // stamp that is due
	chunk    count         // of the message that was played last
	step     int64         // from chunk to chunk: 1, or 2 where the tracks share the count; 0 not known
	back     int           // messages in a row that were of the past
	held     []held
	spare    [][]byte // payloads of held that are free again
	pace     websock.Pace
	raw      []byte
}

// base is where stamp 0 of a stream is on the call's clock.
type base struct {
	known bool
	at    time.Duration
}

type held struct {
	stamp   time.Duration
	chunk   count
	payload []byte // decoded from base64
	came    time.Duration
}

var errBase64 = errors.New("a payload that is not base64")

// take takes a message that came at the time at. Its error is why the stream
// cannot go on.
func (l *lane) take(m media, at time.Duration) error {
	payload, err := l.unwrap(m.payload)
	if err != nil {
		return err
	}
	n := l.samples(len(payload))
	if n == 0 {
		return nil
	}
	span := audio.Span(n, l.rateHz)
	if err := l.pace.Note(at, span, l.rateHz); err != nil {
		return &websock.Fault{Status: websock.Invalid, Why: err.Error()}
	}
	l.count.Packets.Add(1)
	l.count.Bytes.Add(uint64(len(payload)))
	if !m.stamp.ok || m.stamp.n > mostStamp || l.distrust {
		l.arrived(m, payload, at)
		return nil
	}
	stamp := time.Duration(m.stamp.n) * time.Millisecond
	if !l.base.known {
		l.base.known, l.base.at = true, max(at-span, 0)-stamp
	}
	if !l.begun {
		l.hold(held{stamp: stamp, chunk: m.chunk, payload: payload, came: at})
		l.begin(at)
		return nil
	}
	switch ahead := stamp - l.next; {
	case ahead < -span/2:
		l.late(m.chunk, payload, at)
	case ahead <= span/2:
		l.play(stamp, m.chunk, payload)
		l.drain(at)
	case l.base.at+stamp-at > trusted:
		l.distrust = true
		l.release()
		l.arrived(m, payload, at)
	default:
		l.hold(held{stamp: stamp, chunk: m.chunk, payload: payload, came: at})
		l.drain(at)
	}
	return nil
}

// begin begins with the first message, or when it has been waited for long
// enough.
func (l *lane) begin(at time.Duration) {
	first := l.held[0]
	if first.stamp > 0 && first.chunk.n > 1 && !l.waited(at) {
		return
	}
	l.begun, l.next = true, first.stamp
	l.drain(at)
}

// waited reports whether what is held has waited for its turn long enough.
func (l *lane) waited(at time.Duration) bool {
	return len(l.held) > mostHeld || slices.ContainsFunc(l.held, func(h held) bool { return at-h.came >= l.window })
}

// unwrap is the payload without base64, good until the next.
func (l *lane) unwrap(text []byte) ([]byte, error) {
	if n := base64.StdEncoding.DecodedLen(len(text)); cap(l.raw) < n {
		l.raw = make([]byte, n)
	}
	l.raw = l.raw[:cap(l.raw)]
	n, err := base64.StdEncoding.Decode(l.raw, text)
	if err != nil { // some leave out the filling
		n, err = base64.RawStdEncoding.Decode(l.raw, text)
	}
	if err != nil {
		return nil, errBase64
	}
	return l.raw[:n], nil
}

// arrived places audio by when it came.
func (l *lane) arrived(m media, payload []byte, at time.Duration) {
	if m.chunk.ok && l.chunk.ok && m.chunk.n <= l.chunk.n && l.back < backwards {
		l.back++
		l.count.Late.Add(1)
		return
	}
	l.back = 0
	if m.chunk.ok {
		l.chunk = m.chunk
	}
	l.Came(at, l.rateHz, l.samples(len(payload)), func(dst []int16) []int16 { return l.decode(dst, payload) })
}

// late counts a message whose time is over. Many in a row are a peer whose
// stamps have begun anew, or never meant anything.
func (l *lane) late(chunk count, payload []byte, at time.Duration) {
	if l.back++; l.back >= backwards {
		l.distrust, l.chunk = true, count{}
		l.release()
		l.arrived(media{chunk: chunk}, payload, at)
		return
	}
	if chunk.ok && l.chunk.ok && chunk.n == l.chunk.n {
		l.count.Duplicate.Add(1)
		return
	}
	l.count.Late.Add(1)
}

// hold keeps a message until those before it have come.
func (l *lane) hold(h held) {
	i, twice := slices.BinarySearchFunc(l.held, h.stamp, func(a held, stamp time.Duration) int { return int(a.stamp - stamp) })
	if twice {
		l.count.Duplicate.Add(1)
		return
	}
	var own []byte
	if n := len(l.spare); n > 0 {
		own, l.spare = l.spare[n-1][:0], l.spare[:n-1]
	}
	h.payload = append(own, h.payload...)
	l.held = slices.Insert(l.held, i, h)
}

// drain plays what was held as far as it follows, and what has waited too long.
func (l *lane) drain(at time.Duration) {
	if len(l.held) > 0 && !l.begun {
		l.begin(at)
		return
	}
	for len(l.held) > 0 {
		h := l.held[0]
		span := audio.Span(l.samples(len(h.payload)), l.rateHz)
		switch ahead := h.stamp - l.next; {
		case ahead < -span/2: // what was due came twice
			l.count.Duplicate.Add(1)
		case ahead <= span/2, l.waited(at):
			l.play(h.stamp, h.chunk, h.payload)
		default:
			return
		}
		l.held = slices.Delete(l.held, 0, 1)
		l.spare = append(l.spare, h.payload)
	}
}

// release plays everything that is held.
func (l *lane) release() { l.drain(1 << 62) }

// play hears a message whose turn it is. What is missing before it was lost
// where the count says so, else nothing was sent.
func (l *lane) play(stamp time.Duration, chunk count, payload []byte) {
	n := l.samples(len(payload))
	span := audio.Span(n, l.rateHz)
	hole := stamp - l.next
	lost := int64(0)
	switch {
	case chunk.ok && l.chunk.ok && l.step > 0:
		lost = (chunk.n-l.chunk.n)/l.step - 1
	case chunk.ok && l.chunk.ok:
	default:
		lost = int64((hole + span/2) / span)
	}
	if hole <= span/2 {
		if chunk.ok && l.chunk.ok {
			if step := chunk.n - l.chunk.n; step == 1 || step == 2 {
				l.step = step
			}
		}
		lost = 0
	}
	place := l.base.at + stamp
	switch {
	case lost > 0:
		l.count.Lost.Add(uint64(min(lost, int64(hole/span)+1)))
		l.Lose(place)
	case place-l.End() > drift:
		l.Skip(place)
	}
	l.back = 0
	l.chunk, l.next = chunk, stamp+span
	l.Add(l.rateHz, n, func(dst []int16) []int16 { return l.decode(dst, payload) })
}

// tick hears what was held, and says that nothing came.
func (l *lane) tick(at time.Duration) {
	l.drain(at)
	l.Mark(at)
}

// end makes ready what is left.
func (l *lane) end() {
	l.release()
	l.Flush()
}
