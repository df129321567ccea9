package voskserver

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/callwarden/callwarden/transcribe/stream"
)

// eof ends the audio. The original compares it as a string, so its spaces
// count.
const eof = `{"eof" : 1}`

// opening is the first message.
type opening struct {
	Config struct {
		SampleRate int      `json:"sample_rate"`
		Words      bool     `json:"words"`
		PhraseList []string `json:"phrase_list,omitempty"`
	} `json:"config"`
}

// socket is one stream over WebSocket.
type socket struct {
	peer   string
	answer time.Duration
	conn   *websocket.Conn
	client *http.Client
	out    []byte

	stop    context.CancelFunc // ends reading
	answers chan []byte        // read sends and closes; one message fits
	ended   error              // why read has ended; read writes it before it closes answers
}

func (e *Engine) dialWebSocket(ctx context.Context, srv *server, phrases []string) (stream.Recogniser, error) {
	// A transport of its own: nothing is left idle when the session closes.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: e.tls.Clone(), DisableKeepAlives: true}}
	conn, resp, err := websocket.Dial(ctx, srv.String(), &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // Dial has read it
	if err != nil {
		client.CloseIdleConnections()
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("it answered %s instead of opening a WebSocket", resp.Status)
		}
		var dialling *net.OpError
		if errors.As(err, &dialling) && dialling.Op == "dial" {
			err = dialling // what stands around it says less
		}
		return nil, fmt.Errorf("connecting: %w", err)
	}
	conn.SetReadLimit(maxAnswer)
	var first opening
	first.Config.SampleRate, first.Config.Words, first.Config.PhraseList = e.cfg.RateHz, true, phrases
	text, err := json.Marshal(first)
	if err == nil {
		err = conn.Write(ctx, websocket.MessageText, text)
	}
	if err != nil {
		_ = conn.CloseNow()
		return nil, fmt.Errorf("configuring: %w", err)
	}
	// Reading outlives the opening: Close ends it.
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &socket{peer: srv.String(), answer: e.cfg.Answer, conn: conn, client: client, stop: stop, answers: make(chan []byte, 1)}
	go s.read(reading)
	return s, nil
}

// read takes the server's messages. It runs all the time because only who
// reads answers pings, and legs may be silent for long.
func (s *socket) read(ctx context.Context) {
	defer close(s.answers)
	for {
		_, data, err := s.conn.Read(ctx)
		if err != nil {
			s.ended = err
			return
		}
		select {
		case s.answers <- data:
		case <-ctx.Done():
			s.ended = ctx.Err()
			return
		}
	}
}

// Hear implements [stream.Recogniser].
func (s *socket) Hear(ctx context.Context, pcm []int16) ([]stream.Hypothesis, error) {
	s.out = s.out[:0]
	for _, v := range pcm {
		s.out = binary.LittleEndian.AppendUint16(s.out, uint16(v))
	}
	return s.ask(ctx, websocket.MessageBinary, s.out)
}

// End implements [stream.Recogniser].
func (s *socket) End(ctx context.Context) ([]stream.Hypothesis, error) {
	return s.ask(ctx, websocket.MessageText, []byte(eof))
}

// ask sends a message and waits for its answer.
func (s *socket) ask(ctx context.Context, kind websocket.MessageType, data []byte) ([]stream.Hypothesis, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, s.answer, errSilent)
	defer cancel()
	if err := s.conn.Write(waiting, kind, data); err != nil {
		return nil, s.lost(waiting, err)
	}
	select {
	case answer, ok := <-s.answers:
		if !ok {
			return nil, s.lost(waiting, s.ended)
		}
		h, err := parseAnswer(answer)
		if err != nil {
			return nil, fmt.Errorf("vosk server %s: %w", s.peer, err)
		}
		return []stream.Hypothesis{h}, nil
	case <-waiting.Done():
		return nil, s.lost(waiting, waiting.Err())
	}
}

var errSilent = errors.New("it did not answer")

// lost names the server and what it did.
func (s *socket) lost(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		return fmt.Errorf("vosk server %s: %w for %v", s.peer, errSilent, s.answer)
	}
	if status := websocket.CloseStatus(err); status >= 0 {
		return fmt.Errorf("vosk server %s: it closed the session: %w", s.peer, err)
	}
	return fmt.Errorf("vosk server %s: connection lost: %w", s.peer, err)
}

// Close implements [stream.Recogniser].
func (s *socket) Close() error {
	s.stop()
	_ = s.conn.CloseNow() // the session is over, however it went
	for range s.answers { // until read has ended
	}
	s.client.CloseIdleConnections()
	return nil
}
