// Package transcribe says what a speech recogniser is. Backends live in the
// folders below it, one each, and all pass the suite in transcribetest.
package transcribe

import (
	"context"
	"errors"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// Engine is a loaded model, one per process. Its methods may be called from
// any goroutine; Close only after every Session is closed.
type Engine interface {
	// Open starts recognition of one leg. An option that the engine cannot
	// honour is an error wrapping ErrOption: nothing is opened and trying
	// again is useless.
	Open(ctx context.Context, opt Options) (Session, error)
	Info() Info
	Close() error
}

// Session recognises one leg. It is used by one goroutine at a time.
type Session interface {
	// Write hears f, whose Rate is the one the session was opened with and
	// whose Start is at or after the end of the frame before; a gap is heard
	// as silence. It returns the segments that changed. An error wrapping
	// ErrFrame leaves the session as it was. One wrapping ErrAway, which only
	// sessions of live audio return, says that the leg is deaf for now: f was
	// taken, segments may come with the error, and Writes go on, with an empty
	// frame where there is no audio, until one without an error says that the
	// recogniser hears again. What it has still to hear then, a [Trailer] says. After any other error the session is dead and only Close may
	// follow.
	Write(ctx context.Context, f audio.Frame) ([]Segment, error)
	// Finish ends the audio and returns the final segments that remain. A
	// session that heard nothing returns none. Only Close may follow.
	Finish(ctx context.Context) ([]Segment, error)
	// Close frees the session. A second Close does nothing.
	Close() error
}

// Options are what a leg needs of its recogniser.
type Options struct {
	Call     string    // call id; only backends that read prepared transcripts look at it
	Tenant   string    // whose call it is; only what routes legs to backends looks at it
	Leg      audio.Leg // stamped on every segment
	RateHz   int       // of the frames that Write will get; 0 means Info.RateHz
	Language string    // BCP 47; empty means the model's own
	// Phrases, where not empty, closes the vocabulary to these phrases. Only
	// an engine with Info.Phrases takes them. The word "…" in a phrase stands
	// for speech that is in none; a phrase that is listed several times is the
	// more likely one.
	Phrases []string
	// Hints are words and phrases that are likely here and that the model may
	// know badly, the most telling first: names of products, of programs, of
	// payment services. They close no vocabulary. A backend that cannot use
	// them ignores them; one that takes a limited number takes the first.
	// The slice is shared by sessions and must not be changed.
	Hints []string
	// Thrifty asks for a session with Phrases that may answer a second later
	// and a little less surely for a fraction of the time that it takes. It is
	// a wish: engines that know no such way open the session all the same.
	Thrifty bool
	// Live audio comes as it is spoken and cannot wait: a session whose
	// recogniser is away for a while says so with ErrAway instead of waiting.
	Live bool
}

// Info is what an engine can do.
type Info struct {
	Backend  string // name in the registry
	Model    string // name of the model
	Language string // BCP 47
	RateHz   int    // sample rate the model wants; other rates are resampled before it
	Phrases  bool   // can decode against a closed phrase list
	Hints    bool   // makes use of Options.Hints
	// Native engines hold an OS thread while they decode: the caller lets at
	// most one Write or Finish per core run at a time.
	Native bool
	// Raw engines are given audio as it came, at any rate: they have no model
	// that it would have to be prepared for.
	Raw bool
}

// Segment is what was said in one stretch of speech. Segments of the same leg
// and utterance replace one another until Final ends the utterance; the next
// has a higher number; a final segment without text takes back what was shown.
// Text is lower case with single spaces, and equals the words joined where
// Words is not empty. A session with a phrase list writes the word "…" for
// speech between phrases that is in none. Times are on the media clock, inside
// the audio heard so far.
//
// Where a leg is listened to in several ways at once, utterances are numbered
// over all of them, and segments of one way are in order among themselves: the
// same stretch of speech may come as a phrase first and in all its words later.
type Segment struct {
	Leg        audio.Leg
	Utterance  int
	Final      bool
	Start, End time.Duration
	Text       string
	Words      []Word
	Heard      Heard // set by the listening plan, not by sessions
	// Stands marks an unfinished segment that says what it said before and has
	// not changed for a while, although more was heard. The listening plan says
	// it; sessions do not.
	Stands bool
}

// Heard says against what a segment was decoded, and so what it is worth.
type Heard uint8

const (
	Openly    Heard = iota // the open vocabulary: these are the words
	Screened               // the closed list of the tactic packs: a hint that needs agreement
	AsNumbers              // the closed list of digits, after an ask
	Keyed                  // not spoken: pressed on the keypad
)

func (h Heard) String() string {
	switch h {
	case Openly:
		return "open"
	case Screened:
		return "screen"
	case AsNumbers:
		return "digits"
	case Keyed:
		return "keypad"
	}
	return "invalid"
}

// Word is one recognised word.
type Word struct {
	Text       string
	Start, End time.Duration
	Confidence float32 // 0 to 1; 0 where the backend gives none
}

// Vocabulary is implemented by engines that know which words they can hear.
type Vocabulary interface {
	// Knows reports whether the model can recognise word.
	Knows(word string) bool
}

// Pauser is implemented by sessions that can end an utterance where the caller
// knows that speech has stopped.
type Pauser interface {
	// Pause makes final what was heard since the last final segment, at the
	// cost of no audio. What the session knows of the speaker stays; Write may
	// follow, and the gap before its frame is not decoded. Its errors are
	// those of Write; with ErrAway the pause is taken and made when the session
	// is back.
	Pause(ctx context.Context) ([]Segment, error)
}

// PhraseSession is implemented by sessions opened with Options.Phrases.
type PhraseSession interface {
	// Unheard lists, sorted, the words of the phrases that the model does not
	// know. Phrases with such a word are never recognised as written.
	Unheard() []string
}

// Settler is implemented by sessions that know from where on their recogniser
// would have to hear again, should it break.
type Settler interface {
	// Settled is the media time before which everything heard is in final
	// segments, or was no speech: another session that hears the audio after
	// it says the rest.
	Settled() time.Duration
}

// Pender is implemented by sessions whose recogniser answers in its own time.
type Pender interface {
	// Pending reports whether segments are there, or on their way, that a
	// Write will return: of an empty frame, where there is no audio.
	Pending() bool
}

// Trailer is implemented by sessions that may hear what Write took later than
// it returns, as after their recogniser was away. What is heard then comes with
// later Writes: such a session is a [Pender], too.
type Trailer interface {
	// Behind is how much audio was taken and is not heard yet.
	Behind() time.Duration
}

// Errors that a caller decides on.
var (
	ErrOption       = errors.New("option not supported")
	ErrFrame        = errors.New("frame refused")
	ErrClosed       = errors.New("session is closed")
	ErrAway         = errors.New("recogniser is away") // deaf for now; see Session.Write
	ErrNotInstalled = errors.New("not installed")      // exit code 3: say what to type
)
