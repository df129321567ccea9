package phrase

import (
	"math/bits"
	"slices"

	"github.com/callwarden/callwarden/detectors/spoken"
)

// Match is one pattern found in a text.
type Match struct {
	Pattern     *Pattern
	First, Last int    // token indices, inclusive
	Muted       string // name of the guard that took its weight, or empty
	Mood        Mood   // of the clause in which it begins
}

// Matcher finds patterns in the texts of one call. It belongs to one goroutine
// and keeps its set for life: a reload makes a new set, and new calls new
// matchers.
//
// Positions in a text are bits: bit i of a set of positions stands before
// token base+i. An element maps the positions where it begins to those where
// it may end, all at once, so that a phrase costs a few instructions per
// element whatever the text is. A match is at most 60 words, hence 64 bits hold
// every position of a match; texts longer than 63 tokens are read in steps.
type Matcher struct {
	set *Set

	// of the text
	tokens  []string
	flat    []int32 // atoms of all tokens
	starts  []int32 // of token i: flat[starts[i]:starts[i+1]]
	from    int     // matches end at or after this token; ^ also holds here
	runs    []spoken.Run
	numbers []number
	counted bool // numbers are found

	// of the block of tokens that is looked at
	base    int
	size    int      // tokens in it
	valid   uint64   // bits of its tokens
	occ     []uint64 // atom: the tokens that have it
	touched []int32  // atoms whose occ is not zero
	blocked uint64   // tokens that words and numbers may not use
	laid    uint32   // which block it is, of all so far
	memos   []memo   // of alternatives, by inst.memo

	epoch   uint32   // of the text
	said    []uint32 // atom: epoch in which a token had it
	clause  []uint32 // epoch in which the text had a word of it
	listed  []uint32 // clause: epoch in which its programs were listed
	anyMood bool     // moods are not asked for
	ready   []int32  // programs whose clauses are all found
}

// memo is what the block has of an alternative.
type memo struct {
	laid  uint32 // the block that it is of
	words uint64 // tokens that are one of its plain words
	live  uint64 // which of its first 64 phrases have all their words there
}

// NewMatcher returns scratch for one search at a time.
func (s *Set) NewMatcher() *Matcher {
	return &Matcher{
		set: s, occ: make([]uint64, s.atoms.count), said: make([]uint32, s.atoms.count),
		clause: make([]uint32, len(s.clauses)), listed: make([]uint32, len(s.clauses)),
		memos: make([]memo, s.memos),
	}
}

// MatchFrom is [Matcher.MatchFrom] with the scratch that an earlier search has
// left. A call searches a few times a second, and the scratch for the packs in
// the box takes 180 KB: calls that are many share it. It may be called from any
// goroutine.
func (s *Set) MatchFrom(tokens []string, from int, question bool, dst []Match) []Match {
	var m *Matcher
	select {
	case m = <-s.idle:
	default:
		m = s.NewMatcher()
	}
	dst = m.MatchFrom(tokens, from, question, dst)
	m.tokens = nil // whoever has them may change them
	select {
	case s.idle <- m:
	default:
	}
	return dst
}

// Match appends to dst the matches in tokens, which [Tokenize] made: pattern by
// pattern in the order of the packs, leftmost first, shortest from there, and
// those of one pattern never overlapping. question says that the text has a
// question mark. Nothing is allocated when nothing matches.
//
// The work is bounded by the product of tokens and elements of the patterns
// that come into question; a pack cannot make it more.
func (m *Matcher) Match(tokens []string, question bool, dst []Match) []Match {
	return m.MatchFrom(tokens, 0, question, dst)
}

// MatchFrom is Match over a window: tokens before from were said earlier and
// were searched then. Every match ends at from or later; guards see all tokens,
// and ^ holds at from too.
func (m *Matcher) MatchFrom(tokens []string, from int, question bool, dst []Match) []Match {
	m.read(tokens, from)
	m.candidates()
	for i := 0; i < len(m.ready); {
		r := m.set.progs[m.ready[i]].rule
		j := i + 1
		for j < len(m.ready) && m.set.progs[m.ready[j]].rule == r {
			j++
		}
		dst = m.rule(&m.set.rules[r], m.ready[i:j], question, dst)
		i = j
	}
	m.tokens = nil
	return dst
}

