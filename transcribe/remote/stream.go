package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
)

// stream is one leg at one peer: every message is answered before the next is
// sent. It is used by one goroutine at a time, but for stop.
type stream struct {
	peer   *peer
	wire   grpc.BidiStreamingClient[callwardenv1.TranscribeRequest, callwardenv1.TranscribeResponse]
	stop   context.CancelFunc
	limit  time.Duration
	opened *callwardenv1.TranscribeOpened
}

// errAnswer says that a peer took too long.
var errAnswer = errors.New("it does not answer")

// openStream begins a stream on the peer. It lives until close, or until the
// peer is lost.
func openStream(ctx context.Context, p *peer, cfg *callwardenv1.TranscribeConfig, limit time.Duration) (*stream, error) {
	epoch, ok := p.take()
	if !ok {
		return nil, status.Error(codes.Unavailable, "it is gone")
	}
	life, stop := context.WithCancel(epoch)
	st := &stream{peer: p, stop: stop, limit: limit}
	wire, err := p.client.Transcribe(life)
	if err != nil {
		st.close()
		return nil, err
	}
	st.wire = wire
	answer, err := st.exchange(ctx, &callwardenv1.TranscribeRequest{Request: &callwardenv1.TranscribeRequest_Config{Config: cfg}})
	if err != nil {
		st.close()
		return nil, err
	}
	if st.opened = answer.Opened; st.opened == nil {
		st.close()
		return nil, &nonsense{p.addr, "its first answer does not say that a leg was opened"}
	}
	return st, nil
}

// close ends the stream wherever it stands.
func (st *stream) close() {
	st.stop()
	st.peer.give()
}

// bounded ends the stream when ctx ends or the peer takes too long. The
// returned function says why, if so.
func (st *stream) bounded(ctx context.Context) (done func() error) {
	timer := time.AfterFunc(st.limit, st.stop)
	unwatch := context.AfterFunc(ctx, st.stop)
	return func() error {
		inTime := timer.Stop()
		switch unwatch(); {
		case ctx.Err() != nil:
			return ctx.Err()
		case !inTime:
			return errAnswer
		}
		return nil
	}
}

// exchange sends a message and waits for its answer.
func (st *stream) exchange(ctx context.Context, req *callwardenv1.TranscribeRequest) (*callwardenv1.TranscribeResponse, error) {
	done := st.bounded(ctx)
	err := st.wire.Send(req)
	if err == nil || errors.Is(err, io.EOF) { // then Recv says why
		var answer *callwardenv1.TranscribeResponse
		if answer, err = st.wire.Recv(); err == nil {
			_ = done() // it came: whatever happens from now on shows with the next
			return answer, nil
		}
	}
	if why := done(); why != nil {
		return nil, why
	}
	if errors.Is(err, io.EOF) {
		return nil, &nonsense{st.peer.addr, "it ends a stream that is not over"}
	}
	return nil, err
}

// finish ends the audio and waits for the last answer.
func (st *stream) finish(ctx context.Context) (*callwardenv1.TranscribeResponse, error) {
	done := st.bounded(ctx)
	err := st.wire.CloseSend()
	var answer *callwardenv1.TranscribeResponse
	if err == nil {
		answer, err = st.wire.Recv()
	}
	if err == nil {
		if _, end := st.wire.Recv(); !errors.Is(end, io.EOF) {
			err = &nonsense{st.peer.addr, fmt.Sprintf("after its last answer it says: %v", end)}
		}
	}
	if why := done(); why != nil && err != nil {
		return nil, why
	}
	if errors.Is(err, io.EOF) {
		return nil, &nonsense{st.peer.addr, "it ends a stream without its last answer"}
	}
	return answer, err
}

// message is an item on the wire.
func (it item) message(again bool) *callwardenv1.TranscribeRequest {
	if it.pause {
		return &callwardenv1.TranscribeRequest{Request: &callwardenv1.TranscribeRequest_Pause{Pause: &callwardenv1.TranscribePause{}}}
	}
	return &callwardenv1.TranscribeRequest{Request: &callwardenv1.TranscribeRequest_Audio{Audio: &callwardenv1.TranscribeAudio{
		Start: durationpb.New(it.start), Samples: it.data, Again: again,
	}}}
}

// nonsense is what a peer says that it cannot mean.
type nonsense struct{ addr, what string }

func (n *nonsense) Error() string { return n.addr + " answers nonsense: " + n.what }

// final is the error that a session dies of, where another stream would fare
// no better; nil where it may.
func final(err error) error {
	var bad *nonsense
	if errors.As(err, &bad) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return nil
	}
	reason, retry := "", false
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.Reason
		case *errdetails.RetryInfo:
			retry = true
		}
	}
	switch {
	case s.Code() == codes.InvalidArgument && reason == "AUDIO_REFUSED":
		return plain(err)
	case s.Code() == codes.InvalidArgument:
		return fmt.Errorf("%w: %w", transcribe.ErrOption, plain(err))
	case s.Code() == codes.ResourceExhausted && !retry, // the configuration is too large
		s.Code() == codes.Unimplemented, s.Code() == codes.FailedPrecondition,
		s.Code() == codes.Internal && reason != "":
		return plain(err)
	}
	return nil
}

// retryAfter is what the peer asks to wait; a moment where it asks for
// nothing.
func retryAfter(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return min(max(r.RetryDelay.AsDuration(), 100*time.Millisecond), 10*time.Second)
		}
	}
	return 100 * time.Millisecond
}
