// Package dialogue finds tactics over the turns of a call: phrases that span
// utterances, what follows what, and the other side doing what it was asked.
package dialogue

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// Recognisers end an utterance at half a second to a second of silence;
	// a speaker who says "read me" and then "the code" pauses no longer than
	// this in between.
	joinGap = 2500 * time.Millisecond
	// What the other side may say in a pause that does not end the thought:
	// "yes", "okay one moment".
	backchannel = 4 // words
	// Words of earlier utterances that a match may reach back into. The
	// longest gaps in the packs are below it.
	tailWords = 30
	// A provisional finding is published when so many words follow it, if the
	// hypothesis before did not hold it already: recognisers revise their last
	// word or two.
	settledWords = 2
	// Matches are remembered for conditions over time. No pack asks for more.
	memoryTime = 10 * time.Minute
	memorySize = 256
	// A victim who tells of an earlier call goes on telling: what follows a
	// reported ask on the same leg is reported too.
	tellingTime = 15 * time.Second
	// A role play lasts as long as a call's fraud would.
	lessonTime = 3 * time.Minute
)

// Config is what a call's detector must be told.
type Config struct {
	// Protected is the leg of the person whom callwarden protects; patterns
	// that only one side can say depend on it. Unknown lets both sides say
	// everything.
	Protected audio.Leg
}

// Detector finds the tactics of one call. It is used by one goroutine.
//
// What is confirmed depends on the final segments and their order alone, not
// on the unfinished ones before them, as long as an utterance that begins also
// ends. Ids are tactic, leg, utterance and ordinal, as in
// "otp_request:caller:3:0", or "otp_readback:callee:4:answer" for digits that
// answer an ask; keypad digits have utterances below zero.
type Detector struct {
	cfg     Config
	set     *phrase.Set
	legs    [3]leg
	speaker audio.Leg     // of the last final segment
	turn    int           // number of its turn
	clock   time.Duration // end of the latest final segment
	mirror  bool          // both legs carry the same speech

	memory  []heard     // matches of final segments, oldest first
	marks   []mark      // what read-backs are made of, by time
	asked   bool        // an ask was confirmed since the answers were looked for
	hints   []hint      // what was said of numbers before they are read out
	open    []opened    // published provisional, not ended
	ended   map[id]bool // confirmed or retracted
	waiting []waiting   // findings whose ask may not be final yet
	last    []waiting   // findings that count if the call ends soon
	kept    []waiting   // weak signs, until there are enough of them
	known   []string    // tactics of which there were
	lately  []placed    // tactics confirmed lately, to know them on the other leg
	ticket  ticket
	cards   ownCard
	keys    int // keypad digits so far

	screened screened

	// scratch of one Observe
	window   window
	matches  []phrase.Match
	runs     []spoken.Run
	codes    []spoken.Code
	clusters []cluster
	trial    []mark
	hits     []hit
	out      []detectors.Finding
}

var (
	_ detectors.Detector = (*Detector)(nil)
	_ detectors.Finisher = (*Detector)(nil)
)

// leg is what is known of one leg.
type leg struct {
	tail    window // the end of what was said
	closed  bool   // it ended with a full stop
	said    span   // the last final utterance, and how many words it had
	count   int
	spoken  []found // matches in the tail
	telling string  // the guard that found the leg reporting, until
	until   time.Duration
	current int  // utterance that is open, -1 for none
	done    int  // highest utterance that has ended
	before  []id // what the hypothesis before held
}

// id names a finding within a call.
type id struct {
	tactic    string
	leg       audio.Leg
	utterance int
	ordinal   int
}

// answerOrdinal sets a read-back apart from the phrases of the same tactic in
// the same utterance.
const answerOrdinal = -1

func (i id) String() string {
	ordinal := "answer"
	switch i.ordinal {
	case answerOrdinal:
	case understoodOrdinal:
		ordinal = "understood"
	default:
		ordinal = strconv.Itoa(i.ordinal)
	}
	return i.tactic + ":" + i.leg.String() + ":" + strconv.Itoa(i.utterance) + ":" + ordinal
}

