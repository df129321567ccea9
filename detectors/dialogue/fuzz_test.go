package dialogue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/detectors/dialogue"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// FuzzDialogue plays any text as a call, in the form of the script files: the
// findings live as they should, and the call can be scored.
func FuzzDialogue(f *testing.F) {
	for _, s := range readScripts(f) {
		f.Add(strings.Join(s.lines, "\n"))
	}
	f.Add("caller~ read me the code\ncallee~ four seven\ncaller~ no\ncallee# 4729")
	lib := library(f)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 2000 {
			return // a call of minutes
		}
		d := dialogue.New(lib.Set, dialogue.Config{})
		m := risk.NewMeter(risk.DefaultConfig())
		l := lives{}
		var utterance [3]int
		var at time.Duration
		for line := range strings.SplitSeq(text, "\n") {
			name, said := line, ""
			how := byte(':')
			if i := strings.IndexAny(line, ":~#"); i >= 0 {
				name, how, said = line[:i], line[i], line[i+1:]
			}
			side, err := audio.ParseLeg(name)
			if err != nil {
				side, said = audio.Unknown, line
			}
			end := at + time.Duration(len(strings.Fields(said)))*perWord
			seg := transcribe.Segment{Leg: side, Utterance: utterance[side], Final: how != '~', Start: at, End: end, Text: said}
			if how == '#' {
				seg.Text = "" // the utterance ends without words
				l.take(t, d.Digits(side, said, at))
			}
			found := d.Observe(seg)
			l.take(t, found)
			for _, x := range found {
				m.Observe(x, end)
			}
			if seg.Final {
				utterance[side]++
				at = end + 300*time.Millisecond
			}
			if m.Score() < 0 || m.Peak().Score < m.Score() {
				t.Fatalf("score %v, peak %+v", m.Score(), m.Peak())
			}
		}
		l.take(t, d.Finish(at))
		l.end(t)
		if again := d.Finish(at); len(again) > 0 {
			t.Fatalf("a second end finds %v", again)
		}
	})
}
