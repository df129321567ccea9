package dialogue

import (
	"slices"
	"strings"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// A helper whom the customer called in is an honest one: on the customer's own
// ticket an ask for remote access and what complies with it are still found,
// and weigh so little that the call stays at a notice. The rule of such a
// finding says so.
const (
	ticketPoints = 1
	ticketRule   = "+customer-ticket"
)

func onTicket(f detectors.Finding) bool { return strings.HasSuffix(f.Rule, ticketRule) }

// ticket follows whether the customer opened one. The customer's own word for
// it counts at once ("I raised a ticket this morning", "I called you about my
// printer"). The helper's word for it counts when the next thing that the
// other side says agrees: a fraudster may claim a ticket, and is asked what it
// is about.
type ticket struct {
	opened  bool
	claimed bool // by a helper, not answered yet
	by      audio.Leg
	family  [3]bool // the leg called the other by a name that only family uses
	consent [3]bool // the leg asked whether its help is wanted
	lured   [3]bool // the leg told a fraud's story
}

// covers reports whether what a side asks of the other, or does for it, is help
// that was wanted.
func (t *ticket) covers(asker audio.Leg) bool {
	return t.opened || t.family[asker] || t.family[asker.Other()] ||
		(t.consent[asker] && !t.lured[asker]) || (t.consent[asker.Other()] && !t.lured[asker.Other()])
}

func (t *ticket) hear(side audio.Leg, tokens []string) {
	t.family[side] = t.family[side] || callsFamily(tokens)
	t.consent[side] = t.consent[side] || asksConsent(tokens)
	if t.opened {
		return
	}
	if t.claimed && (side != t.by || side == audio.Unknown) {
		t.claimed = false
		t.opened = agrees(tokens)
	}
	if sparesYou(tokens) {
		t.opened = true
		return
	}
	switch whose(tokens) {
	case mine:
		t.opened = true
	case yours:
		t.claimed, t.by = true, side
	}
}

// asksConsent reports whether a helper asks whether he may, as in "are you okay
// with me taking a look". Fraudsters give orders.
func asksConsent(tokens []string) bool {
	for i, t := range tokens {
		next := at(tokens, i+1)
		switch t {
		case "okay", "ok", "happy", "comfortable", "fine", "alright":
			if (next == "with" || next == "if" || next == "for") && before(tokens, i, 2, "you", "you're", "that's", "it's", "it") ||
				before(tokens, i, 2, "you're", "that's", "it's") && before(tokens, i, 3, "if") {
				return true
			}
		case "mind":
			if next == "if" && at(tokens, i+2) == "i" {
				return true
			}
		case "only":
			if (next == "view" || next == "look") && before(tokens, i, 3, "i", "i'll") {
				return true
			}
		}
	}
	return false
}

// callsFamily reports whether tokens address somebody as only family does.
// Fraudsters say auntie and uncle, and speak of "your mum"; they pose as a
// grandchild for money, and do not mend computers then.
func callsFamily(tokens []string) bool {
	for i, t := range tokens {
		switch t {
		case "mum", "mom", "mam", "dad", "gran", "nan", "nana", "granny":
			switch at(tokens, i-1) {
			case "my", "your", "his", "her", "their", "our", "the", "a", "tell", "with", "s", "for", "and", "or", "to":
				continue
			}
			switch at(tokens, i+1) {
			case "and", "is", "was", "says", "said", "has", "will", "who", "it's", "there's":
				continue
			}
			return true
		case "aunt":
			if next := at(tokens, i+1); next != "" && at(tokens, i-1) != "my" && at(tokens, i-1) != "your" {
				return true
			}
		}
	}
	return false
}

type owner uint8

const (
	nobody owner = iota
	mine
	yours
)

// whose reports whether tokens speak of a ticket, and who opened it.
func whose(tokens []string) owner {
	for i, t := range tokens {
		switch t {
		case "ticket", "tickets", "incident", "complaint":
		case "case":
			if !slices.ContainsFunc(tokens[max(0, i-3):i], opens) {
				continue
			}
		case "it":
			// "I logged it this morning."
			if p := at(tokens, i-1); p == "raised" || p == "logged" {
				if before(tokens, i-1, 2, "i", "i've", "we", "we've") {
					return mine
				}
				if before(tokens, i-1, 2, "you", "you've", "you'd") {
					return yours
				}
			}
			continue
		case "booked", "scheduled":
			// "You booked the one o'clock with me."
			if before(tokens, i, 2, "you", "you've", "you'd") && before(tokens, min(len(tokens), i+7), 6, "slot", "training", "session", "appointment", "o'clock", "call", "visit") ||
				before(tokens, i-1, 3, "call", "slot", "session", "appointment", "visit") && before(tokens, i, 1, "you", "you've", "you'd") {
				return yours
			}
			continue
		case "request":
			if p := at(tokens, i-1); p == "your" && at(tokens, i+1) == "about" {
				return yours
			} else if p != "support" && p != "service" && p != "help" {
				continue
			}
		case "bought", "purchased":
			// "I bought your printer": a customer calls who sold it.
			if at(tokens, i-1) == "i" || at(tokens, i-1) == "i've" || at(tokens, i-1) == "we" {
				for j := i + 1; j < min(len(tokens), i+6); j++ {
					if isDevice(tokens[j]) && (at(tokens, i+1) == "your" || at(tokens, j-1) == "your" || before(tokens, min(len(tokens), j+5), 4, "you")) {
						return mine
					}
				}
			}
			continue
		case "called", "rang", "phoned", "emailed", "call", "ring", "put", "wrote", "asked", "reported", "brought":
			if who := calledAbout(tokens, i); who != nobody {
				return who
			}
			if t == "called" && at(tokens, i+1) == "in" && before(tokens, i, 2, "you", "guys") {
				return yours
			}
			continue
		default:
			continue
		}
		around := tokens[max(0, i-6):min(len(tokens), i+7)]
		opened := slices.ContainsFunc(around, opens)
		mineSaid := at(tokens, i-1) == "my" || at(tokens, i-1) == "our" || at(tokens, i-2) == "my"
		yourSaid := at(tokens, i-1) == "your" || at(tokens, i-2) == "your"
		switch {
		case mineSaid:
			return mine
		case yourSaid, callsAbout(tokens, i):
			return yours
		case opened && spokenBy(around, "you", "you've", "you'd"):
			return yours
		case opened && spokenBy(around, "i", "i've", "i'd", "we", "we've"):
			return mine
		}
	}
	return nobody
}

// sparesYou reports whether a helper asks not to be shown what does not concern
// him, "close your bank first", or tells how to be thrown out. A fraudster wants
// to see the bank, and to stay.
func sparesYou(tokens []string) bool {
	for i, t := range tokens {
		switch t {
		case "close", "shut":
			if before(tokens, i, 1, "don't", "not", "never") {
				continue
			}
			for _, u := range tokens[i+1 : min(len(tokens), i+5)] {
				switch u {
				case "account", "accounts":
				case "bank", "banking", "payroll", "salary", "private", "personal", "confidential":
					return true
				}
			}
		case "red":
			if next := at(tokens, i+1); (next == "x" || next == "cross") && before(tokens, i, 9, "kill", "stop", "end", "cut", "throw") {
				return true
			}
		case "accept", "allow", "yes":
			// "Only accept if it says Wayne."
			if before(tokens, i, 2, "only") && at(tokens, i+1) == "if" && before(tokens, min(len(tokens), i+7), 5, "says", "name", "shows") {
				return true
			}
		}
	}
	return false
}

// callsAbout reports whether somebody calls about the ticket at i: "calling
// back about ticket four one", "are you calling about an existing ticket".
func callsAbout(tokens []string, i int) bool {
	for j := max(0, i-4); j < i; j++ {
		if t := tokens[j]; t != "about" && t != "regarding" {
			continue
		}
		return slices.ContainsFunc(tokens[max(0, j-4):j], func(t string) bool {
			return t == "calling" || t == "call" || t == "ringing" || t == "phoning" || t == "back"
		})
	}
	return false
}

func spokenBy(tokens []string, who ...string) bool {
	for i, t := range tokens {
		if !opens(t) {
			continue
		}
		for _, w := range tokens[max(0, i-3):i] {
			if slices.Contains(who, w) {
				return true
			}
		}
	}
	return false
}

func opens(t string) bool {
	switch t {
	case "opened", "raised", "logged", "submitted", "created", "filed", "put", "sent", "reported", "entered", "lodged":
		return true
	}
	return false
}

// calledAbout reports who asked for help with a device in the words at i: "I
// called you about my printer", "you put in about your printer".
func calledAbout(tokens []string, i int) owner {
	who := nobody
	for _, t := range tokens[max(0, i-3):i] {
		switch t {
		case "i", "i've", "i'd", "we", "we've":
			who = mine
		case "you", "you've", "you'd":
			who = yours
		}
	}
	if who == nobody {
		return nobody
	}
	for j := i + 1; j < min(len(tokens), i+10); j++ {
		if !isDevice(tokens[j]) {
			continue
		}
		for k := max(i+1, j-2); k < j; k++ {
			switch tokens[k] {
			case "my", "our", "your", "the":
				return who
			}
		}
	}
	return nobody
}

// isDevice reports whether tok is what help desks are called about. A
// "computer" or an "account" is not: these are the fraudster's own story.
func isDevice(tok string) bool {
	switch tok {
	case "printer", "laptop", "email", "outlook", "vpn", "wifi", "password", "scanner", "monitor", "software", "spreadsheet", "login", "headset", "mailbox":
		return true
	}
	return false
}

// agrees reports whether an answer takes a claim for true: it begins with
// consent, and nothing in it says that there is no ticket.
func agrees(tokens []string) bool {
	yes := false
	for i, t := range tokens {
		next := at(tokens, i+1)
		switch t {
		case "didn't", "never", "haven't", "nope":
			return false
		case "did", "have", "do", "know":
			if next == "not" || next == "nothing" {
				return false
			}
		case "what", "which":
			if next == "ticket" || next == "request" || next == "incident" {
				return false
			}
		case "no":
			if i < 2 && next != "problem" {
				return false
			}
		case "yes", "yeah", "yep", "right", "correct", "exactly", "thanks", "sure", "great", "finally", "perfect", "cheers":
			yes = yes || i < 6
		case "thank":
			yes = yes || i < 6 && next == "you"
		}
	}
	return yes
}
