// Package announce is the HTTP side of ways in that are told about their
// calls: who may tell, what a call is said to be, and the answers.
package announce

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// Limits of what is announced. They are far above what a call has, and keep
// what strangers can make us hold small.
const (
	maxText       = 256 // bytes of a number or name
	maxAttributes = 32
)

// Call is what the one who announces a call knows of it. Every field may be
// missing.
type Call struct {
	Call      string `json:"call,omitempty"` // id, a NATS subject token
	Tenant    string `json:"tenant,omitempty"`
	From      string `json:"from,omitempty"`
	FromName  string `json:"from_name,omitempty"`
	To        string `json:"to,omitempty"`
	ToName    string `json:"to_name,omitempty"`
	Direction string `json:"direction,omitempty"` // inbound or outbound
	Trunk     string `json:"trunk,omitempty"`
	// Consent says whether the parties agreed to be listened to, Announced
	// whether they were told.
	Consent   *bool `json:"consent,omitempty"`
	Announced *bool `json:"announced,omitempty"`
	// Attributes are carried as they are.
	Attributes map[string]string `json:"attributes,omitempty"`
}

var (
	token     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	attribute = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// IsToken reports whether s can be the id of a call or tenant: part of a NATS
// subject and of a file name.
func IsToken(s string) bool { return token.MatchString(s) }

// NewID is an id that no other call has.
func NewID(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()) }

// Validate says which field is wrong and what it must be.
func (c *Call) Validate() error {
	for _, f := range []struct{ name, value string }{{"call", c.Call}, {"tenant", c.Tenant}} {
		if f.value != "" && !IsToken(f.value) {
			return fmt.Errorf("%s: %.140q must be 1 to 128 letters, digits, - or _", f.name, f.value)
		}
	}
	for _, f := range []struct{ name, value string }{
		{"from", c.From},
		{"from_name", c.FromName},
		{"to", c.To},
		{"to_name", c.ToName},
		{"trunk", c.Trunk},
	} {
		if err := checkText(f.value); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	switch c.Direction {
	case "", "inbound", "outbound":
	default:
		return fmt.Errorf("direction: %.140q must be inbound or outbound", c.Direction)
	}
	if len(c.Attributes) > maxAttributes {
		return fmt.Errorf("attributes: %d must be at most %d", len(c.Attributes), maxAttributes)
	}
	for name, value := range c.Attributes {
		if !attribute.MatchString(name) {
			return fmt.Errorf("attributes: %.70q must be small letters, digits and _, at most 64", name)
		}
		if err := checkText(value); err != nil {
			return fmt.Errorf("attributes.%s: %w", name, err)
		}
	}
	return nil
}

func checkText(s string) error {
	if len(s) > maxText {
		return fmt.Errorf("%d bytes must be at most %d", len(s), maxText)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("must be text without control characters")
	}
	return nil
}

// Keys of call attributes that announced fields become.
const (
	keyFrom, keyFromName = "from", "from_name"
	keyTo, keyToName     = "to", "to_name"
	keyDirection         = "direction"
	keyTrunk             = "trunk"
	keyConsent           = "consent"
	keyAnnounced         = "announced"
)

// Describe writes what is known of the call into attributes; what the fields
// say counts more than Attributes of the same name.
func (c *Call) Describe(attributes map[string]string) {
	maps.Copy(attributes, c.Attributes)
	for key, value := range map[string]string{
		keyFrom: c.From, keyFromName: c.FromName, keyTo: c.To, keyToName: c.ToName,
		keyDirection: c.Direction, keyTrunk: c.Trunk,
	} {
		if value != "" {
			attributes[key] = value
		}
	}
	for key, value := range map[string]*bool{keyConsent: c.Consent, keyAnnounced: c.Announced} {
		if value != nil {
			attributes[key] = strconv.FormatBool(*value)
		}
	}
}

// Leg is a [audio.Leg] by its name.
type Leg audio.Leg

// UnmarshalText reads caller, callee or unknown.
func (l *Leg) UnmarshalText(text []byte) error {
	leg, err := audio.ParseLeg(string(text))
	*l = Leg(leg)
	return err
}

// MarshalText writes what UnmarshalText reads.
func (l Leg) MarshalText() ([]byte, error) { return []byte(audio.Leg(l).String()), nil }
