package dialogue_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/detectors/dialogue"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// smallTalk is 20 words that no pack wants.
const smallTalk = "we went to the lake with the children last summer and the weather was fine until the very end of it"

// worded gives a segment words as a recogniser does.
func worded(s transcribe.Segment) transcribe.Segment {
	for i, w := range strings.Fields(s.Text) {
		at := s.Start + time.Duration(i)*250*time.Millisecond
		s.Words = append(s.Words, transcribe.Word{Text: w, Start: at, End: at + 200*time.Millisecond, Confidence: 0.9})
	}
	return s
}

// TestSmallTalkDoesNotAllocate: most of what is said in calls is of no
// interest, and hundreds of calls share a machine.
func TestSmallTalkDoesNotAllocate(t *testing.T) {
	lib := library(t)
	d := dialogue.New(lib.Set, dialogue.Config{})
	var segs []transcribe.Segment
	for i := range 4000 {
		segs = append(segs, worded(seg(audio.Leg(1+i/2%2), i/4, i%2 == 1, float64(i)*3, smallTalk)))
	}
	i := 0
	observe := func() {
		if f := d.Observe(segs[i]); len(f) > 0 {
			t.Fatalf("small talk is %v", f)
		}
		i++
	}
	for range 100 {
		observe()
	}
	if n := testing.AllocsPerRun(3000, observe); n > 0 {
		t.Errorf("a segment allocates %v times", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	lib := library(b)
	for _, bb := range []struct{ name, text string }{
		{"small talk", smallTalk},
		{"ask", "okay sir now please open your browser and download any desk and read me the six digit code we just sent you thanks"},
		{"digits", "okay it says four seven two nine one three and below that there is another one nine nine two one"},
	} {
		b.Run(strings.ReplaceAll(bb.name, " ", "-"), func(b *testing.B) {
			d := dialogue.New(lib.Set, dialogue.Config{})
			s := worded(seg(audio.Caller, 0, true, 0, bb.text))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Leg, s.Utterance = audio.Leg(1+i%2), i/2
				const later = 20 * time.Second
				s.Start, s.End = s.Start+later, s.End+later
				for j := range s.Words {
					s.Words[j].Start, s.Words[j].End = s.Words[j].Start+later, s.Words[j].End+later
				}
				d.Observe(s)
			}
		})
	}
}

// BenchmarkCall plays the calls of the scripts as a recogniser would, each
// utterance growing word by word, and reports how long a segment takes.
func BenchmarkCall(b *testing.B) {
	lib := library(b)
	var segs []transcribe.Segment
	var utterance [3]int
	at := 0.0
	for _, s := range readScripts(b) {
		for _, line := range s.lines {
			name, text, ok := strings.Cut(line, ": ")
			side, err := audio.ParseLeg(name)
			if !ok || err != nil {
				continue
			}
			fields := strings.Fields(text)
			for n := 1; n <= len(fields); n++ {
				segs = append(segs, worded(seg(side, utterance[side], false, at, strings.Join(fields[:n], " "))))
			}
			segs = append(segs, worded(seg(side, utterance[side], true, at, text)))
			utterance[side]++
			at += float64(len(fields))/4 + 0.5
		}
	}
	var times []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		d := dialogue.New(lib.Set, dialogue.Config{})
		for _, s := range segs {
			began := time.Now()
			d.Observe(s)
			times = append(times, time.Since(began))
		}
	}
	slices.Sort(times)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(times[len(times)*p/100].Microseconds()), fmt.Sprintf("p%d-µs", p))
	}
}
