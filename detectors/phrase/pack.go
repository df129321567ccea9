// Package phrase is the language in which tactic packs say what a fraud call
// sounds like. docs/phrases.md is its description: phrases of words, classes,
// gaps and numbers; guards that take a match's weight away; moods.
//
// Packs are parsed by [ParsePack], compiled together by [Compile] into an
// immutable [Set] that every goroutine may share, and matched by one [Matcher]
// per call. Nothing allocates while nothing matches.
package phrase

import (
	"fmt"
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors"
)

// Error is a rule that a pack breaks, and where. ParsePack, ParseShared,
// ParseConfusions and Compile return one, or several joined.
type Error struct {
	File         string
	Line, Column int // 1-based; the column counts characters
	Rule         string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Rule)
}

// Pack is one tactic in one language: patterns, what cancels them, and
// examples that keep them honest. It is not changed after ParsePack.
type Pack struct {
	Tactic   string
	Language string // BCP 47
	Version  int
	Stage    detectors.Stage
	Points   float64 // of a pattern that does not say otherwise
	File     string
	Patterns []*Pattern
	Match    []Example // at least one match that no guard mutes
	NoMatch  []Example // none

	classes []*class
	guards  []guardItem
	line    int // where the file begins to speak of the tactic
}

// ID names the pack and its version, such as "otp_request/en@1".
func (p *Pack) ID() string {
	return fmt.Sprintf("%s/%s@%d", p.Tactic, p.Language, p.Version)
}

// Example is a sentence that must, or must not, match.
type Example struct {
	Text         string
	Line, Column int
}

// Pattern is one way of saying a tactic. Time, turns and legs are carried here
// for whoever knows the call; a Matcher looks at none of them.
type Pattern struct {
	Tactic  string
	Name    string
	Stage   detectors.Stage
	Points  float64
	Who     Who
	Moods   MoodSet // of the clause; never empty
	After   *After  // nil: no condition
	Count   *Count  // nil: once is enough
	Phrases []string
	// The match stands in the first or the last seconds of the call; zero
	// where that does not matter.
	FirstSeconds, LastSeconds float64
	Pack                      *Pack

	phrases   []*source
	guards    []guardItem
	ownGuards bool // guards replaces the pack's, be it empty
	line, col int
}

// Rule names the pattern as findings do: "otp_request/read-me-the-code".
func (p *Pattern) Rule() string { return p.Tactic + "/" + p.Name }

// Who is the side that has to say a pattern.
type Who uint8

const (
	Anyone Who = iota
	ByCaller
	ByCallee
	// ByProtected is the side that callwarden protects, ByOther the one that
	// it is protected from; the configuration knows which leg that is.
	ByProtected
	ByOther
)

var whoNames = [...]string{"any", "caller", "callee", "protected", "other"}

func (w Who) String() string { return nameOf(whoNames[:], int(w)) }

// LegRelation says on which leg an earlier match must stand.
type LegRelation uint8

const (
	AnyLeg LegRelation = iota
	SameLeg
	OtherLeg
)

var legNames = [...]string{"any", "same", "other"}

func (l LegRelation) String() string { return nameOf(legNames[:], int(l)) }

// After asks for an earlier unmuted match of another tactic, or of one pattern
// of it, not longer ago than Within and not more than Turns turns back. Zero
// leaves either open, not both.
type After struct {
	Tactic  string
	Pattern string // empty: any of the tactic
	// Points is the least that the earlier match must weigh: what is said after
	// a plain ask means more than the same words after a hint of one.
	Points float64
	Within time.Duration
	Turns  int
	Leg    LegRelation

	at func(format string, args ...any) *Error
}

// Count asks for so many matches of the pattern, all within a time; Within is
// zero where the whole call counts.
type Count struct {
	AtLeast int
	Within  time.Duration
}

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "invalid"
}

// Shared holds the classes and guards that every pack may use: common.yaml.
type Shared struct {
	Language string
	Version  int
	File     string

	classes []*class
	guards  []*guardDef
}

// Confusions lists, for one recogniser and language, what it writes when it
// hears a phrase.
type Confusions struct {
	Backend  string
	Language string
	Version  int
	File     string

	heard map[string][]*source // said, as tokens joined by spaces, to heard forms
}

// source is a parsed phrase and where it stands.
type source struct {
	expr *expr
	doc  *document
	text scalar
}

