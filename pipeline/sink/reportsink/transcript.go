package reportsink

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

const (
	quiet = 20 * time.Second      // silence that a reader wants told
	slack = 30 * time.Millisecond // word times of two hypotheses differ by a few frames
	near  = 3 * time.Second       // how far off a finding's words are looked for
)

// row is a line of the transcript: a turn, a change of level, or a silence.
type row struct {
	Turn  *turn
	Level *levelStep
	Quiet string
}

type turn struct {
	ID         string
	Start      time.Duration
	Side       string // class: caller, callee, or both
	Who        string
	Runs       []run
	Notes      []*finding // found in this turn, but not in words that stand
	Unfinished bool
	end        time.Duration
}

// Marked says whether a finding is in the turn.
func (t *turn) Marked() bool {
	return len(t.Notes) > 0 || slices.ContainsFunc(t.Runs, func(r run) bool { return r.Findings != nil })
}

func (t *turn) Clock() string   { return clock(t.Start) }
func (t *turn) Machine() string { return machineTime(t.Start) }

// run is words that the same findings cover, or none.
type run struct {
	Parts    []part
	Findings []*finding
	Anchor   []int // findings of which these are the first words
	Space    bool  // words go before it
	Tip      string
}

// Class is that of the finding that matters most.
func (r run) Class() string {
	top := slices.MaxFunc(r.Findings, func(a, b *finding) int {
		return cmp.Or(cmp.Compare(weight(a), weight(b)), cmp.Compare(b.N, a.N))
	})
	return top.Class()
}

func weight(f *finding) float64 {
	if !f.h.weighs() {
		return -1
	}
	return f.h.points
}

// part is words that are all masked digits, or none of them.
type part struct {
	Text   string
	Masked int // digits
}

// saidInFull reports whether s was heard against a closed list in a stretch of
// which the open vocabulary has all the words.
func saidInFull(s *callwardenv1.TranscriptSegment, all []*callwardenv1.TranscriptSegment) bool {
	switch s.GetHeard() {
	case callwardenv1.Heard_HEARD_SCREEN, callwardenv1.Heard_HEARD_DIGITS:
	default:
		return false
	}
	middle := (s.GetStart().AsDuration() + s.GetEnd().AsDuration()) / 2
	return slices.ContainsFunc(all, func(o *callwardenv1.TranscriptSegment) bool {
		return o.GetLeg() == s.GetLeg() && o.GetHeard() == callwardenv1.Heard_HEARD_OPEN &&
			o.GetStart().AsDuration() <= middle && middle <= o.GetEnd().AsDuration()
	})
}

// token is a word of a segment; timed is false where the backend gave no times.
type token struct {
	text       string
	start, end time.Duration
	timed      bool
}

// newTurns is what was said, by time, with the findings marked in it.
func newTurns(f *facts, findings []*finding) []*turn {
	segments := slices.DeleteFunc(slices.Clone(f.segments), func(s *callwardenv1.TranscriptSegment) bool {
		return strings.TrimSpace(s.GetText()) == "" && len(s.GetWords()) == 0 || saidInFull(s, f.segments)
	})
	slices.SortStableFunc(segments, func(a, b *callwardenv1.TranscriptSegment) int {
		return cmp.Or(
			cmp.Compare(a.GetStart().AsDuration(), b.GetStart().AsDuration()),
			cmp.Compare(a.GetLeg(), b.GetLeg()),
			cmp.Compare(a.GetUtterance(), b.GetUtterance()),
		)
	})
	turns := make([]*turn, len(segments))
	tokens := make([][]token, len(segments))
	covers := make([][][]*finding, len(segments)) // by segment and token
	for i, s := range segments {
		tokens[i] = split(s)
		covers[i] = make([][]*finding, len(tokens[i]))
		turns[i] = &turn{
			ID: fmt.Sprintf("t%d", i+1), Start: s.GetStart().AsDuration(), end: s.GetEnd().AsDuration(),
			Side: side(s.GetLeg()), Who: who(s.GetLeg()), Unfinished: !s.GetFinal(),
		}
	}
	for _, fd := range findings {
		var close []int // segments that it may be in
		for i, s := range segments {
			if (fd.leg == s.GetLeg() || fd.leg == callwardenv1.Leg_LEG_UNSPECIFIED) &&
				turns[i].Start-near <= fd.end && fd.start <= turns[i].end+near {
				close = append(close, i)
			}
		}
		if fd.retracted() || !(markTimed(fd, close, tokens, covers) || markText(fd, close, tokens, covers)) {
			note(fd, close, turns)
		}
	}
	anchored := make(map[int]bool)
	for i, t := range turns {
		t.Runs = runs(tokens[i], covers[i], anchored, t.ID)
		for _, fd := range t.Notes {
			fd.Href = "#" + t.ID
		}
	}
	for _, fd := range findings {
		if anchored[fd.N] {
			fd.Href = fmt.Sprintf("#w%d", fd.N)
		}
	}
	return turns
}

