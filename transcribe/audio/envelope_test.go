package audio

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// frames is a Reader of prepared frames and then err.
type frames struct {
	list []Frame
	err  error
}

func (r *frames) ReadFrame(context.Context) (Frame, error) {
	if len(r.list) == 0 {
		return Frame{}, r.err
	}
	f := r.list[0]
	r.list = r.list[1:]
	return f, nil
}

func readEnvelope(t interface{ Fatalf(string, ...any) }, e *Envelope, want error) {
	for {
		_, err := e.ReadFrame(context.Background())
		if err != nil {
			if !errors.Is(err, want) {
				t.Fatalf("ended with %v, want %v", err, want)
			}
			return
		}
	}
}

func TestEnvelopeKeepsPeaksOfEachLeg(t *testing.T) {
	// 100 ms at 8 kHz: 20 windows of 5 ms.
	loud := make([]int16, 800)
	loud[39], loud[40], loud[799] = -32768, 100, 7
	broken := errors.New("cut off")
	e := NewEnvelope(&frames{[]Frame{
		{Leg: Caller, Rate: 8000, PCM: loud[:401]},
		{Leg: Callee, Start: 50 * time.Millisecond, Rate: 8000, PCM: []int16{-30, 40}},
		{Leg: Caller, Start: Span(401, 8000), Rate: 8000, PCM: loud[401:]},
	}, broken}, 5*time.Millisecond, 1000)
	readEnvelope(t, e, broken)

	caller, callee := e.Levels(Caller), e.Levels(Callee)
	if len(caller) != 20 || len(callee) != 11 || len(e.Levels(Unknown)) != 0 {
		t.Fatalf("%d, %d and %d windows", len(caller), len(callee), len(e.Levels(Unknown)))
	}
	if caller[0].Peak != 32767 || caller[0].RMS != 5181 || caller[1].Peak != 100 || caller[2] != (Level{}) || caller[19].Peak != 7 {
		t.Errorf("caller %v", caller)
	}
	if callee[9] != (Level{}) || callee[10] != (Level{Peak: 40, RMS: 35}) {
		t.Errorf("callee %v", callee)
	}
}

func TestEnvelopeHandsFramesThrough(t *testing.T) {
	in := []Frame{{Leg: Callee, Start: time.Second, Rate: 8000, PCM: []int16{1, 2, 3}}, {Leg: 77, Start: -1, Rate: 0}}
	e := NewEnvelope(&frames{in, io.EOF}, time.Millisecond, 10)
	for _, want := range in {
		got, err := e.ReadFrame(context.Background())
		if err != nil || got.Leg != want.Leg || got.Start != want.Start || len(got.PCM) != len(want.PCM) {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if _, err := e.ReadFrame(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
}

// However long the call, there are at most so many windows, none of the peaks
// is lost, and each stands where it was.
func TestEnvelopeStaysBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(2, 50).Draw(t, "most")
		var list []Frame
		at := time.Duration(0)
		peaks := map[time.Duration]int16{}
		for range rapid.IntRange(1, 40).Draw(t, "frames") {
			at += time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "gap"))
			rate := rapid.SampledFrom([]int{8000, 11025, 48000}).Draw(t, "rate")
			f := Frame{Leg: Caller, Start: at, Rate: rate, PCM: make([]int16, rapid.IntRange(1, 2000).Draw(t, "n"))}
			i := rapid.IntRange(0, len(f.PCM)-1).Draw(t, "peak at")
			f.PCM[i] = int16(rapid.IntRange(1, 32767).Draw(t, "peak"))
			peaks[at+Span(i, rate)] = f.PCM[i]
			list, at = append(list, f), f.End()
		}
		e := NewEnvelope(&frames{list, io.EOF}, 10*time.Millisecond, most)
		readEnvelope(t, e, io.EOF)
		levels := e.Levels(Caller)
		if len(levels) > most {
			t.Fatalf("%d windows, at most %d", len(levels), most)
		}
		for when, peak := range peaks {
			// A sample on a window's edge may round into its neighbour.
			i := int(when / e.Window())
			found := false
			for _, j := range []int{int((when - 200*time.Microsecond) / e.Window()), i, int((when + 200*time.Microsecond) / e.Window())} {
				found = found || j >= 0 && j < len(levels) && levels[j].Peak >= peak
			}
			if !found {
				t.Fatalf("the peak %d at %v is not in window %d of %v", peak, when, i, e.Window())
			}
		}
	})
}
