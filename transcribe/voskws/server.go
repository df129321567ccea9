// Package voskws serves a recogniser over the WebSocket protocol of the Vosk
// server (github.com/alphacep/vosk-server), so that what was written for that
// can point here.
//
// A client may send a configuration first:
//
//	{"config" : {"sample_rate" : 8000, "words" : true, "phrase_list" : ["yes", "no"], "max_alternatives" : 0}}
//
// then binary messages of 16-bit little-endian mono PCM. Each of them gets one
// answer: {"partial" : "…"} within an utterance, {"result" : […], "text" : "…"}
// at its end; an answer that ends two utterances has the words of both.
// {"eof" : 1} gets the last result and the end of the connection,
// {"reset" : 1} the result so far; recognition goes on. Word times are seconds
// from the first sample.
//
// Where the original and this differ: messages are read as JSON and not
// compared as text, so spaces do not count; speech that is in no phrase of a
// list is "[unk]" whether the list has that word or not; speaker models are
// not known. What the original ends in an exception is a close frame here that
// says why.
package voskws

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Config says how sessions are served.
type Config struct {
	// RateHz is taken where a client does not say its sample_rate, and Words
	// where it does not say whether it wants words; the original has 8000 and
	// true.
	RateHz int  `yaml:"rate_hz"`
	Words  bool `yaml:"words"`
	// MaxSessions is how many are served at once; more are refused with 503
	// before the WebSocket opens. 0 is no limit.
	MaxSessions int `yaml:"max_sessions"`
	// Idle ends a session that sends nothing for so long; 0 waits for ever,
	// as the original does.
	Idle time.Duration `yaml:"idle"`
	// MaxMessage is the longest message taken, in bytes.
	MaxMessage int64 `yaml:"max_message"`
}

// DefaultConfig serves as the original does. Its Python server takes messages
// of up to 1 MiB too.
func DefaultConfig() Config {
	return Config{RateHz: 8000, Words: true, Idle: 10 * time.Minute, MaxMessage: 1 << 20}
}

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	switch {
	case c.RateHz < minRateHz || c.RateHz > maxRateHz:
		return fmt.Errorf("rate_hz: %d must be from %d to %d", c.RateHz, minRateHz, maxRateHz)
	case c.MaxSessions < 0:
		return fmt.Errorf("max_sessions: %d must be at least 0", c.MaxSessions)
	case c.Idle < 0:
		return fmt.Errorf("idle: %v must be at least 0s", c.Idle)
	case c.MaxMessage < 1<<10 || c.MaxMessage > 1<<26:
		return fmt.Errorf("max_message: %d must be from %d to %d", c.MaxMessage, 1<<10, 1<<26)
	}
	return nil
}

const (
	minRateHz, maxRateHz = 8000, 96000
	// A client that does not take its answer for so long is gone.
	sendTimeout = 10 * time.Second
)

// Server serves an engine that its owner opened and closes.
type Server struct {
	cfg    Config
	engine transcribe.Engine
	log    *slog.Logger
	turns  chan struct{} // one for each decode at a time; nil lets all run

	mu       sync.Mutex
	sessions int
	closing  bool
	all      sync.WaitGroup
	stop     context.CancelFunc // ends sessions that Shutdown does not wait for
	stopped  context.Context
}

var _ http.Handler = (*Server)(nil)

// NewServer returns a server, which is an [http.Handler] for any path.
func NewServer(engine transcribe.Engine, cfg Config, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("vosk.%w", err)
	}
	s := &Server{cfg: cfg, engine: engine, log: log}
	s.stopped, s.stop = context.WithCancel(context.Background())
	if engine.Info().Native {
		s.turns = make(chan struct{}, runtime.GOMAXPROCS(0))
	}
	return s, nil
}

// Sessions is how many are served now.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Shutdown refuses new sessions, waits for those that are served until ctx
// ends, then ends them. It returns ctx's error where it had to.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	done := make(chan struct{}) // closed when no session is left
	go func() { s.all.Wait(); close(done) }()
	defer s.stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.stop()
		<-done
		return ctx.Err()
	}
}

// admit takes a session in, or says why not.
func (s *Server) admit() (refused string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return "shutting down"
	case s.cfg.MaxSessions > 0 && s.sessions >= s.cfg.MaxSessions:
		return "no room for another session"
	}
	s.sessions++
	s.all.Add(1)
	return ""
}

func (s *Server) release() {
	s.mu.Lock()
	s.sessions--
	s.mu.Unlock()
	s.all.Done()
}

