package riva_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/riva"
	"github.com/callwarden/callwarden/transcribe/riva/rivapb"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

const rate = 16000

type (
	request  = rivapb.StreamingRecognizeRequest
	response = rivapb.StreamingRecognizeResponse
	result   = rivapb.StreamingRecognitionResult
	serverOf = grpc.GenericServerStream[request, response]
)

func newVosk(t testing.TB) *vosk.Engine {
	t.Helper()
	dir, err := models.DataDir("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := vosk.DefaultConfig()
	store := models.Open(dir)
	if cfg.Library, err = store.Path(models.DefaultLibrary); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	if cfg.Model, err = store.Path(models.DefaultModel); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	engine, err := vosk.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func samples(data []byte) []int16 {
	pcm := make([]int16, len(data)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return pcm
}

func speech(t testing.TB) []int16 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "vosk", "testdata", "speech.wav"))
	if err != nil {
		t.Fatal(err)
	}
	return samples(data[44:])
}

// rivaServer is the published protocol around an engine: interim results in
// two pieces of different stability, as Riva gives them, final ones with
// words in milliseconds, written as Riva writes them.
func rivaServer(engine transcribe.Engine) func(*serverOf) error {
	return func(s *serverOf) error {
		first, err := s.Recv()
		if err != nil {
			return err
		}
		cfg := first.GetStreamingConfig().GetConfig()
		if cfg.GetEncoding() != rivapb.AudioEncoding_LINEAR_PCM || cfg.GetLanguageCode() == "" {
			return status.Error(codes.InvalidArgument, "Error: Unavailable model requested given these parameters")
		}
		hz := int(cfg.GetSampleRateHertz())
		session, err := engine.Open(s.Context(), transcribe.Options{RateHz: hz})
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		defer session.Close()
		heard := 0
		tell := func(segments []transcribe.Segment) error {
			for _, seg := range segments {
				if err := s.Send(&response{Results: results(seg, float32(heard)/float32(hz))}); err != nil {
					return err
				}
			}
			return nil
		}
		for {
			req, err := s.Recv()
			if err != nil {
				break
			}
			pcm := samples(req.GetAudioContent())
			start := audio.Span(heard, hz)
			heard += len(pcm)
			segments, err := session.Write(s.Context(), audio.Frame{Start: start, Rate: hz, PCM: pcm})
			if err == nil {
				err = tell(segments)
			}
			if err != nil {
				return err
			}
		}
		segments, err := session.Finish(s.Context())
		if err != nil {
			return err
		}
		return tell(segments)
	}
}

func results(seg transcribe.Segment, processed float32) []*result {
	if seg.Final {
		a := &rivapb.SpeechRecognitionAlternative{Transcript: seg.Text + " ", Confidence: -0.3}
		for _, w := range seg.Words {
			a.Words = append(a.Words, &rivapb.WordInfo{
				Word: strings.ToUpper(w.Text[:1]) + w.Text[1:], Confidence: w.Confidence,
				StartTime: int32(w.Start.Milliseconds()), EndTime: int32(w.End.Milliseconds()),
			})
		}
		return []*result{{Alternatives: []*rivapb.SpeechRecognitionAlternative{a}, IsFinal: true, ChannelTag: 1, AudioProcessed: processed}}
	}
	words := strings.Fields(seg.Text)
	cut := len(words) / 2
	var pieces []*result
	for i, text := range []string{strings.Join(words[:cut], " ") + " ", strings.Join(words[cut:], " ")} {
		pieces = append(pieces, &result{
			Alternatives: []*rivapb.SpeechRecognitionAlternative{{Transcript: text}},
			Stability:    []float32{0.9, 0.1}[i], ChannelTag: 1, AudioProcessed: processed,
		})
	}
	return pieces
}

func start(t *testing.T, creds credentials.TransportCredentials, serve func(*serverOf) error) string {
	t.Helper()
	server := grpc.NewServer(grpc.Creds(creds))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "nvidia.riva.asr.RivaSpeechRecognition",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "StreamingRecognize", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, s grpc.ServerStream) error { return serve(&serverOf{ServerStream: s}) },
		}},
	}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}) // closed when the server has stopped
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return l.Addr().String()
}

