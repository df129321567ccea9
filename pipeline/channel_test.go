package pipeline

import (
	"bytes"
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
)

// spokenCall is a recorded call of two people on 8 kHz telephones.
func spokenCall(t *testing.T) (*source.Call, func()) {
	t.Helper()
	f, err := audio.OpenFile(filepath.Join("..", "testdata", "calls", "honest-card-shop.wav"), audio.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &source.Call{ID: "call", Tenant: "default", Source: "file", Legs: f.Info().Legs, Audio: f}, func() { f.Close() }
}

func TestStatusTellsTheChannelOfEachLeg(t *testing.T) {
	var first []byte
	for range 2 {
		var out memory
		call, done := spokenCall(t)
		if err := newPipeline(t, DefaultConfig(), scripted(script.Transcript{}), &out).Listen(context.Background(), call); err != nil {
			t.Fatal(err)
		}
		done()
		told := map[callwardenv1.Leg]int{}
		before := map[callwardenv1.Leg]*callwardenv1.Channel{}
		for i, s := range of[*callwardenv1.CallStatus](&out) {
			for _, l := range s.Legs {
				ch := l.GetChannel()
				if i == 0 && ch != nil {
					t.Errorf("the first status tells a channel: %v", ch)
				}
				if ch != nil && !proto.Equal(ch, before[l.Leg]) {
					told[l.Leg]++
				}
				before[l.Leg] = ch
			}
		}
		for _, leg := range []callwardenv1.Leg{callwardenv1.Leg_LEG_CALLER, callwardenv1.Leg_LEG_CALLEE} {
			ch := before[leg]
			if ch.GetRateHz() != 8000 || ch.GetHighHz() < 3400 || ch.GetHighHz() > 4000 || ch.GetHumHz() != 0 || ch.GetClipped() {
				t.Errorf("%v: %v", leg, ch)
			}
			if noise := ch.GetNoiseDbfs(); noise > -40 || noise < -90 {
				t.Errorf("%v: noise of %v dBFS", leg, noise)
			}
			// The first words may hold no sound that shows the upper edge.
			if told[leg] < 1 || told[leg] > 2 {
				t.Errorf("%v: told %d times", leg, told[leg])
			}
		}
		for _, l := range out.ended(t).Legs {
			if l.Channel == nil {
				t.Errorf("%v: the end tells no channel", l.Leg)
			}
		}
		if first == nil {
			first = slices.Clone(out.lines.Bytes())
		} else if !bytes.Equal(first, out.lines.Bytes()) {
			t.Error("the second run tells something else")
		}
	}
}

func TestChannelIsToldWhenItHasSettled(t *testing.T) {
	tel := audio.Channel{RateHz: 16000, LowHz: 300, HighHz: 3400, NoiseDB: -60}
	wide := audio.Channel{RateHz: 16000, HighHz: 8000, NoiseDB: -60}
	noisier := tel
	noisier.NoiseDB = -40
	unknown := audio.Channel{RateHz: 16000}
	var l legState
	for i, step := range []struct {
		at   float64 // seconds
		ch   audio.Channel
		tell bool
	}{
		{0, unknown, false},
		{1, wide, false},
		{2, tel, false},
		{4.9, tel, false},
		{5, tel, true},
		{6, noisier, false},
		{20, noisier, false},
		{21, unknown, false}, // a gap, another rate
		{22, wide, false},
		{24, tel, false}, // no: it was the old one
		{27, tel, false},
		{28, wide, false},
		{31, wide, true},
	} {
		h := heard{at: time.Duration(math.Round(step.at * float64(time.Second))), channel: step.ch}
		if got := l.noteChannel(h); got != step.tell {
			t.Errorf("step %d: told %v", i, got)
		}
	}
}
