package phrase

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Set is every pattern of some packs, compiled. It is immutable and safe for
// all goroutines; a call keeps the set with which it began its [Matcher].
type Set struct {
	packs    []*Pack
	patterns []*Pattern
	rules    []rule // beside patterns
	progs    []prog // of all patterns, in their order
	atoms    atoms  // what tokens are compared with
	clauses  []clause
	triggers [][]int32 // atom to the clauses that list programs
	members  [][]int32 // atom to all clauses that it is in
	shared   *Shared
	guards   []*guard // every one, shared and of packs
	memos    int      // alternatives that a matcher remembers
	// atomWords are the words that a text could hold for an atom: one, or for
	// a prefix those of the set's vocabulary that begin so.
	atomWords [][]string

	// idle is scratch of searches that are over. Searches take and put back;
	// they make their own where there is none, and drop it where it is full.
	idle chan *Matcher
}

const mostIdle = 16 // searches at once whose scratch is kept: one a core of a large machine

// rule is a pattern ready to be matched.
type rule struct {
	pattern *Pattern
	first   int // of its programs
	guards  []*guard
	insides bool // some guard has an inside part
}

// prog is one phrase of a pattern.
type prog struct {
	rule    int
	root    *inst
	span    int     // words of the longest match
	clauses []int32 // each must be present in the text
	src     *source
}

// clause is a set of atoms of which a text must have one.
type clause struct {
	atoms    []int32
	programs []int32 // those for which it is the clause that is heard most rarely
}

// inst is an element of a compiled phrase. Classes are shared among all
// phrases that name them.
type inst struct {
	kind   kind
	atoms  []int32 // kindWord: a run of words; kindAlt: its plain words
	lo, hi int64
	kids   []*inst

	least, span int // words of the shortest and the longest match
	elements    int // with classes expanded
	anchor      []int32
	memo        int32 // kindAlt: its place in Matcher.memos
}

type guard struct {
	name   string
	parts  [numRelations]*guardProg
	unless *guardProg
	def    *guardDef
	file   string
}

type guardProg struct {
	root  *inst
	words int
}

// Compile puts packs together. Shared classes and guards may be missing (nil)
// if no pack names one; conf is taken in by classes with sound_alikes whose
// pack has the same language.
//
// The error joins everything that is wrong, each an [*Error].
func Compile(packs []*Pack, shared *Shared, conf []*Confusions) (*Set, error) {
	if shared == nil {
		shared = &Shared{}
	}
	c := &compiler{set: &Set{packs: slices.Clone(packs), shared: shared, idle: make(chan *Matcher, mostIdle)}, conf: conf, shared: &scope{}, seen: map[string]*Pack{}}
	c.set.atoms = atoms{words: map[string]int32{}, count: numberAtom + 1}
	c.shared = c.newScope(shared.Language, shared.classes, nil)
	c.sharedGuards = map[string]*guard{}
	for _, def := range shared.guards {
		c.sharedGuards[def.name] = c.guard(def, shared.File, c.shared)
	}
	for _, p := range packs {
		c.pack(p)
	}
	c.conditions()
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	c.anchors()
	c.memos()
	return c.set, nil
}

// memos gives every alternative a place where a matcher remembers what a text
// has of it. Classes are shared, so most are asked for many times a text.
func (c *compiler) memos() {
	seen := map[*inst]bool{}
	var visit func(in *inst)
	visit = func(in *inst) {
		if in == nil || seen[in] {
			return
		}
		seen[in] = true
		if in.kind == kindAlt {
			in.memo = int32(c.set.memos)
			c.set.memos++
		}
		for _, k := range in.kids {
			visit(k)
		}
	}
	for i := range c.set.progs {
		visit(c.set.progs[i].root)
	}
	for _, g := range c.set.guards {
		for _, part := range append(g.parts[:], g.unless) {
			if part != nil {
				visit(part.root)
			}
		}
	}
}

// Packs lists the packs of the set.
func (s *Set) Packs() []*Pack { return slices.Clone(s.packs) }

