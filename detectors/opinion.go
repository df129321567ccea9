package detectors

// OpinionWords is how many words an opinion names for and against.
const OpinionWords = 4

// Opinion is what a call looks like as a whole, beside what was found in it.
type Opinion struct {
	// LogOdds is the natural logarithm of the odds that the call is a fraud.
	LogOdds float64
	// Known is how much of the talk it rests on: different words and pairs of
	// words that the model knows.
	Known int
	// For and Against are the words that weigh most either way, the heaviest
	// first; empty where there are fewer. They are stems, with "#" for numbers.
	For, Against [OpinionWords]string
}

// Opinionated is a Detector that also has an opinion of the call. Opinion is
// asked after Observe.
type Opinionated interface {
	Opinion() Opinion
}
