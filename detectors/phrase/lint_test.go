package phrase

import (
	"slices"
	"strings"
	"testing"
)

func TestLintFindsWhatAPackDoesInVain(t *testing.T) {
	set := mustCompile(t, []*Pack{mustPack(t, `tactic: otp_request
language: en
version: 1
points: 1
classes:
  give: [read, tell me]
  code: [code, passcode]
  idle: [never named]
patterns:
  - {name: wide, phrase: "<give> ~5 <code>"}
  - {name: narrow, phrase: "read ~3 code"}
  - {name: wider, phrase: "read ~8 code"}
  - {name: never, phrase: "read ^ code"}
  - {name: own-guard, phrase: "dress code now", guards: [{name: dress, inside: dress code}]}
  - {name: unheard, phrase: "send ~2 (passcode | otp)"}
  - {name: caller-only, phrase: "read code", who: caller}
  - {name: twice, phrases: ["say [it] [now] again", "say it now again"]}
`)}, nil, nil)
	heard := strings.Fields("read tell me code never named dress now send say it again")
	var got []string
	for _, r := range set.Lint(func(w string) bool { return slices.Contains(heard, w) }) {
		if r.File != "pack.yaml" || r.Line == 0 || r.Column == 0 {
			t.Errorf("no place: %s", r)
		}
		got = append(got, r.String())
	}
	want := []string{
		"pack.yaml:1:1: warning: 0 match examples; at least 15",
		"pack.yaml:1:1: warning: 0 no_match examples; at least 15",
		`pack.yaml:7:16: note: the model cannot hear "passcode"`,
		"pack.yaml:8:3: note: no phrase names class idle",
		"pack.yaml:11:29: note: otp_request/narrow: every wording is found by otp_request/wide too (<give> ~5 <code>)",
		"pack.yaml:13:28: warning: otp_request/never: the phrase never matches",
		"pack.yaml:14:32: warning: otp_request/own-guard: its own guard dress mutes every wording",
		"pack.yaml:15:30: warning: otp_request/unheard: every wording has a word that the model cannot hear",
		`pack.yaml:15:50: note: the model cannot hear "otp"`,
		"pack.yaml:16:34: note: otp_request/caller-only: every wording is found by otp_request/wide too (<give> ~5 <code>)",
		"pack.yaml:17:54: note: otp_request/twice: every wording is found by another phrase of it too (say [it] [now] again)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExamplesThatFailAreNamedAndExplained(t *testing.T) {
	shared, err := ParseShared("common.yaml", []byte(`language: en
version: 1
guards:
  - name: never
    before: {phrase: never, words: 3}
    examples: {match: [never again, not again], no_match: [nevermore, i never did]}
`))
	if err != nil {
		t.Fatal(err)
	}
	set := mustCompile(t, []*Pack{mustPack(t, `tactic: otp_request
language: en
version: 1
points: 1
patterns:
  - {name: ask, phrase: "read ~3 code", who: caller, after: {tactic: otp_request, turns: 2}}
guards: [never]
examples:
  match: [read me the code, never read me the code, read it]
  no_match: [never read me the code, read it, please read me the code]
`)}, shared, nil)
	var got []string
	for _, f := range set.TestExamples() {
		line, _, _ := strings.Cut(f.String(), "\n")
		got = append(got, line)
	}
	want := []string{
		`pack.yaml:9:29: must match otp_request: "never read me the code"`,
		`pack.yaml:9:53: must match otp_request: "read it"`,
		`pack.yaml:10:47: must not match otp_request: "please read me the code"`,
		`common.yaml:6:37: must match guard never: "not again"`,
		`common.yaml:6:71: must not match guard never: "i never did"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestExplainShowsWordsAndGuards(t *testing.T) {
	set := mustCompile(t, []*Pack{mustPack(t, strings.Replace(examplePack, "mood:", "not_mood: conditional #", 1))}, nil, nil)
	const want = `words: tell me the dress code then read me the pin on the back of your card
otp_request/read-me-the-code  "tell me the dress code"  ask, imperative, 6 points (otp_request/en@1)
    muted by dress-code: inside "dress code"
    counts only if said by caller
    counts only after otp_request/sent, within 1m0s, within 6 turns, on same leg
    counts only in the first 30 seconds
otp_request/read-me-the-code  "read me the pin"  ask, imperative, 6 points (otp_request/en@1)
    muted by dress-code: near "back of your card"
    counts only if said by caller
    counts only after otp_request/sent, within 1m0s, within 6 turns, on same leg
    counts only in the first 30 seconds
`
	if got := set.Explain("Tell me the dress code, then read me the PIN on the back of your card.").String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := set.Explain("hello").String(); got != "words: hello\nno pattern matches\n" {
		t.Errorf("got %s", got)
	}
}

func TestPhrasesAreSaidByThePatternsAndTheirExamples(t *testing.T) {
	set := mustCompile(t, []*Pack{mustPack(t, `tactic: otp_request
language: en
version: 1
points: 1
classes:
  tool: {phrases: [any desk], sound_alikes: true}
patterns:
  - {name: get, phrase: "(get | open) [the] <tool>"}
  - {name: ask, phrase: "(read me | verif*) ~3 one code"}
examples:
  match: [please read me that one code, "we verify it one code 77"]
`)}, nil, []*Confusions{mustConfusions(t, "backend: vosk\nlanguage: en\nversion: 1\nsounds: {any desk: any disk}\n")})
	texts := func(list []Phrase) (all []string) {
		for _, p := range list {
			text := p.Text
			if !p.Whole {
				text += "…"
			}
			all = append(all, text)
		}
		slices.Sort(all)
		return all
	}
	want := []string{
		"get any desk", "get any disk", "get the any desk", "get the any disk", "one code…",
		"open any desk", "open any disk", "open the any desk", "open the any disk",
		"read me that one code", "read me…", "verify it one code",
	}
	if got := texts(set.Phrases(100)); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := set.Phrases(5); len(got) != 5 || !slices.ContainsFunc(got, func(p Phrase) bool { return p.Pattern.Name == "get" }) ||
		!slices.ContainsFunc(got, func(p Phrase) bool { return p.Pattern.Name == "ask" }) {
		t.Errorf("of a limit of 5: %q", texts(got))
	}
	// Each whole phrase, heard, is a match of its pattern.
	for _, p := range set.Phrases(100) {
		if p.Whole && found(set, p.Text) != p.Pattern.Name+"["+p.Text+"]" {
			t.Errorf("%q: %s", p.Text, found(set, p.Text))
		}
	}
}

func mustConfusions(t *testing.T, text string) *Confusions {
	t.Helper()
	c, err := ParseConfusions("conf.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
