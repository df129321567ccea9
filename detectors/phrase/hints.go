package phrase

import "strings"

// Hints lists the phrases of the classes with hints, once each: what
// recognisers should expect, as people say it and not as recognisers write it.
// It takes one of each class in turn, so that a list that is cut has something
// of all. Phrases with alternatives, gaps or numbers in them are left out.
func (s *Set) Hints() []string {
	var classes [][]string
	add := func(of []*class) {
		for _, cl := range of {
			if cl.hints {
				classes = append(classes, wordsOnly(cl.phrases))
			}
		}
	}
	add(s.shared.classes)
	for _, p := range s.packs {
		add(p.classes)
	}
	var list []string
	seen := map[string]bool{}
	for i, more := 0, true; more; i++ {
		more = false
		for _, texts := range classes {
			if i >= len(texts) {
				continue
			}
			more = true
			if text := texts[i]; !seen[text] {
				seen[text] = true
				list = append(list, text)
			}
		}
	}
	return list
}

// wordsOnly are the phrases that are nothing but words.
func wordsOnly(phrases []*source) []string {
	var texts []string
	for _, src := range phrases {
		if isWords(src.expr) {
			texts = append(texts, src.expr.String())
		}
	}
	return texts
}

func isWords(e *expr) bool {
	switch e.kind {
	case kindWord:
		return !strings.ContainsAny(e.text, "*0123456789")
	case kindSeq:
		for _, k := range e.kids {
			if !isWords(k) {
				return false
			}
		}
		return true
	}
	return false
}
