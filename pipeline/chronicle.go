package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// chronicle judges what is heard of one call and tells it in events. It is
// used by one goroutine.
type chronicle struct {
	p        *Pipeline
	call     *source.Call
	detector detectors.Detector
	meter    *risk.Meter
	context  *callwardenv1.CallContext
	legs     map[string]*legState
	ears     *listen.Call
	state    listen.State
	exempt   bool  // it is none of ours to hear
	partly   error // why what was screened is not transcribed
	order    []*legState
	hearing  callwardenv1.Hearing
	at       time.Duration // how far the call has been heard
	n        int           // events so far, part of each id
	tactics  map[string]bool
	points   map[string]float64 // of each finding, by id
	err      error              // first event that the sink did not take
}

type legState struct {
	leg     callwardenv1.Leg
	side    audio.Leg
	heard   time.Duration
	dropped time.Duration
	deaf    error
	refused bool
	lag     time.Duration
	late    bool // the lag is worth telling

	lost   time.Duration
	loss   lossWindow
	lossy  bool          // so much was lost lately that it is worth telling
	came   time.Duration // end of the last audio that came
	silent bool          // nothing has come for a while

	channel audio.Channel // as it was told
	found   audio.Channel // as it was found since the time below
	since   time.Duration
}

// channelSettled is how long a leg's channel must stay the same to be told:
// the first words are heard before it is known well.
const channelSettled = 3 * time.Second

// A lag is told when it passes the first of these, and gone when it is under
// the second.
const (
	lagFrom = time.Second
	lagTo   = 500 * time.Millisecond
)

// Losses are told from this share of the last ten seconds on, when words begin
// to be missed, and until it is under the second.
const (
	lossFrom = 0.05
	lossTo   = 0.025
)

// note takes what one frame says of the leg and reports whether that changes
// how it is heard.
func (l *legState) note(h heard) (changed bool) {
	if h.deaf == nil {
		l.heard = max(l.heard, h.at)
	}
	changed = l.noteChannel(h)
	late := h.lag >= lagFrom || l.late && h.lag > lagTo
	changed = changed || h.dropped != l.dropped || (h.deaf == nil) != (l.deaf == nil) || late != l.late
	l.dropped, l.deaf, l.lag, l.late = h.dropped, h.deaf, h.lag, late
	if h.at == 0 { // a look at a leg that hears nothing
		return changed
	}
	l.loss.add(h.at, h.lost-l.lost)
	l.lost, l.came = h.lost, h.came
	lossy := l.loss.share() >= lossFrom || l.lossy && l.loss.share() > lossTo
	silent := h.at-h.came >= silentAfter
	changed = changed || lossy != l.lossy || silent != l.silent
	l.lossy, l.silent = lossy, silent
	return changed
}

// noteStill takes that nothing comes any more, and reports whether that is new.
func (l *legState) noteStill() (changed bool) {
	changed = !l.silent
	l.silent = true
	return changed
}

// lossWindow is what was lost in the last ten seconds of the media clock.
type lossWindow struct {
	second int // the latest that was counted
	lost   [10]time.Duration
}

func (w *lossWindow) add(at, lost time.Duration) {
	second := int(at / time.Second)
	for ; w.second < second; w.second++ {
		if second-w.second > len(w.lost) {
			w.second = second - len(w.lost) - 1
			continue
		}
		w.lost[(w.second+1)%len(w.lost)] = 0
	}
	w.lost[second%len(w.lost)] += lost
}

// share is the part of the window that was lost, 0 to 1.
func (w *lossWindow) share() float64 {
	var sum time.Duration
	for _, d := range w.lost {
		sum += d
	}
	return sum.Seconds() / float64(len(w.lost))
}

