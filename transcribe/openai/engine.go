// Package openai hears with a server of OpenAI's transcription interface, POST
// /v1/audio/transcriptions: whisper.cpp, faster-whisper and others on one's
// own machines, or a cloud.
//
// Such a server hears pieces of audio, not a stream. So a leg's speech, and
// nothing else of it, is sent in windows: to the end of what was said, or 15 s
// of it with an overlap, in which the words of two windows are stitched. There
// are no unfinished words, and what is said is known when the window has ended
// and was answered: this is the slowest way of hearing.
//
// Whisper invents text where nobody speaks. Windows with hardly any sound are
// not sent; of the answer, what the model itself doubts, what repeats itself,
// what lies in silence and what nobody could say in the time is left out.
package openai

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/peer"
	"github.com/callwarden/callwarden/transcribe/stream"
)

// Config says where the server is and how it is asked.
type Config struct {
	// Address is the server, http:// or https://. Without a path, and with
	// /v1, the path is that of OpenAI; whisper.cpp's server is given one with
	// --inference-path, or named here as it is: http://HOST:PORT/inference.
	Address string `yaml:"address"`
	// Model is the name that the server knows its model by.
	Model string `yaml:"model"`
	// Language is asked for where a session does not say one, BCP 47; empty
	// lets the model find out, window by window.
	Language string `yaml:"language"`
	// RateHz of the audio that is sent: the model's.
	RateHz int `yaml:"rate_hz"`
	// KeyFile has the key that is sent as a bearer token, KeyEnv names the
	// environment variable that has it where there is no file. A key goes over
	// https only, or to this machine.
	KeyFile string `yaml:"key_file"`
	KeyEnv  string `yaml:"key_env"`
	// CA is a PEM file of the authorities that may sign for the server; empty
	// for those of the system.
	CA string `yaml:"ca"`
	// PromptBytes bounds the prompt that is made of hints: Whisper reads 224
	// tokens of it. 0 sends none.
	PromptBytes int `yaml:"prompt_bytes"`
	// MaxWindow is the longest window and Overlap what two windows of the same
	// speech share.
	MaxWindow time.Duration `yaml:"max_window"`
	Overlap   time.Duration `yaml:"overlap"`
	// Parallel is how many requests run at once over all legs; a leg has one.
	Parallel int `yaml:"parallel"`
	// Timeout bounds a request; GiveUp is how long one is tried again that
	// fails for a reason that passes.
	Timeout time.Duration `yaml:"timeout"`
	GiveUp  time.Duration `yaml:"give_up"`
}

// DefaultConfig is Config with everything but the address.
func DefaultConfig() Config {
	return Config{
		Model: "whisper-1", Language: "en-US", RateHz: 16000, KeyEnv: "CALLWARDEN_TRANSCRIBER_KEY", PromptBytes: 600,
		MaxWindow: 15 * time.Second, Overlap: 2 * time.Second, Parallel: 8,
		Timeout: 30 * time.Second, GiveUp: time.Minute,
	}
}

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	if c.Address == "" {
		return errors.New("address: empty, must name a server, such as http://127.0.0.1:8080")
	}
	if _, err := endpoint(c.Address); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	switch {
	case c.Model == "":
		return errors.New("model: empty, must be the name that the server knows its model by")
	case c.RateHz < 8000 || c.RateHz > 48000:
		return fmt.Errorf("rate_hz: %d must be from 8000 to 48000", c.RateHz)
	case c.PromptBytes < 0 || c.PromptBytes > 4096:
		return fmt.Errorf("prompt_bytes: %d must be from 0 to 4096", c.PromptBytes)
	case c.MaxWindow < 3*time.Second || c.MaxWindow > 30*time.Second:
		return fmt.Errorf("max_window: %v must be from 3s to 30s, which is what Whisper hears at once", c.MaxWindow)
	case c.Overlap < 500*time.Millisecond || c.Overlap > c.MaxWindow/2:
		return fmt.Errorf("overlap: %v must be from 500ms to half of max_window", c.Overlap)
	case c.Parallel < 1:
		return fmt.Errorf("parallel: %d must be at least 1", c.Parallel)
	case c.Timeout <= 0 || c.Timeout > 5*time.Minute:
		return fmt.Errorf("timeout: %v must be over 0s and at most 5m", c.Timeout)
	case c.GiveUp < 0 || c.GiveUp > time.Hour:
		return fmt.Errorf("give_up: %v must be from 0s to 1h", c.GiveUp)
	}
	return nil
}

