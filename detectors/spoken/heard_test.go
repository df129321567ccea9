package spoken

import "testing"

func TestEveryWordOfTheListOfDigitsIsOneDigit(t *testing.T) {
	digits := map[string]string{}
	OfDigits(func(word, digit string) {
		if other, ok := digits[word]; ok {
			t.Errorf("%q stands for %s and %s", word, other, digit)
		}
		digits[word] = digit
		if got := DigitOf(word); got != digit {
			t.Errorf("%q is %s, want %s", word, got, digit)
		}
		if Runs([]string{digit}, nil)[0].Count != 1 {
			t.Errorf("%s is no digit", digit)
		}
	})
	for word, want := range map[string]string{"sick": "six", "oh": "zero", "nine": "nine", "hello": "hello", "…": "…", "forty": "forty"} {
		if got := DigitOf(word); got != want {
			t.Errorf("%q is %q, want %q", word, got, want)
		}
	}
}
