package dialogue

import (
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// hint is what one utterance said of numbers that are read out later.
type hint struct {
	at        time.Duration
	from, to  time.Duration // where the cues of a code were said
	words     string        // and with which words, where there were any
	leg       audio.Leg
	utterance int
	turn      int
	cues      cues
	other     bool // it ends with a question for another number
}

// excuses reports whether a guard means that what is said is no ask of the
// speaker: it is told, forbidden or warned of.
func excuses(guard string) bool {
	switch guard {
	case "never", "never-ask", "awareness", "told-as-scam", "other-person", "reported", "lesson":
		return true
	}
	return false
}

// cuesOfTactic is the cues that lead to answers to the tactic.
func cuesOfTactic(tactic string) cues {
	switch tactic {
	case "otp_request":
		return ofCode
	case "remote_access_request":
		return steering
	case "gift_card_request":
		return cardOfValue
	}
	return 0
}

// hint remembers the cues of a final segment, without the empty ones.
func (d *Detector) hint(seg transcribe.Segment, empty cues) {
	tokens := d.fresh()
	c, last := cuesOf(tokens)
	c &^= empty
	if c&typeIt != 0 || (c&errand != 0 && c&codeNamed == 0) {
		c &^= ofCode
	}
	other := false
	for i := range tokens {
		if end, ok := asksOther(tokens, i); ok && (c&leading == 0 || end > last) {
			other = true
		}
	}
	if c == 0 && !other {
		return
	}
	h := hint{at: seg.End, leg: seg.Leg, utterance: seg.Utterance, turn: d.turn, cues: c, other: other}
	if c&ofCode != 0 {
		w := &d.window
		first, last := max(0, last-cueReach)+w.from, last+w.from
		s := w.span(first, last)
		h.from, h.to, h.words = s.start, s.end, w.text(first, last)
	}
	d.hints = append(d.hints, h)
	// "It says not to share it", says who was just sent one: he was asked to.
	if c&neverShare != 0 && c&readsIt != 0 && seg.Leg != audio.Unknown && !d.mirror {
		told := d.told(seg.Leg.Other(), -1, seg.Start, d.turn, understoodTime, 3)
		if told&(doorway|openPlace) == 0 && (told&codeNamed != 0 || told.kinds(ofCode) >= 2) {
			d.understand(seg.Leg.Other(), seg.Start, refusedPoints)
		}
	}
}

const (
	// An ask is understood from what answers it if it stands so near.
	understoodTime = 45 * time.Second
	refusedPoints  = 3
	obeyedPoints   = 1 // beside those of the digits themselves, which the meter must not take for an answer to it
	// understoodOrdinal sets an ask that was understood apart from the
	// phrases of the same utterance.
	understoodOrdinal = -2
)

// understand reports that a side asked for a code, in words that no pattern
// knows: what the other side did at a time shows it. The words are those that
// spoke of the code last.
func (d *Detector) understand(asker audio.Leg, at time.Duration, points float64) {
	for i := len(d.memory) - 1; i >= 0; i-- {
		h := &d.memory[i]
		if h.pattern.Tactic == "otp_request" && h.pattern.Points >= armPoints && h.leg == asker && at-h.end < understoodTime {
			return // it was heard
		}
	}
	for i := len(d.hints) - 1; i >= 0; i-- {
		h := &d.hints[i]
		if h.leg != asker || h.words == "" || h.to > at {
			continue
		}
		if at-h.to > time.Minute {
			return
		}
		f := detectors.Finding{
			Tactic: "otp_request", Stage: detectors.Ask, Leg: asker, Utterance: h.utterance,
			Start: h.from, End: h.to, Words: h.words, Confidence: 1, Weight: points,
			Rule: "dialogue/otp-understood", Pack: answerPack,
		}
		if d.ticket.covers(asker) {
			f.Weight = min(points, ticketPoints)
			f.Rule += ticketRule
		}
		d.end(id{"otp_request", asker, h.utterance, understoodOrdinal}, f, detectors.Confirmed)
		return
	}
}

// told is the cues of a side between two times, within so long and so many
// turns of the latter, since it last asked for another number.
func (d *Detector) told(side audio.Leg, since, at time.Duration, turn int, within time.Duration, turns int) cues {
	var c cues
	for i := len(d.hints) - 1; i >= 0; i-- {
		h := &d.hints[i]
		switch {
		case h.leg != side || h.at > at:
			continue
		case h.at <= since || at-h.at > within || turn-h.turn > turns || h.other:
			return c
		default:
			c |= h.cues
		}
	}
	return c
}

// in is the cues of an utterance.
func (d *Detector) in(side audio.Leg, utterance int) cues {
	for i := len(d.hints) - 1; i >= 0; i-- {
		if h := &d.hints[i]; h.leg == side && h.utterance == utterance {
			return h.cues
		}
	}
	return 0
}

// hinted appends the answers to asks that no pattern understood: one side
// spoke of the thing, the other reads out digits that can hardly be of anything
// else. It needs to know the sides apart: a machine says "your code is" too.
func (d *Detector) hinted(marks []mark, hits []hit) []hit {
	if d.mirror || len(d.hints) == 0 || len(marks) == 0 {
		return hits
	}
	all := hintedAnswers()
	var counts [3][3]int
	var begun [3][3]int // index of the mark that an answer begins with
	end := marks[len(marks)-1].at
	for i := range marks {
		m := &marks[i]
		if end-m.at > time.Minute || (m.kind != digitsRun && m.kind != letters) || m.leg == audio.Unknown || m.utterance < 0 {
			continue
		}
		for k := range all {
			a := &all[k]
			n, from := &counts[m.leg][k], &begun[m.leg][k]
			if f := &marks[*from]; *n > 0 && (m.turn-f.turn > a.turns || m.at-f.at > a.within) {
				*n = 0
			}
			if (m.kind == letters && !a.letters) || (a.tactic == "otp_readback" && (m.price || !isCode(m, a))) {
				continue
			}
			if *n == 0 {
				*from = i
			}
			if again(m, &marks[*from]) {
				*n = 0
			}
			*n += m.count
			if *n < a.need || *n > a.run || said(marks[:i], m) {
				continue
			}
			if h := (hit{answer: a, mark: *m}); !d.ended[h.key()] {
				hits = d.appendHinted(marks[:i+1], *from, h, hits)
			}
			*n = 0
		}
	}
	return hits
}

// appendHinted appends h, which the last of marks completes and mark from
// begins, if what was said before gives it points.
func (d *Detector) appendHinted(marks []mark, from int, h hit, hits []hit) []hit {
	first := &marks[from]
	// What was said before an answer is not said of the next.
	since := time.Duration(-1)
	for i := range marks[:from] {
		m := &marks[i]
		if m.leg == first.leg && m.turn < first.turn && m.count >= h.answer.need && m.count <= h.answer.run {
			since = m.at
		}
	}
	// What was asked for last is what is read: a card, a voucher, a session.
	if h.answer.tactic == "otp_readback" {
		for i := range marks[:from] {
			m := &marks[i]
			if m.kind == askCode && m.tactic != h.answer.ask && m.leg != first.leg {
				since = max(since, m.at-askTime)
			}
		}
	}
	if h.points = d.hintPoints(h.answer.tactic, first, &h.mark, since); h.points == 0 {
		return hits
	}
	h.start = first.at
	n := 0
	for i := from; i < len(marks); i++ {
		if m := &marks[i]; m.leg == first.leg && m.count > 0 {
			h.words = strings.TrimSpace(h.words + " " + m.words)
			h.confidence += m.confidence * float64(m.count)
			n += m.count
		}
	}
	h.confidence /= float64(n)
	h.ticket = d.ticket.covers(first.leg.Other()) && h.answer.tactic != "gift_card_readback"
	return append(hits, h)
}

// askTime is how long the words of an ask may begin before it is complete.
const askTime = 8 * time.Second

// again reports whether m begins anew what an earlier piece of the same
// answer began.
func again(m, earlier *mark) bool {
	return m != earlier && len(earlier.digits) >= 2 && m.leg == earlier.leg && strings.HasPrefix(m.digits, earlier.digits)
}

// said reports whether another side said the digits of m before: to say them
// again is no answer.
func said(marks []mark, m *mark) bool {
	for i := range marks {
		o := &marks[i]
		if o.leg == m.leg || o.end > m.at {
			continue
		}
		if m.count >= 3 && m.digits != "" && strings.Contains(o.digits, m.digits) {
			return true
		}
		if o.count == m.count && m.count >= 4 && alike(o.words, m.words) {
			return true
		}
	}
	return false
}

// alike reports whether two texts have the same letters and digits, whatever
// their case and punctuation.
func alike(a, b string) bool {
	for {
		x, i := nextSign(a)
		y, j := nextSign(b)
		if x != y {
			return false
		}
		if x == 0 {
			return true
		}
		a, b = a[i:], b[j:]
	}
}

// nextSign is the first letter or digit of s in lower case, and where the rest
// begins; 0 if there is none.
func nextSign(s string) (c byte, rest int) {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z':
			return c, i + 1
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A', i + 1
		}
	}
	return 0, len(s)
}

