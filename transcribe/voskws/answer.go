package voskws

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe"
)

// Vosk's word for speech that is in no phrase, and ours.
const (
	unknown = "[unk]"
	unheard = "…"
)

// fromList makes phrases of a client's phrase list.
func fromList(list []string) []string {
	phrases := make([]string, len(list))
	for i, p := range list {
		phrases[i] = strings.ReplaceAll(p, unknown, unheard)
	}
	return phrases
}

func fromText(text string) string { return strings.ReplaceAll(text, unheard, unknown) }

// said is what a session has said and its client was not told.
type said struct {
	partial string
	ended   bool // an utterance has
	text    []string
	words   []transcribe.Word
}

func (s *said) take(segments []transcribe.Segment) {
	for _, seg := range segments {
		if !seg.Final {
			s.partial = seg.Text
			continue
		}
		s.partial, s.ended = "", true
		if seg.Text != "" {
			s.text = append(s.text, seg.Text)
			s.words = append(s.words, seg.Words...)
		}
	}
}

type word struct {
	Conf  float64 `json:"conf"`
	End   float64 `json:"end"`
	Start float64 `json:"start"`
	Word  string  `json:"word"`
}

type partial struct {
	Partial string `json:"partial"`
}

type result struct {
	Result []word `json:"result,omitempty"`
	Text   string `json:"text"`
}

// alternative has no confidence of each word in the original either, but one
// of the whole.
type alternative struct {
	Confidence float64           `json:"confidence"`
	Result     []alternativeWord `json:"result,omitempty"`
	Text       string            `json:"text"`
}

type alternativeWord struct {
	End   float64 `json:"end"`
	Start float64 `json:"start"`
	Word  string  `json:"word"`
}

// answer is what an audio message gets: the utterances that ended with it, or
// what the current one is taken for.
func (s *said) answer(words, alternatives bool) ([]byte, error) {
	if s.ended {
		return s.final(words, alternatives)
	}
	return json.Marshal(partial{fromText(s.partial)})
}

// final is the end of an utterance, with no text if nothing was said.
func (s *said) final(words, alternatives bool) ([]byte, error) {
	text := fromText(strings.Join(s.text, " "))
	var listed []word
	var sum float64
	for _, w := range s.words {
		sum += float64(w.Confidence)
		listed = append(listed, word{
			Conf: millionths(float64(w.Confidence)), Start: inSeconds(w.Start), End: inSeconds(w.End), Word: fromText(w.Text),
		})
	}
	*s = said{partial: s.partial}
	if !alternatives {
		if !words {
			listed = nil
		}
		return json.Marshal(result{listed, text})
	}
	a := alternative{Text: text}
	if len(listed) > 0 {
		a.Confidence = millionths(sum / float64(len(listed)))
	}
	for _, w := range listed {
		if words {
			a.Result = append(a.Result, alternativeWord{w.End, w.Start, w.Word})
		}
	}
	return json.Marshal(struct {
		Alternatives []alternative `json:"alternatives"`
	}{[]alternative{a}})
}

// inSeconds is d in seconds with the digits that a sample rate has.
func inSeconds(d time.Duration) float64 { return millionths(d.Seconds()) }

func millionths(v float64) float64 { return math.Round(v*1e6) / 1e6 }
