package remote_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/certs"
	"github.com/callwarden/callwarden/transcribe/certs/certstest"
	"github.com/callwarden/callwarden/transcribe/remote"
	"github.com/callwarden/callwarden/transcribe/service"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// strange is a server whose streams answer as a test wants: the nth message,
// from 0, or the end where it is -1.
type strange struct {
	callwardenv1.UnimplementedTranscribeServiceServer
	answer func(wire grpc.BidiStreamingServer[callwardenv1.TranscribeRequest, callwardenv1.TranscribeResponse], n int, req *callwardenv1.TranscribeRequest) error
}

func (s *strange) GetCapabilities(context.Context, *callwardenv1.GetCapabilitiesRequest) (*callwardenv1.GetCapabilitiesResponse, error) {
	return &callwardenv1.GetCapabilitiesResponse{Backend: "strange", RateHz: 16000, Capacity: 10}, nil
}

func (s *strange) Transcribe(wire grpc.BidiStreamingServer[callwardenv1.TranscribeRequest, callwardenv1.TranscribeResponse]) error {
	for n := 0; ; n++ {
		req, err := wire.Recv()
		if errors.Is(err, io.EOF) {
			n = -1
		} else if err != nil {
			return err
		}
		if err := s.answer(wire, n, req); err != nil || n < 0 {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func strangely(t *testing.T, s *strange) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	callwardenv1.RegisterTranscribeServiceServer(g, s)
	served := make(chan error, 1)
	go func() { served <- g.Serve(lis) }() // ends with the cleanup
	t.Cleanup(func() {
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String()
}

type toServer = grpc.BidiStreamingServer[callwardenv1.TranscribeRequest, callwardenv1.TranscribeResponse]

// segment is 100 ms of one word, with what change makes of it.
func segment(change func(*callwardenv1.RecognizedSegment)) *callwardenv1.RecognizedSegment {
	s := &callwardenv1.RecognizedSegment{
		Text: "word", Start: durationpb.New(0), End: durationpb.New(100 * time.Millisecond),
		Words: []*callwardenv1.RecognizedWord{{Text: "word", Start: durationpb.New(0), End: durationpb.New(100 * time.Millisecond), Confidence: 1}},
	}
	change(s)
	return s
}

// Answers that cannot be are an error that says what is wrong with them, never
// segments.
func TestNonsenseIsNamed(t *testing.T) {
	second := durationpb.New(time.Second)
	saying := func(segs ...*callwardenv1.RecognizedSegment) *callwardenv1.TranscribeResponse {
		return &callwardenv1.TranscribeResponse{Heard: second, Segments: segs}
	}
	type changed = *callwardenv1.RecognizedSegment
	for name, c := range map[string]struct {
		answer func(wire toServer, n int, req *callwardenv1.TranscribeRequest) error
		says   string
	}{
		"no word that a leg was opened": {func(w toServer, _ int, _ *callwardenv1.TranscribeRequest) error {
			return w.Send(&callwardenv1.TranscribeResponse{})
		}, "does not say that a leg was opened"},
		"the end instead of an answer": {func(toServer, int, *callwardenv1.TranscribeRequest) error { return io.EOF }, "ends a stream that is not over"},
		"other audio":                  {then(&callwardenv1.TranscribeResponse{Heard: durationpb.New(time.Minute)}), "has heard until 1m0s"},
		"a time before the call":       {then(saying(segment(func(s changed) { s.Start = durationpb.New(-1) }))), "a segment from -1ns"},
		"a time that has not come":     {then(saying(segment(func(s changed) { s.End = durationpb.New(time.Hour) }))), "to 1h0m0s"},
		"an end before the start":      {then(saying(segment(func(s changed) { s.Start = second; s.End = durationpb.New(1) }))), "a segment from 1s"},
		"no confidence at all":         {then(saying(segment(func(s changed) { s.Words[0].Confidence = float32(math.NaN()) }))), "a confidence of NaN"},
		"more than sure":               {then(saying(segment(func(s changed) { s.Words[0].Confidence = 2 }))), "a confidence of 2"},
		"a word out of its segment":    {then(saying(segment(func(s changed) { s.Words[0].End = second }))), "a word from"},
		"words that are not the text":  {then(saying(segment(func(s changed) { s.Text = "other" }))), "words that are not those"},
		"a text that shouts":           {then(saying(segment(func(s changed) { s.Text = "WORD"; s.Words = nil }))), "lower case"},
		"an utterance below 0":         {then(saying(segment(func(s changed) { s.Utterance = -4 }))), "utterance -4"},
		"an utterance that was final": {then(saying(segment(func(s changed) { s.Final = true }),
			segment(func(s changed) { s.Text = "more"; s.Words = nil }))), "after the end of"},
		"an utterance before the other is final": {then(saying(segment(func(changed) {}),
			segment(func(s changed) { s.Utterance = 1 }))), "before the end of"},
	} {
		t.Run(name, func(t *testing.T) {
			e := connect(t, func(c *remote.Config) { c.Answer = time.Second }, strangely(t, &strange{answer: c.answer}))
			s, err := e.Open(t.Context(), transcribe.Options{})
			if err == nil {
				defer s.Close()
				var segs []transcribe.Segment
				segs, err = s.Write(t.Context(), audio.Frame{Rate: 16000, PCM: make([]int16, 16000)})
				for _, seg := range segs {
					if seg.Text != "word" || seg.Utterance != 0 {
						t.Errorf("segment %+v", seg)
					}
				}
			}
			if err == nil || errors.Is(err, transcribe.ErrAway) || !strings.Contains(err.Error(), "answers nonsense") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want nonsense with %q", err, c.says)
			}
		})
	}
}

// then opens the leg and answers its first audio, which is a second.
func then(answer *callwardenv1.TranscribeResponse) func(toServer, int, *callwardenv1.TranscribeRequest) error {
	return func(w toServer, n int, _ *callwardenv1.TranscribeRequest) error {
		if n == 0 {
			return w.Send(&callwardenv1.TranscribeResponse{Opened: &callwardenv1.TranscribeOpened{}})
		}
		return w.Send(answer)
	}
}

// A peer that takes audio and answers nothing makes its leg away; one that is
// asked to end ends all the same.
func TestPeerThatAnswersNothingIsLeft(t *testing.T) {
	addr := strangely(t, &strange{answer: func(w toServer, n int, _ *callwardenv1.TranscribeRequest) error {
		if n == 0 {
			return w.Send(&callwardenv1.TranscribeResponse{Opened: &callwardenv1.TranscribeOpened{}})
		}
		<-w.Context().Done()
		return w.Context().Err()
	}})
	e := connect(t, func(c *remote.Config) { c.Answer = 100 * time.Millisecond }, addr)
	s, err := e.Open(t.Context(), transcribe.Options{Live: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Write(t.Context(), audio.Frame{Rate: 16000, PCM: make([]int16, 1600)})
	if !errors.Is(err, transcribe.ErrAway) || !strings.Contains(err.Error(), "it does not answer") {
		t.Errorf("error %v", err)
	}
}

// What is no transcriber at all is said when it is connected to.
func TestOtherServersAreNoTranscribers(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	other := strangely(t, &strange{})
	for name, addr := range map[string]string{"a web server": web.Listener.Addr().String()} {
		cfg := remote.DefaultConfig()
		cfg.Addresses, cfg.Connect = []string{addr}, 500*time.Millisecond
		e, err := remote.New(cfg, quiet())
		if err == nil {
			e.Close()
			t.Errorf("%s was taken for one", name)
		} else if !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if e := connect(t, nil, other); e.Info().Phrases || e.Info().Hints {
		t.Error("phrase lists of a server that takes none")
	}
}

func TestTLSAndTokensAreSaidWhenTheyDoNotFit(t *testing.T) {
	root, stranger := certstest.NewRoot(t), certstest.NewRoot(t)
	later, past := time.Now().Add(24*time.Hour), time.Now().Add(-time.Hour)
	token := filepath.Join(t.TempDir(), "token")
	wrong := filepath.Join(t.TempDir(), "wrong")
	for f, text := range map[string]string{token: "0123456789abcdef", wrong: "0123456789abcdeX"} {
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := root.Issue(t, t.TempDir(), "127.0.0.1", later)
	mutual := server
	mutual.CA = root.File
	client := root.Issue(t, t.TempDir(), "client", later)
	client.CA = root.File
	for name, c := range map[string]struct {
		server certs.Files
		change func(*remote.Config)
		says   string // empty: all is well
	}{
		"mutual TLS and a token":  {mutual, func(c *remote.Config) { c.TLS, c.TokenFile = client, token }, ""},
		"another token":           {mutual, func(c *remote.Config) { c.TLS, c.TokenFile = client, wrong }, "does not carry this server's token"},
		"no token":                {mutual, func(c *remote.Config) { c.TLS = client }, "does not carry this server's token"},
		"no TLS":                  {mutual, func(c *remote.Config) { c.TokenFile = token }, "error reading server preface"},
		"another root":            {mutual, func(c *remote.Config) { c.TLS = certs.Files{CA: stranger.File} }, "unknown authority"},
		"another name":            {mutual, func(c *remote.Config) { c.TLS, c.ServerName = client, "bank.example" }, "bank.example"},
		"an expired certificate":  {root.Issue(t, t.TempDir(), "127.0.0.1", past), func(c *remote.Config) { c.TLS, c.TokenFile = client, token }, "certificate has expired"},
		"TLS where there is none": {certs.Files{}, func(c *remote.Config) { c.TLS, c.TokenFile = client, token }, "does not look like a TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, &transcribetest.Echo{}, "", func(cfg *service.Config) { cfg.TLS, cfg.TokenFile = c.server, token })
			cfg := remote.DefaultConfig()
			cfg.Addresses, cfg.Connect = []string{s.addr}, time.Second
			if c.says == "" {
				cfg.Connect = 20 * time.Second
			}
			c.change(&cfg)
			e, err := remote.New(cfg, quiet())
			if err == nil {
				defer e.Close()
			}
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}

func TestConfigNamesKeyValueAndRule(t *testing.T) {
	for want, change := range map[string]func(*remote.Config){
		"addresses: none is given":               func(c *remote.Config) { c.Addresses = nil },
		`addresses[1]: "nowhere" must be`:        func(c *remote.Config) { c.Addresses = append(c.Addresses, "nowhere") },
		`addresses[0]: "unix:" must name`:        func(c *remote.Config) { c.Addresses = []string{"unix:"} },
		"token_file: 10.0.0.1:7 must not get":    func(c *remote.Config) { c.Addresses, c.TokenFile = []string{"10.0.0.1:7"}, "t" },
		`tls.cert: "c" and key: "" must`:         func(c *remote.Config) { c.TLS.Cert = "c" },
		"ring: 0s must be from 1s to 10m0s":      func(c *remote.Config) { c.Ring = 0 },
		"gather: 1ms must be from 10ms to 1s":    func(c *remote.Config) { c.Gather = time.Millisecond },
		"answer: 2h0m0s must be from 100ms":      func(c *remote.Config) { c.Answer = 2 * time.Hour },
		"token_file: open /nonexistent":          func(c *remote.Config) { c.TokenFile = "/nonexistent" },
		"reading root certificates: open /nonex": func(c *remote.Config) { c.TLS.CA = "/nonexistent" },
	} {
		cfg := remote.DefaultConfig()
		cfg.Addresses = []string{"127.0.0.1:1"}
		change(&cfg)
		if e, err := remote.New(cfg, quiet()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
			if err == nil {
				e.Close()
			}
		}
	}
}
