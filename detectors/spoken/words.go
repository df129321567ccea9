// Package spoken reads numbers as people say them, and as they are written in
// the middle of speech: "four seven two nine", "forty seven twenty nine",
// "double five", "triple oh", "472 913". It also masks them.
//
// Tokens are words in lower case, split at white space and hyphens. Functions
// that take a position read from there on and never look before it, so that a
// phrase matcher can try every position. Nothing here allocates but masking.
package spoken

// kind is what a token can be in a number.
type kind uint8

const (
	other   kind = iota
	digit        // zero to nine: val
	letterO      // "oh", "o": a zero, but only beside another digit
	teen         // ten to nineteen: val
	tens         // twenty to ninety: val
	scale        // hundred and above: val is the exponent of ten
	times        // double, triple: val is how often
	numeral      // written digits, perhaps with a currency sign, points and commas
	alike        // a word that recognisers write for a digit: val is that digit
	filler       // said between digits without meaning
	restart      // takes back what was just said
	pause        // takes back only if what follows repeats it
)

// classify says what tok can be and its value. A numeral's value is not
// computed: it can be of any length.
func classify(tok string) (k kind, val int) {
	if tok == "" {
		return other, 0
	}
	switch tok {
	case "zero", "zeros", "zeroes", "nought", "noughts", "naught", "nil", "cero":
		return digit, 0
	case "one", "ones":
		return digit, 1
	case "two", "twos":
		return digit, 2
	case "three", "threes":
		return digit, 3
	case "four", "fours", "fower":
		return digit, 4
	case "five", "fives", "fife":
		return digit, 5
	case "six", "sixes":
		return digit, 6
	case "seven", "sevens":
		return digit, 7
	case "eight", "eights":
		return digit, 8
	case "nine", "nines", "niner":
		return digit, 9
	case "oh", "o", "ohs":
		return letterO, 0
	case "ten":
		return teen, 10
	case "eleven":
		return teen, 11
	case "twelve":
		return teen, 12
	case "thirteen":
		return teen, 13
	case "fourteen":
		return teen, 14
	case "fifteen":
		return teen, 15
	case "sixteen":
		return teen, 16
	case "seventeen":
		return teen, 17
	case "eighteen":
		return teen, 18
	case "nineteen":
		return teen, 19
	case "twenty":
		return tens, 20
	case "thirty":
		return tens, 30
	case "forty", "fourty":
		return tens, 40
	case "fifty":
		return tens, 50
	case "sixty":
		return tens, 60
	case "seventy":
		return tens, 70
	case "eighty":
		return tens, 80
	case "ninety":
		return tens, 90
	case "hundred":
		return scale, 2
	case "thousand":
		return scale, 3
	case "lakh", "lakhs", "lac", "lacs":
		return scale, 5
	case "million":
		return scale, 6
	case "crore", "crores":
		return scale, 7
	case "double":
		return times, 2
	case "triple", "treble":
		return times, 3
	case "quadruple":
		return times, 4
	case "and", "then", "dash", "hyphen", "space", "um", "uh", "er", "erm", "ah", "hm", "hmm",
		"yes", "yeah", "yep", "okay", "ok", "right", "mhm", "alright":
		return filler, 0
	case "no", "correction", "oops", "nope":
		return restart, 0
	case "sorry", "wait":
		return pause, 0
	// What the small Vosk model wrote for digits in telephone quality, and
	// plain homophones: see [Runs] for how few of them a run may hold.
	case "for", "fore", "far", "or", "poor":
		return alike, 4
	case "to", "too", "do":
		return alike, 2
	case "ate", "hate", "a", "egg":
		return alike, 8
	case "tree", "free":
		return alike, 3
	case "won", "wan":
		return alike, 1
	case "sex", "sick", "sicks", "fix", "pick":
		return alike, 6
	case "line", "mine", "nein":
		return alike, 9
	case "hive", "fine", "by":
		return alike, 5
	case "nero", "niro", "hero":
		return alike, 0
	case "heaven":
		return alike, 7
	}
	if isNumeral(tok) {
		return numeral, 0
	}
	return other, 0
}

// isNumeral reports whether tok is digits with nothing else but the signs that
// are written among them.
func isNumeral(tok string) bool {
	has := false
	for i := 0; i < len(tok); i++ {
		switch c := tok[i]; {
		case c >= '0' && c <= '9':
			has = true
		case c == ',' || c == '.' || c == ':' || c == '/' || c == '-' || c == '\'':
			// "1,499.99", "4:30", "02081.449696"
		default:
			return false
		}
	}
	return has
}

// isOrdinal reports whether tok makes the number before it an ordinal:
// "twenty first".
func isOrdinal(tok string) bool {
	switch tok {
	case "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth":
		return true
	}
	return false
}
