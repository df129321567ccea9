package riva

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/riva/rivapb"
	"github.com/callwarden/callwarden/transcribe/stream"
)

const (
	maxAnswer = 1 << 20 // bytes; an utterance of a minute has 10 KB
	maxWords  = 10_000  // of one utterance
)

// parseResponse reads what the server says: finals each by itself, and what is
// not final joined, for it comes in pieces of different stability.
func parseResponse(r *rivapb.StreamingRecognizeResponse) ([]stream.Hypothesis, error) {
	var said []stream.Hypothesis
	var open []string
	heard := time.Duration(0)
	for _, result := range r.GetResults() {
		processed, err := seconds(result.GetAudioProcessed())
		if err != nil {
			return said, err
		}
		if len(result.GetAlternatives()) == 0 {
			continue
		}
		best := result.GetAlternatives()[0]
		if !result.GetIsFinal() {
			open = append(open, best.GetTranscript())
			heard = max(heard, processed)
			continue
		}
		h := stream.Hypothesis{Final: true, Text: best.GetTranscript(), Heard: processed}
		if h.Words, err = words(best.GetWords()); err != nil {
			return said, err
		}
		if len(h.Words) > 0 {
			h.Heard = 0 // the words' own times are worth more
		}
		said = append(said, h)
	}
	if open != nil {
		said = append(said, stream.Hypothesis{Text: strings.Join(open, " "), Heard: heard})
	}
	return said, nil
}

func words(raw []*rivapb.WordInfo) ([]transcribe.Word, error) {
	if len(raw) > maxWords {
		return nil, fmt.Errorf("it answered with %d words, at most %d are taken", len(raw), maxWords)
	}
	var out []transcribe.Word
	for _, w := range raw {
		if w.GetStartTime() < 0 || w.GetEndTime() < w.GetStartTime() {
			return nil, fmt.Errorf("it answered with a word from %d to %d ms", w.GetStartTime(), w.GetEndTime())
		}
		if strings.TrimSpace(w.GetWord()) == "" {
			continue
		}
		out = append(out, transcribe.Word{
			Text:       w.GetWord(),
			Start:      time.Duration(w.GetStartTime()) * time.Millisecond,
			End:        time.Duration(w.GetEndTime()) * time.Millisecond,
			Confidence: w.GetConfidence(),
		})
	}
	return out, nil
}

// seconds is a time that the server tells, 0 where it does not.
func seconds(s float32) (time.Duration, error) {
	if math.IsNaN(float64(s)) || s < 0 || s > 1e8 {
		return 0, fmt.Errorf("it has processed %g s of audio", s)
	}
	return time.Duration(float64(s) * float64(time.Second)), nil
}
