package screen

import (
	"cmp"
	"slices"
	"strings"

	"github.com/callwarden/callwarden/detectors/phrase"
)

// Hints lists at most limit of the hints of set for recognisers with an open
// vocabulary, those that frauds say most first: a recogniser takes as many as
// it can.
func Hints(set *phrase.Set, limit int) []string {
	hints := set.Hints()
	texts := textsOf(frauds)
	for _, pack := range set.Packs() {
		for _, ex := range pack.Match {
			words, _ := phrase.Tokenize(ex.Text, nil)
			texts = append(texts, strings.Join(words, " "))
		}
	}
	all := "\n " + strings.Join(texts, " \n ") + " \n"
	said := make(map[string]int, len(hints))
	for _, h := range hints {
		said[h] = strings.Count(all, " "+h+" ")
	}
	slices.SortStableFunc(hints, func(a, b string) int { return cmp.Compare(said[b], said[a]) })
	return hints[:min(limit, len(hints))]
}
