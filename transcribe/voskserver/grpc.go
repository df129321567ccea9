package voskserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/callwarden/callwarden/transcribe/stream"
	"github.com/callwarden/callwarden/transcribe/voskserver/voskpb"
)

const recognizeMethod = "/vosk.stt.v1.SttService/StreamingRecognize"

// recognition is one stream over gRPC.
type recognition struct {
	peer   string
	answer time.Duration
	stream *grpc.GenericClientStream[voskpb.StreamingRecognitionRequest, voskpb.StreamingRecognitionResponse]
	cancel context.CancelFunc // of the stream
}

// connection is the server's, shared by all sessions.
func (e *Engine) connection(srv *server) (*grpc.ClientConn, error) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.conn != nil {
		return srv.conn, nil
	}
	creds := insecure.NewCredentials()
	if srv.Scheme == "grpcs" {
		creds = credentials.NewTLS(e.tls.Clone())
	}
	conn, err := grpc.NewClient("passthrough:///"+srv.Host,
		grpc.WithTransportCredentials(creds),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 5 * time.Minute, Timeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	)
	if err != nil {
		return nil, err
	}
	srv.conn = conn
	return conn, nil
}

func (e *Engine) dialGRPC(ctx context.Context, srv *server, language string) (stream.Recogniser, error) {
	conn, err := e.connection(srv)
	if err != nil {
		return nil, err
	}
	// The stream outlives the opening: Close ends it.
	living, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopOpening := context.AfterFunc(ctx, cancel)
	open := func() (*recognition, error) {
		cs, err := conn.NewStream(living, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, recognizeMethod)
		if err != nil {
			return nil, err
		}
		r := &recognition{
			peer: srv.String(), answer: e.cfg.Answer, cancel: cancel,
			stream: &grpc.GenericClientStream[voskpb.StreamingRecognitionRequest, voskpb.StreamingRecognitionResponse]{ClientStream: cs},
		}
		return r, r.stream.Send(&voskpb.StreamingRecognitionRequest{
			StreamingRequest: &voskpb.StreamingRecognitionRequest_Config{Config: &voskpb.RecognitionConfig{
				Specification: &voskpb.RecognitionSpec{
					AudioEncoding:   voskpb.RecognitionSpec_LINEAR16_PCM,
					SampleRateHertz: int64(e.cfg.RateHz),
					LanguageCode:    language,
					PartialResults:  true,
				},
			}},
		})
	}
	r, err := open()
	if err == nil && !stopOpening() {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	return r, nil
}

// Hear implements [stream.Recogniser].
func (r *recognition) Hear(ctx context.Context, pcm []int16) ([]stream.Hypothesis, error) {
	content := make([]byte, 0, 2*len(pcm))
	for _, v := range pcm {
		content = binary.LittleEndian.AppendUint16(content, uint16(v))
	}
	return r.ask(ctx, func() error {
		return r.stream.Send(&voskpb.StreamingRecognitionRequest{
			StreamingRequest: &voskpb.StreamingRecognitionRequest_AudioContent{AudioContent: content},
		})
	})
}

// End implements [stream.Recogniser]. After its last answer the server ends
// the stream.
func (r *recognition) End(ctx context.Context) ([]stream.Hypothesis, error) {
	return r.ask(ctx, r.stream.CloseSend)
}

// ask sends a message and waits for its answer.
func (r *recognition) ask(ctx context.Context, send func() error) ([]stream.Hypothesis, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, r.answer, errSilent)
	defer cancel()
	stop := context.AfterFunc(waiting, r.cancel)
	defer stop()
	err := send()
	if err != nil && !errors.Is(err, io.EOF) { // after EOF the reason is received
		return nil, r.lost(waiting, err)
	}
	answer, err := r.stream.Recv()
	if err != nil {
		return nil, r.lost(waiting, err)
	}
	said, err := parseResponse(answer)
	if err != nil {
		err = fmt.Errorf("vosk server %s: %w", r.peer, err)
	}
	return said, err
}

// lost names the server and what it did.
func (r *recognition) lost(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		return fmt.Errorf("vosk server %s: %w for %v", r.peer, errSilent, r.answer)
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("vosk server %s: it ended the stream early", r.peer)
	}
	return fmt.Errorf("vosk server %s: %s: %w", r.peer, status.Code(err), err)
}

// Close implements [stream.Recogniser].
func (r *recognition) Close() error {
	r.cancel()
	return nil
}
