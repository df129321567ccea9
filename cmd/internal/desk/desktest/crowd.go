// Package desktest gives the desk's tests and figures something to show: real
// events, on a real NATS server, of calls that nobody made.
package desktest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

const (
	Caller = callwardenv1.Leg_LEG_CALLER
	Callee = callwardenv1.Leg_LEG_CALLEE
)

// Call is a call that the events of its methods tell. Its methods are called
// from one goroutine.
type Call struct {
	ID, Tenant string

	out    sink.Sink
	source string
	began  time.Time
	ago    time.Duration // how long it had lasted when it was first told
	made   time.Time     // when that was
	off    time.Duration // of the clock of the machine that has the call
	n      int           // of events
	said   int           // utterances
	score  float64
	peak   float64
	level  callwardenv1.Level
	top    callwardenv1.Level
	found  []*callwardenv1.Finding
}

// Start tells of a call that has gone on for ago. attributes may name its
// "source" and "tenant", say "can_play", and put the machine's clock
// "clock_off"; the others are the call's.
func Start(ctx context.Context, out sink.Sink, id string, ago time.Duration, attributes map[string]string) (*Call, error) {
	now := time.Now()
	c := &Call{
		ID: id, Tenant: "default", out: out, source: "siprec", began: now.Add(-ago), ago: ago, made: now,
		level: callwardenv1.Level_LEVEL_NONE, top: callwardenv1.Level_LEVEL_NONE,
	}
	told, canPlay := make(map[string]string), false
	for key, value := range attributes {
		switch key {
		case "source":
			c.source = value
		case "tenant":
			c.Tenant = value
		case "can_play":
			canPlay = value == "yes"
		case "clock_off":
			off, err := time.ParseDuration(value)
			if err != nil {
				return nil, fmt.Errorf("clock_off: %w", err)
			}
			c.off, c.began = off, c.began.Add(off)
		default:
			told[key] = value
		}
	}
	return c, c.publish(ctx, sink.CallStarted, &callwardenv1.CallStarted{
		Context: c.context(), Began: timestamppb.New(c.began), Legs: []callwardenv1.Leg{Caller, Callee}, Attributes: told,
		Backend: "vosk", Model: "a small one", Listen: "full", CanPlay: canPlay,
	})
}

func (c *Call) context() *callwardenv1.CallContext {
	return &callwardenv1.CallContext{Tenant: c.Tenant, Call: c.ID, Source: c.source}
}

// at is the call's media clock.
func (c *Call) at() time.Duration { return c.ago + time.Since(c.made) }

func (c *Call) publish(ctx context.Context, typ sink.Type, data proto.Message) error {
	c.n++
	ev := sink.Event{
		ID: sink.EventID(c.Tenant, c.ID, typ, c.n), Type: typ, Tenant: c.Tenant, Call: c.ID, Source: "callwarden/" + c.source,
		At: sink.At(data), Time: time.Now().Add(c.off), Data: data,
	}
	if err := c.out.Publish(ctx, ev); err != nil {
		return fmt.Errorf("telling %s of %s: %w", typ, c.ID, err)
	}
	return nil
}

// Hear tells how well the call is heard.
func (c *Call) Hear(ctx context.Context, hearing callwardenv1.Hearing, reason string) error {
	leg := func(l callwardenv1.Leg) *callwardenv1.LegStatus {
		return &callwardenv1.LegStatus{Leg: l, Hearing: hearing, Heard: durationpb.New(c.at()), Channel: &callwardenv1.Channel{RateHz: 8000, LowHz: 300, HighHz: 3400}}
	}
	return c.publish(ctx, sink.CallStatus, &callwardenv1.CallStatus{
		Context: c.context(), At: durationpb.New(c.at()), Hearing: hearing, Reason: reason,
		Legs: []*callwardenv1.LegStatus{leg(Caller), leg(Callee)}, Listen: "full",
	})
}

// Found is one finding, and where it was heard.
type Found struct {
	Tactic string
	Leg    callwardenv1.Leg
	Words  string
	Points float64
	State  callwardenv1.FindingState // confirmed where it is not said
	Guard  string
	Start  time.Duration // on the media clock; a moment ago where it is zero
	End    time.Duration
	ID     string // of a finding that is told again
}

// stages of the tactics that the calls here use.
var stages = map[string]callwardenv1.Stage{
	"otp_request": callwardenv1.Stage_STAGE_ASK, "remote_access_request": callwardenv1.Stage_STAGE_INSTRUCT, "gift_card_request": callwardenv1.Stage_STAGE_ASK,
	"otp_readback": callwardenv1.Stage_STAGE_COMPLY, "urgency": callwardenv1.Stage_STAGE_PRESSURE, "secrecy": callwardenv1.Stage_STAGE_PRESSURE,
	"official_counter_advice": callwardenv1.Stage_STAGE_PROTECTIVE,
}

