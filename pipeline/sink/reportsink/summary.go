package reportsink

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// summary is one call in a line: what the head of its page and its row in an
// index say.
type summary struct {
	Call, Tenant string
	Title        string // file name, or the call id
	Href         string // of its page, for an index
	Level        levelWord
	Chips        []chip
	Partial      bool // cut off, or not all heard
	Spark        string
	duration     time.Duration
	score        float64
	alert        time.Duration
	alerted      bool
	rank         int
}

// chip is a tactic that was found.
type chip struct {
	Class, Label string
	Count        int
	Off          bool // only withdrawn or muted findings
}

func (s summary) Score() string  { return points(s.score) }
func (s summary) Length() string { return clock(s.duration) }

// Alert is the time of the first warning, empty where there was none.
func (s summary) Alert() string {
	if !s.alerted {
		return ""
	}
	return fineClock(s.alert)
}

func summarise(r Report, f *facts) summary {
	level, score := f.peak()
	h := f.hearing()
	s := summary{
		Call: r.Call, Tenant: r.Tenant, Title: title(r.Call, f), Level: levelOf(level),
		Partial:  h.partly || f.ended == nil || (f.ended.GetReason() != "end of audio" && f.ended.GetReason() != ""),
		duration: f.duration(r.Waveforms), score: score, rank: 2 * int(level),
	}
	if h.unheard && level <= callwardenv1.Level_LEVEL_NONE {
		// What nobody listened to may be anything: worse than no sign.
		s.Level, s.rank = unheardWord, 2*int(callwardenv1.Level_LEVEL_NONE)+1
	}
	s.alert, s.alerted = f.reached(callwardenv1.Level_LEVEL_WARNING)
	s.Chips = chips(f)
	s.Spark = spark(f, s.duration, r.Thresholds)
	return s
}

func chips(f *facts) []chip {
	var out []chip
	place := make(map[string]int)
	for _, on := range []bool{true, false} {
		for _, h := range f.inOrder() {
			if h.weighs() != on {
				continue
			}
			name := h.last.GetTactic()
			i, ok := place[name]
			if !ok {
				t := tactic(name)
				i = len(out)
				place[name] = i
				out = append(out, chip{Class: "k-" + t.family, Label: t.label, Off: !on})
			}
			if out[i].Off == !on {
				out[i].Count++
			}
		}
	}
	return out
}

// spark is the score over the call in a box of 100 by 20, of which the highest
// threshold takes two thirds, so that calls compare.
func spark(f *facts, total time.Duration, t Thresholds) string {
	if len(f.scores) == 0 || total <= 0 {
		return ""
	}
	_, highest := f.peak()
	scale := 18 / max(highest, 1.5*max(t.Notice, t.Warning, t.Critical), 1)
	var b strings.Builder
	b.WriteString("M0 19")
	for _, s := range f.scores {
		b.WriteString("H" + num(100*min(float64(s.at)/float64(total), 1)) + "V" + num(19-s.score*scale))
	}
	b.WriteString("H100")
	return b.String()
}

// failure is a recording that could not be opened.
type failure struct{ Name, Reason string }

// renderIndex writes a page over several calls, the worst first. The same
// input gives the same bytes, in whatever order the calls ended.
func renderIndex(w io.Writer, calls []summary, failures []failure) error {
	calls, failures = slices.Clone(calls), slices.Clone(failures)
	slices.SortFunc(calls, func(a, b summary) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(b.score, a.score),
			cmp.Compare(a.Title, b.Title), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Call, b.Call))
	})
	slices.SortFunc(failures, func(a, b failure) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Reason, b.Reason))
	})
	type tally struct {
		levelWord
		Count int
	}
	p := struct {
		Calls    []summary
		Failures []failure
		Tally    []tally
		Length   string
	}{Calls: calls, Failures: failures}
	var total time.Duration
	for _, c := range calls {
		total += c.duration
		if n := len(p.Tally); n > 0 && p.Tally[n-1].levelWord == c.Level {
			p.Tally[n-1].Count++
		} else {
			p.Tally = append(p.Tally, tally{c.Level, 1})
		}
	}
	p.Length = clock(total)
	b := bufio.NewWriterSize(w, 64<<10)
	if err := pages.ExecuteTemplate(b, "index.html.tmpl", p); err != nil {
		return fmt.Errorf("rendering index: %w", err)
	}
	return b.Flush()
}
