package spoken

import "strconv"

// MaxDigits is the length of the longest run that is read as one. It has room
// for a gift card with its PIN; a longer run is cut there and goes on as the
// next.
const MaxDigits = 40

const (
	maxFillers = 3       // words between two digits of a run: "and then um"
	maxValue   = 1 << 53 // the largest cardinal, exact as float64; past it words are read as digits
)

// Run is a stretch of tokens in which somebody says digits.
type Run struct {
	First, Last int // token indices, inclusive
	Count       int // of digits, after restarts
	text        [MaxDigits]byte
}

// Digits returns the digits of the run. It allocates.
func (r *Run) Digits() string { return string(r.text[:r.Count]) }

// Runs appends to dst every run of digits in tokens, left to right, none
// overlapping.
//
// Any mix of forms is one run: single digits, pairs ("forty seven"), hundreds
// and thousands, double and triple, written numerals. Up to three words
// without meaning may stand between ("and", "um", "dash", "yes"). A restart
// takes back what it repeats: "four seven no four eight" is 48.
//
// A word that sounds like a digit ("for", "to", "ate") counts as one only when
// it stands directly between two digits and the whole run has three times as
// many true single digits: a code of six may hold one, and "nine to five" and
// "four for ten" stay what they are.
func Runs(tokens []string, dst []Run) []Run {
	for i := 0; i < len(tokens); {
		var r Run
		if !runAt(tokens, i, &r) {
			i++
			continue
		}
		dst = append(dst, r)
		i = r.Last + 1
	}
	return dst
}

// DigitsAt reads the run of digits that begins with token i. What stands
// before i is not looked at.
func DigitsAt(tokens []string, i int) (r Run, ok bool) {
	ok = runAt(tokens, i, &r)
	return r, ok
}

// Count returns how many digits are said in tokens in all.
func Count(tokens []string) int {
	n := 0
	for i := 0; i < len(tokens); {
		var r Run
		if !runAt(tokens, i, &r) {
			i++
			continue
		}
		n += r.Count
		i = r.Last + 1
	}
	return n
}

// runAt reads a run into r, which is empty, joining stretches over words that
// sound like digits where that is allowed.
func runAt(tokens []string, i int, r *Run) bool {
	singles, ok := stretchAt(tokens, i, r)
	if !ok {
		return false
	}
	joined, total, alikes := *r, singles, 0
	for {
		j := joined.Last + 1
		if j+1 >= len(tokens) || joined.Count+2 > MaxDigits {
			break
		}
		k, v := classify(tokens[j])
		if k != alike {
			break
		}
		joined.text[joined.Count] = byte('0' + v)
		joined.Count++
		more, ok := stretchAt(tokens, j+1, &joined)
		if !ok || more == 0 {
			break
		}
		total += more
		alikes++
		if singles > 0 && alikes*3 <= total {
			*r = joined
		}
	}
	return true
}

// stretchAt reads digits from token i on and adds them to r. It returns how
// many of the elements were single digits. With ok false r is
// unchanged.
func stretchAt(tokens []string, i int, r *Run) (singles int, ok bool) {
	begin := r.Count
	for j := i; j < len(tokens); {
		var buf [MaxDigits]byte
		n, d := elementAt(tokens, j, j > i && j == r.Last+1, &buf)
		if n == 0 || r.Count+d > MaxDigits {
			break
		}
		if !ok && begin == 0 {
			r.First = i
		}
		ok = true
		if n == 1 && hasDigit(tokens[j]) {
			singles++
		}
		copy(r.text[r.Count:], buf[:d])
		r.Count += d
		r.Last = j + n - 1
		j += n
		next, back := skip(tokens, j)
		if back != filler && next < len(tokens) {
			if n, d := elementAt(tokens, next, false, &buf); n > 0 && d > 0 {
				r.Count = takeBack(r.text[begin:r.Count], buf[0], back) + begin
			}
		}
		j = next
	}
	return singles, ok
}

// skip returns the position after the fillers that begin at j, and restart or
// pause where they take back what was said. With too many of them it returns a
// position past the end.
func skip(tokens []string, j int) (next int, back kind) {
	back = filler
	for n := 0; j < len(tokens); n++ {
		k, _ := classify(tokens[j])
		if tokens[j] == "i" && j+1 < len(tokens) && (tokens[j+1] == "mean" || tokens[j+1] == "meant") {
			k = restart
			j++
		}
		switch k {
		case restart:
			back = restart
		case pause:
			if back == filler {
				back = pause
			}
		case filler:
		default:
			return j, back
		}
		if n == maxFillers {
			return len(tokens), back
		}
		j++
	}
	return j, back
}

// takeBack returns how many of said remain when the speaker starts again with
// digit next: what he repeats goes, or else, unless he only paused, his last
// digit.
func takeBack(said []byte, next byte, back kind) int {
	const reach = 6 // digits that a speaker holds in mind and goes back over
	for i := len(said) - 1; i >= 0 && i >= len(said)-reach; i-- {
		if said[i] == next {
			return i
		}
	}
	if back == pause {
		return len(said)
	}
	return max(len(said)-1, 0)
}

