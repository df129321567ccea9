package remote

import (
	"math"
	"slices"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// item is some audio of a leg, or a pause in it.
type item struct {
	start time.Duration
	data  []byte // samples, 16 bits, little-endian; none in a pause
	pause bool
}

// ring keeps what a leg has said and nobody has settled. Items are numbered
// from 0 over its life.
type ring struct {
	rateHz int
	limit  time.Duration
	items  []item
	first  int           // number of items[0]
	held   int           // samples
	lost   time.Duration // audio that had to go for want of room
}

// next is the number that the next item will have.
func (r *ring) next() int { return r.first + len(r.items) }

// end is the media time just after an item.
func (r *ring) end(it item) time.Duration { return it.start + audio.Span(len(it.data)/2, r.rateHz) }

// push appends an item and forgets the oldest where there is no room: what is
// forgotten will not be heard again.
func (r *ring) push(it item) {
	r.items = append(r.items, it)
	r.held += len(it.data) / 2
	n := 0
	for audio.Span(r.held, r.rateHz) > r.limit {
		r.lost += audio.Span(len(r.items[n].data)/2, r.rateHz)
		r.held -= len(r.items[n].data) / 2
		n++
	}
	r.drop(n)
}

func (r *ring) drop(n int) {
	if n > 0 {
		r.items = slices.Delete(r.items, 0, n)
		r.first += n
	}
}

// take is what is to be sent from item n on, and how many items it is: a
// pause, or audio that belongs together, up to a second of it and not beyond
// item until.
func (r *ring) take(n, until int) (msg item, count int) {
	n = max(n, r.first)
	if n >= r.next() {
		return item{}, 0
	}
	msg, count = r.items[n-r.first], 1
	if msg.pause {
		return msg, 1
	}
	most := 2 * r.rateHz
	end := r.end(msg)
	whole := msg.data
	for _, it := range r.items[n-r.first+1:] {
		apart := it.start - end
		if it.pause || n+count >= until || apart > r.sample() || len(whole)+len(it.data) > most {
			break
		}
		if count == 1 {
			whole = append(make([]byte, 0, most), whole...)
		}
		whole = append(whole, it.data...)
		end = r.end(it)
		count++
	}
	msg.data = whole
	return msg, count
}

// sample is how long one is, and a little: what is nearer belongs together.
func (r *ring) sample() time.Duration { return time.Second / time.Duration(r.rateHz) }

// settle forgets what lies before the media time at, of the items before
// number sent.
func (r *ring) settle(at time.Duration, sent int) {
	n := 0
	for n < len(r.items) && r.first+n < sent {
		it := &r.items[n]
		if !it.pause && r.end(*it) > at {
			if cut := int(math.Floor((at - it.start).Seconds() * float64(r.rateHz))); cut > 0 {
				it.data = it.data[2*cut:]
				it.start += audio.Span(cut, r.rateHz)
				r.held -= cut
			}
			break
		}
		r.held -= len(it.data) / 2
		n++
	}
	r.drop(n)
}

// after is how much audio there is from item n on.
func (r *ring) after(n int) time.Duration {
	samples := 0
	for _, it := range r.items[min(max(n-r.first, 0), len(r.items)):] {
		samples += len(it.data) / 2
	}
	return audio.Span(samples, r.rateHz)
}

// cut takes the item with a number out.
func (r *ring) cut(n int) (gone time.Duration) {
	i := n - r.first
	if i < 0 || i >= len(r.items) {
		return 0
	}
	gone = r.end(r.items[i]) - r.items[i].start
	r.held -= len(r.items[i].data) / 2
	r.items[i] = item{start: r.items[i].start} // its number stays
	return gone
}
