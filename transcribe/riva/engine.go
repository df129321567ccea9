// Package riva hears with NVIDIA Riva over its gRPC service
// nvidia.riva.asr.RivaSpeechRecognition: one stream for each leg, with the
// packs' words as speech contexts.
//
// Riva answers when it has something to say, not message by message. So
// unfinished words come with whichever frame is heard when they arrive, and a
// recording that is heard faster than it was spoken may bring them later, on
// the media clock, than a live call would.
package riva

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/peer"
	"github.com/callwarden/callwarden/transcribe/riva/rivapb"
	"github.com/callwarden/callwarden/transcribe/stream"
)

// Config says where the servers are and what they are asked for.
type Config struct {
	// Addresses of servers with the same models: grpc://HOST:PORT or
	// grpcs://HOST:PORT; HOST:PORT alone is grpc. A stream is opened with the
	// first that is not known to be down.
	Addresses []string `yaml:"addresses"`
	// RateHz of the audio that is sent. Riva resamples to its model's.
	RateHz int `yaml:"rate_hz"`
	// Language is asked for where a session does not say one, BCP 47.
	Language string `yaml:"language"`
	// Model names one of the servers' models; empty leaves the choice to them.
	Model string `yaml:"model"`
	// Boost is how much likelier hints become; up to 20 is sensible, 0 sends
	// no hints. MaxHints is how many are sent, the most telling first.
	Boost    float64 `yaml:"boost"`
	MaxHints int     `yaml:"max_hints"`
	// CA is a PEM file of the authorities that may sign for grpcs; empty for
	// those of the system.
	CA string `yaml:"ca"`
	// TokenFile has the key that is sent as a bearer token, over grpcs only.
	TokenFile string `yaml:"token_file"`
	// Metadata goes with each stream: hosted services want a function-id.
	Metadata map[string]string `yaml:"metadata"`
	// Open and Answer are how long a server may take to open a stream, and to
	// take audio or say its last words.
	Open   time.Duration `yaml:"open"`
	Answer time.Duration `yaml:"answer"`
}

// DefaultConfig is Config with everything but the addresses.
func DefaultConfig() Config {
	return Config{
		RateHz: 16000, Language: "en-US", Boost: 10, MaxHints: 500,
		Open: 5 * time.Second, Answer: 10 * time.Second,
	}
}

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	if len(c.Addresses) == 0 {
		return errors.New("addresses: empty, must name a Riva server, such as 127.0.0.1:50051")
	}
	for _, text := range c.Addresses {
		a, err := parseAddress(text)
		if err != nil {
			return fmt.Errorf("addresses: %w", err)
		}
		if c.TokenFile != "" && a.Scheme != "grpcs" {
			return fmt.Errorf("token_file: %s would be sent in the clear to %s; the address must begin with grpcs://", c.TokenFile, text)
		}
	}
	for k := range c.Metadata {
		if k == "" || strings.ToLower(k) != k || strings.HasPrefix(k, "grpc-") || strings.ContainsFunc(k, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
		}) {
			return fmt.Errorf("metadata: %q must be a lower-case header name", k)
		}
	}
	switch {
	case c.RateHz < 8000 || c.RateHz > 48000:
		return fmt.Errorf("rate_hz: %d must be from 8000 to 48000", c.RateHz)
	case c.Language == "":
		return errors.New("language: empty, must be a BCP 47 tag such as en-US")
	case !(c.Boost >= 0 && c.Boost <= 100):
		return fmt.Errorf("boost: %g must be from 0 to 100", c.Boost)
	case c.MaxHints < 0:
		return fmt.Errorf("max_hints: %d must be at least 0", c.MaxHints)
	case c.Open <= 0 || c.Open > time.Minute:
		return fmt.Errorf("open: %v must be over 0s and at most 1m", c.Open)
	case c.Answer <= 0 || c.Answer > time.Minute:
		return fmt.Errorf("answer: %v must be over 0s and at most 1m", c.Answer)
	}
	return nil
}

func parseAddress(s string) (peer.Address, error) {
	a, err := peer.ParseAddress(s, "grpc", "grpcs")
	if err == nil && strings.Trim(a.Path, "/") != "" {
		err = fmt.Errorf("%q must have no path", s)
	}
	return a, err
}

// Engine is some servers with the same models. It holds one connection to
// each that was used.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	tls     *tls.Config
	headers metadata.MD
	set     *peer.Set
	servers []*server // of set

	mu     sync.Mutex
	closed bool
}

