package phrase

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTokensAreAsTheyAreSaid(t *testing.T) {
	for text, want := range map[string]string{
		"Please give me the 6-digit code.":    "please give me the 6 digit code",
		"don't, DON’T 'tis customers'":        "don't don't tis customers",
		"a $500 gift, £20 or 50%":             "a 500 dollars gift 20 pounds or 50 percent",
		"$1,499.99 and ₹2,00,000":             "1499.99 dollars and 200000 rupees",
		"go to support.me or fastsupport.com": "go to support dot me or fastsupport dot com",
		"your O.T.P. in the U.S.":             "your otp in the us",
		"call 1-800-555":                      "call 1 800 555",
		"R&D@home … — ok":                     "r and d at home ok",
		"end.Start":                           "end dot start",
		"at 4:30 p.m.":                        "at 4 30 pm",
		"Größe naïve":                         "größe naïve",
		"":                                    "",
		"?!":                                  "",
	} {
		if got, _ := Tokenize(text, nil); strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// A token is a token again: words that a recogniser wrote and text that was
// tokenized before match alike.
func TestTokenizingTokensChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		once, _ := Tokenize(text, nil)
		var words []string
		for _, w := range strings.Fields(text) {
			words = AppendWord(words, w)
		}
		if !slices.Equal(once, words) {
			t.Fatalf("Tokenize gave %q, AppendWord %q", once, words)
		}
		if again, _ := Tokenize(strings.Join(once, " "), nil); !slices.Equal(once, again) {
			t.Fatalf("once %q, twice %q", once, again)
		}
	})
}
