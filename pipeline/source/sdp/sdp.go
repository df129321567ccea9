// Package sdp reads session descriptions (RFC 8866) of those who send audio,
// and writes the answers of one who only listens (RFC 3264).
//
// It reads liberally, since what sends is old and of many makers: lines may
// come in any order, end in LF or CRLF, and be missing; what is not known is
// passed over. It is bounded, since what sends may be anybody.
package sdp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source/media"
)

// Descriptions beyond these bounds are refused whole.
const (
	maxSize    = 64 << 10
	maxMedia   = 16
	maxFormats = 64 // payload types of one m= line; more are left out
	maxCrypto  = 8  // of one m= line; more are left out
	maxValue   = 256
)

// ErrSyntax is wrapped by the errors of [Parse].
var ErrSyntax = errors.New("session description")

// Direction is who sends, as the side that wrote the description says it.
type Direction uint8

const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

func (d Direction) String() string {
	return [...]string{"sendrecv", "sendonly", "recvonly", "inactive"}[d&3]
}

// Sends reports whether the side that wrote the description sends.
func (d Direction) Sends() bool { return d == SendRecv || d == SendOnly }

func direction(attribute string) (Direction, bool) {
	i := slices.Index([]string{"sendrecv", "sendonly", "recvonly", "inactive"}, attribute)
	return Direction(max(i, 0)), i >= 0
}

// Session is a description.
type Session struct {
	Version string // of the o= line: a description with the same is the same
	Media   []Media
}

// Media is one m= line.
type Media struct {
	Kind    string // such as audio
	Port    int    // 0 for a line that is not used
	Proto   string // such as RTP/AVP, as it came
	Formats []media.Format
	// Unread are the m= line's formats as they came, for the answer to a line
	// that is refused.
	Unread    []string
	Address   netip.Addr // the zero value where it is missing or a host name
	RTCP      netip.AddrPort
	Label     string // RFC 4574
	Mid       string // RFC 5888
	Direction Direction
	Mux       bool     // RTCP on the port of RTP, RFC 5761
	Crypto    []string // what follows a=crypto: (RFC 4568); holds keys
	DTLS      bool     // keys by DTLS (RFC 5763), which is not supported
}

// Remote is where the media comes from or goes to; the zero value where the
// description does not say it.
func (m *Media) Remote() netip.AddrPort {
	if !m.Address.IsValid() || m.Address.IsUnspecified() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(m.Address, uint16(m.Port))
}

// Reports is where receiver reports are wanted, RFC 3605; the zero value where
// nobody knows.
func (m *Media) Reports() netip.AddrPort {
	switch {
	case m.RTCP.IsValid():
		return m.RTCP
	case !m.Remote().IsValid() || m.Port == 0:
		return netip.AddrPort{}
	case m.Mux:
		return m.Remote()
	}
	return netip.AddrPortFrom(m.Address, uint16(min(m.Port+1, 65535)))
}

// Held reports whether the side that wrote the description sends nothing for
// now: by its direction, or by an address of zeros (RFC 3264 section 8.4).
func (m *Media) Held() bool {
	return !m.Direction.Sends() || m.Address.IsValid() && m.Address.IsUnspecified()
}

// Secure reports whether the media is encrypted.
func (m *Media) Secure() bool {
	return strings.Contains(strings.ToUpper(m.Proto), "SAVP") || len(m.Crypto) > 0
}

// Parse reads a description.
func Parse(body []byte) (*Session, error) {
	if len(body) > maxSize {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrSyntax, len(body), maxSize)
	}
	p := parser{session: &Session{}}
	lines := 0
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if len(line) < 2 || line[1] != '=' {
			continue
		}
		lines++
		if err := p.line(line[0], strings.TrimSpace(line[2:])); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
	}
	if lines == 0 {
		return nil, fmt.Errorf("%w: no lines", ErrSyntax)
	}
	return p.end()
}

// parser holds what the lines so far have said.
type parser struct {
	session *Session
	// Of the session's own lines, for m= lines that do not say otherwise.
	address   netip.Addr
	direction Direction
	crypto    []string
	dtls      bool

	rtpmap map[int]string // of the m= line that is read, by payload type
	fmtp   map[int]string
}

func (p *parser) line(kind byte, value string) error {
	switch kind {
	case 'o':
		if f := strings.Fields(value); len(f) >= 3 && len(p.session.Media) == 0 {
			p.session.Version = clip(f[1] + " " + f[2])
		}
	case 'm':
		p.close()
		return p.media(value)
	case 'c':
		if m := p.now(); m != nil {
			m.Address = connection(value)
		} else {
			p.address = connection(value)
		}
	case 'a':
		p.attribute(value)
	}
	return nil
}