func split(s *callwardenv1.TranscriptSegment) []token {
	var out []token
	for _, w := range s.GetWords() {
		out = append(out, token{w.GetText(), w.GetStart().AsDuration(), w.GetEnd().AsDuration(), w.GetEnd() != nil})
	}
	if out == nil {
		for _, w := range strings.Fields(s.GetText()) {
			out = append(out, token{text: w})
		}
	}
	return out
}

// markTimed marks the words that were spoken while the finding was.
func markTimed(fd *finding, close []int, tokens [][]token, covers [][][]*finding) (marked bool) {
	for _, i := range close {
		for k, t := range tokens[i] {
			if mid := (t.start + t.end) / 2; t.timed && fd.start-slack <= mid && mid <= fd.end+slack {
				covers[i][k] = append(covers[i][k], fd)
				marked = true
			}
		}
	}
	return marked
}

// markText marks the finding's words where they are written, for backends that
// give no times.
func markText(fd *finding, close []int, tokens [][]token, covers [][][]*finding) bool {
	words := strings.Fields(fd.h.last.GetWords())
	if len(words) == 0 {
		return false
	}
	for _, i := range close {
		for k := 0; k+len(words) <= len(tokens[i]); k++ {
			if !slices.EqualFunc(words, tokens[i][k:k+len(words)], func(w string, t token) bool { return w == t.text }) {
				continue
			}
			for j := range words {
				covers[i][k+j] = append(covers[i][k+j], fd)
			}
			return true
		}
	}
	return false
}

// note puts a finding beside the turn in which it was heard most.
func note(fd *finding, close []int, turns []*turn) {
	best, most := -1, -2*near
	for _, i := range close {
		if shared := min(fd.end, turns[i].end) - max(fd.start, turns[i].Start); shared > most {
			best, most = i, shared
		}
	}
	if best >= 0 {
		turns[best].Notes = append(turns[best].Notes, fd)
	}
}

func runs(tokens []token, covers [][]*finding, anchored map[int]bool, id string) []run {
	var out []run
	for k, t := range tokens {
		if k == 0 || !slices.Equal(covers[k], covers[k-1]) {
			r := run{Findings: covers[k], Space: k > 0}
			for _, f := range r.Findings {
				if !anchored[f.N] {
					anchored[f.N] = true
					r.Anchor = append(r.Anchor, f.N)
				}
			}
			if len(r.Findings) > 0 {
				r.Tip = fmt.Sprintf("tip-%s-%d", id, len(out))
			}
			out = append(out, r)
		}
		r := &out[len(out)-1]
		masked := masked(t.text)
		if n := len(r.Parts); n > 0 && (r.Parts[n-1].Masked > 0) == (masked > 0) {
			r.Parts[n-1].Text += " " + t.text
			r.Parts[n-1].Masked += masked
		} else {
			r.Parts = append(r.Parts, part{t.text, masked})
		}
	}
	return out
}

// masked is how many digits a masked word hides; 0 where it is none.
func masked(word string) int {
	if n := strings.Count(word, "#"); n > 0 && strings.Trim(word, "#-. ") == "" {
		return n
	}
	return 0
}

func side(l callwardenv1.Leg) string {
	switch l {
	case callwardenv1.Leg_LEG_CALLER:
		return "caller"
	case callwardenv1.Leg_LEG_CALLEE:
		return "callee"
	}
	return "both"
}

// newRows puts the changes of level and long silences between the turns.
func newRows(turns []*turn, steps []*levelStep) []row {
	var out []row
	var end time.Duration
	for _, t := range turns {
		for len(steps) > 0 && steps[0].at < t.Start {
			out = append(out, row{Level: steps[0]})
			steps = steps[1:]
		}
		if t.Start-end >= quiet {
			out = append(out, row{Quiet: span(t.Start - end)})
		}
		out = append(out, row{Turn: t})
		end = max(end, t.end)
	}
	for _, s := range steps {
		out = append(out, row{Level: s})
	}
	return out
}