// elementAt reads one element of a run: a digit, a pair, a cardinal, a
// repetition or a numeral. It puts the digits into buf and returns how many
// tokens and digits there are, or zeros. Beside says that a digit stands
// directly before token i.
func elementAt(tokens []string, i int, beside bool, buf *[MaxDigits]byte) (n, d int) {
	if i < 0 || i >= len(tokens) {
		return 0, 0
	}
	k, v := classify(tokens[i])
	switch k {
	case digit:
		if n, d := cardinalAt(tokens, i, buf); n > 1 {
			return n, d
		}
		buf[0] = byte('0' + v)
		return 1, 1
	case letterO:
		if beside || (i+1 < len(tokens) && isDigitWord(tokens, i+1)) {
			buf[0] = '0'
			return 1, 1
		}
	case teen, tens, scale:
		return cardinalAt(tokens, i, buf)
	case times:
		if i+1 >= len(tokens) {
			return 0, 0
		}
		c, ok := oneDigit(tokens[i+1])
		if !ok {
			return 0, 0
		}
		for j := range v {
			buf[j] = c
		}
		return 2, v
	case numeral:
		if n, d := cardinalAt(tokens, i, buf); n > 1 {
			return n, d
		}
		for j := 0; j < len(tokens[i]) && d < MaxDigits; j++ {
			if c := tokens[i][j]; c >= '0' && c <= '9' {
				buf[d] = c
				d++
			}
		}
		return 1, d
	}
	return 0, 0
}

// isDigitWord reports whether token i is a digit for the sake of an "oh"
// before it. A chain of them needs a digit at its end.
func isDigitWord(tokens []string, i int) bool {
	for end := min(len(tokens), i+MaxDigits); i < end; i++ {
		switch k, _ := classify(tokens[i]); k {
		case digit, teen, tens, numeral:
			return true
		case times:
			return i+1 < len(tokens) && hasDigit(tokens[i+1])
		case letterO:
		default:
			return false
		}
	}
	return false
}

func hasDigit(tok string) bool {
	_, ok := oneDigit(tok)
	return ok
}

// oneDigit reads a token that is a single digit in word or numeral.
func oneDigit(tok string) (byte, bool) {
	switch k, v := classify(tok); k {
	case digit, letterO:
		return byte('0' + v), true
	case numeral:
		if len(tok) == 1 {
			return tok[0], true
		}
	}
	return 0, false
}

// cardinalAt reads a pair or a cardinal number and puts its digits into buf.
func cardinalAt(tokens []string, i int, buf *[MaxDigits]byte) (n, d int) {
	v, n := cardinal(tokens, i)
	if n == 0 {
		return 0, 0
	}
	return n, len(strconv.AppendInt(buf[:0], v, 10))
}

// cardinal reads the longest cardinal number that begins with token i:
// "forty seven", "four hundred and twelve", "twelve hundred", "two lakh". It
// returns its value and how many tokens it takes.
//
// A single digit after a hundred or a thousand belongs to it only when it is
// not the first of several: "eight hundred five" is 805, "eight hundred five
// five five" is 800 and then 555.
func cardinal(tokens []string, i int) (v int64, n int) {
	group, n := below100(tokens, i)
	if n == 0 {
		k, _ := classify(tokens[i])
		if k != scale {
			return 0, 0
		}
		group = 1 // "hundred", as in "a hundred"
	}
	var total int64
	limit := int64(maxValue) // scales fall, apart from "two hundred thousand"
	for i+n < len(tokens) {
		k, exp := classify(tokens[i+n])
		if k != scale {
			break
		}
		size := pow10(exp)
		if exp > 2 && size >= limit {
			break
		}
		if group > maxValue/size {
			break
		}
		group *= size
		n++
		if exp > 2 {
			total += group
			group = 0
			limit = size
		}
		rest, m := tail(tokens, i+n, exp)
		if m > 0 {
			group += rest
			n += m
		}
	}
	if n == 0 {
		return 0, 0
	}
	return total + group, n
}

// tail reads what may follow a hundred (exp 2) or a larger scale in one
// cardinal: "and twelve", "seven hundred".
func tail(tokens []string, i, exp int) (v int64, n int) {
	j := i
	and := j < len(tokens) && tokens[j] == "and"
	if and {
		j++
	}
	v, m := below100(tokens, j)
	if m == 0 {
		return 0, 0
	}
	next := other
	if j+m < len(tokens) {
		next, _ = classify(tokens[j+m])
	}
	if next == scale {
		_, e := classify(tokens[j+m])
		if e >= exp && (exp > 2 || e == 2) {
			return 0, 0 // "eight hundred five hundred": two numbers
		}
		return v, j + m - i // the caller goes on with the scale
	}
	if v < 10 && !and {
		switch next {
		case digit, letterO, teen, tens, times, numeral:
			return 0, 0
		}
	}
	return v, j + m - i
}

// below100 reads a number of one or two digits in words, or a numeral of at
// most three digits.
func below100(tokens []string, i int) (v int64, n int) {
	if i >= len(tokens) {
		return 0, 0
	}
	k, u := classify(tokens[i])
	switch k {
	case digit, teen:
		return int64(u), 1
	case tens:
		if i+1 < len(tokens) {
			if isOrdinal(tokens[i+1]) {
				return 0, 0 // "twenty first"
			}
			if k, w := classify(tokens[i+1]); k == digit && w > 0 {
				return int64(u + w), 2
			}
		}
		return int64(u), 1
	case numeral:
		if len(tokens[i]) > 3 {
			return 0, 0
		}
		w, err := strconv.Atoi(tokens[i])
		if err != nil {
			return 0, 0
		}
		return int64(w), 1
	}
	return 0, 0
}

func pow10(exp int) int64 {
	p := int64(1)
	for range exp {
		p *= 10
	}
	return p
}
