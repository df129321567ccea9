package openai

import (
	"bytes"
	"compress/zlib"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/callwarden/callwarden/transcribe"
)

// sound is how loud a window is, block by block.
type sound struct {
	block time.Duration
	loud  []bool // may be speech
	spoke int    // how many are
}

const (
	soundBlock = 20 * time.Millisecond
	// What is below -58 dBFS, 35 dB below the loudest speech of the window or
	// less than 6 dB above its quiet parts is nobody speaking.
	leastRMS   = 40.0
	belowPeak  = 35.0
	aboveFloor = 6.0
	// The quietest tenth of a window is its quiet part. Windows without a
	// pause have none: there the floor is no floor.
	floorShare = 10
	flatWithin = 10.0 // dB from floor to peak below which all is alike
)

// loudness looks at a window.
func loudness(pcm []int16, rateHz int) sound {
	n := max(1, samples(soundBlock, rateHz))
	s := sound{block: soundBlock}
	var levels []float64
	for i := 0; i+n <= len(pcm); i += n {
		var sum float64
		for _, v := range pcm[i : i+n] {
			sum += float64(v) * float64(v)
		}
		levels = append(levels, 20*math.Log10(max(1, math.Sqrt(sum/float64(n)))))
	}
	if len(levels) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(levels))
	floor, peak := sorted[len(sorted)/floorShare], sorted[len(sorted)-1-len(sorted)/20]
	threshold := max(20*math.Log10(leastRMS), peak-belowPeak)
	if peak-floor > flatWithin {
		threshold = max(threshold, floor+aboveFloor)
	}
	for _, l := range levels {
		s.loud = append(s.loud, l >= threshold)
		if l >= threshold {
			s.spoke++
		}
	}
	return s
}

// speech is how much of the window may be.
func (s sound) speech() time.Duration { return time.Duration(s.spoke) * s.block }

// within reports whether there is sound from start to end.
func (s sound) within(start, end time.Duration) bool {
	from := max(0, int(start/s.block))
	to := min(len(s.loud), int(end/s.block)+1)
	return from < to && slices.Contains(s.loud[from:to], true)
}

const (
	// A model that takes a segment for silence and its own words for unlikely
	// is right: these are the limits by which Whisper itself drops and repeats
	// (whisper/transcribe.py: no_speech_threshold, logprob_threshold,
	// compression_ratio_threshold).
	noSpeechLimit    = 0.6
	logProbLimit     = -1.0
	compressionLimit = 2.4
	// Nothing that is so unlikely was ever right.
	logProbFloor = -2.0
	// Words whose times are wide of all sound: word times are off by that.
	wide = 300 * time.Millisecond
	// Nobody says more in a second, but for the first ones.
	wordsPerSecond, wordsAnyway = 8, 3
)

// believe is the words of an answer to this window that somebody can have
// said, in order, each with its time.
func (s sound) believe(a answer) []transcribe.Word {
	var words []transcribe.Word
	var text strings.Builder
	for _, seg := range a.segments {
		if seg.invented() {
			continue
		}
		at := time.Duration(0)
		if n := len(words); n > 0 {
			at = words[n-1].End
		}
		for _, w := range s.timed(seg, at) {
			if s.within(w.Start-wide, w.End+wide) {
				words = append(words, w)
			}
		}
		text.WriteString(seg.text + " ")
	}
	if repeats(text.String()) || len(words) > maxWords ||
		float64(len(words)) > wordsAnyway+wordsPerSecond*s.speech().Seconds() {
		return nil
	}
	return words
}

// invented reports whether a segment was made up.
func (seg segment) invented() bool {
	doubt := seg.logProb != nil && (*seg.logProb < logProbFloor ||
		*seg.logProb < logProbLimit && seg.noSpeech != nil && *seg.noSpeech > noSpeechLimit)
	return doubt || seg.compression != nil && *seg.compression > compressionLimit || repeats(seg.text) || stock(seg)
}

