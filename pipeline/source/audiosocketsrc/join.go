package audiosocketsrc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// joint is a call that has begun, or waits for its second socket.
type joint struct {
	first, second  *socket
	side           audio.Leg // of the first
	announced      [2]Announcement
	open           bool          // the second may come yet
	complete, over chan struct{} // closed when the second has come, and when the call has ended
}

// joints are the calls of the moment, by tenant and id.
type joints struct {
	mu    sync.Mutex
	calls map[[2]string]*joint
}

// join gives sock its place. Either it begins a call, and leads is true: then
// the caller hears the call as id and calls leave; or it is the second leg of
// one, and the caller waits for its end. A socket that comes too late for the
// call it belongs to begins one of its own, whose id tells where it belongs.
func (js *joints) join(sock *socket, tenant, id string, a Announcement) (call *joint, own string, leads bool) {
	js.mu.Lock()
	defer js.mu.Unlock()
	side := audio.Leg(a.Leg)
	if j := js.calls[[2]string{tenant, id}]; j != nil {
		if j.open && side == j.side.Other() {
			j.open = false
			j.second, j.announced[1] = sock, a
			close(j.complete)
			return j, id, false
		}
		if side != audio.Unknown {
			id += "-" + side.String()
		}
	}
	own = id
	for n := 2; js.calls[[2]string{tenant, own}] != nil; n++ {
		own = fmt.Sprintf("%s-%d", id, n)
	}
	j := &joint{
		first: sock, side: side, announced: [2]Announcement{a},
		open: own == a.Call.Call && a.two(), complete: make(chan struct{}), over: make(chan struct{}),
	}
	js.calls[[2]string{tenant, own}] = j
	return j, own, true
}

// gather waits for the second socket of j, and returns the call's sockets with
// their sides. It reports where one was waited for in vain.
func (js *joints) gather(ctx context.Context, j *joint, within time.Duration) (sides []audio.Leg, sockets []*socket, alone bool) {
	js.mu.Lock()
	wait := j.open
	js.mu.Unlock()
	if wait {
		t := time.NewTimer(within)
		defer t.Stop()
		select {
		case <-j.complete:
		case <-t.C:
		case <-ctx.Done():
		}
	}
	js.mu.Lock()
	defer js.mu.Unlock()
	alone, j.open = j.open, false
	switch {
	case j.second == nil:
		return []audio.Leg{j.side}, []*socket{j.first}, alone
	case j.side == audio.Caller:
		return []audio.Leg{audio.Caller, audio.Callee}, []*socket{j.first, j.second}, false
	}
	return []audio.Leg{audio.Caller, audio.Callee}, []*socket{j.second, j.first}, false
}

// leave ends a call.
func (js *joints) leave(j *joint, tenant, id string) {
	js.mu.Lock()
	delete(js.calls, [2]string{tenant, id})
	js.mu.Unlock()
	close(j.over)
}
