// Package screen compiles the tactic packs to the closed list of phrases that
// every leg is listened to with, and weighs what is heard of it.
//
// A recogniser with a closed list makes a small language model of it, so the
// list is one: wordings of every pattern, and what honest people say, for
// ordinary speech to find words of its own in. What is heard is then a rough
// transcript in a small vocabulary, a fraud's words being heard better than
// with an open one, and all others worse.
package screen

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
)

//go:embed carriers
var embedded embed.FS

const (
	// perPattern is how many wordings of a pattern are listened for, examples
	// of its pack first. With 30, ordinary speech is taken for a fraud's as
	// often, and frauds are heard no better.
	perPattern = 8
	// spread is how many wordings are looked at to find these.
	spread = 200
	// Shorter wordings are said by everybody; longer ones are heard by their
	// parts, since the recogniser looks at pairs of words.
	minWords, maxWords = 2, 7
)

// List is what the packs compile to for one recogniser. It is immutable and
// safe for all goroutines.
type List struct {
	set     *phrase.Set
	phrases []string
	digits  []string
	unheard map[string]bool
}

// Compile expands the patterns of set to a list of phrases whose words the
// recogniser knows; a nil knows leaves none out. An error says that it knows
// too few of them to be of use.
func Compile(set *phrase.Set, knows func(word string) bool) (*List, error) {
	l := &List{set: set, unheard: map[string]bool{}}
	known := map[string]bool{}
	hears := func(text string) bool {
		whole := true
		for w := range strings.FieldsSeq(text) {
			k, seen := known[w]
			if !seen {
				k = knows == nil || knows(w)
				known[w] = k
			}
			if !k {
				l.unheard[w] = true
				whole = false
			}
		}
		return whole
	}
	wordings := 0
	for _, pack := range set.Packs() {
		for _, p := range pack.Patterns {
			if p.Stage == detectors.Protective {
				continue // it is of use only where the call is transcribed
			}
			got := 0
			for _, ph := range set.Expand(p, spread) {
				n := len(strings.Fields(ph.Text))
				if got == perPattern || n < minWords || n > maxWords || strings.ContainsAny(ph.Text, "0123456789") || !hears(ph.Text) {
					continue
				}
				l.phrases = append(l.phrases, ph.Text)
				got++
			}
			wordings += got
		}
	}
	if wordings == 0 {
		return nil, fmt.Errorf("screen: the recogniser knows the words of no pattern")
	}
	for _, text := range carriers(set) {
		if hears(text) {
			l.phrases = append(l.phrases, text)
		}
	}
	for _, w := range digitList() {
		if hears(w) {
			l.digits = append(l.digits, w)
		}
	}
	return l, nil
}

// carriers is what honest people say: what the packs give as examples that do
// not match, and sentences of our own.
func carriers(set *phrase.Set) []string {
	var list []string
	for _, pack := range set.Packs() {
		for _, ex := range pack.NoMatch {
			words, _ := phrase.Tokenize(ex.Text, nil)
			list = append(list, strings.Join(words, " "))
		}
	}
	data, err := embedded.ReadFile("carriers/en.txt")
	if err != nil {
		panic(err) // it is linked in
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

// Phrases is the closed list that every leg is screened with. It must not be
// changed.
func (l *List) Phrases() []string { return l.phrases }

// Digits is the closed list for a leg that is expected to read out a code. It
// must not be changed.
func (l *List) Digits() []string { return l.digits }

// Unheard lists the words that kept wordings out, sorted.
func (l *List) Unheard() []string {
	var words []string
	for w := range l.unheard {
		words = append(words, w)
	}
	slices.Sort(words)
	return words
}
