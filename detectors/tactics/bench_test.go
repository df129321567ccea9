package tactics_test

import (
	"testing"

	"github.com/callwarden/callwarden/detectors/phrase"
)

// The segments hold many words that begin phrases, and no tactic.
var dullSegments = []string{
	"well i was going to ask my sister if she could come over and look after the dog on saturday",
	"the meeting has been moved to the small room on the second floor because the big one is too cold",
	"you know we never really talked about the holiday and i would like to see the mountains again some day",
}

// BenchmarkMatchWithoutMatch is what every segment of every call costs: the
// aim is under 10 µs for 20 words and no allocation.
func BenchmarkMatchWithoutMatch(b *testing.B) {
	m := embeddedPacks(b).Set.NewMatcher()
	var segments [][]string
	for _, text := range dullSegments {
		tokens, _ := phrase.Tokenize(text, nil)
		segments = append(segments, tokens)
	}
	var found []phrase.Match
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		found = m.Match(segments[i%len(segments)], false, found[:0])
		if len(found) > 0 {
			b.Fatalf("%q matches %s", dullSegments[i%len(segments)], found[0].Pattern.Rule())
		}
	}
}
