// Package vosk hears speech with libvosk, loaded at run time without cgo.
//
// The library is Kaldi underneath: what it is handed must be sound, for much
// of what is not ends the process. So model folders, phrase lists, rates and
// frames are checked here before they cross.
package vosk

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Config says where library and model are and how the engine treats a leg.
// Durations left at zero are those of DefaultConfig.
type Config struct {
	Library string // file of libvosk, see package models
	Model   string // folder of the model
	// Language of the model, BCP 47. Empty accepts sessions of any language.
	Language string
	// PartialEvery is the least new audio between two looks at the unfinished
	// hypothesis: a multiple of 100 ms, negative for no partial results.
	PartialEvery time.Duration
	// MaxUtterance ends an utterance that the model sees no end of, as in
	// music, noise or a speaker who never pauses: at a pause after two thirds
	// of it, else in the middle.
	MaxUtterance time.Duration
	// RenewEvery is the audio after which a leg's recogniser is exchanged for
	// a new one at the next end of an utterance. Its graph is composed as it
	// is searched and kept, so its memory only grows.
	RenewEvery time.Duration

	search []string // lines for the model's conf/model.conf; nil is openSearch
}

// DefaultConfig is Config with everything but the paths.
func DefaultConfig() Config {
	return Config{
		Language:     "en-US",
		PartialEvery: 100 * time.Millisecond, // 200 ms saves under 1 % of the CPU
		MaxUtterance: 30 * time.Second,
		RenewEvery:   2 * time.Minute, // 1 min costs a tenth more CPU, 4 min 60 MB more
	}
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	d := DefaultConfig()
	for _, f := range []struct{ value, preset *time.Duration }{
		{&c.PartialEvery, &d.PartialEvery}, {&c.MaxUtterance, &d.MaxUtterance}, {&c.RenewEvery, &d.RenewEvery},
	} {
		if *f.value == 0 {
			*f.value = *f.preset
		}
	}
	return c
}

// Validate says which key is wrong, what it holds and what it must hold.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.PartialEvery > 0 && c.PartialEvery%step != 0:
		return fmt.Errorf("vosk.partial_every: %v must be a multiple of %v", c.PartialEvery, step)
	case c.MaxUtterance < 5*time.Second || c.MaxUtterance > 5*time.Minute:
		return fmt.Errorf("vosk.max_utterance: %v must be from 5s to 5m", c.MaxUtterance)
	case c.RenewEvery < 10*time.Second || c.RenewEvery > 10*time.Minute:
		return fmt.Errorf("vosk.renew_every: %v must be from 10s to 10m", c.RenewEvery)
	}
	return nil
}

// Engine is one loaded model. Its methods may be called from any goroutine.
type Engine struct {
	cfg  Config
	log  *slog.Logger
	lib  *library
	info transcribe.Info
	trim trimmer

	mu     sync.RWMutex // held for reading while model is in use
	model  uintptr      // 0 once closed
	opened int          // sessions; guarded by mu
	lists  lists        // likewise

	// The same model with a narrow search, for thrifty sessions; loaded when
	// the first of them opens.
	second  sync.Once
	thrifty *Engine
	lacking error // why there is none
}

var (
	_ transcribe.Engine     = (*Engine)(nil)
	_ transcribe.Vocabulary = (*Engine)(nil)
)

// New loads the library and the model and tries them, which takes about half a
// second and 90 MB. A library or model that is not there, or is not one, is an
// error wrapping transcribe.ErrNotInstalled. Kaldi does not survive every
// damage that a model file can have, but what it does not survive it meets
// here, before the first call.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	folder, err := readModelFolder(cfg.Model)
	if err != nil {
		return nil, fmt.Errorf("%w: vosk model %q: %w; type: callwarden models install", transcribe.ErrNotInstalled, cfg.Model, err)
	}
	if info, err := os.Stat(cfg.Library); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: vosk library %q is no file; type: callwarden models install", transcribe.ErrNotInstalled, cfg.Library)
	}
	lib, err := openLibrary(cfg.Library)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", transcribe.ErrNotInstalled, err)
	}
	lib.setLogLevel(-2) // -1 still lets warnings of every other utterance through to stderr
	if cfg.search == nil {
		if cfg.search, err = openSearch(cfg.Model); err != nil {
			return nil, fmt.Errorf("vosk model %s: %w", cfg.Model, err)
		}
	}
	model, err := loadModel(lib, cfg.Model, cfg.search...)
	if err != nil {
		return nil, err
	}
	if model == 0 || !works(lib, model, folder.rateHz) {
		if model != 0 {
			lib.modelFree(model)
		}
		return nil, fmt.Errorf("%w: libvosk cannot use the model %q; type: callwarden models verify --full", transcribe.ErrNotInstalled, cfg.Model)
	}
	log.Info("speech model loaded", "backend", "vosk", "model", filepath.Base(cfg.Model), "rate_hz", folder.rateHz, "phrases", folder.dynamic)
	return &Engine{
		cfg:   cfg,
		log:   log,
		lib:   lib,
		model: model,
		trim:  trimmer{trim: lib.mallocTrim},
		lists: lists{seed: maphash.MakeSeed()},
		info: transcribe.Info{
			Backend:  "vosk",
			Model:    filepath.Base(cfg.Model),
			Language: cfg.Language,
			RateHz:   folder.rateHz,
			Phrases:  folder.dynamic,
			Native:   true,
		},
	}, nil
}

