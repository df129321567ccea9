package screen

import (
	"strings"

	"github.com/callwarden/callwarden/detectors/spoken"
)

// chained is after how many other sound-alikes each comes in the list.
const chained = 12

// digitList is what a person says who reads out a code, in pairs of words, so
// that whatever is said next is as likely. Words that sound like a digit stand
// for it, see [spoken.OfDigits].
func digitList() []string {
	var digits, alike, list []string
	spoken.OfDigits(func(word, digit string) {
		if word == digit {
			digits = append(digits, word)
		} else {
			alike = append(alike, word)
		}
	})
	pair := func(a, b string) { list = append(list, a+" "+b) }
	for _, a := range digits {
		for _, b := range digits {
			pair(a, b)
		}
	}
	for i, a := range alike {
		list = append(list, a)
		for _, d := range digits {
			pair(a, d)
			pair(d, a)
		}
		for n := 1; n <= chained; n++ {
			pair(a, alike[(i+n*n)%len(alike)])
		}
	}
	// Numbers in groups, and digits several at once.
	const groups = `twenty thirty forty fifty sixty seventy eighty ninety hundred double triple`
	for a := range strings.FieldsSeq(groups) {
		for _, d := range digits {
			pair(a, d)
			pair(d, a)
		}
	}
	return append(list, strings.Fields("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen nought niner")...)
}
