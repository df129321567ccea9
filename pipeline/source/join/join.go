// Package join makes one call of two legs that come apart: two sockets, or two
// browsers, that name the same call.
package join

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// Place is where a part belongs.
type Place struct {
	Tenant, Call string
	Leg          audio.Leg
	Two          bool // whether another part, of the other leg, may come
}

// Table is the calls of the moment by tenant and id. P is what brings a leg.
// The zero value is empty and ready.
type Table[P any] struct {
	mu    sync.Mutex
	calls map[[2]string]*Call[P]
}

// Call is one that goes on, or that waits for its second part.
type Call[P any] struct {
	table    *Table[P]
	key      [2]string
	leg      audio.Leg // of the first part
	parts    []P       // one or two, as they came
	open     bool      // the second may come yet
	complete chan struct{}
	over     chan struct{}
}

// Join gives part its place. Either it begins a call, and leads is true: then
// the caller gathers, hears the call and leaves it; or it is the second part of
// one, whose leader has it from Gather. A part that comes too late for its call,
// or twice, begins one of its own, whose id tells where it belongs.
func (t *Table[P]) Join(at Place, part P) (call *Call[P], leads bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls == nil {
		t.calls = make(map[[2]string]*Call[P])
	}
	id := at.Call
	if c := t.calls[[2]string{at.Tenant, id}]; c != nil {
		if c.open && at.Two && at.Leg == c.leg.Other() {
			c.open = false
			c.parts = append(c.parts, part)
			close(c.complete)
			return c, false
		}
		if at.Leg != audio.Unknown {
			id += "-" + at.Leg.String()
		}
	}
	own := id
	for n := 2; t.calls[[2]string{at.Tenant, own}] != nil; n++ {
		own = fmt.Sprintf("%s-%d", id, n)
	}
	c := &Call[P]{
		table: t, key: [2]string{at.Tenant, own}, leg: at.Leg, parts: []P{part},
		open:     own == at.Call && at.Two && at.Leg != audio.Unknown,
		complete: make(chan struct{}), over: make(chan struct{}),
	}
	t.calls[c.key] = c
	return c, true
}

// ID is the call's: that of its place, or one made from it.
func (c *Call[P]) ID() string { return c.key[1] }

// Gather waits for the second part where one may come, and returns the parts
// with their legs, the caller's first. missing reports that one was waited for
// in vain. It is called once, by whoever leads.
func (c *Call[P]) Gather(ctx context.Context, within time.Duration) (legs []audio.Leg, parts []P, missing bool) {
	c.table.mu.Lock()
	wait := c.open
	c.table.mu.Unlock()
	if wait {
		t := time.NewTimer(within)
		defer t.Stop()
		select {
		case <-c.complete:
		case <-t.C:
		case <-ctx.Done():
		}
	}
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	missing, c.open = c.open, false
	switch {
	case len(c.parts) == 1:
		return []audio.Leg{c.leg}, c.parts, missing
	case c.leg == audio.Caller:
		return []audio.Leg{audio.Caller, audio.Callee}, c.parts, false
	}
	return []audio.Leg{audio.Caller, audio.Callee}, []P{c.parts[1], c.parts[0]}, false
}

// First is what began the call.
func (c *Call[P]) First() P {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	return c.parts[0]
}

// Over is closed when the call has been left.
func (c *Call[P]) Over() <-chan struct{} { return c.over }

// Leave ends the call. It is called once, by whoever leads.
func (c *Call[P]) Leave() {
	c.table.mu.Lock()
	delete(c.table.calls, c.key)
	c.open = false
	c.table.mu.Unlock()
	close(c.over)
}
