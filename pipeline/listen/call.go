package listen

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// stayAwake is how long a call is transcribed after the last reason.
const stayAwake = 2 * time.Minute

// Call is the listening plan of one call: its legs know of each other.
//
// Hear and Finish of a leg belong to one goroutine, Transcribe and Last to
// one, Weigh, Found and Raise to
// one; all may run side by side. For a result that depends on
// nothing but the audio, the same stretch of every leg is heard, weighed in the
// order of the media clock, and transcribed until there is no more, before the
// next is heard.
type Call struct {
	l        *Listener
	id       string
	tenant   string
	language string // BCP 47; empty means the model's own
	live     bool
	mode     string // what is done, which may be less than what was asked for
	reason   string
	hints    []string // for the open vocabulary
	phrases  []string
	digits   []string
	legs     []*leg
	byLeg    map[audio.Leg]*leg
	work     chan struct{} // holds one token when Transcribe may have work; any method of Call sends

	mu       sync.Mutex
	scorer   Scorer
	at       time.Duration // how far the call has come
	awake    bool
	until    time.Duration // when it goes back to screening
	ended    bool          // nothing more is heard: what is awake stays so to its end
	findings bool          // its risk is raised
	shed     bool          // it is not transcribed for want of room
	woken    time.Time
}

// State is how a call is listened to at the moment.
type State struct {
	// Transcribing is whether the open vocabulary is used; always so when
	// listening fully.
	Transcribing bool
	// Shed is whether it should be and is not, because the machine is full.
	Shed bool
}

// Subject is a call to listen to.
type Subject struct {
	ID     string
	Tenant string // whose call it is
	Legs   []audio.Leg
	Live   bool // its audio cannot wait
	// Mode is Full or Screening where this call is listened to in another way
	// than the Listener's.
	Mode string
	// Language is BCP 47 where it is another than the Listener's.
	Language string
}

// Begin starts listening to a call. The caller closes the Call. Live calls
// take part in what is done about a machine that is full; where it has no room
// for another, the error is [ErrFull].
func (l *Listener) Begin(s Subject) (*Call, error) {
	c := &Call{l: l, id: s.ID, tenant: s.Tenant, live: s.Live, byLeg: make(map[audio.Leg]*leg), work: make(chan struct{}, 1)}
	c.mode, c.reason = l.way(s.Mode)
	c.language = cmp.Or(s.Language, l.cfg.Language)
	if l.cfg.Hints != nil {
		c.hints = l.cfg.Hints()
	}
	if c.mode == Screening {
		lists := l.cfg.Screens()
		c.phrases, c.digits, c.scorer = lists.Phrases(), lists.Digits(), lists.Scorer()
	}
	for _, side := range s.Legs {
		g, err := newLeg(c, side)
		if err != nil {
			return nil, err
		}
		c.legs = append(c.legs, g)
		c.byLeg[side] = g
	}
	if err := l.admit(c); err != nil {
		return nil, err
	}
	return c, nil
}

// options are those of the open vocabulary for a leg.
func (c *Call) options(side audio.Leg) transcribe.Options {
	return transcribe.Options{Call: c.id, Tenant: c.tenant, Language: c.language, Leg: side, Hints: c.hints, Live: c.live}
}

// closed are those of a closed list.
func (c *Call) closed(side audio.Leg, phrases []string) transcribe.Options {
	return transcribe.Options{Call: c.id, Tenant: c.tenant, Language: c.language, Leg: side, Phrases: phrases, Live: c.live}
}

// Mode is the way of listening to the call: Full or Screening.
func (c *Call) Mode() string { return c.mode }

// Reason says why Mode is not what was asked for; empty if it is.
func (c *Call) Reason() string { return c.reason }

// job is a decode of audio that arrived then.
func (c *Call) job(arrived time.Time, timely bool) job {
	c.mu.Lock()
	defer c.mu.Unlock()
	return job{due: arrived, first: c.findings, timely: timely && !arrived.IsZero()}
}

