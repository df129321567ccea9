package dialogue

import (
	"math/bits"
)

// cues is what an utterance tells about numbers that are about to be read out.
// Who asks in words that no pattern knows still speaks of the thing: something
// arrived on the phone, there are figures in it.
type cues uint32

const (
	codeNamed   cues = 1 << iota // a one-time code by its name
	comesToYou                   // something is sent, buzzes, shows on a phone
	someNumber                   // a number, figures, digits that are said to be of nothing else
	readsIt                      // "it says", before digits
	neverShare                   // "it says not to share it"
	typeIt                       // "put it in", which is not to read it out
	errand                       // a booking, a ticket: its number is no secret
	openPlace                    // the code of a gate or a network
	doorway                      // the way in, to a place that one stands before
	device                       // where a program runs
	program                      // a program, an app
	handling                     // open, run, click it
	onTheNet                     // a site, a link, a browser
	cardOfValue                  // gift cards, vouchers, what is under their coating
	byMessage                    // a text message or the like
	steering    = device | program | handling | onTheNet
	ofCode      = codeNamed | comesToYou | someNumber
	leading     = steering | ofCode | cardOfValue // to digits
)

// kinds is how many different things of mask were told.
func (c cues) kinds(mask cues) int { return bits.OnesCount32(uint32(c & mask)) }

// cueReach is how far apart words may stand that make a cue together.
const cueReach = 9

// cuesOf finds the cues in tokens, and the last word of them.
func cuesOf(tokens []string) (c cues, last int) {
	where := [...]int{-cueReach, -cueReach} // of what brings a message, and of its coming
	number := -cueReach
	note := func(i int, k cues) {
		c |= k
		last = i
		if k == someNumber {
			number = i
		}
	}
	for i, t := range tokens {
		next := at(tokens, i+1)
		switch t {
		case "otp", "passcode", "authenticator", "2fa", "mfa":
			note(i, codeNamed)
		case "t":
			if next == "p" && at(tokens, i-1) == "o" {
				note(i, codeNamed)
			}
		case "time":
			if at(tokens, i-1) == "one" && isSecret(next) {
				note(i, codeNamed)
			}
		case "verification", "login", "activation", "authorization", "authorisation", "release", "cancellation":
			if isSecret(next) || next == "number" {
				note(i, codeNamed)
			}
		case "code", "codes", "digits", "figures", "figure", "pin", "numbers", "letters":
			if !ofSomething(tokens, i) {
				note(i, someNumber)
			}
		case "digit":
			if next != "card" && !ofSomething(tokens, i+1) {
				note(i, someNumber)
			}
		case "number":
			if to := at(tokens, i+2); !ofSomething(tokens, i) && next != "is" &&
				(next != "to" || (to != "call" && to != "ring" && to != "reach" && to != "dial" && to != "phone")) {
				note(i, someNumber)
			}
		case "share", "sharing", "anyone", "anybody":
			if before(tokens, i, 4, "never", "don't", "not", "supposed", "nobody") {
				note(i, neverShare)
			}
		case "in", "into":
			if before(tokens, i, 3, "put", "type", "key", "enter", "punch", "pop") && !before(tokens, i, 1, "money", "you", "me") && !before(tokens, i, 4, "i", "i'll", "we", "we'll") {
				note(i, typeIt)
			}
		case "says", "say", "saying", "reads", "showing", "shows", "threw", "gave", "gives", "giving":
			if before(tokens, i, 2, "it", "it's", "message", "text", "that", "is", "phone", "screen") {
				note(i, readsIt)
			}
		case "gate", "garage", "door", "keypad", "elevator", "lift", "wifi", "barrier", "turnstile", "alarm", "bike", "lockbox":
			switch next {
			case "code", "codes", "app", "number", "lock", "password", "combination", "pin":
				note(i, doorway)
			}
		case "neighborhood", "neighbourhood", "callbox", "intercom", "padlock":
			note(i, doorway)
		case "lock":
			if at(tokens, i-1) == "room" || at(tokens, i-1) == "bike" || at(tokens, i-1) == "the" && c&someNumber != 0 {
				note(i, doorway)
			}
		case "meeting", "zoom", "webinar", "conference", "lottery", "bingo", "raffle":
			note(i, openPlace)
		case "booking", "reservation", "tracking", "appointment", "ticket", "tickets", "table", "seat", "seats", "tracker":
			note(i, errand)
		case "gift", "voucher", "vouchers", "itunes", "giftcard", "giftcards", "prepaid", "scratch", "scratched", "coating", "denomination", "denominations":
			note(i, cardOfValue)
		case "play":
			if at(tokens, i-1) == "google" {
				note(i, cardOfValue)
			}
		}
		switch t {
		case "computer", "laptop", "pc", "desktop", "machine", "tablet":
			note(i, device)
		case "program", "programme", "software", "viewer", "client", "tool", "host", "desk", "support", "agent", "executable", "remote", "box", "window":
			note(i, program)
		case "download", "downloading", "install", "click", "run", "launch", "allow", "accept":
			note(i, handling)
		case "browser", "dot", "link", "google", "internet":
			note(i, onTheNet)
		}
		switch t {
		case "text", "message", "sms", "notification":
			note(i, byMessage)
			where[0] = i
		case "phone", "mobile", "cell", "cellphone", "handset", "app", "email", "inbox", "whatsapp", "ping":
			where[0] = i
		case "sent", "send", "sending", "sends", "coming", "comes", "come", "came", "get", "got", "getting", "receive", "received", "reach", "reached",
			"reaching", "arrive", "arrived", "arrives", "pop", "popped", "pops", "appear", "appeared", "appears", "throw", "throws", "throwing", "drop", "fall",
			"flash", "flashed", "gives", "given", "land", "landed", "pushed", "show", "shows", "through", "gone", "beep", "beeped":
			where[1] = i
		case "buzz", "buzzed", "buzzing", "ding", "dinged", "pinged", "pings", "vibrate", "vibrated":
			where = [...]int{i, i}
		}
		if t == "you" || t == "your" {
			switch at(tokens, i-1) {
			case "texted", "messaged", "message", "ping", "mails", "mail", "mailed", "text", "texting", "emailing", "messaging", "sms", "sent", "given", "throw", "giving":
				where = [...]int{i, i}
			}
		}
		if i == where[0] && c&someNumber != 0 && i-number < cueReach && before(tokens, i, 3, "on", "in", "to", "from") {
			where[1] = i // "a figure on your phone"
		}
		if c&someNumber != 0 && (where[1] == i && i-number <= 4 && arrives(t) || number == i && i-where[1] <= 3 && arrives(tokens[max(0, where[1])])) {
			where[0] = i // "a number comes", "they send you a code"
		}
		if i-where[0] < cueReach && i-where[1] < cueReach && (i == where[0] || i == where[1]) {
			note(i, comesToYou)
		}
	}
	return c, last
}