func (s *source) errorAt(offset int, format string, args ...any) *Error {
	line, col := s.doc.locate(s.text, offset)
	return &Error{s.doc.file, line, col, fmt.Sprintf(format, args...)}
}

type class struct {
	name        string
	phrases     []*source
	soundAlikes bool
	hints       bool
	at          func(format string, args ...any) *Error
}

// relation is where a guard's phrase stands.
type relation uint8

const (
	inside relation = iota
	within
	near
	before
	after
	numRelations
)

var relationNames = [...]string{"inside", "within", "near", "before", "after"}

type guardPart struct {
	phrases []*source
	words   int
}

type guardDef struct {
	name    string
	parts   [numRelations]*guardPart
	unless  *guardPart
	match   []Example // of a shared guard: sentences in which its phrase stands
	noMatch []Example
	at      func(format string, args ...any) *Error
}

// guardItem is a guard by name, or defined in place.
type guardItem struct {
	name string
	def  *guardDef // nil: looked up
	at   func(format string, args ...any) *Error
}

const (
	maxPackBytes  = 1 << 20
	maxClasses    = 1000
	maxPatterns   = 500
	maxPhrases    = 1000 // of a class or pattern
	maxGuardWords = 30
	maxPoints     = 100
	maxSeconds    = 24 * 3600
)

