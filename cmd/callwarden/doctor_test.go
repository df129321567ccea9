package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// recording is one leg of a demo call, changed, as a WAV file.
func recording(t *testing.T, rateHz int, change func(v float64, at float64) float64, legs int) string {
	t.Helper()
	f, err := audio.OpenFile(filepath.Join(calls, "honest-card-shop.wav"), audio.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var pcm []int16
	for len(pcm) < 12*8000 {
		frame, err := f.ReadFrame(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if frame.Leg != audio.Callee {
			continue
		}
		for _, v := range frame.PCM {
			at := float64(len(pcm)) / 8000
			pcm = append(pcm, int16(math.Round(min(max(change(float64(v), at), -32768), 32767))))
		}
	}
	path := filepath.Join(t.TempDir(), "call.wav")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	channels := [][]int16{pcm, pcm}[:legs]
	if err := audio.WriteWAV(out, audio.WAVPCM16, rateHz, channels...); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDoctorSaysWhatIsWrongWithARecording(t *testing.T) {
	same := func(v, _ float64) float64 { return v }
	for _, c := range []struct {
		name   string
		change func(v, at float64) float64
		legs   int
		advice string // part of a sentence that must be there; empty for none of those below
	}{
		{"nothing", same, 1, ""},
		{"too quiet", func(v, _ float64) float64 { return v / 30 }, 1, "very quiet"},
		{"clipped", func(v, _ float64) float64 { return 30 * v }, 1, "cut off"},
		{"direct current", func(v, _ float64) float64 { return v/2 + 3000 }, 1, "direct current"},
		{"hum", func(v, at float64) float64 { return v + 300*math.Sin(2*math.Pi*50*at) + 200*math.Sin(2*math.Pi*150*at) }, 1, "50 Hz hum"},
		{"silence", func(float64, float64) float64 { return 0 }, 1, "digital silence"},
		{"both legs in one", same, 2, "not two legs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := recording(t, 8000, c.change, c.legs)
			// Nothing is installed there: doctor looks, and does not hear.
			code, out, stderr := callwarden(t, "doctor", "--audio", path, "--json", "--data-dir", t.TempDir())
			if code != 0 || stderr != "" {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if len(lines) != c.legs {
				t.Fatalf("%d lines for %d legs", len(lines), c.legs)
			}
			var h legHealth
			if err := json.Unmarshal([]byte(lines[c.legs-1]), &h); err != nil {
				t.Fatal(err)
			}
			if h.RateHz != 8000 || h.Seconds < 11 || h.Trial != nil {
				t.Errorf("%+v", h)
			}
			all := strings.Join(h.Advice, "; ")
			if c.advice != "" && !strings.Contains(all, c.advice) {
				t.Errorf("advice %q says nothing of %q", all, c.advice)
			}
			for _, other := range []string{"very quiet", "cut off", "direct current", "hum", "silence", "two legs", "header"} {
				if c.advice == "" && strings.Contains(all, other) {
					t.Errorf("advice %q for a recording with nothing wrong", all)
				}
			}
		})
	}
}

func TestDoctorHearsThatTheRateIsWrong(t *testing.T) {
	path := recording(t, 16000, func(v, _ float64) float64 { return v }, 1)
	code, out, stderr := callwarden(t, "doctor", "--audio", path, "--json")
	var h legHealth
	if err := json.Unmarshal([]byte(out), &h); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, stderr)
	}
	if h.Trial == nil || h.Trial.Better != 8000 || !strings.Contains(h.Advice[0], "heard far better as 8000 Hz") {
		t.Errorf("%+v, %+v", h, h.Trial)
	}
}

func TestDoctorSaysWhatItCannotLookAt(t *testing.T) {
	text := filepath.Join(t.TempDir(), "notes.wav")
	if err := os.WriteFile(text, []byte("not a recording at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--audio", text}, exitFailed, "not a WAV file"},
		{[]string{"--audio", "missing.wav"}, exitFailed, "missing.wav"},
		{[]string{"--audio", text, "--caller", "middle"}, exitUsage, "--caller"},
		{[]string{"extra"}, exitUsage, "doctor"},
	} {
		code, _, stderr := callwarden(t, append([]string{"doctor"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("doctor %s: exit %d, %q", strings.Join(c.args, " "), code, stderr)
		}
	}
}
