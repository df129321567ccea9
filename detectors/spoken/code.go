package spoken

// Code is a stretch in which somebody spells letters and digits, such as the
// claim code of a gift card.
type Code struct {
	First, Last     int // token indices, inclusive
	Letters, Digits int
	text            [MaxDigits]byte
}

// Text returns what was spelled: letters in lower case, and digits. It
// allocates.
func (c *Code) Text() string { return string(c.text[:c.Letters+c.Digits]) }

// Codes appends to dst every stretch of at least three spelled letters and
// digits in tokens, left to right, none overlapping. Letters are said alone
// ("x"), by the NATO alphabet ("x-ray"), or with an example ("c as in
// charlie", "b for bravo"); digits in the forms that [Runs] reads; tokens that
// mix both ("x7k9") are taken as written. Stretches of digits alone are left
// to Runs and not reported.
func Codes(tokens []string, dst []Code) []Code {
	for i := 0; i < len(tokens); {
		var c Code
		if !codeAt(tokens, i, &c) {
			i++
			continue
		}
		if c.Letters > 0 && c.Letters+c.Digits >= 3 {
			dst = append(dst, c)
		}
		i = c.Last + 1
	}
	return dst
}

// codeAt reads a stretch that begins with token i. The words "a" and "i" count
// as letters only after another letter or digit.
func codeAt(tokens []string, i int, c *Code) bool {
	begun := false
	for j := i; j < len(tokens); {
		var buf [MaxDigits]byte
		n, letters, digits := spelledAt(tokens, j, begun && j == c.Last+1, &buf)
		total := c.Letters + c.Digits
		if n == 0 || total+letters+digits > MaxDigits {
			break
		}
		if !begun {
			c.First, begun = j, true
		}
		copy(c.text[total:], buf[:letters+digits])
		c.Letters += letters
		c.Digits += digits
		c.Last = j + n - 1
		j, _ = skip(tokens, j+n)
	}
	return begun
}

// spelledAt reads one letter with its example, one element of digits, or one
// mixed token.
func spelledAt(tokens []string, i int, beside bool, buf *[MaxDigits]byte) (n, letters, digits int) {
	if n, d := elementAt(tokens, i, beside, buf); n > 0 {
		return n, 0, d
	}
	tok := tokens[i]
	if tok == "double" && i+1 < len(tokens) {
		if l := letter(tokens[i+1]); l != 0 {
			buf[0], buf[1] = l, l
			return 2, 2, 0
		}
	}
	if l := letter(tok); l != 0 && (beside || (tok != "a" && tok != "i")) {
		buf[0] = l
		return 1 + example(tokens, i+1, l), 1, 0
	}
	if len(tok) > MaxDigits {
		return 0, 0, 0
	}
	for j := 0; j < len(tok); j++ {
		switch c := tok[j]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'z':
			letters++
		default:
			return 0, 0, 0
		}
		buf[j] = tok[j]
	}
	if letters == 0 || digits == 0 {
		return 0, 0, 0
	}
	return 1, letters, digits
}

// example returns how many tokens from i on explain letter l: "as in
// charlie", "for charlie", "like charlie".
func example(tokens []string, i int, l byte) int {
	j := i
	switch tokenAt(tokens, j) {
	case "as":
		if tokenAt(tokens, j+1) != "in" {
			return 0
		}
		j += 2
	case "for", "like":
		j++
	default:
		return 0
	}
	word := tokenAt(tokens, j)
	if len(word) < 2 || word[0] != l {
		return 0
	}
	return j + 1 - i
}

// letter reads a single letter or a word of the NATO alphabet; 0 is neither.
func letter(tok string) byte {
	if len(tok) == 1 && tok[0] >= 'a' && tok[0] <= 'z' {
		return tok[0]
	}
	switch tok {
	case "alpha", "alfa", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet",
		"juliett", "kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango",
		"uniform", "victor", "whiskey", "whisky", "xray", "yankee", "zulu":
		return tok[0]
	}
	return 0
}
