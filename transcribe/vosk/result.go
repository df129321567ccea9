package vosk

import (
	"encoding/json"
	"fmt"
	"math"
)

// hypothesis is what libvosk writes as JSON; times are seconds on the
// recogniser's own clock.
type hypothesis struct {
	Text    string    `json:"text"`           // of a final result
	Partial string    `json:"partial"`        // of a partial one
	Final   []rawWord `json:"result"`         // words of Text
	Words   []rawWord `json:"partial_result"` // words of Partial
}

type rawWord struct {
	Conf  float64 `json:"conf"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	Word  string  `json:"word"`
}

func decodeHypothesis(text string) (hypothesis, error) {
	var h hypothesis
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return h, fmt.Errorf("vosk result: %w", err)
	}
	for _, words := range [][]rawWord{h.Final, h.Words} {
		for _, w := range words {
			// Bounds first: they become a number of samples.
			if !(w.Start >= 0 && w.End >= w.Start && w.End < 1e8) || math.IsNaN(w.Conf) {
				return h, fmt.Errorf("vosk result: word from %g to %g s", w.Start, w.End)
			}
		}
	}
	return h, nil
}
