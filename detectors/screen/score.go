package screen

import (
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// wakeAt is the worth of hits from which a call is transcribed: one plain
	// ask of three words, or two things of a story.
	wakeAt = 2.15
	// hintAt is the worth from which a hit is anything.
	hintAt = 0.25
	// company is how long hits speak for each other.
	company = 60 * time.Second
	// The opinion of the talk wakes a call from these log odds on, once it
	// knows so much of it; and again when it has risen by so much since.
	opinionAt    = 0.5
	opinionKnows = 40
	opinionRise  = 1.0
	// askMost and storyMost are what one hit is worth at most: no story alone
	// wakes.
	askMost, storyMost = 4.0, 1.5
)

// Hit is a pattern that was heard against the list.
type Hit struct {
	Pattern    *phrase.Pattern
	Words      string
	Start, End time.Duration
	Confidence float64 // mean of its words, 0 where there is none yet
	// Worth says how much it is reason to listen closer, from 0 up to about
	// the points of its pattern.
	Worth float64
}

// Finder finds hits. It belongs to one goroutine.
type Finder struct {
	set     *phrase.Set
	tokens  []string
	words   []int // of each token
	matches []phrase.Match
}

// NewFinder returns the finder of a call.
func (l *List) NewFinder() *Finder { return NewFinder(l.set) }

// NewFinder returns a finder of the patterns of set.
func NewFinder(set *phrase.Set) *Finder { return &Finder{set: set} }

// unlisted stands for speech that is in no phrase of the list.
const unlisted = "…"

// Hits appends to dst the hits in a segment that was screened, best first, no
// two of them sharing a word. Guards hold: what they mute is no hit.
func (f *Finder) Hits(seg transcribe.Segment, dst []Hit) []Hit {
	f.tokens, f.words = f.tokens[:0], f.words[:0]
	for i, w := range seg.Words {
		if w.Text == unlisted {
			f.tokens = append(f.tokens, unlisted) // a word that no pattern has
		} else {
			f.tokens = phrase.AppendWord(f.tokens, w.Text)
		}
		for len(f.words) < len(f.tokens) {
			f.words = append(f.words, i)
		}
	}
	f.matches = f.set.MatchFrom(f.tokens, 0, false, f.matches[:0])
	from := len(dst)
	for _, m := range f.matches {
		if m.Muted != "" || m.Pattern.Points == 0 || m.Pattern.Stage == detectors.Protective {
			continue
		}
		words := seg.Words[f.words[m.First] : f.words[m.Last]+1]
		if h := rate(m.Pattern, words); h.Worth >= hintAt {
			dst = append(dst, h)
		}
	}
	return append(dst[:from], apart(dst[from:])...)
}

// rate weighs a pattern that was heard as words.
func rate(p *phrase.Pattern, words []transcribe.Word) Hit {
	h := Hit{Pattern: p, Start: words[0].Start, End: words[len(words)-1].End}
	var text []string
	spoken, least, sum := 0, float32(1), float32(0)
	for _, w := range words {
		text = append(text, w.Text)
		if w.Text == unlisted {
			continue
		}
		spoken++
		sum += w.Confidence
		least = min(least, w.Confidence)
	}
	h.Words, h.Confidence = strings.Join(text, " "), float64(sum)/float64(max(1, spoken))
	most := storyMost
	if p.Stage == detectors.Ask || p.Stage == detectors.Instruct {
		most = askMost
	}
	h.Worth = min(p.Points, most) * lengthWorth(spoken) * surety(least)
	if p.After != nil || p.Stage == detectors.Comply || p.Stage == detectors.Loss {
		h.Worth /= 4 // an answer, or a sequel: worth something in company
	}
	if p.Count != nil {
		h.Worth /= float64(p.Count.AtLeast)
	}
	return h
}

// lengthWorth is what a run of n words of the list counts for: short ones are
// heard in all kinds of speech.
func lengthWorth(n int) float64 {
	switch n {
	case 0, 1:
		return 0.15
	case 2:
		return 0.5
	}
	return 1
}

// surety is what the least sure word of a hit counts for. The recogniser is
// sure of most words, since the list gives it few to choose from: where it is
// not, it is mostly wrong. Words of an unfinished hypothesis have none yet.
func surety(least float32) float64 {
	switch {
	case least == 0:
		return 0.6
	case least < 0.5:
		return 0.25
	case least < 0.7:
		return 0.6
	}
	return 1
}