// Find tells of a finding, and of the level where that changes.
func (c *Call) Find(ctx context.Context, f Found) error {
	at := c.at()
	if f.End == 0 {
		f.Start, f.End = max(0, at-2*time.Second), at
	}
	if f.State == 0 {
		f.State = callwardenv1.FindingState_FINDING_STATE_CONFIRMED
	}
	if f.ID == "" {
		f.ID = fmt.Sprintf("%s-f%d", c.ID, len(c.found))
	}
	stage := stages[f.Tactic]
	if stage == 0 {
		stage = callwardenv1.Stage_STAGE_LURE
	}
	finding := &callwardenv1.Finding{
		Id: f.ID, Tactic: f.Tactic, Stage: stage, Leg: f.Leg, Start: durationpb.New(f.Start), End: durationpb.New(f.End), Words: f.Words,
		Confidence: 0.91, State: f.State, Rule: f.Tactic + "/a-pattern", Pack: f.Tactic + " en 1", MutedBy: f.Guard, Points: f.Points,
	}
	c.found = slices.DeleteFunc(c.found, func(g *callwardenv1.Finding) bool { return g.Id == f.ID })
	c.found = append(c.found, finding)
	return c.judge(ctx, finding, c.score+f.Points, min(at, f.End+400*time.Millisecond))
}

// Score tells of a finding that brings the call's score to this.
func (c *Call) Score(ctx context.Context, tactic string, score float64) error {
	return c.Find(ctx, Found{Tactic: tactic, Leg: Caller, Words: "some words", Points: score - c.score, ID: c.ID + "-" + tactic})
}

// judge tells the finding, which was known at then, and the level.
func (c *Call) judge(ctx context.Context, finding *callwardenv1.Finding, score float64, then time.Duration) error {
	c.score = math.Max(0, math.Round(100*score)/100)
	c.peak = max(c.peak, c.score)
	level := callwardenv1.Level_LEVEL_NONE
	switch {
	case c.score >= 12:
		level = callwardenv1.Level_LEVEL_CRITICAL
	case c.score >= 6:
		level = callwardenv1.Level_LEVEL_WARNING
	case c.score >= 1:
		level = callwardenv1.Level_LEVEL_NOTICE
	}
	at := durationpb.New(then)
	if err := c.publish(ctx, sink.RiskFinding, &callwardenv1.RiskFinding{Context: c.context(), At: at, Finding: finding, Score: c.score, Level: level}); err != nil {
		return err
	}
	if level == c.level {
		return nil
	}
	previous := c.level
	c.level, c.top = level, max(c.top, level)
	var shares []*callwardenv1.Contribution
	for _, f := range c.found {
		if f.Points > 0 {
			shares = append(shares, &callwardenv1.Contribution{FindingId: f.Id, Tactic: f.Tactic, Points: f.Points, Why: fmt.Sprintf("ask: %.4g points", f.Points)})
		}
	}
	slices.SortStableFunc(shares, func(a, b *callwardenv1.Contribution) int { return int(100 * (b.Points - a.Points)) })
	return c.publish(ctx, sink.RiskLevel, &callwardenv1.RiskLevel{
		Context: c.context(), At: at, Level: level, Previous: previous, Score: c.score, Contributions: shares, Advice: advice[level],
	})
}

var advice = map[callwardenv1.Level]*callwardenv1.Advice{
	callwardenv1.Level_LEVEL_NOTICE:   {Id: "any.notice", Language: "en", Text: "Be careful. If you did not expect this call, hang up and call back on a number that you looked up yourself."},
	callwardenv1.Level_LEVEL_WARNING:  {Id: "otp_request.warning", Language: "en", Text: "Do not read out the code. No bank, shop or delivery needs it. Hang up and look in the company's own app."},
	callwardenv1.Level_LEVEL_CRITICAL: {Id: "otp_readback.critical", Language: "en", Text: "The code was read out. Hang up, call your bank on the number on your card, and change the password."},
}

// pace is how long a spoken word takes.
const pace = 300 * time.Millisecond

// Say tells of an utterance that begins at start, and returns when it ends.
// One that is not final is told again by the next Say, longer.
func (c *Call) Say(ctx context.Context, leg callwardenv1.Leg, start time.Duration, text string, final bool) (time.Duration, error) {
	seg := &callwardenv1.TranscriptSegment{
		Context: c.context(), Leg: leg, Utterance: int32(c.said), Final: final, Start: durationpb.New(start),
		Text: text, Heard: callwardenv1.Heard_HEARD_OPEN,
	}
	end := start
	for w := range strings.FieldsSeq(text) {
		seg.Words = append(seg.Words, &callwardenv1.Word{Text: w, Start: durationpb.New(end), End: durationpb.New(end + pace - 20*time.Millisecond), Confidence: 0.9})
		end += pace
	}
	seg.End = durationpb.New(end)
	if final {
		c.said++
	}
	return end, c.publish(ctx, sink.TranscriptSegment, seg)
}

