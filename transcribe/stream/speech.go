package stream

import (
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// wordTime is how long a word takes that nothing else is known of.
const wordTime = 300 * time.Millisecond

// Speech makes segments of what a recogniser says of one leg, whatever that
// is: words in order, lower case, inside the audio heard and after the
// utterance before, with an end to each utterance. It is used by one goroutine
// at a time.
type Speech struct {
	Leg audio.Leg

	utterance int
	shown     transcribe.Segment // last unfinished one; no Text if none
	guessed   []transcribe.Word  // words of the last unfinished one
	last      time.Duration      // end of the utterance before
}

// Partial makes a segment of the unfinished words, on the media clock. ok is
// false where nothing has changed. heard is the media time of the end of the
// audio.
func (s *Speech) Partial(words []transcribe.Word, heard time.Duration) (seg transcribe.Segment, ok bool) {
	s.guessed = s.fit(words, heard)
	return s.show(s.guessed)
}

// PartialText is Partial for words without times: one that was there before
// keeps the time it had, new ones are taken to have been said just now.
func (s *Speech) PartialText(text string, heard time.Duration) (seg transcribe.Segment, ok bool) {
	s.guessed = s.guess(strings.Fields(strings.ToLower(text)), heard)
	return s.show(s.guessed)
}

func (s *Speech) show(words []transcribe.Word) (seg transcribe.Segment, ok bool) {
	seg = s.segment(words)
	if seg.Text == s.shown.Text {
		return seg, false
	}
	if seg.Text == "" { // what was shown is taken back
		seg.Start, seg.End = s.shown.Start, s.shown.End
	}
	s.shown = seg
	return seg, true
}

// Final ends the utterance with words on the media clock. ok is false for an
// utterance that nobody was told of.
func (s *Speech) Final(words []transcribe.Word, heard time.Duration) (seg transcribe.Segment, ok bool) {
	return s.end(s.fit(words, heard))
}

// FinalText is Final for words without times.
func (s *Speech) FinalText(text string, heard time.Duration) (seg transcribe.Segment, ok bool) {
	return s.end(s.guess(strings.Fields(strings.ToLower(text)), heard))
}

// Settle ends the utterance as it was last shown; ok is false if none was.
func (s *Speech) Settle() (seg transcribe.Segment, ok bool) {
	return s.end(s.shown.Words)
}

// begin says where the leg's audio starts.
func (s *Speech) begin(at time.Duration) { s.last = max(s.last, at) }

func (s *Speech) end(words []transcribe.Word) (seg transcribe.Segment, ok bool) {
	seg = s.segment(words)
	if ok = seg.Text != "" || s.shown.Text != ""; ok {
		if seg.Text == "" {
			seg.Start, seg.End = s.shown.Start, s.shown.End
		}
		seg.Final = true
		s.last = seg.End
		s.utterance++
	}
	s.shown, s.guessed = transcribe.Segment{}, nil
	return seg, ok
}

func (s *Speech) segment(words []transcribe.Word) transcribe.Segment {
	seg := transcribe.Segment{Leg: s.Leg, Utterance: s.utterance}
	if len(words) == 0 {
		return seg
	}
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.Text
	}
	seg.Start, seg.End = words[0].Start, words[len(words)-1].End
	seg.Text, seg.Words = strings.Join(texts, " "), words
	return seg
}

// fit puts words in order between the utterance before and the end of the
// audio. What was written as one word and has spaces shares its time.
func (s *Speech) fit(words []transcribe.Word, heard time.Duration) []transcribe.Word {
	out := make([]transcribe.Word, 0, len(words))
	after := s.last
	for _, w := range words {
		start := max(min(w.Start, heard), after)
		end := max(min(w.End, heard), start)
		after = end
		parts := strings.Fields(strings.ToLower(w.Text))
		n := time.Duration(len(parts))
		for i, text := range parts {
			i := time.Duration(i)
			out = append(out, transcribe.Word{
				Text: text, Confidence: confidence(w.Confidence),
				Start: start + (end-start)*i/n, End: start + (end-start)*(i+1)/n,
			})
		}
	}
	return out
}

// confidence is c, or none where c is no probability.
func confidence(c float32) float32 {
	if !(c >= 0) {
		return 0
	}
	return min(c, 1)
}

// guess gives times to words that have none.
func (s *Speech) guess(texts []string, heard time.Duration) []transcribe.Word {
	words := make([]transcribe.Word, 0, len(texts))
	after := s.last
	for i := 0; i < len(texts) && i < len(s.guessed) && s.guessed[i].Text == texts[i]; i++ {
		words = append(words, s.guessed[i])
		after = s.guessed[i].End
	}
	fresh := time.Duration(len(texts) - len(words))
	end := max(after, heard)
	begin := max(after, end-fresh*wordTime)
	for i := range fresh {
		words = append(words, transcribe.Word{
			Text:  texts[len(words)],
			Start: begin + (end-begin)*i/fresh,
			End:   begin + (end-begin)*(i+1)/fresh,
		})
	}
	return words
}
