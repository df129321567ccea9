package natssink

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// ErrClosed is what Publish returns after Close.
var ErrClosed = errors.New("nats sink is closed")

// letter is one event on its way.
type letter struct {
	lane    string
	subject string
	header  nats.Header
	payload []byte
	size    int  // bytes that it takes of the outbox
	stored  bool // in the stream, which confirms it; a transcript is not
}

// lane holds the letters of one call in order. At most one of them is under
// way at a time: a retry can then never overtake or fall behind another.
type lane struct {
	letters []*letter
}

// outbox keeps what Publish took until the server has confirmed it, and the
// accounts. Its methods may be called from any goroutine.
type outbox struct {
	maxEvents, maxBytes int
	wake                chan struct{} // capacity 1: there may be something to send; many senders, never closed

	mu        sync.Mutex
	lanes     map[string]*lane
	ready     []string // lanes whose first letter may go
	bytes     int
	stats     Stats
	refusal   error         // the first permanent refusal
	broken    error         // why nothing more can be delivered at all
	closed    bool          // Publish refuses
	room      chan struct{} // closed and made anew whenever there is more room
	settled   chan struct{} // closed once closed is set and nothing is pending, or broken is set
	isSettled bool
}

func newOutbox(maxEvents, maxBytes int) *outbox {
	return &outbox{
		maxEvents: maxEvents, maxBytes: maxBytes,
		wake:  make(chan struct{}, 1),
		lanes: map[string]*lane{}, room: make(chan struct{}), settled: make(chan struct{}),
	}
}

// put takes l, waiting for room until ctx ends. A letter larger than the whole
// outbox fits when it is empty.
func (o *outbox) put(ctx context.Context, l *letter) error {
	o.mu.Lock()
	for o.broken == nil && !o.closed && o.stats.Pending > 0 &&
		(o.stats.Pending >= o.maxEvents || o.bytes+l.size > o.maxBytes) {
		room := o.room
		o.mu.Unlock()
		select {
		case <-ctx.Done():
			return fmt.Errorf("outbox is full: %w", ctx.Err())
		case <-room:
		}
		o.mu.Lock()
	}
	defer o.mu.Unlock()
	if o.broken != nil {
		return o.broken
	}
	if o.closed {
		return ErrClosed
	}
	o.stats.Published++
	o.stats.Pending++
	o.bytes += l.size
	ln := o.lanes[l.lane]
	if ln == nil {
		ln = new(lane)
		o.lanes[l.lane] = ln
	}
	ln.letters = append(ln.letters, l)
	if len(ln.letters) == 1 {
		o.ready = append(o.ready, l.lane)
		o.knock()
	}
	return nil
}

// next takes the next letter that may go, nil if there is none. Exactly one of
// delivered, refused and again must follow for it.
func (o *outbox) next() *letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.ready) == 0 || o.broken != nil {
		return nil
	}
	ln := o.lanes[o.ready[0]]
	o.ready = o.ready[1:]
	return ln.letters[0]
}

// delivered settles l: the server has it.
func (o *outbox) delivered(l *letter, duplicate bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if duplicate {
		o.stats.Duplicates++
	} else {
		o.stats.Delivered++
	}
	o.settle(l)
}

// refused settles l: the server will never take it.
func (o *outbox) refused(l *letter, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stats.Failed++
	if o.refusal == nil {
		o.refusal = err
	}
	o.settle(l)
}

// recall counts a transcript as refused that was taken for delivered: a server
// says so late.
func (o *outbox) recall(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stats.Delivered > 0 {
		o.stats.Delivered--
		o.stats.Failed++
	}
	if o.refusal == nil {
		o.refusal = err
	}
}

// again puts l back at the head of its lane.
func (o *outbox) again(l *letter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready = append(o.ready, l.lane)
	o.knock()
}

// settle removes the first letter of its lane. o.mu is held.
func (o *outbox) settle(l *letter) {
	o.stats.Pending--
	o.bytes -= l.size
	ln := o.lanes[l.lane]
	ln.letters[0] = nil
	ln.letters = ln.letters[1:]
	if len(ln.letters) == 0 {
		delete(o.lanes, l.lane)
	} else {
		o.ready = append(o.ready, l.lane)
	}
	if len(o.ready) > 0 {
		o.knock()
	}
	close(o.room)
	o.room = make(chan struct{})
	o.maybeSettled()
}

// shut makes put refuse, also those that wait in it.
func (o *outbox) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	close(o.room)
	o.room = make(chan struct{})
	o.maybeSettled()
}

// fail ends all delivery for good.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken != nil {
		return
	}
	o.broken = err
	close(o.room)
	o.room = make(chan struct{})
	o.maybeSettled()
}

func (o *outbox) maybeSettled() {
	if !o.isSettled && (o.broken != nil || o.closed && o.stats.Pending == 0) {
		o.isSettled = true
		close(o.settled)
	}
}

func (o *outbox) knock() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// account is a snapshot.
func (o *outbox) account() (st Stats, refusal, broken error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stats, o.refusal, o.broken
}
