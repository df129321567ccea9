package riva

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/callwarden/callwarden/transcribe/riva/rivapb"
	"github.com/callwarden/callwarden/transcribe/stream"
)

var _ stream.Late = (*recognition)(nil)

const recognizeMethod = "/nvidia.riva.asr.RivaSpeechRecognition/StreamingRecognize"

// recognition is one stream.
type recognition struct {
	peer   string
	answer time.Duration
	stream *grpc.GenericClientStream[rivapb.StreamingRecognizeRequest, rivapb.StreamingRecognizeResponse]
	cancel context.CancelFunc // of the stream

	// What came and was not asked for yet. receive sends and closes; when it
	// is full the server waits.
	answers chan *rivapb.StreamingRecognizeResponse
	ended   error // why receive has ended; it writes it before it closes answers
}

// unread is how many answers may wait for the leg's next frame: a leg that is
// silent gets none, one that speaks a few a second.
const unread = 64

func (e *Engine) dial(ctx context.Context, srv *server, first *rivapb.StreamingRecognizeRequest) (*recognition, error) {
	conn, err := e.connection(srv)
	if err != nil {
		return nil, err
	}
	// The stream outlives the opening: Close ends it.
	living, cancel := context.WithCancel(metadata.NewOutgoingContext(context.WithoutCancel(ctx), e.headers))
	stopOpening := context.AfterFunc(ctx, cancel)
	cs, err := conn.NewStream(living, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, recognizeMethod)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	r := &recognition{
		peer: srv.String(), answer: e.cfg.Answer, cancel: cancel,
		stream:  &grpc.GenericClientStream[rivapb.StreamingRecognizeRequest, rivapb.StreamingRecognizeResponse]{ClientStream: cs},
		answers: make(chan *rivapb.StreamingRecognizeResponse, unread),
	}
	err = r.stream.Send(first)
	if err == nil && !stopOpening() {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	go r.receive(living)
	return r, nil
}

// receive takes what the server says. Close waits for its end.
func (r *recognition) receive(ctx context.Context) {
	defer close(r.answers)
	for {
		a, err := r.stream.Recv()
		if err != nil {
			r.ended = err
			return
		}
		select {
		case r.answers <- a:
		case <-ctx.Done():
			r.ended = ctx.Err()
			return
		}
	}
}

// Hear implements [stream.Recogniser]: it sends, and returns what has come so
// far.
func (r *recognition) Hear(ctx context.Context, pcm []int16) (said []stream.Hypothesis, err error) {
	content := make([]byte, 0, 2*len(pcm))
	for _, v := range pcm {
		content = binary.LittleEndian.AppendUint16(content, uint16(v))
	}
	sending, done := r.limit(ctx)
	defer done()
	err = r.stream.Send(&rivapb.StreamingRecognizeRequest{
		StreamingRequest: &rivapb.StreamingRecognizeRequest_AudioContent{AudioContent: content},
	})
	if err != nil && !errors.Is(err, io.EOF) { // after EOF the reason is received
		return nil, r.lost(sending, err)
	}
	if err == nil {
		return r.Came(sending)
	}
	for { // until that comes
		a, ok := <-r.answers
		if said, err = r.take(sending, said, a, ok); err != nil {
			return said, err
		}
	}
}

// Came implements [stream.Late].
func (r *recognition) Came(ctx context.Context) (said []stream.Hypothesis, err error) {
	for {
		select {
		case a, ok := <-r.answers:
			if said, err = r.take(ctx, said, a, ok); err != nil {
				return said, err
			}
		default:
			return said, nil
		}
	}
}

// Pending implements [stream.Late].
func (r *recognition) Pending() bool { return len(r.answers) > 0 }

// End implements [stream.Recogniser].
func (r *recognition) End(ctx context.Context) (said []stream.Hypothesis, err error) {
	ending, done := r.limit(ctx)
	defer done()
	if err := r.stream.CloseSend(); err != nil {
		return nil, r.lost(ending, err)
	}
	for a := range r.answers {
		if said, err = r.take(ending, said, a, true); err != nil {
			return said, err
		}
	}
	if !errors.Is(r.ended, io.EOF) {
		return said, r.lost(ending, r.ended)
	}
	return said, nil
}

// take appends what an answer says; without one the stream is lost.
func (r *recognition) take(ctx context.Context, said []stream.Hypothesis, a *rivapb.StreamingRecognizeResponse, ok bool) ([]stream.Hypothesis, error) {
	if !ok {
		return said, r.lost(ctx, r.ended)
	}
	more, err := parseResponse(a)
	if err != nil {
		return append(said, more...), fmt.Errorf("riva server %s: %w", r.peer, err)
	}
	return append(said, more...), nil
}

// limit ends the stream where the server takes too long, or ctx ends.
func (r *recognition) limit(ctx context.Context) (limited context.Context, done func()) {
	limited, cancel := context.WithTimeoutCause(ctx, r.answer, errSilent)
	stop := context.AfterFunc(limited, r.cancel)
	return limited, func() { stop(); cancel() }
}

var errSilent = errors.New("it did not answer")

// lost names the server and what it did.
func (r *recognition) lost(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		return fmt.Errorf("riva server %s: %w for %v", r.peer, errSilent, r.answer)
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("riva server %s: it ended the stream early", r.peer)
	}
	return fmt.Errorf("riva server %s: %s: %w", r.peer, status.Code(err), err)
}

// Close implements [stream.Recogniser].
func (r *recognition) Close() error {
	r.cancel()
	for range r.answers { // until receive has ended
	}
	return nil
}
