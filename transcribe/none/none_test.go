package none

import (
	"errors"
	"testing"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestHearsNothingAndKeepsTheRulesOfSessions(t *testing.T) {
	e := New()
	s, err := e.Open(t.Context(), transcribe.Options{Leg: audio.Callee})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(t.Context(), audio.Frame{PCM: make([]int16, 320)}); !errors.Is(err, transcribe.ErrFrame) {
		t.Errorf("a frame without a rate: %v, want ErrFrame", err)
	}
	if segs, err := s.Write(t.Context(), audio.Frame{Rate: 48000, PCM: make([]int16, 960)}); err != nil || len(segs) > 0 {
		t.Errorf("Write at another rate: %v, %v", segs, err)
	}
	if segs, err := s.Write(t.Context(), audio.Frame{Rate: RateHz, PCM: make([]int16, 160)}); err != nil || len(segs) > 0 {
		t.Errorf("Write: %v, %v", segs, err)
	}
	if segs, err := s.Finish(t.Context()); err != nil || len(segs) > 0 {
		t.Errorf("Finish: %v, %v", segs, err)
	}
	if _, err := s.Write(t.Context(), audio.Frame{Rate: RateHz}); !errors.Is(err, transcribe.ErrClosed) {
		t.Errorf("Write after Finish: %v, want ErrClosed", err)
	}
	for range 2 {
		if err := errors.Join(s.Close(), e.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := e.Open(t.Context(), transcribe.Options{}); !errors.Is(err, transcribe.ErrClosed) {
		t.Errorf("Open after Close: %v, want ErrClosed", err)
	}
}

func TestRefusesWhatItCannotHonour(t *testing.T) {
	for _, opt := range []transcribe.Options{{Phrases: []string{"read me the code"}}, {RateHz: -1}} {
		if _, err := New().Open(t.Context(), opt); !errors.Is(err, transcribe.ErrOption) {
			t.Errorf("%+v: %v, want ErrOption", opt, err)
		}
	}
}
