package phrase

import (
	"slices"

	"github.com/callwarden/callwarden/detectors/spoken"
)

// numberWords are those of which every spoken number holds at least one. A
// text without any is not searched for numbers.
const numberWords = " zero zeros zeroes nought noughts naught nil cero one ones two twos three threes four fours fower " +
	"five fives fife six sixes seven sevens eight eights nine nines niner oh o ohs " +
	"ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen " +
	"twenty thirty forty fourty fifty sixty seventy eighty ninety " +
	"hundred thousand lakh lakhs lac lacs million crore crores grand k "

func hasDigit(token string) bool {
	for i := range len(token) {
		if c := token[i]; c >= '0' && c <= '9' {
			return true
		}
	}
	return false
}

// number is a stretch of tokens that says one, as far as it goes.
type number struct {
	kind        kind
	first, last int
	value       float64 // of digits: how many
}

// numbersIn finds the numbers of a text, each as long as it goes: a part of a
// longer number is none.
func (m *Matcher) numbersIn(tokens []string) {
	m.runs = spoken.Runs(tokens, m.runs[:0])
	for i := range m.runs {
		r := &m.runs[i]
		m.numbers = append(m.numbers, number{kindDigits, r.First, r.Last, float64(r.Count)})
	}
	for i := 0; i < len(tokens); i++ {
		if !m.numberNear(i) {
			continue
		}
		if n, ok := spoken.NumberAt(tokens, i); ok {
			m.numbers = append(m.numbers, number{kindNumber, n.First, n.Last, n.Value})
			i = n.Last
		}
	}
	for i := 0; i < len(tokens); i++ {
		if !m.numberNear(i) {
			continue
		}
		if n, ok := spoken.AmountAt(tokens, i); ok {
			m.numbers = append(m.numbers, number{kindAmount, n.First, n.Last, n.Value})
			i = n.Last
		}
	}
}

// numberNear reports whether a number may begin at token i: it or one of the
// two after it, behind "a" or a currency, is a number's. Most tokens are not,
// and looking takes less than trying.
func (m *Matcher) numberNear(i int) bool {
	return slices.Contains(m.flat[m.starts[i]:m.starts[min(i+3, len(m.starts)-1)]], numberAtom)
}
