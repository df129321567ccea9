package phrase

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Tokenize appends the tokens of text to dst: lower-case words, split at white
// space, hyphens and most punctuation, as docs/phrases.md says. Written forms
// are turned into spoken ones where that takes no guessing: "$50" is the
// tokens "50" "dollars", "support.me" is "support" "dot" "me", "O.T.P." is
// "otp". question reports whether text holds a question mark.
//
// It appends what [AppendWord] appends for every white-space separated field,
// so that a caller who must know which word a token came from calls that.
func Tokenize(text string, dst []string) (tokens []string, question bool) {
	for field := range strings.FieldsSeq(text) {
		dst = AppendWord(dst, field)
	}
	return dst, strings.Contains(text, "?")
}

// AppendWord appends the tokens of one word, which holds no white space, to
// dst: often one, none for bare punctuation. A word that is a token already is
// appended without allocating.
func AppendWord(dst []string, word string) []string {
	if plain(word) {
		return append(dst, word)
	}
	word = strings.ToLower(word)
	// The letters of a dotted abbreviation belong together.
	abbreviation := dottedLetters(word)
	var token []byte
	flush := func() {
		t := strings.Trim(string(token), "'")
		token = token[:0]
		if t != "" {
			dst = append(dst, t)
		}
	}
	after := "" // the currency's name, said after the number
	for i, r := range word {
		next, _ := utf8.DecodeRuneInString(word[i+utf8.RuneLen(validRune(r)):])
		inside := len(token) > 0 && isWordRune(next)
		switch {
		case isWordRune(r):
			token = utf8.AppendRune(token, r)
		case r == '\'' || r == '’' || r == '‘' || r == 'ʼ':
			token = append(token, '\'')
		case r == '.' && abbreviation:
		case (r == '.' || r == ',') && inside && lastDigit(token) && unicode.IsDigit(next):
			// 1,500.25 is one number, written without its commas.
			if r == '.' {
				token = append(token, '.')
			}
		case r == '.' && inside:
			flush()
			dst = append(dst, "dot")
		default:
			flush()
			if name := symbolName(r); name != "" {
				if unicode.Is(unicode.Sc, r) && unicode.IsDigit(next) {
					after = name
				} else {
					dst = append(dst, name)
				}
			}
		}
	}
	flush()
	if after != "" {
		dst = append(dst, after)
	}
	return dst
}

// validRune maps the rune that range yields for a broken byte to one as long.
func validRune(r rune) rune {
	if r == utf8.RuneError {
		return 'x'
	}
	return r
}

func isWordRune(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r))
}

// plain reports whether word is a token as it stands.
func plain(word string) bool {
	for i := range len(word) {
		c := word[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '\'' || i == 0 || i == len(word)-1) {
			return false
		}
	}
	return word != ""
}

func lastDigit(token []byte) bool {
	c := token[len(token)-1]
	return c >= '0' && c <= '9'
}

// dottedLetters reports whether word is single letters with dots between, as
// in "o.t.p." and "u.s".
func dottedLetters(word string) bool {
	letters := 0
	for part := range strings.SplitSeq(strings.TrimRight(word, ".,;:!?)\"'"), ".") {
		part = strings.TrimLeft(part, "(\"'")
		if r, size := utf8.DecodeRuneInString(part); size != len(part) || !unicode.IsLetter(r) {
			return false
		}
		letters++
	}
	return letters > 1
}

// symbolName is how a sign is said.
func symbolName(r rune) string {
	switch r {
	case '$':
		return "dollars"
	case '£':
		return "pounds"
	case '€':
		return "euros"
	case '₹':
		return "rupees"
	case '%':
		return "percent"
	case '@':
		return "at"
	case '&':
		return "and"
	}
	return ""
}
