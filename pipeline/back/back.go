// Package back leads the way back to where a call came from: it tells the peer
// of each call what becomes of it, as far as the configuration lets it, and has
// a warning spoken into the call when it turns critical, or when somebody asks
// for it.
package back

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// What the peers of a way in are told; each includes those before it.
const (
	None   = "none"
	Levels = "levels" // that the level has changed, with the advice
	Risk   = "risk"   // and every finding, and how well the call is heard
	All    = "all"    // and the words
)

var amounts = []string{None, Levels, Risk, All}

// Way is what the peers of one way in are told and hear.
type Way struct {
	Events string `yaml:"events"`
	// Prompt is spoken into a call that turns critical, once: customer, agent,
	// a name of Config.Prompts, or a recording (.wav or .flac). Empty is none.
	Prompt string `yaml:"prompt"`
}

// Config is what goes back, by way in. A way that is not in Sources is told
// nothing.
type Config struct {
	Sources map[string]Way
	Prompts []Own
}

// Validate says what is wrong with c, each fault as "key: value rule". It opens
// no file; New does.
func (c Config) Validate() error {
	var errs []error
	for i, p := range c.Prompts {
		if err := p.validate(); err != nil {
			errs = append(errs, fmt.Errorf("prompts[%d].%w", i, err))
		}
	}
	for _, name := range sorted(c.Sources) {
		w := c.Sources[name]
		if !slices.Contains(amounts, w.Events) {
			errs = append(errs, fmt.Errorf("sources.%s.events: %q must be one of %s", name, w.Events, strings.Join(amounts, ", ")))
		}
		if w.Prompt != "" && !isFile(w.Prompt) && !slices.Contains(c.names(), w.Prompt) {
			errs = append(errs, fmt.Errorf("sources.%s.prompt: %q must be empty, a recording (.wav or .flac) or one of %s", name, w.Prompt, strings.Join(c.names(), ", ")))
		}
	}
	return errors.Join(errs...)
}

// Errors of Play.
var (
	// ErrNoCall says that no call of that name goes on here.
	ErrNoCall = errors.New("no such call goes on here")
	// ErrNotSpokenTo says that nothing can be spoken into the call.
	ErrNotSpokenTo = errors.New("nothing can be spoken into this call")
	// ErrNoPrompt says that there is no prompt of that name.
	ErrNoPrompt = errors.New("no such prompt")
)

// Automatic is who has a prompt spoken when nobody asked for it.
const Automatic = "callwarden"

// Counts are the prompts of one way in: those that its calls took, and those
// that they could not.
type Counts struct {
	Source          string
	Played, Refused uint64
}

// Back stands between the pipeline and the other sinks: what the pipeline
// publishes goes to the call's peer first, which never waits, and then on.
// Its methods may be called from any goroutine.
type Back struct {
	cfg     Config
	log     *slog.Logger
	next    sink.Sink
	prompts prompts

	mu     sync.Mutex
	calls  map[callKey]*entry
	counts map[string]*Counts
}

var _ sink.Sink = (*Back)(nil)

type callKey struct{ tenant, call string }

// entry is a call whose source has a peer.
type entry struct {
	call *source.Call
	way  Way

	mu       sync.Mutex // its peer hears one thing at a time
	over     bool       // the peer is told nothing more
	warned   bool       // the prompt was spoken, or could not be
	language string     // of the advice
}

// New reads the prompts that cfg names. Events go on to next. Its errors name
// the key, the file and what is wrong with it.
func New(cfg Config, next sink.Sink, log *slog.Logger) (*Back, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	prompts, err := cfg.load()
	if err != nil {
		return nil, err
	}
	b := &Back{
		cfg: cfg, log: log, next: next, prompts: prompts,
		calls: make(map[callKey]*entry), counts: make(map[string]*Counts),
	}
	for name := range cfg.Sources {
		b.counts[name] = &Counts{Source: name}
	}
	return b, nil
}

// Attach tells the peer of call what is published from now on until leave is
// called. Its tenant and id are those of its events. A call without a peer is
// none of ours. Two calls of one name cannot be told apart by their events:
// rather than tell a peer of another's call, neither is told anything.
func (b *Back) Attach(call *source.Call) (leave func()) {
	if call.Peer == nil {
		return func() {}
	}
	key := callKey{call.Tenant, call.ID}
	way, known := b.cfg.Sources[call.Source]
	if !known {
		way.Events = None
	}
	e := &entry{call: call, way: way, language: call.Language}
	b.mu.Lock()
	before := b.calls[key]
	if before == nil {
		b.calls[key] = e
	}
	b.mu.Unlock()
	if before != nil {
		b.log.Warn("two calls of one name: their peers are not told anything", "call", call.ID, "source", call.Source)
		before.end()
		return func() {}
	}
	return func() {
		b.mu.Lock()
		delete(b.calls, key)
		b.mu.Unlock()
		e.end()
	}
}

// end has the peer told nothing more.
func (e *entry) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}

func (b *Back) find(tenant, call string) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[callKey{tenant, call}]
}

