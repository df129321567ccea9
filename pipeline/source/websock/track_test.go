package websock

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const ms = time.Millisecond

func tone(n int) func([]int16) []int16 {
	return func(dst []int16) []int16 {
		for range n {
			dst = append(dst, 1)
		}
		return dst
	}
}

// told writes frames as start+length, with what was lost and pressed.
func told(frames []audio.Frame) string {
	var b strings.Builder
	for _, f := range frames {
		fmt.Fprintf(&b, "%v+%v", f.Start, audio.Span(len(f.PCM), f.Rate))
		if f.Lost > 0 {
			fmt.Fprintf(&b, " lost %v", f.Lost)
		}
		if f.Keys != "" {
			fmt.Fprintf(&b, " keys %s", f.Keys)
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestTrackGathersJumpsAndMarks(t *testing.T) {
	twenty := func(tr *Track, at time.Duration) { tr.Came(at, 8000, 160, tone(160)) }
	for _, c := range []struct {
		name string
		do   func(*Track)
		want string
	}{
		{"three messages make a frame", func(tr *Track) {
			for n := range 6 {
				twenty(tr, time.Duration(n+1)*20*ms)
			}
		}, "0s+60ms; 60ms+60ms"},
		{"a late begin is where it is heard", func(tr *Track) { twenty(tr, 3*time.Second); tr.Flush() }, "2.98s+20ms"},
		{"the network's delays move nothing", func(tr *Track) { twenty(tr, 20*ms); twenty(tr, 500*ms); tr.Flush() }, "0s+40ms"},
		{"a gap moves the clock", func(tr *Track) { twenty(tr, 20*ms); twenty(tr, 800*ms); tr.Flush() }, "0s+20ms; 780ms+20ms"},
		{"silence is marked", func(tr *Track) { twenty(tr, 20*ms); tr.Mark(time.Second); tr.Mark(2 * time.Second) }, "0s+20ms; 500ms+0s; 1.5s+0s"},
		{"a short loss is silence", func(tr *Track) { twenty(tr, 20*ms); tr.Lose(60 * ms); twenty(tr, 80*ms); tr.Flush() }, "0s+60ms lost 40ms; 60ms+20ms"},
		{"a long loss is a jump", func(tr *Track) {
			twenty(tr, 20*ms)
			tr.Lose(10 * time.Second)
			tr.Add(8000, 160, tone(160))
			tr.Flush()
		}, "0s+20ms; 10s+20ms"},
		{"nothing is lost backwards", func(tr *Track) { twenty(tr, 20*ms); tr.Lose(10 * ms); tr.Flush() }, "0s+20ms"},
		{"keys have their place", func(tr *Track) { twenty(tr, 20*ms); tr.Key("5"); tr.Key("#"); tr.Flush() }, "0s+20ms keys 5#"},
		{"keys without audio", func(tr *Track) { tr.Key("1"); tr.Flush() }, "0s+0s keys 1"},
		{"a new rate is a new frame", func(tr *Track) { twenty(tr, 20*ms); tr.Add(16000, 320, tone(320)); tr.Flush() }, "0s+20ms; 20ms+20ms"},
	} {
		tr := &Track{Leg: audio.Caller}
		c.do(tr)
		if got := told(tr.Take()); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if rest := tr.Take(); len(rest) != 0 {
			t.Errorf("%s: %d frames are given twice", c.name, len(rest))
		}
	}
}

func TestPaceFindsAudioThatIsNotWhatItIsSaidToBe(t *testing.T) {
	for _, c := range []struct {
		name  string
		times float64 // as fast
		every time.Duration
		pause time.Duration // after 3 s
		span  time.Duration
		want  string
	}{
		{"as said", 1, 20 * ms, 0, time.Hour, ""},
		{"a clock that is a little fast", 1.0005, 20 * ms, 0, time.Hour, ""},
		{"48 kHz stereo said to be 8 kHz", 12, 20 * ms, 0, 5 * time.Second, "12.0 times"},
		{"stereo said to be mono", 2, 20 * ms, 0, 10 * time.Second, "2.0 times"},
		{"8 kHz said to be 16 kHz", 0.5, 20 * ms, 0, time.Minute, "0.5 times"},
		{"in large messages", 0.5, 100 * ms, 0, time.Minute, "0.5 times"},
		{"a recording as fast as it goes", 1000, 20 * ms, 0, time.Minute, ""},
		{"after a pause", 1, 20 * ms, 30 * time.Second, time.Minute, ""},
	} {
		var p Pace
		var err error
		for at := time.Duration(0); at < c.span && err == nil; {
			at += c.every
			if at == 3*time.Second {
				at += c.pause
			}
			err = p.Note(at, time.Duration(float64(c.every)*c.times), 8000)
		}
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %s", c.name, err, c.want)
		}
	}
}
