package main

import (
	"strings"
	"unicode"
)

var numerals = [...]string{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}

// words are text's words as a recogniser would write them: lower case, no
// punctuation, digits one by one, whole hundreds as such.
func words(text string) []string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '\'':
			b.WriteRune(r)
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

// editDistance counts the substitutions, deletions and insertions that lead
// from one to the other, in words.
func editDistance(a, b []string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
