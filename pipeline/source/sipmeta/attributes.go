package sipmeta

import (
	"strings"
	"time"
)

// Header returns the values of a SIP header, each field of its own; a list in
// one field may come as it is.
type Header func(name string) []string

// Attributes makes call attributes of a request's headers: who is asserted,
// signed, and shown to be calling. What from and to are is the caller's to
// say: they depend on what kind of session it is.
func (s *Store) Attributes(h Header, now time.Time) map[string]string {
	a := make(map[string]string)
	asserted(h, a)
	s.identity(h, now, a)
	richCallData(h, a)
	return a
}

// set keeps the first that is said.
func set(a map[string]string, key, value string) {
	if _, ok := a[key]; !ok && value != "" {
		a[key] = value
	}
}

// asserted reads P-Asserted-Identity, which may hold a SIP and a tel URI (RFC
// 3325 section 9.1), and the verstat parameter that networks add to it or to
// From.
func asserted(h Header, a map[string]string) {
	for _, field := range [...]string{"P-Asserted-Identity", "From"} {
		for _, line := range h(field) {
			for _, value := range values(line) {
				name, uri := Address(value)
				if field != "From" {
					set(a, AssertedNumber, Number(uri))
					set(a, AssertedName, name)
				}
				set(a, IdentityVerstat, verstat(value))
			}
		}
	}
}

// verstat is that parameter, of the URI's user, the URI or the header.
func verstat(value string) string {
	_, rest, ok := cutFold(value, ";verstat=")
	if !ok {
		return ""
	}
	if end := strings.IndexAny(rest, ";>@, \t"); end >= 0 {
		rest = rest[:end]
	}
	return clip(Name(rest))
}

func cutFold(s, sep string) (before, after string, found bool) {
	if i := strings.Index(strings.ToLower(s), sep); i >= 0 && len(strings.ToLower(s)) == len(s) {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// identity reads the Identity headers. The weakest verdict of those that can
// be read counts: one bad signature is not healed by another.
func (s *Store) identity(h Header, now time.Time, a map[string]string) {
	n := 0
	for _, line := range h("Identity") {
		for _, value := range values(line) {
			if n++; n > maxIdentities {
				return
			}
			p, err := ParseIdentity(value)
			if err != nil {
				set(a, IdentityVerified, string(Unverified))
				set(a, IdentityWhy, "the Identity header cannot be read")
				continue
			}
			s.signed(p, now, a)
		}
	}
}

func (s *Store) signed(p *PASSporT, now time.Time, a map[string]string) {
	set(a, IdentityAttest, p.Attest)
	set(a, RCDName, p.Name)
	set(a, RCDReason, p.Reason)
	if p.Kind != "div" { // a diversion's orig is the caller's, its dest is not the call's
		set(a, IdentityOrig, p.Orig)
		if len(p.Dest) > 0 {
			set(a, IdentityDest, p.Dest[0])
		}
	}
	r := s.Verify(p, now)
	if old, ok := a[IdentityVerified]; !ok || rank(r.Verdict) < rank(Verdict(old)) {
		a[IdentityVerified] = string(r.Verdict)
		delete(a, IdentityWhy)
		set(a, IdentityWhy, r.Why)
	}
	set(a, IdentitySigner, r.Signer)
}

func rank(v Verdict) int {
	switch v {
	case Failed:
		return 0
	case Unverified:
		return 1
	}
	return 2
}

// richCallData reads the call reason of Call-Info (RFC 9796). Its cards and
// pictures are links, which are not followed.
func richCallData(h Header, a map[string]string) {
	for _, line := range h("Call-Info") {
		for _, value := range values(line) {
			_, params := cutParameter(value)
			if reason, ok := parameter(params, "call-reason"); ok {
				set(a, RCDReason, Name(reason))
			}
		}
	}
}

// Compare holds what was signed against who the call is said to be from: a
// signature for another number is a failed one. Numbers are the same where one
// ends with the other, as a national one does with the international.
func Compare(a map[string]string) {
	orig, from := digits(a[IdentityOrig]), digits(a[From])
	if a[IdentityVerified] != string(Verified) || len(orig) < minSame || len(from) < minSame {
		return
	}
	if !strings.HasSuffix(orig, from) && !strings.HasSuffix(from, orig) {
		a[IdentityVerified] = string(Failed)
		a[IdentityWhy] = "signed for another caller"
	}
}

const minSame = 7 // digits: the shortest subscriber number

// digits is a number without + and without the zeros of a trunk prefix.
func digits(s string) string {
	s = strings.TrimLeft(strings.TrimPrefix(s, "+"), "0")
	if strings.Trim(s, "0123456789") != "" {
		return ""
	}
	return s
}
