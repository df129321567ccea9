package webhooksink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// letter is one event on its way.
type letter struct {
	lane     callKey
	id, typ  string
	body     []byte
	taken    time.Time
	attempts int
	due      time.Time // not sent before
}

// letterOverhead is what a letter takes beside its body, in bytes, about.
const letterOverhead = 256

type callKey struct{ tenant, call string }

// endpoint delivers to one server. A lane is the events of one call, of which at
// most one is under way: a retry can then not overtake another.
type endpoint struct {
	cfg    Config
	to     Endpoint
	client *http.Client
	sign   signer
	log    *slog.Logger
	wake   chan struct{}      // capacity 1: something has changed; many senders, never closed
	cancel context.CancelFunc // ends run
	done   chan struct{}      // closed by run when it has ended

	mu       sync.Mutex
	reached  map[callKey]bool // calls that go on and have reached the level
	lanes    map[callKey][]*letter
	ready    []callKey // lanes whose first letter may go when it is due
	bytes    int
	sending  int
	failures int       // attempts in a row that failed
	pause    time.Time // nothing is sent before
	stopped  error     // the server wants nothing ever again
	lost     error     // why the first event was lost
	warned   time.Time // of want of room
	account  Stats
	closed   bool
	settled  chan struct{} // closed once closed is set and nothing waits
}