// ServeHTTP serves one session.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := s.admit(); why != "" {
		w.Header().Set("Retry-After", "5")
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	defer s.release()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // the original asks for no origin
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(s.cfg.MaxMessage)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stopped, cancel)()
	c := &client{s: s, conn: conn, rateHz: s.cfg.RateHz, words: s.cfg.Words}
	err = c.serve(ctx)
	c.close()
	var refused *refusal
	switch {
	case err == nil:
		_ = conn.Close(websocket.StatusNormalClosure, "")
	case errors.As(err, &refused):
		_ = conn.Close(refused.code, refused.why)
	case s.stopped.Err() != nil:
		_ = conn.Close(websocket.StatusGoingAway, "shutting down")
	case websocket.CloseStatus(err) >= 0, r.Context().Err() != nil:
		// The client has gone, as most do.
	default:
		s.log.Warn("vosk session ended", "err", err)
		_ = conn.Close(websocket.StatusInternalError, "recogniser failed")
	}
}

// refusal is a client's mistake and what it is told. A close frame carries 123
// bytes of it.
type refusal struct {
	code websocket.StatusCode
	why  string
}

func (r *refusal) Error() string { return r.why }

func refuse(code websocket.StatusCode, format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	return &refusal{code, why[:min(len(why), 120)]}
}

// client is one connection.
type client struct {
	s    *Server
	conn *websocket.Conn

	// What it has configured, before the first audio.
	rateHz       int
	words        bool
	alternatives bool
	phrases      []string

	session transcribe.Session // nil before the first audio
	front   *audio.FrontEnd    // nil where no resampling is needed
	heard   int                // samples that came
	said    said
}

// serve answers messages until the client ends the audio, with nil, or
// anything fails.
func (c *client) serve(ctx context.Context) error {
	for {
		kind, data, err := c.receive(ctx)
		if err != nil {
			return err
		}
		over, answer, err := c.answer(ctx, kind, data)
		if err != nil {
			return err
		}
		if answer == nil {
			continue
		}
		sending, cancel := context.WithTimeout(ctx, sendTimeout)
		err = c.conn.Write(sending, websocket.MessageText, answer)
		cancel()
		if err != nil || over {
			return err
		}
	}
}

func (c *client) receive(ctx context.Context) (websocket.MessageType, []byte, error) {
	if c.s.cfg.Idle == 0 {
		return c.conn.Read(ctx)
	}
	waiting, cancel := context.WithTimeout(ctx, c.s.cfg.Idle)
	defer cancel()
	kind, data, err := c.conn.Read(waiting)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		err = refuse(websocket.StatusPolicyViolation, "nothing came for %v", c.s.cfg.Idle)
	}
	return kind, data, err
}

// control is a message that is no audio.
type control struct {
	Config *struct {
		SampleRate      *float64 `json:"sample_rate"`
		Words           *flag    `json:"words"`
		PhraseList      []string `json:"phrase_list"`
		MaxAlternatives *float64 `json:"max_alternatives"`
	} `json:"config"`
	EOF   *flag `json:"eof"`
	Reset *flag `json:"reset"`
}

// flag is true or false as clients write it: a number or a bool.
type flag bool

func (f *flag) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case "true", "1", "1.0":
		*f = true
	case "false", "0", "0.0", "null":
		*f = false
	default:
		return fmt.Errorf("%.20q must be 0 or 1", data)
	}
	return nil
}

// parseControl reads a text message.
func parseControl(data []byte) (control, error) {
	var m control
	if err := json.Unmarshal(data, &m); err != nil {
		return m, refuse(websocket.StatusInvalidFramePayloadData, "%.40q is no message of the protocol: %v", data, err)
	}
	if m.Config != nil && m.Config.SampleRate != nil {
		if r := *m.Config.SampleRate; !(r >= minRateHz && r <= maxRateHz) || r != float64(int(r)) {
			return m, refuse(websocket.StatusPolicyViolation, "sample_rate: %g must be a whole number from %d to %d", r, minRateHz, maxRateHz)
		}
	}
	return m, nil
}