// read takes a text in: the atoms of its tokens, and its first block.
func (m *Matcher) read(tokens []string, from int) {
	m.tokens, m.from = tokens, from
	m.flat, m.starts = m.flat[:0], append(m.starts[:0], 0)
	m.numbers, m.counted = m.numbers[:0], false
	for _, t := range tokens {
		m.flat = m.set.atoms.of(t, m.flat)
		m.starts = append(m.starts, int32(len(m.flat)))
	}
	m.base = -1
	m.move(0)
}

const blockTokens = 63 // one bit more is the position after the last

// move lays the block at a token.
func (m *Matcher) move(base int) {
	if len(m.tokens) <= blockTokens {
		base = 0
	}
	if base == m.base {
		return
	}
	for _, a := range m.touched {
		m.occ[a] = 0
	}
	m.touched = m.touched[:0]
	if m.laid++; m.laid == 0 {
		clear(m.memos)
		m.laid = 1
	}
	m.base, m.size = base, min(len(m.tokens)-base, blockTokens)
	m.valid = 1<<m.size - 1
	for i := range m.size {
		for _, a := range m.flat[m.starts[base+i]:m.starts[base+i+1]] {
			if m.occ[a] == 0 {
				m.touched = append(m.touched, a)
			}
			m.occ[a] |= 1 << i
		}
	}
}

// candidates lists the programs that the text has a word of each clause for.
// It starts from the clause of each that is heard most rarely: common words
// then cost nothing, which halves the time of a quiet segment.
func (m *Matcher) candidates() {
	m.ready = m.ready[:0]
	if m.epoch++; m.epoch == 0 {
		clear(m.said)
		clear(m.clause)
		clear(m.listed)
		m.epoch = 1
	}
	for _, a := range m.flat {
		if m.said[a] == m.epoch {
			continue
		}
		m.said[a] = m.epoch
		for _, c := range m.set.members[a] {
			m.clause[c] = m.epoch
		}
	}
	for _, a := range m.flat {
		for _, c := range m.set.triggers[a] {
			if m.listed[c] == m.epoch {
				continue // another word of it was here
			}
			m.listed[c] = m.epoch
		programs:
			for _, p := range m.set.clauses[c].programs {
				for _, need := range m.set.progs[p].clauses[1:] {
					if m.clause[need] != m.epoch {
						continue programs
					}
				}
				m.ready = append(m.ready, p)
			}
		}
	}
	slices.Sort(m.ready)
}

// rule finds the matches of a pattern through those of its programs that come
// into question.
func (m *Matcher) rule(r *rule, progs []int32, question bool, dst []Match) []Match {
	mine := len(dst)
	for next := 0; ; {
		first, ends := m.leftmost(progs, next)
		if ends == 0 {
			return dst
		}
		// The block holds all ends: in a long text it was laid at first.
		end := m.base + bits.TrailingZeros64(ends)
		muted := ""
		if r.insides {
			end, muted = m.notInside(r, progs, first, ends)
		}
		mood := moodOf(m.tokens, first, question)
		if !r.pattern.Moods.Has(mood) && !m.anyMood {
			next = first + 1
			continue
		}
		match := Match{Pattern: r.pattern, First: first, Last: end - 1, Muted: muted, Mood: mood}
		if muted != "" {
			// Only some words of it are another thing's: a match that begins
			// later may do without them.
			next = first + 1
			if n := len(dst); n > mine && dst[n-1].Last >= first {
				continue
			}
			dst = append(dst, match)
			continue
		}
		match.Muted = m.mutedBy(r, first, end)
		if n := len(dst); n > mine && dst[n-1].Last >= first {
			n--
			dst = dst[:n] // the muted one that it overlaps says nothing any more
		}
		dst = append(dst, match)
		next = end
	}
}

// leftmost finds the first start, at next or later, from which any of the
// programs matches, and the positions where it may end.
func (m *Matcher) leftmost(progs []int32, next int) (first int, ends uint64) {
	span := 0
	for _, p := range progs {
		span = max(span, m.set.progs[p].span)
	}
	n := len(m.tokens)
	for next < n {
		m.move(next)
		// Starts of this block from which the longest match fits into it.
		to := m.base + m.size
		if to < n {
			to -= span - 1
		}
		starts := between(next-m.base, to-m.base)
		if m.run(progs, starts) == 0 {
			next = to
			continue
		}
		for starts&(starts-1) != 0 {
			half := lowerHalf(starts)
			if m.run(progs, half) != 0 {
				starts = half
			} else {
				starts &^= half
			}
		}
		first = m.base + bits.TrailingZeros64(starts)
		m.move(first)
		return first, m.run(progs, 1<<(first-m.base))
	}
	return 0, 0
}