// Patterns lists the patterns of all packs.
func (s *Set) Patterns() []*Pattern { return slices.Clone(s.patterns) }

type compiler struct {
	set          *Set
	conf         []*Confusions
	shared       *scope
	sharedGuards map[string]*guard
	seen         map[string]*Pack
	errs         []error
}

// scope finds classes: those of a pack, then the shared ones.
type scope struct {
	language string
	classes  map[string]*class
	done     map[string]*inst
	depth    map[string]int // how deep a class that is done nests others, itself 1
	open     []string       // classes being compiled, outermost first
	outer    *scope
}

func (c *compiler) newScope(language string, classes []*class, outer *scope) *scope {
	s := &scope{language: language, classes: map[string]*class{}, done: map[string]*inst{}, depth: map[string]int{}, outer: outer}
	for _, cl := range classes {
		s.classes[cl.name] = cl
	}
	for _, cl := range classes { // also those that no pattern names
		c.class(cl.name, s, nil)
	}
	return s
}

func (c *compiler) errorf(at func(string, ...any) *Error, format string, args ...any) {
	if len(c.errs) < maxErrors {
		c.errs = append(c.errs, at(format, args...))
	}
}

// failed stands for what could not be compiled; an error is on record.
func failed() *inst { return &inst{kind: kindAny, least: 1, span: 1, elements: 1} }

func (c *compiler) pack(p *Pack) {
	key := p.Tactic + "/" + p.Language
	if other := c.seen[key]; other != nil {
		c.errs = append(c.errs, &Error{p.File, p.line, 1, fmt.Sprintf("tactic %s in %s has a pack already: %s", p.Tactic, p.Language, other.File)})
		return
	}
	c.seen[key] = p
	s := c.newScope(p.Language, p.classes, c.shared)
	own := map[string]*guard{}
	define := func(items []guardItem) {
		for _, it := range items {
			if it.def == nil {
				continue
			}
			if own[it.name] != nil {
				c.errorf(it.at, "guard %q is defined twice in this pack", it.name)
			}
			own[it.name] = c.guard(it.def, p.File, s)
		}
	}
	define(p.guards)
	for _, pat := range p.Patterns {
		define(pat.guards)
	}
	find := func(items []guardItem) []*guard {
		var list []*guard
		for _, it := range items {
			g := own[it.name]
			if g == nil {
				g = c.sharedGuards[it.name]
			}
			if g == nil {
				c.errorf(it.at, "unknown guard %q", it.name)
				continue
			}
			list = append(list, g)
		}
		return list
	}
	packGuards := find(p.guards)
	for _, pat := range p.Patterns {
		r := rule{pattern: pat, first: len(c.set.progs), guards: packGuards}
		if pat.ownGuards {
			r.guards = find(pat.guards)
		}
		for _, g := range r.guards {
			r.insides = r.insides || g.parts[inside] != nil
		}
		for _, src := range pat.phrases {
			root := c.phrase(src, s)
			c.set.progs = append(c.set.progs, prog{rule: len(c.set.rules), root: root, span: root.span, src: src})
		}
		c.set.rules = append(c.set.rules, r)
		c.set.patterns = append(c.set.patterns, pat)
	}
}

// phrase compiles a phrase that stands by itself: a pattern's or a guard's.
func (c *compiler) phrase(src *source, s *scope) *inst {
	in := c.expr(src.expr, src, s)
	at := func(format string, args ...any) *Error { return src.errorAt(0, format, args...) }
	switch {
	case in.least == 0:
		c.errorf(at, "the phrase matches no words at all")
	case in.span > maxSpan:
		c.errorf(at, "the longest match is %d words, limit %d", in.span, maxSpan)
	case in.elements > maxElements:
		c.errorf(at, "the phrase has more than %d elements when its classes are expanded", maxElements)
	case in.anchor == nil && len(c.errs) == 0:
		c.errorf(at, "the phrase matches any words: some word, class or number must be in every match")
	}
	return in
}