func hintedAnswers() [3]answer {
	return [...]answer{
		{"otp_request", "otp_readback", "dialogue/otp-after-hints", 4, 8, 20 * time.Second, 2, false, false, plain},
		{"remote_access_request", "remote_access_compliance", "dialogue/session-id-after-hints", 9, 10, 30 * time.Second, 4, false, false, plain},
		{"gift_card_request", "gift_card_readback", "dialogue/gift-card-after-hints", 12, 40, time.Minute, 6, true, false, plain},
	}
}

const (
	plain = 6 // warns alone
	thin  = 3
)

// hintPoints is what digits from first to last mark weigh, going by what was
// said before them, and since a time; 0 if it was nothing.
func (d *Detector) hintPoints(tactic string, first, last *mark, since time.Duration) float64 {
	reader := first.leg
	asker := reader.Other()
	switch tactic {
	case "otp_readback":
		asked := d.told(asker, since, first.at, first.turn, time.Minute, 5)
		own := d.in(reader, first.utterance) | d.in(reader, last.utterance)
		heard := own | d.told(reader, since, last.at, last.turn, time.Minute, 5)
		switch {
		case asked&ofCode == 0:
			return 0
		case (asked|heard)&(codeNamed|comesToYou) == 0 && own&neverShare == 0:
			return 0 // a number, but none that was sent
		case (asked|heard)&doorway != 0:
			return 0
		case last.longest > 6 && (asked|heard)&(codeNamed|neverShare) == 0:
			return 0 // seven and eight are rare
		case (asked|d.told(reader, -1, last.at, last.turn, time.Minute, 3))&openPlace != 0:
			return 1
		case asked&codeNamed != 0, asked.kinds(ofCode) >= 2, own&neverShare != 0, own&readsIt != 0:
			return plain
		case asked&comesToYou != 0:
			return thin
		}
	case "remote_access_compliance":
		asked := d.told(asker, since, first.at, first.turn, 2*time.Minute, 12)
		if asked&program != 0 && asked.kinds(steering) >= 2 {
			return plain
		}
	case "gift_card_readback":
		if d.cards.owner[reader] {
			return 0
		}
		// Who sells cards or helps with one is told of it by the customer.
		for i := range d.hints {
			if h := &d.hints[i]; h.cues&cardOfValue != 0 && h.at <= first.at {
				if h.leg != asker {
					return 0
				}
				return thin // a shop's own line names them first, too
			}
		}
	}
	return 0
}
