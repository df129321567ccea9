package twiliosrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// messageBytes is the longest message: Exotel's audio comes in pieces of up to
// 100 KB.
const messageBytes = 256 << 10

// Source takes streams while it serves.
type Source struct {
	cfg    Config
	log    *slog.Logger
	server *websock.Server
	names  websock.Names
}

var (
	_ source.Source  = (*Source)(nil)
	_ source.Counted = (*Source)(nil)
)

// New takes the address of its own, if cfg has one. Who does not Serve has to
// Close.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g, err := guard(cfg.Accounts)
	if err != nil {
		return nil, err
	}
	server, err := websock.New(websock.Protocol{Name: Name, Guard: g, MessageBytes: messageBytes}, cfg.Web, log)
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, log: log, server: server}, nil
}

// Addrs are the addresses of its own.
func (s *Source) Addrs() []net.Addr { return s.server.Addrs() }

// Close gives them back. After Serve it does nothing.
func (s *Source) Close() error { return s.server.Close() }

// Handler takes streams at /v1/twilio/ and below it.
func (s *Source) Handler() http.Handler { return s.server.Handler() }

// Stats counts media messages as packets.
func (s *Source) Stats() source.Stats { return s.server.Count.Stats() }

// Serve takes streams until ctx ends, and returns when the calls that had begun
// are over.
func (s *Source) Serve(ctx context.Context, handle source.Handler) error {
	return s.server.Serve(ctx, func(ctx context.Context, c *websock.Conn) { s.serve(ctx, c, handle) })
}

// serve follows one connection to its end.
func (s *Source) serve(ctx context.Context, c *websock.Conn, handle source.Handler) {
	came := c.Expect(ctx, s.cfg.Web.HelloTimeout, "start message")
	st, err := hello(c)
	came()
	if err != nil {
		s.server.Refuse(c, err)
		return
	}
	tenant, err := c.Tenant(st.about.Tenant)
	if err != nil {
		s.server.Refuse(c, &websock.Fault{Status: websock.Policy, Why: err.Error()})
		return
	}
	id, release := s.names.Take(tenant, st.about.Name(Name, st.call))
	defer release()

	h := &hearing{source: s, conn: c, stream: st, line: websock.NewLine(c.Began), id: id}
	call := h.call(tenant)
	s.server.Hear(ctx, c, handle, call, h.line, h.read)
}

// hearing is one stream that is heard. It belongs to the goroutine that reads
// the connection, but for speaker.
type hearing struct {
	source  *Source
	conn    *websock.Conn
	stream  *stream
	line    *websock.Line
	id      string
	lanes   []*lane
	speaker *speaker // nil for a one-way stream

	heard    time.Duration // when audio came last
	odd      int           // messages in a row that were not understood
	warnings []string
	strange  bool // audio of a track that was not announced
}

// call is the call of the stream.
func (h *hearing) call(tenant string) *source.Call {
	st, shared := h.stream, &base{}
	var legs []audio.Leg
	for _, track := range st.tracks {
		l := &lane{
			Track: websock.Track{Leg: st.leg(track)}, decoder: decoder{format: st.format},
			window: h.source.cfg.Window, count: &h.source.server.Count, base: shared,
		}
		h.lanes = append(h.lanes, l)
		legs = append(legs, l.Leg)
	}
	attributes := make(map[string]string)
	st.about.Describe(attributes)
	attributes["codec"], attributes["dialect"] = st.format.String(), string(st.dialect)
	call := &source.Call{
		ID: h.id, Tenant: tenant, Source: Name, Legs: legs, Attributes: attributes,
		Began: h.conn.Began, Live: true, Audio: h.line, Language: st.about.Language,
		Warnings: func() []string { return h.warnings },
	}
	want := st.about.Other[keySpeak]
	if want == "" {
		want = h.source.cfg.Speak
	}
	out, can, err := speaking(want, st.format)
	if err != nil {
		h.warnings = append(h.warnings, fmt.Sprintf("the stream cannot be spoken into: speak: %v", err))
	}
	if can {
		h.speaker = &speaker{conn: h.conn, stream: st, format: out, count: &h.source.server.Count, big: h.bigEndian}
		call.Peer = h.speaker
	}
	return call
}

