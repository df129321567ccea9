// Package wer compares what a recogniser wrote with what was said.
package wer

import (
	"strings"
	"unicode"

	"github.com/agnivade/levenshtein"
)

var numerals = [...]string{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}

// Words are text's words as a recogniser would write them: lower case, no
// punctuation, digits one by one, whole hundreds as such. Both sides of a
// comparison go through it.
func Words(text string) []string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '\'':
			b.WriteRune(r)
		case r == '’':
			b.WriteByte('\'')
		default:
			b.WriteByte(' ')
		}
	}
	var out []string
	for _, w := range strings.Fields(b.String()) {
		if strings.Trim(w, "0123456789") != "" {
			out = append(out, w)
			continue
		}
		hundreds := len(w) == 3 && w[1:] == "00"
		if hundreds {
			w = w[:1]
		}
		for _, d := range w {
			out = append(out, numerals[d-'0'])
		}
		if hundreds {
			out = append(out, "hundred")
		}
	}
	return out
}

// Errors counts the words that were substituted, left out or put in between
// what was said and what was heard. Divided by the words said it is the word
// error rate.
func Errors(said, heard []string) int {
	// The edit distance is one of runes, so each word gets a rune of its own.
	runes := make(map[string]rune)
	line := func(words []string) string {
		var b strings.Builder
		for _, w := range words {
			r, ok := runes[w]
			if !ok {
				r = firstRune + rune(len(runes))
				runes[w] = r
			}
			b.WriteRune(r)
		}
		return b.String()
	}
	return levenshtein.ComputeDistance(line(said), line(heard))
}

// firstRune is past the surrogates, which are no runes of their own; a million
// different words have room after it.
const firstRune = 0x10000
