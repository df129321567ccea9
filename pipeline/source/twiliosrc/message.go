package twiliosrc

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Events that messages are.
const (
	eventConnected = "connected"
	eventStart     = "start"
	eventMedia     = "media"
	eventDTMF      = "dtmf"
	eventMark      = "mark"
	eventStop      = "stop"
	eventError     = "error"
)

// message is one message of a peer. Its payload is good as long as the bytes
// it was read from.
type message struct {
	event string
	media media  // of eventMedia
	all   fields // of all other events
}

// media is some audio of one track.
type media struct {
	track   string // empty where the dialect has but one
	chunk   count  // of the track, or of both
	stamp   count  // milliseconds since the stream began
	payload []byte // base64
}

// count is a number that may be missing. The dialects write it as text or as a
// number.
type count struct {
	n  int64
	ok bool
}

// maxDigits keeps a count within 64 bits.
const maxDigits = 18

func parseCount(s string) count {
	if s == "" || len(s) > maxDigits {
		return count{}
	}
	var n int64
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return count{}
		}
		n = n*10 + int64(c-'0')
	}
	return count{n, true}
}

var (
	errNotJSON = errors.New("not a JSON object")
	errNoEvent = errors.New("no event is named")
)

// parse reads a message of any dialect.
func parse(data []byte) (message, error) {
	if m, ok := scanMedia(data); ok {
		return message{event: eventMedia, media: m}, nil
	}
	return parseAny(data)
}

// parseAny is parse without the short cut.
func parseAny(data []byte) (message, error) {
	all, ok := parseFields(data)
	if !ok {
		return message{}, errNotJSON // the library's error quotes the message
	}
	m := message{event: all.text("event"), all: all}
	switch m.event {
	case "":
		return message{}, errNoEvent
	case eventMedia:
		inner := all.object("media")
		m.media = media{
			track: inner.text("track"), chunk: parseCount(inner.text("chunk")), stamp: parseCount(inner.text("timestamp")),
			payload: []byte(inner.text("payload")),
		}
		m.all = nil
	}
	return m, nil
}

// fields are the members of a JSON object, by names without case, - and _, in
// which the dialects differ; streamSIDSnake is there under its own name too.
type fields map[string]json.RawMessage

// streamSIDSnake is how Exotel names the stream, and Twilio does not.
const streamSIDSnake = "stream_sid"

func parseFields(data []byte) (fields, bool) {
	var raw map[string]json.RawMessage
	if json.Unmarshal(data, &raw) != nil || raw == nil {
		return nil, false
	}
	all := make(fields, len(raw))
	for _, key := range slices.Sorted(maps.Keys(raw)) { // of two spellings the first counts
		name := plain(key)
		if _, twice := all[name]; !twice {
			all[name] = raw[key]
		}
		if key == streamSIDSnake {
			all[key] = raw[key]
		}
	}
	return all, true
}

// plain is a name without its spelling.
func plain(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '_' || r == '-':
			return -1
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, key)
}

// text is a member that is a text, a number or a truth, as text; empty where it
// is none or missing.
func (f fields) text(name string) string {
	raw := f[name]
	if len(raw) == 0 {
		return ""
	}
	switch raw[0] {
	case '"':
		var s string
		_ = json.Unmarshal(raw, &s) // it is part of what has been read already
		return s
	case '{', '[', 'n':
		return ""
	}
	return string(raw)
}

// number is a member that is a number, however it is written; 0 where it is
// none.
func (f fields) number(name string) int {
	n, err := strconv.Atoi(f.text(name))
	if err != nil {
		return 0
	}
	return n
}

// object is a member that is an object; nil where it is none.
func (f fields) object(name string) fields {
	inner, _ := parseFields(f[name])
	return inner
}