// bigEndian reports the byte order of L16 that has been found, as far as it has.
func (h *hearing) bigEndian() bool {
	return h.stream.format.codec == linear && h.lanes[0].order.big.Load()
}

// lane is that of a track.
func (h *hearing) lane(track string) *lane {
	for i, t := range h.stream.tracks {
		if t == track || track == "" {
			return h.lanes[i]
		}
	}
	return nil
}

// read hears the stream to its end.
func (h *hearing) read() error {
	h.heard = time.Since(h.conn.Began)
	h.conn.OnTick(h.tick)
	err := h.messages()
	for _, l := range h.lanes {
		l.end()
	}
	h.put()
	return err
}

func (h *hearing) messages() error {
	for _, e := range h.stream.early {
		m, err := parse(e.data)
		if over, err := h.message(m, e.at, err); over {
			return err
		}
	}
	h.stream.early = nil
	for {
		m, _, err := read(h.conn)
		if over, err := h.message(m, time.Since(h.conn.Began), err); over {
			return err
		}
	}
}

// message takes one message that came at the time at, or why there is none; it
// reports whether the stream is over and why.
func (h *hearing) message(m message, at time.Duration, err error) (over bool, why error) {
	switch {
	case errors.Is(err, errNotJSON), errors.Is(err, errNoEvent):
	case err != nil:
		return true, err
	default:
		err = h.event(m, at)
	}
	var fault *websock.Fault
	switch {
	case err == nil:
		h.odd = 0
	case errors.Is(err, io.EOF), errors.As(err, &fault):
		return true, err
	default:
		h.source.server.Count.Malformed.Add(1)
		if h.odd++; h.odd >= mostOdd {
			return true, websock.Faultf(websock.Invalid, "%d messages in a row could not be understood: %v", h.odd, err)
		}
	}
	if !h.put() {
		return true, io.EOF
	}
	return false, nil
}

var errUnknown = errors.New("an event of another protocol")

// event takes what a message says; io.EOF is the end of the stream.
func (h *hearing) event(m message, at time.Duration) error {
	switch m.event {
	case eventMedia:
		l := h.lane(m.media.track)
		if l == nil {
			h.source.server.Count.Unplaced.Add(1)
			if !h.strange {
				h.strange = true
				h.warnings = append(h.warnings, "a track came that the stream did not announce; it was not heard")
			}
			return nil
		}
		if err := l.take(m.media, at); err != nil {
			return err
		}
		h.heard = at
	case eventDTMF:
		inner := m.all.object("dtmf")
		digit := inner.text("digit")
		if !isKey(digit) {
			return errUnknown
		}
		if l := h.lane(strings.TrimSuffix(inner.text("track"), "_track")); l != nil {
			l.Key(digit)
		}
	case eventMark:
		if h.speaker != nil {
			h.speaker.heard(m.all.object("mark").text("name"))
		}
	case eventStop:
		return io.EOF
	case eventConnected, eventStart, eventError, "clear":
		// nothing that the call needs
	default:
		return errUnknown
	}
	return nil
}

// tick says once a second that time goes by.
func (h *hearing) tick(at time.Duration) error {
	for _, l := range h.lanes {
		l.tick(at)
	}
	h.put()
	if silence := h.source.cfg.Web.MediaTimeout; at-h.heard >= silence {
		return fmt.Errorf("no media for %v", silence)
	}
	return nil
}

// put hands on what is ready, and reports whether anybody still listens.
func (h *hearing) put() bool {
	for _, l := range h.lanes {
		if !h.line.Put(l.Take()...) {
			return false
		}
	}
	return true
}

func isKey(s string) bool {
	return len(s) == 1 && (s[0] >= '0' && s[0] <= '9' || s[0] == '*' || s[0] == '#' || s[0] >= 'A' && s[0] <= 'D')
}
