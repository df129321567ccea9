package audiohooksrc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxSkew = 3 * time.Second  // between the client's clock and ours
	maxAge  = 10 * time.Second // of a signature, from created on

	minNonce = 22   // characters: 128 bits in base64
	maxField = 4096 // bytes of a signature field
)

// covered are the components that a signature must cover, or parts of the
// request could be changed behind it.
var covered = [...]string{
	"@request-target", "@authority",
	"audiohook-organization-id", "audiohook-session-id", "audiohook-correlation-id", "x-api-key",
}

// signature is what the headers of a request say of its HTTP message signature
// (draft-ietf-httpbis-message-signatures-11, which became RFC 9421).
type signature struct {
	components       []string
	params           string // of @signature-params, as they were sent
	keyID, nonce     string
	created, expires int64 // seconds since 1970; 0 where absent
	sum              []byte
}

var (
	// errUnsigned says that a request has no signature at all.
	errUnsigned = errors.New("the request is not signed")
	errNoSum    = errors.New("header Signature: must be LABEL=:BASE64: in its whole")
)

// parseSignature reads the headers Signature-Input and Signature. Where there
// is more than one signature it is the first.
func parseSignature(h http.Header) (signature, error) {
	var s signature
	input, sums := h.Get("Signature-Input"), h.Get("Signature")
	if input == "" && sums == "" {
		return s, errUnsigned
	}
	if len(input) > maxField || len(sums) > maxField {
		return s, fmt.Errorf("signature: headers of more than %d bytes", maxField)
	}
	in := scanner{input}
	label, ok := in.key()
	if !ok || !in.take("=(") {
		return s, errors.New("header Signature-Input: must begin with LABEL=(")
	}
	from := in.rest
	for !in.take(")") {
		name, ok := in.quoted()
		if !ok || !in.take(" ") && !strings.HasPrefix(in.rest, ")") {
			return s, errors.New("header Signature-Input: components must be a list of strings")
		}
		if slices.Contains(s.components, name) {
			return s, errors.New("header Signature-Input: a component is there twice")
		}
		s.components = append(s.components, name)
	}
	if err := s.parameters(&in); err != nil {
		return s, err
	}
	s.params = "(" + from[:len(from)-len(in.rest)]
	if rest := strings.TrimLeft(in.rest, " \t"); rest != "" && rest[0] != ',' {
		return s, errors.New("header Signature-Input: something follows the parameters")
	}
	var err error
	s.sum, err = sumOf(label, sums)
	return s, err
}

// parameters reads what follows the components.
func (s *signature) parameters(in *scanner) error {
	seen := make(map[string]bool)
	for in.take(";") {
		name, ok := in.key()
		if !ok || seen[name] || !in.take("=") {
			return errors.New("header Signature-Input: parameters must be NAME=VALUE, each once")
		}
		seen[name] = true
		switch name {
		case "created", "expires":
			v, ok := in.integer()
			if !ok {
				return fmt.Errorf("header Signature-Input: %s must be a number of seconds", name)
			}
			if name == "created" {
				s.created = v
			} else {
				s.expires = v
			}
		case "keyid", "nonce", "alg":
			v, ok := in.quoted()
			switch {
			case !ok:
				return fmt.Errorf("header Signature-Input: %s must be a string", name)
			case name == "keyid":
				s.keyID = v
			case name == "nonce":
				s.nonce = v
			case v != "hmac-sha256":
				return errors.New("header Signature-Input: alg must be hmac-sha256")
			}
		default:
			return errors.New("header Signature-Input: a parameter is unknown")
		}
	}
	return nil
}

// sumOf is the signature of that label.
func sumOf(label, field string) ([]byte, error) {
	in := scanner{field}
	for {
		name, ok := in.key()
		if !ok || !in.take("=:") {
			return nil, errNoSum
		}
		text, rest, ok := strings.Cut(in.rest, ":")
		sum, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil {
			return nil, errNoSum
		}
		if name == label {
			return sum, nil
		}
		in.rest = strings.TrimLeft(rest, " \t")
		if !in.take(",") {
			return nil, errors.New("the header Signature has none of the label in Signature-Input")
		}
		in.rest = strings.TrimLeft(in.rest, " \t")
	}
}

