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

// ErrRefused is wrapped by the errors of [Media.Choose] beside
// [media.ErrCodec]: the line cannot be heard, and the text says why.
var ErrRefused = errors.New("media refused")

// Choose picks what to hear of the line: the first audio format that is
// supported, in the order of the offer, with the comfort noise and keypad
// events of its clock. A line that cannot be heard is an error that names what
// is wrong with it: that wraps [media.ErrCodec] where it is the codec.
func (m *Media) Choose() ([]media.Format, error) {
	switch {
	case m.Kind != "audio":
		return nil, fmt.Errorf("%s is not heard: %w", printable(m.Kind), ErrRefused)
	case m.Port == 0:
		return nil, fmt.Errorf("the line is not used: %w", ErrRefused)
	case !strings.Contains(strings.ToUpper(m.Proto), "RTP/"):
		return nil, fmt.Errorf("%s is not supported: send RTP/AVP or RTP/SAVP: %w", printable(m.Proto), ErrRefused)
	case m.DTLS && len(m.Crypto) == 0 && m.Secure():
		return nil, fmt.Errorf("SRTP with keys by DTLS is not supported: send a=crypto: %w", ErrRefused)
	case m.Secure() && len(m.Crypto) == 0:
		return nil, fmt.Errorf("%s without a=crypto: %w", printable(m.Proto), ErrRefused)
	}
	var chosen []media.Format
	var refused error
	for _, f := range m.Formats {
		if f.Kind() != media.Audio {
			continue
		}
		err := f.Check()
		if err == nil {
			chosen = append(chosen, f)
			break
		}
		if refused == nil {
			refused = err
		}
	}
	switch {
	case chosen == nil && refused != nil:
		return nil, refused
	case chosen == nil:
		return nil, fmt.Errorf("payload types %s mean nothing: %w", printable(strings.Join(m.Unread, " ")), media.ErrCodec)
	}
	return m.withExtras(chosen), nil
}

// withExtras adds one comfort noise and one keypad format, of the audio's clock
// where there is one.
func (m *Media) withExtras(chosen []media.Format) []media.Format {
	for _, kind := range [...]media.Kind{media.Noise, media.Events} {
		var extra *media.Format
		for i, f := range m.Formats {
			if f.Kind() != kind || f.Check() != nil {
				continue
			}
			if extra == nil || f.ClockHz == chosen[0].ClockHz && extra.ClockHz != chosen[0].ClockHz {
				extra = &m.Formats[i]
			}
		}
		if extra != nil {
			chosen = append(chosen, *extra)
		}
	}
	return chosen
}

// Line is the answer to one m= line.
type Line struct {
	Offer     *Media
	Port      int // 0 refuses the line
	Formats   []media.Format
	Direction Direction
	Crypto    string // value of a=crypto; empty for none
	Mux       bool
}

// Answer is a description by the side that listens.
type Answer struct {
	Address netip.Addr // that media is sent to
	Session uint64     // id, the same for the whole call
	Version uint64     // one more with each change
	Lines   []Line     // one for each m= line of the offer, in its order
}

// Marshal writes the description.
func (a *Answer) Marshal() []byte {
	var b strings.Builder
	family := "IP4"
	if a.Address.Is6() {
		family = "IP6"
	}
	fmt.Fprintf(&b, "v=0\r\no=callwarden %d %d IN %s %s\r\ns=-\r\nc=IN %[3]s %[4]s\r\nt=0 0\r\n",
		a.Session, a.Version, family, a.Address)
	for i := range a.Lines {
		a.Lines[i].write(&b)
	}
	return []byte(b.String())
}

func (l *Line) write(b *strings.Builder) {
	m := l.Offer
	if l.Port == 0 {
		// RFC 3264 section 6: a refused line keeps its place, and its formats
		// count for nothing.
		formats := "0"
		if len(m.Unread) > 0 {
			formats = token(m.Unread[0])
		}
		fmt.Fprintf(b, "m=%s 0 %s %s\r\n", token(m.Kind), token(m.Proto), formats)
		l.names(b)
		return
	}
	fmt.Fprintf(b, "m=%s %d %s", token(m.Kind), l.Port, token(m.Proto))
	for _, f := range l.Formats {
		fmt.Fprintf(b, " %d", f.PayloadType)
	}
	b.WriteString("\r\n")
	for _, f := range l.Formats {
		fmt.Fprintf(b, "a=rtpmap:%d %s\r\n", f.PayloadType, f)
		if f.Kind() == media.Events {
			fmt.Fprintf(b, "a=fmtp:%d 0-15\r\n", f.PayloadType)
		}
	}
	if l.Crypto != "" {
		b.WriteString("a=crypto:" + l.Crypto + "\r\n")
	}
	if l.Mux {
		b.WriteString("a=rtcp-mux\r\n")
	}
	b.WriteString("a=" + l.Direction.String() + "\r\n")
	l.names(b)
}

// names echoes what the line is called.
func (l *Line) names(b *strings.Builder) {
	if l.Offer.Label != "" {
		b.WriteString("a=label:" + token(l.Offer.Label) + "\r\n")
	}
	if l.Offer.Mid != "" {
		b.WriteString("a=mid:" + token(l.Offer.Mid) + "\r\n")
	}
}

// token is s as a word of the description; what cannot stand in one is left
// out.
func token(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s
}

// printable is s fit for a message.
func printable(s string) string { return strconv.QuoteToASCII(clip(s)) }

// Reply is the direction that answers an offer's for a side that never sends.
func Reply(offered *Media) Direction {
	if offered.Held() {
		return Inactive
	}
	return RecvOnly
}

// Codecs names the audio encodings of lines, for people: "PCMU". Their clocks
// would be taken for numbers and masked where calls are told of.
func Codecs(lines []Line) string {
	var names []string
	for i := range lines {
		for _, f := range lines[i].Formats {
			if name := f.Encoding; lines[i].Port != 0 && f.Kind() == media.Audio && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}