// found is a match that was reported, in the leg's count of tokens.
type found struct {
	tactic      string
	first, last int
	points      float64
}

// placed is a tactic heard on a leg.
type placed struct {
	tactic string
	leg    audio.Leg
	span   span
}

// New returns the detector of a call that looks for the patterns of set.
func New(set *phrase.Set, cfg Config) *Detector {
	d := &Detector{cfg: cfg, set: set, ended: map[id]bool{}, turn: -1}
	for i := range d.legs {
		d.legs[i].current, d.legs[i].done = -1, -1
	}
	return d
}

// Observe takes the next segment of any leg. The findings belong to the
// caller. Segments of an utterance that has ended are ignored; an utterance
// that is left for the next without becoming final ends without words.
func (d *Detector) Observe(seg transcribe.Segment) []detectors.Finding {
	if int(seg.Leg) >= len(d.legs) {
		return nil
	}
	d.out = d.out[:0]
	d.screened.now = max(d.screened.now, seg.End)
	switch seg.Heard {
	case transcribe.Screened:
		d.screen(seg)
		d.compare(false)
		return d.take()
	case transcribe.AsNumbers:
		d.number(seg)
		d.compare(false)
		return d.take()
	case transcribe.Keyed:
		return d.Digits(seg.Leg, seg.Text, seg.End)
	}
	l := &d.legs[seg.Leg]
	if seg.Utterance <= l.done {
		return nil
	}
	if l.current >= 0 && l.current != seg.Utterance {
		d.abandon(seg.Leg, l)
		if seg.Utterance <= l.done {
			return d.take()
		}
	}
	d.read(seg, l)
	d.matches = d.set.MatchFrom(d.window.tokens, d.window.from, d.window.question, d.matches[:0])
	d.runs = spoken.Runs(d.fresh(), d.runs[:0])
	if seg.Final {
		d.final(seg, l)
		d.openly(seg)
	} else {
		l.current = seg.Utterance
		d.partial(seg, l)
	}
	d.compare(false)
	return d.take()
}

// Finish ends the call at a time of the media clock: what counts only at the
// end of a call is confirmed, and what is still open is retracted. Observe must
// not be called after it.
func (d *Detector) Finish(at time.Duration) []detectors.Finding {
	d.out = d.out[:0]
	for _, w := range d.last {
		if (at - w.finding.Start).Seconds() <= w.pattern.LastSeconds {
			d.accept(w.id, w.finding, w.pattern, w.turn)
		}
	}
	d.last = nil
	d.confirmHits()
	d.compare(true)
	for len(d.open) > 0 {
		d.end(d.open[0].id, d.open[0].finding, detectors.Retracted)
	}
	return d.take()
}

// take hands over what was found.
func (d *Detector) take() []detectors.Finding {
	if len(d.out) == 0 {
		return nil
	}
	return slices.Clone(d.out)
}

// fresh is the tokens of the segment itself.
func (d *Detector) fresh() []string { return d.window.tokens[d.window.from:] }

// abandon ends an utterance that never became final.
func (d *Detector) abandon(side audio.Leg, l *leg) {
	l.done, l.current, l.before = l.current, -1, l.before[:0]
	d.retract(side, l.done)
	d.settle()
}

// read lays the words of seg behind those of the leg that they continue.
func (d *Detector) read(seg transcribe.Segment, l *leg) {
	w := &d.window
	w.reset()
	gap := seg.Start - l.said.end
	if len(l.tail.tokens) > 0 && !l.closed && gap < joinGap && !d.interrupted(seg, l) {
		w.copyTail(&l.tail, tailWords)
	} else {
		w.first = l.tail.first + len(l.tail.tokens)
	}
	w.from = len(w.tokens)
	w.take(seg)
}

