package dialogue

import (
	"strings"

	"github.com/callwarden/callwarden/detectors/spoken"
)

// codeLike reports whether a run of digits can be a code, going by the words
// beside it: not an amount, a date, a time, a measure, an address or a number
// that says what it is of. One or two digits alone are a code's only where
// little else is said.
func codeLike(tokens []string, runs []spoken.Run, r *spoken.Run) bool {
	if a, ok := spoken.AmountAt(tokens, r.First); ok && a.Last >= r.Last {
		return false
	}
	large := false
	for _, t := range tokens[r.First : r.Last+1] {
		switch t {
		case "thousand", "million", "lakh", "lakhs", "crore", "crores":
			large = true // nobody reads a code so
		case "no", "sorry", "wait":
			large = false // unless he takes it back
		}
	}
	if large && !(isSecret(at(tokens, r.First-2)) && at(tokens, r.First-1) == "is") {
		return false
	}
	for i := max(0, r.First-6); i < r.First; i++ {
		switch tokens[i] {
		case "amount", "total", "balance", "price", "bill", "rent", "sum":
			return false
		case "figure":
			if at(tokens, i-1) == "final" {
				return false
			}
		}
	}
	if measured(tokens, r.Last+1) || dated(tokens, r) || labelled(tokens, r.First) {
		return false
	}
	if r.Count >= 3 {
		return true
	}
	said := 0
	for i := range runs {
		said += runs[i].Last - runs[i].First + 1
	}
	return 5*said >= 2*len(tokens)
}

// isCode reports whether digits can be a one-time code for what else was said
// with them: not a part of a longer number, and nothing that the other side is
// to put in.
func isCode(m *mark, a *answer) bool { return m.longest <= a.run && !m.told }

// givesOut reports whether the digits of a run are given to the other side, who
// is to use them: "type four one seven", "you put in …", "I'm giving you …".
func givesOut(tokens []string, r *spoken.Run) bool {
	for i := max(0, r.First-9); i < r.First; i++ {
		switch tokens[i] {
		case "type", "put", "enter", "punch", "dial", "key":
			if before(tokens, i, 3, "i", "i've", "it", "i'll", "they") {
				continue
			}
			if r.First-i <= 5 {
				return true
			}
		case "you":
			if p := at(tokens, i-1); p == "give" || p == "giving" || p == "gave" {
				return true
			}
		case "your":
			if n := at(tokens, i+2); i+3 == r.First && (n == "is" || n == "will") {
				return !before(tokens, i, 2, "says", "said", "reads")
			}
		}
	}
	for i := r.Last + 1; i < min(len(tokens), r.Last+8); i++ {
		switch tokens[i] {
		case "click", "download", "run", "join", "start":
			if p := at(tokens, i-1); p == "and" || p == "then" || p == "press" || p == "start" || p == "hit" {
				return true
			}
		}
	}
	return false
}

// priceLike reports whether a run is said as amounts and years are: round, by
// hundreds, or in numbers below a hundred among other words. A code in pairs is
// said alone.
func priceLike(tokens []string, r *spoken.Run) bool {
	singles := 0
	for _, t := range tokens[r.First : r.Last+1] {
		switch t {
		case "hundred":
			return true
		case "zero", "oh", "o", "nought", "double", "triple", "treble":
			singles += 2
		}
	}
	if written := r.Last == r.First && tokens[r.First][0] >= '0' && tokens[r.First][0] <= '9'; written {
		return len(tokens[r.First]) >= 4 && strings.HasSuffix(tokens[r.First], "00") && !before(tokens, r.First, 3, "code", "is", "it's", "says")
	}
	words := r.Last - r.First + 1
	for i := r.First; i <= r.Last; i++ {
		if isUnit(tokens[i]) && !isTens(at(tokens, i-1)) {
			singles++
		}
	}
	return singles == 0 && (r.Count < 4 || 2*words < len(tokens))
}

func isUnit(tok string) bool {
	switch tok {
	case "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "niner":
		return true
	}
	return len(tok) == 1 && tok[0] >= '0' && tok[0] <= '9'
}

func isTens(tok string) bool {
	switch tok {
	case "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety":
		return true
	}
	return false
}

func at(tokens []string, i int) string {
	if i < 0 || i >= len(tokens) {
		return ""
	}
	return tokens[i]
}

// measured reports whether the word after a number makes it a measure.
func measured(tokens []string, i int) bool {
	switch at(tokens, i) {
	case "dollars", "dollar", "bucks", "pounds", "pound", "quid", "euros", "euro", "rupees", "rupee", "cents", "pence", "grand", "k",
		"percent", "per", "minutes", "minute", "hours", "hour", "days", "day", "weeks", "week", "months", "month", "years", "year",
		"seconds", "second", "times", "o'clock", "am", "pm", "degrees", "miles", "mile", "kilometers", "feet", "inches", "inch",
		"street", "avenue", "road", "drive", "lane", "boulevard", "court", "crescent", "close", "place", "people", "items", "cards",
		"digit", "digits", "letters", "characters", "numbers", "things", "of", "megabytes", "gigabytes", "grams", "gram", "kilos", "kilo", "kilograms", "litres", "liters", "volts", "watts", "units", "points", "steps", "calories", "kids", "children", "or", "off":
		return true
	case "a", "p":
		return at(tokens, i+1) == "m"
	case "in":
		return at(tokens, i+1) == "the" && (at(tokens, i+2) == "morning" || at(tokens, i+2) == "afternoon" || at(tokens, i+2) == "evening")
	}
	return false
}

