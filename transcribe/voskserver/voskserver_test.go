package voskserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
	"github.com/callwarden/callwarden/transcribe/voskserver"
	"github.com/callwarden/callwarden/transcribe/voskserver/voskpb"
	"github.com/callwarden/callwarden/transcribe/voskws"
)

func newEngine(t *testing.T, change func(*voskserver.Config), addresses ...string) transcribe.Engine {
	t.Helper()
	cfg := voskserver.DefaultConfig()
	cfg.Addresses = addresses
	if change != nil {
		change(&cfg)
	}
	engine, err := voskserver.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func TestConformance(t *testing.T) {
	engine := transcribetest.NewRemembered(newVosk(t))
	defer engine.Close()
	ours, err := voskws.NewServer(engine, voskws.DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, model := installed(t)
	vocabulary := func(c *voskserver.Config) { c.Vocabulary = filepath.Join(model, "graph", "words.txt") }
	for _, peer := range []struct {
		name    string
		address string
		change  func(*voskserver.Config)
	}{
		{"websocket", startWebSocket(t, webSocketServer(engine)), vocabulary},
		{"grpc", startGRPC(t, insecure.NewCredentials(), grpcServer(engine)), nil},
		{"our own server", startWebSocket(t, ours), nil},
	} {
		t.Run(peer.name, func(t *testing.T) {
			transcribetest.Run(t, func(t *testing.T) transcribetest.Subject {
				return transcribetest.Subject{
					Engine: newEngine(t, peer.change, peer.address), RateHz: rate, Speech: speech(t),
					Phrase: "do not tell anyone", NonWord: "anydesk",
				}
			})
		})
	}
}

// fault is what is written to a session and what must come of it.
func fault(t *testing.T, engine transcribe.Engine, named ...string) {
	t.Helper()
	session, err := engine.Open(t.Context(), transcribe.Options{Leg: audio.Caller})
	if err == nil {
		defer session.Close()
		for i := range 10 {
			f := audio.Frame{Start: time.Duration(i) * 100 * time.Millisecond, Rate: rate, PCM: make([]int16, rate/10)}
			if _, err = session.Write(t.Context(), f); err != nil {
				break
			}
		}
	}
	if err == nil {
		_, err = session.Finish(t.Context())
	}
	if err == nil {
		t.Fatal("heard all of it")
	}
	if errors.Is(err, transcribe.ErrFrame) || errors.Is(err, transcribe.ErrOption) {
		t.Errorf("%v: blames the caller", err)
	}
	for _, n := range named {
		if !strings.Contains(err.Error(), n) {
			t.Errorf("%v: does not say %q", err, n)
		}
	}
	if session != nil {
		if _, err := session.Write(t.Context(), audio.Frame{Start: time.Hour, Rate: rate, PCM: make([]int16, rate)}); err == nil {
			t.Error("a dead session heard on")
		}
	}
}

// speak is a WebSocket server that answers every message with the same.
func speak(kind websocket.MessageType, answer string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			if _, _, err := conn.Read(r.Context()); err != nil {
				return
			}
			if err := conn.Write(r.Context(), kind, []byte(answer)); err != nil {
				return
			}
		}
	})
}

// impatient waits for those who say nothing no longer than it takes to see it.
func impatient(name string) func(*voskserver.Config) {
	return func(c *voskserver.Config) {
		if name == "says nothing" {
			c.Answer = 200 * time.Millisecond
		}
	}
}

