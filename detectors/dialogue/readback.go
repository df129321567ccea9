package dialogue

import (
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// answer is how a side complies with an ask by saying digits.
type answer struct {
	ask    string // tactic of the ask
	tactic string // tactic of the answer
	rule   string
	need   int // digits and spelled letters, over all utterances of the answer
	run    int // a longer run of digits is something else; 0 for any
	within time.Duration
	turns  int
	// Spelled letters count; so do keys. Honest machines ask for a card or
	// account number on the keypad.
	letters, keypad bool

	points float64 // or, below zero, the part of the ask's own points
}

// answers returns the read-backs. A code is read within a minute; a session
// number after a program was installed; cards after a walk to the kitchen
// table. What answers a credential request (card number, PIN) has no tactic of
// its own: it is the comply stage of credential_request, and counts half of
// what the request did, since honest sellers ask for card numbers too.
func answers() [4]answer {
	return [...]answer{
		{"otp_request", "otp_readback", "dialogue/otp-readback", 4, 8, time.Minute, 6, false, true, 8},
		{"remote_access_request", "remote_access_compliance", "dialogue/session-id", 6, 12, 2 * time.Minute, 12, true, true, 8},
		{"gift_card_request", "gift_card_readback", "dialogue/gift-card-readback", 10, 0, 5 * time.Minute, 40, true, true, 8},
		{"credential_request", "credential_request", "dialogue/credential-readback", 3, 0, time.Minute, 6, false, false, -0.5},
	}
}

const answerPack = "dialogue@1"

// armPoints is the least an ask must weigh for an answer to it to count: "we
// sent you a code" alone asks for nothing.
const (
	armPoints  = 2
	armSession = 3 // to read out the number of a session
)

// isAsk reports whether f, which p tells, is an ask that is answered by digits.
func isAsk(f detectors.Finding, p *phrase.Pattern) bool {
	if (f.Weight < armPoints && !onTicket(f)) || f.Stage == detectors.Comply {
		return false
	}
	switch f.Tactic {
	case "remote_access_request":
		// Steps on a screen are told by many who want no number from it.
		return p == nil || p.Points >= armSession
	case "otp_request", "gift_card_request", "credential_request":
		return true
	}
	return false
}

// mark is one thing of which read-backs are made. Marks are kept by time; those
// of equal time in the order in which they came.
type mark struct {
	kind       markKind
	at, end    time.Duration
	leg        audio.Leg
	utterance  int
	turn       int
	tactic     string  // of an ask
	points     float64 // of an ask
	ticket     bool    // an ask on the customer's ticket
	count      int     // digits and letters of an answer
	longest    int     // digits of the longest run of the utterance
	digits     string  // that were read out
	told       bool    // to be put in somewhere: the speaker gives, and does not comply
	price      bool    // said as amounts and years are
	words      string
	confidence float64
}

type markKind uint8

const (
	askCode     markKind = iota // asks for something that is read back
	askOther                    // asks for a number that is none of it
	speech                      // an utterance with neither
	digitsRun                   // digits that can be an answer
	digitsOther                 // digits that cannot: to say them again is no answer
	letters                     // spelled letters among them
)

func askMark(f detectors.Finding, turn int) mark {
	return mark{
		kind: askCode, at: f.End, end: f.End, leg: f.Leg, utterance: f.Utterance, turn: turn,
		tactic: f.Tactic, points: f.Weight, ticket: onTicket(f),
	}
}

// insert keeps marks sorted by time.
func insert(marks []mark, m mark) []mark {
	i := len(marks)
	for i > 0 && marks[i-1].at > m.at {
		i--
	}
	return slices.Insert(marks, i, m)
}

// appendMarks inserts what the window's fresh tokens say to an ask.
func (d *Detector) appendMarks(marks []mark, seg transcribe.Segment, turn int) []mark {
	tokens, w := d.fresh(), &d.window
	put := func(k markKind, first, last, count int) mark {
		first, last = first+w.from, last+w.from
		at := w.span(first, last)
		m := mark{kind: k, at: at.start, end: at.end, leg: seg.Leg, utterance: seg.Utterance, turn: turn, count: count}
		if count > 0 {
			m.words, m.confidence = w.text(first, last), w.confidence(first, last)
		}
		return m
	}
	said := false
	for i := 0; i < len(tokens); i++ {
		if last, ok := asksOther(tokens, i); ok {
			marks = insert(marks, put(askOther, i, last, 0))
			i, said = last, true
		}
	}
	d.codes = d.codes[:0]
	if len(d.marks) > 0 || len(d.hints) > 0 {
		d.codes = spoken.Codes(tokens, d.codes)
	}
	// A letter or none before digits is a code of digits: "G 472913", also "G
	// dash, G dash four seven".
	d.codes = slices.DeleteFunc(d.codes, func(c spoken.Code) bool {
		return c.Letters < 2 || c.Digits >= 4 && strings.HasPrefix(c.Text(), strings.Repeat("g", c.Letters))
	})
	for i := range d.codes {
		c := &d.codes[i]
		marks = insert(marks, put(letters, c.First, c.Last, c.Letters+c.Digits))
		said = true
	}
	longest := 0
	if len(d.runs) > 0 && d.runs[0].First == 0 && d.runs[0].Count%2 == 1 && d.runs[0].Count >= 5 && tokens[0] == "oh" {
		// "Oh. Six oh eight, triple two."
		if r, ok := spoken.DigitsAt(tokens, 1); ok {
			d.runs[0] = r
		}
	}
	for i := range d.runs {
		longest = max(longest, d.runs[i].Count)
	}
	for i := range d.runs {
		r := &d.runs[i]
		if slices.ContainsFunc(d.codes, func(c spoken.Code) bool { return c.First <= r.Last && c.Last >= r.First }) {
			continue
		}
		kind := digitsOther
		if codeLike(tokens, d.runs, r) {
			kind, said = digitsRun, true
		}
		m := put(kind, r.First, r.Last, r.Count)
		m.longest, m.digits = longest, r.Digits()
		m.told, m.price = givesOut(tokens, r), priceLike(tokens, r)
		marks = insert(marks, m)
	}
	if !said && len(tokens) > 0 {
		marks = insert(marks, put(speech, 0, 0, 0))
	}
	return marks
}

// hit is an answer that is complete.
type hit struct {
	answer     *answer
	mark       mark // that completed it
	start      time.Duration
	words      string
	confidence float64
	points     float64
	ticket     bool
}

func (h *hit) key() id { return id{h.answer.tactic, h.mark.leg, h.mark.utterance, answerOrdinal} }

func (h *hit) finding() detectors.Finding {
	f := detectors.Finding{
		Tactic:     h.answer.tactic,
		Stage:      detectors.Comply,
		Leg:        h.mark.leg,
		Utterance:  h.mark.utterance,
		Start:      h.start,
		End:        h.mark.end,
		Words:      h.words,
		Confidence: h.confidence,
		Weight:     h.points,
		Rule:       h.answer.rule,
		Pack:       answerPack,
	}
	if h.ticket {
		f.Weight = ticketPoints
		f.Rule += ticketRule
	}
	return f
}

// answered appends every answer that is complete in the marks, and depends on
// them alone. Each side's asks stand for themselves: a victim who repeats the
// ask does not take it over.
func (d *Detector) answered(marks []mark, hits []hit) []hit {
	all := answers()
	for i := range all {
		for side := range d.legs {
			hits = d.answeredTo(audio.Leg(side), &all[i], marks, hits)
		}
	}
	return d.hinted(marks, hits)
}

// answeredTo goes through the marks for the asks of one side.
//
// One side asks, the other says digits; they add up over its utterances. An ask
// for another number in between takes the digits until the asker speaks again.
// On a leg of unknown role the digits follow the ask in a later utterance or in
// the same one.
func (d *Detector) answeredTo(side audio.Leg, a *answer, marks []mark, hits []hit) []hit {
	var ask *mark
	var h hit
	other, n := false, 0
	last := ""
	for i := range marks {
		m := &marks[i]
		if ask != nil && (m.at-ask.at > a.within || m.turn-ask.turn > a.turns) {
			ask = nil
		}
		switch m.kind {
		case askCode:
			if m.tactic != a.ask || m.leg != side {
				continue
			}
			if ask == nil {
				n, h, last = 0, hit{answer: a}, ""
			}
			ask, other = m, false
			h.ticket = m.ticket
			h.points = a.points
			if a.points < 0 {
				h.points = max(-a.points*m.points, h.points)
			}
		case askOther:
			other = other || (ask != nil && d.same(m.leg, ask.leg))
		case speech:
			other = other && ask != nil && !d.same(m.leg, ask.leg)
		case digitsRun, letters:
			repeated := m.words == last && d.eitherSide(m.leg, m.leg)
			if ask == nil || other || repeated || !d.opposite(m.leg, ask.leg) ||
				said(marks[:i], m) || (a.run > 0 && m.count > a.run) || (a.tactic == "otp_readback" && !isCode(m, a)) || (m.kind == letters && !a.letters) || (m.utterance < 0 && !a.keypad) {
				continue
			}
			if n == 0 {
				h.start = m.at
			}
			n += m.count
			last = m.words
			h.words = strings.TrimSpace(h.words + " " + m.words)
			h.confidence += m.confidence * float64(m.count)
			if n >= a.need {
				h.mark = *m
				h.confidence /= float64(n)
				hits = append(hits, h)
				ask = nil
			}
		}
	}
	return hits
}

// confirmHits confirms the answers that final segments complete.
func (d *Detector) confirmHits() {
	d.hits = d.answered(d.marks, d.hits[:0])
	for i := range d.hits {
		h := &d.hits[i]
		f := h.finding()
		if !d.echoed(f.Leg, f.Tactic, span{f.Start, f.End}, false) {
			if !d.ended[h.key()] {
				d.lately = append(d.lately, placed{f.Tactic, f.Leg, span{f.Start, f.End}})
				if f.Tactic == "otp_readback" && f.Leg != audio.Unknown && !d.mirror && h.points >= thin {
					d.understand(f.Leg.Other(), f.Start, obeyedPoints)
				}
			}
			d.end(h.key(), f, detectors.Confirmed)
		}
	}
}

// trialHits is the answers that an unfinished hypothesis completes, with
// unfinished asks counting too.
func (d *Detector) trialHits(seg transcribe.Segment) []hit {
	d.hits = d.hits[:0]
	if len(d.runs) == 0 {
		return nil
	}
	d.trial = append(d.trial[:0], d.marks...)
	for i := range d.open {
		if o := &d.open[i]; isAsk(o.finding, o.pattern) {
			d.trial = insert(d.trial, askMark(o.finding, d.turn))
		}
	}
	if !slices.ContainsFunc(d.trial, func(m mark) bool { return m.kind == askCode }) {
		return nil
	}
	d.trial = d.appendMarks(d.trial, seg, d.turnOf(seg.Leg))
	d.hits = d.answered(d.trial, d.hits)
	d.hits = slices.DeleteFunc(d.hits, func(h hit) bool {
		f := h.finding()
		return h.mark.leg != seg.Leg || h.mark.utterance != seg.Utterance || d.echoed(f.Leg, f.Tactic, span{f.Start, f.End}, true)
	})
	return d.hits
}

// Digits takes digits that a side keyed in, one or several, at a time of the
// media clock. They answer an ask as spoken ones do. The findings are
// confirmed: a keypad is not misheard. Whatever is no digit is left out.
func (d *Detector) Digits(side audio.Leg, digits string, at time.Duration) []detectors.Finding {
	d.out = d.out[:0]
	n := 0
	for _, c := range digits {
		if c >= '0' && c <= '9' {
			n++
		}
	}
	if n == 0 || int(side) >= len(d.legs) {
		return nil
	}
	d.keys++
	d.marks = insert(d.marks, mark{
		kind: digitsRun, at: at, end: at, leg: side, utterance: -d.keys, turn: max(d.turn, 0),
		count: n, words: digits, confidence: 1,
	})
	d.confirmHits()
	return d.take()
}
