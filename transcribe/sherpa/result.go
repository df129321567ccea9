package sherpa

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/stream"
)

// result is what the library writes as JSON. Times are seconds from Start,
// which is where the utterance begins in the stream.
type result struct {
	Text       string    `json:"text"`
	Tokens     []string  `json:"tokens"`
	Timestamps []float64 `json:"timestamps"`
	LogProbs   []float64 `json:"ys_probs"`
	Start      float64   `json:"start_time"`
}

const (
	// A token is told where it begins; the last one is taken to last so long.
	tokenTime = 200 * time.Millisecond
	// maxSeconds bounds times before they become a number of samples.
	maxSeconds = 1e8
)

// parseResult makes words of tokens: one that begins with a space, or is
// written without any, begins a word.
func parseResult(data []byte) (stream.Hypothesis, error) {
	var r result
	if err := json.Unmarshal(data, &r); err != nil {
		return stream.Hypothesis{}, fmt.Errorf("sherpa-onnx result: %w", err)
	}
	h := stream.Hypothesis{Text: strings.Join(strings.Fields(r.Text), " ")}
	if !(r.Start >= 0 && r.Start < maxSeconds) {
		return h, fmt.Errorf("sherpa-onnx result: it starts at %g s", r.Start)
	}
	if len(r.Timestamps) != len(r.Tokens) {
		return h, nil // a model that tells no times
	}
	var sum float64 // of the log probabilities of the last word's tokens
	var parts int
	end := func() {
		if n := len(h.Words); n > 0 && parts > 0 {
			h.Words[n-1].Confidence = float32(min(1, math.Exp(sum/float64(parts))))
		}
		sum, parts = 0, 0
	}
	space := true // the next token begins a word
	for i, token := range r.Tokens {
		t := r.Timestamps[i]
		if !(t >= 0 && t < maxSeconds) {
			return h, fmt.Errorf("sherpa-onnx result: a token at %g s", t)
		}
		at := time.Duration((r.Start + t) * float64(time.Second))
		text := strings.TrimSpace(strings.ReplaceAll(token, "▁", " "))
		first, _ := utf8.DecodeRuneInString(token)
		begins := space || first == ' ' || first == '▁' || unicode.Is(unicode.Han, first)
		space = text == "" && (begins || token != "")
		if n := len(h.Words); n > 0 && begins {
			h.Words[n-1].End = max(h.Words[n-1].Start, min(at, h.Words[n-1].End))
		}
		switch {
		case text == "":
			continue
		case len(text) > 2 && text[0] == '<' && text[len(text)-1] == '>':
			space = space || begins
			continue // a mark of the model
		case begins:
			end()
			h.Words = append(h.Words, transcribe.Word{Text: text, Start: at, End: at + tokenTime})
		default:
			w := &h.Words[len(h.Words)-1]
			w.Text += text
			w.End = at + tokenTime
		}
		if len(r.LogProbs) == len(r.Tokens) {
			sum += r.LogProbs[i]
			parts++
		}
	}
	end()
	return h, nil
}
