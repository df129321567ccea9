package main

import (
	"errors"
	"log/slog"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/audio/silero"
)

// openVoices loads the voice activity model. Where it is not installed, or
// does not load, voices go by loudness, which is said once: it costs processor
// time, not words. The caller closes what is returned after the last call.
func (a *app) openVoices(log *slog.Logger) (voice func() audio.Voice, closeVoices func() error) {
	engine, err := a.silero(log)
	if err != nil {
		log.Warn("voice activity goes by loudness alone, which takes music for speech; type: callwarden models install", "err", err)
		return func() audio.Voice { return audio.NewLoudVoice() }, func() error { return nil }
	}
	return engine.Voice, engine.Close
}

func (a *app) silero(log *slog.Logger) (*silero.Engine, error) {
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	cfg := silero.DefaultConfig()
	var libErr, modelErr error
	cfg.Library, libErr = store.Path(models.VoiceLibrary)
	cfg.Model, modelErr = store.Path(models.VoiceModel)
	if err := errors.Join(libErr, modelErr); err != nil {
		return nil, err
	}
	return silero.New(cfg, log)
}