// repeats reports whether text compresses better than speech does, as it does
// where a model has got into a loop.
func repeats(text string) bool {
	if len(text) < 80 {
		return false
	}
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, _ = z.Write([]byte(text)) // a buffer takes it
	_ = z.Close()
	return float64(len(text)) > compressionLimit*float64(b.Len())
}

// Sentences that the model has read below thousands of videos and says when it
// hears nothing. Nobody says the first on the telephone; the others people do
// say, so the model must be sure of having heard speech.
var (
	neverSaid = [...]string{
		"thanks for watching", "thank you for watching", "thank you so much for watching", "please subscribe", "please subscribe to my channel",
		"like and subscribe", "don't forget to subscribe", "subtitles by the amara.org community",
		"see you in the next video", "i'll see you in the next video", "transcribed by", "captions by",
	}
	hardlySaid = [...]string{"thank you", "thank you very much", "thanks", "you", "bye", "bye bye", "okay", "the end", "so"}
)

// stock reports whether a segment is such a sentence.
func stock(seg segment) bool {
	said := strings.Join(strings.FieldsFunc(strings.ToLower(seg.text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '.'
	}), " ")
	said = strings.Trim(said, ". ")
	return slices.Contains(neverSaid[:], said) ||
		seg.noSpeech != nil && *seg.noSpeech > noSpeechLimit/2 && slices.Contains(hardlySaid[:], said)
}

// timed is the segment's words; where the server gave none, or not those of
// the text, the text with even shares of the segment's time.
func (s sound) timed(seg segment, after time.Duration) []transcribe.Word {
	if len(seg.words) > 0 {
		return seg.words
	}
	fields := strings.Fields(seg.text)
	start, end := seg.start, seg.end
	if end == 0 {
		start, end = after, time.Duration(len(s.loud))*s.block
	}
	n := time.Duration(max(1, len(fields)))
	words := make([]transcribe.Word, len(fields))
	for i, f := range fields {
		i := time.Duration(i)
		words[i] = transcribe.Word{Text: f, Start: start + (end-start)*i/n, End: start + (end-start)*(i+1)/n}
	}
	return words
}

// divide cuts words where the overlap begins.
func divide(words []transcribe.Word, zone time.Duration) (before, in []transcribe.Word) {
	n := slices.IndexFunc(words, func(w transcribe.Word) bool { return (w.Start+w.End)/2 >= zone })
	if n < 0 {
		return words, nil
	}
	return words[:n:n], words[n:]
}

// alike is how far apart two windows may hear the same word.
const alike = time.Second

// stitch joins what two windows heard in the stretch that both have: first is
// what the earlier heard there, second all that the later heard, which begins
// with it. Words that both heard, in order, are said once, and decide where
// one hands over to the other: a window's ends are where it hears worst.
// Where they agree on nothing, they hand over in the middle.
func stitch(first, second []transcribe.Word) []transcribe.Word {
	if len(first) == 0 || len(second) == 0 {
		return append(first, second...)
	}
	best, bi, bj := 0, 0, 0
	for i := range first {
		for j := range second {
			n := 0
			for i+n < len(first) && j+n < len(second) && same(first[i+n], second[j+n]) {
				n++
			}
			if n > best {
				best, bi, bj = n, i, j
			}
		}
	}
	if best > 0 {
		return append(slices.Clone(first[:bi+best]), second[bj+best:]...)
	}
	middle := (first[0].Start + first[len(first)-1].End) / 2
	keep := slices.DeleteFunc(slices.Clone(first), func(w transcribe.Word) bool { return (w.Start+w.End)/2 > middle })
	return append(keep, slices.DeleteFunc(slices.Clone(second), func(w transcribe.Word) bool { return (w.Start+w.End)/2 <= middle })...)
}

func same(a, b transcribe.Word) bool {
	gap := a.Start - b.Start
	return gap < alike && gap > -alike && plain(a.Text) == plain(b.Text) && plain(a.Text) != ""
}

// plain is a word without what it is written with.
func plain(text string) string {
	return strings.ToLower(strings.TrimFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }))
}
