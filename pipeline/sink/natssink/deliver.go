package natssink

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxInFlight bounds what is sent and not yet confirmed, over all calls; past
// some hundreds a server gets no faster.
const maxInFlight = 512

// flight is what is under way on one connection. The client's callbacks settle
// letters from goroutines of their own.
type flight struct {
	s *Sink

	mu      sync.Mutex
	letters map[*nats.Msg]*letter
	trouble error         // something must be sent again: pause first
	landed  bool          // something was confirmed since the last pause
	changed chan struct{} // capacity 1: connected again; sent by callbacks, never closed
	fatal   context.CancelCauseFunc
}

// run delivers until ctx ends (nil) or it can never deliver again.
func (s *Sink) run(ctx context.Context, opts []nats.Option) error {
	ctx, fatal := context.WithCancelCause(ctx)
	defer fatal(nil)
	f := &flight{s: s, letters: map[*nats.Msg]*letter{}, changed: make(chan struct{}, 1), fatal: fatal}
	gone := make(chan struct{})
	nc, err := s.cfg.connect(ctx, append(opts,
		nats.ErrorHandler(f.onError),
		nats.DisconnectErrHandler(f.onDisconnect),
		nats.ReconnectHandler(f.onReconnect),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { s.setTrouble(fmt.Errorf("reconnecting to %s: %w", s.cfg.target(), err)) }),
		nats.ClosedHandler(func(*nats.Conn) { close(gone) }),
	), s.log, s.setTrouble)
	if err != nil {
		return notOurEnd(ctx, err)
	}
	defer func() {
		nc.Close()
		<-gone // the callbacks are over
	}()
	js, err := jetstream.New(nc,
		jetstream.WithPublishAsyncTimeout(s.cfg.AckWait),
		jetstream.WithPublishAsyncAckHandler(f.onAck),
		jetstream.WithPublishAsyncErrHandler(f.onRefusal))
	if err != nil {
		return fmt.Errorf("setting up JetStream: %w", err)
	}
	return notOurEnd(ctx, f.deliver(ctx, nc, js))
}

// notOurEnd is err, or what a callback ended ctx for; nil when Close ended it.
func notOurEnd(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// deliver alternates between making the stream stand and sending. Any trouble
// that passes leads back to the first, after a pause that grows.
func (f *flight) deliver(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
	attempt := 0
	for {
		err := f.setUp(ctx, nc, js)
		// A cluster that had JetStream may be without it for a while.
		if errors.Is(err, errStream) && !(f.wasReady() && errors.Is(err, nats.ErrNoResponders)) {
			return err
		}
		if err == nil {
			f.s.setTrouble(nil)
			err = f.send(ctx, nc, js)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.takeLanded() {
			attempt = 0
		}
		attempt++
		f.s.setTrouble(err)
		f.s.log.Debug("nats sink pauses", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.changed:
		case <-time.After(backOff(attempt)):
		}
	}
}

func (f *flight) setUp(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
	if !nc.IsConnected() {
		return fmt.Errorf("connecting to %s: %w", f.s.cfg.target(), nats.ErrDisconnected)
	}
	if f.s.cfg.ManageStream {
		ctx, cancel := context.WithTimeout(ctx, f.s.cfg.AckWait)
		defer cancel()
		if err := ensureStream(ctx, js, f.s.cfg, f.s.log); err != nil {
			return err
		}
	}
	if !f.wasReady() {
		close(f.s.ready) // run is the only one who closes it
	}
	return nil
}

func (f *flight) wasReady() bool {
	select {
	case <-f.s.ready:
		return true
	default:
		return false
	}
}

// send sends what may go until there is trouble.
func (f *flight) send(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
	for {
		var plain []*nats.Msg // transcripts, confirmed together
		for f.calm() && f.inFlight() < maxInFlight {
			l := f.s.box.next()
			if l == nil {
				break
			}
			if msg := f.post(nc, js, l); msg != nil && !l.stored {
				plain = append(plain, msg)
			}
		}
		if len(plain) > 0 {
			f.confirm(ctx, nc, plain)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.s.box.wake:
		}
		if err := f.takeTrouble(); err != nil {
			return err
		}
	}
}

// post sends one letter and returns its message, nil when it was settled at
// once.
func (f *flight) post(nc *nats.Conn, js jetstream.JetStream, l *letter) *nats.Msg {
	msg := &nats.Msg{Subject: l.subject, Header: l.header, Data: l.payload}
	f.mu.Lock()
	f.letters[msg] = l
	f.mu.Unlock()
	var err error
	if l.stored {
		_, err = js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0)) // we retry
	} else {
		err = nc.PublishMsg(msg)
	}
	if err != nil {
		f.settle(msg, err)
		return nil
	}
	return msg
}