func (c *compiler) guard(def *guardDef, file string, s *scope) *guard {
	g := &guard{name: def.name, file: file, def: def}
	for r, p := range def.parts {
		g.parts[r] = c.guardPart(p, s)
	}
	g.unless = c.guardPart(def.unless, s)
	c.set.guards = append(c.set.guards, g)
	return g
}

func (c *compiler) guardPart(p *guardPart, s *scope) *guardProg {
	if p == nil {
		return nil
	}
	var kids []*inst
	for _, src := range p.phrases {
		kids = append(kids, c.phrase(src, s))
	}
	return &guardProg{root: alternatives(kids), words: p.words}
}

func (c *compiler) class(name string, s *scope, at func(string, ...any) *Error) *inst {
	cl := s.classes[name]
	if cl == nil {
		if s.outer != nil {
			return c.class(name, s.outer, at)
		}
		c.errorf(at, "unknown class <%s>", name)
		return failed()
	}
	if at == nil {
		at = cl.at
	}
	if in := s.done[name]; in != nil {
		return in
	}
	if i := slices.Index(s.open, name); i >= 0 {
		c.errorf(at, "the classes go in a circle: %s", strings.Join(append(slices.Clone(s.open[i:]), name), " -> "))
		return failed()
	}
	if len(s.open) == maxDepth {
		c.errorf(at, "classes are nested at most %d deep: %s", maxDepth, strings.Join(append(slices.Clone(s.open), name), " -> "))
		return failed()
	}
	s.open = append(s.open, name)
	var kids []*inst
	deepest := 0
	for _, src := range c.withSoundAlikes(cl, s.language) {
		kids = append(kids, c.expr(src.expr, src, s))
		walk(src.expr, func(e *expr) {
			if e.kind == kindClass {
				deepest = max(deepest, s.depthOf(e.text))
			}
		})
	}
	s.open = s.open[:len(s.open)-1]
	if s.depth[name] = deepest + 1; deepest == maxDepth {
		c.errorf(cl.at, "classes are nested at most %d deep, class %s more", maxDepth, name)
	}
	if len(kids) == 0 {
		c.errorf(cl.at, "class %s is empty", name)
		return failed()
	}
	in := alternatives(kids)
	if in.least == 0 {
		c.errorf(cl.at, "class %s matches no words at all", name)
	}
	s.done[name] = in
	return in
}

func (s *scope) depthOf(name string) int {
	if s.classes[name] == nil && s.outer != nil {
		return s.outer.depthOf(name)
	}
	return s.depth[name]
}

// withSoundAlikes adds to a class what recognisers write for its phrases.
func (c *compiler) withSoundAlikes(cl *class, language string) []*source {
	if !cl.soundAlikes {
		return cl.phrases
	}
	list := slices.Clone(cl.phrases)
	have := map[string]bool{}
	for _, src := range cl.phrases {
		have[src.expr.String()] = true
	}
	for _, src := range cl.phrases {
		for _, conf := range c.conf {
			if !sameLanguage(conf.Language, language) {
				continue
			}
			for _, heard := range conf.heard[src.expr.String()] {
				if form := heard.expr.String(); !have[form] {
					have[form] = true
					list = append(list, heard)
				}
			}
		}
	}
	return list
}

func sameLanguage(a, b string) bool {
	a, _, _ = strings.Cut(a, "-")
	b, _, _ = strings.Cut(b, "-")
	return strings.EqualFold(a, b)
}

// number elements are as long as this: a longer one is not looked for.
const maxNumberWords = 20

