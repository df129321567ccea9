package phrase

import (
	"maps"
	"slices"
	"strings"
)

// numberAtom is the atom of every token that may be part of a number.
const numberAtom = 0

// atoms numbers what tokens are compared with: words, beginnings of words, and
// whether a token is a number's. A token has several atoms.
type atoms struct {
	words    map[string]int32 // while compiling: word to its atom; then to its entry in lists
	prefixes map[string]int32
	count    int
	lists    [][]int32     // atoms of the words that the patterns know
	byByte   [256][]prefix // beginnings, by their first byte
}

type prefix struct {
	text string
	atom int32
}

func (a *atoms) next() int32 {
	a.count++
	return int32(a.count - 1)
}

func (a *atoms) word(w string) int32 {
	id, ok := a.words[w]
	if !ok {
		id = a.next()
		a.words[w] = id
	}
	return id
}

func (a *atoms) prefix(p string) int32 {
	if a.prefixes == nil {
		a.prefixes = map[string]int32{}
	}
	id, ok := a.prefixes[p]
	if !ok {
		id = a.next()
		a.prefixes[p] = id
	}
	return id
}

// finish makes every known word's list of atoms; no atom is added after it.
func (a *atoms) finish() {
	for text, atom := range a.prefixes {
		a.byByte[text[0]] = append(a.byByte[text[0]], prefix{text, atom})
	}
	number := map[string]bool{}
	for w := range strings.FieldsSeq(numberWords) {
		number[w] = true
		if _, ok := a.words[w]; !ok {
			a.words[w] = -1
		}
	}
	for w, id := range a.words {
		var list []int32
		if id >= 0 {
			list = append(list, id)
		}
		if number[w] {
			list = append(list, numberAtom)
		}
		a.words[w] = int32(len(a.lists))
		a.lists = append(a.lists, a.unknown(w, list))
	}
}

// unknown appends the atoms of a token apart from its own.
func (a *atoms) unknown(token string, dst []int32) []int32 {
	if token == "" {
		return dst
	}
	for _, p := range a.byByte[token[0]] {
		if strings.HasPrefix(token, p.text) {
			dst = append(dst, p.atom)
		}
	}
	if hasDigit(token) {
		dst = append(dst, numberAtom)
	}
	return dst
}

// of appends the atoms of a token.
func (a *atoms) of(token string, dst []int32) []int32 {
	if i, ok := a.words[token]; ok {
		return append(dst, a.lists[i]...)
	}
	return a.unknown(token, dst)
}

// spelled lists the known words of every atom, sorted.
func (a *atoms) spelled() [][]string {
	words := make([][]string, a.count)
	for _, w := range slices.Sorted(maps.Keys(a.words)) {
		for _, atom := range a.lists[a.words[w]] {
			words[atom] = append(words[atom], w)
		}
	}
	return words
}