// noteChannel reports whether another channel has been there for long enough.
func (l *legState) noteChannel(h heard) (changed bool) {
	switch {
	case !h.channel.Known():
		return false
	case !h.channel.Same(l.found):
		l.found, l.since = h.channel, h.at
		return false
	case h.channel.Same(l.channel), h.at-l.since < channelSettled:
		return false
	}
	l.channel = h.channel
	return true
}

func newChronicle(p *Pipeline, call *source.Call) *chronicle {
	detector, meter := p.judge(call)
	c := &chronicle{
		p: p, call: call, detector: detector, meter: meter,
		context: &callwardenv1.CallContext{Tenant: call.Tenant, Call: call.ID, Source: call.Source},
		legs:    make(map[string]*legState),
		tactics: make(map[string]bool),
		points:  make(map[string]float64),
	}
	for _, l := range call.Legs {
		s := &legState{leg: legToProto(l), side: l}
		c.legs[l.String()] = s
		c.order = append(c.order, s)
	}
	return c
}

func (c *chronicle) start(ctx context.Context, ears *listen.Call) {
	c.ears, c.state = ears, ears.State()
	c.started(ctx, ears.Mode())
	c.status(ctx, ears.Reason())
}

func (c *chronicle) started(ctx context.Context, mode string) {
	info := c.p.listen.Info()
	ev := &callwardenv1.CallStarted{
		Context:    c.context,
		Attributes: c.attributes(),
		Backend:    info.Backend,
		Model:      info.Model,
		Listen:     mode,
	}
	if _, can := c.call.Peer.(source.Player); can && mode != "" {
		ev.CanPlay = true
	}
	if !c.call.Began.IsZero() {
		ev.Began = timestamppb.New(c.call.Began)
	}
	for _, l := range c.order {
		ev.Legs = append(ev.Legs, l.leg)
	}
	c.publish(ctx, sink.CallStarted, 0, ev)
}

// refuse tells of a call that is not listened to because of why.
func (c *chronicle) refuse(ctx context.Context, why error) error {
	for _, l := range c.order {
		l.refused = true
	}
	c.started(ctx, "")
	c.status(ctx, why.Error())
	c.end(ctx, why)
	if errors.Is(why, listen.ErrFull) {
		why = fmt.Errorf("%w: %w", source.ErrBusy, why)
	}
	return errors.Join(fmt.Errorf("call %s: %w", c.call.ID, why), c.err)
}

// skip tells of a call that is none of ours to hear.
func (c *chronicle) skip(ctx context.Context, reason string) error {
	c.exempt = true
	for _, l := range c.order {
		l.refused = true
	}
	c.started(ctx, "")
	c.status(ctx, reason)
	c.end(ctx, errors.New(reason))
	return c.err
}

// judge takes what one leg brought: its words to the detector, the findings to
// the meter and the listening plan, and all of it to the sink.
func (c *chronicle) judge(ctx context.Context, h heard) {
	if h.loud != nil {
		c.loud(ctx, h.loud)
		return
	}
	changed := false
	switch {
	case h.aside:
		changed = (h.partly == nil) != (c.partly == nil)
		c.partly = h.partly
	case h.still:
		changed = c.legs[h.leg.String()].noteStill()
	default:
		c.at = max(c.at, h.at)
		changed = c.legs[h.leg.String()].note(h)
	}
	c.ears.Weigh(h.segments, c.at)
	if state := c.ears.State(); changed || state != c.state {
		reason := ""
		switch {
		case state.Shed:
			reason = "the machine has no room to transcribe this call"
		case c.partly != nil:
			reason = "screened only: " + c.partly.Error()
		}
		c.state = state
		c.status(ctx, reason)
	}
	for _, seg := range h.segments {
		if seg.Heard == transcribe.AsNumbers {
			seg = asDigits(seg)
		}
		found := c.detector.Observe(seg)
		// What is heard against a closed list is a rough transcript at best:
		// it is told where it is what a finding rests on.
		if !seg.Stands && (seg.Final || c.p.cfg.Hypotheses || c.call.Hypotheses) && (seg.Heard == transcribe.Openly || seg.Heard == transcribe.Keyed || len(found) > 0) {
			c.publish(ctx, sink.TranscriptSegment, c.at, c.segment(seg))
		}
		if d, ok := c.detector.(detectors.Opinionated); ok && seg.Final {
			change := c.meter.Consider(d.Opinion(), c.at)
			c.level(ctx, change)
		}
		for _, f := range found {
			c.find(ctx, f)
		}
	}
}

