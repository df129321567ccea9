package grpcsrc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/fansink"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// watching is the server's side of a watcher's stream.
type watching = grpc.ServerStreamingServer[callwardenv1.WatchResponse]

// Watch tells what goes on, then what happens, until the client or the server
// ends.
func (s *Source) Watch(req *callwardenv1.WatchRequest, w watching) error {
	if s.cfg.Events == nil {
		return status.Error(codes.Unimplemented, "there is nothing to watch here")
	}
	want, err := s.want(w.Context(), req)
	if err == nil {
		err = s.door.watch()
	}
	if err != nil {
		return s.refused(w.Context(), err)
	}
	defer s.door.unwatch()

	ctx, cancel := context.WithCancelCause(w.Context())
	defer cancel(nil)
	patience := time.AfterFunc(s.limits.read, func() {
		cancel(refuse(eventsNotRead, "the client has read nothing for %v", s.limits.read))
	})
	patience.Stop()
	defer patience.Stop()
	look := s.keepLooking(w.Context(), req, cancel)
	defer look()

	ended := make(chan error, 1)
	s.working.Go(func() { // ends with ctx, or with the stream where it waits for the client
		ended <- s.tell(ctx, want, func(r *callwardenv1.WatchResponse) error {
			patience.Reset(s.limits.read)
			defer patience.Stop()
			return w.Send(r)
		})
	})
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-s.door.over:
		cancel(nil)
		select { // what was said before the end
		case <-ended: //nolint:errcheck // it is over, however it ended
		case <-time.After(lastWords):
		}
		err = refuse(draining, "the server is about to end")
	}
	return s.refused(w.Context(), err)
}

// tell passes on what is wanted until ctx ends, the sink is closed, or the
// client is gone.
func (s *Source) tell(ctx context.Context, want fansink.Want, send func(*callwardenv1.WatchResponse) error) error {
	watcher := s.cfg.Events.Watch(want)
	defer watcher.Close()
	calls := int32(0)
	for {
		item, err := watcher.Next(ctx)
		if errors.Is(err, fansink.ErrClosed) {
			return refuse(draining, "the server is about to end")
		}
		if err != nil {
			return err
		}
		var r *callwardenv1.WatchResponse
		switch {
		case item.State != nil:
			calls++
			r = &callwardenv1.WatchResponse{Response: &callwardenv1.WatchResponse_State{State: stateOnWire(item.State)}}
		case item.Current:
			r = &callwardenv1.WatchResponse{Response: &callwardenv1.WatchResponse_Current{Current: &callwardenv1.WatchCurrent{Calls: calls}}}
		case item.Missed > 0:
			calls = 0
			r = &callwardenv1.WatchResponse{Response: &callwardenv1.WatchResponse_Missed{Missed: &callwardenv1.CallMissed{Events: int64(item.Missed)}}}
		default:
			ev := onWire(*item.Event)
			if ev == nil {
				continue
			}
			r = &callwardenv1.WatchResponse{Response: &callwardenv1.WatchResponse_Event{Event: ev}}
		}
		if err := send(r); err != nil {
			return err
		}
	}
}

func stateOnWire(s *fansink.State) *callwardenv1.CallState {
	one := func(ev sink.Event) *callwardenv1.CallEvent {
		if ev.Type == "" {
			return nil
		}
		return onWire(ev)
	}
	out := &callwardenv1.CallState{Started: one(s.Started), Status: one(s.Status), Level: one(s.Level)}
	for _, f := range s.Findings {
		out.Findings = append(out.Findings, one(f))
	}
	return out
}

// want is what req asks for, if who asks may have it.
func (s *Source) want(ctx context.Context, req *callwardenv1.WatchRequest) (fansink.Want, error) {
	want := fansink.Want{
		Call: req.GetCall(), Level: req.GetLevel(),
		Transcripts: req.GetTranscripts(), Hypotheses: req.GetHypotheses(), Levels: req.GetLevels(),
	}
	for _, f := range []struct{ name, value string }{{"tenant", req.GetTenant()}, {"call", req.GetCall()}} {
		if f.value != "" && !announce.IsToken(f.value) {
			return want, refuse(optionRefused, "%s: %.140q must be 1 to 128 letters, digits, - or _", f.name, f.value)
		}
	}
	if _, ok := callwardenv1.Level_name[int32(req.GetLevel())]; !ok {
		return want, refuse(optionRefused, "level: %d is none", req.GetLevel())
	}
	g, err := s.who(ctx)
	switch {
	case err != nil:
		return want, err
	case !g.right(mayWatch):
		return want, refuse(rightRefused, "the token is not for %s", mayWatch)
	case req.GetTenant() != "" && !g.tenant(req.GetTenant()):
		return want, refuse(tenantRefused, "the token is not for tenant %s", req.GetTenant())
	case req.GetTenant() != "":
		want.Tenants = []string{req.GetTenant()}
	case !g.all():
		want.Tenants = g.Tenants
	}
	return want, nil
}

// keepLooking ends a watcher whose token is not good any more: it would go on
// for ever. The caller calls stop.
func (s *Source) keepLooking(of context.Context, req *callwardenv1.WatchRequest, end context.CancelCauseFunc) (stop func()) {
	if s.grants == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(of)
	s.working.Go(func() { // ends with stop
		tick := time.NewTicker(s.limits.look)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := s.want(ctx, req); err != nil {
					end(err)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return cancel
}

// refused logs and counts why a request ends, where the client is to blame.
func (s *Source) refused(ctx context.Context, err error) error {
	var r *refusal
	switch {
	case errors.As(err, &r):
		if code := codeOf[r.reason]; code == codes.InvalidArgument {
			s.count.malformed.Add(1)
		}
		if r.reason != draining {
			s.log.Warn("request refused", "source", Name, "peer", addressOf(ctx), "reason", string(r.reason), "err", err)
		}
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the client is gone")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the client wanted no more")
	}
	return err
}
