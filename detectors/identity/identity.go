// Package identity holds what a caller claims in speech against who the network
// says is calling: somebody who says he is from Amazon, and is signed or shown
// as somebody else. It is a weak sign. Names are written in many ways, and an
// honest agency calls for many brands; and it never speaks for anybody: a call
// with a good signature may be a fraud all the same.
package identity

import (
	_ "embed"
	"slices"
	"strings"
	"unicode"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Tactic is what all findings are of.
const Tactic = "impersonation"

const pack = "identity@1"

// Points of the signs. A signed name is chosen by its owner with care; one that
// the network adds is what a directory has; one that the caller's own equipment
// sends may be anything. All together they stay below a warning: the tactic is
// a story, and stories are capped.
const (
	signedPoints   = 1.5
	assertedPoints = 1
	sentPoints     = 0.5
	failedPoints   = 1
	attestPoints   = 0.5
)

//go:embed brands.txt
var brandList string

// brand is a firm or office, by what is heard and by what its names have in
// them, words joined by single spaces.
type brand struct {
	said, named []string
}

// Detector knows who the network says is calling. It is used by one goroutine.
type Detector struct {
	brands []brand
	names  []name  // strongest first
	doubt  []doubt // of the signature
	told   map[string]*sign
}

type name struct {
	text   string // folded
	rule   string
	points float64
}

type doubt struct {
	rule   string
	points float64
}

// sign is what was told of a claim.
type sign struct {
	brand    *brand
	findings []detectors.Finding
	state    detectors.State
}

// New returns the detector of a call with these attributes, nil where they say
// nothing of who is calling: there is nothing to compare with.
func New(attributes map[string]string) *Detector {
	d := &Detector{told: make(map[string]*sign)}
	for _, n := range []struct {
		key, rule string
		points    float64
	}{
		{"rcd_name", "identity/signed-name", signedPoints},
		{"asserted_name", "identity/asserted-name", assertedPoints},
		{"from_name", "identity/shown-name", sentPoints},
	} {
		if text := fold(attributes[n.key]); !nameless(text) {
			d.names = append(d.names, name{text, n.rule, n.points})
		}
	}
	switch {
	case attributes["identity_verified"] == "no", strings.EqualFold(attributes["identity_verstat"], "TN-Validation-Failed"):
		d.doubt = append(d.doubt, doubt{"identity/signature-failed", failedPoints})
	case strings.EqualFold(attributes["identity_attest"], "C"):
		d.doubt = append(d.doubt, doubt{"identity/attested-as-gateway", attestPoints})
	}
	if len(d.names) == 0 && len(d.doubt) == 0 {
		return nil
	}
	d.brands = brands()
	return d
}

// brands reads the list that is built in.
func brands() []brand {
	var all []brand
	for line := range strings.Lines(brandList) {
		said, named, ok := strings.Cut(line, "|")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		var b brand
		for s := range strings.SplitSeq(said, ",") {
			b.said = append(b.said, fold(s))
		}
		b.named = append(b.named, b.said...)
		for s := range strings.SplitSeq(named, ",") {
			b.named = append(b.named, fold(s))
		}
		all = append(all, b)
	}
	return all
}

// Claims takes what another detector found in the call and returns what it is
// worth beside who is calling: findings of their own, which are provisional,
// confirmed and retracted as the claim is. Only what the calling side says of
// itself counts; who called is not known of a leg without a role.
func (d *Detector) Claims(found []detectors.Finding) []detectors.Finding {
	if d == nil {
		return nil
	}
	var out []detectors.Finding
	for _, f := range found {
		if f.Tactic == Tactic && f.Leg == audio.Caller && f.Muted == "" && f.Pack != pack {
			out = append(out, d.claim(f)...)
		}
	}
	return out
}

func (d *Detector) claim(f detectors.Finding) []detectors.Finding {
	if s := d.told[f.ID]; s != nil {
		return s.end(f.State)
	}
	if f.State == detectors.Retracted {
		return nil
	}
	b := d.claimed(f.Words)
	if b == nil || d.stands(b) {
		return nil
	}
	s := &sign{brand: b, state: f.State}
	d.told[f.ID] = s
	add := func(rule string, points float64) {
		own := f
		own.ID = f.ID + ":" + strings.TrimPrefix(rule, "identity/")
		own.Rule, own.Pack, own.Weight, own.Stage = rule, pack, points, detectors.Lure
		s.findings = append(s.findings, own)
	}
	if n, ok := d.other(b); ok {
		add(n.rule, n.points)
	}
	for _, doubt := range d.doubt {
		add(doubt.rule, doubt.points)
	}
	return slices.Clone(s.findings)
}

// end confirms or retracts what was told of a claim.
func (s *sign) end(state detectors.State) []detectors.Finding {
	if s.state != detectors.Provisional || state == detectors.Provisional {
		return nil
	}
	s.state = state
	out := slices.Clone(s.findings)
	for i := range out {
		out[i].State = state
	}
	return out
}

// stands reports whether a claim to be b has been told of and not taken back:
// a caller who says it three times has said one thing.
func (d *Detector) stands(b *brand) bool {
	for _, s := range d.told {
		if s.brand == b && s.state != detectors.Retracted {
			return true
		}
	}
	return false
}

// claimed is the brand that is named in words, nil for none that is listed.
// The longest name counts: "bank of america" is not "america".
func (d *Detector) claimed(words string) *brand {
	text := fold(words)
	longest := 0
	var best *brand
	for i := range d.brands {
		for _, s := range d.brands[i].said {
			if len(s) > longest && hasWords(text, s) {
				longest, best = len(s), &d.brands[i]
			}
		}
	}
	return best
}

// other is the strongest name of the caller if none of his names is b's.
func (d *Detector) other(b *brand) (n name, ok bool) {
	for _, n := range d.names {
		if slices.ContainsFunc(b.named, func(s string) bool {
			return hasWords(n.text, s) || strings.Contains(joined(n.text), joined(s)) && len(joined(s)) > 3
		}) {
			return name{}, false
		}
	}
	if len(d.names) == 0 {
		return name{}, false
	}
	return d.names[0], true
}

// hasWords reports whether text has the words of part next to one another.
func hasWords(text, part string) bool {
	return strings.Contains(" "+text+" ", " "+part+" ")
}

// joined is text without its spaces: names are written in one word or several.
func joined(text string) string { return strings.ReplaceAll(text, " ", "") }

// fold makes words of a name: lower case, and single spaces for all that is no
// letter or digit.
func fold(s string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}), " ")
}

// nameless reports whether a folded name says nothing of who is calling: none,
// a number, or what directories write where they have no name.
func nameless(text string) bool {
	if !strings.ContainsFunc(text, unicode.IsLetter) {
		return true
	}
	switch text {
	case "anonymous", "unknown", "unknown caller", "unknown name", "unavailable", "name unavailable", "restricted", "private",
		"private caller", "private number", "withheld", "blocked", "no name", "wireless caller", "cell phone", "mobile caller",
		"toll free", "toll free call", "toll free caller", "out of area", "international", "caller", "user", "guest",
		"spam", "spam likely", "scam likely", "potential spam":
		return true
	}
	return false
}
