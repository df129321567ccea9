package phrase

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Phrase is a run of words without gaps that a recogniser with a closed
// vocabulary can be asked to listen for.
type Phrase struct {
	Text    string
	Pattern *Pattern
	// Whole says that hearing the phrase is the whole match; otherwise it is a
	// piece of one, between gaps or numbers.
	Whole bool
}

// Phrases expands every pattern of the set to at most limit phrases in all,
// each pattern having its share. A text comes once, for the first pattern that
// says it, whole matches before pieces. Sound-alikes of classes are among them.
func (s *Set) Phrases(limit int) []Phrase {
	if len(s.patterns) == 0 || limit <= 0 {
		return nil
	}
	var lists [][]Phrase
	for _, p := range s.patterns {
		lists = append(lists, s.Expand(p, limit))
	}
	var out []Phrase
	seen := map[string]bool{}
	// Round by round, so that a pattern of few phrases leaves room to others.
	for round := 0; len(out) < limit; round++ {
		more := false
		for _, list := range lists {
			if round >= len(list) || len(out) == limit {
				continue
			}
			more = true
			if ph := list[round]; !seen[ph.Text] {
				seen[ph.Text] = true
				out = append(out, ph)
			}
		}
		if !more {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b Phrase) int {
		switch {
		case a.Whole == b.Whole:
			return 0
		case a.Whole:
			return -1
		}
		return 1
	})
	return out
}

// Expand lists at most limit phrases of a pattern of this set: first what its
// pack's examples say in its place, gaps filled as people fill them, then
// wordings of the pattern itself, evenly spread where there are too many. Gaps,
// numbers and * cut a wording into pieces, of which single words are left out.
func (s *Set) Expand(p *Pattern, limit int) []Phrase {
	var out []Phrase
	seen := map[string]bool{}
	put := func(words []string, whole bool) {
		text := strings.Join(words, " ")
		if len(out) < limit && !seen[text] && len(words) > 0 && (whole || len(words) > 1) {
			seen[text] = true
			out = append(out, Phrase{text, p, whole})
		}
	}
	m := s.NewMatcher()
	m.anyMood = true
	for _, ex := range p.Pack.Match {
		words, question := Tokenize(ex.Text, nil)
		for _, found := range m.Match(words, question, nil) {
			if found.Pattern == p && found.Muted == "" && !slices.ContainsFunc(words[found.First:found.Last+1], hasDigit) {
				put(words[found.First:found.Last+1], true)
			}
		}
	}
	w := wording{set: s}
	for i := range s.progs {
		if g := &s.progs[i]; s.rules[g.rule].pattern == p {
			share := max(1, (limit-len(out))/max(1, len(p.phrases)))
			w.sample(g.root, share, func(words []string) {
				for i, piece := range pieces(words) {
					put(piece, i == 0 && len(piece) == len(words))
				}
			})
		}
	}
	return out
}

// cut stands in a wording for words that are not known.
const cut = ""

func pieces(words []string) [][]string {
	var list [][]string
	for len(words) > 0 {
		i := slices.Index(words, cut)
		if i < 0 {
			i = len(words)
		}
		if i > 0 {
			list = append(list, words[:i])
		}
		words = words[min(i+1, len(words)):]
	}
	return list
}

// wording counts and makes the ways in which a compiled phrase can be said.
type wording struct {
	set *Set
	// fill replaces gaps, * and numbers by words that match them; otherwise
	// each is a cut. wide fills a gap with as many words as it takes.
	fill, wide bool
}

const manyWordings = 1 << 40

// sample yields at most limit wordings, evenly spread over all, and says
// whether these were all.
func (w wording) sample(in *inst, limit int, yield func(words []string)) (all bool) {
	n := w.count(in)
	if n <= uint64(limit) {
		for i := range n {
			yield(w.nth(in, i, nil))
		}
		return true
	}
	step := n/2 + n/8 | 1 // about the golden section, and without a common divisor
	for gcd(step, n) > 1 {
		step += 2
	}
	at := uint64(0)
	for range limit {
		yield(w.nth(in, at, nil))
		at = (at + step) % n
	}
	return false
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// count is how many wordings there are, not growing past manyWordings.
func (w wording) count(in *inst) uint64 {
	n := uint64(1)
	switch in.kind {
	case kindWord:
		for _, a := range in.atoms {
			n = times(n, uint64(len(w.set.atomWords[a])))
		}
	case kindSeq:
		for _, k := range in.kids {
			n = times(n, w.count(k))
		}
	case kindAlt:
		n = 0
		for _, a := range in.atoms {
			n += uint64(len(w.set.atomWords[a]))
		}
		for _, k := range in.kids {
			n = min(n+w.count(k), manyWordings)
		}
	case kindOpt:
		n += w.count(in.kids[0])
	}
	return n
}

func times(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi > 0 || lo > manyWordings {
		return manyWordings
	}
	return lo
}

// nth appends wording i.
func (w wording) nth(in *inst, i uint64, dst []string) []string {
	switch in.kind {
	case kindWord:
		for _, a := range in.atoms {
			words := w.set.atomWords[a]
			dst = append(dst, words[i%uint64(len(words))])
			i /= uint64(len(words))
		}
	case kindSeq:
		for _, k := range in.kids {
			n := w.count(k)
			dst = w.nth(k, i%n, dst)
			i /= n
		}
	case kindAlt:
		for _, a := range in.atoms {
			words := w.set.atomWords[a]
			if i < uint64(len(words)) {
				return append(dst, words[i])
			}
			i -= uint64(len(words))
		}
		for _, k := range in.kids {
			n := w.count(k)
			if i < n {
				return w.nth(k, i, dst)
			}
			i -= n
		}
	case kindOpt:
		if i > 0 {
			return w.nth(in.kids[0], i-1, dst)
		}
	case kindGap:
		return w.gap(in, dst)
	case kindAny:
		if w.fill {
			return append(dst, filler)
		}
		return append(dst, cut)
	case kindDigits, kindNumber, kindAmount:
		return w.number(in, dst)
	}
	return dst
}

// filler is a word that no pattern knows.
const filler = "ξ"

func (w wording) gap(in *inst, dst []string) []string {
	if !w.fill {
		return append(dst, cut)
	}
	n := in.lo
	if w.wide {
		n = in.hi
	}
	for range n {
		dst = append(dst, filler)
	}
	return dst
}

func (w wording) number(in *inst, dst []string) []string {
	if !w.fill {
		return append(dst, cut)
	}
	n := in.lo
	if w.wide {
		n = in.hi
	}
	switch in.kind {
	case kindDigits:
		for range n {
			dst = append(dst, "7")
		}
	case kindNumber:
		dst = append(dst, strconv.FormatInt(n, 10))
	case kindAmount:
		dst = append(dst, strconv.FormatInt(n, 10), "dollars")
	}
	return dst
}