// confirm waits until the server has read the transcripts sent to it: nobody
// acknowledges them one by one.
func (f *flight) confirm(ctx context.Context, nc *nats.Conn, sent []*nats.Msg) {
	ctx, cancel := context.WithTimeout(ctx, f.s.cfg.AckWait)
	defer cancel()
	err := nc.FlushWithContext(ctx)
	for _, msg := range sent {
		f.settle(msg, err)
	}
}

func (f *flight) onAck(_ jetstream.JetStream, msg *nats.Msg, ack *jetstream.PubAck) {
	if l := f.land(msg); l != nil {
		f.mu.Lock()
		f.landed = true
		f.mu.Unlock()
		f.s.box.delivered(l, ack.Duplicate)
	}
}

func (f *flight) onRefusal(_ jetstream.JetStream, msg *nats.Msg, err error) { f.settle(msg, err) }

// settle ends one attempt: delivered, refused for good, or to be sent again.
func (f *flight) settle(msg *nats.Msg, err error) {
	l := f.land(msg)
	if l == nil {
		return // an attempt that was given up before
	}
	switch {
	case err == nil:
		f.s.box.delivered(l, false)
	case refusedForGood(err):
		err = fmt.Errorf("publishing to %s: %w", l.subject, err)
		f.s.log.Error("nats server refuses an event", "subject", l.subject, "err", err)
		f.s.box.refused(l, err)
	default:
		f.mu.Lock()
		if f.trouble == nil {
			f.trouble = fmt.Errorf("publishing to %s: %w", f.s.cfg.target(), err)
		}
		f.mu.Unlock()
		f.s.box.again(l)
	}
}

// refusedForGood says whether sending the same event again is useless.
func refusedForGood(err error) bool {
	for _, e := range []error{
		nats.ErrMaxPayload, nats.ErrBadSubject, nats.ErrInvalidMsg, nats.ErrBadHeaderMsg,
		nats.ErrHeadersNotSupported, nats.ErrPermissionViolation,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case codeStoreFailed: // full with discard new, or a disk in trouble, which may pass
		return strings.Contains(api.Description, "maximum")
	case codeAccountLimit:
		return true
	}
	return api.Code == 400
}

// publishDenied matches what servers write about a subject that we may not
// publish to. The text is all there is: the protocol's -ERR has no fields.
var publishDenied = regexp.MustCompile(`Publish to "([^"]+)"`)

// onError is given what the server says outside of answers.
func (f *flight) onError(_ *nats.Conn, _ *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		f.s.log.Warn("nats connection", "err", err)
		return
	}
	m := publishDenied.FindStringSubmatch(err.Error())
	switch {
	case m == nil: // our inbox: without it no answer ever comes
		f.fatal(fmt.Errorf("%s: the user must be allowed to subscribe to _INBOX.>: %w", f.s.cfg.target(), err))
	case strings.HasPrefix(m[1], subjectRoot):
		f.denied(m[1], err)
	default: // the JetStream API
		f.fatal(fmt.Errorf("%s: the user may not look after stream %q; allow it, or make the stream and set manage_stream: false: %w",
			f.s.cfg.target(), f.s.cfg.Stream, err))
	}
}

// denied settles the one letter that is under way to subject.
func (f *flight) denied(subject string, err error) {
	f.mu.Lock()
	var msg *nats.Msg
	for m := range f.letters {
		if m.Subject == subject {
			msg = m
		}
	}
	f.mu.Unlock()
	if msg != nil {
		f.settle(msg, err)
	} else if strings.HasPrefix(subject, subjectRoot+"transcript.") {
		f.s.box.recall(fmt.Errorf("publishing to %s: %w", subject, err))
	}
}

func (f *flight) onDisconnect(_ *nats.Conn, err error) {
	if err == nil {
		return // we closed it
	}
	f.s.setTrouble(fmt.Errorf("connection to %s lost: %w", f.s.cfg.target(), err))
	f.s.log.Warn("nats connection lost, events wait", "server", f.s.cfg.target(), "err", err)
}

func (f *flight) onReconnect(*nats.Conn) {
	f.s.setTrouble(nil)
	f.s.log.Info("nats connection is back", "server", f.s.cfg.target())
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *flight) land(msg *nats.Msg) *letter {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.letters[msg]
	delete(f.letters, msg)
	return l
}

func (f *flight) inFlight() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.letters)
}

func (f *flight) calm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trouble == nil
}

func (f *flight) takeTrouble() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.trouble
	f.trouble = nil
	return err
}

func (f *flight) takeLanded() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.landed
	f.landed = false
	return was
}