func (c *compiler) expr(e *expr, src *source, s *scope) *inst {
	in := &inst{kind: e.kind, lo: e.lo, hi: e.hi, least: 1, span: 1, elements: 1}
	switch e.kind {
	case kindWord:
		in.atoms = []int32{c.set.atoms.word(e.text)}
		in.anchor = in.atoms
	case kindPrefix:
		in.kind = kindWord
		in.atoms = []int32{c.set.atoms.prefix(e.text)}
		in.anchor = in.atoms
	case kindAny:
	case kindGap:
		in.least, in.span = int(e.lo), int(e.hi)
	case kindDigits, kindNumber, kindAmount:
		in.span = maxNumberWords
		if e.kind == kindDigits {
			in.span = min(maxNumberWords, 3*int(e.hi))
		}
		in.anchor = []int32{numberAtom}
	case kindBegin, kindEnd:
		in.least, in.span = 0, 0
	case kindClass:
		at := func(format string, args ...any) *Error { return src.errorAt(e.offset, format, args...) }
		return c.class(e.text, s, at)
	case kindSeq:
		return sequence(c.kids(e, src, s))
	case kindAlt:
		return alternatives(c.kids(e, src, s))
	case kindOpt:
		in := alternatives(c.kids(e, src, s))
		return &inst{kind: kindOpt, kids: []*inst{in}, span: in.span, elements: in.elements}
	case kindBefore:
		return inOrder(c.kids(e, src, s), e.hi)
	case kindNear:
		kids := c.kids(e, src, s)
		var orders []*inst
		permute(kids, 0, func(order []*inst) { orders = append(orders, inOrder(order, e.hi)) })
		return alternatives(orders)
	}
	return in
}

func (c *compiler) kids(e *expr, src *source, s *scope) []*inst {
	var kids []*inst
	for _, k := range e.kids {
		kids = append(kids, c.expr(k, src, s))
	}
	return kids
}

func permute(list []*inst, i int, yield func([]*inst)) {
	if i == len(list) {
		yield(slices.Clone(list))
		return
	}
	for j := i; j < len(list); j++ {
		list[i], list[j] = list[j], list[i]
		permute(list, i+1, yield)
		list[i], list[j] = list[j], list[i]
	}
}

func inOrder(kids []*inst, gap int64) *inst {
	var parts []*inst
	for i, k := range kids {
		if i > 0 && gap > 0 {
			parts = append(parts, &inst{kind: kindGap, hi: gap, span: int(gap), elements: 1})
		}
		parts = append(parts, k)
	}
	return sequence(parts)
}

const huge = 1 << 20 // lengths and counts do not grow past this

func add(a, b int) int { return min(a+b, huge) }

// sequence joins runs of plain words into one instruction.
func sequence(kids []*inst) *inst {
	in := &inst{kind: kindSeq}
	for _, k := range kids {
		in.least, in.span, in.elements = add(in.least, k.least), add(in.span, k.span), add(in.elements, k.elements)
		if n := len(in.kids); k.kind == kindWord && n > 0 && in.kids[n-1].kind == kindWord {
			last := *in.kids[n-1]
			last.atoms = append(slices.Clone(last.atoms), k.atoms...)
			last.least, last.span, last.elements = len(last.atoms), len(last.atoms), len(last.atoms)
			in.kids[n-1] = &last
			continue
		}
		in.kids = append(in.kids, k)
	}
	if len(in.kids) == 1 {
		in = in.kids[0]
	}
	for _, k := range kids {
		if in.anchor == nil || k.anchor != nil && len(k.anchor) < len(in.anchor) {
			in.anchor = k.anchor
		}
	}
	return in
}

// alternatives gathers plain words into one mask.
func alternatives(kids []*inst) *inst {
	if len(kids) == 1 {
		return kids[0]
	}
	in := &inst{kind: kindAlt, least: huge}
	anchored := true
	for _, k := range kids {
		in.least, in.span, in.elements = min(in.least, k.least), max(in.span, k.span), add(in.elements, k.elements)
		anchored = anchored && k.anchor != nil
		in.anchor = append(in.anchor, k.anchor...)
		if k.kind == kindWord && len(k.atoms) == 1 {
			in.atoms = append(in.atoms, k.atoms[0])
		} else {
			in.kids = append(in.kids, k)
		}
	}
	if !anchored {
		in.anchor = nil
	}
	slices.Sort(in.anchor)
	in.anchor = slices.Compact(in.anchor)
	return in
}