// Info is what the engine can do.
func (e *Engine) Info() transcribe.Info { return e.info }

// Knows reports whether the model can hear word. Case does not matter.
func (e *Engine) Knows(word string) bool {
	word = strings.ToLower(word)
	if !plainWord(word) {
		return false
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.model != 0 && e.lib.findWord(e.model, word) >= 0
}

// Open starts recognition of one leg. Phrases are lower-cased and their spaces
// evened out; one with a word that the model does not know is left out as a
// whole, because the rest of it alone would be heard as something nobody
// asked for. If none is left the error wraps transcribe.ErrOption.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opt.RateHz != 0 && opt.RateHz != e.info.RateHz {
		return nil, fmt.Errorf("%w: rate %d Hz, the model wants %d", transcribe.ErrOption, opt.RateHz, e.info.RateHz)
	}
	if !sameLanguage(opt.Language, e.info.Language) {
		return nil, fmt.Errorf("%w: language %q, the model has %q", transcribe.ErrOption, opt.Language, e.info.Language)
	}
	if len(opt.Phrases) == 0 {
		return e.open(opt.Leg, &list{})
	}
	if !e.info.Phrases {
		return nil, fmt.Errorf("%w: phrases, the model has a fixed graph", transcribe.ErrOption)
	}
	if !opt.Thrifty {
		phrases, err := e.list(opt.Phrases)
		if err != nil {
			return nil, err
		}
		return e.open(opt.Leg, phrases)
	}
	thrifty, err := e.thriftyEngine()
	if err != nil {
		return nil, err
	}
	phrases, err := thrifty.list(opt.Phrases) // its own: it has their recognisers
	if err != nil {
		return nil, err
	}
	return thrifty.openBurst(opt, phrases)
}

// open makes a session with a recogniser of its own.
func (e *Engine) open(leg audio.Leg, l *list) (transcribe.Session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.model == 0 {
		return nil, fmt.Errorf("vosk engine: %w", transcribe.ErrClosed)
	}
	rec, err := e.recognizer(l.grammar)
	if err != nil {
		return nil, err
	}
	e.opened++
	return newSession(e, rec, leg, l.grammar, l.unheard), nil
}

// openBurst makes a thrifty session.
func (e *Engine) openBurst(opt transcribe.Options, l *list) (transcribe.Session, error) {
	if err := e.join(l); err != nil {
		return nil, err
	}
	return &burst{s: *newSession(e, 0, opt.Leg, l.grammar, l.unheard), list: l, unheard: l.unheard, live: opt.Live}, nil
}

// recognizer makes one; grammar is empty for the open vocabulary, which takes
// some 100 ms. The engine's lock is held: building graphs side by side is not
// promised to be safe.
func (e *Engine) recognizer(grammar string) (uintptr, error) {
	var rec uintptr
	if grammar != "" {
		rec = e.lib.recognizerNewGrm(e.model, float32(e.info.RateHz), grammar)
	} else {
		rec = e.lib.recognizerNew(e.model, float32(e.info.RateHz))
	}
	if rec == 0 {
		return 0, fmt.Errorf("opening a vosk recogniser: %w", errNative)
	}
	e.lib.setWords(rec, 1)
	return rec, nil
}

// renew exchanges a session's recogniser for a new one. On an error rec is
// still the session's.
func (e *Engine) renew(rec uintptr, grammar string, heard time.Duration) (uintptr, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fresh, err := e.recognizer(grammar)
	if err != nil {
		return rec, err
	}
	if rec != 0 {
		e.lib.recognizerFree(rec)
		e.trim.closed(heard)
	}
	return fresh, nil
}

// Close frees the model. It refuses while sessions are open.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.opened > 0 {
		return fmt.Errorf("closing the vosk engine: %d sessions are open", e.opened)
	}
	e.second.Do(func() { e.lacking = fmt.Errorf("vosk engine: %w", transcribe.ErrClosed) })
	if e.thrifty != nil {
		if err := e.thrifty.Close(); err != nil {
			return err
		}
	}
	if e.model != 0 {
		for _, l := range e.lists.known {
			e.drop(l)
		}
		e.lib.modelFree(e.model)
		e.model = 0
		e.trim.now()
	}
	return nil
}

// release frees a session's recogniser.
func (e *Engine) release(rec uintptr, heard time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lib.recognizerFree(rec)
	e.opened--
	e.trim.closed(heard)
}

// sameLanguage compares primary subtags: "en-GB" audio is better heard by an
// "en-US" model than by none.
func sameLanguage(want, have string) bool {
	if want == "" || have == "" {
		return true
	}
	primary := func(tag string) string {
		tag, _, _ = strings.Cut(tag, "-")
		return strings.ToLower(tag)
	}
	return primary(want) == primary(have)
}

// works hears a moment of silence: the library builds the graph of a model
// with the first recogniser, and reads some of its settings with the first
// frames.
func works(lib *library, model uintptr, rateHz int) bool {
	rec := lib.recognizerNew(model, float32(rateHz))
	if rec == 0 {
		return false
	}
	defer lib.recognizerFree(rec)
	silence := make([]int16, rateHz/2)
	return lib.acceptWaveform(rec, &silence[0], int32(len(silence))) >= 0
}
