package phrase

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/detectors/spoken"
	"pgregory.net/rapid"
)

// reference matches as docs/phrases.md says, one element at a time and without
// any of the matcher's ideas.
type reference struct {
	tokens  []string
	from    int
	classes map[string]*class
	blocked map[int]bool
}

// ends lists, with repetitions, where e may end when it begins at i.
func (r *reference) ends(e *expr, i int) []int {
	n := len(r.tokens)
	var list []int
	switch e.kind {
	case kindWord:
		if i < n && r.tokens[i] == e.text && !r.blocked[i] {
			list = append(list, i+1)
		}
	case kindPrefix:
		if i < n && strings.HasPrefix(r.tokens[i], e.text) && !r.blocked[i] {
			list = append(list, i+1)
		}
	case kindAny:
		if i < n {
			list = append(list, i+1)
		}
	case kindGap:
		for k := int(e.lo); k <= int(e.hi) && i+k <= n; k++ {
			list = append(list, i+k)
		}
	case kindClass:
		for _, src := range r.classes[e.text].phrases {
			list = append(list, r.ends(src.expr, i)...)
		}
	case kindSeq:
		list = []int{i}
		for _, k := range e.kids {
			list = r.then(list, k)
		}
	case kindAlt:
		for _, k := range e.kids {
			list = append(list, r.ends(k, i)...)
		}
	case kindOpt:
		list = append(list, i)
		for _, k := range e.kids {
			list = append(list, r.ends(k, i)...)
		}
	case kindBefore:
		list = r.ordered(e.kids, e.hi, i)
	case kindNear:
		a, b := e.kids[0], e.kids[1]
		if len(e.kids) == 2 {
			return append(r.ordered([]*expr{a, b}, e.hi, i), r.ordered([]*expr{b, a}, e.hi, i)...)
		}
		c := e.kids[2]
		for _, order := range [][]*expr{{a, b, c}, {a, c, b}, {b, a, c}, {b, c, a}, {c, a, b}, {c, b, a}} {
			list = append(list, r.ordered(order, e.hi, i)...)
		}
	case kindBegin:
		if i == 0 || i == r.from {
			list = append(list, i)
		}
	case kindEnd:
		if i == n {
			list = append(list, i)
		}
	case kindDigits:
		for _, run := range spoken.Runs(r.tokens, nil) {
			if run.First == i && run.Count >= int(e.lo) && run.Count <= int(e.hi) && !r.anyBlocked(i, run.Last) {
				list = append(list, run.Last+1)
			}
		}
	}
	return list
}

func (r *reference) anyBlocked(i, j int) bool {
	for ; i <= j; i++ {
		if r.blocked[i] {
			return true
		}
	}
	return false
}

func (r *reference) then(list []int, e *expr) []int {
	var next []int
	for _, at := range list {
		next = append(next, r.ends(e, at)...)
	}
	slices.Sort(next)
	return slices.Compact(next)
}

func (r *reference) ordered(kids []*expr, gap int64, i int) []int {
	list := []int{i}
	for k, e := range kids {
		if k > 0 {
			list = r.then(list, &expr{kind: kindGap, hi: gap})
		}
		list = r.then(list, e)
	}
	return list
}

// spans lists every place where one of the phrases stands.
func (r *reference) spans(phrases []*source) (list [][2]int) {
	for i := range r.tokens {
		for _, end := range r.any(phrases, i) {
			list = append(list, [2]int{i, end})
		}
	}
	return list
}

