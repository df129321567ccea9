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
	"errors"
	"slices"
	"strings"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
)

//go:embed said
var embedded embed.FS

const (
	// perPattern is how many wordings of a pattern are listened for at most,
	// and spread how many are looked at to find those that bring the most new
	// pairs of words.
	perPattern, spread = 15, 250
	// Shorter wordings are said by everybody; of longer ones the parts do.
	minWords, maxWords = 2, 8
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
	l.addTexts(hears, frauds, honest)
	for _, pack := range set.Packs() {
		for _, examples := range [...][]phrase.Example{pack.Match, pack.NoMatch} {
			for _, ex := range examples {
				words, _ := phrase.Tokenize(ex.Text, nil)
				l.add(hears, strings.Join(words, " "))
			}
		}
	}
	if l.addWordings(hears) == 0 {
		return nil, errors.New("screen: the recogniser knows the words of no pattern")
	}
	for _, w := range digitList() {
		if hears(w) {
			l.digits = append(l.digits, w)
		}
	}
	return l, nil
}

// Files below said.
const frauds, honest = "said/frauds.txt", "said/honest.txt"

func (l *List) addTexts(hears func(string) bool, files ...string) {
	for _, file := range files {
		for _, text := range textsOf(file) {
			l.add(hears, text)
		}
	}
}

// textsOf are the lines of an embedded file.
func textsOf(file string) []string {
	data, err := embedded.ReadFile(file)
	if err != nil {
		panic(err) // it is linked in
	}
	var texts []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			texts = append(texts, line)
		}
	}
	return texts
}

func (l *List) add(hears func(string) bool, text string) {
	if text != "" && !strings.ContainsAny(text, "0123456789") && hears(text) {
		l.phrases = append(l.phrases, text)
	}
}

// addWordings adds, for each pattern, wordings of which half of the pairs of
// words are not in the list yet, and returns how many wordings are in it.
//
// It is the pairs that a recogniser makes its model of. A pattern with classes
// of many words has thousands of wordings, which say the same pairs again and
// again.
func (l *List) addWordings(hears func(string) bool) (heard int) {
	type pair [2]string
	have := map[pair]bool{}
	for _, text := range l.phrases {
		words := strings.Fields(text)
		for i := 1; i < len(words); i++ {
			have[pair{words[i-1], words[i]}] = true
		}
	}
	for _, pack := range l.set.Packs() {
		for _, p := range pack.Patterns {
			if p.Stage == detectors.Protective {
				continue // it is of use only where the call is transcribed
			}
			got := 0
			for _, ph := range l.set.Expand(p, spread) {
				words := strings.Fields(ph.Text)
				if got == perPattern || len(words) < minWords || len(words) > maxWords || strings.ContainsAny(ph.Text, "0123456789") || !hears(ph.Text) {
					continue
				}
				heard++
				fresh := 0
				for i := 1; i < len(words); i++ {
					if !have[pair{words[i-1], words[i]}] {
						fresh++
					}
				}
				if 2*fresh < len(words)-1 || fresh == 0 {
					continue
				}
				for i := 1; i < len(words); i++ {
					have[pair{words[i-1], words[i]}] = true
				}
				l.phrases = append(l.phrases, ph.Text)
				got++
			}
		}
	}
	return heard
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
