package wer

import (
	"slices"
	"strings"
	"testing"
)

func TestWordsAreWrittenAsSpoken(t *testing.T) {
	for text, want := range map[string]string{
		"Please press 1, or 24.":    "please press one or two four",
		"You can dial 500 to exit!": "you can dial five hundred to exit",
		"If you'd like re-recorded": "if you'd like re recorded",
		"H I N I C H":               "h i n i c h",
		"It’s 9’o’clock":            "it's 9'o'clock",
		"...":                       "",
	} {
		if got := Words(text); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestErrorsCountsWords(t *testing.T) {
	for _, c := range []struct {
		spoken, heard string
		want          int
	}{
		{"", "", 0},
		{"a b c", "a b c", 0},
		{"a b c", "", 3},
		{"", "a b", 2},
		{"a b c", "a x c", 1},
		{"a b c d", "a c d e", 2},
	} {
		if got := Errors(strings.Fields(c.spoken), strings.Fields(c.heard)); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.spoken, c.heard, got, c.want)
		}
	}
}