func TestWebSocketServerThatMisbehavesIsNamed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	big := `{"partial" : "` + strings.Repeat("a", 10<<20) + `"}`
	for _, tt := range []struct {
		name    string
		handler http.Handler
		says    []string
	}{
		{"no JSON", speak(websocket.MessageText, "hello"), []string{"no JSON"}},
		{"binary", speak(websocket.MessageBinary, "\x00\xff\xfe"), []string{"no JSON"}},
		{"another protocol", speak(websocket.MessageText, `{"type" : "result"}`), []string{"neither text nor partial"}},
		{"impossible times", speak(websocket.MessageText, `{"result" : [{"word" : "a", "start" : 2, "end" : 1}], "text" : "a"}`), []string{"from 2 to 1 s"}},
		{"10 MB", speak(websocket.MessageText, big), []string{"read limited"}},
		{"no WebSocket", http.NotFoundHandler(), []string{"404"}},
		{"closes at once", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if conn, err := websocket.Accept(w, r, nil); err == nil {
				_ = conn.Close(websocket.StatusPolicyViolation, "go away")
			}
		}), []string{"go away"}},
		{"drops the connection", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if conn, err := websocket.Accept(w, r, nil); err == nil {
				_ = conn.CloseNow()
			}
		}), nil},
		{"says nothing", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if conn, err := websocket.Accept(w, r, nil); err == nil {
				defer func() { _ = conn.CloseNow() }()
				for err == nil {
					_, _, err = conn.Read(r.Context())
				}
			}
		}), []string{"did not answer for 200ms"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			address := "ws://" + server.Listener.Addr().String()
			engine := newEngine(t, impatient(tt.name), address)
			fault(t, engine, append(tt.says, address)...)
			if err := engine.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGRPCServerThatMisbehavesIsNamed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	words := func(texts ...*voskpb.WordInfo) *response {
		return &response{Chunks: []*voskpb.SpeechRecognitionChunk{{
			Alternatives: []*voskpb.SpeechRecognitionAlternative{{Text: "a", Words: texts}}, Final: true,
		}}}
	}
	answering := func(r *response) func(*serverOf) error {
		return func(s *serverOf) error {
			_, err := s.Recv()
			for ; err == nil; _, err = s.Recv() {
				if err := s.Send(r); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, tt := range []struct {
		name  string
		serve func(*serverOf) error
		says  []string
	}{
		{"ends early", func(s *serverOf) error { _, err := s.Recv(); return err }, []string{"ended the stream early"}},
		{"10 MB", answering(words(&voskpb.WordInfo{Word: strings.Repeat("a", 10<<20)})), []string{"ResourceExhausted"}},
		{"says nothing", func(s *serverOf) error { <-s.Context().Done(); return nil }, []string{"did not answer for 200ms"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Run("peer", func(t *testing.T) {
				address := startGRPC(t, insecure.NewCredentials(), tt.serve)
				engine := newEngine(t, impatient(tt.name), address)
				fault(t, engine, append(tt.says, address)...)
				if err := engine.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
	t.Run("another service", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		defer server.Close()
		address := "grpc://" + server.Listener.Addr().String()
		engine := newEngine(t, nil, address)
		defer engine.Close()
		fault(t, engine, address)
	})
}

func TestTLSMismatchIsSaidAtOpen(t *testing.T) {
	plain := startWebSocket(t, speak(websocket.MessageText, `{"partial" : ""}`))
	secure := httptest.NewUnstartedServer(speak(websocket.MessageText, `{"partial" : ""}`))
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	secure.StartTLS()
	defer secure.Close()
	secureHost := secure.Listener.Addr().String()
	grpcs := startGRPC(t, credentials.NewTLS(&tls.Config{Certificates: secure.TLS.Certificates}), func(*serverOf) error { return nil })
	for name, address := range map[string]string{
		"wss to a plain server":           "wss" + strings.TrimPrefix(plain, "ws"),
		"ws to a TLS server":              "ws://" + secureHost,
		"a certificate of nobody we know": "wss://" + secureHost,
		"grpc to a TLS server":            grpcs,
		"grpcs, of nobody we know":        "grpcs" + strings.TrimPrefix(grpcs, "grpc"),
	} {
		t.Run(name, func(t *testing.T) {
			engine := newEngine(t, nil, address)
			defer engine.Close()
			session, err := engine.Open(t.Context(), transcribe.Options{})
			if err == nil {
				session.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), address) {
				t.Errorf("%v: does not name %s", err, address)
			}
		})
	}
	t.Run("the authority is given", func(t *testing.T) {
		ca := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(ca, pemOf(secure.Certificate()), 0o600); err != nil {
			t.Fatal(err)
		}
		engine := newEngine(t, func(c *voskserver.Config) { c.CA = ca }, "wss://"+secureHost)
		defer engine.Close()
		session, err := engine.Open(t.Context(), transcribe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		session.Close()
	})
}

func TestNextServerIsOpenedWhereOneIsDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "ws://" + l.Addr().String()
	l.Close()
	alive := startWebSocket(t, speak(websocket.MessageText, `{"partial" : ""}`))
	engine := newEngine(t, nil, dead, alive)
	defer engine.Close()
	for range 3 {
		session, err := engine.Open(t.Context(), transcribe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.Write(t.Context(), audio.Frame{Rate: rate, PCM: make([]int16, rate/10)}); err != nil {
			t.Error(err)
		}
		session.Close()
	}
	none := newEngine(t, nil, dead, "grpc"+strings.TrimPrefix(dead, "ws"))
	defer none.Close()
	if _, err := none.Open(t.Context(), transcribe.Options{}); err == nil || strings.Count(err.Error(), strings.TrimPrefix(dead, "ws")) < 2 {
		t.Errorf("%v, want an error that names both servers", err)
	}
}

// A server that answers nothing, not even TCP, must not hold up a leg for more
// than the time that opening may take.
func TestOpeningIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan struct{}) // closed when the listener is
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	for _, scheme := range []string{"ws", "wss", "grpc", "grpcs"} {
		engine := newEngine(t, func(c *voskserver.Config) { c.Open = 100 * time.Millisecond; c.Answer = 100 * time.Millisecond }, scheme+"://"+l.Addr().String())
		begin := time.Now()
		fault(t, engine, l.Addr().String())
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: took %v", scheme, took)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	}
	l.Close()
	<-accepted
}

func TestCancelledWriteReturnsAtOnce(t *testing.T) {
	silent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, err := websocket.Accept(w, r, nil); err == nil {
			for err == nil {
				_, _, err = conn.Read(r.Context())
			}
		}
	})
	for _, address := range []string{
		startWebSocket(t, silent),
		startGRPC(t, insecure.NewCredentials(), func(s *serverOf) error { <-s.Context().Done(); return nil }),
	} {
		engine := newEngine(t, nil, address)
		defer engine.Close()
		session, err := engine.Open(t.Context(), transcribe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if _, err := session.Write(ctx, audio.Frame{Rate: rate, PCM: make([]int16, rate)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want the context's error", address, err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: took %v", address, took)
		}
	}
}

func TestConfigIsRefusedWithItsKey(t *testing.T) {
	for want, change := range map[string]func(*voskserver.Config){
		"addresses":  func(c *voskserver.Config) { c.Addresses = nil },
		"http://a:1": func(c *voskserver.Config) { c.Addresses = []string{"http://a:1"} },
		"localhost":  func(c *voskserver.Config) { c.Addresses = []string{"localhost"} },
		"grpc://a:1/b": func(c *voskserver.Config) {
			c.Addresses = []string{"grpc://a:1/b"}
		},
		"rate_hz":    func(c *voskserver.Config) { c.RateHz = 100 },
		"open":       func(c *voskserver.Config) { c.Open = 0 },
		"answer":     func(c *voskserver.Config) { c.Answer = time.Hour },
		"ca":         func(c *voskserver.Config) { c.CA = "no such file" },
		"vocabulary": func(c *voskserver.Config) { c.Vocabulary = "no such file" },
		"gRPC":       func(c *voskserver.Config) { c.Addresses, c.Vocabulary = []string{"grpc://a:1"}, "words.txt" },
	} {
		cfg := voskserver.DefaultConfig()
		cfg.Addresses = []string{"127.0.0.1:2700"}
		change(&cfg)
		if engine, err := voskserver.New(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
			if err == nil {
				engine.Close()
			}
		}
	}
}
