package dialogue

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// cluster is the matches of one tactic that overlap: they are one finding,
// told by the strongest of them.
type cluster struct {
	tactic      string
	first, last int // tokens of the window
	from, to    int // matches of the Detector, from up to and without to
	ordinal     int // among the clusters of the tactic in the utterance
}

// gather sorts the matches of the window into clusters, in the order in which
// they were said. Matches that the side cannot say, or that were reported
// before, are dropped; the rest keep their ordinals whatever their conditions.
func (d *Detector) gather(side audio.Leg, l *leg) {
	d.matches = slices.DeleteFunc(d.matches, func(m phrase.Match) bool {
		return !d.sayable(side, m.Pattern.Who) || d.reported(l, m) || d.isAnswer(m)
	})
	slices.SortStableFunc(d.matches, func(a, b phrase.Match) int {
		return cmp.Or(cmp.Compare(a.Pattern.Tactic, b.Pattern.Tactic), a.First-b.First, a.Last-b.Last)
	})
	d.clusters = d.clusters[:0]
	for i, m := range d.matches {
		if n := len(d.clusters); n > 0 {
			c := &d.clusters[n-1]
			if c.tactic == m.Pattern.Tactic && m.First <= c.last {
				c.last, c.to = max(c.last, m.Last), i+1
				continue
			}
			if c.tactic == m.Pattern.Tactic {
				d.clusters = append(d.clusters, cluster{c.tactic, m.First, m.Last, i, i + 1, c.ordinal + 1})
				continue
			}
		}
		d.clusters = append(d.clusters, cluster{m.Pattern.Tactic, m.First, m.Last, i, i + 1, 0})
	}
	slices.SortStableFunc(d.clusters, func(a, b cluster) int { return a.first - b.first })
}

// sayable reports whether a side can say what who must say. An unknown side
// can say everything.
func (d *Detector) sayable(side audio.Leg, who phrase.Who) bool {
	if side == audio.Unknown || d.mirror {
		return true
	}
	switch who {
	case phrase.ByCaller:
		return side == audio.Caller
	case phrase.ByCallee:
		return side == audio.Callee
	case phrase.ByProtected:
		return d.cfg.Protected == audio.Unknown || side == d.cfg.Protected
	case phrase.ByOther:
		return d.cfg.Protected == audio.Unknown || side != d.cfg.Protected
	}
	return true
}

// reported reports whether m begins in words of an earlier utterance that are
// part of an earlier finding as strong.
func (d *Detector) reported(l *leg, m phrase.Match) bool {
	if m.First >= d.window.from {
		return false
	}
	first, last := d.window.first+m.First, d.window.first+m.Last
	for _, f := range l.spoken {
		if f.tactic == m.Pattern.Tactic && f.first <= last && f.last >= first && f.points >= m.Pattern.Points {
			return true
		}
	}
	return false
}

// isAnswer reports whether m is a code that is read out. Packs know words
// around a code; whether its digits answer an ask is judged by [answer].
func (d *Detector) isAnswer(m phrase.Match) bool {
	if m.Pattern.Tactic != "otp_readback" {
		return false
	}
	for i := range d.runs {
		if r := &d.runs[i]; r.Count >= 2 && r.First+d.window.from <= m.Last && r.Last+d.window.from >= m.First {
			return true
		}
	}
	return false
}

// otherAsk is the guard of an ask for a code that is the code of something else
// which was asked for before: a gift card's, or a remote session's.
const otherAsk = "of-another-ask"

const (
	cardTime    = 3 * time.Minute
	sessionTime = 90 * time.Second
	plainAsk    = 3 // points of an ask that is not just a hint
)

// ofAnotherAsk reports whether a code that a side asks for is one of a card or
// session, as long as nobody speaks of one-time codes or of messages.
func (d *Detector) ofAnotherAsk(side audio.Leg, of *phrase.Match, at span, turn int) bool {
	now, _ := cuesOf(d.fresh())
	now |= d.told(side, -1, at.end, turn, time.Minute, 6)
	if now&codeNamed != 0 {
		return false
	}
	asked := func(p *phrase.Pattern, end time.Duration) bool {
		switch {
		case p.Points < plainAsk:
			return false
		case p.Tactic == "gift_card_request":
			return at.start-end < cardTime
		case p.Tactic == "remote_access_request":
			return at.start-end < sessionTime && now&byMessage == 0
		}
		return false
	}
	for i := range d.memory {
		if h := &d.memory[i]; asked(h.pattern, h.end) {
			return true
		}
	}
	for i := range d.matches {
		if m := &d.matches[i]; m.Muted == "" && m.Pattern.After == nil && (m.Last < of.First || m.First > of.Last) && asked(m.Pattern, at.start) {
			return true
		}
	}
	return false
}

// verdict is what the conditions of a match say.
type verdict uint8

const (
	never  verdict = iota
	atLast         // only the end of the call will tell
	early          // what has to come before may still turn out to have
	fits
)

