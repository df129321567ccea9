package pcapsrc

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	phoneA = "192.0.2.1:4000"
	phoneB = "198.51.100.2:5000"
)

func TestTwoStreamsToAndFroAreOneCall(t *testing.T) {
	a, b := speech(8000, 1), speech(8000, 2)
	file := capture(plainEthernet, 65535, talk(0, phoneA, phoneB, 1, a), talk(300*ms, phoneB, phoneA, 2, b))
	for _, calleeFirst := range []bool{false, true} {
		f := one(t, file, Options{CalleeFirst: calleeFirst})
		first, second := audio.Caller, audio.Callee
		if calleeFirst {
			first, second = second, first
		}
		if !slices.Equal(f.Legs, []audio.Leg{audio.Caller, audio.Callee}) || f.Token != "" || f.Attributes["codec"] != "PCMU/8000" {
			t.Errorf("call %+v", f.Call)
		}
		if !slices.Equal(f.pcm[first], heardOf(a)) || !slices.Equal(f.pcm[second], heardOf(b)) {
			t.Error("the sound is another than what was sent")
		}
		if f.start[first] != 0 || f.start[second] != 300*ms {
			t.Errorf("legs begin at %v", f.start)
		}
		if !f.Began.Equal(began) || f.Duration != 1280*ms || len(f.warnings) != 0 {
			t.Errorf("began %v, took %v, warnings %q", f.Began, f.Duration, f.warnings)
		}
	}
}

func TestOneStreamIsOneUnknownLeg(t *testing.T) {
	a := speech(8000, 1)
	f := one(t, capture(plainEthernet, 65535, talk(0, phoneA, phoneB, 1, a)), Options{})
	if !slices.Equal(f.Legs, []audio.Leg{audio.Unknown}) || !slices.Equal(f.pcm[audio.Unknown], heardOf(a)) {
		t.Errorf("legs %v, %d samples", f.Legs, len(f.pcm[audio.Unknown]))
	}
}

func TestSilenceOfAMinuteParts(t *testing.T) {
	a := speech(8000, 1)
	all, _, err := hear(t, capture(plainEthernet, 65535,
		talk(0, phoneA, phoneB, 1, a), talk(2*time.Minute, phoneA, phoneB, 1, a)), Options{})
	if err != nil || len(all) != 2 {
		t.Fatalf("%d calls, %v", len(all), err)
	}
	if all[0].Token != "rtp-1" || all[1].Token != "rtp-2" || !all[1].Began.Equal(began.Add(2*time.Minute)) {
		t.Errorf("calls %+v and %+v", all[0].Call, all[1].Call)
	}
}