// apart sorts hits by worth and drops those that share time with a better one.
func apart(hits []Hit) []Hit {
	kept := hits[:0]
	for len(hits) > 0 {
		best := 0
		for i := range hits {
			if hits[i].Worth > hits[best].Worth {
				best = i
			}
		}
		h := hits[best]
		rest := hits[:0:0]
		for i := range hits {
			if o := &hits[i]; i != best && (o.End <= h.Start || o.Start >= h.End) {
				rest = append(rest, *o)
			}
		}
		kept = append(kept, h)
		hits = rest
	}
	return kept
}

// Opinion judges a call by its talk as a whole; see
// [detectors.Opinionated].
type Opinion interface {
	detectors.Opinionated
	Observe(seg transcribe.Segment)
}

// Scorer weighs what the legs of one call were heard to say. It is used by one
// goroutine; the same segments in the same order get the same verdicts.
type Scorer struct {
	talk   Opinion // nil for none
	wakeAt float64 // log odds at which the talk is reason to wake

	finder *Finder
	now    time.Duration
	past   []scored               // hits of final segments, oldest first
	open   map[audio.Leg][]scored // of the unfinished ones
	// scratch of one segment
	hits []Hit
	best []scored
}

type scored struct {
	tactic string
	after  string // tactic without which it is worth nothing; empty for none
	end    time.Duration
	worth  float64
}

// Scorer begins a call. talk, where not nil, is its opinion of what is heard
// against the list: a rough transcript, most of it carriers and half of it
// wrong, but of a fraud's words enough to tell. Asks that are in no phrase of
// the list, or are misheard, wake the call that way.
func (l *List) Scorer(talk Opinion) *Scorer {
	return &Scorer{talk: talk, wakeAt: opinionAt, finder: l.NewFinder(), open: map[audio.Leg][]scored{}}
}

// Hear takes a segment of any leg that was screened, unfinished ones too, and
// says what it, its company of the last minute and the talk so far are reason
// for.
func (s *Scorer) Hear(seg transcribe.Segment) detectors.Verdict {
	v := s.weigh(seg)
	if s.suspects(seg) {
		return detectors.Wake
	}
	return v
}

// suspects reports whether the talk has become reason to wake.
func (s *Scorer) suspects(seg transcribe.Segment) bool {
	if s.talk == nil || !seg.Final {
		return false
	}
	s.talk.Observe(seg)
	o := s.talk.Opinion()
	if o.Known < opinionKnows || o.LogOdds < s.wakeAt {
		return false
	}
	s.wakeAt = o.LogOdds + opinionRise
	return true
}

// weigh is the verdict on the hits. A segment without one is reason for
// nothing.
func (s *Scorer) weigh(seg transcribe.Segment) detectors.Verdict {
	s.now = max(s.now, seg.End)
	s.hits = s.finder.Hits(seg, s.hits[:0])
	mine := s.open[seg.Leg][:0]
	for _, h := range s.hits {
		hit := scored{tactic: h.Pattern.Tactic, end: h.End, worth: h.Worth}
		if a := h.Pattern.After; a != nil {
			hit.after = a.Tactic
		}
		mine = append(mine, hit)
	}
	for len(s.past) > 0 && s.now-s.past[0].end > company {
		s.past = s.past[1:]
	}
	s.open[seg.Leg] = mine
	worth := s.worth()
	if seg.Final {
		s.past = append(s.past, mine...)
		s.open[seg.Leg] = mine[:0]
	}
	switch {
	case len(mine) == 0:
		return detectors.Nothing
	case worth >= wakeAt:
		return detectors.Wake
	}
	return detectors.Hint
}

// worth is the sum of what was heard lately, the best hit of each tactic. What
// counts only after something else is in all kinds of talk, and is left out
// where that was not heard.
func (s *Scorer) worth() float64 {
	s.best = s.best[:0]
	lists := [...][]scored{s.past, s.open[audio.Unknown], s.open[audio.Caller], s.open[audio.Callee]}
	heard := func(tactic string) bool {
		for _, list := range lists {
			for _, h := range list {
				if h.tactic == tactic && h.after == "" {
					return true
				}
			}
		}
		return false
	}
	for _, list := range lists {
		for _, h := range list {
			if h.after != "" && !heard(h.after) {
				continue
			}
			i := slices.IndexFunc(s.best, func(b scored) bool { return b.tactic == h.tactic })
			switch {
			case i < 0:
				s.best = append(s.best, h)
			case h.worth > s.best[i].worth:
				s.best[i] = h
			}
		}
	}
	sum := 0.0
	for _, h := range s.best {
		sum += h.worth
	}
	return sum
}
