package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/audio/silero"
)

func TestVoiceGoesByLoudnessWhereNoModelIsInstalled(t *testing.T) {
	for _, tt := range []struct {
		name    string
		dataDir string
		warned  int
	}{{"installed", "", 0}, {"not installed", t.TempDir(), 1}} {
		var log bytes.Buffer
		voice, closeVoices := (&app{dataDir: tt.dataDir}).openVoices(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
		v := voice()
		_, good := v.(*silero.Voice)
		_, loud := v.(*audio.LoudVoice)
		if good != (tt.warned == 0) || loud == good {
			t.Errorf("%s: the voice is %T", tt.name, v)
		}
		if n := strings.Count(log.String(), "callwarden models install"); n < tt.warned || tt.warned == 0 && n > 0 {
			t.Errorf("%s: told %d times: %s", tt.name, n, log.String())
		}
		if err := closeVoices(); err != nil {
			t.Error(err)
		}
	}
}