func newEndpoint(cfg Config, to Endpoint, log *slog.Logger) (*endpoint, error) {
	secrets, err := readSecrets(to.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	client, err := newClient(cfg, to)
	if err != nil {
		return nil, err
	}
	return &endpoint{
		cfg: cfg, to: to, client: client, sign: signer{secrets}, log: log,
		wake: make(chan struct{}, 1), done: make(chan struct{}), settled: make(chan struct{}),
		reached: make(map[callKey]bool), lanes: make(map[callKey][]*letter),
		account: Stats{Endpoint: to.Name},
	}, nil
}

// start delivers until close.
func (e *endpoint) start() {
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	go func() { // close waits for it
		defer close(e.done)
		e.run(ctx)
		e.client.CloseIdleConnections()
	}()
}

// wants reports whether ev is one for this endpoint.
func (e *endpoint) wants(ev sink.Event) bool {
	if len(e.to.Tenants) > 0 && !slices.Contains(e.to.Tenants, ev.Tenant) {
		return false
	}
	reached := e.hasReached(ev)
	if len(e.to.Types) > 0 && !slices.Contains(e.to.Types, string(ev.Type)) || len(e.to.Types) == 0 && ev.Type.Passing() {
		return false
	}
	return reached || ev.Type == sink.CallAction
}

// hasReached reports whether ev's call has reached the level, and keeps that
// until the call has ended.
func (e *endpoint) hasReached(ev sink.Event) bool {
	least := levels[e.to.Level]
	if least == callwardenv1.Level_LEVEL_UNSPECIFIED {
		return true
	}
	now := callwardenv1.Level_LEVEL_UNSPECIFIED
	if d, ok := ev.Data.(interface{ GetLevel() callwardenv1.Level }); ok {
		now = d.GetLevel()
	}
	key := callKey{ev.Tenant, ev.Call}
	e.mu.Lock()
	defer e.mu.Unlock()
	reached := e.reached[key] || now >= least
	switch {
	case ev.Type == sink.CallEnded:
		delete(e.reached, key)
	case reached:
		e.reached[key] = true
	}
	return reached
}

// take has the event delivered, or counts it as dropped.
func (e *endpoint) take(ev sink.Event, body []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	size := len(body) + letterOverhead
	if e.stopped != nil || e.account.Pending >= e.cfg.QueueEvents || e.bytes+size > e.cfg.QueueBytes && e.account.Pending > 0 {
		e.account.Dropped++
		e.warnOfRoom()
		return nil
	}
	e.account.Taken++
	e.account.Pending++
	e.bytes += size
	key := callKey{ev.Tenant, ev.Call}
	e.lanes[key] = append(e.lanes[key], &letter{lane: key, id: ev.ID, typ: string(ev.Type), body: body, taken: time.Now()})
	if len(e.lanes[key]) == 1 {
		e.ready = append(e.ready, key)
		e.knock()
	}
	return nil
}

// warnOfRoom warns at most once a minute that events are lost. e.mu is held.
func (e *endpoint) warnOfRoom() {
	if e.stopped != nil || time.Since(e.warned) < time.Minute {
		return
	}
	e.warned = time.Now()
	e.log.Warn("webhook endpoint has too many events waiting: new ones are lost to it", "endpoint", e.to.Name, "waiting", e.account.Pending, "lost", e.account.Dropped)
}

func (e *endpoint) knock() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run sends what may go until ctx ends.
func (e *endpoint) run(ctx context.Context) {
	var sending sync.WaitGroup
	defer sending.Wait()
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		l, wait := e.next(time.Now())
		if l != nil {
			sending.Go(func() { e.deliver(ctx, l) })
			continue
		}
		again.Reset(wait)
		select {
		case <-e.wake:
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// next takes the next letter that may go; where there is none it says how long
// that will certainly be so, unless run is woken.
func (e *endpoint) next(now time.Time) (l *letter, wait time.Duration) {
	const long = time.Hour
	e.mu.Lock()
	defer e.mu.Unlock()
	atOnce := e.cfg.AtOnce
	if e.failures > 0 { // one asks whether the server is back, not all
		atOnce = 1
	}
	if e.sending >= atOnce || len(e.ready) == 0 {
		return nil, long
	}
	if wait := e.pause.Sub(now); wait > 0 {
		return nil, wait
	}
	wait = long
	for i := 0; i < len(e.ready); i++ {
		l := e.lanes[e.ready[i]][0]
		if d := l.due.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		e.ready = slices.Delete(e.ready, i, i+1)
		if now.Sub(l.taken) > e.cfg.GiveUp {
			e.lose(l, fmt.Errorf("given up after %v", e.cfg.GiveUp))
			i = -1 // from the front: the lane's next may go
			continue
		}
		e.sending++
		return l, 0
	}
	return nil, wait
}

// deliver makes one attempt and settles what comes of it.
func (e *endpoint) deliver(ctx context.Context, l *letter) {
	said := e.post(ctx, l)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sending--
	e.account.Attempts++
	l.attempts++
	defer e.knock()
	if ctx.Err() != nil && said.err != nil { // close has given up
		e.ready = append(e.ready, l.lane)
		return
	}
	switch {
	case said.err == nil:
		e.up()
		e.account.Delivered++
		e.settle(l)
	case said.gone:
		e.stop(said.err)
		e.lose(l, said.err)
	case said.refused: // this one; the server is well
		e.up()
		e.log.Warn("webhook endpoint refuses an event", "endpoint", e.to.Name, "call", l.lane.call, "event", l.typ, "err", said.err)
		e.lose(l, said.err)
	case e.stopped != nil: // by another attempt
		e.lose(l, e.stopped)
	default:
		e.again(l, said)
	}
}

// again has l sent once more, later. e.mu is held.
func (e *endpoint) again(l *letter, said outcome) {
	e.failures++
	if e.failures == 1 {
		e.log.Warn("webhook endpoint does not take events, trying again", "endpoint", e.to.Name, "err", said.err)
	}
	e.account.Away = true
	now := time.Now()
	e.pause = now.Add(max(said.after, e.backOff(e.failures)))
	// Another event goes first next time: it may be this one that the server
	// does not bear.
	l.due = now.Add(max(said.after, e.backOff(l.attempts)))
	if len(e.ready) == 0 {
		l.due = e.pause
	}
	e.ready = append(e.ready, l.lane)
}

// backOff is how long to wait after n failures in a row: doubling, half of it by
// chance, so that many do not all come at once.
func (e *endpoint) backOff(n int) time.Duration {
	d := e.cfg.RetryFirst
	for ; n > 1 && d < e.cfg.RetryMost; n-- {
		d *= 2
	}
	d = min(d, e.cfg.RetryMost)
	return d/2 + rand.N(d/2+1)
}

// up notes that the server answers. e.mu is held.
func (e *endpoint) up() {
	if e.failures > 0 {
		e.log.Info("webhook endpoint takes events again", "endpoint", e.to.Name, "waiting", e.account.Pending)
	}
	e.failures, e.pause, e.account.Away = 0, time.Time{}, false
}

// stop loses all that waits: the server wants no more. e.mu is held.
func (e *endpoint) stop(why error) {
	if e.stopped == nil {
		e.log.Error("webhook endpoint is gone: nothing more is sent to it", "endpoint", e.to.Name, "err", why)
	}
	e.stopped, e.account.Away = why, true
	for _, key := range e.ready {
		for len(e.lanes[key]) > 0 {
			l := e.lanes[key][0]
			e.remove(l)
			e.account.Failed++
		}
	}
	e.ready = nil
}

// lose ends a letter that is never delivered. e.mu is held, and its lane is not
// among the ready.
func (e *endpoint) lose(l *letter, why error) {
	e.account.Failed++
	if e.lost == nil {
		e.lost = why
	}
	e.settle(l)
}

// settle removes the first letter of its lane and lets the next go. e.mu is
// held.
func (e *endpoint) settle(l *letter) {
	e.remove(l)
	if len(e.lanes[l.lane]) > 0 {
		if e.stopped != nil { // nor do those that came after it
			for len(e.lanes[l.lane]) > 0 {
				e.account.Failed++
				e.remove(e.lanes[l.lane][0])
			}
			return
		}
		e.ready = append(e.ready, l.lane)
	}
}

// remove takes the first letter of its lane off the accounts. e.mu is held.
func (e *endpoint) remove(l *letter) {
	e.account.Pending--
	e.bytes -= len(l.body) + letterOverhead
	lane := e.lanes[l.lane]
	lane[0] = nil
	if lane = lane[1:]; len(lane) == 0 {
		delete(e.lanes, l.lane)
	} else {
		e.lanes[l.lane] = lane
	}
	e.maybeSettled()
}

func (e *endpoint) maybeSettled() {
	if e.closed && e.account.Pending == 0 {
		select {
		case <-e.settled:
		default:
			close(e.settled)
		}
	}
}

// close waits until nothing waits, or ctx ends.
func (e *endpoint) close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.maybeSettled()
	e.mu.Unlock()
	select {
	case <-e.settled:
	case <-ctx.Done():
	}
	e.cancel()
	<-e.done
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	if n := e.account.Pending; n > 0 {
		errs = append(errs, fmt.Errorf("%d not delivered in time", n))
	}
	if n := e.account.Failed; n > 0 {
		errs = append(errs, fmt.Errorf("%d refused or given up: %w", n, e.why()))
	}
	if n := e.account.Dropped; n > 0 {
		errs = append(errs, fmt.Errorf("%d lost for want of room", n))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("webhook endpoint %s: of %d events %w", e.to.Name, e.account.Taken+e.account.Dropped, errors.Join(errs...))
}

// why is the reason of the first event that was lost. e.mu is held.
func (e *endpoint) why() error {
	if e.lost != nil {
		return e.lost
	}
	return e.stopped
}

func (e *endpoint) stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.account
}
