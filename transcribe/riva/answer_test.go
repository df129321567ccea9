package riva

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/riva/rivapb"
)

func result(final bool, processed float32, transcript string, words ...*rivapb.WordInfo) *rivapb.StreamingRecognitionResult {
	return &rivapb.StreamingRecognitionResult{
		IsFinal: final, AudioProcessed: processed,
		Alternatives: []*rivapb.SpeechRecognitionAlternative{{Transcript: transcript, Words: words}},
	}
}

func word(text string, start, end int32) *rivapb.WordInfo {
	return &rivapb.WordInfo{Word: text, StartTime: start, EndTime: end}
}

var responses = []struct {
	name    string
	results []*rivapb.StreamingRecognitionResult
	says    string // hypotheses, each with its text, words in brackets and a stop if final
	refused string
}{
	{name: "nothing"},
	{name: "interim in pieces", results: []*rivapb.StreamingRecognitionResult{result(false, 1, "gift "), result(false, 1, "card")}, says: "gift card"},
	{name: "final", results: []*rivapb.StreamingRecognitionResult{result(true, 2, "Gift card. ", word("Gift", 100, 400), word("card.", 400, 900))}, says: "Gift card. [Gift card.]."},
	{name: "final, and the next begins", results: []*rivapb.StreamingRecognitionResult{result(true, 2, "gift"), result(false, 2, "card")}, says: "gift. card"},
	{name: "final without words", results: []*rivapb.StreamingRecognitionResult{result(true, 0, "gift card")}, says: "gift card."},
	{name: "empty word", results: []*rivapb.StreamingRecognitionResult{result(true, 0, "gift", word(" ", 0, 1), word("gift", 1, 2))}, says: "gift [gift]."},
	{name: "no alternatives", results: []*rivapb.StreamingRecognitionResult{{IsFinal: true}}},
	{name: "negative time", results: []*rivapb.StreamingRecognitionResult{result(true, 0, "a", word("a", -1, 1))}, refused: "-1"},
	{name: "backwards", results: []*rivapb.StreamingRecognitionResult{result(true, 0, "a", word("a", 2, 1))}, refused: "from 2 to 1"},
	{name: "no time at all", results: []*rivapb.StreamingRecognitionResult{result(false, float32(math.NaN()), "a")}, refused: "NaN"},
	{name: "endless", results: []*rivapb.StreamingRecognitionResult{result(false, float32(math.Inf(1)), "a")}, refused: "Inf"},
	{name: "too many words", results: []*rivapb.StreamingRecognitionResult{result(true, 0, "a", slices.Repeat([]*rivapb.WordInfo{word("a", 0, 0)}, maxWords+1)...)}, refused: "at most"},
}

func TestAnswersAreReadOrRefused(t *testing.T) {
	for _, tt := range responses {
		t.Run(tt.name, func(t *testing.T) {
			said, err := parseResponse(&rivapb.StreamingRecognizeResponse{Results: tt.results})
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("%v, want an error with %q", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, h := range said {
				line := strings.TrimSpace(h.Text)
				if len(h.Words) > 0 {
					var words []string
					for _, w := range h.Words {
						words = append(words, w.Text)
					}
					line += " [" + strings.Join(words, " ") + "]"
				}
				if h.Final {
					line += "."
				}
				lines = append(lines, line)
			}
			if got := strings.Join(strings.Fields(strings.Join(lines, " ")), " "); got != tt.says {
				t.Errorf("%q, want %q", got, tt.says)
			}
		})
	}
}

// Whatever a server answers is refused, or hypotheses with times that a clock
// can hold, at most one of them unfinished and that the last.
func FuzzResponse(f *testing.F) {
	for _, tt := range responses {
		if len(tt.results) > 0 && len(tt.results[0].GetAlternatives()) > 0 && len(tt.results[0].Alternatives[0].Words) > 100 {
			continue
		}
		data, err := proto.Marshal(&rivapb.StreamingRecognizeResponse{Results: tt.results})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r rivapb.StreamingRecognizeResponse
		if proto.Unmarshal(data, &r) != nil {
			return
		}
		said, err := parseResponse(&r)
		if err != nil {
			return
		}
		for i, h := range said {
			if !h.Final && i < len(said)-1 {
				t.Fatalf("hypothesis %d of %d is unfinished", i, len(said))
			}
			if h.Heard < 0 || h.Heard > 100_000_001*time.Second || slices.ContainsFunc(h.Words, func(w transcribe.Word) bool {
				return w.Start < 0 || w.End < w.Start || strings.TrimSpace(w.Text) == ""
			}) {
				t.Fatalf("%+v", h)
			}
		}
	})
}