// Publish tells the call's peer and passes ev on. Its error is that of the next
// sink: a peer that cannot be told is its source's to count.
func (b *Back) Publish(ctx context.Context, ev sink.Event) error {
	spoken := ""
	if e := b.find(ev.Tenant, ev.Call); e != nil {
		spoken = b.tell(e, ev)
	}
	err := b.next.Publish(ctx, ev)
	if spoken != "" {
		err = errors.Join(err, b.Publish(ctx, played(ev.Tenant, ev.Call, ev.Source, spoken, Automatic)))
	}
	return err
}

// Close closes the next sink.
func (b *Back) Close(ctx context.Context) error { return b.next.Close(ctx) }

// tell tells e's peer of ev, and has the prompt spoken that is due with it. It
// returns the name of what is spoken.
func (b *Back) tell(e *entry, ev sink.Event) (spoken string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return ""
	}
	level, _ := ev.Data.(*callwardenv1.RiskLevel)
	if level.GetAdvice().GetLanguage() != "" && e.call.Language == "" {
		e.language = level.GetAdvice().GetLanguage()
	}
	if tells(e.way.Events, ev.Type) {
		b.safely(e, func() { e.call.Peer.Tell(ev) })
	}
	if level.GetLevel() != callwardenv1.Level_LEVEL_CRITICAL || e.way.Prompt == "" || e.warned {
		return ""
	}
	e.warned = true
	if err := b.say(e, e.way.Prompt, level.GetAdvice().GetText()); err != nil {
		b.log.Warn("the warning is not spoken into the call", "call", e.call.ID, "source", e.call.Source, "err", err)
		return ""
	}
	return e.way.Prompt
}

// tells reports whether typ belongs to an amount.
func tells(amount string, typ sink.Type) bool {
	switch amount {
	case Levels:
		return typ == sink.RiskLevel
	case Risk:
		return typ == sink.RiskLevel || typ == sink.RiskFinding || typ == sink.CallStatus
	}
	return amount == All
}

// Play has the prompt of that name spoken into a call, because who asks for it,
// and tells it as an event. Its error is ErrNoCall where the call is not one of
// those that go on here, and says else why nothing will be heard.
func (b *Back) Play(ctx context.Context, tenant, call, prompt, who string) error {
	e := b.find(tenant, call)
	if e == nil {
		return ErrNoCall
	}
	if err := b.play(e, prompt); err != nil {
		return err
	}
	return b.Publish(ctx, played(tenant, call, "callwarden/"+e.call.Source, prompt, who))
}

func (b *Back) play(e *entry, prompt string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return ErrNoCall
	}
	return b.say(e, prompt, "")
}

// say plays a prompt to e's peer, and counts. text is what it says as far as the
// prompt itself does not know. e.mu is held.
func (b *Back) say(e *entry, name, text string) (err error) {
	defer func() { b.count(e.call.Source, err == nil) }()
	player, ok := e.call.Peer.(source.Player)
	if !ok {
		return ErrNotSpokenTo
	}
	p, ok := b.prompts.fitting(name, e.call.Tenant, e.language)
	if !ok {
		return fmt.Errorf("%q: %w; there are %s", name, ErrNoPrompt, strings.Join(b.cfg.names(), ", "))
	}
	if p.Text == "" {
		p.Text = text
	}
	err = errPanicked
	b.safely(e, func() { err = player.Play(p) })
	return err
}

func (b *Back) count(name string, played bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.counts[name]
	if c == nil {
		c = &Counts{Source: name}
		b.counts[name] = c
	}
	if played {
		c.Played++
	} else {
		c.Refused++
	}
}

// Counts are the prompts so far, by way in.
func (b *Back) Counts() []Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Counts, 0, len(b.counts))
	for _, name := range sorted(b.counts) {
		all = append(all, *b.counts[name])
	}
	return all
}

var errPanicked = errors.New("the way back to the peer has broken")

// safely lets do talk to e's peer. Should that panic it is this call's peer
// only that hears nothing more: the call is judged and published all the same.
func (b *Back) safely(e *entry, do func()) {
	defer func() {
		if p := recover(); p != nil {
			e.over = true
			b.log.Error("peer of a call broke down and is told nothing more", "call", e.call.ID, "source", e.call.Source, "err", fmt.Sprint(p))
		}
	}()
	do()
}

// played is the event that a prompt was spoken into a call.
func played(tenant, call, from, prompt, who string) sink.Event {
	now := time.Now()
	return sink.Event{
		ID:   sink.EventID(tenant, call, sink.CallAction, "prompt", prompt, who, now.UnixNano()),
		Type: sink.CallAction, Tenant: tenant, Call: call, Source: from, Time: now,
		Data: &callwardenv1.CallAction{
			Context: &callwardenv1.CallContext{Tenant: tenant, Call: call, Source: strings.TrimPrefix(from, "callwarden/")},
			When:    timestamppb.New(now), Who: who, Note: filepath.Base(prompt),
			Action: callwardenv1.Action_ACTION_PROMPT_PLAYED,
		},
	}
}
