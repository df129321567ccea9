// Package detectors says what a detector is and what it finds. Detectors are
// arithmetic: no clock, no I/O, no goroutine, no error. The same transcript
// gives the same findings.
package detectors

import (
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Detector watches one call. Observe is given every segment of every leg in
// the order in which they were heard, unfinished ones too, and returns the
// findings that are new or changed. It is called from one goroutine.
type Detector interface {
	Observe(seg transcribe.Segment) []Finding
}

// Finisher is a Detector that has more to say once a call has ended. Finish is
// called once, after the last segment, with how far the call was heard.
type Finisher interface {
	Finish(at time.Duration) []Finding
}

// State is how sure the words of a finding are.
type State uint8

const (
	// Provisional findings rest on an unfinished hypothesis. Each is confirmed
	// or retracted when its utterance ends.
	Provisional State = iota + 1
	Confirmed
	Retracted
)

func (s State) String() string {
	switch s {
	case Provisional:
		return "provisional"
	case Confirmed:
		return "confirmed"
	case Retracted:
		return "retracted"
	}
	return "invalid"
}

// Stage is the part that a tactic plays in a fraud.
type Stage uint8

const (
	StageNone Stage = iota
	Lure
	Ask
	Instruct
	Pressure
	Comply
	Loss
	Protective
)

var stageNames = [...]string{"none", "lure", "ask", "instruct", "pressure", "comply", "loss", "protective"}

func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return "invalid"
}

// ParseStage reads what [Stage.String] writes; ok is false for anything else.
func ParseStage(name string) (s Stage, ok bool) {
	for i, n := range stageNames {
		if n == name {
			return Stage(i), true
		}
	}
	return StageNone, false
}

// Finding is one tactic heard in one place of a call.
type Finding struct {
	// ID is stable over the life of a finding and derived from the call's own
	// content, so that two runs over the same call agree: an id is published
	// provisional at most once, then confirmed or retracted at most once.
	ID     string
	Tactic string // one of Tactics, such as "otp_request"
	Stage  Stage
	Leg    audio.Leg
	// Utterance is the one in which the match ends.
	Utterance  int
	Start, End time.Duration // media clock, of the matched words
	Words      string        // matched words as heard, digits unmasked
	Confidence float64       // 0 to 1
	Weight     float64       // points at confidence 1, before decay and caps
	State      State
	Rule       string // "pack/pattern" that matched
	Pack       string // pack and version, such as "otp_request/en@1"
	// Muted names the guard that took the weight away, empty when none did. A
	// muted finding is reported so that the effect of a guard can be traced;
	// it never raises risk.
	Muted string
}
