package remote

import (
	"bytes"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sound(at time.Duration, samples int) item {
	return item{start: at, data: bytes.Repeat([]byte{byte(at / (10 * time.Millisecond)), 1}, samples)}
}

func TestRingJoinsWhatBelongsTogether(t *testing.T) {
	r := ring{rateHz: 1000, limit: time.Minute}
	ms := time.Millisecond
	for i := range 15 {
		r.push(sound(time.Duration(i)*100*ms, 100))
	}
	r.push(item{start: 1500 * ms, pause: true})
	r.push(sound(1500*ms, 50))
	r.push(sound(1700*ms, 50)) // after a gap
	for n, want := range map[int]struct {
		count int
		end   time.Duration
	}{
		0: {10, 1000 * ms}, 10: {5, 1500 * ms}, 15: {1, 1500 * ms}, 16: {1, 1550 * ms}, 17: {1, 1750 * ms}, 18: {0, 0},
	} {
		msg, count := r.take(n, math.MaxInt)
		if count != want.count || r.end(msg) != want.end || msg.pause != (n == 15) {
			t.Errorf("from %d: %d items until %v, want %+v", n, count, r.end(msg), want)
		}
	}
	if _, count := r.take(3, 4); count != 1 {
		t.Errorf("%d items where one was asked for", count)
	}
}

// What is forgotten is what is settled and was sent, to the sample, or what has
// no room.
func TestRingForgetsNoMoreThanItMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ring{rateHz: 1000, limit: 2 * time.Second}
		var at, settled time.Duration
		sent := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				at += time.Duration(rapid.IntRange(0, 300).Draw(t, "gap")) * time.Millisecond
			case 1:
				r.push(item{start: at, pause: true})
			case 2:
				sent = rapid.IntRange(min(sent, r.next()), r.next()).Draw(t, "sent")
				settled = max(settled, time.Duration(rapid.Int64Range(0, int64(at)).Draw(t, "settled")))
				r.settle(settled, sent)
			default:
				n := rapid.IntRange(1, 100).Draw(t, "samples")
				r.push(sound(at, n))
				at += time.Duration(n) * time.Millisecond
			}
			held := 0
			var last time.Duration
			for i, it := range r.items {
				held += len(it.data) / 2
				if it.start < last {
					t.Fatalf("item %d from %v, after %v", i, it.start, last)
				}
				last = r.end(it)
			}
			if held != r.held || time.Duration(held)*time.Millisecond > r.limit {
				t.Fatalf("holds %d samples, says %d", held, r.held)
			}
			if len(r.items) > 0 && r.first >= sent && r.lost == 0 && r.items[0].start > at {
				t.Fatalf("forgot what was not sent")
			}
		}
	})
}