// current reports whether the signature is of now, and says why not.
func (s *signature) current(now time.Time) error {
	created := time.Unix(s.created, 0)
	switch {
	case s.created == 0:
		return errors.New("the signature does not say when it was created")
	case created.After(now.Add(maxSkew)):
		return errors.New("the signature is from the future")
	case now.After(created.Add(maxAge + maxSkew)):
		return errors.New("the signature is too old")
	case s.expires != 0 && now.After(time.Unix(s.expires, 0).Add(maxSkew)):
		return errors.New("the signature has expired")
	case len(s.nonce) < minNonce:
		return fmt.Errorf("the signature's nonce must be at least %d characters", minNonce)
	}
	return nil
}

// verify reports whether the signature is by secret over what r says, which the
// client sent to asked.
func (s *signature) verify(r *http.Request, secret []byte, asked *url.URL) error {
	for _, name := range covered {
		if !slices.Contains(s.components, name) {
			return fmt.Errorf("the signature does not cover %s", name)
		}
	}
	base, err := s.base(r, asked)
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(base)
	if !hmac.Equal(mac.Sum(nil), s.sum) {
		return errors.New("the signature is not by the secret of this key, or over another address than ours: see public_url")
	}
	return nil
}

// base is what is signed (section 2.3 of the draft, 2.5 of RFC 9421).
func (s *signature) base(r *http.Request, asked *url.URL) ([]byte, error) {
	var b []byte
	for _, name := range s.components {
		var value string
		switch {
		case name == "@request-target":
			value = asked.RequestURI()
		case name == "@authority":
			value = normalAuthority(asked)
		case name == "@method":
			value = r.Method
		case name == "@path":
			value = asked.EscapedPath()
		case name == "@query":
			value = "?" + asked.RawQuery
		case strings.HasPrefix(name, "@"):
			return nil, errors.New("the signature covers a component that is not supported")
		default:
			values := slices.Clone(r.Header.Values(name))
			if len(values) == 0 {
				return nil, errors.New("the signature covers a header that is not there")
			}
			for i, v := range values {
				values[i] = strings.TrimSpace(v)
			}
			value = strings.Join(values, ", ")
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `": `...)
		b = append(b, value...)
		b = append(b, '\n')
	}
	b = append(b, `"@signature-params": `...)
	return append(b, s.params...), nil
}

// normalAuthority is in small letters and without a port that goes without
// saying.
func normalAuthority(asked *url.URL) string {
	host, port := strings.ToLower(asked.Host), "80"
	if asked.Scheme == "wss" {
		port = "443"
	}
	return strings.TrimSuffix(host, ":"+port)
}

// scanner reads structured fields (RFC 8941) as far as signatures need them.
type scanner struct{ rest string }

// take takes what is expected next.
func (in *scanner) take(what string) bool {
	rest, ok := strings.CutPrefix(in.rest, what)
	if ok {
		in.rest = rest
	}
	return ok
}

// key reads a name.
func (in *scanner) key() (string, bool) {
	n := 0
	for n < len(in.rest) {
		c := in.rest[n]
		if c >= 'a' && c <= 'z' || c == '*' || n > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.') {
			n++
			continue
		}
		break
	}
	key := in.rest[:n]
	in.rest = in.rest[n:]
	return key, n > 0
}

// quoted reads a string. Backslashes are not ours to need: a name with one is
// refused.
func (in *scanner) quoted() (string, bool) {
	if !in.take(`"`) {
		return "", false
	}
	end := strings.IndexByte(in.rest, '"')
	if end < 0 {
		return "", false
	}
	s := in.rest[:end]
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' {
			return "", false
		}
	}
	in.rest = in.rest[end+1:]
	return s, true
}

// integer reads a number that is not negative.
func (in *scanner) integer() (int64, bool) {
	n := 0
	for n < len(in.rest) && in.rest[n] >= '0' && in.rest[n] <= '9' {
		n++
	}
	v, err := strconv.ParseInt(in.rest[:n], 10, 64)
	if err != nil || n > 12 {
		return 0, false
	}
	in.rest = in.rest[n:]
	return v, true
}
