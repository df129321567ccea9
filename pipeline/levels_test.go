package pipeline

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// given are frames that are read one after the other.
type given []audio.Frame

func (g *given) ReadFrame(context.Context) (audio.Frame, error) {
	if len(*g) == 0 {
		return audio.Frame{}, io.EOF
	}
	f := (*g)[0]
	*g = (*g)[1:]
	return f, nil
}

// tone is a frame of a sine of so many dB below full scale.
func tone(leg audio.Leg, start, length time.Duration, below float64) audio.Frame {
	pcm := make([]int16, int(length*8000/time.Second))
	peak := 32767 * math.Sqrt2 * math.Pow(10, -below/20)
	for i := range pcm {
		pcm[i] = int16(peak * math.Sin(2*math.Pi*440*float64(i)/8000))
	}
	return audio.Frame{Leg: leg, Start: start, Rate: 8000, PCM: pcm}
}

func levelsOf(t *testing.T, frames ...audio.Frame) (events []*callwardenv1.CallLevels) {
	t.Helper()
	g := given(frames)
	l := newLoudness(&g, []audio.Leg{audio.Caller, audio.Callee}, func(ev *callwardenv1.CallLevels) { events = append(events, ev) })
	for {
		if _, err := l.ReadFrame(t.Context()); errors.Is(err, io.EOF) {
			return events
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// stripOf is what events tell of a leg: levels by step, 0 where nothing is told.
func stripOf(events []*callwardenv1.CallLevels, leg callwardenv1.Leg) (strip []byte) {
	for _, ev := range events {
		for _, l := range ev.GetLegs() {
			if l.GetLeg() != leg {
				continue
			}
			from := int(ev.GetStart().AsDuration() / levelStep)
			for len(strip) < from {
				strip = append(strip, 0)
			}
			strip = append(strip, l.GetBelow()...)
		}
	}
	return strip
}

func TestLevelsAreDecibelsBelowFullScale(t *testing.T) {
	var frames []audio.Frame
	for at := time.Duration(0); at < 1100*time.Millisecond; at += 20 * time.Millisecond {
		below := 20.0
		if at >= 500*time.Millisecond {
			below = 43
		}
		frames = append(frames, tone(audio.Caller, at, 20*time.Millisecond, below), tone(audio.Callee, at, 20*time.Millisecond, 60))
	}
	events := levelsOf(t, frames...)
	if len(events) == 0 || len(events[0].GetLegs()) != 2 {
		t.Fatalf("events are %v, want both legs together", events)
	}
	caller, callee := stripOf(events, callwardenv1.Leg_LEG_CALLER), stripOf(events, callwardenv1.Leg_LEG_CALLEE)
	if want := []byte{20, 20, 20, 20, 20, 43, 43, 43, 43, 43}; !slices.Equal(caller[:10], want) {
		t.Errorf("caller is %v, want %v", caller, want)
	}
	if len(callee) < 10 || callee[3] != 60 {
		t.Errorf("callee is %v, want 60 dB", callee)
	}
}

func TestNothingIsNoLevel(t *testing.T) {
	lost := tone(audio.Caller, 300*time.Millisecond, 100*time.Millisecond, 20)
	lost.Lost = 100 * time.Millisecond // made up
	events := levelsOf(t,
		tone(audio.Caller, 0, 100*time.Millisecond, 20),
		audio.Frame{Leg: audio.Caller, Start: 200 * time.Millisecond, Rate: 8000}, // nothing came until then
		lost,
		tone(audio.Caller, 400*time.Millisecond, 100*time.Millisecond, 30),
		audio.Frame{Leg: audio.Caller, Start: 1200 * time.Millisecond, Rate: 8000},
	)
	strip := stripOf(events, callwardenv1.Leg_LEG_CALLER)
	if want := []byte{20, 255, 255, 255, 30, 255}; !slices.Equal(strip[:6], want) {
		t.Errorf("strip is %v, want %v", strip, want)
	}
}

func TestLegThatIsBehindIsToldAtItsOwnTime(t *testing.T) {
	var frames []audio.Frame
	for at := time.Duration(0); at < 4*time.Second; at += 100 * time.Millisecond {
		frames = append(frames, tone(audio.Caller, at, 100*time.Millisecond, 20))
		if at >= 2*time.Second {
			frames = append(frames, tone(audio.Callee, at-2*time.Second, 100*time.Millisecond, 40))
		}
	}
	for leg, want := range map[callwardenv1.Leg]byte{callwardenv1.Leg_LEG_CALLER: 20, callwardenv1.Leg_LEG_CALLEE: 40} {
		strip := stripOf(levelsOf(t, frames...), leg)
		if len(strip) < 19 || slices.ContainsFunc(strip, func(b byte) bool { return b != want }) {
			t.Errorf("%v is %v, want %d throughout", leg, strip, want)
		}
	}
}

func TestLongGapIsNotToldStepByStep(t *testing.T) {
	events := levelsOf(t,
		tone(audio.Caller, 0, 2*time.Second, 20),
		tone(audio.Caller, 10*time.Hour, 2*time.Second, 20),
	)
	n := 0
	for _, ev := range events {
		for _, l := range ev.GetLegs() {
			n += len(l.GetBelow())
		}
	}
	if n > 50 {
		t.Errorf("%d steps are told of four seconds", n)
	}
}

func BenchmarkLevelsOfOneSecondOfACall(b *testing.B) {
	frame := tone(audio.Caller, 0, 60*time.Millisecond, 20)
	told := 0
	l := newLoudness(nil, []audio.Leg{audio.Caller, audio.Callee}, func(*callwardenv1.CallLevels) { told++ })
	b.ReportAllocs()
	at := time.Duration(0)
	for b.Loop() {
		for range 17 { // 1.02 s
			frame.Start = at
			for _, leg := range l.legs {
				leg.add(frame)
			}
			at += 60 * time.Millisecond
		}
		l.flush()
	}
}
