package board

import (
	"cmp"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// entry is one call on the board; the board's lock guards it.
type entry struct {
	key     Key
	ids     map[string]struct{}
	heardOf time.Time // when the latest event was received
	removed bool
	changed chan struct{} // closed with the next change; nil while nobody waits

	// row is what is shown to others, who may keep it: it is replaced, never
	// changed, but for the way that the clock goes on between two versions.
	row        *Row
	rowVersion uint64

	attributes     map[string]string
	backend, model string
	legs           []Leg
	findings       []Finding
	findingAt      map[string]int
	steps          []Step
	advice         []Advice
	curve          []Point
	status         []Status
	actions        []Action
	undone         map[string]*callwardenv1.CallAction // what takes back actions that have not come yet, by their id
	segments       segments
	strips         []Strip
	end            *End

	statusAt, scoreAt time.Duration // of the latest that was taken; below 0 is none

	// When the parts changed that are sent whole.
	factsVersion, legsVersion, stepsVersion, adviceVersion, curveVersion, statusVersion, actionsVersion uint64
}

func newEntry(key Key, ev sink.Event) *entry {
	return &entry{
		key: key, ids: make(map[string]struct{}), findingAt: make(map[string]int),
		row: &Row{
			Tenant: key.Tenant, ID: key.Call, Source: sourceOf(ev),
			State: Live, Level: "none", Peak: "none", Hearing: "unknown",
		},
		statusAt: -1, scoreAt: -1,
	}
}

func (e *entry) over() bool { return e.row.State != Live }

// remember reports whether an event is new.
func (e *entry) remember(id string) bool {
	if _, known := e.ids[id]; known {
		return false
	}
	if len(e.ids) >= idsMost {
		clear(e.ids) // what comes twice comes soon, and changes nothing that matters
	}
	e.ids[id] = struct{}{}
	return true
}

func (e *entry) wake() {
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// take takes ev and reports whether it said anything.
func (e *entry) take(ev sink.Event, received time.Time, version uint64, cfg Config) bool {
	row := *e.row
	known := e.rowVersion == 0                           // the first event shows the call
	if row.State == Lost && ev.Type != sink.CallAction { // it is not
		row.State, row.Ended, known = Live, 0, true
		e.end, e.factsVersion = nil, version
	}
	switch d := ev.Data.(type) {
	case *callwardenv1.CallStarted:
		e.started(&row, d)
		e.factsVersion, known = version, true
	case *callwardenv1.CallStatus:
		known = e.takeStatus(&row, d, version) || known
	case *callwardenv1.RiskFinding:
		known = e.takeFinding(&row, d, received, version) || known
	case *callwardenv1.RiskLevel:
		known = e.takeLevel(&row, d, received, version) || known
	case *callwardenv1.CallEnded:
		e.takeEnd(&row, d, received, version)
		known = true
	case *callwardenv1.CallAction:
		known = e.takeAction(&row, ev.ID, d)
		e.actionsVersion = version
	case *callwardenv1.TranscriptSegment:
		e.segments.take(d, version, cfg.Segments)
	case *callwardenv1.CallLevels:
		e.takeLevels(d)
	default:
		return false
	}
	if ev.Type != sink.CallAction { // what people do says nothing of the call's clock
		e.clock(&row, ev.At, received)
	}
	if known {
		e.rowVersion, row.version = version, version
	}
	e.row = &row
	return true
}

// clock takes that the media clock stood at when an event was received then.
func (e *entry) clock(row *Row, at time.Duration, received time.Time) {
	if received.After(e.heardOf) {
		e.heardOf = received
	}
	if start := millis(received.Add(-at)); row.Start == 0 || start < row.Start {
		row.Start = start
		row.Skew = skew(row)
	}
	if s := seconds(at); s >= row.Dur {
		row.Dur, row.Seen = s, millis(received)
	}
}

// skewFrom is how far the clock of the call's machine may be off before it is
// told: events that waited for a server look like it.
const skewFrom = 2 * time.Minute

func skew(row *Row) Seconds {
	if row.Began == 0 {
		return 0
	}
	if d := row.Began.Time().Sub(row.Start.Time()); d.Abs() >= skewFrom {
		return seconds(d)
	}
	return 0
}

func (e *entry) started(row *Row, d *callwardenv1.CallStarted) {
	e.attributes, e.backend, e.model = d.GetAttributes(), d.GetBackend(), d.GetModel()
	if d.GetBegan() != nil {
		row.Began = millis(d.GetBegan().AsTime())
		if row.Start != 0 {
			row.Skew = skew(row)
		}
	}
	a := e.attributes
	row.From, row.FromName, row.To, row.ToName = a["from"], a["from_name"], a["to"], a["to_name"]
	row.FromID, row.ToID = a["from_id"], a["to_id"]
	row.Direction, row.Codec, row.Consent, row.Language = a["direction"], a["codec"], a["consent"], a["language"]
	row.CanPlay = d.GetCanPlay()
	row.Listen = cmp.Or(row.Listen, d.GetListen())
	if len(e.legs) == 0 {
		for _, l := range d.GetLegs() {
			e.legs = append(e.legs, Leg{Leg: legName(l)})
		}
	}
}

func (e *entry) takeStatus(row *Row, d *callwardenv1.CallStatus, version uint64) bool {
	at := d.GetAt().AsDuration()
	if at < e.statusAt || e.row.State == Ended {
		return false
	}
	e.statusAt = at
	s := Status{At: seconds(at), Hearing: hearingName(d.GetHearing()), Reason: reasonOf(d), Listen: d.GetListen(), Shed: d.GetShed()}
	row.Hearing, row.Reason, row.Shed = s.Hearing, s.Reason, s.Shed
	row.Listen = cmp.Or(s.Listen, row.Listen)
	row.Lag = 0
	for _, l := range d.GetLegs() {
		row.Lag = max(row.Lag, seconds(l.GetLag().AsDuration()))
	}
	e.legs, e.legsVersion = legsOf(d.GetLegs()), version
	last := Status{}
	if n := len(e.status); n > 0 {
		last = e.status[n-1]
		last.At = s.At
	}
	if last != s {
		if len(e.status) >= statusMost {
			e.status = slices.Delete(e.status, 0, 1)
		}
		e.status, e.statusVersion = append(e.status, s), version
	}
	return true
}

// reasonOf is why a call is not well heard, in one line.
func reasonOf(d *callwardenv1.CallStatus) string {
	if d.GetReason() != "" {
		return d.GetReason()
	}
	for _, l := range d.GetLegs() {
		if l.GetReason() != "" {
			return l.GetReason()
		}
	}
	return ""
}

func legsOf(legs []*callwardenv1.LegStatus) []Leg {
	out := make([]Leg, 0, len(legs))
	for _, l := range legs {
		ch := l.GetChannel()
		leg := Leg{
			Leg: legName(l.GetLeg()), Hearing: hearingName(l.GetHearing()), Reason: l.GetReason(),
			Heard: secondsOf(l.GetHeard()), Dropped: secondsOf(l.GetDropped()), Lost: secondsOf(l.GetLost()), Lag: secondsOf(l.GetLag()),
			RateHz: ch.GetRateHz(), LowHz: ch.GetLowHz(), HighHz: ch.GetHighHz(), HumHz: ch.GetHumHz(), Clipped: ch.GetClipped(),
		}
		if ch != nil && ch.NoiseDbfs != nil {
			noise := math.Round(*ch.NoiseDbfs*10) / 10
			leg.NoiseDBFS = &noise
		}
		out = append(out, leg)
	}
	return out
}

func secondsOf(d *durationpb.Duration) Seconds { return seconds(d.AsDuration()) }

func (e *entry) takeFinding(row *Row, d *callwardenv1.RiskFinding, received time.Time, version uint64) bool {
	at := d.GetAt().AsDuration()
	f := d.GetFinding()
	i, known := e.findingAt[f.GetId()]
	switch {
	case !known && len(e.findings) >= findingsMost:
		return false
	case !known:
		i = len(e.findings)
		e.findings = append(e.findings, Finding{})
		e.findingAt[f.GetId()] = i
	case e.findings[i].At.Duration() > at || stateName(f.GetState()) == "provisional" && e.findings[i].State != "provisional":
		return false // what is known is newer
	}
	e.findings[i] = Finding{
		ID: f.GetId(), Tactic: f.GetTactic(), Stage: stageName(f.GetStage()), Leg: legName(f.GetLeg()),
		Start: secondsOf(f.GetStart()), End: secondsOf(f.GetEnd()),
		Words: f.GetWords(), Confidence: round2(f.GetConfidence()), State: stateName(f.GetState()),
		Rule: f.GetRule(), Pack: f.GetPack(), MutedBy: f.GetMutedBy(), Points: round2(f.GetPoints()), At: seconds(at),
		version: version,
	}
	row.Tactics = e.chips()
	e.score(row, at, d.GetScore(), d.GetLevel(), received, version)
	return true
}

// chips are the tactics of all findings that hold.
func (e *entry) chips() []Chip {
	var chips []Chip
	for _, f := range e.findings {
		if f.State == "retracted" {
			continue
		}
		i := slices.IndexFunc(chips, func(c Chip) bool { return c.Tactic == f.Tactic })
		if i < 0 {
			i = len(chips)
			chips = append(chips, Chip{Tactic: f.Tactic, State: f.State, Muted: true})
		}
		c := &chips[i]
		c.N++
		c.Muted = c.Muted && f.MutedBy != ""
		c.Points = round2(c.Points + f.Points)
		if f.State == "confirmed" {
			c.State = f.State
		}
	}
	slices.SortStableFunc(chips, func(a, b Chip) int {
		return cmp.Or(cmp.Compare(btoi(a.Muted), btoi(b.Muted)), cmp.Compare(b.Points, a.Points), cmp.Compare(a.Tactic, b.Tactic))
	})
	return chips
}

func (e *entry) takeLevel(row *Row, d *callwardenv1.RiskLevel, received time.Time, version uint64) bool {
	at := d.GetAt().AsDuration()
	if a := d.GetAdvice(); a.GetText() != "" {
		if len(e.advice) >= adviceMost {
			e.advice = slices.Delete(e.advice, 0, 1)
		}
		e.advice = append(slices.Clip(e.advice), Advice{
			ID: a.GetId(), Language: a.GetLanguage(), Text: a.GetText(), Level: levelName(d.GetLevel()), At: seconds(at),
		})
		slices.SortStableFunc(e.advice, func(x, y Advice) int { return cmp.Compare(x.At, y.At) })
		e.adviceVersion = version
	}
	if len(e.steps) >= stepsMost {
		e.steps = slices.Delete(slices.Clone(e.steps), 1, 2) // the first one stays
	}
	e.steps = append(slices.Clip(e.steps), Step{
		At: seconds(at), Level: levelName(d.GetLevel()), Previous: levelName(d.GetPrevious()), Score: round2(d.GetScore()),
		Shares: sharesOf(d.GetContributions()), Advice: d.GetAdvice().GetId(),
	})
	slices.SortStableFunc(e.steps, func(x, y Step) int { return cmp.Compare(x.At, y.At) })
	e.stepsVersion = version
	e.score(row, at, d.GetScore(), d.GetLevel(), received, version)
	return true
}

func sharesOf(contributions []*callwardenv1.Contribution) []Share {
	var shares []Share
	for _, c := range contributions {
		shares = append(shares, Share{Finding: c.GetFindingId(), Tactic: c.GetTactic(), Points: round2(c.GetPoints()), Why: c.GetWhy()})
	}
	return shares
}

// shares are those of the last step.
func (e *entry) shares() []Share {
	if len(e.steps) == 0 {
		return nil
	}
	return e.steps[len(e.steps)-1].Shares
}

// score takes the call's risk as it was at some time.
func (e *entry) score(row *Row, at time.Duration, score float64, level callwardenv1.Level, received time.Time, version uint64) {
	name := levelName(level)
	score = round2(score)
	p := Point{seconds(at), score, name}
	e.curve, e.curveVersion = addPoint(e.curve, p), version
	row.Line = lineOf(e.curve)
	row.PeakScore = max(row.PeakScore, score)
	if LevelRank(name) > LevelRank(row.Peak) {
		row.Peak = name
	}
	if LevelRank(name) >= LevelRank("warning") && row.Alert == 0 {
		row.Alert, row.AlertAt = millis(received), p.At
	}
	if at < e.scoreAt {
		return
	}
	e.scoreAt = at
	if row.Level != name {
		row.Level, row.LevelAt = name, p.At
	}
	row.Score = score
}

func (e *entry) takeEnd(row *Row, d *callwardenv1.CallEnded, received time.Time, version uint64) {
	row.State, row.Ended = Ended, millis(received)
	row.Dur, row.Seen = secondsOf(d.GetDuration()), millis(received)
	if peak := levelName(d.GetLevel()); LevelRank(peak) > LevelRank(row.Peak) {
		row.Peak = peak
	}
	row.PeakScore = max(row.PeakScore, round2(d.GetScore()))
	if len(d.GetLegs()) > 0 {
		e.legs, e.legsVersion = legsOf(d.GetLegs()), version
	}
	e.end = &End{Reason: d.GetReason(), Complete: d.GetComplete(), Warnings: d.GetWarnings(), Tactics: d.GetTactics()}
	e.factsVersion = version
}

// lose ends a call of which nothing more is heard.
func (e *entry) lose(now time.Time, version uint64) {
	row := *e.row
	row.State, row.Ended = Lost, millis(now)
	row.version = version
	e.row, e.rowVersion, e.factsVersion = &row, version, version
	e.end = &End{Reason: "nothing more was heard of it"}
}

func (e *entry) takeAction(row *Row, id string, d *callwardenv1.CallAction) bool {
	actions, ok := AddAction(e.actions, id, d)
	if !ok { // it undoes one that has not come yet
		if e.undone == nil {
			e.undone = make(map[string]*callwardenv1.CallAction)
		}
		if len(e.undone) < actionsMost {
			e.undone[d.GetUndoes()] = d
		}
		return false
	}
	if later, ok := e.undone[id]; ok {
		actions, _ = AddAction(actions, "", later)
		delete(e.undone, id)
	}
	e.actions = actions
	ApplyActions(row, e.actions)
	return true
}

// AddAction adds what an event says a person did to the actions of a call, or
// takes back what it undoes; known ones it passes over. It returns another
// slice, in the order of time. ok is false where the action that it undoes is
// not there.
func AddAction(actions []Action, id string, d *callwardenv1.CallAction) (_ []Action, ok bool) {
	a := Action{ID: id, Action: ActionName(d.GetAction()), Who: d.GetWho(), Note: d.GetNote()}
	if d.GetWhen() != nil {
		a.When = millis(d.GetWhen().AsTime())
	}
	actions = slices.Clone(actions)
	find := func(id string) int { return slices.IndexFunc(actions, func(b Action) bool { return b.ID == id }) }
	if undoes := d.GetUndoes(); undoes != "" {
		i := find(undoes)
		if i < 0 {
			return actions, false
		}
		if actions[i].Undone == 0 {
			actions[i].UndoneBy, actions[i].Undone = a.Who, max(a.When, 1)
		}
		return actions, true
	}
	if find(id) >= 0 {
		return actions, true
	}
	actions = append(actions, a)
	slices.SortStableFunc(actions, func(x, y Action) int { return cmp.Compare(x.When, y.When) })
	return actions[max(len(actions)-actionsMost, 0):], true
}

// ApplyActions sets what a row says of actions, oldest first: of two that say
// the opposite the later one counts.
func ApplyActions(row *Row, actions []Action) {
	row.Verdict, row.VerdictBy, row.Ack, row.Notes, row.Prompts = "", "", "", 0, 0
	for _, a := range actions {
		if a.Undone != 0 {
			continue
		}
		switch a.Action {
		case "scam", "not_scam":
			row.Verdict, row.VerdictBy = a.Action, a.Who
		case "acknowledged":
			row.Ack = a.Who
		case "note":
			row.Notes++
		case "prompt_played":
			row.Prompts++
		}
	}
}

func round2(f float64) float64 { return math.Round(f*100) / 100 }
