package screen

import (
	"slices"
	"strings"
	"testing"
)

func TestHintsBeginWithWhatFraudsSayMost(t *testing.T) {
	lib, err := library()
	if err != nil {
		t.Fatal(err)
	}
	const limit = 100
	hints := Hints(lib.Set, limit)
	if len(hints) != limit {
		t.Fatalf("%d hints, want %d", len(hints), limit)
	}
	for _, want := range []string{"gift cards", "passcode", "any desk", "anydesk", "team viewer", "zelle", "verification code", "bitcoin"} {
		if !slices.Contains(hints, want) {
			t.Errorf("%q is not among %q", want, hints)
		}
	}
	said := func(h string) int {
		n := 0
		for _, text := range textsOf(frauds) {
			n += strings.Count(" "+text+" ", " "+h+" ")
		}
		return n
	}
	if first, last := said(hints[0]), said(hints[limit-1]); first < 5 || last > 1 {
		t.Errorf("frauds say %q %d times and %q %d times", hints[0], first, hints[limit-1], last)
	}
	if short := Hints(lib.Set, 3); !slices.Equal(short, hints[:3]) {
		t.Errorf("a short list has %q, not the first of %q", short, hints[:3])
	}
}
