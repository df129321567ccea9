// Package sherpa hears speech with sherpa-onnx (github.com/k2-fsa/sherpa-onnx)
// in this process, through its C library, loaded at run time without cgo, and
// a streaming transducer model.
//
// The library ends the process where a model file lacks what it looks for. So
// the files are read here first, as far as that goes; a model whose graph is
// damaged inside still ends it, which is one more reason to run recognisers in
// a process of their own.
package sherpa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/stream"
)

// Config says where library and model are and how the engine treats a leg.
type Config struct {
	// Library is libsherpa-onnx-c-api.so. Runtime is the libonnxruntime.so
	// that it needs; empty where that lies beside it.
	Library string `yaml:"library"`
	Runtime string `yaml:"runtime"`
	// Model is a folder with encoder*.onnx, decoder*.onnx, joiner*.onnx and
	// tokens.txt. Quantised files, int8 in their names, go before others.
	Model string `yaml:"model"`
	// Language of the model, BCP 47; empty accepts sessions of any language.
	Language string `yaml:"language"`
	// RateHz and Features are what the model was trained on: samples a second
	// and mel bands.
	RateHz   int `yaml:"rate_hz"`
	Features int `yaml:"features"`
	// Silence after words ends an utterance, and so does MaxUtterance.
	Silence      time.Duration `yaml:"silence"`
	MaxUtterance time.Duration `yaml:"max_utterance"`
	// A model with a keywords.txt beside it is a keyword spotter: it takes
	// phrase lists. Threshold is how sure it must be of each token of a
	// phrase, Boost how much likelier the phrases become.
	Threshold float64 `yaml:"threshold"`
	Boost     float64 `yaml:"boost"`
}

// DefaultConfig is Config with everything but the paths.
func DefaultConfig() Config {
	return Config{
		Language: "en-US", RateHz: 16000, Features: 80,
		Silence: 800 * time.Millisecond, MaxUtterance: 20 * time.Second, Threshold: 0.25, Boost: 1,
	}
}

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	switch {
	case c.RateHz < 8000 || c.RateHz > 48000:
		return fmt.Errorf("rate_hz: %d must be from 8000 to 48000", c.RateHz)
	case c.Features < 20 || c.Features > 200:
		return fmt.Errorf("features: %d must be from 20 to 200", c.Features)
	case c.Silence < 200*time.Millisecond || c.Silence > 5*time.Second:
		return fmt.Errorf("silence: %v must be from 200ms to 5s", c.Silence)
	case c.MaxUtterance < 5*time.Second || c.MaxUtterance > 5*time.Minute:
		return fmt.Errorf("max_utterance: %v must be from 5s to 5m", c.MaxUtterance)
	}
	switch {
	case !(c.Threshold > 0 && c.Threshold < 1):
		return fmt.Errorf("threshold: %g must be over 0 and under 1", c.Threshold)
	case !(c.Boost >= 0 && c.Boost <= 10):
		return fmt.Errorf("boost: %g must be from 0 to 10", c.Boost)
	}
	for key, path := range map[string]string{"library": c.Library, "runtime": c.Runtime, "model": c.Model} {
		if strings.ContainsRune(path, 0) {
			return fmt.Errorf("%s: %q must be a path", key, path)
		}
	}
	return nil
}

// Engine is one loaded model. Its methods may be called from any goroutine.
type Engine struct {
	cfg     Config
	lib     *library
	speller *speller // nil where the model is no keyword spotter

	mu       sync.Mutex
	rec      uintptr // 0 once closed
	spotter  uintptr // with a speller
	sessions int
}

var (
	_ transcribe.Engine     = (*Engine)(nil)
	_ transcribe.Vocabulary = (*Engine)(nil)
)

// New loads the library and the model. What is not there, or is not what it
// should be, is an error wrapping [transcribe.ErrNotInstalled].
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("sherpa.%w", err)
	}
	for _, path := range []string{cfg.Library, cfg.Runtime} {
		if path == "" && cfg.Library != "" {
			continue // the runtime lies beside the library
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%w: sherpa-onnx library %q is no file; type: callwarden models install libsherpa-onnx", transcribe.ErrNotInstalled, path)
		}
	}
	folder, err := readFolder(cfg.Model)
	if err != nil {
		return nil, fmt.Errorf("%w: sherpa-onnx model %q: %w", transcribe.ErrNotInstalled, cfg.Model, err)
	}
	lib, err := openLibrary(cfg.Library, cfg.Runtime)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", transcribe.ErrNotInstalled, err)
	}
	rec, err := lib.recogniser(folder, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: sherpa-onnx model %q: %w", transcribe.ErrNotInstalled, cfg.Model, err)
	}
	e := &Engine{cfg: cfg, lib: lib, rec: rec}
	if folder.spots {
		if err := e.loadSpotter(folder); err != nil {
			lib.destroyRecogniser(rec)
			return nil, fmt.Errorf("%w: sherpa-onnx model %q: %w", transcribe.ErrNotInstalled, cfg.Model, err)
		}
	}
	log.Info("speech model loaded", "backend", "sherpa", "model", filepath.Base(cfg.Model), "kind", folder.modelType, "library", lib.version(), "phrases", folder.spots)
	return e, nil
}