// now is the m= line that is read; nil before the first.
func (p *parser) now() *Media {
	if n := len(p.session.Media); n > 0 {
		return &p.session.Media[n-1]
	}
	return nil
}

func (p *parser) media(value string) error {
	if len(p.session.Media) >= maxMedia {
		return fmt.Errorf("more than %d m= lines", maxMedia)
	}
	f := strings.Fields(value)
	if len(f) < 3 {
		return fmt.Errorf("m= line %q: want KIND PORT PROTO FORMATS", clip(value))
	}
	number, _, _ := strings.Cut(f[1], "/") // a number of ports, not used with unicast
	port, err := strconv.Atoi(number)
	if err != nil || port < 0 || port > 65535 {
		return fmt.Errorf("m= line: port %q must be from 0 to 65535", clip(f[1]))
	}
	m := Media{
		Kind: strings.ToLower(clip(f[0])), Port: port, Proto: clip(f[2]), Unread: f[3:],
		Address: p.address, Direction: p.direction, Crypto: slices.Clone(p.crypto), DTLS: p.dtls,
	}
	if len(m.Unread) > maxFormats {
		m.Unread = m.Unread[:maxFormats]
	}
	p.session.Media = append(p.session.Media, m)
	p.rtpmap, p.fmtp = make(map[int]string), make(map[int]string)
	return nil
}

// connection reads the address of IN IP4 192.0.2.1/127; a host name is none.
func connection(value string) netip.Addr {
	f := strings.Fields(value)
	if len(f) < 3 {
		return netip.Addr{}
	}
	host, _, _ := strings.Cut(f[2], "/")
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

func (p *parser) attribute(value string) {
	name, value, _ := strings.Cut(value, ":")
	name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
	m := p.now()
	if d, ok := direction(name); ok {
		if m != nil {
			m.Direction = d
		} else {
			p.direction = d
		}
		return
	}
	switch name {
	case "crypto":
		p.addCrypto(m, value)
		return
	case "fingerprint":
		p.dtls = p.dtls || m == nil
		if m != nil {
			m.DTLS = true
		}
		return
	}
	if m == nil {
		return
	}
	switch name {
	case "rtpmap":
		keep(p.rtpmap, value)
	case "fmtp":
		keep(p.fmtp, value)
	case "label":
		m.Label = clip(value)
	case "mid":
		m.Mid = clip(value)
	case "rtcp-mux":
		m.Mux = true
	case "rtcp":
		m.RTCP = reports(value, m.Address)
	}
}

// keep files "PT TEXT" by its payload type.
func keep(by map[int]string, value string) {
	number, text, _ := strings.Cut(value, " ")
	pt, err := strconv.Atoi(number)
	if err != nil || pt < 0 || pt > 127 {
		return
	}
	by[pt] = strings.TrimSpace(text)
}

// reports reads a=rtcp:PORT [IN IP4 ADDRESS].
func reports(value string, address netip.Addr) netip.AddrPort {
	number, rest, _ := strings.Cut(value, " ")
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}
	}
	if a := connection(rest); a.IsValid() {
		address = a
	}
	if !address.IsValid() || address.IsUnspecified() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(address, uint16(port))
}

func (p *parser) addCrypto(m *Media, value string) {
	if len(value) > 4*maxValue {
		return
	}
	to := &p.crypto
	if m != nil {
		to = &m.Crypto
	}
	if len(*to) < maxCrypto {
		*to = append(*to, value)
	}
}

// close makes formats of the payload types of the m= line that ends.
func (p *parser) close() {
	m := p.now()
	if m == nil {
		return
	}
	for _, text := range m.Unread {
		pt, err := strconv.Atoi(text)
		if err != nil || pt < 0 || pt > 127 {
			continue
		}
		f, known := media.Static(uint8(pt))
		if text := p.rtpmap[pt]; text != "" {
			if mapped, err := media.ParseFormat(pt, text); err == nil {
				f, known = mapped, true
			}
		}
		if known {
			f.Params = p.fmtp[pt]
			m.Formats = append(m.Formats, f)
		}
	}
}

func (p *parser) end() (*Session, error) {
	p.close()
	if len(p.session.Media) == 0 {
		return nil, fmt.Errorf("%w: no m= line", ErrSyntax)
	}
	return p.session, nil
}

// clip bounds what is kept of a value.
func clip(s string) string {
	if len(s) > maxValue {
		return s[:maxValue]
	}
	return s
}
