package stream

import (
	"fmt"
	"math"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// Step is the audio that a recogniser gets at once: frames of any size are
	// cut and joined to it, so results do not depend on the size.
	Step = 100 * time.Millisecond

	// maxSilence is the longest gap that is heard as silence, enough to end
	// any utterance. What a gap has beyond it is skipped by moving the clock.
	maxSilence = 5 * time.Second

	// slack is how far a frame may overlap what was heard: a sender's rounded
	// times are no reason to refuse audio.
	slack = time.Millisecond
)

// Audio cuts the frames of a leg into steps and knows which media time each
// sample of the stream has. It is used by one goroutine at a time.
type Audio struct {
	rateHz int
	taken  int     // samples of the stream that Next and Rest gave out
	queue  []int16 // samples to give out
	at     int     // next in queue
	marks  []mark  // where the media clock steps; empty before the first sample
}

// mark says that a sample of the stream and all after it follow a media time.
type mark struct {
	sample int
	media  time.Duration
}

// NewAudio returns the stream of one leg at rateHz.
func NewAudio(rateHz int) *Audio { return &Audio{rateHz: rateHz} }

// Add takes a frame, and silence for the gap before it. An error wraps
// [transcribe.ErrFrame]: nothing was taken.
func (a *Audio) Add(f audio.Frame) error {
	switch {
	case f.Rate != a.rateHz:
		return fmt.Errorf("%w: rate %d Hz, the session has %d", transcribe.ErrFrame, f.Rate, a.rateHz)
	case f.Start < 0 || f.Start > math.MaxInt64/2:
		return fmt.Errorf("%w: it starts at %v", transcribe.ErrFrame, f.Start)
	case len(f.PCM) == 0:
		return nil
	}
	if len(a.marks) == 0 {
		a.marks = append(a.marks, mark{0, f.Start})
	}
	gap := f.Start - a.Heard()
	if gap < -slack {
		return fmt.Errorf("%w: it starts %v before the end of the one before", transcribe.ErrFrame, -gap)
	}
	if a.at == len(a.queue) {
		a.queue, a.at = a.queue[:0], 0
	}
	if n := a.samples(min(gap, maxSilence)); n > 0 {
		a.queue = append(a.queue, make([]int16, n)...)
	}
	if gap > maxSilence {
		a.skipTo(f.Start)
	}
	a.queue = append(a.queue, f.PCM...)
	return nil
}

// skipTo makes what is added next begin at the media time to.
func (a *Audio) skipTo(to time.Duration) {
	m := mark{a.added(), to}
	if last := len(a.marks) - 1; a.marks[last].sample == m.sample {
		a.marks[last] = m
		return
	}
	if len(a.marks) == maxMarks { // nothing speaks of what lies so far back
		a.marks = append(a.marks[:0], a.marks[1:]...)
	}
	a.marks = append(a.marks, m)
}

// maxMarks bounds what a leg with many long gaps keeps of them.
const maxMarks = 64

// Next returns the next whole step; nil if there is none yet. It is good until
// the next Add.
func (a *Audio) Next() []int16 {
	n := a.samples(Step)
	if len(a.queue)-a.at < n {
		return nil
	}
	return a.take(n)
}

// Rest returns what is left of a step at the end of the audio; nil if nothing
// is.
func (a *Audio) Rest() []int16 {
	if a.at == len(a.queue) {
		return nil
	}
	return a.take(len(a.queue) - a.at)
}

func (a *Audio) take(n int) []int16 {
	pcm := a.queue[a.at : a.at+n : a.at+n]
	a.at += n
	a.taken += n
	if a.at < len(a.queue) && a.at > cap(a.queue)/2 { // keeps the queue from growing without end
		rest := append([]int16(nil), a.queue[a.at:]...)
		a.queue, a.at = rest, 0
	}
	return pcm
}

func (a *Audio) samples(d time.Duration) int {
	return int(math.Round(d.Seconds() * float64(a.rateHz)))
}

// added is how many samples of the stream were added so far.
func (a *Audio) added() int { return a.taken + len(a.queue) - a.at }

// Taken is the time on the stream's own clock that Next and Rest gave out.
func (a *Audio) Taken() time.Duration { return audio.Span(a.taken, a.rateHz) }

// Heard is the media time at the end of all that was added; 0 before the
// first.
func (a *Audio) Heard() time.Duration { return a.media(a.added()) }

// Media is the media time of a time on the stream's own clock, which counts
// samples from the first.
func (a *Audio) Media(at time.Duration) time.Duration { return a.media(a.samples(at)) }

func (a *Audio) media(sample int) time.Duration {
	for i := len(a.marks) - 1; i >= 0; i-- {
		// At a skip, the time is that of the end of what lies before it.
		if m := a.marks[i]; sample > m.sample || i == 0 {
			return m.media + audio.Span(max(0, sample-m.sample), a.rateHz)
		}
	}
	return 0
}