// conditions checks the matches that patterns wait for.
func (c *compiler) conditions() {
	for _, p := range c.set.patterns {
		if p.After == nil || p.After.Pattern == "" {
			continue
		}
		ok := slices.ContainsFunc(c.set.patterns, func(q *Pattern) bool {
			return q.Tactic == p.After.Tactic && q.Name == p.After.Pattern
		})
		if !ok {
			c.errorf(p.After.at, "after: no pack has a pattern %s/%s", p.After.Tactic, p.After.Pattern)
		}
	}
}

// anchors finds for every program the clauses, sets of atoms, of which a text
// must hold one each, and hangs it on the clause that is heard most rarely.
func (c *compiler) anchors() {
	s := c.set
	uses := make([]int, s.atoms.count)
	for w, id := range s.atoms.words {
		if commonWord(w) {
			uses[id] = 200
		}
	}
	for _, p := range s.progs {
		countAtoms(p.root, uses)
	}
	ids := map[string]int32{}
	cost := []int{}
	for i := range s.progs {
		p := &s.progs[i]
		for _, set := range required(p.root, uses) {
			key := fmt.Sprint(set)
			id, ok := ids[key]
			if !ok {
				id = int32(len(ids))
				ids[key] = id
				total := 0
				for _, a := range set {
					total += 1 + uses[a]
				}
				cost = append(cost, total)
				s.clauses = append(s.clauses, clause{atoms: set})
			}
			if !slices.Contains(p.clauses, id) {
				p.clauses = append(p.clauses, id)
			}
		}
		sort.Slice(p.clauses, func(a, b int) bool { return cost[p.clauses[a]] < cost[p.clauses[b]] })
		rarest := &s.clauses[p.clauses[0]]
		rarest.programs = append(rarest.programs, int32(i))
	}
	s.triggers = make([][]int32, s.atoms.count)
	s.members = make([][]int32, s.atoms.count)
	for id, cl := range s.clauses {
		for _, a := range cl.atoms {
			s.members[a] = append(s.members[a], int32(id))
			if len(cl.programs) > 0 {
				s.triggers[a] = append(s.triggers[a], int32(id))
			}
		}
	}
	s.atoms.finish()
	s.atomWords = s.atoms.spelled()
}

func countAtoms(in *inst, uses []int) {
	for _, a := range in.atoms {
		uses[a]++
	}
	for _, k := range in.kids {
		countAtoms(k, uses)
	}
}

// required lists sets of atoms; every match holds an atom of each.
func required(in *inst, uses []int) [][]int32 {
	switch in.kind {
	case kindWord:
		var sets [][]int32
		for _, a := range in.atoms {
			sets = append(sets, []int32{a})
		}
		return sets
	case kindDigits, kindNumber, kindAmount:
		return [][]int32{{numberAtom}}
	case kindSeq:
		var sets [][]int32
		for _, k := range in.kids {
			sets = append(sets, required(k, uses)...)
		}
		return sets
	case kindAlt:
		// One set: of every alternative the set that is heard most rarely.
		set := slices.Clone(in.atoms)
		for _, k := range in.kids {
			sets := required(k, uses)
			if len(sets) == 0 {
				return nil
			}
			best := slices.MinFunc(sets, func(a, b []int32) int { return cmp.Compare(weigh(a, uses), weigh(b, uses)) })
			set = append(set, best...)
		}
		slices.Sort(set)
		return [][]int32{slices.Compact(set)}
	}
	return nil
}

func weigh(set []int32, uses []int) int {
	n := 0
	for _, a := range set {
		n += 1 + uses[a]
	}
	return n
}

// commonWord reports whether w is among the words of which half of all English
// speech consists. It decides only which word of a phrase is looked for first.
func commonWord(w string) bool {
	const common = " the to a and i you it that of in is me my your we on for have do okay yes so but just this be " +
		"not are can was what with they he she at as if there know no right like one get all about up go out will don't " +
		"it's i'm that's now from would or when then them an how did been here please "
	return strings.Contains(common, " "+w+" ")
}
