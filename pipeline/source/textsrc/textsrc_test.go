package textsrc

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestSilenceGivesEveryLegTheWholeTime(t *testing.T) {
	legs := []audio.Leg{audio.Caller, audio.Callee}
	r := Silence(1100*time.Millisecond, legs...)
	end := map[audio.Leg]time.Duration{}
	for {
		f, err := r.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Start != end[f.Leg] {
			t.Fatalf("frame of %v starts at %v, the last ended at %v", f.Leg, f.Start, end[f.Leg])
		}
		if slices.ContainsFunc(f.PCM, func(x int16) bool { return x != 0 }) {
			t.Fatal("silence is not silent")
		}
		end[f.Leg] = f.End()
	}
	for _, l := range legs {
		if end[l] < 1100*time.Millisecond || end[l] > 1300*time.Millisecond {
			t.Errorf("%v lasts %v, want the call's 1.1s and at most a frame more", l, end[l])
		}
	}
}