// choose finds the match that tells a cluster: one that fits its conditions
// before one that does not, unmuted before muted, then the strongest, then the
// first. With provisional set, unfinished findings satisfy conditions too.
func (d *Detector) choose(side audio.Leg, l *leg, c *cluster, turn int, provisional bool) (best phrase.Match, v verdict) {
	for _, m := range d.matches[c.from:c.to] {
		at := d.window.span(m.First, m.Last)
		if m.Muted == "" && side != audio.Unknown && l.telling != "" && at.start < l.until && m.Pattern.Stage != detectors.Protective {
			m.Muted = l.telling
		}
		if m.Muted == "" && d.cards.covers(side, m.Pattern) {
			m.Muted = cardGuard
		}
		if m.Muted == "" && m.Pattern.Tactic == "otp_request" && m.Pattern.Points > 0 && m.Pattern.Name != "approve-the-prompt" && d.ofAnotherAsk(side, &m, at, turn) {
			m.Muted = otherAsk
		}
		is := d.conditions(m.Pattern, side, at, turn, provisional)
		if is == never || is < v {
			continue
		}
		better := is > v || best.Pattern == nil ||
			(best.Muted != "" && m.Muted == "") ||
			((best.Muted == "") == (m.Muted == "") && m.Pattern.Points > best.Pattern.Points)
		if better {
			best, v = m, is
		}
	}
	return best, v
}

// conditions judges when a pattern was said.
func (d *Detector) conditions(p *phrase.Pattern, side audio.Leg, at span, turn int, provisional bool) verdict {
	if p.FirstSeconds > 0 && at.start.Seconds() > p.FirstSeconds {
		return never
	}
	if p.After != nil && !d.follows(p.After, side, at, turn, provisional) {
		return early
	}
	if p.Count != nil && !d.counts(p, side, at, turn, provisional) {
		return never
	}
	if p.LastSeconds > 0 {
		return atLast
	}
	return fits
}

// follows reports whether what a pattern has to come after was heard.
func (d *Detector) follows(a *phrase.After, side audio.Leg, at span, turn int, provisional bool) bool {
	fit := func(p *phrase.Pattern, leg audio.Leg, end time.Duration, then int) bool {
		switch {
		case p == nil || p.Tactic != a.Tactic || (a.Pattern != "" && p.Name != a.Pattern) || p.Points < a.Points:
		case end > at.start || (a.Within > 0 && at.start-end > a.Within):
		case a.Turns > 0 && turn-then > a.Turns:
		case a.Leg == phrase.SameLeg && !d.same(leg, side), a.Leg == phrase.OtherLeg && !d.opposite(leg, side):
		default:
			return true
		}
		return false
	}
	for i := range d.memory {
		h := &d.memory[i]
		if !h.counted && fit(h.pattern, h.leg, h.end, h.turn) {
			return true
		}
	}
	if provisional {
		for i := range d.open {
			o := &d.open[i]
			if fit(o.pattern, o.id.leg, o.finding.End, turn) {
				return true
			}
		}
	}
	return false
}

// same and opposite compare the sides of two legs; where a side is unknown or
// both legs carry the same speech, every leg is both.
func (d *Detector) same(a, b audio.Leg) bool { return a == b || d.eitherSide(a, b) }

func (d *Detector) opposite(a, b audio.Leg) bool { return a != b || d.eitherSide(a, b) }

func (d *Detector) eitherSide(a, b audio.Leg) bool {
	return d.mirror || a == audio.Unknown || b == audio.Unknown
}

// counts remembers one more match of a counted pattern and reports whether
// there are enough of them.
func (d *Detector) counts(p *phrase.Pattern, side audio.Leg, at span, turn int, provisional bool) bool {
	n := 1
	for i := range d.memory {
		if h := &d.memory[i]; h.pattern == p && h.counted && (p.Count.Within == 0 || at.start-h.end <= p.Count.Within) {
			n++
		}
	}
	if !provisional {
		d.memory = append(d.memory, heard{p, side, at.end, turn, true})
	}
	return n >= p.Count.AtLeast
}

// heard is an unmuted match of a final segment.
type heard struct {
	pattern *phrase.Pattern
	leg     audio.Leg
	end     time.Duration
	turn    int
	counted bool // an occurrence of a pattern that counts, reported or not
}

// finding tells a match. Its state and id are set when it is published.
func (d *Detector) finding(seg transcribe.Segment, m phrase.Match) detectors.Finding {
	w := &d.window
	at := w.span(m.First, m.Last)
	p := m.Pattern
	f := detectors.Finding{
		Tactic:     p.Tactic,
		Stage:      p.Stage,
		Leg:        seg.Leg,
		Utterance:  seg.Utterance,
		Start:      at.start,
		End:        at.end,
		Words:      w.text(m.First, m.Last),
		Confidence: w.confidence(m.First, m.Last),
		Weight:     p.Points,
		Rule:       p.Rule(),
		Pack:       p.Pack.ID(),
		Muted:      m.Muted,
	}
	asker := seg.Leg
	if p.Stage == detectors.Comply && asker != audio.Unknown {
		asker = asker.Other()
	}
	if d.ticket.covers(asker) && f.Weight > 0 && (strings.HasPrefix(p.Tactic, "remote_access_") || d.ofSession(m)) {
		f.Weight = min(f.Weight, ticketPoints)
		f.Rule += ticketRule
	}
	return f
}

// ofSession reports whether m asks for a number or password that is one of a
// remote session: "read me the number on your screen" is both.
func (d *Detector) ofSession(m phrase.Match) bool {
	if t := m.Pattern.Tactic; t != "otp_request" && t != "credential_request" {
		return false
	}
	for i := range d.clusters {
		if c := &d.clusters[i]; c.tactic == "remote_access_request" && c.first <= m.Last && c.last >= m.First {
			return true
		}
	}
	return false
}
