package phrase

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Severity says whether a remark of Lint should stop a pack.
type Severity uint8

const (
	Note    Severity = iota // worth knowing
	Warning                 // the pack does not do what it says
)

func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "note"
}

// Remark is something that Lint found.
type Remark struct {
	File         string
	Line, Column int
	Severity     Severity
	Text         string
}

func (r Remark) String() string {
	return fmt.Sprintf("%s:%d:%d: %s: %s", r.File, r.Line, r.Column, r.Severity, r.Text)
}

const (
	lintWordings = 120 // of a phrase that are tried
	fewExamples  = 15
)

// Lint looks for patterns that never match, that their own guards always mute
// or that another pattern of the pack includes, for classes that nothing names,
// for words that the recogniser cannot hear, and for packs with few examples. vocab reports whether the
// recogniser knows a word; nil leaves that out.
//
// It tries wordings of each phrase: where there are more than 120 it has seen
// a part of them, and says so.
func (s *Set) Lint(vocab func(word string) bool) []Remark {
	l := &linter{set: s, vocab: vocab, m: s.NewMatcher()}
	l.m.anyMood = true
	for _, p := range s.packs {
		if n := len(p.Match); n < fewExamples {
			l.remark(Warning, p.File, p.line, 1, "%d match examples; at least %d", n, fewExamples)
		}
		if n := len(p.NoMatch); n < fewExamples {
			l.remark(Warning, p.File, p.line, 1, "%d no_match examples; at least %d", n, fewExamples)
		}
	}
	for i := range s.progs {
		l.prog(int32(i))
	}
	l.unused()
	if vocab != nil {
		l.words()
	}
	slices.SortStableFunc(l.remarks, func(a, b Remark) int {
		if a.File != b.File {
			return strings.Compare(a.File, b.File)
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return l.remarks
}

type linter struct {
	set     *Set
	vocab   func(string) bool
	m       *Matcher
	remarks []Remark
}

func (l *linter) remark(sev Severity, file string, line, col int, format string, args ...any) {
	l.remarks = append(l.remarks, Remark{file, line, col, sev, fmt.Sprintf(format, args...)})
}

// prog tries the wordings of one phrase on the whole set.
func (l *linter) prog(id int32) {
	p := &l.set.progs[id]
	r := &l.set.rules[p.rule]
	tried, matched, heard := 0, 0, 0
	muted := map[string]int{}
	var include map[int32]bool // programs that matched every wording so far
	all := true
	for _, wide := range []bool{false, true} {
		w := wording{set: l.set, fill: true, wide: wide}
		all = w.sample(p.root, lintWordings, func(words []string) {
			tried++
			if l.vocab == nil || !slices.ContainsFunc(words, l.unheard) {
				heard++
			}
			l.m.read(words, 0)
			others := l.covering(id, words)
			if include == nil {
				include = others
			}
			for other := range include {
				if !others[other] {
					delete(include, other)
				}
			}
			if l.m.run([]int32{id}, 1) == 0 {
				return
			}
			matched++
			for _, m := range l.m.Match(words, false, nil) {
				if m.Pattern == r.pattern && m.Muted != "" {
					muted[m.Muted]++
					break
				}
			}
		}) && all
	}
	line, col := p.src.doc.locate(p.src.text, 0)
	file := p.src.doc.file
	which := "every wording"
	if !all {
		which = fmt.Sprintf("every one of %d wordings tried", tried)
	}
	name := r.pattern.Rule()
	switch {
	case tried == 0:
		l.remark(Warning, file, line, col, "%s: no word of this vocabulary begins so: the phrase cannot be tried", name)
		return
	case matched == 0:
		l.remark(Warning, file, line, col, "%s: the phrase never matches", name)
		return
	case heard == 0:
		l.remark(Warning, file, line, col, "%s: %s has a word that the model cannot hear", name, which)
	}
	for _, guard := range slices.Sorted(maps.Keys(muted)) {
		if muted[guard] == tried {
			l.remark(Warning, file, line, col, "%s: its own guard %s mutes %s", name, guard, which)
		}
	}
	for _, other := range slices.Sorted(maps.Keys(include)) {
		// Of two that include each other the later one is told.
		if o := &l.set.progs[other]; o.rule == p.rule && other > id && l.includes(id, other) {
			continue
		}
		where := "another phrase of it"
		if o := &l.set.progs[other]; o.rule != p.rule {
			where = l.set.rules[o.rule].pattern.Rule()
		}
		l.remark(Note, file, line, col, "%s: %s is found by %s too (%s)", name, which, where, l.set.progs[other].src.text.value)
		break
	}
}

// covering lists the other programs of the pack that match the words that are
// read, in a pattern that asks no more than that of id.
func (l *linter) covering(id int32, words []string) map[int32]bool {
	list := map[int32]bool{}
	mine := &l.set.rules[l.set.progs[id].rule]
	l.m.candidates()
	for _, other := range l.m.ready {
		theirs := &l.set.rules[l.set.progs[other].rule]
		if other == id || theirs.pattern.Pack != mine.pattern.Pack || !asksNoMore(theirs, mine) ||
			bound(l.set.progs[other].src.expr) && !bound(l.set.progs[id].src.expr) {
			continue
		}
		if l.m.run([]int32{other}, between(0, len(words))) != 0 {
			list[other] = true
		}
	}
	return list
}

// bound reports whether a phrase says where in the utterance it stands; a
// wording, tried alone, always stands at both ends of one.
func bound(e *expr) bool {
	found := false
	walk(e, func(k *expr) { found = found || k.kind == kindBegin || k.kind == kindEnd })
	return found
}

// includes reports whether every wording of b that is tried matches a.
func (l *linter) includes(a, b int32) bool {
	ok := true
	for _, wide := range []bool{false, true} {
		w := wording{set: l.set, fill: true, wide: wide}
		w.sample(l.set.progs[b].root, lintWordings, func(words []string) {
			l.m.read(words, 0)
			ok = ok && l.m.run([]int32{a}, between(0, len(words))) != 0
		})
	}
	return ok
}

func asksNoMore(a, b *rule) bool {
	p, q := a.pattern, b.pattern
	return p == q || (p.Who == Anyone || p.Who == q.Who) && p.Moods|q.Moods == p.Moods &&
		p.After == nil && p.Count == nil && p.FirstSeconds == 0 && p.LastSeconds == 0 &&
		p.Stage == q.Stage && slices.Equal(a.guards, b.guards)
}

// unheard reports whether the model lacks a word. Fillers are any word, and
// numerals in wordings stand for spoken numbers.
func (l *linter) unheard(word string) bool {
	return word != filler && !l.vocab(word) && !hasDigit(word)
}

// unused tells the classes of packs that no phrase names.
func (l *linter) unused() {
	for _, p := range l.set.packs {
		used := map[string]bool{}
		look := func(list []*source) {
			for _, src := range list {
				walk(src.expr, func(e *expr) { used[e.text] = used[e.text] || e.kind == kindClass })
			}
		}
		for _, c := range p.classes {
			look(c.phrases)
		}
		for _, pat := range p.Patterns {
			look(pat.phrases)
		}
		for _, g := range l.set.guards {
			if g.file != p.File {
				continue
			}
			for _, part := range append(g.def.parts[:], g.def.unless) {
				if part != nil {
					look(part.phrases)
				}
			}
		}
		for _, c := range p.classes {
			if !used[c.name] {
				at := c.at("")
				l.remark(Note, at.File, at.Line, at.Column, "no phrase names class %s", c.name)
			}
		}
	}
}

// words tells each word once a file that the model cannot hear.
func (l *linter) words() {
	seen := map[string]bool{}
	look := func(list []*source) {
		for _, src := range list {
			walk(src.expr, func(e *expr) {
				key := src.doc.file + "\x00" + e.text
				if e.kind != kindWord || seen[key] || l.vocab(e.text) {
					return
				}
				seen[key] = true
				line, col := src.doc.locate(src.text, e.offset)
				l.remark(Note, src.doc.file, line, col, "the model cannot hear %q", e.text)
			})
		}
	}
	classes := func(list []*class) {
		for _, c := range list {
			look(c.phrases)
		}
	}
	classes(l.set.shared.classes)
	for _, p := range l.set.packs {
		classes(p.classes)
		for _, pat := range p.Patterns {
			look(pat.phrases)
		}
	}
	for _, g := range l.set.guards {
		for _, part := range append(g.def.parts[:], g.def.unless) {
			if part != nil {
				look(part.phrases)
			}
		}
	}
}

func walk(e *expr, visit func(*expr)) {
	visit(e)
	for _, k := range e.kids {
		walk(k, visit)
	}
}