// loadSpotter loads the model a second time, as a keyword spotter.
func (e *Engine) loadSpotter(f *folder) (err error) {
	if e.speller, err = newSpeller(f.tokens, filepath.Join(e.cfg.Model, "bpe.model")); err != nil {
		return err
	}
	e.spotter, err = e.lib.spotter(f, e.cfg, f.lastToken)
	return err
}

// Knows reports whether the model can write word, in a phrase list.
func (e *Engine) Knows(word string) bool {
	if e.speller == nil {
		return true // in a model without phrase lists nobody asks
	}
	_, ok := e.speller.spell(strings.ToLower(word))
	return ok
}

// Info is what the engine can do.
func (e *Engine) Info() transcribe.Info {
	return transcribe.Info{
		Backend: "sherpa", Model: filepath.Base(e.cfg.Model), Language: e.cfg.Language, RateHz: e.cfg.RateHz,
		Phrases: e.speller != nil, Native: true,
	}
}

// Open starts recognition of one leg.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opt.RateHz != 0 && opt.RateHz != e.cfg.RateHz {
		return nil, fmt.Errorf("%w: rate %d Hz, the model wants %d", transcribe.ErrOption, opt.RateHz, e.cfg.RateHz)
	}
	want, _, _ := strings.Cut(opt.Language, "-")
	have, _, _ := strings.Cut(e.cfg.Language, "-")
	if want != "" && have != "" && !strings.EqualFold(want, have) {
		return nil, fmt.Errorf("%w: language %q, the model has %q", transcribe.ErrOption, opt.Language, e.cfg.Language)
	}
	if len(opt.Phrases) > 0 {
		return e.openPhrases(opt)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rec == 0 {
		return nil, fmt.Errorf("sherpa engine: %w", transcribe.ErrClosed)
	}
	s := e.lib.newStream(e.rec)
	if s == 0 {
		return nil, fmt.Errorf("opening a sherpa-onnx stream: %w", errNative)
	}
	e.sessions++
	return stream.NewSession("sherpa", opt.Leg, e.cfg.RateHz, &listener{e: e, lib: e.lib, rec: e.rec, stream: s}), nil
}

// Close frees the model. It refuses while sessions are open.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sessions > 0 {
		return fmt.Errorf("closing sherpa engine: %d sessions are open", e.sessions)
	}
	if e.rec != 0 {
		e.lib.destroyRecogniser(e.rec)
		e.rec = 0
	}
	if e.spotter != 0 {
		e.lib.spot.destroy(e.spotter)
		e.spotter = 0
	}
	return nil
}

func (e *Engine) release(s uintptr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lib.destroyStream(s)
	e.sessions--
}

// listener is one stream.
type listener struct {
	e           *Engine
	lib         *library
	rec, stream uintptr
	samples     []float32
	shown       string // JSON of the last result
	fed         bool
}

// padding is the silence that lets the model see the last word whole.
const padding = 600 * time.Millisecond

// Hear implements [stream.Recogniser].
func (l *listener) Hear(ctx context.Context, pcm []int16) ([]stream.Hypothesis, error) {
	if len(pcm) == 0 {
		return nil, nil
	}
	l.fed = true
	l.samples = appendSamples(l.samples[:0], pcm)
	l.lib.accept(l.stream, int32(l.e.cfg.RateHz), &l.samples[0], int32(len(l.samples)))
	return l.decode(ctx)
}

// appendSamples appends pcm as the library takes it.
func appendSamples(dst []float32, pcm []int16) []float32 {
	for _, v := range pcm {
		dst = append(dst, float32(v)/32768)
	}
	return dst
}

// decode hears what was fed and says what came of it.
func (l *listener) decode(ctx context.Context) ([]stream.Hypothesis, error) {
	var said []stream.Hypothesis
	for l.lib.ready(l.rec, l.stream) != 0 {
		if err := ctx.Err(); err != nil {
			return said, err
		}
		l.lib.decode(l.rec, l.stream)
		if l.lib.endpoint(l.rec, l.stream) != 0 {
			h, err := l.say(true)
			if err != nil {
				return said, err
			}
			said = append(said, h)
			l.lib.reset(l.rec, l.stream)
			l.shown = ""
		}
	}
	h, err := l.say(false)
	if err != nil || len(h.Words) == 0 && h.Text == "" && l.shown == "" {
		return said, err
	}
	return append(said, h), nil
}

func (l *listener) say(final bool) (stream.Hypothesis, error) {
	h, err := parseResult(copyText(l.lib.result(l.rec, l.stream), l.lib.destroyResult))
	if err != nil {
		return h, err
	}
	if !final && len(h.Words) > 0 {
		l.shown = h.Text
	}
	h.Final = final
	return h, nil
}

// End implements [stream.Recogniser].
func (l *listener) End(ctx context.Context) ([]stream.Hypothesis, error) {
	if !l.fed {
		return nil, nil
	}
	quiet := make([]float32, int(padding*time.Duration(l.e.cfg.RateHz)/time.Second))
	l.lib.accept(l.stream, int32(l.e.cfg.RateHz), &quiet[0], int32(len(quiet)))
	l.lib.inputFinished(l.stream)
	said, err := l.decode(ctx)
	if err != nil {
		return said, err
	}
	h, err := l.say(true)
	return append(said, h), err
}

// Close implements [stream.Recogniser].
func (l *listener) Close() error {
	if l.stream == 0 {
		return errors.New("sherpa stream: closed twice")
	}
	l.e.release(l.stream)
	l.stream = 0
	return nil
}
