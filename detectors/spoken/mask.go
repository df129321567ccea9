package spoken

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mask replaces every digit in text, written or spoken, by '#', one for each
// digit, and leaves all else as it is: "four seven, 29" is "# #, ##". Masking
// twice changes nothing more.
//
// A digit character never survives, wherever it stands. Number words are
// masked everywhere, single ones too, because a code may come one digit per
// utterance; so are repetitions ("triple oh" is "## #"), restarts, cut-off
// beginnings ("fo- four") and words that sound like digits inside a run (see
// [Runs]). What stays: ordinals, "hundred" and "thousand" where they stand for
// no digit of their own ("# hundred and ##"), "oh" apart from digits, and the
// fixed idioms in which a single number word is no number: "one time
// password", "one of", "no one", "this one", "press one", "two factor", "one
// second", "six digit code".
func Mask(text string) string {
	return maskAll([]string{text})[0]
}

// MaskWords masks words that follow one another, such as those of a segment,
// as [Mask] would mask them joined by spaces. It returns as many words.
func MaskWords(words []string) []string { return maskAll(words) }

// piece is a token and where it stands in the parts that are masked.
type piece struct {
	part, from, to int
	cut            bool // ends with a dash before a space: a word broken off
}

func maskAll(parts []string) []string {
	tokens, pieces := split(parts)
	marks := marks(tokens, pieces)
	out := make([]string, len(parts))
	var b strings.Builder
	next := 0
	for p, part := range parts {
		b.Reset()
		at := 0
		for ; next < len(pieces) && pieces[next].part == p; next++ {
			w := pieces[next]
			hideDigits(&b, part[at:w.from])
			if marks[next] > 0 {
				for range marks[next] {
					b.WriteByte('#')
				}
			} else {
				hideDigits(&b, part[w.from:w.to])
			}
			at = w.to
		}
		hideDigits(&b, part[at:])
		out[p] = b.String()
	}
	return out
}

