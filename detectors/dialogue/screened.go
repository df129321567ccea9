package dialogue

import (
	"slices"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/screen"
	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// What is heard against a closed list waits for the open vocabulary to hear the
// same stretch of the leg. Where that finds something there, its finding is the
// one that is told, and counts in full; where it does not, or is not listening,
// what was screened counts little.
const (
	// screenedPoints is the most that a finding of the screen alone weighs: a
	// notice.
	screenedPoints = 1.0
	// Hits of less worth are not told where the open vocabulary heard nothing,
	// and where it heard something else.
	screenedWorth, contestedWorth = 0.6, 1.5
	// patience is how long the open vocabulary has to hear what the screen
	// heard: a call that is woken is transcribed from half a minute before, and
	// what was told by then would be told again.
	patience = 35 * time.Second
	// about is how far the two ways of hearing may differ in time.
	about = time.Second
)

// screened is what a call's closed lists heard.
type screened struct {
	finder  *screen.Finder // nil before the first segment
	hits    []screen.Hit
	pending []pendingHit
	numbers []mark           // digits that wait
	now     time.Duration    // how far any leg was heard in any way
	open    [3]time.Duration // how far the open vocabulary was final
	words   [3]window        // the end of what it heard
	found   []placed         // what it found in the last minute
}

// pendingHit is a hit that waits.
type pendingHit struct {
	id      id
	finding detectors.Finding
	worth   float64
}

// screen takes what was heard against the list of phrases.
func (d *Detector) screen(seg transcribe.Segment) {
	s := &d.screened
	if !seg.Final || len(seg.Words) == 0 {
		return
	}
	if s.finder == nil {
		s.finder = screen.NewFinder(d.set)
	}
	s.hits = s.finder.Hits(seg, s.hits[:0])
	for i := range s.hits {
		h := &s.hits[i]
		p := h.Pattern
		if h.Worth < screenedWorth || p.LastSeconds > 0 || p.Count != nil || !d.sayable(seg.Leg, p.Who) ||
			d.conditions(p, seg.Leg, span{h.Start, h.End}, d.turnOf(seg.Leg), true) != fits {
			continue
		}
		f := detectors.Finding{
			Tactic: p.Tactic, Stage: p.Stage, Leg: seg.Leg, Utterance: seg.Utterance,
			Start: h.Start, End: h.End, Words: h.Words, Confidence: h.Confidence,
			Weight: min(p.Points, screenedPoints), Rule: p.Rule(), Pack: p.Pack.ID(),
		}
		s.pending = append(s.pending, pendingHit{id{p.Tactic, seg.Leg, seg.Utterance, i}, f, h.Worth})
	}
}

// number takes what was heard against the list of digits.
func (d *Detector) number(seg transcribe.Segment) {
	if !seg.Final || len(seg.Words) == 0 {
		return
	}
	var w window
	w.take(seg)
	for _, r := range spoken.Runs(w.tokens, nil) {
		at := w.span(r.First, r.Last)
		d.screened.numbers = append(d.screened.numbers, mark{
			kind: digitsRun, at: at.start, end: at.end, leg: seg.Leg, utterance: seg.Utterance,
			count: r.Count, words: w.text(r.First, r.Last), confidence: w.confidence(r.First, r.Last),
		})
	}
}

// openly notes what the open vocabulary has heard for good, and found.
func (d *Detector) openly(seg transcribe.Segment) {
	s := &d.screened
	s.open[seg.Leg] = max(s.open[seg.Leg], seg.End)
	w := &s.words[seg.Leg]
	w.tokens = append(w.tokens, d.fresh()...)
	w.words = append(w.words, d.window.words[d.window.from:]...)
	if n := len(w.tokens) - memorySize; n > 0 {
		w.tokens, w.words = slices.Delete(w.tokens, 0, n), slices.Delete(w.words, 0, n)
	}
	s.found = slices.DeleteFunc(s.found, func(p placed) bool { return s.now-p.span.end > time.Minute })
	for i := range d.out {
		if f := &d.out[i]; f.State == detectors.Confirmed {
			s.found = append(s.found, placed{f.Tactic, f.Leg, span{f.Start, f.End}})
		}
	}
}

// explained reports whether the open vocabulary found something in a stretch
// of a leg, be it another tactic or one that a guard mutes.
func (s *screened) explained(side audio.Leg, at span) bool {
	return slices.ContainsFunc(s.found, func(p placed) bool {
		return p.leg == side && p.span.start <= at.end+about && p.span.end >= at.start-about
	})
}

// compare decides on what waits, where the open vocabulary has passed it or has
// had its time, or at the end of the call.
func (d *Detector) compare(end bool) {
	s := &d.screened
	for i := 0; i < len(s.numbers); {
		if m := s.numbers[i]; end || s.open[m.leg] >= m.end-about {
			s.numbers = slices.Delete(s.numbers, i, i+1)
			d.readBack(m)
			continue
		}
		i++
	}
	for i := 0; i < len(s.pending); {
		p := s.pending[i]
		at := span{p.finding.Start, p.finding.End}
		passed := s.open[p.id.leg] >= at.end+about
		if !passed && !end && (d.legs[p.id.leg].current >= 0 || s.now-at.end < patience) {
			i++
			continue
		}
		s.pending = slices.Delete(s.pending, i, i+1)
		if s.explained(p.id.leg, at) || passed && p.worth < contestedWorth || d.echoed(p.id.leg, p.id.tactic, at, false) {
			continue
		}
		d.end(p.id, p.finding, detectors.Confirmed)
		d.lately = append(d.lately, placed{p.id.tactic, p.id.leg, at})
	}
}

// readBack takes digits that were heard against the list of digits for what
// was said, if the open vocabulary heard numbers there too, though fewer of
// them, or nothing.
func (d *Detector) readBack(m mark) {
	at := span{m.at, m.end}
	for _, p := range d.lately {
		if p.leg == m.leg && answersAsk(p.tactic) && p.span.start <= at.end && p.span.end >= at.start {
			return // it is told already
		}
	}
	if len(d.marks) == 0 && len(d.hints) == 0 || !d.soundsLikeNumbers(m.leg, at) {
		return
	}
	count := 0
	m.turn = d.turn
	for i := range d.marks {
		switch o := &d.marks[i]; {
		case o.leg == m.leg && o.count > 0 && o.at <= at.end && o.end >= at.start:
			count += o.count
			m.turn = o.turn
		case o.at <= m.at && o.leg == m.leg:
			m.turn = o.turn
		}
	}
	if count >= m.count {
		return
	}
	d.marks = slices.DeleteFunc(d.marks, func(o mark) bool {
		return o.leg == m.leg && o.count > 0 && o.at <= at.end && o.end >= at.start
	})
	d.marks = insert(d.marks, m)
	d.confirmHits()
}

// answersAsk reports whether a tactic may be found by digits that are read out.
func answersAsk(tactic string) bool {
	all := answers()
	return slices.ContainsFunc(all[:], func(a answer) bool { return a.tactic == tactic })
}

// soundsLikeNumbers reports whether at least half of the words that the open
// vocabulary heard in a stretch of a leg are numbers or sound like them.
func (d *Detector) soundsLikeNumbers(side audio.Leg, at span) bool {
	w := &d.screened.words[side]
	first, last := len(w.tokens), 0
	for i := range w.tokens {
		if mid := (w.words[i].start + w.words[i].end) / 2; mid >= at.start && mid <= at.end {
			first, last = min(first, i), i+1
		}
	}
	if first >= last {
		return true
	}
	tokens := w.tokens[first:last]
	alike := 0
	for _, t := range tokens {
		if soundsLikeDigit(t) {
			alike++
		}
	}
	for _, r := range spoken.Runs(tokens, nil) {
		alike += r.Last - r.First + 1
	}
	return 2*alike >= len(tokens)
}

// soundsLikeDigit reports whether a recogniser writes tok for a digit that is
// said by itself.
func soundsLikeDigit(tok string) bool {
	switch tok {
	case "for", "to", "too", "won", "ate", "o", "free", "tree", "fife", "sex", "sick", "six's", "heaven", "mine", "nein", "night",
		"fine", "hi", "sir", "hero", "zeros", "uh", "um", "huh", "fire":
		return true
	}
	return false
}
