package audiohooksrc

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const ms = time.Millisecond

var (
	stereo = media{"audio", "PCMU", []string{external, internal}, 8000}
	twoLeg = []audio.Leg{audio.Caller, audio.Callee}
)

// interleaved is PCMU of so long, with one sample value for each channel.
func interleaved(long time.Duration, values ...int16) []byte {
	var out []byte
	for range int(long * 8 / time.Millisecond) {
		out = append(out, audio.MuLaw.Encode(nil, values)...)
	}
	return out
}

// legsOf are the sums, the end and what was lost, by leg.
func legsOf(frames []audio.Frame) (sum map[audio.Leg]int, end, lost map[audio.Leg]time.Duration) {
	sum, end, lost = make(map[audio.Leg]int), make(map[audio.Leg]time.Duration), make(map[audio.Leg]time.Duration)
	for _, f := range frames {
		for _, v := range f.PCM {
			sum[f.Leg] += int(v)
		}
		end[f.Leg] = f.End()
		lost[f.Leg] += f.Lost
	}
	return sum, end, lost
}

func TestChannelsAreLegs(t *testing.T) {
	c := newClock(stereo, twoLeg, 0)
	for i := range 10 {
		if err := c.audio(interleaved(200*ms, 8, 16), time.Duration(i+1)*200*ms); err != nil {
			t.Fatal(err)
		}
	}
	frames := c.take()
	sum, end, _ := legsOf(frames)
	if sum[audio.Caller] != 16000*8 || sum[audio.Callee] != 16000*16 || end[audio.Caller] != 2*time.Second || end[audio.Callee] != 2*time.Second {
		t.Errorf("sums %v, ends %v", sum, end)
	}
	at := make(map[audio.Leg]time.Duration)
	for _, f := range frames {
		if long := f.End() - f.Start; f.Start != at[f.Leg] || long < 20*ms || long > 100*ms {
			t.Errorf("a frame of the %s from %v to %v, after %v", f.Leg, f.Start, f.End(), at[f.Leg])
		}
		at[f.Leg] = f.End()
	}
}

func TestLinearSamplesAreLittleEndian(t *testing.T) {
	c := newClock(media{"audio", "L16", []string{internal}, 16000}, []audio.Leg{audio.Callee}, 0)
	var b []byte
	for range 1600 {
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(1000)))
	}
	if err := c.audio(b, 100*ms); err != nil {
		t.Fatal(err)
	}
	if sum, end, _ := legsOf(c.take()); sum[audio.Callee] != 1600*1000 || end[audio.Callee] != 100*ms {
		t.Errorf("sum %v, end %v", sum, end)
	}
	if err := c.audio(b[:3], 100*ms); err == nil || !strings.Contains(err.Error(), "whole samples") {
		t.Errorf("half a sample: %v", err)
	}
}

func TestWhatIsNotSentMovesTheClock(t *testing.T) {
	second := interleaved(time.Second, 8, 8)
	for name, c := range map[string]struct {
		do             func(t *testing.T, c *clock)
		end, lost, was time.Duration
	}{
		"discarded": {func(t *testing.T, c *clock) {
			if err := c.lost(time.Second, 300*ms, 1300*ms); err != nil {
				t.Error(err)
			}
		}, 2300 * ms, 300 * ms, 0},
		"discarded before its start": {func(t *testing.T, c *clock) {
			if err := c.lost(1100*ms, 300*ms, 1300*ms); err != nil {
				t.Error(err)
			}
		}, 2400 * ms, 300 * ms, 0},
		"discarded in the past": {func(t *testing.T, c *clock) {
			if err := c.lost(0, 300*ms, 1300*ms); err != nil {
				t.Error(err)
			}
		}, 2300 * ms, 300 * ms, 0},
		"pause that positions count": {func(t *testing.T, c *clock) {
			c.pause(time.Second)
			for s := 2; s <= 5; s++ {
				c.tick(time.Duration(s) * time.Second)
			}
			if was, err := c.resume(time.Second, 4*time.Second, 5*time.Second); err != nil || was != 4*time.Second {
				t.Error(was, err)
			}
		}, 6 * time.Second, 0, 0},
		"pause that positions do not count": {func(t *testing.T, c *clock) {
			c.pause(time.Second)
			for s := 2; s <= 5; s++ {
				c.tick(time.Duration(s) * time.Second)
			}
			if _, err := c.resume(time.Second, 0, 5*time.Second); err != nil {
				t.Error(err)
			}
		}, 6 * time.Second, 0, 0},
		"a network that holds up": {func(_ *testing.T, c *clock) { c.tick(2500 * ms) }, 2 * time.Second, 0, 0},
		"a client that sends nothing": {func(_ *testing.T, c *clock) {
			c.tick(3 * time.Second)
			c.tick(4 * time.Second)
		}, 4 * time.Second, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			k := newClock(stereo, twoLeg, 0)
			if err := k.audio(second, time.Second); err != nil {
				t.Fatal(err)
			}
			c.do(t, k)
			if err := k.audio(second, 6*time.Second); err != nil {
				t.Fatal(err)
			}
			frames := k.take()
			sum, end, lost := legsOf(frames)
			for _, leg := range twoLeg {
				if sum[leg] != 2*8000*8 || end[leg] != c.end || lost[leg] != c.lost {
					t.Errorf("%s: sum %d, end %v, lost %v", leg, sum[leg], end[leg], lost[leg])
				}
			}
			at := make(map[audio.Leg]time.Duration)
			for _, f := range frames {
				if f.Start < at[f.Leg] {
					t.Errorf("%s goes back from %v to %v", f.Leg, at[f.Leg], f.Start)
				}
				at[f.Leg] = f.End()
			}
		})
	}
}

func TestAudioThatIsNotWhatItIsSaidToBeIsNoticed(t *testing.T) {
	c := newClock(stereo, twoLeg, 0)
	// 48 kHz, two channels of 16 bits, said to be 8 kHz of 8: twelve times as fast.
	for i := range 60 * 50 {
		now := time.Duration(i+1) * 20 * ms
		if err := c.audio(make([]byte, 48000/50*4), now); err != nil {
			if now > 5*time.Second || !strings.Contains(err.Error(), "is not PCMU at 8000 Hz") {
				t.Errorf("after %v: %v", now, err)
			}
			return
		}
	}
	t.Error("nobody noticed")
}

func TestClientsCannotMoveTheClockFarAhead(t *testing.T) {
	c := newClock(stereo, twoLeg, 0)
	if err := c.lost(900*time.Hour, time.Second, time.Second); err == nil {
		t.Error("a gap of 900 hours is taken after a second")
	}
	if _, err := c.resume(0, 900*time.Hour, time.Second); err == nil {
		t.Error("a pause of 900 hours is taken after a second")
	}
}
