package phrase

import (
	"strings"
	"testing"
)

// Each text is followed by what matches in it; the guard that muted a match
// stands after its words.
func TestGuardsMuteWhatTheyShouldAndNothingMore(t *testing.T) {
	shared, err := ParseShared("common.yaml", []byte(`
language: en
version: 1
classes:
  no: [never, do not, don't]
guards:
  - name: never
    before: {phrase: "<no>", words: 4}
    unless: {phrase: "(but | except) [to | with] me", words: 12}
`))
	if err != nil {
		t.Fatal(err)
	}
	set := mustCompile(t, []*Pack{mustPack(t, `
tactic: otp_request
language: en
version: 1
points: 6
classes:
  give: [read, tell me, give me, share]
  code: [code, pin]
patterns:
  - {name: ask, phrase: "<give> ~8 <code>"}
  - {name: bare, phrase: "your pin", guards: []}
guards:
  - never
  - {name: other-code, inside: ["(dress | promo) code", "code of conduct"]}
  - {name: card, near: {phrase: "back of your card", words: 3}}
  - {name: not-that, within: "anything but"}
  - {name: app, after: {phrase: "in the app", words: 1}}
`)}, shared, nil)
	for _, c := range []struct{ text, want string }{
		{"read the code", "ask[read the code]"},
		{"never read the code", "ask[read the code]-never"},
		{"do not ever read out the code", "ask[read out the code]-never"},
		{"never say never to all your friends so read the code", "ask[read the code]"},
		{"do not share the code with anyone but me", "ask[share the code]"},
		{"never share the code except with me", "ask[share the code]"},
		{"tell me the dress code", "ask[tell me the dress code]-other-code"},
		{"read the code of conduct", "ask[read the code]-other-code"},
		{"tell me the promo code and the code we sent", "ask[tell me the promo code and the code]"},
		{"tell me the promo code read the pin", "ask[tell me the promo code read the pin]"},
		{"read the code on the back of your card", "ask[read the code]-card"},
		{"the back of your card has it read the code", "ask[read the code]-card"},
		{"the back of your card has a long number read the code", "ask[read the code]"},
		{"read the code now in the app", "ask[read the code]-app"},
		{"read the code that came in the app", "ask[read the code]"},
		{"in the app read the code", "ask[read the code]"},
		{"never tell me your pin", "ask[tell me your pin]-never bare[your pin]"},
		{"read anything but the code", "ask[read anything but the code]-not-that"},
		{"never read the code okay now read the code", "ask[read the code]-never ask[read the code]"},
	} {
		if got := found(set, c.text); got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.text, got, c.want)
		}
	}
}

func TestSoundAlikesAreTakenInByTheClassThatAsks(t *testing.T) {
	conf, err := ParseConfusions("vosk.yaml", []byte("backend: vosk\nlanguage: en-US\nversion: 1\nsounds:\n  any desk: [annie desk, any disk]\n  Team-Viewer: teen viewer\n"))
	if err != nil {
		t.Fatal(err)
	}
	const pack = "tactic: remote_access_request\nlanguage: %\nversion: 1\npoints: 1\nclasses:\n" +
		"  tool: {phrases: [any desk, team viewer], sound_alikes: true}\n  plain: [any desk]\n" +
		"patterns:\n  - {name: get, phrase: get <tool>}\n  - {name: put, phrase: put <plain>}\n"
	for language, want := range map[string]string{"en": "get[get annie desk] get[get teen viewer]", "de": ""} {
		set := mustCompile(t, []*Pack{mustPack(t, strings.Replace(pack, "%", language, 1))}, nil, []*Confusions{conf})
		if got := found(set, "get annie desk put annie desk get teen viewer"); got != want {
			t.Errorf("%s: got %q, want %q", language, got, want)
		}
	}
}

func TestMoodsAreKeptOrDropped(t *testing.T) {
	set := mustCompile(t, []*Pack{mustPack(t, `
tactic: otp_request
language: en
version: 1
points: 1
patterns:
  - {name: order, phrase: read ~2 code, mood: [imperative, question]}
  - {name: told, phrase: read ~2 code, not_mood: [imperative, question]}
`)}, nil, nil)
	for text, want := range map[string]string{
		"please read me the code":             "order[read me the code]",
		"can you read me the code":            "order[read me the code]",
		"they read me the code":               "told[read me the code]",
		"if they read the code hm":            "told[read the code]",
		"they read the code so read the code": "order[read the code] told[read the code]",
	} {
		if got := found(set, text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestWindowFindsOnlyWhatEndsInItsNewPart(t *testing.T) {
	set := one(t, "(please read me | ^ read me) ~2 code")
	m := set.NewMatcher()
	for _, c := range []struct {
		text string
		from int
		want int
	}{
		{"please read me the code", 3, 1},
		{"please read me the code", 5, 0},
		{"please read me the code again read me the code", 5, 0},
		{"hello there read me the code", 2, 1}, // ^ holds at the new part
		{"hello there read me the code", 1, 0},
		{"please read me the code code", 5, 1},
	} {
		tokens, _ := Tokenize(c.text, nil)
		if got := m.MatchFrom(tokens, c.from, false, nil); len(got) != c.want {
			t.Errorf("%q from %d: got %d matches, want %d", c.text, c.from, len(got), c.want)
		}
	}
}
