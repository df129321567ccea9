package detectors

// Verdict is what words heard against a closed phrase list are worth to the
// listening plan, before any risk is counted.
type Verdict uint8

const (
	// Nothing is no phrase of the list, or one that ordinary speech is taken for.
	Nothing Verdict = iota
	// Hint is too short, too unsure or too lonely to act on. It is judged.
	Hint
	// Wake is reason to transcribe the call.
	Wake
)

func (v Verdict) String() string {
	switch v {
	case Nothing:
		return "nothing"
	case Hint:
		return "hint"
	case Wake:
		return "wake"
	}
	return "invalid"
}
