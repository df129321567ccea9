// Package admit decides which calls are heard at all. Rules look at what is
// known of a call before it is heard; the first that fits decides.
package admit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source"
)

// What a rule may do with a call.
const (
	Listen = "listen"
	Skip   = "skip"
)

// Config says which calls are heard.
type Config struct {
	Rules []Rule `yaml:"rules"`
	// Otherwise is what is done with calls that no rule fits: listen or skip.
	Otherwise string `yaml:"otherwise"`
	// Silent tells nothing of calls that are skipped. Off, each has a
	// call.started, a status not_monitored with the rule's name, and a
	// call.ended event.
	Silent bool `yaml:"silent"`
}

// Rule fits a call when all of its conditions do; one that is left out fits
// every call, and of a list one entry is enough.
type Rule struct {
	Name string `yaml:"name"` // told in events of calls that are skipped: no number
	Then string `yaml:"then"` // listen or skip

	// Numbers, as patterns: "+442071234567" is that number, "+44*" all that
	// begin so, "+1800xxxxxxx" has x for any digit, "anonymous" is a caller
	// who withholds the number. Number is either side's.
	From   []string `yaml:"from"`
	To     []string `yaml:"to"`
	Number []string `yaml:"number"`

	Direction []string `yaml:"direction"`
	Trunk     []string `yaml:"trunk"`
	Tenant    []string `yaml:"tenant"`
	Source    []string `yaml:"source"`
	// Attributes are other facts that the source knows, such as consent: [no].
	// The empty text stands for a fact that is not known.
	Attributes map[string][]string `yaml:"attributes"`
	// Share fits this part of the calls, 0 to 1, chosen by their ids: the same
	// call is always in or out, and those in a smaller share are in a larger
	// one too. 0, as if it were left out, is all.
	Share float64 `yaml:"share"`

	// What is done with a call that is heard: its way of listening, full or
	// screen, and the tenant that it belongs to; empty leaves them as they are.
	Listen    string `yaml:"listen"`
	SetTenant string `yaml:"set_tenant"`
	// Language is what is spoken, BCP 47, for the rules that choose a
	// transcriber.
	Language string `yaml:"language"`
}

// DefaultConfig hears every call.
func DefaultConfig() Config { return Config{Otherwise: Listen} }

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Otherwise != Listen && c.Otherwise != Skip {
		fault("otherwise: %q must be listen or skip", c.Otherwise)
	}
	names := make(map[string]bool)
	for i, r := range c.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		switch {
		case r.Name == "":
			fault("%s.name: must not be empty: events and metrics say it", at)
		case digits(r.Name) > 3:
			fault("%s.name: %q must not be a number: it is told in events", at, r.Name)
		case names[r.Name]:
			fault("%s.name: %q is taken by a rule before", at, r.Name)
		}
		names[r.Name] = true
		if r.Then != Listen && r.Then != Skip {
			fault("%s.then: %q must be listen or skip", at, r.Then)
		}
		for _, list := range []struct {
			key      string
			patterns []string
		}{{"from", r.From}, {"to", r.To}, {"number", r.Number}} {
			for _, p := range list.patterns {
				if err := checkPattern(p); err != nil {
					fault("%s.%s: %q %w", at, list.key, p, err)
				}
			}
		}
		if math.IsNaN(r.Share) || r.Share < 0 || r.Share > 1 {
			fault("%s.share: %v must be 0 to 1", at, r.Share)
		}
		if r.Listen != "" && r.Listen != "full" && r.Listen != "screen" {
			fault("%s.listen: %q must be full, screen or empty", at, r.Listen)
		}
		if r.Then == Skip && (r.Listen != "" || r.SetTenant != "" || r.Language != "") {
			fault("%s.then: skip leaves nothing for listen, set_tenant or language to act on", at)
		}
		if strings.ContainsAny(r.SetTenant, ". *>\t\r\n") {
			fault("%s.set_tenant: %q must be a name without dots, spaces, * and >", at, r.SetTenant)
		}
	}
	return errors.Join(errs...)
}

func digits(s string) int {
	n := 0
	for _, c := range s {
		if c >= '0' && c <= '9' {
			n++
		}
	}
	return n
}

var errPattern = errors.New("must be a number such as +442071234567, +44* or +1800xxxxxxx, or anonymous")

