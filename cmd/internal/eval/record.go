package eval

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// record is the sink of one call: it keeps of its events what the scores and
// the report need.
type record struct {
	alertLevel callwardenv1.Level

	findings []*told
	byID     map[string]*told
	last     *callwardenv1.Finding // told last
	level    *callwardenv1.RiskLevel
	alert    *alert
	scores   []ScoreAt
	heard    []*callwardenv1.TranscriptSegment
	lags     []float64 // of those in the open vocabulary
	ended    *callwardenv1.CallEnded
}

// told is a finding as it was told first and last.
type told struct {
	at     time.Duration
	points float64 // the most that it added
	last   *callwardenv1.Finding
}

// alert is the first event of the alert level or above.
type alert struct {
	at  time.Duration
	why *callwardenv1.Finding // what raised the level
}

var _ sink.Sink = (*record)(nil)

func newRecord(alertLevel callwardenv1.Level) *record {
	return &record{alertLevel: alertLevel, byID: make(map[string]*told)}
}

func (r *record) Publish(_ context.Context, ev sink.Event) error {
	switch d := ev.Data.(type) {
	case *callwardenv1.RiskFinding:
		r.find(ev.At, d)
	case *callwardenv1.RiskLevel:
		if d.Level >= r.alertLevel && r.alert == nil {
			r.alert = &alert{at: ev.At, why: r.last}
		}
		if r.level == nil || d.Level >= r.level.Level {
			r.level = d
		}
	case *callwardenv1.TranscriptSegment:
		if d.Final {
			r.heard = append(r.heard, d)
			if d.Heard == callwardenv1.Heard_HEARD_OPEN && d.Text != "" {
				r.lags = append(r.lags, max(0, inSeconds(ev.At-d.End.AsDuration())))
			}
		}
	case *callwardenv1.CallEnded:
		r.ended = d
	}
	return nil
}

func (r *record) Close(context.Context) error { return nil }

func (r *record) find(at time.Duration, d *callwardenv1.RiskFinding) {
	r.last = d.Finding
	t := r.byID[d.Finding.Id]
	if t == nil {
		t = &told{at: at}
		r.byID[d.Finding.Id] = t
		r.findings = append(r.findings, t)
	}
	t.last, t.points = d.Finding, max(t.points, d.Finding.Points)
	// A threshold is crossed where the score rises above all before it.
	if n := len(r.scores); n == 0 && d.Score > 0 || n > 0 && d.Score > r.scores[n-1].Score {
		r.scores = append(r.scores, ScoreAt{inSeconds(at), d.Score})
	}
}

// row tells how the item went. timed are its turns where their times are those
// of the call.
func (r *record) row(it Item, timed []Turn, unmasked bool) Row {
	mask := spoken.Mask
	if unmasked {
		mask = func(s string) string { return s }
	}
	row := Row{ID: it.ID, Label: it.Label, Level: "none", Tactics: []string{}, Findings: []Found{}, Scores: r.scores}
	row.Expected, row.labelled = it.expected()
	if e := r.ended; e != nil {
		row.Level, row.Score = levelName(e.Level), round(e.Score, 3)
		row.DurationS = inSeconds(e.Duration.AsDuration())
		row.Tactics = append(row.Tactics, e.Tactics...)
		row.Warnings = e.Warnings
		for _, l := range e.Legs {
			if l.Hearing == callwardenv1.Hearing_HEARING_DEAF && row.Error == "" {
				row.Error = "deaf: " + l.Reason
			}
		}
	}
	for _, t := range r.findings {
		f := t.last
		row.Findings = append(row.Findings, Found{
			Tactic: f.Tactic, Leg: legName(f.Leg), Words: mask(f.Words), Confidence: round(f.Confidence, 3),
			StartS: inSeconds(f.Start.AsDuration()), EndS: inSeconds(f.End.AsDuration()), AtS: inSeconds(t.at),
			State: stateName(f.State), Rule: f.Rule, MutedBy: f.MutedBy, Points: round(t.points, 3),
		})
	}
	for _, c := range r.level.GetContributions() {
		row.why = append(row.why, reason{c.Tactic, c.Points, c.Why})
	}
	for _, s := range r.heard {
		row.heard = append(row.heard, line{
			Leg: legName(s.Leg), StartS: s.Start.AsDuration().Seconds(), EndS: s.End.AsDuration().Seconds(), Text: mask(s.Text),
		})
	}
	slices.SortStableFunc(row.heard, func(a, b line) int { return cmp.Compare(a.StartS, b.StartS) })
	r.time(&row, it, timed)
	return row
}

// complies are the tactics after which the loss has begun.
var complies = []string{"otp_readback", "gift_card_readback", "remote_access_compliance"}

// time fills in when the alert came, by the clock and by the turns.
func (r *record) time(row *Row, it Item, timed []Turn) {
	a := r.alert
	if a != nil {
		at := inSeconds(a.at)
		row.AlertAtS = &at
		spoken := a.at.Seconds()
		if a.why != nil {
			spoken = a.why.End.AsDuration().Seconds()
		}
		for i, t := range timed {
			if t.Start != nil && *t.Start < spoken {
				row.AlertAtTurn = &i
			}
		}
	}
	if it.Label != Scam {
		return
	}
	if i := it.Actionable; i != nil && *i < len(timed) {
		row.actionable = timed[*i].Start
	}
	if row.actionable != nil && a != nil {
		delay := round(max(0, a.at.Seconds()-*row.actionable), 3)
		row.DelayS = &delay
	}
	for _, t := range timed {
		if t.Start == nil || !slices.ContainsFunc(t.Tactics, func(n string) bool { return slices.Contains(complies, n) }) {
			continue
		}
		before := a != nil && a.at.Seconds() <= *t.Start
		row.BeforeCompliance = &before
		break // the first is what an alert must come before
	}
}

// words are those that the open vocabulary heard on leg, or on all legs, in
// order.
func (r *record) words(leg audio.Leg, all bool) string {
	var texts []string
	for _, s := range r.heard {
		if s.Heard == callwardenv1.Heard_HEARD_OPEN && (all || s.Leg == callwardenv1.Leg(leg)) {
			texts = append(texts, s.Text)
		}
	}
	return strings.Join(texts, " ")
}

// digits are all that were said, in order.
func (r *record) digits() string {
	var b strings.Builder
	for _, run := range spoken.Runs(strings.Fields(r.words(audio.Unknown, true)), nil) {
		b.WriteString(run.Digits())
	}
	return b.String()
}

func inSeconds(d time.Duration) float64 { return round(d.Seconds(), 3) }

func levelName(l callwardenv1.Level) string { return enumName(l.String(), "LEVEL_") }
func stateName(s callwardenv1.FindingState) string {
	return enumName(s.String(), "FINDING_STATE_")
}

func legName(l callwardenv1.Leg) string {
	if l == callwardenv1.Leg_LEG_UNSPECIFIED {
		return audio.Unknown.String()
	}
	return enumName(l.String(), "LEG_")
}

func enumName(s, prefix string) string { return strings.ToLower(strings.TrimPrefix(s, prefix)) }
