package phrase

import "math/bits"

// notInside chooses among the ends of a match that begins at first: the
// shortest that no inside guard takes, or the shortest of all and the guard
// that takes it.
//
// An inside guard takes a match that cannot do without a word of the guard's
// phrase: "the promo code" takes "read me the promo code" and leaves "read me
// the promo code and the code we sent", where the second one will do.
func (m *Matcher) notInside(r *rule, progs []int32, first int, ends uint64) (end int, muted string) {
	shortest := m.base + bits.TrailingZeros64(ends)
	last := m.base + 64 - bits.LeadingZeros64(ends) - 1
	left := ends
	for _, g := range r.guards {
		p := g.parts[inside]
		if p == nil {
			continue
		}
		cover := m.cover(p, first, last)
		m.move(first)
		if cover == 0 {
			continue
		}
		m.blocked = cover
		free := m.run(progs, 1<<(first-m.base))
		m.blocked = 0
		for rest := left &^ free; rest != 0; rest &= rest - 1 {
			bit := rest & -rest
			end := m.base + bits.TrailingZeros64(bit)
			if !m.lifted(g, first, end) {
				left &^= bit
				if muted == "" && end == shortest {
					muted = g.name
				}
			}
			m.move(first)
		}
	}
	if left == 0 {
		return shortest, muted
	}
	return m.base + bits.TrailingZeros64(left), ""
}

// cover is the tokens, as bits of the block at first, that stand in a phrase of
// the guard part which overlaps [first, last).
func (m *Matcher) cover(p *guardProg, first, last int) uint64 {
	lo := max(0, first-p.root.span+1)
	if !m.occurs(p, lo, last, first+1, len(m.tokens)) {
		return 0
	}
	base := m.base
	if len(m.tokens) > blockTokens {
		base = first
	}
	var cover uint64
	for s := lo; s < last; s++ {
		m.move(s)
		if ends := m.eval(p.root, 1<<(s-m.base)); ends != 0 {
			end := m.base + 64 - bits.LeadingZeros64(ends) - 1
			cover |= between(s-base, end-base)
		}
	}
	return cover
}

// occurs reports whether the guard's phrase begins at a token from startLo up
// to and without startHi and ends before a position from endLo to endHi.
func (m *Matcher) occurs(p *guardProg, startLo, startHi, endLo, endHi int) bool {
	startLo, startHi = max(startLo, 0), min(startHi, len(m.tokens))
	for startLo < startHi {
		m.move(startLo)
		to := m.base + m.size
		if to < len(m.tokens) {
			to -= p.root.span - 1
		}
		to = min(to, startHi)
		ends := m.eval(p.root, between(startLo-m.base, to-m.base))
		if ends&between(endLo-m.base, endHi+1-m.base) != 0 {
			return true
		}
		startLo = to
	}
	return false
}

// mutedBy names the first guard that takes the weight of the match [first,
// end), by what stands in, before, after or near it.
func (m *Matcher) mutedBy(r *rule, first, end int) string {
	for _, g := range r.guards {
		if m.takes(g, first, end) && !m.lifted(g, first, end) {
			return g.name
		}
	}
	return ""
}

func (m *Matcher) takes(g *guard, first, end int) bool {
	if p := g.parts[within]; p != nil && m.occurs(p, first, end, first, end) {
		return true
	}
	if p := g.parts[before]; p != nil {
		// It begins before the match and may reach into it.
		if m.occurs(p, first-p.words-p.root.span, first, first-p.words, end) {
			return true
		}
	}
	if p := g.parts[after]; p != nil {
		// It ends behind the match and may begin in it.
		if m.occurs(p, first, end+p.words+1, end+1, len(m.tokens)) {
			return true
		}
	}
	return m.near(g.parts[near], first, end)
}

// lifted reports whether the guard's unless stands near the match.
func (m *Matcher) lifted(g *guard, first, end int) bool { return m.near(g.unless, first, end) }

func (m *Matcher) near(p *guardProg, first, end int) bool {
	return p != nil && m.occurs(p, first-p.words-p.root.span, end+p.words+1, first-p.words, len(m.tokens))
}