// dated reports whether a month stands beside the run, or what says a year or
// a time of day before it.
func dated(tokens []string, r *spoken.Run) bool {
	for _, i := range [...]int{r.First - 2, r.First - 1, r.Last + 1, r.Last + 2} {
		switch at(tokens, i) {
		case "january", "february", "march", "april", "june", "july", "august", "september", "october", "november", "december":
			return true
		}
	}
	switch at(tokens, r.First-1) {
	case "calling", "dial", "dialling", "dialing", "ringing", "call",
		"since", "born", "until", "till", "around", "about", "almost", "nearly", "over", "under", "aged", "flight", "gate", "room",
		"extension", "apartment", "flat", "unit", "suite", "highway", "channel", "windows", "version", "iphone", "chapter", "page":
		return true
	case "in":
		return r.Count == 4 && at(tokens, r.First-2) == "born"
	}
	return false
}

// numberOf reports whether tok makes a "number" one that is no secret.
func numberOf(tok string) bool {
	switch tok {
	case "order", "confirmation", "booking", "reservation", "reference", "tracking", "phone", "telephone", "mobile", "cell", "cellphone",
		"contact", "callback", "account", "house", "flight", "ticket", "case", "policy", "customer", "client", "member", "membership",
		"invoice", "serial", "model", "registration", "apartment", "badge", "employee", "room", "street", "license", "plate", "file",
		"complaint", "claim", "parcel", "consignment", "fax", "landline", "routing", "patient", "student", "store", "part", "back":
		return true
	}
	return false
}

// otherNumber reports whether tokens from i on name a number that is no code,
// and where the name ends.
func otherNumber(tokens []string, i int) (last int, ok bool) {
	t, next := at(tokens, i), at(tokens, i+1)
	switch {
	case t == "address" && at(tokens, i-1) == "desk":
		return 0, false // an AnyDesk id is called so
	case numberOf(t) && (next == "number" || next == "id" || next == "no"):
		return i + 1, true
	case t == "zip" || t == "postcode" || t == "pincode" || t == "extension" || t == "birthday" || t == "birthdate" || t == "address":
		if next == "code" {
			return i + 1, true
		}
		return i, true
	case (t == "post" || t == "postal" || t == "area" || t == "country" || t == "sort") && next == "code":
		return i + 1, true
	case t == "date" && next == "of" && (at(tokens, i+2) == "birth" || at(tokens, i+2) == "purchase"):
		return i + 2, true
	case t == "number" && next == "to" && (at(tokens, i+2) == "call" || at(tokens, i+2) == "reach"):
		return i + 2, true
	}
	return 0, false
}

// labelled reports whether the number at i is said to be another one: "my
// order number is", "zip code is".
func labelled(tokens []string, i int) bool {
	for j := max(0, i-2); j < i; j++ {
		if t, own := strings.CutSuffix(tokens[j], "'s"); own && numberOf(t) || !own && numberOf(t) && j == i-1 && t != "phone" && t != "back" && t != "cell" && t != "mobile" {
			return true
		}
	}
	for j := max(0, i-6); j < i; j++ {
		last, ok := otherNumber(tokens, j)
		if !ok || last >= i {
			continue
		}
		// What stands in between may only join the two.
		joined := true
		for k := last + 1; k < i; k++ {
			switch tokens[k] {
			case "is", "it's", "was", "its", "um", "uh", "here", "that", "would", "be", "are", "as", "follows", "ends", "in", "with", "starts":
			default:
				joined = false
			}
		}
		if joined {
			return true
		}
	}
	return false
}

// isNumbered reports whether "which" or "what" before tok asks for a number that
// is no code.
func isNumbered(tok string) bool {
	switch tok {
	case "year", "time", "date", "day", "flat", "house", "floor", "door", "building", "room", "street", "road", "bus", "train", "platform", "size",
		"table", "gate", "terminal", "page", "channel", "age", "price", "amount":
		return true
	}
	return false
}

// asksOther reports whether the words from i on ask for a number that is no
// code ("can I have your order number", "how much was it"), and where that
// ends. "the code that we sent to your phone number" does not.
func asksOther(tokens []string, i int) (last int, ok bool) {
	if t, next := at(tokens, i), at(tokens, i+1); (t == "how" && (next == "much" || next == "many" || next == "old" || next == "long") && !before(tokens, i, 1, "is", "that's", "see", "know", "matter")) ||
		((t == "what" || t == "which") && isNumbered(next)) {
		return i + 1, true
	}
	last, ok = otherNumber(tokens, i)
	if !ok {
		return 0, false
	}
	for j := i - 1; j >= max(0, i-6); j-- {
		switch tokens[j] {
		case "to", "on", "from", "with", "by", "at", "of", "for", "under":
			return 0, false
		case "what", "what's", "give", "tell", "get", "have", "need", "confirm", "verify", "provide", "read", "and", "which", "got":
			return last, true
		}
	}
	// "your order number please"
	if i <= 1 || at(tokens, last+1) == "please" {
		return last, true
	}
	return 0, false
}
