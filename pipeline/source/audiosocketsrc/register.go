package audiosocketsrc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Announcement is what the HTTP API is told of a UUID.
type Announcement struct {
	announce.Call
	// Leg is whose voice the socket brings. Two sockets of one call, one of
	// each leg, are heard together.
	Leg announce.Leg `json:"leg,omitempty"`
}

// two reports whether the call may have another socket.
func (a *Announcement) two() bool { return a.Call.Call != "" && audio.Leg(a.Leg) != audio.Unknown }

var errFull = errors.New("too many calls are announced")

// register is what is announced, by UUID, for a while.
type register struct {
	most int
	keep time.Duration

	mu    sync.Mutex
	known map[string]entry
	news  chan struct{} // closed and replaced when something is announced
}

type entry struct {
	Announcement
	until time.Time
}

func newRegister(most int, keep time.Duration) *register {
	return &register{most: most, keep: keep, known: make(map[string]entry), news: make(chan struct{})}
}

// put announces uuid; what was announced before counts no more, and put
// reports that there was something. It returns errFull where there is no room.
func (r *register) put(uuid string, a Announcement) (replaced bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, replaced = r.known[uuid]
	if !replaced && len(r.known) >= r.most {
		r.sweep()
		if len(r.known) >= r.most {
			return false, fmt.Errorf("%w: %d", errFull, r.most)
		}
	}
	r.known[uuid] = entry{a, time.Now().Add(r.keep)}
	close(r.news)
	r.news = make(chan struct{})
	return replaced, nil
}

func (r *register) sweep() {
	now := time.Now()
	for uuid, e := range r.known {
		if now.After(e.until) {
			delete(r.known, uuid)
		}
	}
}

// get returns what is announced of uuid, and what will be closed when there is
// news.
func (r *register) get(uuid string) (a Announcement, ok bool, news <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.known[uuid]
	if ok && time.Now().After(e.until) {
		delete(r.known, uuid)
		ok = false
	}
	return e.Announcement, ok, r.news
}

func (r *register) remove(uuid string) (removed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, removed = r.known[uuid]
	delete(r.known, uuid)
	return removed
}

// wait returns what is announced of uuid, or will be within a time.
func (r *register) wait(ctx context.Context, uuid string, within time.Duration) (a Announcement, ok bool) {
	t := time.NewTimer(within)
	defer t.Stop()
	for {
		a, ok, news := r.get(uuid)
		if ok {
			return a, true
		}
		select {
		case <-news:
		case <-t.C:
			return a, false
		case <-ctx.Done():
			return a, false
		}
	}
}
