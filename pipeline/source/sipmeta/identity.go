package sipmeta

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxIdentity   = 16 << 10 // bytes of one Identity header
	maxIdentities = 4        // headers that are looked at
	maxDest       = 16
)

// ErrIdentity is wrapped by the errors of [ParseIdentity].
var ErrIdentity = errors.New("identity")

// PASSporT is a signed statement about who calls whom (RFC 8225). Nothing in it
// is worth more than its signature, see [Store].
type PASSporT struct {
	Kind     string // ppt: "shaken", "rcd", "div", or empty for the base form
	Alg      string
	CertURL  string // x5u; never fetched
	Attest   string // A, B, C, or empty (RFC 8588)
	OrigID   string
	Orig     string   // number, or URI
	Dest     []string // numbers, or URIs
	IssuedAt time.Time
	Name     string // rcd.nam (RFC 9795)
	Reason   string // crn

	signed    string // what the signature is over
	signature []byte
}

// claims are the parts of the token that are read. What has another type than
// it should makes the token unreadable.
type claims struct {
	IAT    json.Number `json:"iat"`
	Attest string      `json:"attest"`
	OrigID string      `json:"origid"`
	Orig   party       `json:"orig"`
	Dest   parties     `json:"dest"`
	RCD    struct {
		Name string `json:"nam"`
	} `json:"rcd"`
	Reason string `json:"crn"`
}

type party struct {
	TN  text `json:"tn"`
	URI text `json:"uri"`
}

type parties struct {
	TN  texts `json:"tn"`
	URI texts `json:"uri"`
}

// text is a string that some write as a number or as a list of one.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	var all texts
	if err := all.UnmarshalJSON(b); err != nil {
		return err
	}
	if len(all) > 0 {
		*t = text(all[0])
	}
	return nil
}

// texts is a list of strings that some write as one string.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > 0 && b[0] == '[':
		return json.Unmarshal(b, (*[]string)(t))
	case len(b) > 0 && b[0] == '"':
		var one string
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		*t = texts{one}
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	*t = texts{n.String()}
	return nil
}

// ParseIdentity decodes the value of an Identity header (RFC 8224 section 4.1)
// in its full form. The compact form, which leaves out what the receiver could
// make up, is an error: its content is not known.
func ParseIdentity(value string) (*PASSporT, error) {
	if len(value) > maxIdentity {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrIdentity, len(value), maxIdentity)
	}
	token, params := cutParameter(value)
	part := strings.Split(strings.TrimSpace(token), ".")
	if len(part) != 3 {
		return nil, fmt.Errorf("%w: the token has %d parts, want 3", ErrIdentity, len(part))
	}
	if part[0] == "" || part[1] == "" {
		return nil, fmt.Errorf("%w: compact form", ErrIdentity)
	}
	var header struct{ Alg, PPT, X5U string }
	var c claims
	if err := decode(part[0], &header); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrIdentity, err)
	}
	if err := decode(part[1], &c); err != nil {
		return nil, fmt.Errorf("%w: claims: %w", ErrIdentity, err)
	}
	signature, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part[2], "="))
	if err != nil {
		return nil, fmt.Errorf("%w: signature: %w", ErrIdentity, err)
	}
	p := &PASSporT{
		Kind:      clip(Name(header.PPT)),
		Alg:       clip(Name(header.Alg)),
		CertURL:   header.X5U,
		Attest:    attestation(c.Attest),
		OrigID:    clip(Name(c.OrigID)),
		Orig:      identifier(string(c.Orig.TN), string(c.Orig.URI)),
		Name:      Name(c.RCD.Name),
		Reason:    Name(c.Reason),
		signed:    part[0] + "." + part[1],
		signature: signature,
	}
	if seconds, err := c.IAT.Int64(); err == nil && seconds > 0 {
		p.IssuedAt = time.Unix(seconds, 0).UTC()
	}
	for _, d := range append(c.Dest.TN, c.Dest.URI...) {
		if len(p.Dest) < maxDest {
			p.Dest = append(p.Dest, identifier(d, d))
		}
	}
	if info, ok := parameter(params, "info"); ok && p.CertURL == "" {
		p.CertURL = strings.Trim(info, "<>")
	}
	if ppt, ok := parameter(params, "ppt"); ok && p.Kind == "" {
		p.Kind = clip(Name(ppt))
	}
	return p, nil
}

func decode(part string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// attestation is A, B or C: full, partial, gateway.
func attestation(s string) string {
	switch s = strings.ToUpper(strings.TrimSpace(s)); s {
	case "A", "B", "C":
		return s
	}
	return ""
}

func identifier(tn, uri string) string {
	if tn != "" {
		return Number(tn)
	}
	return Number(uri)
}
