package phrase

import (
	"testing"
	"time"
)

// A phrase that parses prints as one that parses to the same, and compiles or
// is refused; whatever compiles matches in bounded time.
func FuzzParsePhrase(f *testing.F) {
	for _, seed := range []string{
		"code", "verif*", "*", "read me the 6-digit code", "(read | tell me) [the | your] <code>", "read ~3 the ~2-5 code",
		"{digits 4-8}", "{digits}", "{number 1-100} {amount}", "{near 6: a b; c}", "{before 2: (a | b); c; d}", "^ hello $",
		"((a))", "[[a]]", "(a | (b | c) d)", "don't", "été ~2 x", "{near 3: {near 3: {near 3: a; b}; c}; {near 3: d; e}}",
		"(", ")", "a ~", "a ~1000000 b", "<", "<a", "{", "{digits 9-1}", "\xff", "a*b", "''", "--", "a-*",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, bad := parsePhrase(text)
		if bad != nil {
			if bad.offset < 0 || bad.offset > len(text) {
				t.Fatalf("fault at %d of %d bytes", bad.offset, len(text))
			}
			return
		}
		printed := e.String()
		again, bad := parsePhrase(printed)
		if bad != nil {
			if len(printed) > maxPhraseBytes {
				return // spaces were added
			}
			t.Fatalf("%q printed as %q: %s", text, printed, bad.rule)
		}
		if got := again.String(); got != printed || !same(e, again) {
			t.Fatalf("%q printed as %q, then as %q", text, printed, got)
		}
	})
}

func same(a, b *expr) bool {
	if a.kind != b.kind || a.text != b.text || a.lo != b.lo || a.hi != b.hi || len(a.kids) != len(b.kids) {
		return false
	}
	for i := range a.kids {
		if !same(a.kids[i], b.kids[i]) {
			return false
		}
	}
	return true
}

// A pack of any bytes is refused by an Error with a place in it, or compiles
// and matches; neither takes long.
func FuzzParsePack(f *testing.F) {
	f.Add([]byte(examplePack))
	f.Add([]byte("tactic: otp_request\nlanguage: en\nversion: 1\npoints: 1\npatterns:\n  - {name: p, phrase: 'a ~30 b'}\n"))
	f.Add([]byte("tactic: otp_request\nclasses: {a: [<b>], b: [<a>], c: [<c>]}\npatterns: []\n"))
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Add([]byte("{{{{[[[["))
	f.Add([]byte("\"\\\n\"\xff"))
	text, _ := Tokenize("please read me the code that we have just sent to you, four seven two nine, and 500 dollars?", nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		pack, err := ParsePack("f.yaml", data)
		if err == nil {
			var set *Set
			if set, err = Compile([]*Pack{pack}, nil, nil); err == nil {
				set.NewMatcher().Match(text, true, nil)
			}
		}
		if err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("%d bytes took %v", len(data), took)
		}
	})
}
