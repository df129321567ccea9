package phrase

import (
	"fmt"
	"strings"
)

// Explanation is what a text matches, and why.
type Explanation struct {
	Tokens   []string
	Question bool // it has a question mark
	Matches  []Explained
}

// Explained is one match and the guard phrase that muted it.
type Explained struct {
	Match
	Words string // matched words
	// Where the guard's phrase stands ("before"), and its words; empty where
	// no guard muted the match.
	Relation, GuardWords string
}

// Explain says which patterns match which words of text and which guard muted
// them. Conditions on time and legs are not looked at, only listed.
func (s *Set) Explain(text string) Explanation {
	var e Explanation
	e.Tokens, e.Question = Tokenize(text, nil)
	m := s.NewMatcher()
	for _, found := range m.Match(e.Tokens, e.Question, nil) {
		x := Explained{Match: found, Words: strings.Join(e.Tokens[found.First:found.Last+1], " ")}
		if found.Muted != "" {
			m.read(e.Tokens, 0)
			x.Relation, x.GuardWords = m.where(s.guardOf(found.Pattern, found.Muted), found.First, found.Last+1)
		}
		e.Matches = append(e.Matches, x)
	}
	return e
}

func (s *Set) guardOf(p *Pattern, name string) *guard {
	for i := range s.rules {
		if s.rules[i].pattern != p {
			continue
		}
		for _, g := range s.rules[i].guards {
			if g.name == name {
				return g
			}
		}
	}
	return nil
}

// where finds the phrase by which a guard takes the match [first, end).
func (m *Matcher) where(g *guard, first, end int) (place, words string) {
	for r, p := range g.parts {
		if p == nil {
			continue
		}
		for s := range m.tokens {
			for e := s + 1; e <= min(len(m.tokens), s+p.root.span); e++ {
				var takes bool
				switch relation(r) {
				case inside:
					takes = s < end && e > first
				case within:
					takes = s >= first && e <= end
				case before:
					takes = s < first && e >= first-p.words && e <= end
				case after:
					takes = s >= first && s <= end+p.words && e > end
				case near:
					takes = s <= end+p.words && e >= first-p.words
				}
				if takes && m.occurs(p, s, s+1, e, e) {
					return relationNames[r], strings.Join(m.tokens[s:e], " ")
				}
			}
		}
	}
	return "", ""
}

// String renders the explanation for a terminal, a match a line.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "words: %s\n", strings.Join(e.Tokens, " "))
	if len(e.Matches) == 0 {
		b.WriteString("no pattern matches\n")
	}
	for _, x := range e.Matches {
		p := x.Pattern
		fmt.Fprintf(&b, "%s  %q  %s, %s, %g points (%s)\n", p.Rule(), x.Words, p.Stage, x.Mood, p.Points, p.Pack.ID())
		if x.Muted != "" {
			fmt.Fprintf(&b, "    muted by %s: %s %q\n", x.Muted, x.Relation, x.GuardWords)
		}
		for _, condition := range p.conditions() {
			fmt.Fprintf(&b, "    counts only %s\n", condition)
		}
	}
	return b.String()
}

// conditions says in words what the pattern asks of the call.
func (p *Pattern) conditions() []string {
	var list []string
	if p.Who != Anyone {
		list = append(list, "if said by "+p.Who.String())
	}
	if a := p.After; a != nil {
		s := "after " + a.Tactic
		if a.Pattern != "" {
			s += "/" + a.Pattern
		}
		if a.Points > 0 {
			s += fmt.Sprintf(" of %g points or more", a.Points)
		}
		if a.Within > 0 {
			s += fmt.Sprintf(", within %s", a.Within)
		}
		if a.Turns > 0 {
			s += fmt.Sprintf(", within %d turns", a.Turns)
		}
		list = append(list, s+", on "+a.Leg.String()+" leg")
	}
	if c := p.Count; c != nil {
		s := fmt.Sprintf("from match %d on", c.AtLeast)
		if c.Within > 0 {
			s += fmt.Sprintf(" within %s", c.Within)
		}
		list = append(list, s)
	}
	if p.FirstSeconds > 0 {
		list = append(list, fmt.Sprintf("in the first %g seconds", p.FirstSeconds))
	}
	if p.LastSeconds > 0 {
		list = append(list, fmt.Sprintf("in the last %g seconds", p.LastSeconds))
	}
	return list
}

// Failure is an example that is not what its file says.
type Failure struct {
	File         string
	Line, Column int
	Rule         string // "must match" or "must not match", of which tactic or guard
	Text         string
	Got          Explanation
}

func (f Failure) String() string {
	return fmt.Sprintf("%s:%d:%d: %s: %q\n%s", f.File, f.Line, f.Column, f.Rule, f.Text,
		strings.TrimSuffix("    "+strings.ReplaceAll(f.Got.String(), "\n", "\n    "), "    "))
}

// TestExamples runs the examples of every pack and of the shared guards. A
// match example has at least one match of its pack that no guard mutes, a
// no_match example none; a guard's examples hold its phrase or do not. An
// example is one utterance: conditions on time and legs are not looked at.
func (s *Set) TestExamples() []Failure {
	var list []Failure
	m := s.NewMatcher()
	check := func(file, of string, examples []Example, want bool, matches func(tokens []string, question bool) bool) {
		for _, ex := range examples {
			tokens, question := Tokenize(ex.Text, nil)
			if matches(tokens, question) == want {
				continue
			}
			rule := "must match " + of
			if !want {
				rule = "must not match " + of
			}
			list = append(list, Failure{file, ex.Line, ex.Column, rule, ex.Text, s.Explain(ex.Text)})
		}
	}
	for _, p := range s.packs {
		unmuted := func(tokens []string, question bool) bool {
			for _, found := range m.Match(tokens, question, nil) {
				if found.Pattern.Pack == p && found.Muted == "" {
					return true
				}
			}
			return false
		}
		check(p.File, p.Tactic, p.Match, true, unmuted)
		check(p.File, p.Tactic, p.NoMatch, false, unmuted)
	}
	for _, g := range s.guards {
		stands := func(tokens []string, _ bool) bool {
			m.read(tokens, 0)
			for _, p := range g.parts {
				if p != nil && m.occurs(p, 0, len(tokens), 0, len(tokens)) {
					return true
				}
			}
			return false
		}
		check(g.file, "guard "+g.name, g.def.match, true, stands)
		check(g.file, "guard "+g.name, g.def.noMatch, false, stands)
	}
	return list
}