func newEngine(t *testing.T, change func(*riva.Config), addresses ...string) *riva.Engine {
	t.Helper()
	cfg := riva.DefaultConfig()
	cfg.Addresses = addresses
	if change != nil {
		change(&cfg)
	}
	engine, err := riva.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func TestConformance(t *testing.T) {
	engine := transcribetest.NewRemembered(newVosk(t))
	defer engine.Close()
	address := start(t, insecure.NewCredentials(), rivaServer(engine))
	transcribetest.Run(t, func(t *testing.T) transcribetest.Subject {
		return transcribetest.Subject{Engine: newEngine(t, nil, address), RateHz: rate, Speech: speech(t)}
	})
}

func TestServerIsAskedForWhatTheLegNeeds(t *testing.T) {
	type asked struct {
		cfg     *rivapb.StreamingRecognitionConfig
		headers metadata.MD
	}
	got := make(chan asked, 1)
	secure := httptest.NewUnstartedServer(nil)
	secure.StartTLS()
	defer secure.Close()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	for path, data := range map[string][]byte{ca: pemOf(secure.Certificate()), token: []byte("s3cret\n")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := start(t, credentials.NewTLS(&tls.Config{Certificates: secure.TLS.Certificates}), func(s *serverOf) error {
		first, err := s.Recv()
		if err != nil {
			return err
		}
		md, _ := metadata.FromIncomingContext(s.Context())
		got <- asked{first.GetStreamingConfig(), md}
		for err == nil {
			_, err = s.Recv()
		}
		return nil
	})
	engine := newEngine(t, func(c *riva.Config) {
		c.CA, c.TokenFile, c.Model, c.MaxHints = ca, token, "conformer", 2
		c.Metadata = map[string]string{"function-id": "f1"}
	}, "grpcs://"+address)
	defer engine.Close()
	session, err := engine.Open(t.Context(), transcribe.Options{Language: "es-US", Hints: []string{"zelle", "anydesk", "venmo"}})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	a := <-got
	cfg := a.cfg.GetConfig()
	if !a.cfg.GetInterimResults() || cfg.GetSampleRateHertz() != rate || cfg.GetLanguageCode() != "es-US" || cfg.GetModel() != "conformer" ||
		!cfg.GetEnableWordTimeOffsets() || !cfg.GetVerbatimTranscripts() || cfg.GetAudioChannelCount() != 1 {
		t.Errorf("asked for %v", a.cfg)
	}
	if c := cfg.GetSpeechContexts(); len(c) != 1 || !slices.Equal(c[0].GetPhrases(), []string{"zelle", "anydesk"}) || c[0].GetBoost() != 10 {
		t.Errorf("speech contexts %v, want the first two hints with a boost of 10", c)
	}
	if !slices.Equal(a.headers.Get("authorization"), []string{"Bearer s3cret"}) || !slices.Equal(a.headers.Get("function-id"), []string{"f1"}) {
		t.Errorf("headers %v", a.headers)
	}
	if segments, err := session.Finish(t.Context()); err != nil || len(segments) > 0 {
		t.Errorf("%v, %v", segments, err)
	}
}

func TestServerThatMisbehavesIsNamed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
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
	final := func(words ...*rivapb.WordInfo) *response {
		return &response{Results: []*result{{IsFinal: true, Alternatives: []*rivapb.SpeechRecognitionAlternative{{Transcript: "a", Words: words}}}}}
	}
	for _, tt := range []struct {
		name  string
		serve func(*serverOf) error
		says  string
	}{
		{"refuses the configuration", func(s *serverOf) error {
			if _, err := s.Recv(); err != nil {
				return err
			}
			return status.Error(codes.InvalidArgument, "no such model")
		}, "no such model"},
		{"ends early", func(s *serverOf) error { _, err := s.Recv(); return err }, "ended the stream early"},
		{"reads nothing", func(s *serverOf) error { <-s.Context().Done(); return nil }, "did not answer for 300ms"},
		{"never ends", func(s *serverOf) error {
			_, err := s.Recv()
			for ; err == nil; _, err = s.Recv() {
			}
			<-s.Context().Done()
			return nil
		}, "did not answer for 300ms"},
		{"times that run backwards", answering(final(&rivapb.WordInfo{Word: "a", StartTime: 5, EndTime: 4})), "from 5 to 4 ms"},
		{"10 MB", answering(final(&rivapb.WordInfo{Word: strings.Repeat("a", 10<<20)})), "ResourceExhausted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := start(t, insecure.NewCredentials(), tt.serve)
			engine := newEngine(t, func(c *riva.Config) {
				if strings.Contains(tt.says, "300ms") {
					c.Answer = 300 * time.Millisecond
				}
			}, address)
			defer engine.Close()
			session, err := engine.Open(t.Context(), transcribe.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			for at := time.Duration(0); err == nil && at < 10*time.Second; at += time.Second {
				_, err = session.Write(t.Context(), audio.Frame{Start: at, Rate: rate, PCM: make([]int16, rate)})
			}
			if err == nil {
				_, err = session.Finish(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), address) {
				t.Errorf("%v, want %q of %s", err, tt.says, address)
			}
		})
	}
}

func TestTLSMismatchIsSaidAtOpen(t *testing.T) {
	secure := httptest.NewUnstartedServer(nil)
	secure.StartTLS()
	defer secure.Close()
	overTLS := start(t, credentials.NewTLS(&tls.Config{Certificates: secure.TLS.Certificates}), func(*serverOf) error { return nil })
	plain := start(t, insecure.NewCredentials(), func(*serverOf) error { return nil })
	for _, address := range []string{"grpc://" + overTLS, "grpcs://" + overTLS, "grpcs://" + plain} {
		engine := newEngine(t, nil, address)
		defer engine.Close()
		session, err := engine.Open(t.Context(), transcribe.Options{})
		if err == nil {
			session.Close()
		}
		if err == nil || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestNextServerIsOpenedWhereOneIsDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	alive := start(t, insecure.NewCredentials(), func(s *serverOf) error {
		_, err := s.Recv()
		for ; err == nil; _, err = s.Recv() {
		}
		return nil
	})
	engine := newEngine(t, nil, dead, alive)
	defer engine.Close()
	for range 2 {
		session, err := engine.Open(t.Context(), transcribe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.Finish(t.Context()); err != nil {
			t.Error(err)
		}
		session.Close()
	}
}

func TestCancelledFinishReturnsAtOnce(t *testing.T) {
	address := start(t, insecure.NewCredentials(), func(s *serverOf) error { <-s.Context().Done(); return nil })
	engine := newEngine(t, nil, address)
	defer engine.Close()
	session, err := engine.Open(t.Context(), transcribe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := session.Finish(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's error", err)
	}
}

func TestConfigIsRefusedWithItsKey(t *testing.T) {
	for want, change := range map[string]func(*riva.Config){
		"addresses":   func(c *riva.Config) { c.Addresses = nil },
		"http://a:1":  func(c *riva.Config) { c.Addresses = []string{"http://a:1"} },
		"grpc://a:1/": func(c *riva.Config) { c.Addresses = []string{"grpc://a:1/x"} },
		"rate_hz":     func(c *riva.Config) { c.RateHz = 1 },
		"language":    func(c *riva.Config) { c.Language = "" },
		"boost":       func(c *riva.Config) { c.Boost = -1 },
		"max_hints":   func(c *riva.Config) { c.MaxHints = -1 },
		"open":        func(c *riva.Config) { c.Open = 0 },
		"answer":      func(c *riva.Config) { c.Answer = 0 },
		"in the clear": func(c *riva.Config) {
			c.TokenFile = "token"
		},
		"token_file": func(c *riva.Config) {
			c.Addresses, c.TokenFile = []string{"grpcs://a:1"}, "no such file"
		},
		"ca":       func(c *riva.Config) { c.CA = "no such file" },
		"metadata": func(c *riva.Config) { c.Metadata = map[string]string{"Function-Id": "x"} },
	} {
		cfg := riva.DefaultConfig()
		cfg.Addresses = []string{"127.0.0.1:50051"}
		change(&cfg)
		if engine, err := riva.New(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
			if err == nil {
				engine.Close()
			}
		}
	}
}

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}
