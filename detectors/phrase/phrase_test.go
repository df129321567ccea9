package phrase

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func mustPack(t testing.TB, text string) *Pack {
	t.Helper()
	p, err := ParsePack("pack.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustCompile(t testing.TB, packs []*Pack, shared *Shared, conf []*Confusions) *Set {
	t.Helper()
	s, err := Compile(packs, shared, conf)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// found prints matches as "pattern[words]", with the guard that muted each.
func found(s *Set, text string) string {
	tokens, question := Tokenize(text, nil)
	var list []string
	for _, m := range s.NewMatcher().Match(tokens, question, nil) {
		line := fmt.Sprintf("%s[%s]", m.Pattern.Name, strings.Join(tokens[m.First:m.Last+1], " "))
		if m.Muted != "" {
			line += "-" + m.Muted
		}
		list = append(list, line)
	}
	return strings.Join(list, " ")
}

// one makes a set of a single pattern named p.
func one(t testing.TB, phrase string) *Set {
	t.Helper()
	return mustCompile(t, []*Pack{mustPack(t, "tactic: otp_request\nlanguage: en\nversion: 1\npoints: 1\npatterns:\n  - {name: p, phrase: '"+
		strings.ReplaceAll(phrase, "'", "''")+"'}\n")}, nil, nil)
}

func TestElementsMatchWhatTheyName(t *testing.T) {
	for _, c := range []struct{ phrase, text, want string }{
		{"code", "the Code.", "p[code]"},
		{"code", "codes encode", ""},
		{"verif*", "we verify it: verification", "p[verify] p[verification]"},
		{"read * code", "read the code", "p[read the code]"},
		{"read * code", "read code", ""},
		{"(read | tell me) code", "tell me code read code", "p[tell me code] p[read code]"},
		{"read [me | us] the code", "read the code", "p[read the code]"},
		{"read [me | us] the code", "read us the code", "p[read us the code]"},
		{"read ~2 code", "read code", "p[read code]"},
		{"read ~2 code", "read me the code", "p[read me the code]"},
		{"read ~2 code", "read me all the code", ""},
		{"read ~2-3 code", "read the code", ""},
		{"read ~2-3 code", "read me all the code", "p[read me all the code]"},
		{"{near 2: code; read}", "read me the code", "p[read me the code]"},
		{"{near 2: code; read}", "the code i read", "p[code i read]"},
		{"{near 2: a; b; c}", "c a x b", "p[c a x b]"},
		{"{before 2: code; read}", "read me the code", ""},
		{"{before 0: code; read}", "code read", "p[code read]"},
		{"^ read", "read it read", "p[read]"},
		{"^ read", "i read", ""},
		{"read $", "read it read", "p[read]"},
		{"{digits 4-8} please", "four seven two nine please", "p[four seven two nine please]"},
		{"{digits 4-8}", "one two three", ""},
		{"{digits 4}", "the code is 4729", "p[4729]"},
		{"{digits 4}", "472 913", ""},
		{"{digits 6}", "472-913", "p[472 913]"},
		{"{number 1-100} cards", "five cards 200 cards", "p[five cards]"},
		{"{amount 50-5000}", "a $500 gift", "p[500 dollars]"},
		{"{amount 50-5000}", "five hundred dollars", "p[five hundred dollars]"},
		{"{amount}", "five hundred apples", ""},
		{"sign-in code", "your sign in code", "p[sign in code]"},
		{"don't", "don’t", "p[don't]"},
		{"6 digit", "6-digit", "p[6 digit]"},
	} {
		if got := found(one(t, c.phrase), c.text); got != c.want {
			t.Errorf("%s in %q: got %s, want %s", c.phrase, c.text, got, c.want)
		}
	}
}

// A set is shared: calls match side by side, with texts of their own, and find
// what each of them would find alone.
func TestCallsShareASet(t *testing.T) {
	set := one(t, "read ~3 code")
	var calls sync.WaitGroup
	for call := range 8 {
		calls.Go(func() {
			tokens := slices.Concat(slices.Repeat([]string{"x"}, call), []string{"read", "me", "the", "code"})
			for range 200 {
				if got := set.MatchFrom(tokens, 0, false, nil); len(got) != 1 || got[0].First != call || got[0].Last != call+3 {
					t.Errorf("call %d: got %v", call, got)
				}
				if got := set.MatchFrom(tokens[:call+2], 0, false, nil); len(got) != 0 {
					t.Errorf("call %d: half the phrase gives %v", call, got)
				}
			}
		})
	}
	calls.Wait()
}

// A text of any length is searched as a whole.
func TestLongTextsAreSearchedToTheirEnd(t *testing.T) {
	set := one(t, "read ~30 code")
	for _, n := range []int{0, 30, 31, 62, 63, 64, 127, 1000} {
		for _, gap := range []int{0, 30} {
			tokens := slices.Concat(slices.Repeat([]string{"x"}, n), []string{"read"}, slices.Repeat([]string{"y"}, gap), []string{"code"}, slices.Repeat([]string{"z"}, 70))
			got := set.NewMatcher().Match(tokens, false, nil)
			if len(got) != 1 || got[0].First != n || got[0].Last != n+gap+1 {
				t.Errorf("%d tokens before, gap %d: %v", n, gap, got)
			}
		}
	}
}