// Hear takes the next frame of a leg; one without samples says that nothing
// came until its Start. arrived is when it came in, on the wall clock; zero in
// a recording. Keys of the frame are a segment of their own. The error says that the leg is deaf; it may hear again with a
// later frame.
func (c *Call) Hear(ctx context.Context, f audio.Frame, arrived time.Time) ([]transcribe.Segment, error) {
	if c.live {
		c.l.rule()
	}
	g := c.byLeg[f.Leg]
	segs, err := g.hear(ctx, f, arrived)
	if f.Keys != "" {
		segs = append(segs, g.keyed(f))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awake {
		c.signal()
	}
	return segs, err
}

// Weigh takes what Hear, Finish and Transcribe returned, in the order in which
// it is judged, and how far the call has come, and decides what is heard next.
func (c *Call) Weigh(segs []transcribe.Segment, at time.Duration) {
	if c.mode == Full {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = max(c.at, at)
	for _, s := range segs {
		if s.Heard != transcribe.Screened {
			continue
		}
		// Hints are in honest talk too, every minute or so: a call that they
		// kept awake would never sleep.
		if c.scorer.Hear(s) == detectors.Wake {
			c.rouse()
		}
	}
	if c.awake && !c.ended && c.at > c.until {
		c.awake = false
		c.signal()
	}
}

// rouse gives a reason to transcribe; mu is held.
func (c *Call) rouse() {
	c.until = c.at + stayAwake
	if c.shed && !c.findings {
		return
	}
	if !c.awake {
		c.awake, c.shed, c.woken = true, false, time.Now()
		c.l.wakes.Add(1)
		c.signal()
	}
}

// signal tells the transcriber that there may be work.
func (c *Call) signal() {
	select {
	case c.work <- struct{}{}:
	default:
	}
}

// Raise says that the call's risk is raised: it comes first from now on, gets
// back what it gave way with, and what raised it is reason to go on.
func (c *Call) Raise() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.findings = true
	if c.awake || c.shed {
		c.rouse()
	}
}

// reason is the least that a finding weighs to keep a call awake.
const reason = 1

// Found tells the plan what the judge made of what was heard.
func (c *Call) Found(f detectors.Finding) {
	if c.mode == Full || f.Muted != "" || f.State == detectors.Retracted || f.Weight <= 0 {
		return
	}
	if f.Weight >= reason {
		c.mu.Lock()
		if c.awake {
			c.rouse()
		}
		c.mu.Unlock()
	}
	if !asksForNumbers(f) {
		return
	}
	other := c.byLeg[f.Leg.Other()]
	if other == nil {
		other = c.byLeg[f.Leg] // one channel for both
	}
	if other != nil && len(c.digits) > 0 {
		other.expect(f.End)
	}
}

// asksForNumbers reports whether what f asks for is read out in digits.
func asksForNumbers(f detectors.Finding) bool {
	if f.Stage != detectors.Ask && f.Stage != detectors.Instruct {
		return false
	}
	switch f.Tactic {
	case "otp_request", "credential_request", "gift_card_request", "remote_access_request":
		return true
	}
	return false
}

// Behind is how much audio of a leg was taken by a recogniser that has yet to
// hear it, as after it was away. It belongs to whoever calls Hear for the leg.
func (c *Call) Behind(side audio.Leg) time.Duration {
	g := c.byLeg[side]
	if g.screen == nil {
		return g.open.behind()
	}
	return g.screen.behind()
}

// Work has a token whenever Transcribe may have something to do.
func (c *Call) Work() <-chan struct{} { return c.work }

// Transcribe does the next step of transcribing the call, where there is one:
// the oldest speech that a leg has not been transcribed of. more is false when
// nothing is left until more is heard. An error says that the leg is not transcribed, though
// it may be screened all the same.
func (c *Call) Transcribe(ctx context.Context) (segs []transcribe.Segment, more bool, err error) {
	c.mu.Lock()
	awake, live := c.awake, c.live
	c.mu.Unlock()
	if c.mode == Full || ctx.Err() != nil { // cut off: the rest is not transcribed
		return nil, false, nil //nolint:nilerr // whoever cuts off knows
	}
	var next *leg
	var oldest time.Duration
	for _, g := range c.legs {
		switch {
		case g.open != nil && !awake:
			segs, err := g.sleep(ctx)
			return segs, true, err
		case g.open == nil && awake:
			now := time.Time{}
			if live {
				now = time.Now()
			}
			g.wake(now)
		}
		if g.open == nil {
			continue
		}
		if at, ok := g.behind(); ok && (next == nil || at < oldest) {
			next, oldest = g, at
		}
	}
	if next == nil {
		return c.lookForAway(ctx)
	}
	segs, err = next.transcribe(ctx)
	return segs, true, err
}

// lookForAway brings what sessions that were away have heard since.
func (c *Call) lookForAway(ctx context.Context) (segs []transcribe.Segment, more bool, err error) {
	for _, g := range c.legs {
		if g.open == nil || !g.open.owes() {
			continue
		}
		deaf := g.open.deaf != nil
		segs, err = g.open.look(ctx, g.call.job(time.Time{}, false))
		if deaf && err == nil || len(segs) > 0 {
			return segs, true, err
		}
	}
	return nil, false, nil
}

// Finish hears the rest of a leg and returns its last words, but for those
// that Transcribe has yet to hear.
func (c *Call) Finish(ctx context.Context, side audio.Leg) ([]transcribe.Segment, error) {
	return c.byLeg[side].finish(ctx)
}

// End says that every leg has finished: Transcribe goes on until it has heard
// the rest and returned the last words.
func (c *Call) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.signal()
}

// Last returns the last words of the open vocabulary, after Transcribe has no
// more to do.
func (c *Call) Last(ctx context.Context) (segs []transcribe.Segment, err error) {
	for _, g := range c.legs {
		if g.screen == nil || g.open == nil {
			continue
		}
		more, failed := g.sleep(ctx)
		segs, err = append(segs, more...), errors.Join(err, failed)
	}
	return segs, err
}

// State is how the call is listened to now.
func (c *Call) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return State{Transcribing: c.mode == Full || c.awake, Shed: c.shed && c.at <= c.until}
}

// Close frees what the call holds, after everything else has returned.
func (c *Call) Close() error {
	c.l.leave(c)
	var errs []error
	for _, g := range c.legs {
		errs = append(errs, g.close())
	}
	return errors.Join(errs...)
}
