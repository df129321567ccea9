package openai

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe"
)

const (
	maxAnswer = 4 << 20 // bytes; whisper.cpp tells of every token, 30 s are 50 KB
	maxWords  = 2000    // of one window
)

// answer is what a server says of a window, in segments. Times are from the
// window's start.
type answer struct {
	segments []segment
}

type segment struct {
	text       string
	start, end time.Duration // 0, 0 where the server does not tell
	words      []transcribe.Word
	// What the model thinks of it; nil where the server does not tell.
	logProb, noSpeech, compression *float64
}

// The answer as servers write it. OpenAI and faster-whisper have the words
// beside the segments, whisper.cpp has them inside, cut into tokens.
type rawAnswer struct {
	Text     *string      `json:"text"`
	Segments []rawSegment `json:"segments"`
	Words    []rawWord    `json:"words"`
}

type rawSegment struct {
	Text        string    `json:"text"`
	Start       float64   `json:"start"`
	End         float64   `json:"end"`
	LogProb     *float64  `json:"avg_logprob"`
	NoSpeech    *float64  `json:"no_speech_prob"`
	Compression *float64  `json:"compression_ratio"`
	Words       []rawWord `json:"words"`
}

type rawWord struct {
	Word        string   `json:"word"`
	Start       float64  `json:"start"`
	End         float64  `json:"end"`
	Probability *float64 `json:"probability"`
}

// parseAnswer reads verbose_json.
func parseAnswer(data []byte) (answer, error) {
	var raw rawAnswer
	if err := json.Unmarshal(data, &raw); err != nil {
		return answer{}, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if raw.Text == nil && raw.Segments == nil {
		return answer{}, fmt.Errorf("%w: neither text nor segments", errAnswer)
	}
	count := len(raw.Words)
	for _, s := range raw.Segments {
		count += len(s.Words) + len(strings.Fields(s.Text))
	}
	if raw.Text != nil {
		count = max(count, len(strings.Fields(*raw.Text)))
	}
	if count > 4*maxWords { // tokens are smaller than words, and they come twice
		return answer{}, fmt.Errorf("it answered with %d words to one window", count)
	}
	if len(raw.Segments) == 0 {
		raw.Segments = []rawSegment{{Words: raw.Words}}
		if raw.Text != nil {
			raw.Segments[0].Text = *raw.Text
		}
		raw.Words = nil
	}
	var a answer
	words := whole(raw.Words)
	if len(words) > 0 && slices.ContainsFunc(raw.Segments, func(r rawSegment) bool { return r.End <= 0 }) {
		// Which words are whose cannot be told.
		return answer{[]segment{{text: joined(raw.Segments), words: words}}}, nil
	}
	for i, r := range raw.Segments {
		s := segment{
			text: strings.Join(strings.Fields(r.Text), " "), logProb: r.LogProb, noSpeech: r.NoSpeech, compression: r.Compression,
		}
		if soundTimes(r.Start, r.End) {
			s.start, s.end = seconds(r.Start), seconds(r.End)
		}
		if len(r.Words) > 0 {
			s.words = whole(r.Words)
		} else {
			s.words, words = upTo(words, s.end, i == len(raw.Segments)-1)
		}
		a.segments = append(a.segments, s)
	}
	return a, nil
}

// joined is the text of all segments.
func joined(segments []rawSegment) string {
	var fields []string
	for _, s := range segments {
		fields = append(fields, strings.Fields(s.Text)...)
	}
	return strings.Join(fields, " ")
}

// upTo takes the words that begin before a segment's end.
func upTo(words []transcribe.Word, end time.Duration, all bool) (taken, rest []transcribe.Word) {
	n := len(words)
	if !all {
		for n = 0; n < len(words) && words[n].Start < end; {
			n++
		}
	}
	return words[:n:n], words[n:]
}

// whole makes words of what may be tokens: where some begin with a space,
// those that do not go on with the word before. It returns none where their
// times are of no use.
func whole(raw []rawWord) []transcribe.Word {
	spaced := false
	for _, r := range raw {
		spaced = spaced || strings.HasPrefix(r.Word, " ")
	}
	var words []transcribe.Word
	var parts float32 // of the last word
	for _, r := range raw {
		text := strings.Join(strings.Fields(r.Word), " ")
		if text == "" {
			continue
		}
		if !soundTimes(r.Start, r.End) {
			return nil
		}
		w := transcribe.Word{Text: text, Start: seconds(r.Start), End: seconds(r.End)}
		if r.Probability != nil && *r.Probability >= 0 {
			w.Confidence = float32(min(*r.Probability, 1))
		}
		if n := len(words); spaced && n > 0 && !strings.HasPrefix(r.Word, " ") {
			last := &words[n-1]
			last.Text += text
			last.End = max(last.End, w.End)
			last.Confidence = (last.Confidence*parts + w.Confidence) / (parts + 1)
			parts++
			continue
		}
		words = append(words, w)
		parts = 1
	}
	return words
}

func soundTimes(start, end float64) bool { return start >= 0 && end >= start && end < 1e5 }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
