package vosk

import (
	"math"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe"
)

// Unheard stands in a segment for speech that a phrase list has no words for,
// between words that it has: "gift … card" is not "gift card".
const Unheard = "…"

// wordTime is how long a word takes that nothing else is known of.
const wordTime = 300 * time.Millisecond

// timed puts the library's words on the media clock, inside the audio fed and
// after the utterance before, in order.
func (s *session) timed(raw []rawWord) []transcribe.Word {
	words := make([]transcribe.Word, 0, len(raw))
	after := s.last
	for _, r := range raw {
		w := transcribe.Word{
			Text:       strings.ToLower(r.Word),
			Start:      s.clamp(r.Start, after),
			End:        s.clamp(r.End, after),
			Confidence: float32(min(max(r.Conf, 0), 1)), // sums of posteriors pass 1 by rounding
		}
		after = w.End
		words = append(words, w)
	}
	return words
}

func (s *session) clamp(seconds float64, after time.Duration) time.Duration {
	t := s.media(int(math.Round(seconds * float64(s.rateHz))))
	return max(min(t, s.media(s.fed)), after)
}

// guess gives times to the words of the best path: those of lattice as far as
// both agree, those that the word had when it was last shown, or an even share
// of the time since from, when it was not there yet, and of some before if
// that is too short to say it.
func (s *session) guess(best []string, lattice []transcribe.Word, from time.Duration) []transcribe.Word {
	words := make([]transcribe.Word, 0, len(best))
	for i, text := range best {
		if i == len(lattice) || lattice[i].Text != strings.ToLower(text) {
			break
		}
		words = append(words, lattice[i])
	}
	after := s.last
	if len(words) > 0 {
		after = words[len(words)-1].End
	}
	for i := len(words); i < len(best) && i < len(s.guessed) && s.guessed[i].Text == strings.ToLower(best[i]); i++ {
		w := s.guessed[i]
		w.Start, w.End, w.Confidence = max(w.Start, after), max(w.End, after), 0
		after = w.End
		words = append(words, w)
	}
	fresh := time.Duration(len(best) - len(words))
	end := max(after, s.media(s.fed)-decodeDelay)
	begin := max(after, min(from-decodeDelay, end-fresh*wordTime))
	for i := range fresh {
		words = append(words, transcribe.Word{
			Text:  strings.ToLower(best[len(words)]),
			Start: begin + (end-begin)*i/fresh,
			End:   begin + (end-begin)*(i+1)/fresh,
		})
	}
	s.guessed = words
	return words
}

// segment makes the current utterance's segment of words; ok is false if
// nothing is left of them. Runs of unknown speech become one Unheard between
// words and nothing at the ends.
func (s *session) segment(words []transcribe.Word) (seg transcribe.Segment, ok bool) {
	var kept []transcribe.Word
	var text strings.Builder
	var gap transcribe.Word
	keep := func(w transcribe.Word) {
		if len(kept) > 0 {
			text.WriteByte(' ')
		}
		text.WriteString(w.Text)
		kept = append(kept, w)
	}
	for _, w := range words {
		switch {
		case w.Text == unknown && gap.Text == "":
			gap = transcribe.Word{Text: Unheard, Start: w.Start, End: w.End}
		case w.Text == unknown:
			gap.End = w.End
		default:
			if gap.Text != "" && len(kept) > 0 {
				keep(gap)
			}
			gap = transcribe.Word{}
			keep(w)
		}
	}
	if len(kept) == 0 {
		return transcribe.Segment{}, false
	}
	return transcribe.Segment{
		Leg:       s.leg,
		Utterance: s.utterance,
		Start:     kept[0].Start,
		End:       kept[len(kept)-1].End,
		Text:      text.String(),
		Words:     kept,
	}, true
}
