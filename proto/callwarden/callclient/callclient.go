// Package callclient speaks callwarden.v1.CallService for programs that have
// the audio of calls, want to see what is found in them, or have people who
// judge them.
//
// See the examples: Begin has a call listened to, Watch shows what is found in
// all calls, and Verdict says what a person makes of one.
package callclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// Config says where the server is and who we are.
type Config struct {
	Address string // host:port
	// TLS is for servers that speak it, with a certificate of our own where they
	// ask for one; nil for those that do not.
	TLS   *tls.Config
	Token string // empty for none; without TLS it is there to be read
}

// Client may be used from any goroutine. It connects when it is first needed,
// and again after the connection was lost.
type Client struct {
	conn    *grpc.ClientConn
	service callwardenv1.CallServiceClient
}

const (
	// A connection that says nothing for so long is asked whether it is there.
	askAfter, askWait = 20 * time.Second, 10 * time.Second
	// What a server says at a time; a watcher may be told 64 findings at once.
	maxMessage = 8 << 20
)

// Dial returns a client of the server at cfg.Address, which is asked nothing
// yet.
func Dial(cfg Config) (*Client, error) {
	transport := insecure.NewCredentials()
	if cfg.TLS != nil {
		transport = credentials.NewTLS(cfg.TLS)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: askAfter, Timeout: askWait}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	}
	if cfg.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(cfg.Token)))
	}
	conn, err := grpc.NewClient(cfg.Address, options...)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", cfg.Address, err)
	}
	return &Client{conn: conn, service: callwardenv1.NewCallServiceClient(conn)}, nil
}

// bearer is a token as gRPC wants it.
type bearer string

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials]. On one
// machine, and behind a proxy that speaks TLS, none is needed.
func (b bearer) RequireTransportSecurity() bool { return false }

// Close ends all that the client has open.
func (c *Client) Close() error { return c.conn.Close() }

// Service is what the other methods use, for what they do not do.
func (c *Client) Service() callwardenv1.CallServiceClient { return c.service }

// Begin opens a call and waits until it is listened to. The call ends with ctx
// at the latest. Its error is the server's refusal, see [Reason].
func (c *Client) Begin(ctx context.Context, open *callwardenv1.CallOpen) (*Call, error) {
	ctx, cancel := context.WithCancel(ctx)
	wire, err := c.service.Stream(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	call := &Call{wire: wire, cancel: cancel, encoding: open.GetEncoding()}
	// An error of Send is told by Recv, with the reason.
	if err := wire.Send(&callwardenv1.StreamRequest{Open: open}); err != nil && !errors.Is(err, io.EOF) {
		cancel()
		return nil, err
	}
	first, err := wire.Recv()
	if err != nil {
		cancel()
		return nil, err
	}
	if call.opened = first.GetOpened(); call.opened == nil {
		cancel()
		return nil, errors.New("the server's first answer does not say that the call is open")
	}
	return call, nil
}

// Call is one call's stream. Send, Keys and HangUp are called from one
// goroutine at a time, Responses from another.
type Call struct {
	wire     grpc.BidiStreamingClient[callwardenv1.StreamRequest, callwardenv1.StreamResponse]
	cancel   context.CancelFunc
	opened   *callwardenv1.CallOpened
	encoding callwardenv1.AudioEncoding
}

// ID is the call's name among those of its tenant.
func (c *Call) ID() string { return c.opened.GetId() }

// Tenant is whose call it is.
func (c *Call) Tenant() string { return c.opened.GetTenant() }

// Audio is a run of samples of one leg, of 20 to 100 ms as a rule.
type Audio struct {
	Leg callwardenv1.Leg
	// PCM is for calls in LINEAR16, at the call's rate; for others Samples holds
	// them as they are on the wire.
	PCM     []int16
	Samples []byte
	// Start is the time of the first sample since the call began, by the
	// samples' clock; 0 is right after the audio before, or now where nothing
	// came for half a second.
	Start time.Duration
	Lost  time.Duration // how much of it never came and was made up
}

// Send sends runs of one or both legs in one message. It waits while the server
// has enough of them. After an error the call is over, and Responses says why.
func (c *Call) Send(runs ...Audio) error {
	req := &callwardenv1.StreamRequest{}
	for _, a := range runs {
		run := &callwardenv1.CallAudio{Leg: a.Leg, Samples: a.Samples}
		if a.PCM != nil {
			if c.encoding > callwardenv1.AudioEncoding_AUDIO_ENCODING_LINEAR16 {
				return fmt.Errorf("PCM is for calls in LINEAR16, and this one is in %v: give Samples", c.encoding)
			}
			run.Samples = make([]byte, 0, 2*len(a.PCM))
			for _, v := range a.PCM {
				run.Samples = append(run.Samples, byte(v), byte(uint16(v)>>8))
			}
		}
		if a.Start > 0 {
			run.Start = durationpb.New(a.Start)
		}
		if a.Lost > 0 {
			run.Lost = durationpb.New(a.Lost)
		}
		req.Audio = append(req.Audio, run)
	}
	return c.wire.Send(req)
}

// Keys sends keypad digits that were pressed.
func (c *Call) Keys(leg callwardenv1.Leg, keys string) error {
	return c.wire.Send(&callwardenv1.StreamRequest{Keys: []*callwardenv1.CallKeys{{Leg: leg, Keys: keys}}})
}

// HangUp ends the call; why is what went wrong, empty after a call that ended
// as calls do. Responses go on until the last words are judged.
func (c *Call) HangUp(why string) error {
	if err := c.wire.Send(&callwardenv1.StreamRequest{HangUp: &callwardenv1.CallHangUp{Reason: why}}); err != nil {
		return err
	}
	return c.wire.CloseSend()
}

// Responses are what the server tells of the call, until it has ended: then the
// loop ends. An error is the last, and says why the call ended otherwise.
// Leaving the loop ends the call.
func (c *Call) Responses() iter.Seq2[*callwardenv1.StreamResponse, error] {
	return func(yield func(*callwardenv1.StreamResponse, error) bool) {
		defer c.cancel()
		for {
			r, err := c.wire.Recv()
			if errors.Is(err, io.EOF) || !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Watch is what goes on and what happens in calls, as req asks, until ctx ends
// or the server does; an error is the last. After one whose code is UNAVAILABLE
// watch again: what is told first makes up for what was missed.
func (c *Client) Watch(ctx context.Context, req *callwardenv1.WatchRequest) iter.Seq2[*callwardenv1.WatchResponse, error] {
	return func(yield func(*callwardenv1.WatchResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		wire, err := c.service.Watch(ctx, req)
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			r, err := wire.Recv()
			if errors.Is(err, io.EOF) || !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Verdict tells what a person makes of a call, and returns the event's id.
func (c *Client) Verdict(ctx context.Context, req *callwardenv1.VerdictRequest) (id string, err error) {
	r, err := c.service.Verdict(ctx, req)
	return r.GetId(), err
}

// Reason is the server's reason in err, such as "BUSY", empty where it gives
// none; retry is when to try again, 0 where that does not help. The list is in
// call.proto.
func Reason(err error) (reason string, retry time.Duration) {
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == "callwarden" {
				reason = d.GetReason()
			}
		case *errdetails.RetryInfo:
			retry = d.GetRetryDelay().AsDuration()
		}
	}
	return reason, retry
}
