package voskserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/stream"
	"github.com/callwarden/callwarden/transcribe/voskserver/voskpb"
)

const (
	maxAnswer = 1 << 20 // bytes; an utterance of a minute has 20 KB
	maxWords  = 10_000  // of one utterance
)

// jsonAnswer is a message of the WebSocket protocol. Times are seconds from
// the first sample.
type jsonAnswer struct {
	Partial *string    `json:"partial"`
	Text    *string    `json:"text"`
	Result  []jsonWord `json:"result"`
	// Servers that are set up to give several readings give only these.
	Alternatives []struct {
		Text   string     `json:"text"`
		Result []jsonWord `json:"result"`
	} `json:"alternatives"`
}

type jsonWord struct {
	Conf  *float64 `json:"conf"` // missing in alternatives
	Start float64  `json:"start"`
	End   float64  `json:"end"`
	Word  string   `json:"word"`
}

// parseAnswer reads a message of the WebSocket protocol.
func parseAnswer(data []byte) (stream.Hypothesis, error) {
	var a jsonAnswer
	if err := json.Unmarshal(data, &a); err != nil {
		return stream.Hypothesis{}, fmt.Errorf("it answered what is no JSON of the protocol: %w", err)
	}
	if len(a.Alternatives) > 0 {
		best := a.Alternatives[0]
		a.Text, a.Result = &best.Text, best.Result
	}
	switch {
	case a.Text == nil && a.Partial == nil:
		return stream.Hypothesis{}, fmt.Errorf("it answered %.80q, which has neither text nor partial", data)
	case a.Text == nil:
		return stream.Hypothesis{Text: spoken(*a.Partial)}, nil
	case len(a.Result) > maxWords:
		return stream.Hypothesis{}, fmt.Errorf("it answered with %d words, at most %d are taken", len(a.Result), maxWords)
	}
	h := stream.Hypothesis{Final: true, Text: spoken(*a.Text)}
	for _, w := range a.Result {
		if !(w.Start >= 0 && w.End >= w.Start && w.End < maxSeconds) {
			return stream.Hypothesis{}, fmt.Errorf("it answered with a word from %g to %g s", w.Start, w.End)
		}
		word := transcribe.Word{Text: w.Word, Start: seconds(w.Start), End: seconds(w.End)}
		if w.Conf != nil {
			word.Confidence = float32(*w.Conf)
		}
		h.Words = append(h.Words, word)
	}
	h.Words = spokenWords(h.Words)
	return h, nil
}

// parseResponse reads a message of the gRPC service. Each of its chunks is a
// hypothesis.
func parseResponse(r *voskpb.StreamingRecognitionResponse) ([]stream.Hypothesis, error) {
	var said []stream.Hypothesis
	for _, c := range r.GetChunks() {
		h := stream.Hypothesis{Final: c.GetFinal() || c.GetEndOfUtterance()}
		if alternatives := c.GetAlternatives(); len(alternatives) > 0 {
			h.Text = spoken(alternatives[0].GetText())
			if n := len(alternatives[0].GetWords()); n > maxWords {
				return said, fmt.Errorf("it answered with %d words, at most %d are taken", n, maxWords)
			}
			for _, w := range alternatives[0].GetWords() {
				start, end := w.GetStartTime().AsDuration(), w.GetEndTime().AsDuration()
				if start < 0 || end < start || end > seconds(maxSeconds) {
					return said, fmt.Errorf("it answered with a word from %v to %v", start, end)
				}
				h.Words = append(h.Words, transcribe.Word{Text: w.GetWord(), Start: start, End: end, Confidence: w.GetConfidence()})
			}
			h.Words = spokenWords(h.Words)
		}
		said = append(said, h)
	}
	return said, nil
}

// maxSeconds bounds times before they become a number of samples.
const maxSeconds = 1e8

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// spoken writes speech that is in no phrase the way callers do: once between
// words, not at all at the ends.
func spoken(text string) string {
	if !strings.Contains(text, unknown) {
		return text
	}
	var out []string
	gap := false
	for _, w := range strings.Fields(text) {
		if w == unknown {
			gap = len(out) > 0
			continue
		}
		if gap {
			out, gap = append(out, unheard), false
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// spokenWords does so with words that have times.
func spokenWords(words []transcribe.Word) []transcribe.Word {
	var out []transcribe.Word
	var gap *transcribe.Word
	for _, w := range words {
		switch {
		case w.Text != unknown && strings.TrimSpace(w.Text) == "":
		case w.Text == unknown && gap != nil:
			gap.End = w.End
		case w.Text == unknown:
			if len(out) > 0 {
				gap = &transcribe.Word{Text: unheard, Start: w.Start, End: w.End}
			}
		default:
			if gap != nil {
				out, gap = append(out, *gap), nil
			}
			out = append(out, w)
		}
	}
	return out
}
