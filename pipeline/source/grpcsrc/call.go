package grpcsrc

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// wire is the server's side of a call's stream.
type wire = grpc.BidiStreamingServer[callwardenv1.StreamRequest, callwardenv1.StreamResponse]

// Stream has one call listened to.
func (s *Source) Stream(w wire) error {
	if err := s.door.enter(); err != nil {
		s.count.apart.Add(1)
		return err
	}
	defer s.door.leave()
	err := s.stream(w)
	var r *refusal
	if errors.Is(err, errGone) {
		return status.Error(codes.Canceled, errGone.Error()) // nobody reads it
	}
	if errors.As(err, &r) {
		if code := codeOf[r.reason]; code == codes.InvalidArgument || code == codes.FailedPrecondition || r.reason == openLate {
			s.count.malformed.Add(1)
		}
		s.log.Warn("stream ended", "source", Name, "peer", addressOf(w.Context()), "reason", string(r.reason), "err", err)
	}
	return err
}

// first waits for the message that opens the call.
func (s *Source) first(w wire) (*callwardenv1.StreamRequest, error) {
	type message struct {
		req *callwardenv1.StreamRequest
		err error
	}
	came := make(chan message, 1)
	s.working.Go(func() { // ends with the stream at the latest
		req, err := w.Recv()
		came <- message{req, err}
	})
	late := time.NewTimer(s.limits.open)
	defer late.Stop()
	select {
	case m := <-came:
		switch {
		case errors.Is(m.err, io.EOF):
			return nil, refuse(openMissing, "the stream ended before open came")
		case m.err != nil:
			return nil, endOf(m.err)
		case m.req.GetOpen() == nil:
			return nil, refuse(openExpected, "the first message must hold open")
		}
		return m.req, nil
	case <-late.C:
		return nil, refuse(openLate, "no open came within %v", s.limits.open)
	case <-s.serving.Done():
		return nil, refuse(draining, "the server is about to end")
	}
}

func (s *Source) stream(w wire) error {
	first, err := s.first(w)
	if err != nil {
		return err
	}
	open, err := parseOpen(first.GetOpen())
	if err != nil {
		return err
	}
	if _, open.Tenant, err = s.may(w.Context(), mayStream, open.Tenant); err != nil {
		return err
	}
	if open.Call.Call == "" {
		open.Call.Call = announce.NewID(Name)
	}
	tenant, id := open.Tenant, open.Call.Call
	if err := s.door.name(tenant, id); err != nil {
		return err
	}
	defer s.door.forget(tenant, id)

	back := newPeer(open, &s.count, s.log)
	back.id = id
	sent := make(chan struct{}) // closed when nothing is sent any more
	s.working.Go(func() {       // ends after close, or with the stream at the latest
		defer close(sent)
		back.send(w.Send)
	})
	talk := newConversation(open, s.cfg.MediaTimeout, &s.count)
	s.working.Go(func() { talk.pump(first, w.Recv) }) // ends with the stream at the latest

	err = s.listen(open, talk, back)
	close(talk.quit)
	back.close()
	unread := time.NewTimer(s.limits.read)
	defer unread.Stop()
	select {
	case <-sent:
	case <-unread.C:
		// The sender is left behind: it ends with the stream.
		return refuse(eventsNotRead, "the client has read nothing for %v", s.limits.read)
	}
	return err
}

// listen has the call heard to its end, and returns what the client is told of
// that.
func (s *Source) listen(open opening, talk *conversation, back *peer) error {
	call := open.call()
	call.Began, call.Audio, call.Peer = talk.began, talk, back.source()
	admitted := false
	call.Admitted = func() {
		if !admitted {
			admitted = true
			s.count.begun.Add(1)
			back.opened(call)
		}
	}
	s.count.calls.Add(1)
	s.count.legs.Add(int64(len(call.Legs)))
	err := s.handle(s.serving, call)
	s.count.calls.Add(-1)
	s.count.legs.Add(-int64(len(call.Legs)))

	var told *refusal
	var bye *hungUp
	switch {
	case errors.Is(err, source.ErrBusy):
		s.count.refused.Add(1)
		return refuse(busy, "the machine has no room to listen to this call")
	case errors.As(err, &told): // what the client sent, or did not
		return told
	case err == nil && !admitted:
		return refuse(notMonitored, "this call is not listened to")
	case err == nil, errors.As(err, &bye):
		return nil
	case errors.Is(err, errGone):
		return errGone
	case errors.Is(err, context.Canceled):
		return refuse(cutOff, "the server ends")
	}
	s.log.Error("call not heard to its end", "source", Name, "call", call.ID, "err", err)
	return refuse(failed, "the call was not heard, or told of, to its end")
}