// arrives reports whether tok says that something is sent or comes.
func arrives(tok string) bool {
	switch tok {
	case "sent", "send", "sending", "sends", "comes", "come", "came", "coming", "arrive", "arrives", "arrived", "pops", "popped", "lands", "landed":
		return true
	}
	return false
}

// isSecret reports whether tok is a thing that proves who somebody is.
func isSecret(tok string) bool {
	switch tok {
	case "code", "codes", "password", "passcode", "pin", "key", "figure", "digits":
		return true
	}
	return false
}

// ofSomething reports whether the number or code at i is said to be of
// something that is no secret.
func ofSomething(tokens []string, i int) bool {
	p := at(tokens, i-1)
	if numberOf(p) {
		return true
	}
	switch p {
	case "zip", "post", "postal", "area", "country", "sort", "dress", "source", "promo", "promotion", "promotional", "discount", "coupon", "error",
		"door", "gate", "garage", "lock", "entry", "group", "voucher", "bar", "qr", "product", "color", "colour", "fault", "building", "wifi", "my", "our", "his", "her", "whose",
		"tag", "meter", "locker", "rx", "prescription", "vin", "insurance", "social", "security", "passport", "licence", "card", "pnr", "wrong", "docket",
		"car", "cab", "taxi", "van", "bus", "train", "seat", "table", "platform", "meeting", "queue", "lot", "rail", "jersey", "shirt":
		return true
	}
	return false
}

// before reports whether one of words is among the n tokens before i.
func before(tokens []string, i, n int, words ...string) bool {
	for _, t := range tokens[max(0, i-n):max(0, i)] {
		for _, w := range words {
			if t == w {
				return true
			}
		}
	}
	return false
}
