// Package route is a recogniser made of recognisers. Rules by language, tenant
// and leg say which backend hears a leg, which takes over when that one is
// away, and which hears the same audio only to be measured.
package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Config says which backend hears what.
type Config struct {
	// Rules are looked at in order; the first that fits a leg decides. A leg
	// that none fits is refused: an empty rule at the end takes the rest.
	Rules []Rule `yaml:"rules"`
	// Patience is how long a backend over a network may leave a live leg
	// without an answer, or be away, before the fallback takes over.
	Patience time.Duration `yaml:"patience"`
	// A backend that failed is tried again by a new session after RetryFirst,
	// then after twice that, and so on up to RetryMost.
	RetryFirst time.Duration `yaml:"retry_first"`
	RetryMost  time.Duration `yaml:"retry_most"`
	// Ring is how much audio of a leg with a fallback is kept at most until
	// its words are final, for the fallback to hear it again: 32 KB a second
	// at 16 kHz.
	Ring time.Duration `yaml:"ring"`
	// ShadowQueue is how late a shadow may be; then what waits is dropped.
	ShadowQueue time.Duration `yaml:"shadow_queue"`
	// ShadowParallel is how many shadows may decode at a time.
	ShadowParallel int `yaml:"shadow_parallel"`
}

// Rule fits a leg when all of its conditions do; one that is left out fits
// every leg, and of a list one entry is enough.
type Rule struct {
	// Language is BCP 47; en fits en-GB too. A leg whose language nobody
	// knows fits only rules without one.
	Language []string `yaml:"language"`
	Tenant   []string `yaml:"tenant"`
	Leg      []string `yaml:"leg"` // caller, callee or unknown

	Backend  string `yaml:"backend"`
	Fallback string `yaml:"fallback"` // takes over; may be empty
	Shadow   string `yaml:"shadow"`   // is measured; may be empty
	// ShadowShare is the part of the calls that the shadow hears, chosen by
	// their ids; 0, as if it were left out, is all.
	ShadowShare float64 `yaml:"shadow_share"`
}

// DefaultConfig has no rules; [One] makes one.
func DefaultConfig() Config {
	return Config{
		Patience:       2 * time.Second, // before a live leg is said to be deaf, after 3 s
		RetryFirst:     time.Second,
		RetryMost:      time.Minute,
		Ring:           20 * time.Second, // longer than most utterances
		ShadowQueue:    5 * time.Second,
		ShadowParallel: 1,
	}
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Rules) == 0 {
		fault("rules: must have one or more")
	}
	for i, r := range c.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if r.Backend == "" {
			fault("%s.backend: must name a backend", at)
		}
		if r.Fallback != "" && r.Fallback == r.Backend {
			fault("%s.fallback: %q must be another backend", at, r.Fallback)
		}
		if r.Shadow != "" && r.Shadow == r.Backend {
			fault("%s.shadow: %q must be another backend", at, r.Shadow)
		}
		if !(r.ShadowShare >= 0 && r.ShadowShare <= 1) {
			fault("%s.shadow_share: %v must be 0 to 1", at, r.ShadowShare)
		}
		for _, leg := range r.Leg {
			if _, err := audio.ParseLeg(leg); err != nil || leg == "" {
				fault("%s.leg: %q must be caller, callee or unknown", at, leg)
			}
		}
	}
	for _, d := range []struct {
		key  string
		have time.Duration
	}{
		{"patience", c.Patience},
		{"retry_first", c.RetryFirst},
		{"ring", c.Ring},
		{"shadow_queue", c.ShadowQueue},
	} {
		if d.have <= 0 {
			fault("%s: %v must be above 0", d.key, d.have)
		}
	}
	if c.RetryMost < c.RetryFirst {
		fault("retry_most: %v must be at least retry_first, %v", c.RetryMost, c.RetryFirst)
	}
	if c.ShadowParallel < 1 {
		fault("shadow_parallel: %d must be at least 1", c.ShadowParallel)
	}
	return errors.Join(errs...)
}

// Backends lists the names of the backends that the rules use, sorted.
func (c Config) Backends() []string {
	names := map[string]bool{}
	for _, r := range c.Rules {
		names[r.Backend], names[r.Fallback], names[r.Shadow] = true, true, true
	}
	delete(names, "")
	return slices.Sorted(maps.Keys(names))
}

// Engine hears each leg with the backend that the rules say.
type Engine struct {
	cfg      Config
	log      *slog.Logger
	rules    []*rule
	backends []*backend // those that rules use, sorted by name
	engines  []transcribe.Engine
	info     transcribe.Info
	slots    chan struct{} // one token for each shadow that decodes

	shadowing context.Context // ends the shadows
	stop      context.CancelFunc
	shadows   sync.WaitGroup

	mu     sync.Mutex
	opened int // sessions
	closed bool
}

var (
	_ transcribe.Engine     = (*Engine)(nil)
	_ transcribe.Vocabulary = (*Engine)(nil)
)

// rule is a Rule with its backends.
type rule struct {
	Rule
	primary, fallback, shadow *backend // the last two may be nil
	pair                      *pair    // nil without a shadow
}

