package console

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"google.golang.org/protobuf/proto"

	"github.com/callwarden/callwarden/cmd/internal/board"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// screen keeps what a program writes.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// await waits until text was written.
func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	await(t, text, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return strings.Contains(ansi.Strip(s.b.String()), text)
	})
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); !is(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serveNATS runs a server at address, with a sink that publishes to it.
func serveNATS(t *testing.T, address, dir string) (*natssink.Server, *natssink.Sink) {
	t.Helper()
	cfg := natssink.DefaultServerConfig()
	cfg.Listen, cfg.StoreDir = address, dir
	server, err := natssink.StartServer(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	own := natssink.DefaultConfig()
	own.Server, own.Transcripts = server, true
	out, err := natssink.New(own, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return server, out
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// publish publishes what a made-up call says.
func publish(t *testing.T, out *natssink.Sink, id, call string, typ sink.Type, at time.Duration, data proto.Message) {
	t.Helper()
	if err := out.Publish(t.Context(), sink.Event{ID: id, Type: typ, Tenant: "bank", Call: call, Source: "callwarden/audiohook", At: at, Data: data}); err != nil {
		t.Fatal(err)
	}
}

func TestPersonAtATerminalSeesAndActs(t *testing.T) {
	address, dir := freeAddress(t), t.TempDir()
	server, out := serveNATS(t, address, dir)
	publish(t, out, "1", "c-1", sink.CallStarted, 0, &callwardenv1.CallStarted{Context: about("c-1"), Attributes: map[string]string{"from": "+1########23"}})
	publish(t, out, "2", "c-1", sink.RiskLevel, 9*time.Second, &callwardenv1.RiskLevel{
		Context: about("c-1"), At: secs(9), Level: callwardenv1.Level_LEVEL_CRITICAL, Previous: callwardenv1.Level_LEVEL_NONE, Score: 20,
		Advice: &callwardenv1.Advice{Id: "a", Language: en, Text: "Hang up at once."},
	})

	cfg := natssink.DefaultWatchConfig()
	cfg.URL, cfg.Since = "nats://"+address, time.Hour
	feed, err := NewFeed(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() {
		if err := feed.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	keys, hand := io.Pipe()
	var term screen
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, keys, &term, look(nil), feed, "ana") }()
	key := func(k string) {
		if _, err := hand.Write([]byte(k)); err != nil {
			t.Error(err)
		}
	}
	term.await(t, "1 critical")
	key("\r")
	term.await(t, "SAY: Hang up at once.")
	publish(t, out, "3", "c-1", sink.TranscriptSegment, 12*time.Second, &callwardenv1.TranscriptSegment{
		Context: about("c-1"), Leg: 1, Final: true, Start: secs(10), End: secs(12), Text: "read me the code", Heard: callwardenv1.Heard_HEARD_OPEN,
	})
	term.await(t, "read me the code")
	key("s")
	term.await(t, "told: it is a scam")
	await(t, "the verdict", func() bool { return feed.Board().Row(board.Key{Tenant: "bank", Call: "c-1"}).Verdict == "scam" })

	// The server goes away and comes back.
	if err := out.Close(t.Context()); err != nil {
		t.Error(err)
	}
	server.Shutdown()
	term.await(t, "no server for")
	key("n")
	term.await(t, "the server is away")
	server, out = serveNATS(t, address, dir)
	defer server.Shutdown()
	defer out.Close(context.WithoutCancel(t.Context()))
	await(t, "the server", func() bool { return feed.Link().Up })
	publish(t, out, "4", "c-2", sink.CallStarted, 0, &callwardenv1.CallStarted{Context: about("c-2")})
	term.await(t, "2 live")
	key("u")
	await(t, "the verdict to be taken back", func() bool { return feed.Board().Row(board.Key{Tenant: "bank", Call: "c-1"}).Verdict == "" })
	key("q")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = hand.Close()
}

func TestServerThatKeepsNothingIsFollowedFromNowOn(t *testing.T) {
	address := freeAddress(t)
	cfg := natssink.DefaultServerConfig()
	cfg.Listen, cfg.StoreDir = address, t.TempDir()
	server, err := natssink.StartServer(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	watch := natssink.DefaultWatchConfig()
	watch.URL, watch.Since = "nats://"+address, time.Hour // and there is no stream
	feed, err := NewFeed(watch, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = feed.Run(ctx) })
	await(t, "the link", func() bool { return feed.Link().Up })
	stop()
	running.Wait()
}
