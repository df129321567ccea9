package tactics_test

import (
	"testing"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/detectors/tactics"
)

func embeddedPacks(t testing.TB) *tactics.Library {
	t.Helper()
	lib, err := tactics.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

// matches lists the matches of one tactic in a text.
func matches(m *phrase.Matcher, tactic, text string) (live, muted []phrase.Match) {
	tokens, question := phrase.Tokenize(text, nil)
	for _, found := range m.Match(tokens, question, nil) {
		switch {
		case found.Pattern.Tactic != tactic:
		case found.Muted == "":
			live = append(live, found)
		default:
			muted = append(muted, found)
		}
	}
	return live, muted
}

func TestPacksMatchTheirOwnExamples(t *testing.T) {
	lib := embeddedPacks(t)
	m := lib.Set.NewMatcher()
	for _, p := range lib.Set.Packs() {
		for _, e := range p.Match {
			live, muted := matches(m, p.Tactic, e.Text)
			if len(live) > 0 {
				continue
			}
			t.Errorf("%s:%d: %q does not match", p.File, e.Line, e.Text)
			for _, found := range muted {
				t.Logf("\t%s is muted by %s", found.Pattern.Name, found.Muted)
			}
		}
		for _, e := range p.NoMatch {
			live, _ := matches(m, p.Tactic, e.Text)
			for _, found := range live {
				t.Errorf("%s:%d: %q matches %s", p.File, e.Line, e.Text, found.Pattern.Name)
			}
		}
	}
}

func TestEveryTacticHasAPackWithEnoughExamples(t *testing.T) {
	const least = 15
	packs := map[string]*phrase.Pack{}
	for _, p := range embeddedPacks(t).Set.Packs() {
		packs[p.Tactic] = p
	}
	for _, tactic := range detectors.Tactics() {
		p := packs[tactic.Name]
		if p == nil {
			t.Errorf("%s has no pack", tactic.Name)
			continue
		}
		if len(p.Match) < least || len(p.NoMatch) < least {
			t.Errorf("%s has %d examples that match and %d that do not, at least %d each", p.File, len(p.Match), len(p.NoMatch), least)
		}
	}
}