// endpoint is the URL that windows are sent to.
func endpoint(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q must be http://HOST:PORT or https://HOST", address)
	}
	if u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("%q must have no user or fragment; a key comes from key_file or key_env", u.Redacted())
	}
	const path = "/audio/transcriptions"
	switch p := strings.TrimSuffix(u.Path, "/"); p {
	case "":
		u.Path = "/v1" + path
	case "/v1":
		u.Path = p + path
	}
	return u, nil
}

// Engine is a server. It keeps idle connections to it until Close.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	url    *url.URL
	key    string
	client *http.Client
	turns  chan struct{} // one for each request at a time

	mu     sync.Mutex
	closed bool
}

var _ transcribe.Engine = (*Engine)(nil)

// New reads the files and the variable that cfg names and connects to nobody
// yet.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("openai.%w", err)
	}
	u, err := endpoint(cfg.Address)
	if err != nil {
		return nil, err
	}
	trusted, err := peer.TLS(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("openai.%w", err)
	}
	e := &Engine{cfg: cfg, log: log, url: u, turns: make(chan struct{}, cfg.Parallel)}
	switch {
	case cfg.KeyFile != "":
		if e.key, err = peer.ReadSecret(cfg.KeyFile); err != nil {
			return nil, fmt.Errorf("openai.key_file: %w", err)
		}
	case cfg.KeyEnv != "":
		e.key = strings.TrimSpace(os.Getenv(cfg.KeyEnv))
	}
	if host := u.Hostname(); e.key != "" && u.Scheme != "https" && host != "127.0.0.1" && host != "::1" && host != "localhost" {
		return nil, fmt.Errorf("openai.address: %s: the key would be sent in the clear; it must begin with https://", cfg.Address)
	}
	e.client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: trusted, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: cfg.Parallel, IdleConnTimeout: time.Minute,
		},
		// The audio goes where it was sent and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return e, nil
}

// Info is what the server can do, as far as this side knows.
func (e *Engine) Info() transcribe.Info {
	return transcribe.Info{Backend: "openai", Model: e.cfg.Model, Language: e.cfg.Language, RateHz: e.cfg.RateHz, Hints: e.cfg.PromptBytes > 0}
}

// Open starts a session; the server is asked when somebody has spoken. In a
// live session the answer to a window comes with a later Write; in others the
// Write that ends a window waits for it, so that a recording heard twice gives
// the same.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opt.RateHz != 0 && opt.RateHz != e.cfg.RateHz {
		return nil, fmt.Errorf("%w: rate %d Hz, the server is sent %d", transcribe.ErrOption, opt.RateHz, e.cfg.RateHz)
	}
	if len(opt.Phrases) > 0 {
		return nil, fmt.Errorf("%w: phrases, the model closes no vocabulary", transcribe.ErrOption)
	}
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("openai engine: %w", transcribe.ErrClosed)
	}
	language := opt.Language
	if language == "" {
		language = e.cfg.Language
	}
	// The interface knows languages by their two letters.
	language, _, _ = strings.Cut(strings.ToLower(language), "-")
	l := &listener{
		e: e, live: opt.Live, ask: form{model: e.cfg.Model, language: language, prompt: prompt(opt.Hints, e.cfg.PromptBytes)},
		gate:  audio.NewGate(audio.DefaultGateConfig(), audio.NewLoudVoice()),
		jobs:  make(chan window, waiting),
		news:  make(chan struct{}, 1),
		ended: make(chan struct{}),
	}
	// Requests outlive the Write that made them: Close ends them.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go l.work(working)
	return stream.NewSession("openai", opt.Leg, e.cfg.RateHz, l), nil
}

// prompt is as many hints as fit.
func prompt(hints []string, limit int) string {
	var b strings.Builder
	for _, h := range hints {
		h = strings.Join(strings.Fields(h), " ")
		if h == "" {
			continue
		}
		if b.Len()+len(", ")+len(h) > limit {
			break
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(h)
	}
	return b.String()
}

// Close ends idle connections. Sessions are closed before.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.client.CloseIdleConnections()
	return nil
}