// between is the bits from lo up to and without hi.
func between(lo, hi int) uint64 {
	lo, hi = max(lo, 0), min(hi, 64)
	if lo >= hi {
		return 0
	}
	return ^uint64(0) >> (64 - hi) &^ (1<<lo - 1)
}

// lowerHalf is the lower half of the range that the bits of s span.
func lowerHalf(s uint64) uint64 {
	lo, hi := bits.TrailingZeros64(s), 64-bits.LeadingZeros64(s)
	return s & between(lo, (lo+hi)/2)
}

// run is where the programs may end that begin at starts.
func (m *Matcher) run(progs []int32, starts uint64) uint64 {
	var ends uint64
	for _, p := range progs {
		ends |= m.eval(m.set.progs[p].root, starts)
	}
	if m.from > 0 {
		ends &= between(m.from+1-m.base, 64)
	}
	return ends
}

// eval maps the positions where in begins to those where it may end.
func (m *Matcher) eval(in *inst, s uint64) uint64 {
	switch in.kind {
	case kindWord:
		free := ^m.blocked
		for _, a := range in.atoms {
			if s &= m.occ[a] & free; s == 0 {
				return 0
			}
			s <<= 1
		}
		return s
	case kindSeq:
		for _, k := range in.kids {
			if s = m.eval(k, s); s == 0 {
				return 0
			}
		}
		return s
	case kindAlt:
		has := m.recall(in)
		ends := s & has.words &^ m.blocked << 1
		for live := has.live; live != 0; live &= live - 1 {
			ends |= m.eval(in.kids[bits.TrailingZeros64(live)], s)
		}
		for i := 64; i < len(in.kids); i++ {
			ends |= m.eval(in.kids[i], s)
		}
		return ends
	case kindOpt:
		return s | m.eval(in.kids[0], s)
	case kindAny:
		return s & m.valid << 1
	case kindGap:
		for range in.lo {
			s = s & m.valid << 1
		}
		ends := s
		for range in.hi - in.lo {
			s = s & m.valid << 1
			ends |= s
		}
		return ends
	case kindDigits, kindNumber, kindAmount:
		return m.evalNumber(in, s)
	case kindBegin:
		return s & (between(-m.base, 1-m.base) | between(m.from-m.base, m.from+1-m.base))
	case kindEnd:
		n := len(m.tokens) - m.base
		return s & between(n, n+1)
	}
	return 0
}

// recall is what the block has of an alternative. Most have nothing, and are
// asked for by many phrases: remembering it takes a third off a quiet segment.
func (m *Matcher) recall(in *inst) memo {
	has := &m.memos[in.memo]
	if has.laid == m.laid {
		return *has
	}
	*has = memo{laid: m.laid}
	for _, a := range in.atoms {
		has.words |= m.occ[a]
	}
	for i, k := range in.kids[:min(64, len(in.kids))] {
		if k.kind != kindWord || m.hasAll(k.atoms) {
			has.live |= 1 << i
		}
	}
	return *has
}

// hasAll reports whether the block has each of the atoms.
func (m *Matcher) hasAll(atoms []int32) bool {
	for _, a := range atoms {
		if m.occ[a] == 0 {
			return false
		}
	}
	return true
}

func (m *Matcher) evalNumber(in *inst, s uint64) uint64 {
	if !m.counted {
		m.counted = true
		m.numbersIn(m.tokens)
	}
	var ends uint64
	for i := range m.numbers {
		n := &m.numbers[i]
		length := n.last + 1 - n.first
		at := n.first - m.base
		if n.kind != in.kind || n.value < float64(in.lo) || n.value > float64(in.hi) || length > in.span ||
			at < 0 || at+length > blockTokens || s&(1<<at) == 0 || m.blocked&between(at, at+length) != 0 {
			continue
		}
		ends |= 1 << (at + length)
	}
	return ends
}
