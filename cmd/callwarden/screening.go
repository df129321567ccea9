package main

import (
	"strings"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/transcribe"
)

// phraseList screens for the phrases that the packs expand to.
type phraseList struct {
	phrases []string
	words   map[string]int // of each phrase
}

// maxPhrases bounds the closed list: every phrase is searched for all the time.
const maxPhrases = 1500

func newPhraseList(set *phrase.Set, engine transcribe.Engine) *phraseList {
	l := &phraseList{words: map[string]int{}}
	knows, _ := engine.(transcribe.Vocabulary)
	for _, p := range set.Phrases(maxPhrases) {
		words := strings.Fields(p.Text)
		known := len(words) > 1
		for _, w := range words {
			known = known && (knows == nil || knows.Knows(w))
		}
		if known {
			l.phrases = append(l.phrases, p.Text)
			l.words[p.Text] = len(words)
		}
	}
	return l
}

func (l *phraseList) Phrases() []string { return l.phrases }

func (l *phraseList) Digits() []string {
	return strings.Fields("zero oh one two three four five six seven eight nine double triple")
}

func (l *phraseList) Scorer() listen.Scorer { return l }

// Hear takes a run of three words of the list or more for reason to transcribe.
func (l *phraseList) Hear(seg transcribe.Segment) detectors.Verdict {
	run, longest := 0, 0
	for w := range strings.FieldsSeq(seg.Text) {
		run++
		if w == "…" {
			run = 0
		}
		longest = max(longest, run)
	}
	if longest >= 3 {
		return detectors.Wake
	}
	return detectors.Hint
}
