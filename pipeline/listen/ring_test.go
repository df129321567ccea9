package listen

import (
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

func speak(r *ring, from, to time.Duration) {
	for at := from; at < to; at += gather {
		pcm := make([]int16, 1600)
		pcm[0] = int16(at / gather)
		r.push(chunk{Frame: audio.Frame{Start: at, Rate: 16000, PCM: pcm}})
	}
}

func TestRingKeepsHalfAMinuteHoweverLongTheLeg(t *testing.T) {
	var r ring
	hour := time.Hour
	speak(&r, 0, hour)
	if n, most := len(r.chunks)+len(r.free), int(ringTime/gather)+2; n > most {
		t.Errorf("an hour of speech takes the room of %d chunks, want %d", n, most)
	}
	if at, ok := r.peek(0); !ok || at < hour-ringTime-gather || at > hour-ringTime+gather {
		t.Errorf("the oldest speech is of %v, want half a minute ago", at)
	}
	if r.next() != int(hour/gather) {
		t.Errorf("the next chunk is number %d, want %d", r.next(), int(hour/gather))
	}
}

// Whoever reads has its own copy: what is pushed meanwhile takes the room of
// what is forgotten.
func TestRingIsReadInOrderAndByCopy(t *testing.T) {
	var r ring
	speak(&r, 0, 40*time.Second)
	var c chunk
	n, ok := r.read(0, &c)
	first := c.PCM[0]
	if !ok || c.Start < 9*time.Second || c.Start > 11*time.Second || n != int(first)+1 {
		t.Fatalf("read %v as number %d", c.Start, n)
	}
	speak(&r, 40*time.Second, 80*time.Second)
	if c.PCM[0] != first {
		t.Error("a chunk changed after it was read")
	}
	var last time.Duration
	read := 0
	for {
		next, ok := r.read(n, &c)
		if !ok {
			break
		}
		if c.Start <= last || int(c.PCM[0]) != int(c.Start/gather) {
			t.Fatalf("chunk %d begins at %v after %v and holds %d", n, c.Start, last, c.PCM[0])
		}
		last, n = c.Start, next
		read++
	}
	if want := int(ringTime / gather); read < want || read > want+2 {
		t.Errorf("read %d chunks, want %d", read, want)
	}
	if got := r.since(70 * time.Second); got != 700 {
		t.Errorf("speech from 70s on is number %d, want 700", got)
	}
	if got := r.since(2 * time.Hour); got != r.next() {
		t.Errorf("speech that is yet to come is number %d, want the next, %d", got, r.next())
	}
}
