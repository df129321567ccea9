package twiliosrc

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

// heard is a call as a handler got it.
type heard struct {
	call   *source.Call
	frames []audio.Frame
	end    error
}

// pcm is the audio of one leg, what was made up included.
func (h *heard) pcm(leg audio.Leg) (all []int16) {
	for _, f := range h.frames {
		if f.Leg == leg {
			all = append(all, f.PCM...)
		}
	}
	return all
}

func (h *heard) lost() (d time.Duration) {
	for _, f := range h.frames {
		d += f.Lost
	}
	return d
}

func (h *heard) keys() (all string) {
	for _, f := range h.frames {
		all += f.Keys
	}
	return all
}

// network is a source that is served, and what was heard by it.
type network struct {
	t *testing.T
	*Source
	url   string
	calls chan *heard
	logs  *logs
}

type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve serves a source that has handle, or hears everything where that is nil.
func serve(t *testing.T, change func(*Config), handle source.Handler) *network {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Web.Listen = "127.0.0.1:0"
	if change != nil {
		change(&cfg)
	}
	n := &network{t: t, calls: make(chan *heard, 2000), logs: &logs{}}
	s, err := New(cfg, slog.New(slog.NewTextHandler(n.logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	n.Source, n.url = s, "ws://"+s.Addrs()[0].String()+"/v1/twilio/"
	if handle == nil {
		handle = func(ctx context.Context, call *source.Call) error {
			h := &heard{call: call}
			if call.Admitted != nil {
				call.Admitted()
			}
			for {
				f, err := call.Audio.ReadFrame(ctx)
				if err != nil {
					h.end = err
					n.calls <- h
					return nil //nolint:nilerr // the test looks at it
				}
				h.frames = append(h.frames, f)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- s.Serve(ctx, handle) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	return n
}

// peer is a network's end of a stream.
type peer struct {
	t  *testing.T
	ws *websocket.Conn
}

func (n *network) dial(query string) *peer {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, n.url+query, nil) //nolint:bodyclose // the library has closed it
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = ws.CloseNow() })
	return &peer{n.t, ws}
}

func (p *peer) send(lines ...string) {
	p.t.Helper()
	for _, l := range lines {
		if err := p.ws.Write(context.Background(), websocket.MessageText, []byte(l)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// ended is the status with which the source closes the stream.
func (p *peer) ended() (websock.Status, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		_, _, err := p.ws.Read(ctx)
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			return closed.Code, closed.Reason
		}
		if err != nil {
			p.t.Fatalf("no close frame: %v", err)
		}
	}
}

// receive is the next message of the source.
func (p *peer) receive() fields {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, data, err := p.ws.Read(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	f, ok := parseFields(data)
	if !ok {
		p.t.Fatalf("%s is no JSON object", data)
	}
	return f
}

// sine is a tone, by whose pitch legs are told apart.
func sine(hz float64, rateHz, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/float64(rateHz)))
	}
	return out
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// mediaOf is a message of Twilio's.
func mediaOf(track string, chunk int, stamp time.Duration, payload []byte) string {
	return fmt.Sprintf(`{"event":"media","sequenceNumber":"%d","media":{"track":"%s","chunk":"%d","timestamp":"%d","payload":"%s"},"streamSid":"MZ1"}`,
		chunk+1, track, chunk, stamp.Milliseconds(), b64(payload))
}

const twilioStart = `{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC1","streamSid":"MZ1","callSid":"CA1","tracks":["inbound","outbound"],` +
	`"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{"from":"+12025550123","queueName":"fraud"}},"streamSid":"MZ1"}`

// same reports whether got is want, as far as a companding law lets it.
func same(got, want []int16, within int) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if d := int(got[i]) - int(want[i]); d > within || d < -within {
			return false
		}
	}
	return true
}
