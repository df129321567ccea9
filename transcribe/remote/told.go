package remote

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// told is what was told of a leg, over all its streams: it gives the
// utterances of each their numbers, and lets nothing be told twice.
type told struct {
	leg     audio.Leg
	current int64               // the stream's last utterance; -1 before the first
	open    bool                // and it is not final
	next    int                 // number of the next utterance that is told
	after   time.Duration       // end of the last final segment
	shown   *transcribe.Segment // that is not final
	orphan  *transcribe.Segment // is shown, where its stream broke
}

// orphaned says that the stream has broken: another begins to count anew.
func (t *told) orphaned() {
	t.current, t.open = -1, false
	t.orphan = t.shown
}

// take brings the segments of an answer, of audio that ended before heard. Its
// error says what in them cannot be.
func (t *told) take(wire []*callwardenv1.RecognizedSegment, heard time.Duration) (out []transcribe.Segment, err error) {
	for _, w := range wire {
		if w == nil {
			return out, errors.New("a segment is missing")
		}
		seg, err := t.read(w, heard)
		if err != nil {
			return out, err
		}
		switch {
		case w.Utterance < t.current, w.Utterance == t.current && !t.open:
			return out, fmt.Errorf("utterance %d after the end of %d", w.Utterance, t.current)
		case t.open && w.Utterance != t.current:
			return out, fmt.Errorf("utterance %d before the end of %d", w.Utterance, t.current)
		}
		t.current, t.open = w.Utterance, !w.Final
		out = append(out, t.tell(seg)...)
	}
	return out, nil
}

// tell numbers a segment and leaves out what was told before.
func (t *told) tell(seg transcribe.Segment) (out []transcribe.Segment) {
	seg = t.cut(seg)
	if t.orphan != nil && seg.Start >= t.orphan.End && seg.Text != "" {
		out = t.settle() // the new stream has not heard those words, they stay
	}
	t.orphan = nil
	switch {
	case t.shown == nil && seg.Text == "":
		return out // there is nothing to take back
	case t.shown != nil && !seg.Final && seg.Text == t.shown.Text:
		return out // nothing has changed
	case t.shown != nil && seg.Text == "":
		seg.Start, seg.End = t.shown.Start, t.shown.End
	}
	seg.Utterance = t.next
	if t.shown = nil; seg.Final {
		t.next, t.after = t.next+1, max(t.after, seg.End)
	} else {
		shown := seg
		t.shown = &shown
	}
	return append(out, seg)
}

// cut takes the words out of a segment that were told already: a stream that
// hears again begins a little before them.
func (t *told) cut(seg transcribe.Segment) transcribe.Segment {
	if seg.Start >= t.after {
		return seg
	}
	n := 0
	for n < len(seg.Words) && (seg.Words[n].Start+seg.Words[n].End)/2 < t.after {
		n++
	}
	if n > 0 {
		seg.Words = slices.Delete(seg.Words, 0, n)
		texts := make([]string, len(seg.Words))
		for i, w := range seg.Words {
			texts[i] = w.Text
		}
		seg.Text = strings.Join(texts, " ")
	}
	seg.Start, seg.End = max(seg.Start, t.after), max(seg.End, t.after)
	if len(seg.Words) > 0 {
		seg.Words[0].Start = max(seg.Words[0].Start, t.after)
	}
	return seg
}

// settle makes final what is shown.
func (t *told) settle() []transcribe.Segment {
	t.orphan = nil
	if t.shown == nil {
		return nil
	}
	seg := *t.shown
	seg.Final = true
	t.shown, t.next, t.after = nil, t.next+1, max(t.after, seg.End)
	return []transcribe.Segment{seg}
}

// read checks a segment of a peer by the rules of [transcribe.Segment].
func (t *told) read(w *callwardenv1.RecognizedSegment, heard time.Duration) (seg transcribe.Segment, err error) {
	seg = transcribe.Segment{Leg: t.leg, Final: w.Final, Start: w.Start.AsDuration(), End: w.End.AsDuration(), Text: w.Text}
	switch {
	case w.Utterance < 0:
		return seg, fmt.Errorf("utterance %d", w.Utterance)
	case seg.Start < 0 || seg.End < seg.Start || seg.End > heard+slack:
		return seg, fmt.Errorf("a segment from %v to %v, of audio until %v", seg.Start, seg.End, heard)
	case w.Text != strings.ToLower(strings.Join(strings.Fields(w.Text), " ")):
		return seg, errors.New("a text that is not lower case with single spaces")
	}
	at := seg.Start
	texts := make([]string, 0, len(w.Words))
	for _, word := range w.Words {
		out := transcribe.Word{Text: word.GetText(), Start: word.GetStart().AsDuration(), End: word.GetEnd().AsDuration(), Confidence: word.GetConfidence()}
		switch {
		case out.Start < at || out.End < out.Start || out.End > seg.End:
			return seg, fmt.Errorf("a word from %v to %v, after %v in a segment until %v", out.Start, out.End, at, seg.End)
		case !(out.Confidence >= 0 && out.Confidence <= 1): // NaN is neither
			return seg, fmt.Errorf("a confidence of %v", out.Confidence)
		}
		at = out.End
		texts = append(texts, out.Text)
		seg.Words = append(seg.Words, out)
	}
	if len(texts) > 0 && strings.Join(texts, " ") != w.Text {
		return seg, errors.New("words that are not those of the text")
	}
	return seg, nil
}
