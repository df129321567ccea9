package forksrc

import (
	"context"
	"encoding/binary"
	"encoding/json"
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

// messageBytes is the longest message: a second of 48 kHz stereo.
const messageBytes = 192 << 10

// Source takes forks while it serves.
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
	server, err := websock.New(websock.Protocol{
		Name: Name, MessageBytes: messageBytes,
		Subprotocols: []string{"audio.jambonz.org", "audio.drachtio.org", "audiostream.drachtio.org"},
	}, cfg.Web, log)
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, log: log, server: server}, nil
}

// Addrs are the addresses of its own.
func (s *Source) Addrs() []net.Addr { return s.server.Addrs() }

// Close gives them back. After Serve it does nothing.
func (s *Source) Close() error { return s.server.Close() }

// Handler takes forks at /v1/fork/ and below it.
func (s *Source) Handler() http.Handler { return s.server.Handler() }

// Stats counts binary messages as packets.
func (s *Source) Stats() source.Stats { return s.server.Count.Stats() }

// Serve takes forks until ctx ends, and returns when the calls that had begun
// are over.
func (s *Source) Serve(ctx context.Context, handle source.Handler) error {
	return s.server.Serve(ctx, func(ctx context.Context, c *websock.Conn) { s.serve(ctx, c, handle) })
}

// serve follows one connection to its end.
func (s *Source) serve(ctx context.Context, c *websock.Conn, handle source.Handler) {
	came := c.Expect(ctx, s.cfg.Web.HelloTimeout, "first message")
	kind, data, err := c.Read()
	came()
	if err != nil {
		return // nobody called
	}
	var first, early []byte
	if kind == websock.Text {
		first = data
	} else {
		early = append(early, data...)
	}
	f, err := parseHello(first, c.Request.URL.Query(), s.cfg)
	if err != nil {
		s.server.Refuse(c, websock.Faultf(websock.Invalid, "metadata: %v", err))
		return
	}
	tenant, err := c.Tenant(f.about.Tenant)
	if err != nil {
		s.server.Refuse(c, &websock.Fault{Status: websock.Policy, Why: err.Error()})
		return
	}
	said := f.about.Other
	id, release := s.names.Take(tenant, f.about.Name(Name, said[keyCallSID], said[keyCallID], said[keyUUID]))
	defer release()
	h := &hearing{source: s, conn: c, fork: f, line: websock.NewLine(c.Began), early: early}
	call := h.call(tenant, id)
	s.server.Hear(ctx, c, handle, call, h.line, h.read)
}

// hearing is one fork that is heard. It belongs to the goroutine that reads the
// connection.
type hearing struct {
	source *Source
	conn   *websock.Conn
	fork   *fork
	line   *websock.Line
	early  []byte

	tracks []*websock.Track
	pace   websock.Pace
	heard  time.Duration // when audio came last
	odd    int           // messages in a row that were not understood
}

// mostOdd is how many messages in a row may be wrong.
const mostOdd = 10

func (h *hearing) call(tenant, id string) *source.Call {
	legs := h.fork.legs()
	for _, leg := range legs {
		h.tracks = append(h.tracks, &websock.Track{Leg: leg})
	}
	attributes := make(map[string]string)
	h.fork.about.Describe(attributes)
	attributes["codec"] = fmt.Sprintf("L16/%d", h.fork.rateHz)
	call := &source.Call{
		ID: id, Tenant: tenant, Source: Name, Legs: legs, Attributes: attributes,
		Began: h.conn.Began, Live: true, Audio: h.line, Language: h.fork.about.Language,
	}
	l := listener{conn: h.conn, count: &h.source.server.Count, events: h.source.cfg.Events}
	switch {
	case h.fork.speak != speakNo:
		call.Peer = &speaker{listener: l, stream: h.fork.speak == speakStream, outHz: h.fork.outHz}
	case l.events:
		call.Peer = &l
	}
	return call
}

// read hears the fork to its end.
func (h *hearing) read() error {
	h.heard = time.Since(h.conn.Began)
	h.conn.OnTick(h.tick)
	err := h.messages()
	for _, t := range h.tracks {
		t.Flush()
	}
	h.put()
	return err
}

func (h *hearing) messages() error {
	if len(h.early) > 0 {
		if err := h.sound(h.early); err != nil {
			return err
		}
		h.early = nil
	}
	for {
		kind, data, err := h.conn.Read()
		if err != nil {
			return err
		}
		if kind == websock.Binary {
			err = h.sound(data)
		} else {
			err = h.text(data)
		}
		if err != nil {
			return err
		}
		if !h.put() {
			return io.EOF
		}
	}
}

// sound takes a binary message: samples of 16 bits, low byte first, of the
// channels in turn.
func (h *hearing) sound(data []byte) error {
	count := &h.source.server.Count
	channels := len(h.tracks)
	n := len(data) / 2 / channels
	if len(data)%(2*channels) != 0 {
		count.Malformed.Add(1)
		if h.odd++; h.odd >= mostOdd {
			return websock.Faultf(websock.Invalid, "%d messages in a row are no whole samples of %d channels", h.odd, channels)
		}
	} else {
		h.odd = 0
	}
	if n == 0 {
		return nil
	}
	at := time.Since(h.conn.Began)
	if err := h.pace.Note(at, audio.Span(n, h.fork.rateHz), h.fork.rateHz); err != nil {
		return &websock.Fault{Status: websock.Invalid, Why: err.Error()}
	}
	h.heard = at
	count.Packets.Add(1)
	count.Bytes.Add(uint64(len(data)))
	for i, t := range h.tracks {
		t.Came(at, h.fork.rateHz, n, func(dst []int16) []int16 {
			for k := range n {
				dst = append(dst, int16(binary.LittleEndian.Uint16(data[2*(k*channels+i):])))
			}
			return dst
		})
	}
	return nil
}

// said is a text message within a call: jambonz's dtmf, or what somebody sends
// by uuid_audio_fork send_text.
type said struct {
	Event string `json:"event"`
	Type  string `json:"type"`
	DTMF  string `json:"dtmf"`
	Digit string `json:"digit"`
}

// text takes a text message. Those that it does not know are for somebody else.
func (h *hearing) text(data []byte) error {
	var m said
	if json.Unmarshal(data, &m) != nil {
		h.source.server.Count.Malformed.Add(1)
		if h.odd++; h.odd >= mostOdd {
			return websock.Faultf(websock.Unsupported, "%d text messages in a row that are no JSON: audio is binary", h.odd)
		}
		return nil
	}
	switch strings.ToLower(m.Event + m.Type) {
	case "dtmf":
		digit := strings.ToUpper(m.DTMF + m.Digit)
		if len(digit) == 1 && strings.IndexByte("0123456789*#ABCD", digit[0]) >= 0 {
			h.tracks[0].Key(digit)
		}
	case "stop", "end", "hangup":
		return io.EOF
	}
	return nil
}

// tick says once a second that time goes by.
func (h *hearing) tick(at time.Duration) error {
	for _, t := range h.tracks {
		t.Mark(at)
	}
	h.put()
	if silence := h.source.cfg.Web.MediaTimeout; at-h.heard >= silence {
		return fmt.Errorf("no media for %v", silence)
	}
	return nil
}

// put hands on what is ready, and reports whether anybody still listens.
func (h *hearing) put() bool {
	for _, t := range h.tracks {
		if !h.line.Put(t.Take()...) {
			return false
		}
	}
	return true
}