type server struct {
	peer.Address
	mu   sync.Mutex
	conn *grpc.ClientConn // nil until used
}

var _ transcribe.Engine = (*Engine)(nil)

// New reads the files that cfg names and connects to nobody yet.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("riva.%w", err)
	}
	trusted, err := peer.TLS(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("riva.%w", err)
	}
	e := &Engine{cfg: cfg, log: log, tls: trusted, headers: metadata.New(cfg.Metadata)}
	if cfg.TokenFile != "" {
		token, err := peer.ReadSecret(cfg.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("riva.token_file: %w", err)
		}
		e.headers.Set("authorization", "Bearer "+token)
	}
	var names []string
	for _, text := range cfg.Addresses {
		a, err := parseAddress(text)
		if err != nil {
			return nil, err
		}
		e.servers = append(e.servers, &server{Address: a})
		names = append(names, a.String())
	}
	e.set = peer.NewSet("riva server", names...)
	return e, nil
}

// Info is what the servers can do, as far as this side knows.
func (e *Engine) Info() transcribe.Info {
	model := e.cfg.Model
	if model == "" {
		model = e.servers[0].String()
	}
	return transcribe.Info{Backend: "riva", Model: model, Language: e.cfg.Language, RateHz: e.cfg.RateHz, Hints: e.cfg.Boost > 0 && e.cfg.MaxHints > 0}
}

// Open opens a stream with the first server that takes it. Riva tells of a
// configuration that it cannot honour with its first answer, so that shows in
// a later Write.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opt.RateHz != 0 && opt.RateHz != e.cfg.RateHz {
		return nil, fmt.Errorf("%w: rate %d Hz, the servers are sent %d", transcribe.ErrOption, opt.RateHz, e.cfg.RateHz)
	}
	if len(opt.Phrases) > 0 {
		return nil, fmt.Errorf("%w: phrases, Riva closes no vocabulary", transcribe.ErrOption)
	}
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("riva engine: %w", transcribe.ErrClosed)
	}
	first := e.request(opt)
	var rec *recognition
	err := e.set.Try(ctx, e.cfg.Open, func(ctx context.Context, i int) (err error) {
		rec, err = e.dial(ctx, e.servers[i], first)
		return err
	})
	if err != nil {
		return nil, err
	}
	return stream.NewSession("riva", opt.Leg, e.cfg.RateHz, rec), nil
}

// request is the first message of a stream.
func (e *Engine) request(opt transcribe.Options) *rivapb.StreamingRecognizeRequest {
	language := opt.Language
	if language == "" {
		language = e.cfg.Language
	}
	cfg := &rivapb.RecognitionConfig{
		Encoding:              rivapb.AudioEncoding_LINEAR_PCM,
		SampleRateHertz:       int32(e.cfg.RateHz),
		LanguageCode:          language,
		MaxAlternatives:       1,
		AudioChannelCount:     1,
		EnableWordTimeOffsets: true,
		Model:                 e.cfg.Model,
		// The packs are about spoken words: "four seven one", not "471".
		VerbatimTranscripts: true,
	}
	if hints := sendable(opt.Hints, e.cfg.MaxHints); len(hints) > 0 && e.cfg.Boost > 0 {
		cfg.SpeechContexts = []*rivapb.SpeechContext{{Phrases: hints, Boost: float32(e.cfg.Boost)}}
	}
	return &rivapb.StreamingRecognizeRequest{StreamingRequest: &rivapb.StreamingRecognizeRequest_StreamingConfig{
		StreamingConfig: &rivapb.StreamingRecognitionConfig{Config: cfg, InterimResults: true},
	}}
}

// connection is the server's, shared by all streams.
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

// Close ends the connections. Sessions are closed before.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	var errs []error
	for _, s := range e.servers {
		s.mu.Lock()
		if s.conn != nil {
			errs = append(errs, s.conn.Close())
			s.conn = nil
		}
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

// maxHintBytes is more than anybody says in one breath.
const maxHintBytes = 200

// sendable are the first hints that a server can be told: text of a sensible
// length. One that cannot would cost the whole session.
func sendable(hints []string, most int) []string {
	var out []string
	for _, h := range hints {
		if len(out) == most {
			break
		}
		if utf8.ValidString(h) && strings.TrimSpace(h) != "" && len(h) <= maxHintBytes {
			out = append(out, h)
		}
	}
	return out
}
