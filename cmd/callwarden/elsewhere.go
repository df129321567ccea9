package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/openai"
	"github.com/callwarden/callwarden/transcribe/riva"
	"github.com/callwarden/callwarden/transcribe/sherpa"
	"github.com/callwarden/callwarden/transcribe/voskserver"
)

// maxSettings keeps a wrong file from being read whole.
const maxSettings = 1 << 20

// readSettings reads the file of --backend-settings over cfg. Keys that it
// does not have are wrong.
func (f *hearFlags) readSettings(cfg any) error {
	if f.settings == "" {
		return nil
	}
	file, err := os.Open(f.settings)
	if err != nil {
		return usagef("--backend-settings: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSettings+1))
	if err == nil && len(data) > maxSettings {
		err = fmt.Errorf("it has more than %d bytes", maxSettings)
	}
	if err == nil {
		dec := yaml.NewDecoder(bytes.NewReader(data))
		dec.KnownFields(true)
		if err = dec.Decode(cfg); errors.Is(err, io.EOF) {
			err = nil // nothing is set in it
		}
	}
	if err != nil {
		return usagef("--backend-settings: %s: %w", f.settings, err)
	}
	return nil
}

// addresses are those of --transcriber; where it is not given, those that the
// settings have. With --transcriber-tls an address without a scheme gets
// secure.
func (f *hearFlags) addresses(settings []string, secure string) []string {
	if len(f.remote.cfg.Addresses) == 0 {
		return settings
	}
	var all []string
	for _, a := range f.remote.cfg.Addresses {
		if f.remote.cfg.Secure && !strings.Contains(a, "://") {
			a = secure + "://" + a
		}
		all = append(all, a)
	}
	return all
}

// or is a unless it is empty.
func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// opened names the backend in an error of its New; what Validate has against
// its configuration is wrong usage.
func opened(engine transcribe.Engine, err, invalid error) (transcribe.Engine, error) {
	switch {
	case invalid != nil:
		return nil, usagef("%w", err)
	case err != nil:
		return nil, fmt.Errorf("opening the transcriber: %w", err)
	}
	return engine, nil
}

func openVoskServer(_ *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error) {
	cfg := voskserver.DefaultConfig()
	if err := f.readSettings(&cfg); err != nil {
		return nil, err
	}
	cfg.Addresses = f.addresses(cfg.Addresses, "wss")
	cfg.CA = or(f.remote.cfg.TLS.CA, cfg.CA)
	engine, err := voskserver.New(cfg, log)
	return opened(engine, err, cfg.Validate())
}

func openRiva(_ *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error) {
	cfg := riva.DefaultConfig()
	if err := f.readSettings(&cfg); err != nil {
		return nil, err
	}
	cfg.Addresses = f.addresses(cfg.Addresses, "grpcs")
	cfg.CA = or(f.remote.cfg.TLS.CA, cfg.CA)
	cfg.TokenFile = or(f.remote.cfg.TokenFile, cfg.TokenFile)
	if f.model != models.DefaultModel { // which is none of Riva's
		cfg.Model = f.model
	}
	engine, err := riva.New(cfg, log)
	return opened(engine, err, cfg.Validate())
}

func openOpenAI(_ *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error) {
	cfg := openai.DefaultConfig()
	if err := f.readSettings(&cfg); err != nil {
		return nil, err
	}
	scheme := "http://"
	if f.remote.cfg.Secure {
		scheme = "https://"
	}
	switch all := f.remote.cfg.Addresses; {
	case len(all) > 1:
		return nil, usagef("--transcriber: --backend openai takes one address; put a balancer before several")
	case len(all) == 1 && !strings.Contains(all[0], "://"):
		cfg.Address = scheme + all[0]
	case len(all) == 1:
		cfg.Address = all[0]
	}
	cfg.CA = or(f.remote.cfg.TLS.CA, cfg.CA)
	cfg.KeyFile = or(f.remote.cfg.TokenFile, cfg.KeyFile)
	if f.model != models.DefaultModel { // which is none of Whisper's
		cfg.Model = f.model
	}
	engine, err := openai.New(cfg, log)
	return opened(engine, err, cfg.Validate())
}

func openSherpa(a *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error) {
	cfg := sherpa.DefaultConfig()
	if err := f.readSettings(&cfg); err != nil {
		return nil, err
	}
	if f.model != models.DefaultModel {
		cfg.Model = f.model
	}
	if cfg.Model == "" {
		return nil, usagef("--model: --backend sherpa needs the folder of a streaming transducer: encoder*.onnx, decoder*.onnx, joiner*.onnx, tokens.txt")
	}
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	switch {
	case f.library != models.DefaultLibrary:
		cfg.Library = f.library
	case cfg.Library == "":
		if cfg.Library, err = store.Path(models.SherpaLibrary); err != nil {
			return nil, err
		}
	}
	if cfg.Runtime == "" {
		// Without an installed one it may lie beside the library.
		cfg.Runtime, _ = store.Path(models.VoiceLibrary)
	}
	engine, err := sherpa.New(cfg, log)
	return opened(engine, err, cfg.Validate())
}