// New returns an Engine over engines, by the names that the rules use, and
// owns them from then on: Close closes them all. After an error they are the
// caller's.
func New(cfg Config, engines map[string]transcribe.Engine, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, log: log, slots: make(chan struct{}, cfg.ShadowParallel)}
	byName := map[string]*backend{}
	for _, name := range cfg.Backends() {
		engine := engines[name]
		if engine == nil {
			return nil, fmt.Errorf("rules: %q must be one of the backends: %s", name, strings.Join(slices.Sorted(maps.Keys(engines)), ", "))
		}
		b := &backend{name: name, engine: engine, info: engine.Info(), first: cfg.RetryFirst, most: cfg.RetryMost}
		byName[name] = b
		e.backends = append(e.backends, b)
	}
	pairs := map[[2]string]*pair{}
	for _, r := range cfg.Rules {
		to := &rule{Rule: r, primary: byName[r.Backend], fallback: byName[r.Fallback], shadow: byName[r.Shadow]}
		if to.shadow != nil {
			key := [2]string{r.Backend, r.Shadow}
			if pairs[key] == nil {
				pairs[key] = &pair{backend: r.Backend, shadow: r.Shadow}
			}
			to.pair = pairs[key]
		}
		e.rules = append(e.rules, to)
	}
	for _, name := range slices.Sorted(maps.Keys(engines)) {
		e.engines = append(e.engines, engines[name])
	}
	e.info = e.least()
	e.shadowing, e.stop = context.WithCancel(context.Background())
	return e, nil
}

// least is what all backends that may hear a leg can do. Shadows are not
// among them: they hear what they can.
func (e *Engine) least() transcribe.Info {
	info := transcribe.Info{Backend: "route", Phrases: true}
	var models []string
	for i, b := range e.hearing() {
		if i == 0 {
			info.Language = b.info.Language
		}
		if b.info.Language != info.Language {
			info.Language = "" // several
		}
		info.RateHz = max(info.RateHz, b.info.RateHz)
		info.Phrases = info.Phrases && b.info.Phrases
		info.Hints = info.Hints || b.info.Hints // to one that does not use them they do no harm
		info.Native = info.Native || b.info.Native
		models = append(models, b.name+":"+b.info.Model)
	}
	info.Model = strings.Join(models, "+")
	return info
}

// hearing are the backends that may hear a leg, in the order of the rules.
func (e *Engine) hearing() []*backend {
	var list []*backend
	for _, r := range e.rules {
		for _, b := range []*backend{r.primary, r.fallback} {
			if b != nil && !slices.Contains(list, b) {
				list = append(list, b)
			}
		}
	}
	return list
}

// Info is the least that the backends have in common; RateHz is the highest
// that one wants, and the others get their own made of it.
func (e *Engine) Info() transcribe.Info { return e.info }

// Knows reports whether every backend that says which words it knows knows
// word.
func (e *Engine) Knows(word string) bool {
	for _, b := range e.hearing() {
		if v, ok := b.engine.(transcribe.Vocabulary); ok && !v.Knows(word) {
			return false
		}
	}
	return true
}

// Open opens a session with the backend of the first rule that fits, or with
// its fallback.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opt.RateHz == 0 {
		opt.RateHz = e.info.RateHz
	}
	r := e.rule(opt)
	if r == nil {
		return nil, fmt.Errorf("%w: no route for language %q, tenant %q and leg %s", transcribe.ErrOption, opt.Language, opt.Tenant, opt.Leg)
	}
	if err := e.enter(); err != nil {
		return nil, err
	}
	s, err := e.open(ctx, r, opt)
	if err != nil {
		e.leave()
		return nil, err
	}
	return s.as(), nil
}

// enter and leave count the sessions that are open.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return fmt.Errorf("route engine: %w", transcribe.ErrClosed)
	}
	e.opened++
	return nil
}

func (e *Engine) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opened--
}

func (e *Engine) rule(opt transcribe.Options) *rule {
	for _, r := range e.rules {
		if r.fits(opt) {
			return r
		}
	}
	return nil
}

func (r *rule) fits(opt transcribe.Options) bool {
	among := func(list []string, fits func(string) bool) bool {
		return len(list) == 0 || slices.ContainsFunc(list, fits)
	}
	return among(r.Language, func(l string) bool { return ofLanguage(l, opt.Language) }) &&
		among(r.Tenant, func(t string) bool { return t == opt.Tenant }) &&
		among(r.Leg, func(l string) bool { return l == opt.Leg.String() })
}

// ofLanguage reports whether tag is wanted or a variety of it.
func ofLanguage(want, tag string) bool {
	want, tag = strings.ToLower(want), strings.ToLower(tag)
	return tag == want || strings.HasPrefix(tag, want+"-")
}

// shadowsEnd is how long Close waits for shadows.
const shadowsEnd = 5 * time.Second

// Close ends the shadows and closes all engines. It refuses while sessions are
// open.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.opened > 0 {
		return fmt.Errorf("closing the route engine: %d sessions are open", e.opened)
	}
	if e.closed {
		return nil
	}
	e.stop()
	over := make(chan struct{})
	go func() { e.shadows.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(shadowsEnd):
		return errors.New("closing the route engine: a shadow does not end")
	}
	e.closed = true
	var errs []error
	for _, engine := range e.engines {
		errs = append(errs, engine.Close())
	}
	return errors.Join(errs...)
}
