package dialogue

import (
	"slices"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// opened is a finding that was published as provisional.
type opened struct {
	id      id
	finding detectors.Finding
	pattern *phrase.Pattern // nil for read-backs
}

// lateAsk is how long an ask may become final after what complies with it: its
// speaker goes on talking while the other side acts.
const lateAsk = 15 * time.Second

// waiting is a finding of a final segment that would be confirmed had its ask
// been. It is confirmed if the ask comes within lateAsk. If it is published, it
// is taken back when the utterances that were open then have ended: no other
// can hold the ask.
type waiting struct {
	id      id
	finding detectors.Finding
	pattern *phrase.Pattern // nil for read-backs
	turn    int
	until   [3]int // by leg; -1 where no utterance was open
}

// publish reports a finding as provisional, once.
func (d *Detector) publish(key id, f detectors.Finding, p *phrase.Pattern) {
	if f.Weight == 0 || d.ended[key] || d.faint(p) || slices.ContainsFunc(d.open, func(o opened) bool { return o.id == key }) {
		return
	}
	f.ID, f.State = key.String(), detectors.Provisional
	d.open = append(d.open, opened{key, f, p})
	d.report(f)
}

// report publishes a finding. Patterns without points are there for others to
// come after ("we sent you a code"): they are remembered and not published.
func (d *Detector) report(f detectors.Finding) {
	if f.Weight > 0 {
		d.out = append(d.out, f)
	}
}

// end reports a finding for the last time, once.
func (d *Detector) end(key id, f detectors.Finding, s detectors.State) {
	if d.ended[key] {
		return
	}
	d.ended[key] = true
	d.open = slices.DeleteFunc(d.open, func(o opened) bool { return o.id == key })
	f.ID, f.State = key.String(), s
	d.report(f)
}

// accept confirms a finding and remembers it for those that come after it.
func (d *Detector) accept(key id, f detectors.Finding, p *phrase.Pattern, turn int) {
	cue := f.Weight == 0 // only patterns that come after it know of it
	switch {
	case cue:
	case f.Muted != "":
		d.end(key, f, detectors.Confirmed)
	case d.faint(p):
		d.kept = append(d.kept, waiting{id: key, finding: f, pattern: p, turn: turn})
	default:
		if p != nil && (p.Stage == detectors.Ask || p.Stage == detectors.Instruct) {
			d.tell(f.Tactic)
		}
		d.end(key, f, detectors.Confirmed)
	}
	if f.Muted != "" {
		return
	}
	if cue {
		d.memory = append(d.memory, heard{p, f.Leg, f.End, turn, false})
		return
	}
	if f.Stage == detectors.Lure && f.Tactic != "impersonation" && f.Weight > 1 {
		d.ticket.lured[f.Leg] = true
	}
	d.lately = append(d.lately, placed{f.Tactic, f.Leg, span{f.Start, f.End}})
	d.memory = append(d.memory, heard{p, f.Leg, f.End, turn, false})
	if isAsk(f, p) {
		if f.Tactic == "gift_card_request" {
			d.cards.asked[f.Leg] = true
		}
		d.marks = insert(d.marks, askMark(f, turn))
		d.asked = true
	}
}

// retract takes back what is published of an utterance.
func (d *Detector) retract(side audio.Leg, utterance int) {
	for i := 0; i < len(d.open); {
		if o := d.open[i]; o.id.leg == side && o.id.utterance == utterance {
			d.end(o.id, o.finding, detectors.Retracted)
			continue
		}
		i++
	}
}

// hold keeps the findings of an utterance open whose ask may still become
// final, and takes back the others that were not confirmed.
func (d *Detector) hold(side audio.Leg, utterance int) {
	for i := 0; i < len(d.open); {
		o := d.open[i]
		if o.id.leg != side || o.id.utterance != utterance {
			i++
			continue
		}
		held := slices.ContainsFunc(d.waiting, func(w waiting) bool { return w.id == o.id })
		if !held && o.pattern == nil {
			d.waiting = append(d.waiting, waiting{id: o.id, finding: o.finding, turn: d.turn, until: d.openUtterances(side)})
			held = true
		}
		if !held {
			d.end(o.id, o.finding, detectors.Retracted)
			continue
		}
		i++
	}
}

// openUtterances lists the utterances of the other legs that are unfinished.
func (d *Detector) openUtterances(side audio.Leg) [3]int {
	until := [3]int{-1, -1, -1}
	for i := range d.legs {
		if audio.Leg(i) != side {
			until[i] = d.legs[i].current
		}
	}
	return until
}

// settle confirms what waits and has its ask now, and drops what can have none
// any more.
func (d *Detector) settle() {
	for again := true; again; {
		again = false
		for i := 0; i < len(d.waiting); i++ {
			w := d.waiting[i]
			if w.pattern == nil || d.ended[w.id] || d.conditions(w.pattern, w.id.leg, span{w.finding.Start, w.finding.End}, w.turn, false) != fits {
				continue
			}
			d.waiting = slices.Delete(d.waiting, i, i+1)
			i--
			d.accept(w.id, w.finding, w.pattern, w.turn)
			d.confirmHits()
			again = true
		}
	}
	d.waiting = slices.DeleteFunc(d.waiting, func(w waiting) bool {
		if d.ended[w.id] {
			return true
		}
		published := slices.ContainsFunc(d.open, func(o opened) bool { return o.id == w.id })
		if !published {
			return d.clock-w.finding.End > lateAsk
		}
		for i, u := range w.until {
			if u >= 0 && d.legs[i].done < u {
				return false
			}
		}
		d.end(w.id, w.finding, detectors.Retracted)
		return true
	})
}

// echoed reports whether a tactic was found at the same time on another leg.
func (d *Detector) echoed(side audio.Leg, tactic string, at span, provisional bool) bool {
	for _, p := range d.lately {
		if p.leg != side && p.tactic == tactic && p.span.covers(at) {
			return true
		}
	}
	if provisional {
		for _, o := range d.open {
			if o.id.leg != side && o.id.tactic == tactic && (span{o.finding.Start, o.finding.End}).covers(at) {
				return true
			}
		}
	}
	return false
}

// echoWords is the least that two legs must say alike, at the same time, for
// it to be one voice: two people do say "okay thank you bye" at once.
const echoWords = 5

// isEcho reports whether the final segment repeats the last words of another
// leg, as it does in a fake stereo recording or over a speakerphone, and
// remembers that the legs do not tell who speaks.
func (d *Detector) isEcho(seg transcribe.Segment) bool {
	mine := d.fresh()
	if len(mine) < echoWords {
		return d.mirror && d.repeats(seg, mine)
	}
	if !d.repeats(seg, mine) {
		return false
	}
	d.mirror = true
	return true
}

func (d *Detector) repeats(seg transcribe.Segment, mine []string) bool {
	for i := range d.legs {
		o := &d.legs[i]
		if audio.Leg(i) == seg.Leg || o.count == 0 || !o.said.covers(span{seg.Start, seg.End}) {
			continue
		}
		theirs := o.tail.tokens[max(0, len(o.tail.tokens)-o.count):]
		alike := 0
		for _, t := range mine {
			if slices.Contains(theirs, t) {
				alike++
			}
		}
		// Four words in five: the two copies are heard with different noise.
		if 5*alike >= 4*len(mine) && 5*alike >= 4*min(len(theirs), len(mine)) {
			return true
		}
	}
	return false
}