func (r *reference) any(phrases []*source, i int) (list []int) {
	for _, src := range phrases {
		list = append(list, r.ends(src.expr, i)...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// mutes says whether a guard takes the match [first, end) of a pattern.
func (r *reference) mutes(g *guardDef, p *Pattern, first, end int, kind relation) bool {
	part := g.parts[kind]
	if part == nil {
		return false
	}
	taken := false
	if kind == inside {
		blocked := map[int]bool{}
		for _, s := range r.spans(part.phrases) {
			if s[1] > first {
				for i := s[0]; i < s[1]; i++ {
					blocked[i] = true
				}
			}
		}
		r.blocked = blocked
		taken = !slices.Contains(r.any(p.phrases, first), end)
		r.blocked = nil
	} else {
		for _, s := range r.spans(part.phrases) {
			switch kind {
			case within:
				taken = taken || s[0] >= first && s[1] <= end
			case before:
				taken = taken || s[0] < first && s[1] >= first-part.words && s[1] <= end
			case after:
				taken = taken || s[0] >= first && s[0] <= end+part.words && s[1] > end
			case near:
				taken = taken || s[0] <= end+part.words && s[1] >= first-part.words
			}
		}
	}
	if taken && g.unless != nil {
		for _, s := range r.spans(g.unless.phrases) {
			if s[0] <= end+g.unless.words && s[1] >= first-g.unless.words {
				return false
			}
		}
	}
	return taken
}

// matches finds what Match must.
func (r *reference) matches(p *Pattern, guards []*guardDef) []string {
	var list []string
	lastEnd, lastInside := -1, false
	for first := 0; first < len(r.tokens); {
		ends := r.any(p.phrases, first)
		ends = slices.DeleteFunc(ends, func(e int) bool { return e <= r.from && r.from > 0 })
		if len(ends) == 0 {
			first++
			continue
		}
		end, muted := -1, ""
		for _, e := range ends {
			free := true
			for _, g := range guards {
				if r.mutes(g, p, first, e, inside) {
					free = false
					if muted == "" && e == ends[0] {
						muted = g.name
					}
				}
			}
			if free {
				end, muted = e, ""
				break
			}
		}
		if end < 0 {
			if lastEnd <= first {
				list = append(list, fmt.Sprint(p.Name, first, ends[0], muted))
				lastEnd, lastInside = ends[0], true
			}
			first++
			continue
		}
		for _, g := range guards {
			if r.mutes(g, p, first, end, within) || r.mutes(g, p, first, end, before) || r.mutes(g, p, first, end, after) || r.mutes(g, p, first, end, near) {
				muted = g.name
				break
			}
		}
		if lastInside && lastEnd > first {
			list = list[:len(list)-1]
		}
		list = append(list, fmt.Sprint(p.Name, first, end, muted))
		lastEnd, lastInside = end, false
		first = end
	}
	return list
}

var smallWords = []string{"a", "b", "c", "abc", "abd", "x"}

// drawPhrase makes a random phrase that parses, of few words so that it often
// matches.
func drawPhrase(t *rapid.T, depth int, classes []string) string {
	n := rapid.IntRange(1, 3).Draw(t, "elements")
	var parts []string
	for i := range n {
		k := rapid.IntRange(0, 12).Draw(t, "kind")
		if depth == 0 && k > 6 {
			k = 0
		}
		switch {
		case k == 1:
			parts = append(parts, "ab*")
		case k == 2 && i > 0:
			parts = append(parts, "*")
		case k == 3 && i > 0 && i < n-1 && !strings.HasPrefix(parts[i-1], "~"):
			lo := rapid.IntRange(0, 2).Draw(t, "lo")
			parts = append(parts, fmt.Sprintf("~%d-%d", lo, lo+rapid.IntRange(1, 3).Draw(t, "more")))
		case k == 4 && len(classes) > 0:
			parts = append(parts, "<"+rapid.SampledFrom(classes).Draw(t, "class")+">")
		case k == 5:
			parts = append(parts, "{digits 2-4}")
		case k == 6 && i == 0:
			parts = append(parts, "^")
		case k == 7 || k == 8:
			parts = append(parts, "("+drawPhrase(t, depth-1, classes)+" | "+drawPhrase(t, depth-1, classes)+")")
		case k == 9:
			parts = append(parts, "["+drawPhrase(t, depth-1, classes)+"]")
		case k == 10:
			parts = append(parts, fmt.Sprintf("{near %d: %s; %s}", rapid.IntRange(0, 3).Draw(t, "gap"),
				drawPhrase(t, depth-1, classes), drawPhrase(t, depth-1, classes)))
		case k == 11:
			parts = append(parts, fmt.Sprintf("{before %d: %s; %s}", rapid.IntRange(0, 3).Draw(t, "gap"),
				drawPhrase(t, depth-1, classes), drawPhrase(t, depth-1, classes)))
		case k == 12 && i == n-1 && i > 0:
			parts = append(parts, "$")
		default:
			parts = append(parts, rapid.SampledFrom(smallWords).Draw(t, "word"))
		}
	}
	return strings.Join(parts, " ")
}

func drawGuard(t *rapid.T, name string) string {
	g := fmt.Sprintf("  - name: %s\n", name)
	kind := rapid.SampledFrom([]string{"inside", "within", "near", "before", "after"}).Draw(t, "relation")
	part := func(key string) string {
		return fmt.Sprintf("    %s: {phrase: '%s', words: %d}\n", key, drawPhrase(t, 1, nil), rapid.IntRange(0, 4).Draw(t, "words"))
	}
	if kind == "inside" || kind == "within" {
		g += fmt.Sprintf("    %s: '%s'\n", kind, drawPhrase(t, 1, nil))
	} else {
		g += part(kind)
	}
	if rapid.Bool().Draw(t, "unless") {
		g += part("unless")
	}
	return g
}

func TestMatcherAgreesWithTheReference(t *testing.T) {
	compiled, hits, muted := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := "tactic: otp_request\nlanguage: en\nversion: 1\npoints: 1\nclasses:\n"
		text += fmt.Sprintf("  k: ['%s', '%s']\n", drawPhrase(t, 1, nil), drawPhrase(t, 0, nil))
		text += fmt.Sprintf("  l: ['%s', '%s']\n", drawPhrase(t, 1, []string{"k"}), drawPhrase(t, 0, nil))
		text += "patterns:\n"
		for i := range 2 {
			text += fmt.Sprintf("  - {name: p%d, phrases: ['%s', '%s']}\n", i, drawPhrase(t, 2, []string{"k", "l"}), drawPhrase(t, 1, []string{"l"}))
		}
		text += "guards:\n" + drawGuard(t, "g") + drawGuard(t, "h")
		pack, err := ParsePack("p.yaml", []byte(text))
		if err != nil {
			return // a gap may stand at an edge
		}
		set, err := Compile([]*Pack{pack}, nil, nil)
		if err != nil {
			return // it may match no words, or any
		}
		compiled++
		matcher := set.NewMatcher()
		for range 3 {
			tokens := drawTokens(t)
			from := 0
			if rapid.Bool().Draw(t, "window") {
				from = rapid.IntRange(0, len(tokens)).Draw(t, "from")
			}
			ref := &reference{tokens: tokens, from: from, classes: map[string]*class{}}
			for _, c := range pack.classes {
				ref.classes[c.name] = c
			}
			var want, got []string
			for _, p := range pack.Patterns {
				want = append(want, ref.matches(p, []*guardDef{pack.guards[0].def, pack.guards[1].def})...)
			}
			for _, m := range matcher.MatchFrom(tokens, from, false, nil) {
				got = append(got, fmt.Sprint(m.Pattern.Name, m.First, m.Last+1, m.Muted))
				hits++
				if m.Muted != "" {
					muted++
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s\ntokens %q from %d\n got %q\nwant %q", text, tokens, from, got, want)
			}
		}
	})
	if compiled == 0 || hits == 0 || muted == 0 {
		t.Errorf("compiled %d packs, %d matches, %d muted: the test tests nothing", compiled, hits, muted)
	}
}

// drawTokens makes texts of all lengths: short ones, and those that need more
// than one block.
func drawTokens(t *rapid.T) []string {
	n := rapid.SampledFrom([]int{3, 8, 20, 62, 63, 64, 65, 100, 200}).Draw(t, "length")
	seed := rapid.Uint64().Draw(t, "seed")
	words := append([]string{"q", "r", "s", "seven", "4"}, smallWords...)
	// One draw for all: rapid is slow by the draw.
	r := rand.New(rand.NewPCG(seed, 1))
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = words[r.IntN(len(words))]
	}
	return tokens
}