// answer is what a message gets; nil for nothing. over says that it is the
// last.
func (c *client) answer(ctx context.Context, kind websocket.MessageType, data []byte) (over bool, answer []byte, err error) {
	// The batch server's clients send controls as binary.
	if kind == websocket.MessageBinary && string(data) != `{"eof" : 1}` && string(data) != `{"reset" : 1}` {
		answer, err = c.hear(ctx, data)
		return false, answer, err
	}
	m, err := parseControl(data)
	switch {
	case err != nil:
		return false, nil, err
	case m.Config != nil:
		c.configure(m)
		return false, nil, nil
	case m.EOF != nil && bool(*m.EOF):
		answer, err = c.last(ctx)
		return true, answer, err
	case m.Reset != nil && bool(*m.Reset):
		answer, err = c.reset(ctx)
		return false, answer, err
	}
	return false, nil, refuse(websocket.StatusPolicyViolation, "%.40q has neither config, eof nor reset", data)
}

// configure takes what a message configures. After the first audio it is too
// late for all of it, as in the original.
func (c *client) configure(m control) {
	if c.session != nil {
		return
	}
	if r := m.Config.SampleRate; r != nil {
		c.rateHz = int(*r)
	}
	if w := m.Config.Words; w != nil {
		c.words = bool(*w)
	}
	if n := m.Config.MaxAlternatives; n != nil {
		c.alternatives = *n > 0
	}
	if m.Config.PhraseList != nil {
		c.phrases = m.Config.PhraseList
	}
}

// open begins recognition. A model that takes no phrase lists goes without, as
// in the original.
func (c *client) open(ctx context.Context) error {
	info := c.s.engine.Info()
	opt := transcribe.Options{RateHz: info.RateHz}
	if len(c.phrases) > 0 && info.Phrases {
		opt.Phrases = fromList(c.phrases)
	}
	if c.rateHz != info.RateHz {
		front, err := audio.NewFrontEnd(audio.FrontEndConfig{RateHz: info.RateHz})
		if err != nil {
			return err
		}
		c.front = front
	}
	err := c.decode(ctx, func() (err error) {
		c.session, err = c.s.engine.Open(ctx, opt)
		return err
	})
	if errors.Is(err, transcribe.ErrOption) {
		return refuse(websocket.StatusPolicyViolation, "%v", err)
	}
	return err
}

// decode runs f when it is its turn.
func (c *client) decode(ctx context.Context, f func() error) error {
	if c.s.turns != nil {
		select {
		case c.s.turns <- struct{}{}:
			defer func() { <-c.s.turns }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f()
}

// hear takes a message of audio. Half a sample at its end is dropped.
func (c *client) hear(ctx context.Context, data []byte) ([]byte, error) {
	if c.session == nil {
		if err := c.open(ctx); err != nil {
			return nil, err
		}
	}
	pcm := make([]int16, len(data)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	f := audio.Frame{Start: audio.Span(c.heard, c.rateHz), Rate: c.rateHz, PCM: pcm}
	c.heard += len(pcm)
	frames := []audio.Frame{f}
	if c.front != nil {
		var err error
		if frames, err = c.front.Process(f); err != nil {
			return nil, err
		}
	}
	if err := c.write(ctx, frames); err != nil {
		return nil, err
	}
	return c.said.answer(c.words, c.alternatives)
}

func (c *client) write(ctx context.Context, frames []audio.Frame) error {
	for _, f := range frames {
		err := c.decode(ctx, func() error {
			segments, err := c.session.Write(ctx, f)
			c.said.take(segments)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// finish ends the session and what it was hearing.
func (c *client) finish(ctx context.Context) error {
	if c.session == nil {
		return nil
	}
	if c.front != nil {
		if err := c.write(ctx, c.front.Flush()); err != nil {
			return err
		}
	}
	return c.decode(ctx, func() error {
		segments, err := c.session.Finish(ctx)
		c.said.take(segments)
		return err
	})
}

// last is the answer to the end of the audio.
func (c *client) last(ctx context.Context) ([]byte, error) {
	if err := c.finish(ctx); err != nil {
		return nil, err
	}
	return c.said.final(c.words, c.alternatives)
}

// reset ends the utterance; the clock goes on.
func (c *client) reset(ctx context.Context) ([]byte, error) {
	if p, ok := c.session.(transcribe.Pauser); ok {
		err := c.decode(ctx, func() error {
			segments, err := p.Pause(ctx)
			c.said.take(segments)
			return err
		})
		if err != nil {
			return nil, err
		}
		return c.said.final(c.words, c.alternatives)
	}
	if err := c.finish(ctx); err != nil {
		return nil, err
	}
	c.close()
	c.session, c.front = nil, nil
	return c.said.final(c.words, c.alternatives)
}

// close frees the session. Its error is of no use to anybody.
func (c *client) close() {
	if c.session == nil {
		return
	}
	if err := c.session.Close(); err != nil {
		c.s.log.Debug("closing vosk session", "err", err)
	}
}