// hideDigits writes s with its digit characters masked, of whatever script.
func hideDigits(b *strings.Builder, s string) {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if unicode.IsNumber(r) {
			b.WriteByte('#')
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
}

// split cuts parts into tokens: runs of letters, of digits with the signs
// between them, and of '#'.
func split(parts []string) (tokens []string, pieces []piece) {
	for p, part := range parts {
		for i := 0; i < len(part); {
			r, n := utf8.DecodeRuneInString(part[i:])
			c := class(r)
			if c == 0 {
				i += n
				continue
			}
			j := i + n
			for j < len(part) {
				r, n := utf8.DecodeRuneInString(part[j:])
				if class(r) != c && !(c == 'a' && r == '\'') {
					break
				}
				j += n
			}
			rest := part[j:]
			cut := c == 'a' && strings.HasPrefix(rest, "-") && (len(rest) == 1 || rest[1] == ' ' || rest[1] == '-')
			tokens = append(tokens, strings.ToLower(part[i:j]))
			pieces = append(pieces, piece{p, i, j, cut})
			i = j
		}
	}
	return tokens, pieces
}

// class is 'a' for letters, '1' for digits, '#' for what is masked already and
// 0 for what separates.
func class(r rune) byte {
	switch {
	case r == '#':
		return '#'
	case unicode.IsNumber(r):
		return '1'
	case unicode.IsLetter(r) || unicode.IsMark(r):
		return 'a'
	}
	return 0
}

// marks returns for each token by how many '#' it is replaced; 0 leaves it,
// apart from its digit characters.
func marks(tokens []string, pieces []piece) []int {
	marks := make([]int, len(tokens))
	lonely := alone(tokens)
	last := -1 // token that ended the run before
	for i := 0; i < len(tokens); {
		var r Run
		if i > 0 && strings.HasPrefix(tokens[i-1], "#") {
			for k, _ := kindAt(tokens, i); k == scale; k, _ = kindAt(tokens, i) {
				i++ // of a number that was masked before
			}
			if i == len(tokens) {
				break
			}
		}
		if k, _ := kindAt(tokens, i); k == scale && strings.HasPrefix(tokenAt(tokens, i+1), "#") {
			i++ // stood before the number that was masked, and in no part of it
			continue
		}
		if !runAt(tokens, i, &r) {
			if k, _ := classify(tokens[i]); k == letterO && lonely {
				marks[i] = 1
			}
			i++
			continue
		}
		if !isIdiom(tokens, &r, last) {
			markRun(tokens, &r, marks)
		}
		for j := i - 1; j >= 0 && pieces[j].cut && begins(tokens[j]); j-- {
			marks[j] = 1
		}
		last = r.Last
		i = r.Last + 1
	}
	return marks
}

// alone reports whether tokens hold an "oh" and nothing but fillers: then it
// may be a digit of a code that comes one by one.
func alone(tokens []string) bool {
	for _, t := range tokens {
		if k, _ := classify(t); k != letterO && k != filler {
			return false
		}
	}
	return true
}

// begins reports whether tok is the beginning of a digit's name.
func begins(tok string) bool {
	if len(tok) == 0 {
		return false
	}
	for _, w := range [...]string{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "twenty", "thirty", "forty", "fifty", "sixty", "ninety"} {
		if strings.HasPrefix(w, tok) {
			return true
		}
	}
	return false
}

// markRun marks the tokens of a run: every digit said, also those that a
// restart took back.
func markRun(tokens []string, r *Run, marks []int) {
	for i := r.First; i <= r.Last; {
		var buf [MaxDigits]byte
		n, d := elementAt(tokens, i, i > r.First, &buf)
		if n == 0 {
			if k, _ := classify(tokens[i]); k == alike {
				marks[i] = 1
			}
			i++
			continue
		}
		markElement(tokens, i, n, d, marks)
		i += n
	}
}

// markElement shares the d digits of an element among its n tokens: each digit
// word has its own, and the scales, from the last, have what is left.
func markElement(tokens []string, i, n, d int, marks []int) {
	left := d
	for j := i; j < i+n; j++ {
		k, v := classify(tokens[j])
		switch k {
		case digit, letterO:
			marks[j] = 1
		case teen:
			marks[j] = 2
		case tens:
			marks[j] = 1
			if next, w := kindAt(tokens, j+1); j+1 == i+n || next != digit || w == 0 {
				marks[j] = 2
			}
		case times:
			marks[j] = v - 1
		}
		left -= marks[j]
		if k == numeral {
			left -= len(tokens[j])
		}
	}
	for j := i + n - 1; j >= i && left > 0; j-- {
		if k, exp := classify(tokens[j]); k == scale {
			marks[j] = min(exp, left)
			left -= marks[j]
		}
	}
	for j := i; j < i+n && left > 0; j++ {
		if k, _ := classify(tokens[j]); k == scale {
			marks[j] += left // "a hundred": the one as well
			left = 0
		}
	}
}

func kindAt(tokens []string, i int) (kind, int) {
	if i < 0 || i >= len(tokens) {
		return other, 0
	}
	return classify(tokens[i])
}

// isIdiom reports whether the run is a single number word in a fixed phrase in
// which it is no number. A word with digits near it is never an idiom: after
// "four seven no" the "one" is a digit.
func isIdiom(tokens []string, r *Run, last int) bool {
	if r.First != r.Last || (last >= 0 && r.First == last+1) {
		return false
	}
	if k, _ := classify(tokens[r.First]); k != digit && k != teen {
		return false
	}
	before, after := tokenAt(tokens, r.First-1), tokenAt(tokens, r.Last+1)
	if (after == "digit" || after == "digits") && tokens[r.First] != "one" {
		return true
	}
	switch before {
	case "press", "pressing", "pressed":
		return true
	}
	switch tokens[r.First] {
	case "one":
		switch after {
		case "time", "of", "more", "second", "sec", "moment", "minute", "thing", "day", "another", "last", "drive", "by":
			return true
		}
		switch before {
		case "no", "this", "that", "the", "which", "any", "every", "each", "another", "other", "only", "someone":
			return true
		}
	case "two":
		switch after {
		case "factor", "step", "way":
			return true
		}
	}
	return false
}

func tokenAt(tokens []string, i int) string {
	if i < 0 || i >= len(tokens) {
		return ""
	}
	return tokens[i]
}
