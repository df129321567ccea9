package browsertest

import (
	"fmt"
	"os"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/caller"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Microphone writes the WAV file that Chromium takes for its microphone: what
// leg says in the recorded call, after lead of silence, in which a page has the
// time to connect, and with as much after it.
func Microphone(file, recording string, leg audio.Leg, lead time.Duration) error {
	rec, err := caller.Open(recording, false)
	if err == nil {
		rec, err = rec.Only(leg)
	}
	if err != nil {
		return fmt.Errorf("the microphone's recording: %w", err)
	}
	silence := make([]int16, int(lead.Seconds()*float64(rec.RateHz)))
	pcm := append(append(append([]int16(nil), silence...), rec.Legs[0].PCM...), silence...)
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := audio.WriteWAV(f, audio.WAVPCM16, rec.RateHz, pcm); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
