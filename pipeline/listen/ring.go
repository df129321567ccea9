package listen

import (
	"slices"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// ringTime is how far back a leg can be transcribed when there is reason to:
// the story before the ask. Speech alone is kept, some 32 KB a second of it.
const ringTime = 30 * time.Second

// chunk is a piece of a leg's prepared speech, or a mark between two.
type chunk struct {
	audio.Frame
	mark mark
	due  time.Time // when it came in; zero in a recording
}

type mark uint8

const (
	speech mark = iota
	// quiet: the speaker has stopped. Whoever can end the utterance does.
	quiet
	// silent: no speech for so long that silence can be made up for those who
	// need to hear it.
	silent
)

// ring keeps the last speech of a leg. Chunks are numbered from 0 over its
// life; those that are older than ringTime are forgotten.
type ring struct {
	chunks []chunk
	first  int       // number of chunks[0]
	free   [][]int16 // PCM of forgotten chunks, to be used again
}

// next is the number that the next chunk will have.
func (r *ring) next() int { return r.first + len(r.chunks) }

// push appends a chunk, copying its PCM.
func (r *ring) push(c chunk) {
	r.forget(c.End() - ringTime)
	var room []int16
	if n := len(r.free); n > 0 && len(c.PCM) > 0 {
		room, r.free = r.free[n-1][:0], r.free[:n-1]
	}
	c.PCM = append(room, c.PCM...)
	r.chunks = append(r.chunks, c)
}

// forget drops what ended before the media time at.
func (r *ring) forget(at time.Duration) {
	n := 0
	for n < len(r.chunks) && r.chunks[n].End() < at {
		if pcm := r.chunks[n].PCM; cap(pcm) > 0 {
			r.free = append(r.free, pcm)
		}
		n++
	}
	if n > 0 {
		r.chunks = slices.Delete(r.chunks, 0, n)
		r.first += n
	}
}

// read copies chunk n, or the oldest after it that is kept, into c, whose PCM
// is used again, and returns the number of the one after it. ok is false when
// there is none yet.
func (r *ring) read(n int, c *chunk) (next int, ok bool) {
	n = max(n, r.first)
	if n >= r.next() {
		return n, false
	}
	pcm := c.PCM[:0]
	*c = r.chunks[n-r.first]
	c.PCM = append(pcm, c.PCM...)
	return n + 1, true
}

// peek is the media time at which chunk n begins, or the oldest after it.
func (r *ring) peek(n int) (start time.Duration, ok bool) {
	n = max(n, r.first)
	if n >= r.next() {
		return 0, false
	}
	return r.chunks[n-r.first].Start, true
}

// since is the number of the first chunk that ends after at.
func (r *ring) since(at time.Duration) int {
	for i := range r.chunks {
		if r.chunks[i].End() > at {
			return r.first + i
		}
	}
	return r.next()
}