// said are the members of an object, by the names that the peer gave them.
func (f fields) said(name string) map[string]string {
	var raw fields
	if json.Unmarshal(f[name], &raw) != nil {
		return nil
	}
	all := make(map[string]string, len(raw))
	for key := range raw {
		all[key] = raw.text(key)
	}
	return all
}

// texts are the texts of a member that is an array of them.
func (f fields) texts(name string) []string {
	var all []string
	_ = json.Unmarshal(f[name], &all) // nil where it is none
	return all
}

// scanMedia reads a media message as the dialects write it, without allocating:
// fifty of them come a second and leg. What is written in another way it leaves
// to encoding/json, which reads the same out of what both can read; see
// FuzzScanReadsWhatJSONDoes and BenchmarkParse.
func scanMedia(data []byte) (m media, ok bool) {
	s := scanner{b: data}
	if !s.next('{') {
		return m, false
	}
	var seen uint8
	once := func(bit uint8) bool {
		fresh := seen&bit == 0
		seen |= bit
		return fresh
	}
	for first := true; ; first = false {
		if s.next('}') {
			break
		}
		if !first && !s.next(',') {
			return m, false
		}
		key, good := s.text()
		if !good || !s.next(':') {
			return m, false
		}
		switch string(key) {
		case "event":
			value, good := s.text()
			if !good || string(value) != eventMedia || !once(1) {
				return m, false
			}
		case "sequenceNumber", "sequence_number":
			if _, good := s.value(); !good || !once(2) {
				return m, false
			}
		case "streamSid", "stream_sid", "stream_id":
			if _, good := s.text(); !good || !once(4) {
				return m, false
			}
		case "media":
			if !once(8) || !s.media(&m) {
				return m, false
			}
		default:
			return m, false
		}
	}
	s.space()
	return m, s.i == len(s.b) && seen&9 == 9
}

// scanner reads a small part of JSON: objects whose members are plain.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\r' || s.b[s.i] == '\t') {
		s.i++
	}
}

// next passes c, if it is next.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// text reads a string of printable ASCII without escapes.
func (s *scanner) text() ([]byte, bool) {
	if !s.next('"') {
		return nil, false
	}
	end := bytes.IndexByte(s.b[s.i:], '"')
	if end < 0 {
		return nil, false
	}
	text := s.b[s.i : s.i+end]
	for _, c := range text {
		if c < ' ' || c >= 0x7f || c == '\\' {
			return nil, false
		}
	}
	s.i += end + 1
	return text, true
}

// value reads a string or a number without sign, fraction and exponent.
func (s *scanner) value() ([]byte, bool) {
	s.space()
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	if n := s.i - from; n > 0 {
		if s.i < len(s.b) && (s.b[s.i] == '.' || s.b[s.i] == 'e' || s.b[s.i] == 'E') {
			return nil, false
		}
		return s.b[from:s.i], n == 1 || s.b[from] != '0'
	}
	return s.text()
}

func (s *scanner) media(m *media) bool {
	if !s.next('{') {
		return false
	}
	var seen uint8
	once := func(bit uint8) bool {
		fresh := seen&bit == 0
		seen |= bit
		return fresh
	}
	for first := true; ; first = false {
		if s.next('}') {
			return true
		}
		if !first && !s.next(',') {
			return false
		}
		key, good := s.text()
		if !good || !s.next(':') {
			return false
		}
		var value []byte
		switch string(key) {
		case "track":
			value, good = s.text()
			good = good && once(1)
			switch string(value) { // without allocating
			case trackInbound:
				m.track = trackInbound
			case trackOutbound:
				m.track = trackOutbound
			default:
				m.track = string(value)
			}
		case "chunk":
			value, good = s.value()
			good = good && once(2)
			m.chunk = parseCount(string(value))
		case "timestamp":
			value, good = s.value()
			good = good && once(4)
			m.stamp = parseCount(string(value))
		case "payload":
			m.payload, good = s.text()
			good = good && once(8)
		default:
			return false
		}
		if !good {
			return false
		}
	}
}