// Sound tells how loud the legs were in ten steps of 100 ms from start.
func (c *Call) Sound(ctx context.Context, start time.Duration, caller, callee [10]byte) error {
	return c.publish(ctx, sink.CallLevels, &callwardenv1.CallLevels{
		Context: c.context(), Start: durationpb.New(start), Step: durationpb.New(100 * time.Millisecond),
		Legs: []*callwardenv1.LegLevels{{Leg: Caller, Below: caller[:]}, {Leg: Callee, Below: callee[:]}},
	})
}

// End tells that the call is over.
func (c *Call) End(ctx context.Context) error {
	var tactics []string
	for _, f := range c.found {
		if f.MutedBy == "" && f.State == callwardenv1.FindingState_FINDING_STATE_CONFIRMED && !slices.Contains(tactics, f.Tactic) {
			tactics = append(tactics, f.Tactic)
		}
	}
	slices.Sort(tactics)
	return c.publish(ctx, sink.CallEnded, &callwardenv1.CallEnded{
		Context: c.context(), Duration: durationpb.New(c.at()), Reason: "end of audio", Complete: true, Level: c.top, Score: c.peak, Tactics: tactics,
	})
}

// Fraud tells a whole fraud as if it had gone on for a minute: what was said,
// how loud, what was found, and what that came to.
func Fraud(ctx context.Context, out sink.Sink, id string, attributes map[string]string) (*Call, error) {
	const began = time.Minute
	c, err := Start(ctx, out, id, began, attributes)
	if err != nil {
		return nil, err
	}
	if err := c.Hear(ctx, callwardenv1.Hearing_HEARING_LISTENING, ""); err != nil {
		return nil, err
	}
	at := time.Second
	for _, turn := range []struct {
		leg   callwardenv1.Leg
		text  string
		found []Found
	}{
		{
			Caller, "hello this is the security department of your bank somebody is trying to take money from your account",
			[]Found{{Tactic: "impersonation", Words: "this is the security department of your bank", Points: 1}, {Tactic: "lure_account", Words: "somebody is trying to take money from your account", Points: 2}},
		},
		{Callee, "oh no what should i do", nil},
		{
			Caller, "i can stop the payment we just sent a code to your phone please read me the code",
			[]Found{{Tactic: "otp_request", Words: "sent a code to your phone", Guard: "your-code-is"}, {Tactic: "otp_request", Words: "read me the code", Points: 6}},
		},
		{Callee, "the message says i should not share it", []Found{{Tactic: "official_counter_advice", Words: "i should not share it"}}},
		{Caller, "that is only for strangers please read me the code now so that i can cancel the payment", []Found{{Tactic: "urgency", Words: "now so that i can cancel", Points: 1}}},
		{Callee, "okay the code is # # # # # #", []Found{{Tactic: "otp_readback", Words: "the code is # # # # # #", Points: 6}}},
		{Caller, "thank you please stay on the line and do not tell anybody", []Found{{Tactic: "secrecy", Words: "do not tell anybody", Points: 1, State: callwardenv1.FindingState_FINDING_STATE_PROVISIONAL}}},
	} {
		words := strings.Fields(turn.text)
		last := turn.found != nil && turn.found[len(turn.found)-1].State == callwardenv1.FindingState_FINDING_STATE_PROVISIONAL
		end, err := c.Say(ctx, turn.leg, at, turn.text, !last)
		if err != nil {
			return nil, err
		}
		for _, f := range turn.found {
			first := slices.Index(words, strings.Fields(f.Words)[0])
			for !strings.HasPrefix(strings.Join(words[first:], " "), f.Words) {
				first += 1 + slices.Index(words[first+1:], strings.Fields(f.Words)[0])
			}
			f.Leg, f.Start = turn.leg, at+time.Duration(first)*pace
			f.End = f.Start + time.Duration(len(strings.Fields(f.Words)))*pace
			if err := c.Find(ctx, f); err != nil {
				return nil, err
			}
		}
		if err := c.sound(ctx, turn.leg, at, end); err != nil {
			return nil, err
		}
		at = end + 700*time.Millisecond
	}
	return c, nil
}

// sound is speech of a leg, and a quiet line at the other.
func (c *Call) sound(ctx context.Context, leg callwardenv1.Leg, from, to time.Duration) error {
	for at := from.Truncate(time.Second); at < to; at += time.Second {
		var loud, quiet [10]byte
		for i := range loud {
			quiet[i] = byte(58 + (7*i+int(at/time.Second))%9)
			if step := at + time.Duration(i)*100*time.Millisecond; step < from || step > to {
				loud[i] = quiet[i]
			} else {
				loud[i] = byte(14 + (11*i+5*int(at/time.Second))%23)
			}
		}
		if leg == Callee {
			loud, quiet = quiet, loud
		}
		if err := c.Sound(ctx, at, loud, quiet); err != nil {
			return err
		}
	}
	return nil
}
