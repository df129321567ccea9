// Package source says how calls come in. Each way in is a folder below it.
package source

import (
	"context"
	"errors"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Call is one call as a source hands it over.
type Call struct {
	ID         string            // unique within the tenant; a legal NATS subject token
	Tenant     string            // a legal NATS subject token; "default" where there is none
	Source     string            // name of the way in, such as "file"
	Legs       []audio.Leg       // the legs that Audio will yield
	Attributes map[string]string // what the source knows beside the audio: numbers, names, file
	Began      time.Time         // zero where unknown, as in a recording
	Duration   time.Duration     // zero where unknown
	// Live audio cannot wait: what a leg's queue has no room for is dropped,
	// counted and reported. Recorded audio waits instead.
	Live  bool
	Audio audio.Reader
	// Listen is "full" or "screen" where this call is listened to in another
	// way than others.
	Listen string
	// Language is what is spoken, BCP 47; empty where that is not known, or as
	// for all calls.
	Language string
	// Admitted, where not nil, is called by the handler once it is sure that it
	// will listen, and before it reads Audio: the source answers its peer only
	// then. A handler that returns without having called it has refused the
	// call: with an error wrapping ErrBusy for want of room, with nil because it
	// is none of ours to hear. It does not block and may be called again.
	Admitted func()
	// Peer is who the call came from, where the protocol has a way back; else
	// nil.
	Peer Peer
	// Hypotheses also wants transcript segments that are not final, as for
	// somebody who watches the words come.
	Hypotheses bool
	// Warnings, where not nil, is asked once Audio has ended for what was
	// wrong with it and heard nevertheless, in sentences.
	Warnings func() []string
}

// Peer is the other end of a call's connection, and can be told what becomes
// of the call. It may be a [Player] too.
type Peer interface {
	// Tell sends ev, an event of this call, in the protocol's own shape. It does
	// not wait for the peer: what cannot be sent, because the peer does not read
	// or is gone, is counted by the source and gone. An event for which the
	// protocol has no shape is passed over. The events of a call come one at a
	// time, in order, and none once its Handler has returned.
	Tell(ev sink.Event)
}

// Player is a Peer into whose call something can be said. The Peer of a call
// where the protocol could and this connection cannot is none.
type Player interface {
	Peer
	// Play says p to the call, after what is being said already. It does not
	// wait until it was heard; its error says why it never will be.
	Play(p Prompt) error
}

// Prompt is something to say: mono samples at Rate Hz, which the source brings
// to the rate of its protocol.
type Prompt struct {
	ID   string // its name in the configuration
	Text string // what it says
	Rate int
	PCM  []int16
}

// ErrNoRoom says that a prompt is not played because too much is waiting.
var ErrNoRoom = errors.New("too much is waiting to be said")

// Stats are what a live way in counts since its start; Calls is of the moment.
type Stats struct {
	Calls, Legs                   int
	Begun, Refused                uint64 // calls
	Packets, Bytes                uint64 // of media, that belonged to a call
	Lost, Late, Duplicate         uint64 // packets
	Stranger, Malformed, Unplaced uint64 // packets of no call, not understood, without room
	Told, Untold                  uint64 // events sent to peers, and those that could not be
}

// Add adds what b counts, calls of the moment included.
func (s *Stats) Add(b Stats) {
	s.Calls += b.Calls
	s.Legs += b.Legs
	s.Begun += b.Begun
	s.Refused += b.Refused
	s.Packets += b.Packets
	s.Bytes += b.Bytes
	s.Lost += b.Lost
	s.Late += b.Late
	s.Duplicate += b.Duplicate
	s.Stranger += b.Stranger
	s.Malformed += b.Malformed
	s.Unplaced += b.Unplaced
	s.Told += b.Told
	s.Untold += b.Untold
}

// Counted is a Source that counts. Stats may be called from any goroutine.
type Counted interface {
	Stats() Stats
}

// ErrBusy says that a call is not listened to for want of room. A source whose
// protocol has an answer for that gives it.
var ErrBusy = errors.New("not monitored: busy")

// Handler listens to one call and returns when it is over; with an error
// wrapping [ErrBusy] at once where there is no room for it.
type Handler func(ctx context.Context, call *Call) error

// Source takes calls in. Serve blocks until ctx ends or the source has no more
// calls, running handle once per call; it returns after every handle has
// returned.
//
// When ctx ends a live source takes no new calls, and goes on serving those
// that it has, media and signalling, until their handles return: how long that
// may take is decided by whoever gave it the handler, whose calls may outlive
// ctx by a grace time. A live source has its addresses when it is made, so that
// an address that cannot be had is told at the start; one that is not served
// has to be closed.
type Source interface {
	Serve(ctx context.Context, handle Handler) error
}

// Pause waits for d, before something is tried again, and reports whether ctx
// still goes on.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
