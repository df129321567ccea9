package spoken

import "strings"

// sounds are the words that a recogniser with nothing else to choose from is
// given for each digit, as its sounds are cut by a telephone and by the silence
// around it: "sick" for six, "or" for four. Without them half of the digits
// that are read one by one, cut short, are taken for silence.
func sounds() [10]string {
	return [10]string{
		"zero oh hero zeros zeroes nero arrow euro row so go no ero cero",
		"one won wan on once want what run world woman",
		"two to too do you who through new chew",
		"three tree free he we see me be thee sea tea feet",
		"four for or fore oar fort your more door war law all full far",
		"five fife fire i've hive hi eye i by my why life wife fight",
		"six sex sick ix fix kicks is it in this his picks",
		"seven heaven evan sven then them",
		"eight ate eh aid hey eights they day say may at age aide edge",
		"nine nigh mine line nein night nines time like knife man",
	}
}

// OfDigits calls yield with every word that stands for a digit in a list of
// digits, and the name of the digit, which is its first word.
func OfDigits(yield func(word, digit string)) {
	for _, words := range sounds() {
		digit, _, _ := strings.Cut(words, " ")
		for w := range strings.FieldsSeq(words) {
			yield(w, digit)
		}
	}
}

// DigitOf is the name of the digit that was said where a recogniser with a list
// of digits heard word, or word where that is none of the list's.
func DigitOf(word string) string {
	heard := word
	OfDigits(func(w, digit string) {
		if w == word {
			heard = digit
		}
	})
	return heard
}
