package natssink

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/callwarden/callwarden/pipeline/sink"
)

// The CloudEvents NATS protocol binding 1.0.3, binary content mode: every
// context attribute is a header named ce-<attribute>, datacontenttype
// included, and the payload is the data. A Content-Type header of
// application/cloudevents means structured mode instead.

const (
	cePrefix    = "ce-"
	contentType = "content-type"
	msgID       = "Nats-Msg-Id" // what JetStream recognises duplicates by
)

// ErrName is wrapped by the error about a tenant or call that cannot be part
// of a subject.
var ErrName = errors.New("no legal NATS subject token")

// kind is the third token of an event's subject.
func kind(t sink.Type) (string, bool) {
	switch t {
	case sink.RiskFinding, sink.RiskLevel:
		return "risk", true
	case sink.CallStarted, sink.CallStatus, sink.CallEnded, sink.CallAction:
		return "call", true
	case sink.CallLevels:
		return "levels", true
	case sink.TranscriptSegment:
		return "transcript", true
	}
	return "", false
}

// subjectOf is callwarden.v1.<kind>.<tenant>.<call>.
func subjectOf(ev sink.Event) (string, error) {
	k, ok := kind(ev.Type)
	if !ok {
		return "", fmt.Errorf("event type %q has no subject", ev.Type)
	}
	if err := checkToken(ev.Tenant); err != nil {
		return "", fmt.Errorf("tenant %q: %w", ev.Tenant, err)
	}
	if err := checkToken(ev.Call); err != nil {
		return "", fmt.Errorf("call %q: %w", ev.Call, err)
	}
	return subjectRoot + k + "." + ev.Tenant + "." + ev.Call, nil
}

const maxToken = 256 // bytes; a server's limit for a whole control line is 4096

// checkToken refuses what cannot stand between two dots of a subject.
func checkToken(s string) error {
	if s == "" {
		return fmt.Errorf("empty is %w", ErrName)
	}
	if len(s) > maxToken {
		return fmt.Errorf("%d bytes, limit %d: %w", len(s), maxToken, ErrName)
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f || r == '.' || r == '*' || r == '>' || r == utf8.RuneError {
			return fmt.Errorf("has %q: %w", r, ErrName)
		}
	}
	return nil
}

// headersOf is the event's metadata as headers.
func headersOf(ev sink.Event) nats.Header {
	h := nats.Header{msgID: {ev.ID}}
	for name, value := range ev.Attributes() {
		h[cePrefix+name] = []string{percentEncode(value)}
	}
	return h
}

const upperHex = "0123456789ABCDEF"

// percentEncode writes a header value by the binding's section 3.1.3.2.
func percentEncode(s string) string {
	plain := func(c byte) bool { return c > ' ' && c <= '~' && c != '"' && c != '%' }
	n := 0
	for i := range len(s) {
		if !plain(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(b)
}

// percentDecode reads a header value by the same section: first the quotes of
// older senders are taken off, then one round of percent-decoding; what is not
// UTF-8 then is refused.
func percentDecode(s string) (string, error) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = unquote(s[1 : len(s)-1])
	}
	if strings.IndexByte(s, '%') >= 0 {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			if s[i] != '%' {
				b = append(b, s[i])
				continue
			}
			if i+2 >= len(s) {
				return "", errors.New("percent sign without two hexadecimal digits")
			}
			hi, lo := strings.IndexByte(upperHex, upper(s[i+1])), strings.IndexByte(upperHex, upper(s[i+2]))
			if hi < 0 || lo < 0 {
				return "", errors.New("percent sign without two hexadecimal digits")
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		}
		s = string(b)
	}
	if !utf8.ValidString(s) {
		return "", errors.New("not UTF-8")
	}
	return s, nil
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'f' {
		return c - 'a' + 'A'
	}
	return c
}

func unquote(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// Decode reads an event from a message of any sender, in binary or structured
// mode. The event belongs on the subject: kind, tenant and call agree with it.
// Its errors wrap sink.ErrNotEvent and name the subject and the rule.
func Decode(subject string, header nats.Header, payload []byte) (sink.Event, error) {
	ev, err := decode(header, payload)
	if err == nil {
		var want string
		if want, err = subjectOf(ev); err == nil && want != subject {
			err = fmt.Errorf("%w: it belongs on %q", sink.ErrNotEvent, want)
		} else if err != nil {
			err = fmt.Errorf("%w: %w", sink.ErrNotEvent, err)
		}
	}
	if err != nil {
		return sink.Event{}, fmt.Errorf("subject %q: %w", subject, err)
	}
	return ev, nil
}

func decode(header nats.Header, payload []byte) (sink.Event, error) {
	for key, values := range header { // names are case-insensitive
		if strings.EqualFold(key, contentType) && len(values) > 0 && isStructured(values[0]) {
			return sink.ParseCloudEvent(payload)
		}
	}
	attr := map[string]string{}
	for key, values := range header {
		name, ours := strings.CutPrefix(strings.ToLower(key), cePrefix)
		if !ours || len(values) == 0 {
			continue
		}
		if _, twice := attr[name]; twice || len(values) > 1 {
			return sink.Event{}, fmt.Errorf("%w: header %s%s is there twice", sink.ErrNotEvent, cePrefix, name)
		}
		v, err := percentDecode(values[0])
		if err != nil {
			return sink.Event{}, fmt.Errorf("%w: header %s%s: %w", sink.ErrNotEvent, cePrefix, name, err)
		}
		attr[name] = v
	}
	if len(attr) == 0 {
		// Before NATS 2.2 there were no headers, and every event structured.
		return sink.ParseCloudEvent(payload)
	}
	return sink.FromAttributes(attr, payload)
}

// isStructured matches application/cloudevents with any format and parameters,
// but no batch, which the binding does not have.
func isStructured(value string) bool {
	mediaType, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(value)), ";")
	mediaType = strings.TrimSpace(mediaType)
	return mediaType == "application/cloudevents" || strings.HasPrefix(mediaType, "application/cloudevents+")
}
