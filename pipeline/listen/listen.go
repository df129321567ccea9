// Package listen is the listening plan of a call: what is done with its frames
// before and while recognisers hear them.
//
// Listening fully, every leg is transcribed with the open vocabulary from
// beginning to end, but for long silence. Screening, a leg's speech, and nothing else of it, is
// decoded against the closed list of phrases that the tactic packs compile to;
// a hit has both legs transcribed from the last 30 seconds on, which are kept,
// until there has been no reason for two minutes; an ask for a code has the
// other leg decoded against a list of digits as well.
package listen

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Ways of listening.
const (
	Full      = "full"   // transcribes everything
	Screening = "screen" // transcribes where there is reason to
)

// Config says how calls are listened to.
type Config struct {
	Mode     string // Full or Screening
	Language string // BCP 47; empty means the model's own
	// Screens returns the closed lists of the moment. It is asked once for
	// each call, which keeps them to its end. Screening needs it.
	Screens func() Screen
	// Hints returns words and phrases that are likely and rarely known, for
	// recognisers of the open vocabulary that take them. It is asked once for
	// each call; nil gives none.
	Hints func() []string
	// Voice makes the voice activity of one leg; [audio.NewLoudVoice] where
	// it is nil.
	Voice func() audio.Voice
}

// DefaultConfig transcribes everything in the model's language.
func DefaultConfig() Config { return Config{Mode: Full} }

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	switch {
	case c.Mode != Full && c.Mode != Screening:
		return fmt.Errorf("listen.mode: %q must be %q or %q", c.Mode, Full, Screening)
	case c.Mode == Screening && c.Screens == nil:
		return fmt.Errorf("listen.mode: %q needs tactic packs to screen for", c.Mode)
	}
	return nil
}

func (c Config) voice() audio.Voice {
	if c.Voice == nil {
		return audio.NewLoudVoice()
	}
	return c.Voice()
}

// ErrFull says that a live call is not listened to, because those that are
// leave no room for it.
var ErrFull = errors.New("no room for another call")

// Listener listens to all calls on one engine. Its methods may be called from
// any goroutine.
type Listener struct {
	engine transcribe.Engine
	cfg    Config
	mode   string // what is done, which may be less than what was asked for
	reason string
	log    *slog.Logger
	sched  *scheduler

	wakes    atomic.Int64 // since the start
	nextRule atomic.Int64 // when the load is looked at again, Unix nanoseconds

	mu    sync.Mutex // a Call's own is taken inside it, never outside
	calls map[*Call]bool
	ruled int // windows of the load that were acted on
	full  bool
	// Totals since the start.
	begun, refused, sheds int
}

// New returns a Listener on an engine that the caller opened and closes. One
// that takes no phrase lists cannot screen: the Listener listens fully then,
// and says so in the log and in Reason.
func New(engine transcribe.Engine, cfg Config, log *slog.Logger) (*Listener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	l := &Listener{engine: engine, cfg: cfg, mode: cfg.Mode, log: log, calls: make(map[*Call]bool)}
	info := engine.Info()
	if l.mode, l.reason = l.way(cfg.Mode); l.reason != "" {
		log.Warn("cannot screen, listening fully", "backend", info.Backend)
	}
	slots := 0
	if info.Native {
		slots = runtime.GOMAXPROCS(0)
	}
	l.sched = newScheduler(slots)
	return l, nil
}

// way is how a call is listened to that asks for mode, or for none, and why it
// is not what was asked for.
func (l *Listener) way(mode string) (does, reason string) {
	info := l.engine.Info()
	switch {
	case mode == "":
		return l.mode, l.reason
	case mode == Screening && !info.Phrases:
		return Full, fmt.Sprintf("%s takes no phrase lists: everything is transcribed", info.Backend)
	case mode == Screening && l.cfg.Screens == nil:
		return Full, "there are no lists to screen for: everything is transcribed"
	}
	return mode, ""
}

// Info is the engine's.
func (l *Listener) Info() transcribe.Info { return l.engine.Info() }

// Mode is the way of listening.
func (l *Listener) Mode() string { return l.mode }

// Reason says why Mode is not what was asked for; empty if it is.
func (l *Listener) Reason() string { return l.reason }

// Stats are figures about the machine and its calls.
type Stats struct {
	Calls, Legs  int // now
	Transcribing int // calls that are, now
	Shed         int // calls that should be and are not
	Full         bool
	Running      int // decodes, now
	Waiting      int // decodes that wait for their turn, now

	// Lag is from the arrival of live audio to the end of its decoding, of the
	// latest steps.
	LagP50, LagP95, LagMax time.Duration
	Steps                  int // live ones, since the start

	// Since the start.
	Begun, Refused, Wakes, Sheds int
}

// Stats are the figures of the moment.
func (l *Listener) Stats() Stats {
	var s Stats
	l.sched.mu.Lock()
	s.Running, s.Waiting, s.Steps = l.sched.running, len(l.sched.queue), l.sched.load.n
	q := l.sched.load.quantiles(0.5, 0.95, 1)
	s.LagP50, s.LagP95, s.LagMax = q[0], q[1], q[2]
	l.sched.mu.Unlock()
	l.mu.Lock()
	s.Calls, s.Full = len(l.calls), l.full
	s.Begun, s.Refused, s.Wakes, s.Sheds = l.begun, l.refused, int(l.wakes.Load()), l.sheds
	calls := make([]*Call, 0, len(l.calls))
	for c := range l.calls {
		calls = append(calls, c)
	}
	l.mu.Unlock()
	for _, c := range calls {
		s.Legs += len(c.legs)
		switch state := c.State(); {
		case state.Transcribing:
			s.Transcribing++
		case state.Shed:
			s.Shed++
		}
	}
	return s
}
