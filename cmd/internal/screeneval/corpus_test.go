package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// write makes files of a corpus; those that end in .wav are recordings.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestManifestLinesFallIntoSets(t *testing.T) {
	dir := write(t, map[string]string{
		"speech/manifest.jsonl": `{"id":"a","set":"read","audio":"speech/a.wav","condition":"clean"}
{"id":"b","set":"read","audio":"speech/a.wav","condition":"babble"}
{"id":"c","label":"scam","audio":"a.wav"}
{"id":"d","digits":"1234","audio":"a.wav"}
{"id":"e","label":"benign","text":"only written"}
`,
		"speech/a.wav": "",
	})
	manifest := filepath.Join(dir, "speech", "manifest.jsonl")
	for _, tt := range []struct {
		sets  string
		limit int
		want  string
	}{
		{"", 0, "read read+noise scam digits"},
		{"read", 0, "read read+noise"},
		{"scam,digits", 1, "scam digits"},
	} {
		items, err := readManifests([]string{manifest}, strings.Split(tt.sets, ","), tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		var sets []string
		for _, it := range items {
			sets = append(sets, it.set)
		}
		if got := strings.Join(sets, " "); got != tt.want {
			t.Errorf("sets %q: %q, want %q", tt.sets, got, tt.want)
		}
	}
	if _, err := readManifests([]string{manifest}, []string{"none"}, 0); err == nil {
		t.Error("no recording is no error")
	}
	bad := filepath.Join(write(t, map[string]string{"m.jsonl": "{\"audio\":\"missing.wav\"}\n"}), "m.jsonl")
	if _, err := readManifests([]string{bad}, []string{""}, 0); err == nil || !strings.Contains(err.Error(), "m.jsonl:1") {
		t.Errorf("a missing recording: %v", err)
	}
}

func TestRecordingsAreHeardAtATelephonesRate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tone.wav")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := audio.WriteWAV(f, audio.WAVPCM16, 16000, slices.Repeat([]int16{0, 8000, 0, -8000}, 8000)); err != nil { // 4 kHz for 2 s
		t.Fatal(err)
	}
	f.Close()
	legs, err := load(context.Background(), path, 16000)
	if err != nil {
		t.Fatal(err)
	}
	if len(legs) != 1 || legs[0].length().Round(1e8) != 2e9 {
		t.Fatalf("%d legs, the first %v long", len(legs), legs[0].length())
	}
}
