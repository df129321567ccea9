package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/spoken"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// The functions below turn our types into the wire's, masking digits on the
// way: nothing else in the program makes events, so nothing else can leak.

func (c *chronicle) segment(seg transcribe.Segment) *callwardenv1.TranscriptSegment {
	out := &callwardenv1.TranscriptSegment{
		Context:   c.context,
		Leg:       legToProto(seg.Leg),
		Utterance: int32(seg.Utterance),
		Final:     seg.Final,
		Start:     duration(seg.Start),
		End:       duration(seg.End),
		Text:      c.mask(seg.Text),
		Heard:     callwardenv1.Heard(seg.Heard + 1),
	}
	words := make([]string, len(seg.Words))
	for i, w := range seg.Words {
		words[i] = w.Text
	}
	if !c.p.cfg.Unmasked {
		words = spoken.MaskWords(words)
	}
	for i, w := range seg.Words {
		out.Words = append(out.Words, &callwardenv1.Word{
			Text: words[i], Start: duration(w.Start), End: duration(w.End), Confidence: w.Confidence,
		})
	}
	return out
}

func (c *chronicle) finding(f detectors.Finding, points float64) *callwardenv1.Finding {
	return &callwardenv1.Finding{
		Id:         f.ID,
		Tactic:     f.Tactic,
		Stage:      callwardenv1.Stage(f.Stage),
		Leg:        legToProto(f.Leg),
		Start:      duration(f.Start),
		End:        duration(f.End),
		Words:      c.mask(f.Words),
		Confidence: f.Confidence,
		State:      callwardenv1.FindingState(f.State),
		Rule:       f.Rule,
		Pack:       f.Pack,
		MutedBy:    f.Muted,
		Points:     points,
	}
}

func (c *chronicle) mask(text string) string {
	if c.p.cfg.Unmasked {
		return text
	}
	return spoken.Mask(text)
}

func (l *legState) proto() *callwardenv1.LegStatus {
	s := &callwardenv1.LegStatus{
		Leg:     l.leg,
		Hearing: callwardenv1.Hearing_HEARING_LISTENING,
		Heard:   duration(l.heard - l.dropped),
		Dropped: duration(l.dropped),
	}
	if l.lost > 0 {
		s.Lost = duration(l.lost)
	}
	switch why := l.fault(); {
	case l.refused:
		s.Hearing = callwardenv1.Hearing_HEARING_NOT_MONITORED
	case l.deaf != nil:
		s.Hearing, s.Reason = callwardenv1.Hearing_HEARING_DEAF, l.deaf.Error()
	case l.silent:
		s.Hearing, s.Reason = callwardenv1.Hearing_HEARING_DEGRADED, l.silence()
	case why != nil:
		s.Hearing, s.Reason = callwardenv1.Hearing_HEARING_DEGRADED, why.Error()
	}
	if l.late {
		s.Lag = duration(l.lag)
	}
	s.Channel = channelToProto(l.channel)
	return s
}

var (
	errDropped = errors.New("the recogniser was behind: audio dropped")
	errLossy   = errors.New("over 5 % of the audio of the last 10 s was lost on its way")
)

// fault is what was wrong with audio that came, nil for nothing.
func (l *legState) fault() error {
	switch {
	case l.deaf != nil:
		return l.deaf
	case l.dropped > 0:
		return errDropped
	case l.lossy:
		return errLossy
	}
	return nil
}

// silence says since when nothing has come.
func (l *legState) silence() string {
	whose := ""
	if l.leg != callwardenv1.Leg_LEG_UNSPECIFIED {
		whose = " from the " + l.side.String()
	}
	if l.came == 0 {
		return "no audio" + whose + " so far"
	}
	s := int(l.came / time.Second)
	return fmt.Sprintf("no audio%s since %d:%02d", whose, s/60, s%60)
}

// channelToProto is nil while nothing is known.
func channelToProto(ch audio.Channel) *callwardenv1.Channel {
	if !ch.Known() {
		return nil
	}
	return &callwardenv1.Channel{
		RateHz:    int32(ch.RateHz),
		LowHz:     int32(ch.LowHz),
		HighHz:    int32(ch.HighHz),
		NoiseDbfs: &ch.NoiseDB,
		HumHz:     int32(ch.HumHz),
		Clipped:   ch.Clipped,
	}
}

func duration(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

// The enums of detectors and the wire number alike; wire_test.go holds them
// together.

func legToProto(l audio.Leg) callwardenv1.Leg { return callwardenv1.Leg(l) }

func levelToProto(l risk.Level) callwardenv1.Level { return callwardenv1.Level(l + 1) }

// asDigits writes digits for the words that a list of digits has for them. A
// sound-alike that stayed would not be masked.
func asDigits(seg transcribe.Segment) transcribe.Segment {
	words := make([]transcribe.Word, len(seg.Words))
	texts := make([]string, len(seg.Words))
	for i, w := range seg.Words {
		w.Text = spoken.DigitOf(w.Text)
		words[i], texts[i] = w, w.Text
	}
	seg.Words, seg.Text = words, strings.Join(texts, " ")
	return seg
}
