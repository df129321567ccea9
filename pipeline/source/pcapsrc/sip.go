package pcapsrc

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"strconv"
	"strings"
)

// Bounds of a SIP message.
const (
	maxHead    = 64 << 10 // bytes up to the body
	maxHeaders = 256
	maxParts   = 16
)

// message is a SIP message, RFC 3261 section 7, as far as we need it.
type message struct {
	method  string // of a request; of a response that of its CSeq
	request bool
	status  int
	headers []field
	body    []byte
}

type field struct{ name, value string } // name in small letters, never compact

// compact are the short names of RFC 3261 section 7.3.3 and RFC 8224.
var compact = map[string]string{
	"i": "call-id", "f": "from", "t": "to", "c": "content-type", "l": "content-length", "y": "identity",
}

// header returns the values of a header; see sipmeta.Header.
func (m *message) header(name string) []string {
	var all []string
	name = strings.ToLower(name)
	for _, f := range m.headers {
		if f.name == name {
			all = append(all, f.value)
		}
	}
	return all
}

// first is the first value of a header, "" where there is none.
func (m *message) first(name string) string {
	for _, f := range m.headers {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// isSIP reports whether data begins like a SIP message.
func isSIP(data []byte) bool {
	if bytes.HasPrefix(data, []byte("SIP/2.0 ")) {
		return true
	}
	line, _, _ := bytes.Cut(data[:min(len(data), 2048)], []byte("\n"))
	return len(line) > 0 && line[0] >= 'A' && line[0] <= 'Z' && bytes.HasSuffix(bytes.TrimRight(line, "\r"), []byte(" SIP/2.0"))
}

// parseSIP reads the message that data begins with, and returns how long it
// is. Where whole is set, false says that more must be read first; else what
// is missing of the body is missing. A length of 0 is no SIP at all.
func parseSIP(data []byte, whole bool) (m message, length int, ok bool) {
	head, _, found := bytes.Cut(data[:min(len(data), maxHead)], []byte("\r\n\r\n"))
	if !found {
		if whole && len(data) < maxHead {
			return m, len(data), false
		}
	}
	length = len(head)
	if found {
		length += 4
	}
	first := true
	for line := range strings.Lines(string(head)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case first:
			if !m.startLine(line) {
				return m, 0, false
			}
			first = false
		case line != "" && (line[0] == ' ' || line[0] == '\t'): // folded
			if n := len(m.headers); n > 0 {
				m.headers[n-1].value += " " + strings.TrimSpace(line)
			}
		case len(m.headers) < maxHeaders:
			name, value, _ := strings.Cut(line, ":")
			name = strings.ToLower(strings.TrimSpace(name))
			if long, ok := compact[name]; ok {
				name = long
			}
			m.headers = append(m.headers, field{name, strings.TrimSpace(value)})
		}
	}
	if first {
		return m, 0, false
	}
	if !m.request {
		_, m.method, _ = strings.Cut(m.first("cseq"), " ")
		m.method = strings.TrimSpace(m.method)
	}
	body := len(data) - length
	if !found {
		body = 0
	}
	if n, err := strconv.Atoi(m.first("content-length")); err == nil && n >= 0 {
		if whole && n > body && n <= maxStream {
			return m, len(data), false
		}
		body = min(body, n)
	} else if whole {
		body = 0 // over TCP it has to say
	}
	m.body = data[length : length+body]
	return m, length + body, true
}

func (m *message) startLine(line string) bool {
	if after, ok := strings.CutPrefix(line, "SIP/2.0 "); ok {
		code, _, _ := strings.Cut(after, " ")
		var err error
		m.status, err = strconv.Atoi(code)
		return err == nil && m.status >= 100 && m.status < 700
	}
	method, after, ok := strings.Cut(line, " ")
	m.method, m.request = method, true
	return ok && method != "" && strings.HasSuffix(after, " SIP/2.0")
}

// parts returns the body's session description and recording metadata; each
// may be nil.
func (m *message) parts() (description, metadata []byte) {
	kind, params, err := mime.ParseMediaType(m.first("content-type"))
	if err != nil {
		kind = ""
	}
	take := func(kind string, body []byte) {
		switch {
		case kind == "application/sdp" && description == nil:
			description = body
		case strings.HasPrefix(kind, "application/rs-metadata") && metadata == nil:
			metadata = body
		}
	}
	if !strings.HasPrefix(kind, "multipart/") || params["boundary"] == "" {
		if kind == "" && bytes.HasPrefix(m.body, []byte("v=0")) {
			kind = "application/sdp" // cut off, or not said
		}
		take(kind, m.body)
		return description, metadata
	}
	r := multipart.NewReader(bytes.NewReader(m.body), params["boundary"])
	for range maxParts {
		part, err := r.NextRawPart()
		if err != nil {
			break
		}
		body, err := io.ReadAll(part)
		if err != nil && len(body) == 0 {
			break
		}
		kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if err == nil {
			take(kind, body)
		}
	}
	return description, metadata
}

// tag is the tag parameter of a From or To header.
func tag(value string) string {
	if i := strings.LastIndexByte(value, '>'); i >= 0 {
		value = value[i:]
	}
	for p := range strings.SplitSeq(value, ";") {
		if name, v, ok := strings.Cut(strings.TrimSpace(p), "="); ok && strings.EqualFold(name, "tag") {
			return v
		}
	}
	return ""
}
