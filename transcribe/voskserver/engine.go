// Package voskserver hears with a Vosk server (github.com/alphacep/vosk-server)
// on another machine: over its WebSocket protocol or its gRPC service
// vosk.stt.v1.SttService.
//
// Both answer each message of audio with one message: what they take the
// utterance for so far, or its end. A session waits for that answer, so a
// server that falls behind is felt at once, and a recording that is heard
// twice gives the same.
package voskserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/peer"
	"github.com/callwarden/callwarden/transcribe/stream"
)

// Config says where the servers are.
type Config struct {
	// Addresses of servers with the same model: ws://HOST:PORT, wss://,
	// grpc:// or grpcs://; HOST:PORT alone is ws. A session is opened with the
	// first that is not known to be down.
	Addresses []string `yaml:"addresses"`
	// RateHz of the audio that is sent: what the servers' model was trained
	// on, so that they need not resample.
	RateHz int `yaml:"rate_hz"`
	// Language of the model, BCP 47; empty accepts sessions of any language.
	Language string `yaml:"language"`
	// Vocabulary is the file graph/words.txt of the servers' model. A server
	// drops from a phrase list what it does not know and tells nobody; with
	// this file it is known before, and phrase lists are used. Only the
	// WebSocket protocol has them, and only models with a dynamic graph.
	Vocabulary string `yaml:"vocabulary"`
	// CA is a PEM file of the authorities that may sign for wss and grpcs;
	// empty for those of the system.
	CA string `yaml:"ca"`
	// Open and Answer are how long a server may take to open a session and to
	// answer a message.
	Open   time.Duration `yaml:"open"`
	Answer time.Duration `yaml:"answer"`
}

// DefaultConfig is Config with everything but the addresses.
func DefaultConfig() Config {
	return Config{RateHz: 16000, Open: 5 * time.Second, Answer: 10 * time.Second}
}

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	if len(c.Addresses) == 0 {
		return errors.New("addresses: empty, must name a Vosk server, such as ws://127.0.0.1:2700")
	}
	grpc := false
	for _, text := range c.Addresses {
		a, err := parseAddress(text)
		if err != nil {
			return fmt.Errorf("addresses: %w", err)
		}
		grpc = grpc || overGRPC(a)
	}
	switch {
	case c.RateHz < 8000 || c.RateHz > 48000:
		return fmt.Errorf("rate_hz: %d must be from 8000 to 48000", c.RateHz)
	case c.Vocabulary != "" && grpc:
		return fmt.Errorf("vocabulary: %s is of no use over gRPC, which takes no phrase lists", c.Vocabulary)
	case c.Open <= 0 || c.Open > time.Minute:
		return fmt.Errorf("open: %v must be over 0s and at most 1m", c.Open)
	case c.Answer <= 0 || c.Answer > time.Minute:
		return fmt.Errorf("answer: %v must be over 0s and at most 1m", c.Answer)
	}
	return nil
}

// parseAddress reads where a server is and whether it speaks gRPC there.
func parseAddress(s string) (peer.Address, error) {
	a, err := peer.ParseAddress(s, "ws", "wss", "grpc", "grpcs")
	if err == nil && overGRPC(a) && strings.Trim(a.Path, "/") != "" {
		err = fmt.Errorf("%q must have no path", s)
	}
	return a, err
}

func overGRPC(a peer.Address) bool { return strings.HasPrefix(a.Scheme, "grpc") }

// Engine is some servers with the same model. It holds no connection but
// those of its sessions, and one to each gRPC server that was used.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	set     *peer.Set
	servers []*server       // of set
	words   map[string]bool // nil without a vocabulary
	tls     *tls.Config

	mu     sync.Mutex
	closed bool
}

type server struct {
	peer.Address
	mu   sync.Mutex
	conn *grpc.ClientConn // nil until used
}

var (
	_ transcribe.Engine     = (*Engine)(nil)
	_ transcribe.Vocabulary = (*vocabulary)(nil)
)

// New reads the files that cfg names and connects to nobody yet.
func New(cfg Config, log *slog.Logger) (transcribe.Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("voskserver.%w", err)
	}
	trusted, err := peer.TLS(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("voskserver.%w", err)
	}
	e := &Engine{cfg: cfg, log: log, tls: trusted}
	var names []string
	for _, text := range cfg.Addresses {
		a, err := parseAddress(text)
		if err != nil {
			return nil, err
		}
		e.servers = append(e.servers, &server{Address: a})
		names = append(names, a.String())
	}
	e.set = peer.NewSet("vosk server", names...)
	if cfg.Vocabulary == "" {
		return e, nil
	}
	if e.words, err = readVocabulary(cfg.Vocabulary); err != nil {
		return nil, fmt.Errorf("voskserver.vocabulary: %w", err)
	}
	return &vocabulary{e}, nil
}