func checkPattern(p string) error {
	if p == anonymous {
		return nil
	}
	body, _ := strings.CutSuffix(p, "*")
	body = strings.TrimPrefix(body, "+")
	if body == "" && p != "*" && p != "+*" || strings.Trim(body, "0123456789xX") != "" {
		return errPattern
	}
	return nil
}

// Decision is what is done with a call.
type Decision struct {
	Heard bool
	Rule  string // that decided; empty where none fits
	Told  bool   // of a call that is not heard: events say so

	Listen, Tenant, Language string // of a call that is heard, where they change
}

// Rules decide. They are used from any goroutine.
type Rules struct{ cfg Config }

// New returns the rules of a configuration.
func New(cfg Config) (*Rules, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Rules{cfg}, nil
}

// Decide says what is done with call. It is arithmetic: the same call is
// always decided alike.
func (r *Rules) Decide(call *source.Call) Decision {
	for i := range r.cfg.Rules {
		rule := &r.cfg.Rules[i]
		if rule.fits(call) {
			return r.decision(*rule)
		}
	}
	return r.decision(Rule{Then: r.cfg.Otherwise})
}

func (r *Rules) decision(by Rule) Decision {
	if by.Then == Skip {
		return Decision{Rule: by.Name, Told: !r.cfg.Silent}
	}
	return Decision{Heard: true, Rule: by.Name, Listen: by.Listen, Tenant: by.SetTenant, Language: by.Language}
}

// Reason is what a status event says of a call that is not heard.
func (d Decision) Reason() string {
	if d.Rule == "" {
		return "exempt: no rule selects it"
	}
	return "exempt by rule " + d.Rule
}

func (r *Rule) fits(call *source.Call) bool {
	a := call.Attributes
	switch {
	case len(r.From) > 0 && !anyNumber(r.From, a["from"]),
		len(r.To) > 0 && !anyNumber(r.To, a["to"]),
		len(r.Number) > 0 && !anyNumber(r.Number, a["from"]) && !anyNumber(r.Number, a["to"]),
		!among(r.Direction, a["direction"]),
		!among(r.Trunk, a["trunk"]),
		!among(r.Tenant, call.Tenant),
		!among(r.Source, call.Source):
		return false
	}
	for key, values := range r.Attributes {
		if !among(values, a[key]) {
			return false
		}
	}
	return r.Share <= 0 || Share(call.ID) < r.Share
}

// among reports whether list is empty or has value, in any case of letters.
func among(list []string, value string) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, value) })
}

// Share is where a call stands between 0 and 1, by its id alone.
func Share(id string) float64 {
	sum := sha256.Sum256([]byte(id))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

const anonymous = "anonymous"

// anyNumber reports whether one of patterns is of number.
func anyNumber(patterns []string, number string) bool {
	n := normalise(number)
	return slices.ContainsFunc(patterns, func(p string) bool { return ofNumber(p, n) })
}

func ofNumber(pattern, number string) bool {
	if pattern == anonymous || number == anonymous {
		return pattern == number
	}
	body, prefix := strings.CutSuffix(pattern, "*")
	if len(number) < len(body) || !prefix && len(number) != len(body) {
		return false
	}
	for i := range len(body) {
		c := number[i]
		switch p := body[i]; {
		case p == c:
		case (p == 'x' || p == 'X') && c >= '0' && c <= '9':
		default:
			return false
		}
	}
	return true
}

// normalise makes one spelling of a number's many: that of E.164 without
// separators where it is international, else its digits. A number that is
// withheld is "anonymous".
func normalise(number string) string {
	s := strings.TrimSpace(number)
	for _, scheme := range []string{"sip:", "sips:", "tel:"} {
		if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
			s = s[len(scheme):]
		}
	}
	if i := strings.IndexAny(s, "@;"); i >= 0 {
		s = s[:i]
	}
	var b strings.Builder
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9', c == '+' && b.Len() == 0:
			b.WriteRune(c)
		case c == ' ' || c == '-' || c == '.' || c == '(' || c == ')' || c == '/':
		default:
			switch strings.ToLower(s) {
			case anonymous, "restricted", "unavailable", "unknown", "private", "withheld", "blocked":
				return anonymous
			}
			return s // a name: no pattern is of it
		}
	}
	out := b.String()
	if rest, ok := strings.CutPrefix(out, "00"); ok {
		out = "+" + rest
	}
	if out == "" {
		return anonymous
	}
	return out
}
