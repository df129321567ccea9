// Package sipmeta reads what SIP says of a call beside its audio: recording
// metadata (RFC 7865), who is asserted or signed to be calling (RFC 3325, RFC
// 8224, RFC 8588, RFC 9795), and makes call attributes of it.
//
// Everything here comes from strangers. Each parser is bounded in size, depth
// and count, never fetches anything, and leaves out what it does not
// understand where the rest is still of use.
package sipmeta

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Keys of call attributes. Those that SIP says nothing of are not set.
const (
	From     = "from" // number or user of the caller, see [Number]
	FromName = "from_name"
	To       = "to"
	ToName   = "to_name"

	// The network's own word (RFC 3325).
	AssertedNumber = "asserted_number"
	AssertedName   = "asserted_name"

	// A signed caller (RFC 8224, RFC 8588): attest is A, B or C; orig and dest
	// are the numbers that were signed; verified is one of the Verdict words;
	// why says what an unverified or failed one lacks; signer is the subject of
	// the certificate of a verified one.
	IdentityAttest   = "identity_attest"
	IdentityOrig     = "identity_orig"
	IdentityDest     = "identity_dest"
	IdentityVerified = "identity_verified"
	IdentityWhy      = "identity_why"
	IdentitySigner   = "identity_signer"
	// IdentityVerstat is the network's own result (3GPP TS 24.229 verstat),
	// such as TN-Validation-Passed.
	IdentityVerstat = "identity_verstat"

	// Rich call data (RFC 9795, RFC 9796): the name that is shown, the reason.
	RCDName   = "rcd_name"
	RCDReason = "rcd_reason"
)

const maxName = 128 // runes; longer display names are cut

// Address takes a SIP address apart (RFC 3261 section 20.10): the display name,
// and the URI without the parameters of the header. Either may be empty.
func Address(value string) (name, uri string) {
	value = strings.TrimSpace(value)
	if strings.HasPrefix(value, `"`) {
		end := closingQuote(value)
		if end < 0 {
			return "", ""
		}
		name, value = unquote(value[1:end]), value[end+1:]
	}
	open := strings.IndexByte(value, '<')
	if open < 0 {
		uri, _, _ = strings.Cut(value, ";")
		return Name(name), strings.TrimSpace(uri)
	}
	if name == "" {
		name = value[:open]
	}
	uri, _, _ = strings.Cut(value[open+1:], ">")
	return Name(name), strings.TrimSpace(uri)
}

// closingQuote is where the quoted string that begins value ends, or -1.
func closingQuote(value string) int {
	for i := 1; i < len(value); i++ {
		switch value[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

func unquote(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Name makes a display name fit to be shown: valid, printable, single spaces,
// at most 128 characters.
func Name(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) > maxName {
		s = strings.TrimSpace(string([]rune(s)[:maxName]))
	}
	return s
}

// Number is the number in a SIP or tel URI, without visual separators and
// parameters: +15550100 in "sip:+1-555-0100;noa=3@host;user=phone". Where the
// user is no number it is the user: "anonymous", "alice". It is empty for a URI
// without user.
func Number(uri string) string {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(uri), ":")
	switch {
	case ok && strings.EqualFold(scheme, "tel"):
	case ok && (strings.EqualFold(scheme, "sip") || strings.EqualFold(scheme, "sips")):
		at := strings.LastIndexByte(rest, '@')
		if at < 0 {
			return ""
		}
		rest = rest[:at]
		rest, _, _ = strings.Cut(rest, ":") // a password
	default: // no scheme: a bare number or user@host
		rest = uri
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			rest = rest[:at]
		}
	}
	rest, _, _ = strings.Cut(rest, ";")
	if plain, err := url.PathUnescape(rest); err == nil {
		rest = plain
	}
	if digits, ok := telephone(rest); ok {
		return digits
	}
	rest = Name(rest)
	if strings.EqualFold(rest, "anonymous") {
		return "anonymous"
	}
	return rest
}

// telephone is s without visual separators (RFC 3966 section 5.1.1), if it is
// a telephone number.
func telephone(s string) (string, bool) {
	digits := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c == '*', c == '#', c == '+' && len(digits) == 0:
			digits = append(digits, c)
		case strings.IndexByte("-.() ", c) < 0:
			return "", false
		}
	}
	return string(digits), len(digits) > 0 && len(digits) <= 64
}

// parameter finds ;name=value in the parameters of a header or URI; names are
// compared without case.
func parameter(s, name string) (string, bool) {
	for s != "" {
		var one string
		one, s = cutParameter(s)
		key, value, _ := strings.Cut(one, "=")
		if strings.EqualFold(strings.TrimSpace(key), name) {
			value = strings.TrimSpace(value)
			if end := closingQuote(value); strings.HasPrefix(value, `"`) && end > 0 {
				value = unquote(value[1:end])
			}
			return value, true
		}
	}
	return "", false
}

// cutParameter splits at the first semicolon outside of quotes and angles.
func cutParameter(s string) (one, rest string) {
	quoted, angled := false, false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if quoted {
				i++
			}
		case '"':
			quoted = !quoted
		case '<':
			angled = !quoted || angled
		case '>':
			angled = angled && quoted
		case ';':
			if !quoted && !angled {
				return s[:i], s[i+1:]
			}
		}
	}
	return s, ""
}

// values splits a header's value at the commas outside of quotes and angles.
func values(s string) (all []string) {
	quoted, angled, from := false, false, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if quoted {
				i++
			}
		case '"':
			quoted = !quoted
		case '<':
			angled = angled || !quoted
		case '>':
			angled = angled && quoted
		case ',':
			if !quoted && !angled {
				all, from = append(all, s[from:i]), i+1
			}
		}
	}
	return append(all, s[from:])
}