// vocabulary is an engine that knows the words of its servers' model.
type vocabulary struct{ *Engine }

// Knows reports whether the model can hear word. Case does not matter.
func (v *vocabulary) Knows(word string) bool { return v.words[strings.ToLower(word)] }

// maxVocabulary is far above what a recogniser of speech has.
const maxVocabulary = 5_000_000

// readVocabulary reads words.txt: a word and its number on each line. The
// model's own symbols are left out.
func readVocabulary(path string) (map[string]bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	words := make(map[string]bool)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) != 2 || n > maxVocabulary {
			return nil, fmt.Errorf("%s: line %d must have a word and its number", path, n)
		}
		if w := fields[0]; !strings.ContainsAny(w[:1], "<#![") {
			words[w] = true
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("%s: has no words", path)
	}
	return words, nil
}

// Info is what the servers can do, as far as this side knows.
func (e *Engine) Info() transcribe.Info {
	return transcribe.Info{
		Backend: "voskserver", Model: e.servers[0].String(), Language: e.cfg.Language,
		RateHz: e.cfg.RateHz, Phrases: e.words != nil,
	}
}

// Open opens a session with the first server that takes it.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opt.RateHz != 0 && opt.RateHz != e.cfg.RateHz {
		return nil, fmt.Errorf("%w: rate %d Hz, the servers are sent %d", transcribe.ErrOption, opt.RateHz, e.cfg.RateHz)
	}
	if !sameLanguage(opt.Language, e.cfg.Language) {
		return nil, fmt.Errorf("%w: language %q, the servers' model has %q", transcribe.ErrOption, opt.Language, e.cfg.Language)
	}
	var list phraseList
	if len(opt.Phrases) > 0 {
		if e.words == nil {
			return nil, fmt.Errorf("%w: phrases: voskserver.vocabulary must name the words.txt of the servers' model", transcribe.ErrOption)
		}
		var err error
		if list, err = e.phrases(opt.Phrases); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("voskserver engine: %w", transcribe.ErrClosed)
	}
	var rec stream.Recogniser
	err := e.set.Try(ctx, e.cfg.Open, func(ctx context.Context, i int) (err error) {
		if srv := e.servers[i]; overGRPC(srv.Address) {
			rec, err = e.dialGRPC(ctx, srv, opt.Language)
		} else {
			rec, err = e.dialWebSocket(ctx, srv, list.send)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s := stream.NewSession("voskserver", opt.Leg, e.cfg.RateHz, rec)
	if list.send != nil {
		return &phraseSession{s, list.unheard}, nil
	}
	return s, nil
}

// Close ends the connections to gRPC servers. Sessions are closed before.
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

// sameLanguage compares primary subtags: "en-GB" speech is better heard by an
// "en-US" model than by none.
func sameLanguage(want, have string) bool {
	if want == "" || have == "" {
		return true
	}
	w, _, _ := strings.Cut(want, "-")
	h, _, _ := strings.Cut(have, "-")
	return strings.EqualFold(w, h)
}

// unknown is Vosk's word for speech that is in no phrase; callers write "…".
const (
	unknown = "[unk]"
	unheard = "…"
)

// maxPhraseWords bounds what a caller can make a server compile.
const maxPhraseWords = 100_000

// phraseList is what is sent of a list of phrases, and the sorted words of it
// that the model does not know.
type phraseList struct {
	send    []string
	unheard []string
}

// phrases leaves out each phrase with a word that the model does not know: a
// server would hear the rest of it, which nobody asked for.
func (e *Engine) phrases(phrases []string) (list phraseList, err error) {
	missing := map[string]bool{}
	total, speaking := 0, 0
	for _, phrase := range phrases {
		words := strings.Fields(strings.ToLower(phrase))
		if total += len(words); total > maxPhraseWords {
			return list, fmt.Errorf("%w: phrases: more than %d words", transcribe.ErrOption, maxPhraseWords)
		}
		whole, speaks := len(words) > 0, false
		for i, w := range words {
			switch {
			case w == unheard:
				words[i] = unknown
			case e.words[w]:
				speaks = true
			default:
				missing[strings.ToValidUTF8(w, "�")] = true
				whole = false
			}
		}
		if whole {
			list.send = append(list.send, strings.Join(words, " "))
		}
		if whole && speaks {
			speaking++
		}
	}
	list.unheard = slices.Sorted(maps.Keys(missing))
	if speaking == 0 {
		return list, fmt.Errorf("%w: phrases: the model knows none of the %d in full", transcribe.ErrOption, len(phrases))
	}
	list.send = append(list.send, unknown)
	return list, nil
}

type phraseSession struct {
	*stream.Session
	unheard []string
}

var _ transcribe.PhraseSession = (*phraseSession)(nil)

// Unheard lists the words of the phrases that the model does not know.
func (s *phraseSession) Unheard() []string { return slices.Clone(s.unheard) }
