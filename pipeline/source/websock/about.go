package websock

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/callwarden/callwarden/pipeline/source/announce"
)

// About is what a peer says of its call, in whatever words its system has for
// it. What cannot be understood is left out: a call is not refused for it.
type About struct {
	announce.Call
	Language string // BCP 47
	// Other are keys that the protocol has a meaning of its own for; they are
	// taken from Set by their plain names.
	Other map[string]string
}

const (
	maxText       = 256 // bytes, as announce has it
	maxAttributes = 32
)

// plain is a key without its spelling: callSid, call_sid and Call-SID are one.
func plain(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, key)
}

// snake is a key as attributes have it, empty where it cannot be one.
func snake(key string) string {
	var b strings.Builder
	lower := false
	for _, r := range key {
		switch {
		case r >= 'A' && r <= 'Z':
			if lower {
				b.WriteByte('_')
			}
			b.WriteRune(r + 'a' - 'A')
			lower = false
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
			lower = true
		default:
			if b.Len() > 0 {
				b.WriteByte('_')
			}
			lower = false
		}
	}
	out := strings.TrimRight(b.String(), "_")
	if out == "" || len(out) > 64 || out[0] >= '0' && out[0] <= '9' {
		return ""
	}
	return out
}

// clean is text without control characters, cut to what is carried.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	for len(s) > maxText {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return strings.TrimSpace(s)
}

// SetAll sets what a map says, in the order of its keys; of two spellings of
// one key the first counts.
func (a *About) SetAll(said map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(said)) {
		a.Set(key, said[key])
	}
}

// Set takes one thing that the peer says. What was said before is kept.
func (a *About) Set(key, value string) {
	if value = clean(value); value == "" {
		return
	}
	name := plain(key)
	if was, ok := a.Other[name]; ok {
		if was == "" {
			a.Other[name] = value
		}
		return
	}
	text := func(field *string) {
		if *field == "" {
			*field = value
		}
	}
	switch name {
	case "call":
		text(&a.Call.Call)
	case "tenant":
		text(&a.Tenant)
	case "from", "caller", "callerid", "calleridnumber", "callernumber", "ani":
		text(&a.From)
	case "fromname", "callername", "calleridname":
		text(&a.FromName)
	case "to", "callee", "called", "callednumber", "destination", "destinationnumber", "dnis":
		text(&a.To)
	case "toname", "calleename", "calledname":
		text(&a.ToName)
	case "trunk":
		text(&a.Trunk)
	case "language", "lang":
		text(&a.Language)
	case "direction":
		switch way := strings.ToLower(value); {
		case strings.HasPrefix(way, "in"):
			value = "inbound"
		case strings.HasPrefix(way, "out"):
			value = "outbound"
		default:
			return
		}
		text(&a.Direction)
	case "consent":
		flag(&a.Consent, value)
	case "announced":
		flag(&a.Announced, value)
	default:
		a.attribute(key, value)
	}
}

func flag(field **bool, value string) {
	if v, err := strconv.ParseBool(strings.ToLower(value)); err == nil && *field == nil {
		*field = &v
	}
}

func (a *About) attribute(key, value string) {
	name := snake(key)
	if name == "" || len(a.Attributes) >= maxAttributes {
		return
	}
	if a.Attributes == nil {
		a.Attributes = make(map[string]string)
	}
	if a.Attributes[name] == "" {
		a.Attributes[name] = value
	}
}

// Name is the id that the call is to have: what it was named, else what its
// system calls it, else a new one that begins with prefix.
func (a *About) Name(prefix string, theirs ...string) string {
	for _, id := range append([]string{a.Call.Call}, theirs...) {
		if id = CallID(id); id != "" {
			return id
		}
	}
	return announce.NewID(prefix)
}