// ParsePack reads a tactic pack; file is what errors call it. The pack is
// checked as far as it stands alone: names of shared classes and guards, and
// what needs classes expanded, are looked at by Compile.
func ParsePack(file string, data []byte) (*Pack, error) {
	d, root := parseDocument(file, data)
	if root == nil {
		return nil, d.err()
	}
	p := &Pack{File: file, line: root.Line}
	var tactic detectors.Tactic
	d.fields(root, "a pack", []field{
		{"tactic", func(n *node) {
			t, ok := detectors.LookupTactic(d.str(n))
			if !ok {
				d.errorf(n, "unknown tactic %q", n.Value)
			}
			tactic, p.Tactic = t, t.Name
		}, true},
		{"language", func(n *node) { p.Language = d.language(n) }, true},
		{"version", func(n *node) { p.Version = d.integer(n, 1, 1_000_000) }, true},
		{"stage", func(n *node) { p.Stage = d.stage(n, tactic) }, false},
		{"points", func(n *node) { p.Points = d.number(n, 0, maxPoints) }, true},
		{"classes", func(n *node) { p.classes = d.classes(n) }, false},
		{"guards", func(n *node) { p.guards = d.guards(n) }, false},
		{"examples", func(n *node) { p.Match, p.NoMatch = d.examples(n) }, false},
		{"patterns", func(n *node) { p.Patterns = d.patterns(n, tactic) }, true},
	})
	if p.Stage == detectors.StageNone && len(tactic.Stages) > 0 {
		p.Stage = tactic.Stages[0]
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	for _, pat := range p.Patterns {
		pat.Pack, pat.Tactic = p, p.Tactic
		if pat.Stage == detectors.StageNone {
			pat.Stage = p.Stage
		}
		if pat.Points < 0 {
			pat.Points = p.Points
		}
		if pat.Moods != AllMoods && !strings.HasPrefix(p.Language, "en") {
			return nil, &Error{file, pat.line, pat.col, "mood words are known for English only"}
		}
	}
	return p, nil
}

// ParseShared reads the classes and guards that packs share.
func ParseShared(file string, data []byte) (*Shared, error) {
	d, root := parseDocument(file, data)
	if root == nil {
		return nil, d.err()
	}
	s := &Shared{File: file}
	var items []guardItem
	d.fields(root, "a shared file", []field{
		{"language", func(n *node) { s.Language = d.language(n) }, true},
		{"version", func(n *node) { s.Version = d.integer(n, 1, 1_000_000) }, true},
		{"classes", func(n *node) { s.classes = d.classes(n) }, false},
		{"guards", func(n *node) { items = d.guards(n) }, false},
	})
	for _, it := range items {
		if it.def == nil {
			d.add(it.at("a shared guard is defined here: it has a name and a phrase"))
			continue
		}
		s.guards = append(s.guards, it.def)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// ParseConfusions reads what a recogniser writes for what is said:
//
//	backend: vosk
//	language: en
//	version: 1
//	sounds:
//	  any desk: [annie desk, anti desk]
func ParseConfusions(file string, data []byte) (*Confusions, error) {
	d, root := parseDocument(file, data)
	if root == nil {
		return nil, d.err()
	}
	c := &Confusions{File: file, heard: map[string][]*source{}}
	d.fields(root, "a confusion list", []field{
		{"backend", func(n *node) { c.Backend = d.name(n) }, true},
		{"language", func(n *node) { c.Language = d.language(n) }, true},
		{"version", func(n *node) { c.Version = d.integer(n, 1, 1_000_000) }, true},
		{"sounds", func(n *node) {
			d.pairs(n, "sounds", func(key, value *node) {
				said := strings.Join(tokens(key.Value), " ")
				if said == "" {
					d.errorf(key, "%q holds no word", key.Value)
				}
				if c.heard[said] != nil {
					d.errorf(key, "%q stands here twice", said)
				}
				c.heard[said] = d.phrases(value, "sounds")
				for _, s := range c.heard[said] {
					if !literal(s.expr) {
						d.add(s.errorAt(0, "a heard form is plain words"))
					}
				}
			})
		}, true},
	})
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func tokens(text string) []string {
	t, _ := Tokenize(text, nil)
	return t
}

// literal reports whether e is plain words.
func literal(e *expr) bool {
	for _, k := range e.kids {
		if k.kind != kindWord {
			return false
		}
	}
	return e.kind == kindWord || e.kind == kindSeq
}

func (d *document) patterns(n *node, tactic detectors.Tactic) []*Pattern {
	var list []*Pattern
	names := map[string]bool{}
	d.items(n, "patterns", maxPatterns, func(item *node) {
		p := d.pattern(item, tactic)
		if names[p.Name] {
			d.errorf(item, "pattern %q stands here twice", p.Name)
		}
		names[p.Name] = true
		list = append(list, p)
	})
	if len(list) == 0 {
		d.errorf(n, "patterns: at least one")
	}
	return list
}

func (d *document) pattern(item *node, tactic detectors.Tactic) *Pattern {
	p := &Pattern{Points: -1, Moods: AllMoods, line: item.Line, col: item.Column}
	var moods *node
	setMoods := func(n *node, negate bool) {
		if moods != nil {
			d.errorf(n, "mood and not_mood exclude each other")
		}
		if moods = n; negate {
			p.Moods = AllMoods &^ d.moods(n)
		} else {
			p.Moods = d.moods(n)
		}
		if p.Moods == 0 {
			d.errorf(n, "no mood is left")
		}
	}
	d.fields(item, "a pattern", []field{
		{"name", func(n *node) { p.Name = d.name(n) }, true},
		{"phrase", func(n *node) { p.phrases = append(p.phrases, d.phrase(n)) }, false},
		{"phrases", func(n *node) { p.phrases = append(p.phrases, d.phrases(n, "phrases")...) }, false},
		{"stage", func(n *node) { p.Stage = d.stage(n, tactic) }, false},
		{"points", func(n *node) { p.Points = d.number(n, 0, maxPoints) }, false},
		{"who", func(n *node) { p.Who = Who(d.choice(n, "who", whoNames[:])) }, false},
		{"mood", func(n *node) { setMoods(n, false) }, false},
		{"not_mood", func(n *node) { setMoods(n, true) }, false},
		{"after", func(n *node) { p.After = d.after(n) }, false},
		{"count", func(n *node) { p.Count = d.count(n) }, false},
		{"first_seconds", func(n *node) { p.FirstSeconds = d.positive(n, maxSeconds) }, false},
		{"last_seconds", func(n *node) { p.LastSeconds = d.positive(n, maxSeconds) }, false},
		{"guards", func(n *node) { p.guards, p.ownGuards = d.guards(n), true }, false},
	})
	if len(p.phrases) == 0 {
		d.errorf(item, "pattern %q has neither phrase nor phrases", p.Name)
	}
	for _, s := range p.phrases {
		p.Phrases = append(p.Phrases, s.text.value)
	}
	return p
}

func (d *document) after(n *node) *After {
	a := &After{at: d.at(n)}
	d.fields(n, "after", []field{
		{"tactic", func(n *node) {
			a.Tactic = d.str(n)
			if _, ok := detectors.LookupTactic(a.Tactic); !ok {
				d.errorf(n, "unknown tactic %q", a.Tactic)
			}
		}, true},
		{"pattern", func(n *node) { a.Pattern = d.name(n) }, false},
		{"points", func(n *node) { a.Points = d.positive(n, maxPoints) }, false},
		{"seconds", func(n *node) { a.Within = seconds(d.positive(n, maxSeconds)) }, false},
		{"turns", func(n *node) { a.Turns = d.integer(n, 1, 1000) }, false},
		{"leg", func(n *node) { a.Leg = LegRelation(d.choice(n, "leg", legNames[:])) }, false},
	})
	if a.Within == 0 && a.Turns == 0 {
		d.errorf(n, "after: says neither seconds nor turns")
	}
	return a
}

func (d *document) count(n *node) *Count {
	c := &Count{}
	d.fields(n, "count", []field{
		{"at_least", func(n *node) { c.AtLeast = d.integer(n, 2, 1000) }, true},
		{"seconds", func(n *node) { c.Within = seconds(d.positive(n, maxSeconds)) }, false},
	})
	return c
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (d *document) classes(n *node) []*class {
	var list []*class
	d.pairs(n, "classes", func(key, value *node) {
		if len(list) == maxClasses {
			d.errorf(key, "at most %d classes", maxClasses)
			return
		}
		c := &class{name: d.name(key), at: d.at(key)}
		for _, other := range list {
			if other.name == c.name {
				d.errorf(key, "class %q stands here twice", c.name)
			}
		}
		if value.Kind == mappingNode {
			d.fields(value, "a class", []field{
				{"phrases", func(n *node) { c.phrases = d.phrases(n, "class "+c.name) }, true},
				{"sound_alikes", func(n *node) { c.soundAlikes = d.boolean(n) }, false},
				{"hints", func(n *node) { c.hints = d.boolean(n) }, false},
			})
		} else {
			c.phrases = d.phrases(value, "class "+c.name)
		}
		list = append(list, c)
	})
	return list
}

func (d *document) guards(n *node) []guardItem {
	var list []guardItem
	d.items(n, "guards", maxPatterns, func(item *node) {
		g := guardItem{at: d.at(item)}
		if item.Kind == mappingNode {
			g.def = d.guard(item)
			g.name = g.def.name
		} else {
			g.name = d.name(item)
		}
		for _, other := range list {
			if other.name == g.name && g.name != "" {
				d.errorf(item, "guard %q stands here twice", g.name)
			}
		}
		list = append(list, g)
	})
	return list
}

func (d *document) guard(item *node) *guardDef {
	g := &guardDef{at: d.at(item)}
	part := func(r relation) func(*node) {
		return func(n *node) { g.parts[r] = d.guardPart(n, relationNames[r], r > within) }
	}
	d.fields(item, "a guard", []field{
		{"name", func(n *node) { g.name = d.name(n) }, true},
		{"inside", part(inside), false},
		{"within", part(within), false},
		{"near", part(near), false},
		{"before", part(before), false},
		{"after", part(after), false},
		{"unless", func(n *node) { g.unless = d.guardPart(n, "unless", true) }, false},
		{"examples", func(n *node) { g.match, g.noMatch = d.examples(n) }, false},
	})
	if g.parts == [numRelations]*guardPart{} {
		d.errorf(item, "guard %q has none of inside, within, near, before, after", g.name)
	}
	return g
}

// guardPart reads a phrase, a list of them, or a mapping with the distance.
func (d *document) guardPart(n *node, what string, distance bool) *guardPart {
	p := &guardPart{}
	if n.Kind != mappingNode {
		if distance {
			d.errorf(n, "%s: is {phrase: …, words: N}", what)
		}
		p.phrases = d.phrases(n, what)
		return p
	}
	fields := []field{
		{"phrase", func(n *node) { p.phrases = append(p.phrases, d.phrase(n)) }, false},
		{"phrases", func(n *node) { p.phrases = append(p.phrases, d.phrases(n, what)...) }, false},
	}
	if distance {
		fields = append(fields, field{"words", func(n *node) { p.words = d.integer(n, 0, maxGuardWords) }, true})
	}
	d.fields(n, what, fields)
	if len(p.phrases) == 0 {
		d.errorf(n, "%s: has neither phrase nor phrases", what)
	}
	return p
}

func (d *document) examples(n *node) (match, noMatch []Example) {
	read := func(to *[]Example, what string) func(*node) {
		return func(n *node) {
			d.items(n, what, 10_000, func(item *node) {
				text := d.str(item)
				if len(tokens(text)) == 0 {
					d.errorf(item, "%s: an example without words", what)
				}
				*to = append(*to, Example{text, item.Line, item.Column})
			})
		}
	}
	d.fields(n, "examples", []field{
		{"match", read(&match, "match"), false},
		{"no_match", read(&noMatch, "no_match"), false},
	})
	return match, noMatch
}
