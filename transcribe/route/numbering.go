package route

import (
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe"
)

// numbering makes the segments of one session after another look like those
// of one: utterances are numbered on, and no word that was final comes again.
type numbering struct {
	changed bool // the sessions before this one have spoken
	next    int  // number of the next utterance
	current int  // the session's utterance that is open, -1 for none
	number  int  // and its number outside
	shown   *transcribe.Segment
	settled time.Duration // end of the last final segment
}

func newNumbering() numbering { return numbering{current: -1} }

// change says that another session speaks from here on. It has heard nothing
// from before settled, or should not have.
func (n *numbering) change() { n.changed, n.current = true, -1 }

// note returns segments as they are told.
func (n *numbering) note(segments []transcribe.Segment) []transcribe.Segment {
	out := segments[:0]
	for _, seg := range segments {
		if n.changed && !n.fresh(&seg) {
			continue
		}
		if n.current != seg.Utterance {
			if n.shown == nil {
				n.number = n.next
				n.next++
			} // else it is what the session before had begun to hear
			n.current = seg.Utterance
		}
		seg.Utterance = n.number
		if !seg.Final && n.shown != nil && seg.Text == n.shown.Text {
			continue
		}
		n.shown = nil
		if seg.Final {
			n.current, n.settled = -1, max(n.settled, seg.End)
		} else {
			last := seg
			n.shown = &last
		}
		out = append(out, seg)
	}
	return out
}

// fresh takes out of seg what was final before the session changed, and
// reports whether anything is left to tell.
func (n *numbering) fresh(seg *transcribe.Segment) bool {
	if seg.Start < n.settled {
		if len(seg.Words) > 0 {
			k := 0
			for k < len(seg.Words) && seg.Words[k].Start+seg.Words[k].End < 2*n.settled {
				k++
			}
			words := append([]transcribe.Word(nil), seg.Words[k:]...)
			var texts []string
			for i := range words {
				words[i].Start = max(words[i].Start, n.settled)
				words[i].End = max(words[i].End, words[i].Start)
				texts = append(texts, words[i].Text)
			}
			seg.Words, seg.Text = words, strings.Join(texts, " ")
		} else if seg.End <= n.settled {
			seg.Text = ""
		}
		if seg.Text == "" {
			return false
		}
		seg.Start = n.settled
		seg.End = max(seg.End, seg.Start)
	}
	return seg.Text != "" || n.shown != nil
}

// takeBack ends an utterance that a session before had begun to hear and that
// this one, having heard the same audio to its end, does not.
func (n *numbering) takeBack() []transcribe.Segment {
	if n.shown == nil {
		return nil
	}
	seg := *n.shown
	seg.Final, seg.Text, seg.Words = true, "", nil
	n.shown, n.current = nil, -1
	return []transcribe.Segment{seg}
}