// interrupted reports whether somebody else said more than a word or two since
// the leg's last words.
func (d *Detector) interrupted(seg transcribe.Segment, l *leg) bool {
	if d.mirror {
		return false
	}
	for i := range d.legs {
		o := &d.legs[i]
		if audio.Leg(i) != seg.Leg && o.count > backchannel && o.said.end > l.said.end && o.said.start < seg.Start {
			return true
		}
	}
	return false
}

// turnOf is the turn that a segment of side belongs to if it is the next.
func (d *Detector) turnOf(side audio.Leg) int {
	if d.turn < 0 || side != d.speaker || side == audio.Unknown {
		return d.turn + 1
	}
	return d.turn
}

// partial publishes what stands firmly enough in an unfinished hypothesis.
func (d *Detector) partial(seg transcribe.Segment, l *leg) {
	if len(d.matches) == 0 && len(d.runs) == 0 {
		l.before = l.before[:0]
		return
	}
	d.gather(seg.Leg, l)
	turn := d.turnOf(seg.Leg)
	var now []id
	for i := range d.clusters {
		c := &d.clusters[i]
		m, verdict := d.choose(seg.Leg, l, c, turn, true)
		if verdict != fits || m.Muted != "" || d.echoed(seg.Leg, c.tactic, d.window.span(m.First, m.Last), true) {
			continue
		}
		key := id{c.tactic, seg.Leg, seg.Utterance, c.ordinal}
		now = append(now, key)
		if slices.Contains(l.before, key) || m.Last+settledWords < len(d.window.tokens) {
			d.publish(key, d.finding(seg, m), m.Pattern)
		}
	}
	for _, h := range d.trialHits(seg) {
		key := h.key()
		now = append(now, key)
		if slices.Contains(l.before, key) {
			d.publish(key, h.finding(), nil)
		}
	}
	l.before = append(l.before[:0], now...)
}

// final decides on everything that the utterance holds.
func (d *Detector) final(seg transcribe.Segment, l *leg) {
	l.done, l.current, l.before = seg.Utterance, -1, l.before[:0]
	d.clock = max(d.clock, seg.End)
	if len(d.fresh()) == 0 { // nothing was said after all
		d.retract(seg.Leg, seg.Utterance)
		d.settle()
		return
	}
	echo := d.isEcho(seg)
	if !echo {
		d.turn, d.speaker = d.turnOf(seg.Leg), seg.Leg
		d.forget(seg.End)
		d.ticket.hear(seg.Leg, d.fresh())
		d.cards.hear(seg.Leg, d.fresh())
		if playsFraud(d.fresh()) {
			for i := range d.legs {
				d.legs[i].telling, d.legs[i].until = "lesson", seg.End+lessonTime
			}
		}
		d.decide(seg, l)
	}
	d.hold(seg.Leg, seg.Utterance)
	d.settle()
	d.keep(seg, l)
}

// decide confirms the findings of a final segment.
func (d *Detector) decide(seg transcribe.Segment, l *leg) {
	d.gather(seg.Leg, l)
	// What guards say is of no weight, of something else, and what is neither.
	var empty, other, full cues
	if l.telling != "" && seg.Start < l.until {
		empty = leading
	}
	for i := range d.clusters {
		c := &d.clusters[i]
		m, verdict := d.choose(seg.Leg, l, c, d.turn, false)
		switch {
		case verdict != fits:
		case m.Muted == "":
			full |= cuesOfTactic(c.tactic)
		case (m.Muted == "never" || m.Muted == "never-ask") && c.tactic == "credential_request":
			// "I don't want your PIN, only the number that came."
		case excuses(m.Muted):
			empty |= leading
		default:
			other |= cuesOfTactic(c.tactic)
		}
		key := id{c.tactic, seg.Leg, seg.Utterance, c.ordinal}
		switch {
		case verdict == never || d.echoed(seg.Leg, c.tactic, d.window.span(m.First, m.Last), false):
		case verdict == atLast:
			d.last = append(d.last, waiting{id: key, finding: d.finding(seg, m), pattern: m.Pattern, turn: d.turn})
		case verdict == early:
			d.waiting = append(d.waiting, waiting{
				id: key, finding: d.finding(seg, m), pattern: m.Pattern, turn: d.turn, until: d.openUtterances(seg.Leg),
			})
		default:
			d.accept(key, d.finding(seg, m), m.Pattern, d.turn)
			l.spoken = append(l.spoken, found{c.tactic, d.window.first + m.First, d.window.first + m.Last, m.Pattern.Points})
			if tells(m.Muted) {
				l.telling, l.until = m.Muted, seg.End+tellingTime
			}
		}
	}
	d.hint(seg, empty|other&^full)
	if len(d.marks) > 0 || len(d.runs) > 0 {
		d.marks = d.appendMarks(d.marks, seg, d.turn)
		if d.asked || len(d.runs) > 0 || len(d.codes) > 0 {
			d.confirmHits()
		}
	}
	d.asked = false
}