func (c *chronicle) find(ctx context.Context, f detectors.Finding) {
	change := c.meter.Observe(f, c.at)
	c.ears.Found(f)
	if f.State == detectors.Confirmed && f.Muted == "" {
		c.tactics[f.Tactic] = true
	}
	c.publish(ctx, sink.RiskFinding, c.at, &callwardenv1.RiskFinding{
		Context: c.context,
		At:      duration(c.at),
		Finding: c.finding(f, change.Points),
		Score:   c.meter.Score(),
		Level:   levelToProto(c.meter.Level()),
	})
	c.level(ctx, change)
}

// level tells of a level that has changed.
func (c *chronicle) level(ctx context.Context, change risk.Change) {
	if change.Level == change.Previous {
		return
	}
	// A notice that rests on the closed list alone was no reason to wake when
	// it was heard, and is none now that it is told.
	if change.Level >= risk.Warning || change.Level == risk.Notice && c.state.Transcribing {
		c.ears.Raise()
	}
	ev := &callwardenv1.RiskLevel{
		Context:  c.context,
		At:       duration(c.at),
		Level:    levelToProto(change.Level),
		Previous: levelToProto(change.Previous),
		Score:    c.meter.Score(),
	}
	for _, s := range c.meter.Contributions() {
		ev.Contributions = append(ev.Contributions, &callwardenv1.Contribution{
			FindingId: s.FindingID, Tactic: s.Tactic, Points: s.Points, Why: s.Why,
		})
	}
	if a := change.Advice; a.ID != "" {
		ev.Advice = &callwardenv1.Advice{Id: a.ID, Language: a.Language, Text: a.Text}
	}
	c.publish(ctx, sink.RiskLevel, c.at, ev)
}

// status tells how the call is heard whenever that changes.
func (c *chronicle) status(ctx context.Context, reason string) {
	ev := &callwardenv1.CallStatus{Context: c.context, At: duration(c.at), Reason: reason, Listen: listen.Screening, Shed: c.state.Shed}
	if c.state.Transcribing {
		ev.Listen = listen.Full
	}
	deaf, silent, refused := 0, 0, 0
	ev.Hearing = callwardenv1.Hearing_HEARING_LISTENING
	for _, l := range c.order {
		s := l.proto()
		ev.Legs = append(ev.Legs, s)
		switch s.Hearing {
		case callwardenv1.Hearing_HEARING_DEAF:
			deaf++
		case callwardenv1.Hearing_HEARING_NOT_MONITORED:
			refused++
		}
		if s.Hearing == callwardenv1.Hearing_HEARING_DEGRADED && l.silent {
			silent++
		}
		if s.Hearing != callwardenv1.Hearing_HEARING_LISTENING {
			ev.Hearing = callwardenv1.Hearing_HEARING_DEGRADED
		}
	}
	switch len(c.order) {
	case deaf + silent: // nothing is heard, whoever is to blame
		ev.Hearing = callwardenv1.Hearing_HEARING_DEAF
	case refused:
		ev.Hearing, ev.Listen = callwardenv1.Hearing_HEARING_NOT_MONITORED, ""
	}
	if (c.partly != nil || c.state.Shed) && ev.Hearing == callwardenv1.Hearing_HEARING_LISTENING {
		ev.Hearing = callwardenv1.Hearing_HEARING_DEGRADED
	}
	if ev.Hearing != c.hearing && ev.Hearing != callwardenv1.Hearing_HEARING_LISTENING && !c.exempt {
		c.p.log.Warn("call is not fully heard", "call", c.call.ID, "source", c.call.Source, "hearing", ev.Hearing.String())
	}
	c.hearing = ev.Hearing
	c.publish(ctx, sink.CallStatus, c.at, ev)
}

