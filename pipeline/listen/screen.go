package listen

import (
	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe"
)

// Screen is what the tactic packs of the moment compile to. It is shared by
// calls and may be used from any goroutine.
type Screen interface {
	// Phrases is the closed list that every leg is screened with, made of
	// words that the engine knows, carriers for ordinary speech included.
	Phrases() []string
	// Digits is the closed list for a leg that is expected to read out a code,
	// a card number or a session id.
	Digits() []string
	// Scorer begins a call.
	Scorer() Scorer
}

// Scorer weighs what one call's legs were heard to say. It is used by one
// goroutine at a time and is arithmetic: the same segments in the same order
// get the same verdicts.
type Scorer interface {
	// Hear takes a segment of any leg that was Screened, unfinished ones too,
	// and says what it and its company are worth now.
	Hear(seg transcribe.Segment) detectors.Verdict
}