// playsFraud reports whether tokens give out the parts of a role play, "I'm the
// scammer, you are the customer", or open a lesson, "a workshop on scams". No
// fraudster calls himself one.
func playsFraud(tokens []string) bool {
	for i, t := range tokens {
		switch t {
		case "scams", "scammers":
			// A talk "about scams", not a call about fraud on an account.
			if p := at(tokens, i-1); p != "about" && p != "on" && p != "phone" {
				continue
			}
			if slices.ContainsFunc(tokens[max(0, i-6):i], isLesson) {
				return true
			}
		case "scammer", "fraudster", "crook", "criminal", "conman", "attacker":
			if at(tokens, i-1) != "the" {
				continue
			}
			switch at(tokens, i-2) {
			case "i'm", "play", "playing":
				return true
			case "be":
				return at(tokens, i-3) == "i'll" || at(tokens, i-3) == "you" && i == 3
			}
		}
	}
	return false
}

// isLesson reports whether tok is an occasion at which people are taught.
func isLesson(tok string) bool {
	switch tok {
	case "presentation", "workshop", "class", "lesson", "seminar", "course": // not "talk": fraudsters call to talk about scams
		return true
	}
	return false
}

// tells reports whether a guard means that somebody reports or plays what was
// said elsewhere.
func tells(guard string) bool { return guard == "reported" || guard == "lesson" }

// keep remembers the end of what the leg said.
func (d *Detector) keep(seg transcribe.Segment, l *leg) {
	l.said, l.count = span{seg.Start, seg.End}, len(d.fresh())
	w := &d.window
	l.tail.reset()
	l.tail.copyTail(w, tailWords)
	text := seg.Text
	if n := len(seg.Words); n > 0 {
		text = seg.Words[n-1].Text
	}
	text = strings.TrimRight(text, " \"'”)")
	l.closed = strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, "?")
	l.spoken = slices.DeleteFunc(l.spoken, func(f found) bool { return f.last < l.tail.first })
}

// forget drops what is too old to matter at a time.
func (d *Detector) forget(now time.Duration) {
	old := func(at time.Duration) bool { return now-at > memoryTime }
	for len(d.memory) > 0 && (len(d.memory) > memorySize || old(d.memory[0].end)) {
		d.memory = slices.Delete(d.memory, 0, 1)
	}
	for len(d.hints) > 0 && (len(d.hints) > memorySize || old(d.hints[0].at)) {
		d.hints = slices.Delete(d.hints, 0, 1)
	}
	for len(d.marks) > 0 && (len(d.marks) > memorySize || old(d.marks[0].at)) {
		d.marks = slices.Delete(d.marks, 0, 1)
	}
	d.kept = slices.DeleteFunc(d.kept, func(w waiting) bool { return old(w.finding.End) })
	d.last = slices.DeleteFunc(d.last, func(w waiting) bool { return (now - w.finding.Start).Seconds() > w.pattern.LastSeconds })
	d.lately = slices.DeleteFunc(d.lately, func(p placed) bool { return now-p.span.end > 10*time.Second })
}
