package dialogue

import (
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/transcribe"
)

// window is the words that a match may use: the end of what the leg said
// before, and from token from on the utterance itself.
type window struct {
	tokens   []string
	words    []word // of each token
	first    int    // how many tokens the leg said before this window
	from     int
	question bool // the utterance has a question mark
}

// word is where a token came from. The tokens of one word share a number.
type word struct {
	text       string
	number     int
	start, end time.Duration
	confidence float32 // 0 where the recogniser gives none
}

func (w *window) reset() {
	w.tokens, w.words = w.tokens[:0], w.words[:0]
	w.first, w.from, w.question = 0, 0, false
}

// copyTail begins w with the last n tokens of o.
func (w *window) copyTail(o *window, n int) {
	cut := max(0, len(o.tokens)-n)
	w.tokens = append(w.tokens, o.tokens[cut:]...)
	w.words = append(w.words, o.words[cut:]...)
	w.first = o.first + cut
}

// take appends the words of seg. A segment without words has its text split at
// white space and the times spread evenly.
func (w *window) take(seg transcribe.Segment) {
	number := 0
	if n := len(w.words); n > 0 {
		number = w.words[n-1].number + 1
	}
	if len(seg.Words) > 0 {
		for _, x := range seg.Words {
			w.add(word{x.Text, number, x.Start, x.End, x.Confidence})
			number++
		}
		return
	}
	fields := countFields(seg.Text)
	i := 0
	for text := range strings.FieldsSeq(seg.Text) {
		at := func(i int) time.Duration {
			return seg.Start + (seg.End-seg.Start)*time.Duration(i)/time.Duration(fields)
		}
		w.add(word{text, number, at(i), at(i + 1), 0})
		i++
		number++
	}
}

func countFields(text string) int {
	n := 0
	for range strings.FieldsSeq(text) {
		n++
	}
	return n
}

func (w *window) add(x word) {
	w.tokens = phrase.AppendWord(w.tokens, x.text)
	w.question = w.question || strings.HasSuffix(x.text, "?")
	for len(w.words) < len(w.tokens) {
		w.words = append(w.words, x)
	}
}

// text is the words of tokens first to last as they were heard.
func (w *window) text(first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		if i > first && w.words[i].number == w.words[i-1].number {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w.words[i].text)
	}
	return b.String()
}

// confidence is the mean of tokens first to last, 1 where the recogniser gives
// none: a transcript is taken at its word.
func (w *window) confidence(first, last int) float64 {
	sum, n := 0.0, 0
	for i := first; i <= last; i++ {
		if c := w.words[i].confidence; c > 0 {
			sum += float64(c)
			n++
		}
	}
	if n == 0 {
		return 1
	}
	return sum / float64(n)
}

// span is a stretch of the media clock.
type span struct{ start, end time.Duration }

func (w *window) span(first, last int) span {
	return span{w.words[first].start, max(w.words[first].start, w.words[last].end)}
}

// covers reports whether two spans share half of the shorter or more. Spans of
// no length, as of transcripts without times, share nothing.
func (s span) covers(o span) bool {
	shorter := min(s.end-s.start, o.end-o.start)
	return shorter > 0 && 2*(min(s.end, o.end)-max(s.start, o.start)) >= shorter
}