func (c *chronicle) end(ctx context.Context, err error) {
	if f, ok := c.detector.(detectors.Finisher); ok {
		for _, found := range f.Finish(c.at) {
			c.find(ctx, found)
		}
	}
	ev := &callwardenv1.CallEnded{
		Context:  c.context,
		Duration: duration(c.at),
		Reason:   "end of audio",
		Level:    levelToProto(c.meter.Peak().Level),
		Score:    c.meter.Peak().Score,
	}
	if c.call.Warnings != nil {
		ev.Warnings = c.call.Warnings()
	}
	ev.Complete = err == nil && len(ev.Warnings) == 0 && c.complete()
	switch {
	case errors.Is(err, context.Canceled):
		ev.Reason = "cancelled"
	case err != nil:
		ev.Reason = err.Error()
	}
	for t := range c.tactics {
		ev.Tactics = append(ev.Tactics, t)
	}
	slices.Sort(ev.Tactics)
	for _, l := range c.order {
		l.channel = l.found // there is no more to wait for
		ev.Legs = append(ev.Legs, l.proto())
	}
	c.publish(ctx, sink.CallEnded, c.at, ev)
}

// complete reports whether all audio was heard. A leg that fell silent is, one
// of which nothing ever came is not.
func (c *chronicle) complete() bool {
	if c.partly != nil || c.state.Shed {
		return false
	}
	for _, l := range c.order {
		if l.silent && l.came > 0 && l.fault() == nil {
			continue
		}
		if l.proto().Hearing != callwardenv1.Hearing_HEARING_LISTENING {
			return false
		}
	}
	return true
}

// publish numbers the event, so that equal things said twice are two events
// and the same call heard again gives the same ids.
func (c *chronicle) publish(ctx context.Context, typ sink.Type, at time.Duration, data proto.Message) {
	c.n++
	c.send(ctx, sink.EventID(c.call.Tenant, c.call.ID, typ, c.n), typ, at, data)
}

func (c *chronicle) send(ctx context.Context, id string, typ sink.Type, at time.Duration, data proto.Message) {
	ev := sink.Event{
		ID:     id,
		Type:   typ,
		Tenant: c.call.Tenant,
		Call:   c.call.ID,
		Source: "callwarden/" + c.call.Source,
		At:     at,
		Data:   data,
	}
	if !c.call.Began.IsZero() {
		ev.Time = c.call.Began.Add(at)
	}
	if err := c.p.sink.Publish(ctx, ev); err != nil && c.err == nil {
		c.err = fmt.Errorf("publishing events of call %s: %w", c.call.ID, err)
		c.p.log.Error("events of this call are being lost", "call", c.call.ID, "event", string(typ), "err", err)
	}
}

// attributes are the source's facts with numbers masked: a caller's number
// is personal, and the tenant that needs it opts out of masking.
func (c *chronicle) attributes() map[string]string {
	out := make(map[string]string, len(c.call.Attributes))
	for k, v := range c.call.Attributes {
		out[k] = v
		if !c.p.cfg.Unmasked && !plainAttributes[k] {
			out[k] = spoken.Mask(v)
		}
	}
	for _, party := range []string{"from", "to"} {
		if id := NumberID(c.p.numberKey, c.call.Attributes[party]); id != "" {
			out[party+"_id"] = id
		}
	}
	return out
}

// plainAttributes are facts about the audio, whose digits are nobody's.
var plainAttributes = map[string]bool{
	"file": true, "encoding": true, "rate": true, "channels": true, "duration": true, "warning": true, "codec": true,
}
