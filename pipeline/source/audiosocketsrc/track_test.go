package audiosocketsrc

import (
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// pcm is n samples, all of the value v, little-endian.
func pcm(n int, v int16) []byte {
	out := make([]byte, 0, 2*n)
	for range n {
		out = append(out, byte(v), byte(uint16(v)>>8))
	}
	return out
}

const ms = time.Millisecond

func TestSamplesAreTheClockUnlessNothingCame(t *testing.T) {
	type at struct {
		came time.Duration
		want time.Duration // start of the audio
	}
	for name, c := range map[string][]at{
		"steady":                  {{20 * ms, 0}, {40 * ms, 20 * ms}, {60 * ms, 40 * ms}},
		"late beginning":          {{1020 * ms, 1000 * ms}, {1040 * ms, 1020 * ms}},
		"early beginning":         {{0, 0}, {20 * ms, 20 * ms}},
		"jitter":                  {{20 * ms, 0}, {400 * ms, 20 * ms}, {400 * ms, 40 * ms}},
		"a gap":                   {{20 * ms, 0}, {3020 * ms, 3000 * ms}, {3040 * ms, 3020 * ms}},
		"faster than speech":      {{20 * ms, 0}, {20 * ms, 20 * ms}, {20 * ms, 40 * ms}},
		"a little less each time": {{20 * ms, 0}, {500 * ms, 20 * ms}, {600 * ms, 580 * ms}},
	} {
		var track track
		for i, a := range c {
			track.sound(pcm(160, int16(i+1)), 8000, a.came)
		}
		track.flush()
		got := make(map[int16]time.Duration) // where each value begins
		for _, f := range track.take() {
			for i, v := range f.PCM {
				if _, ok := got[v]; !ok {
					got[v] = f.Start + audio.Span(i, f.Rate)
				}
			}
		}
		for i, a := range c {
			if got[int16(i+1)] != a.want {
				t.Errorf("%s: message %d begins at %v, want %v", name, i, got[int16(i+1)], a.want)
			}
		}
	}
}

func TestFramesGatherMessagesOfOneRate(t *testing.T) {
	var track track
	for range 3 {
		track.sound(pcm(160, 1), 8000, 0)
	}
	track.sound(pcm(160, 2), 8000, 0)
	track.key("5")
	track.sound(pcm(320, 3), 16000, 0)
	track.mark(100 * ms)
	var rates, sizes []int
	var keys string
	for _, f := range track.take() {
		rates, sizes = append(rates, f.Rate), append(sizes, len(f.PCM))
		keys += f.Keys + ","
	}
	if want := []int{8000, 8000, 16000}; !equal(rates, want) {
		t.Errorf("rates %v, want %v", rates, want)
	}
	if want := []int{480, 160, 320}; !equal(sizes, want) {
		t.Errorf("samples %v, want %v", sizes, want)
	}
	if keys != ",5,," {
		t.Errorf("keys %q", keys)
	}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestMarksTellTheTimeOfASilentLeg(t *testing.T) {
	var track track
	track.mark(time.Second)
	track.mark(2 * time.Second)
	track.sound(pcm(160, 1), 8000, 2100*ms)
	track.flush()
	frames := track.take()
	if len(frames) != 3 || frames[0].Start != 500*ms || frames[1].Start != 1500*ms || len(frames[1].PCM) != 0 || frames[2].Start != 2080*ms {
		t.Errorf("frames %+v", frames)
	}
}

// checkTrack plays a script of three bytes a step: what comes, how much of it,
// and how long after the step before.
func checkTrack(t *testing.T, script []byte) {
	t.Helper()
	var track track
	var now, end time.Duration
	var given, got, keys int
	take := func() {
		for _, f := range track.take() {
			if f.Start < end || f.Rate <= 0 {
				t.Fatalf("frame at %v of %d Hz after the end of the one before at %v", f.Start, f.Rate, end)
			}
			end = f.End()
			got += len(f.PCM)
			keys -= len(f.Keys)
		}
	}
	for ; len(script) >= 3; script = script[3:] {
		now += time.Duration(script[2]) * 10 * ms
		switch kind := script[0]; {
		case rateOf(kind) != 0:
			payload := make([]byte, int(script[1])*5)
			given += len(payload) / 2
			track.sound(payload, rateOf(kind), now)
		case kind == kindDigit:
			track.key("1")
			keys++
		default:
			track.mark(now)
		}
		if script[1]%2 == 0 {
			take()
		}
	}
	track.flush()
	take()
	if got != given || keys != 0 {
		t.Fatalf("%d samples of %d, %d keys missing", got, given, keys)
	}
	audible := time.Duration(0)
	if given > 0 {
		audible = audio.Span(given, 8000)
	}
	if end > now+audible+realGap {
		t.Fatalf("the clock stands at %v after %v and %d samples", end, now, given)
	}
}

// Whatever comes whenever, frames are in order and do not overlap, every
// sample and key is in one of them, and the clock does not run away.
func FuzzTrack(f *testing.F) {
	f.Add([]byte{0x10, 64, 2, 0x10, 64, 2, 3, 1, 0, 0, 0, 100, 0x12, 200, 2})
	f.Add([]byte{0x10, 0, 0, 0x18, 255, 255, 0, 0, 255, 0x15, 1, 0})
	f.Fuzz(func(t *testing.T, script []byte) { checkTrack(t, script) })
}
