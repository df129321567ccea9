package reportsink

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// What a call may leave in memory. A page beyond that would not open well
// either; it says how much it leaves out.
const (
	maxSegments = 20_000 // some 15 hours of talk
	maxFindings = 2_000
	maxLevels   = 1_000
	maxStatuses = 1_000
	maxScores   = 3 * maxFindings
)

// facts are the events of one call, folded: a segment replaces the one before
// it of the same utterance, a finding keeps its first and last report.
type facts struct {
	started  *callwardenv1.CallStarted
	ended    *callwardenv1.CallEnded
	statuses []*callwardenv1.CallStatus
	segments []*callwardenv1.TranscriptSegment
	open     map[utterance]int // index of unfinished segments
	findings []*history
	byID     map[string]*history
	levels   []*callwardenv1.RiskLevel
	scores   []sample
	left     left // out, for want of room
}

type utterance struct {
	leg callwardenv1.Leg
	n   int32
}

type left struct{ segments, findings int }

// history is the life of one finding.
type history struct {
	first, last *callwardenv1.Finding
	known       time.Duration // when it was first reported
	settled     time.Duration // when it was last reported
	points      float64       // the most that it added in one report
}

// sample is the risk after an event.
type sample struct {
	at    time.Duration
	score float64
	level callwardenv1.Level
}

// add takes the next event of the call.
func (f *facts) add(ev sink.Event) error {
	switch d := ev.Data.(type) {
	case *callwardenv1.CallStarted:
		f.started = d
	case *callwardenv1.CallEnded:
		f.ended = d
	case *callwardenv1.CallStatus:
		if len(f.statuses) < maxStatuses {
			f.statuses = append(f.statuses, d)
		} else {
			f.statuses[maxStatuses-1] = d // the last counts most
		}
	case *callwardenv1.TranscriptSegment:
		f.segment(d)
	case *callwardenv1.RiskFinding:
		f.finding(d)
	case *callwardenv1.RiskLevel:
		f.score(sample{d.GetAt().AsDuration(), d.GetScore(), d.GetLevel()})
		if len(f.levels) < maxLevels {
			f.levels = append(f.levels, d)
		}
	case *callwardenv1.CallAction, *callwardenv1.CallLevels: // nothing of the call's course
	default:
		return fmt.Errorf("event %s of call %s carries %T", ev.Type, ev.Call, ev.Data)
	}
	return nil
}

func (f *facts) segment(s *callwardenv1.TranscriptSegment) {
	if f.open == nil {
		f.open = make(map[utterance]int)
	}
	key := utterance{s.GetLeg(), s.GetUtterance()}
	i, replaces := f.open[key]
	switch {
	case replaces:
		f.segments[i] = s
	case len(f.segments) >= maxSegments:
		if s.GetFinal() {
			f.left.segments++
		}
		return
	default:
		i = len(f.segments)
		f.segments = append(f.segments, s)
	}
	if s.GetFinal() {
		delete(f.open, key)
	} else {
		f.open[key] = i
	}
}

func (f *facts) finding(d *callwardenv1.RiskFinding) {
	at, found := d.GetAt().AsDuration(), d.GetFinding()
	h := f.byID[found.GetId()]
	if h == nil {
		if len(f.findings) >= maxFindings {
			f.left.findings++
			return
		}
		if f.byID == nil {
			f.byID = make(map[string]*history)
		}
		h = &history{first: found, known: at}
		f.findings = append(f.findings, h)
		f.byID[found.GetId()] = h
	}
	h.last, h.settled, h.points = found, at, max(h.points, found.GetPoints())
	f.score(sample{at, d.GetScore(), d.GetLevel()})
}

func (f *facts) score(s sample) {
	if len(f.scores) == maxScores { // the last stands for those after it
		f.scores = f.scores[:maxScores-1]
	}
	f.scores = append(f.scores, s)
}

// duration is how long the call is known to have been.
func (f *facts) duration(waves []Waveform) time.Duration {
	d := f.ended.GetDuration().AsDuration()
	for _, w := range waves {
		d = max(d, w.Duration())
	}
	for _, s := range f.segments {
		d = max(d, s.GetEnd().AsDuration())
	}
	for _, h := range f.findings {
		d = max(d, h.last.GetEnd().AsDuration(), h.settled)
	}
	for _, s := range f.statuses {
		d = max(d, s.GetAt().AsDuration())
	}
	for _, l := range f.levels {
		d = max(d, l.GetAt().AsDuration())
	}
	return d
}

// peak is the highest level and score that the call reached.
func (f *facts) peak() (level callwardenv1.Level, score float64) {
	level, score = max(f.ended.GetLevel(), callwardenv1.Level_LEVEL_NONE), f.ended.GetScore()
	for _, s := range f.scores {
		level, score = max(level, s.level), max(score, s.score)
	}
	for _, l := range f.levels {
		level = max(level, l.GetLevel())
	}
	return level, score
}

// reached is when the call first had a level or a higher one.
func (f *facts) reached(level callwardenv1.Level) (time.Duration, bool) {
	for _, l := range f.levels {
		if l.GetLevel() >= level {
			return l.GetAt().AsDuration(), true
		}
	}
	return 0, false
}

// inOrder are the findings by the time of their words.
func (f *facts) inOrder() []*history {
	out := slices.Clone(f.findings)
	slices.SortStableFunc(out, func(a, b *history) int {
		return cmp.Or(
			cmp.Compare(a.last.GetStart().AsDuration(), b.last.GetStart().AsDuration()),
			cmp.Compare(a.last.GetEnd().AsDuration(), b.last.GetEnd().AsDuration()),
			cmp.Compare(a.last.GetLeg(), b.last.GetLeg()),
			cmp.Compare(a.last.GetTactic(), b.last.GetTactic()),
			cmp.Compare(a.last.GetId(), b.last.GetId()),
		)
	})
	return out
}

// weighs says whether a finding counts: its words hold and no guard muted it.
func (h *history) weighs() bool {
	return h.last.GetState() != callwardenv1.FindingState_FINDING_STATE_RETRACTED && h.last.GetMutedBy() == ""
}

// hearing is how well the call was heard.
type hearing struct {
	unheard bool // nothing reached the recogniser: no judgement
	partly  bool // something did not
	reason  string
	legs    []*callwardenv1.LegStatus
}

func (f *facts) hearing() hearing {
	var h hearing
	var last *callwardenv1.CallStatus
	if n := len(f.statuses); n > 0 {
		last = f.statuses[n-1]
	}
	h.legs, h.reason = f.ended.GetLegs(), last.GetReason()
	if len(h.legs) == 0 {
		h.legs = last.GetLegs()
	}
	for _, s := range f.statuses {
		if bad(s.GetHearing()) {
			h.partly = true
			h.reason = cmp.Or(h.reason, s.GetReason())
		}
	}
	var heard time.Duration
	for _, l := range h.legs {
		heard += l.GetHeard().AsDuration()
		h.partly = h.partly || bad(l.GetHearing()) || l.GetDropped().AsDuration() > 0
	}
	deaf := last.GetHearing() == callwardenv1.Hearing_HEARING_DEAF || last.GetHearing() == callwardenv1.Hearing_HEARING_NOT_MONITORED
	h.unheard = deaf && heard == 0 && len(f.segments) == 0 && len(f.findings) == 0
	return h
}

func bad(h callwardenv1.Hearing) bool { return h > callwardenv1.Hearing_HEARING_LISTENING }

func (f *facts) empty() bool {
	return f.started == nil && f.ended == nil && len(f.statuses)+len(f.segments)+len(f.findings)+len(f.levels) == 0
}
