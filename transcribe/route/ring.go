package route

import (
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// ring keeps the audio of a leg whose words are not final yet. The latest
// frame is kept however long it is.
type ring struct {
	frames []audio.Frame
	limit  time.Duration
	held   time.Duration
	from   time.Duration // nothing before it is kept
}

// push keeps f, whose PCM is the ring's from then on.
func (r *ring) push(f audio.Frame) {
	r.frames = append(r.frames, f)
	r.held += f.End() - f.Start
	n := 0
	for r.held > r.limit && n < len(r.frames)-1 {
		r.held -= r.frames[n].End() - r.frames[n].Start
		n++
	}
	r.drop(n)
	r.settle(r.from)
}

// settle forgets the audio before the media time at.
func (r *ring) settle(at time.Duration) {
	r.from = max(r.from, at)
	n := 0
	for n < len(r.frames) && r.frames[n].End() <= r.from {
		r.held -= r.frames[n].End() - r.frames[n].Start
		n++
	}
	r.drop(n)
	if len(r.frames) == 0 || r.frames[0].Start >= r.from {
		return
	}
	f := &r.frames[0]
	k := min(int((r.from-f.Start)*time.Duration(f.Rate)/time.Second), len(f.PCM))
	cut := audio.Span(k, f.Rate)
	f.PCM = f.PCM[k:]
	f.Start += cut
	r.held -= cut
}

// drop forgets the n oldest frames. Slots are cleared so that their PCM goes.
func (r *ring) drop(n int) {
	if n == 0 {
		return
	}
	left := copy(r.frames, r.frames[n:])
	clear(r.frames[left:])
	r.frames = r.frames[:left]
}
