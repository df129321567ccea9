package phrase

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// examplePack is a small pack that uses the whole language.
const examplePack = `tactic: otp_request
language: en
version: 1
stage: ask
points: 6
classes:
  give: [read, tell me, give me, repeat, confirm]
  code: [code, pin, "(security | verification) code"]
patterns:
  - name: read-me-the-code
    phrase: "<give> ~3 <code>"
    who: caller
    mood: [imperative, question]
    after: {tactic: otp_request, pattern: sent, seconds: 60, turns: 6, leg: same}
    first_seconds: 30
    guards: [dress-code]
  - name: sent
    phrases: ["^ we [have] sent ~2-4 <code> $", "{near 6: verif*; {digits 4-8}}", "{before 3: {amount 5-50}; {number}}"]
    points: 0
    count: {at_least: 2, seconds: 60}
guards:
  - name: dress-code
    inside: "(dress | promo) code"
    near: {phrase: "back of your card", words: 8}
    unless: {phrase: but me, words: 3}
examples:
  match: ["please read me the code we just sent you"]
  no_match: ["read me the dress code"]
`

// benchSet is as large as a grown library: 25 packs of 16 patterns of three
// phrases, each pack with classes of 50 phrases. Common words are in it as they
// are in real packs.
func benchSet(b testing.TB) *Set {
	r := rand.New(rand.NewPCG(1, 2))
	syllables := strings.Fields("ka lo mi ner tu sa ber go fin dra pel o ri wen")
	word := func() string {
		w := ""
		for range 2 + r.IntN(2) {
			w += syllables[r.IntN(len(syllables))]
		}
		return w
	}
	common := strings.Fields("read tell give send open buy card code number bank account order call phone computer money the your you me to a of we it is")
	pick := func() string { return common[r.IntN(len(common))] }
	var packs []*Pack
	for _, tactic := range benchTactics {
		for _, language := range []string{"en", "en-IN"} {
			var t strings.Builder
			fmt.Fprintf(&t, "tactic: %s\nlanguage: %s\nversion: 1\npoints: 1\nclasses:\n", tactic, language)
			for c := range 4 {
				fmt.Fprintf(&t, "  c%d:\n", c)
				for i := range 50 {
					switch {
					case i < 2 && c%2 == 0:
						fmt.Fprintf(&t, "    - %s\n", pick())
					case i < 20:
						fmt.Fprintf(&t, "    - %s %s\n", pick(), word())
					default:
						fmt.Fprintf(&t, "    - %s\n", word())
					}
				}
			}
			t.WriteString("patterns:\n")
			for p := range 16 {
				fmt.Fprintf(&t, "  - name: p%d\n    phrases:\n", p)
				fmt.Fprintf(&t, "      - \"<c%d> ~4 <c%d>\"\n", r.IntN(2)*2, r.IntN(2)*2+1)
				fmt.Fprintf(&t, "      - \"%s [the | your | my] ~2 (%s | %s | %s) ~3 %s\"\n", pick(), word(), word(), pick(), word())
				fmt.Fprintf(&t, "      - \"{near 6: <c%d>; %s*} ~5 (%s | %s %s)\"\n", r.IntN(4), word(), word(), pick(), word())
			}
			t.WriteString("guards:\n  - {name: not, before: {phrase: \"(never | do not | don't)\", words: 4}}\n  - {name: other, inside: \"(dress | promo) code\"}\n")
			packs = append(packs, mustPack(b, t.String()))
			if len(packs) == 25 {
				return mustCompile(b, packs, nil, nil)
			}
		}
	}
	return nil
}

var benchTactics = []string{
	"lure_charge", "lure_account", "lure_legal", "lure_refund", "lure_delivery", "press_key", "impersonation",
	"remote_access_request", "remote_access_compliance", "gift_card_request", "gift_card_readback", "otp_request", "otp_readback",
}

// quietTexts are segments of 20 words in which nothing matches: small talk, and
// talk full of the packs' own words.
var quietTexts = map[string]string{
	"small talk": "well we went down to the river on sunday with the kids and had a picnic until it began to rain",
	"bank talk":  "i would like to know if you can tell me when the money for my order is back in the account",
}

func TestNothingIsAllocatedWhenNothingMatches(t *testing.T) {
	m := benchSet(t).NewMatcher()
	var dst []Match
	for name, text := range quietTexts {
		tokens, _ := Tokenize(text, nil)
		if n := testing.AllocsPerRun(100, func() { dst = m.Match(tokens, false, dst[:0]) }); n != 0 || len(dst) != 0 {
			t.Errorf("%s: %g allocations, %d matches", name, n, len(dst))
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	m := benchSet(b).NewMatcher()
	for name, text := range quietTexts {
		tokens, _ := Tokenize(text, nil)
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			var dst []Match
			for b.Loop() {
				dst = m.Match(tokens, false, dst[:0])
			}
			b.ReportMetric(float64(len(m.ready)), "candidates")
		})
	}
}

// BenchmarkMatchNasty is the worst that limits allow in one pattern: as many
// elements as may be, all of them gaps and words of the text.
func BenchmarkMatchNasty(b *testing.B) {
	text := "tactic: otp_request\nlanguage: en\nversion: 1\npoints: 1\nclasses:\n  c:\n"
	for range 200 {
		text += "    - a ~2 (a | b) [a | b] ~2 a ~1 b\n"
	}
	set := mustCompile(b, []*Pack{mustPack(b, text+"patterns:\n  - {name: p, phrase: '<c> ~9 x z'}\n")}, nil, nil)
	tokens := strings.Fields(strings.Repeat("a b x z ", 50))[:199]
	m := set.NewMatcher()
	for b.Loop() {
		m.Match(tokens, false, nil)
	}
}

func BenchmarkTokenize(b *testing.B) {
	b.ReportAllocs()
	var dst []string
	for b.Loop() {
		dst, _ = Tokenize(quietTexts["small talk"], dst[:0])
	}
}
