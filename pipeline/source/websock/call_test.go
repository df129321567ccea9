package websock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// hearAll reads the audio of a call to its end.
func hearAll(ctx context.Context, call *source.Call) error {
	for {
		if _, err := call.Audio.ReadFrame(ctx); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func TestHearGivesTheProtocolsAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		handle source.Handler
		read   error
		status Status
		want   source.Stats
	}{
		{"a normal end", hearAll, io.EOF, Normal, source.Stats{Begun: 1}},
		{"no room", func(context.Context, *source.Call) error { return fmt.Errorf("full: %w", source.ErrBusy) }, nil, TryLater, source.Stats{Begun: 1, Refused: 1}},
		{"none of ours", func(context.Context, *source.Call) error { return nil }, nil, Normal, source.Stats{Begun: 1}},
		{"the peer's fault", hearAll, Faultf(Invalid, "rubbish"), Invalid, source.Stats{Begun: 1, Malformed: 1}},
		{"our fault", func(context.Context, *source.Call) error { return errors.New("no model") }, nil, Internal, source.Stats{Begun: 1}},
		{"cut off", func(context.Context, *source.Call) error { return context.Canceled }, nil, Normal, source.Stats{Begun: 1}},
	} {
		var server *Server
		ready := make(chan struct{})
		p := serve(t, nil, func(ctx context.Context, conn *Conn) {
			<-ready
			line := NewLine(conn.Began)
			call := &source.Call{ID: "a", Legs: []audio.Leg{audio.Caller}, Audio: line, Live: true}
			server.Hear(ctx, conn, c.handle, call, line, func() error {
				if c.read != nil {
					return c.read
				}
				_, _, err := conn.Read()
				return err
			})
		})
		server = p.Server
		close(ready)
		ws := dial(t, p.url, nil)
		if status, _ := ended(t, ws); status != c.status {
			t.Errorf("%s: closed with %d, want %d", c.name, status, c.status)
		}
		waitClosed(p)
		if got := p.Count.Stats(); got != c.want {
			t.Errorf("%s: counted %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestLineHoldsBackWhatIsFasterThanSpeech(t *testing.T) {
	line := NewLine(time.Now())
	put := make(chan bool, 1)
	go func() {
		far := audio.Frame{Start: time.Hour, Rate: 8000, PCM: make([]int16, 160)}
		put <- line.Put(audio.Frame{Rate: 8000, PCM: make([]int16, 8000)}, far)
	}()
	if f, err := line.ReadFrame(context.Background()); err != nil || len(f.PCM) != 8000 {
		t.Fatalf("first frame of %d samples, %v", len(f.PCM), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*ms)
	defer cancel()
	if f, err := line.ReadFrame(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an hour ahead came at once: %v, %v", f.Start, err)
	}
	line.Close()
	if <-put {
		t.Error("Put took a frame that nobody reads")
	}
}

func TestNamesAreTakenOnce(t *testing.T) {
	var n Names
	a, releaseA := n.Take("t", "x")
	b, _ := n.Take("t", "x")
	other, _ := n.Take("u", "x")
	releaseA()
	again, _ := n.Take("t", "x")
	if a != "x" || b != "x-2" || other != "x" || again != "x" {
		t.Errorf("names %s, %s, %s, %s", a, b, other, again)
	}
}

func TestCallIDsOfForeignNamesAreLegal(t *testing.T) {
	for in, want := range map[string]string{
		"CA0123": "CA0123", "v2:7V3r4_x-y": "v2-7V3r4_x-y", "": "", "..": "", "número": "n--mero",
	} {
		got := CallID(in)
		if got != want || got != "" && !announce.IsToken(got) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
