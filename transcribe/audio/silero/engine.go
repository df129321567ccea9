// Package silero tells speech from other sounds with the Silero voice activity
// model, version 5, on ONNX Runtime, loaded at run time without cgo.
package silero

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/callwarden/callwarden/transcribe"
)

// Config says where library and model are, and from when on a sound is speech.
type Config struct {
	Library string // file of libonnxruntime, see package models
	Model   string // file of the model, or the folder that holds silero_vad_v5.onnx
	// Begin is the probability, 0 to 1, from which on speech has begun, and
	// Last the one down to which it lasts.
	Begin, Last float32
}

// DefaultConfig is Config with everything but the paths.
func DefaultConfig() Config { return Config{Begin: 0.5, Last: 0.35} }

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	switch {
	case c.Begin <= 0 || c.Begin >= 1:
		return fmt.Errorf("silero.begin: %v must be between 0 and 1", c.Begin)
	case c.Last <= 0 || c.Last > c.Begin:
		return fmt.Errorf("silero.last: %v must be above 0 and at most silero.begin, %v", c.Last, c.Begin)
	}
	return nil
}

// Engine is the loaded model, one for all legs. Its methods may be called from
// any goroutine; Close only after the last window of the last voice.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	ort     *ort
	session uintptr
	seats   chan *seat // free ones; as many as cores
	all     []*seat
	failed  atomic.Bool // the model has failed once, which has been logged
	close   sync.Once
}

// New loads library and model and tries them. A file that is not there, or is
// not what it should be, is an error wrapping transcribe.ErrNotInstalled.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, log: log}
	if err := e.load(); err != nil {
		e.free()
		return nil, fmt.Errorf("%w: %w; type: callwarden models install", transcribe.ErrNotInstalled, err)
	}
	log.Info("voice activity model loaded", "model", cfg.Model)
	return e, nil
}

// maxModel is far more than the model has: a wrong path is not read to its end.
const maxModel = 64 << 20

func (e *Engine) load() error {
	name := e.cfg.Model
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name += "/silero_vad_v5.onnx"
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("silero model: %w", err)
	}
	if info.Size() == 0 || info.Size() > maxModel {
		return fmt.Errorf("silero model %s: %d bytes, not a model", name, info.Size())
	}
	model, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("silero model: %w", err)
	}
	if e.ort, err = openRuntime(e.cfg.Library); err != nil {
		return err
	}
	if e.session, err = e.ort.session(model); err != nil {
		return fmt.Errorf("silero model %s: %w", name, err)
	}
	n := runtime.GOMAXPROCS(0)
	e.seats = make(chan *seat, n)
	for range n {
		s, err := e.ort.newSeat()
		if err != nil {
			return err
		}
		e.all = append(e.all, s)
		e.seats <- s
	}
	if err := e.ort.run(e.session, e.all[0]); err != nil { // silence
		return fmt.Errorf("silero model %s: %w", name, err)
	}
	if p := e.all[0].speech; !(p >= 0 && p < 0.5) {
		return fmt.Errorf("silero model %s: it takes silence for speech (%v)", name, p)
	}
	return nil
}

// Close frees the model.
func (e *Engine) Close() error {
	e.close.Do(e.free)
	return nil
}

func (e *Engine) free() {
	if e.ort == nil {
		return
	}
	for _, s := range e.all {
		e.ort.freeSeat(s)
	}
	e.all = nil
	e.ort.release(ortReleaseSession, e.session)
	e.session = 0
	e.ort.close()
}

// memory is what the model remembers of one leg.
type memory struct {
	context [contextLen]float32
	state   [stateLen]float32
}

// probability is how likely the window is speech, given what m remembers.
func (e *Engine) probability(window *[windowLen]float32, m *memory) (float32, error) {
	s := <-e.seats
	defer func() { e.seats <- s }()
	copy(s.input[:], m.context[:])
	copy(s.input[contextLen:], window[:])
	s.state = m.state
	if err := e.ort.run(e.session, s); err != nil {
		return 0, err
	}
	copy(m.context[:], window[windowLen-contextLen:])
	m.state = s.next
	return s.speech, nil
}

// fault notes that the model failed for a leg, which goes on by loudness.
func (e *Engine) fault(err error) {
	if !e.failed.Swap(true) {
		e.log.Error("voice activity model failed; going by loudness", "err", err)
	}
}
