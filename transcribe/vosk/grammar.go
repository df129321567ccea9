package vosk

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/callwarden/callwarden/transcribe"
)

// unknown is the model's word for speech outside the vocabulary. It is in
// every phrase list: without it all speech is forced onto the phrases. Callers
// write Unheard for it.
const unknown = "[unk]"

// maxGrammarWords bounds what a caller can make the library compile.
const maxGrammarWords = 100_000

// plainWord reports whether s may be looked up in a vocabulary: letters,
// digits and what stands inside words. That leaves out the model's own
// symbols ("<eps>", "#0", "!SIL", "[unk]"), empty words, and bytes that would
// end a C string early.
func plainWord(s string) bool {
	if s == "" || len(s) > 200 || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.In(r, unicode.L, unicode.M, unicode.N) && !strings.ContainsRune("'-._’", r) {
			return false
		}
	}
	return true
}

// makeGrammar is the JSON list that a recogniser is opened with, and the
// sorted words that the model does not know. Every phrase in it is made of
// words that it knows; a list that is not well-formed, or empty, would bring
// the process down.
//
// The library does not search for whole phrases: it counts the words of the
// list, and the pairs of words, and makes a language model of the counts. So a
// phrase that stands twice weighs twice, and parts of phrases can be heard one
// after the other.
func makeGrammar(phrases []string, knows func(word string) bool) (grammar string, unheard []string, err error) {
	known := map[string]bool{}
	missing := map[string]bool{}
	var list []string
	total, real := 0, 0
	for _, phrase := range phrases {
		words := strings.Fields(strings.ToLower(phrase))
		if total += len(words); total > maxGrammarWords {
			return "", nil, fmt.Errorf("%w: phrases: more than %d words", transcribe.ErrOption, maxGrammarWords)
		}
		whole, speaks := len(words) > 0, false
		for i, w := range words {
			if w == Unheard {
				words[i] = unknown
				continue
			}
			speaks = true
			if _, ok := known[w]; !ok {
				known[w] = knows(w)
			}
			if !known[w] {
				missing[strings.ToValidUTF8(w, "�")] = true
				whole = false
			}
		}
		if whole {
			list = append(list, strings.Join(words, " "))
			if speaks {
				real++
			}
		}
	}
	unheard = slices.Sorted(maps.Keys(missing))
	if real == 0 {
		return "", unheard, fmt.Errorf("%w: phrases: the model knows none of the %d in full", transcribe.ErrOption, len(phrases))
	}
	data, err := json.Marshal(append(list, unknown))
	return string(data), unheard, err
}
