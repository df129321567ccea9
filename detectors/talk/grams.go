package talk

import (
	"iter"
	"strings"
)

// A Gram is a word, two words that follow one another, or two with any one
// word between them. Text is for people: "read", "read the", "read * code".
type Gram struct {
	Hash          uint64 // FNV-1a of the text
	first, second string
	gap           bool
}

// Text is the gram as it is written.
func (g Gram) Text() string {
	switch {
	case g.second == "":
		return g.first
	case g.gap:
		return g.first + between + g.second
	}
	return g.first + " " + g.second
}

const (
	between = " * "
	number  = "#"
)

// Grams yields the grams of normalized words in order, repeated ones too.
func Grams(words []string) iter.Seq[Gram] {
	return func(yield func(Gram) bool) {
		for i, w := range words {
			h := hash(offset, w)
			if !yield(Gram{Hash: h, first: w}) {
				return
			}
			if i+1 < len(words) && !yield(Gram{hash(hash(h, " "), words[i+1]), w, words[i+1], false}) {
				return
			}
			if i+2 < len(words) && !yield(Gram{hash(hash(h, between), words[i+2]), w, words[i+2], true}) {
				return
			}
		}
	}
}

// FNV-1a, 64 bits.
const (
	offset = 14695981039346656037
	prime  = 1099511628211
)

func hash(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	return h
}

// Normalize appends what the model knows words by to dst: their stems, and one
// sign for any number of numbers. What the numbers are is nobody's business
// here, and a stem is known from fewer calls than each of its forms.
func Normalize(tokens, dst []string) []string {
	for _, t := range tokens {
		if isNumber(t) {
			if len(dst) == 0 || dst[len(dst)-1] != number {
				dst = append(dst, number)
			}
			continue
		}
		dst = append(dst, stem(t))
	}
	return dst
}

func isNumber(t string) bool {
	if t[0] >= '0' && t[0] <= '9' {
		return true
	}
	switch t {
	case "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh", "ten",
		"eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
		"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "thousand":
		return true
	}
	return false
}

// stem takes an ending off. It is cruder than Porter's stemmer and good enough
// to bring "read", "reading" and "reads" together.
func stem(t string) string {
	if strings.HasSuffix(t, "ss") {
		return t
	}
	for _, e := range [...]string{"'s", "'re", "'ll", "'ve", "'d", "ings", "ing", "ed", "es", "s", "ly", "e", "y"} {
		if len(t) <= len(e)+2 || !strings.HasSuffix(t, e) {
			continue
		}
		t = t[:len(t)-len(e)]
		if n := len(t); n > 3 && (t[n-1] == t[n-2] || t[n-1] == 'e') {
			t = t[:n-1]
		}
		return t
	}
	return t
}
