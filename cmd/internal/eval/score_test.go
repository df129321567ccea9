package eval

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func at(seconds float64) *durationpb.Duration {
	return durationpb.New(time.Duration(seconds * float64(time.Second)))
}

// told makes a record of events at times in seconds.
func toldOf(t *testing.T, events ...any) *record {
	t.Helper()
	r := newRecord(callwardenv1.Level_LEVEL_WARNING)
	for i := 0; i < len(events); i += 2 {
		when := at(events[i].(float64)).AsDuration()
		if err := r.Publish(t.Context(), sink.Event{At: when, Data: events[i+1].(proto.Message)}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func finding(id, tactic string, end, score float64, state callwardenv1.FindingState) *callwardenv1.RiskFinding {
	return &callwardenv1.RiskFinding{Score: score, Finding: &callwardenv1.Finding{
		Id: id, Tactic: tactic, Leg: callwardenv1.Leg_LEG_CALLER, Start: at(end - 1), End: at(end), Words: "read me four two", State: state, Points: score,
	}}
}

func level(l callwardenv1.Level) *callwardenv1.RiskLevel { return &callwardenv1.RiskLevel{Level: l} }

const (
	provisional = callwardenv1.FindingState_FINDING_STATE_PROVISIONAL
	retracted   = callwardenv1.FindingState_FINDING_STATE_RETRACTED
	warning     = callwardenv1.Level_LEVEL_WARNING
	notice      = callwardenv1.Level_LEVEL_NOTICE
	critical    = callwardenv1.Level_LEVEL_CRITICAL
	none        = callwardenv1.Level_LEVEL_NONE
)

func ended(l callwardenv1.Level, tactics ...string) *callwardenv1.CallEnded {
	return &callwardenv1.CallEnded{Level: l, Tactics: tactics, Duration: at(60)}
}

func timedItem(t *testing.T) Item {
	t.Helper()
	it, err := parseItem([]byte(`{"id":"a","label":"scam","first_actionable_turn":1,"turns":[
		{"role":"caller","text":"hello","start":0,"end":3},
		{"role":"caller","text":"read me the code","start":4,"end":8},
		{"role":"callee","text":"one two","start":9,"end":12,"tactics":["otp_readback"]},
		{"role":"callee","text":"three four","start":13,"end":15,"tactics":["otp_readback"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return it
}

func TestAlertIsTheFirstEventOfItsLevel(t *testing.T) {
	type want struct {
		at, delay float64 // -1 for never
		turn      int
		before    bool
	}
	for _, tt := range []struct {
		name   string
		events []any
		want   want
	}{
		{"before compliance", []any{6.5, finding("1", "otp_request", 6, 7, provisional), 6.5, level(warning), 10.0, level(critical), 60.0, ended(critical)}, want{6.5, 2.5, 1, true}},
		{"as compliance begins", []any{9.0, finding("1", "otp_request", 8, 7, provisional), 9.0, level(warning), 60.0, ended(warning)}, want{9, 5, 1, true}},
		{"during compliance", []any{9.1, finding("1", "otp_readback", 9.05, 7, provisional), 9.1, level(warning), 60.0, ended(warning)}, want{9.1, 5.1, 2, false}},
		{"retracted, but it was one", []any{6.0, finding("1", "otp_request", 6, 7, provisional), 6.0, level(warning), 7.0, finding("1", "otp_request", 6, 0, retracted), 7.0, level(none), 60.0, ended(warning)}, want{6, 2, 1, true}},
		{"before the actionable turn", []any{2.0, finding("1", "urgency", 2, 7, provisional), 2.0, level(warning), 60.0, ended(warning)}, want{2, 0, 0, true}},
		{"critical at once", []any{14.0, finding("1", "otp_readback", 14, 20, provisional), 14.0, level(critical), 60.0, ended(critical)}, want{14, 10, 3, false}},
		{"a notice is none", []any{6.0, finding("1", "urgency", 6, 1, provisional), 6.0, level(notice), 60.0, ended(notice)}, want{-1, -1, -1, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			it := timedItem(t)
			row := toldOf(t, tt.events...).row(it, it.Turns, false)
			got := want{-1, -1, -1, row.BeforeCompliance != nil && *row.BeforeCompliance}
			if row.AlertAtS != nil {
				got.at = *row.AlertAtS
			}
			if row.DelayS != nil {
				got.delay = *row.DelayS
			}
			if row.AlertAtTurn != nil {
				got.turn = *row.AlertAtTurn
			}
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if row.BeforeCompliance == nil {
				t.Error("a fraud with compliance is not scored for coming before it")
			}
		})
	}
}

func TestFindingIsToldAsItEndedAndWithoutDigits(t *testing.T) {
	r := toldOf(t, 6.0, finding("1", "otp_request", 6, 7, provisional), 7.0, finding("1", "otp_request", 6, 0, retracted),
		7.0, finding("2", "urgency", 7, 3, provisional), 8.0, finding("3", "secrecy", 8, 9, provisional), 60.0, ended(warning, "urgency"))
	it := timedItem(t)
	row := r.row(it, it.Turns, false)
	if len(row.Findings) != 3 {
		t.Fatalf("%d findings, want 3", len(row.Findings))
	}
	f := row.Findings[0]
	if f.State != "retracted" || f.AtS != 6 || f.Points != 7 || f.Leg != "caller" || f.Words != "read me # #" {
		t.Errorf("finding %+v", f)
	}
	if want := []ScoreAt{{6, 7}, {8, 9}}; len(row.Scores) != 2 || row.Scores[0] != want[0] || row.Scores[1] != want[1] {
		t.Errorf("scores %v, want only those above all before: %v", row.Scores, want)
	}
}

func TestScoreCountsByLabel(t *testing.T) {
	alert, soon, late := 5.0, 2.0, 8.0
	yes, no := true, false
	rows := []Row{
		{ID: "1", Label: Scam, Level: "critical", AlertAtS: &alert, DelayS: &soon, BeforeCompliance: &yes, labelled: true, Expected: []string{"otp_request", "urgency"}, Tactics: []string{"otp_request"}},
		{ID: "2", Label: Scam, Level: "warning", AlertAtS: &alert, DelayS: &late, BeforeCompliance: &no},
		{ID: "3", Label: Scam, Level: "notice"},
		{ID: "4", Label: Scam, Level: "warning", AlertAtS: &alert, Error: "deaf"},
		{ID: "5", Label: ScamHook, Level: "notice"},
		{ID: "6", Label: ScamHook, Level: "none"},
		{ID: "7", Label: Benign, Level: "warning", AlertAtS: &alert, DurationS: 1800, labelled: true, Tactics: []string{"otp_request"}},
		{ID: "8", Label: Benign, Level: "none", DurationS: 5400},
		{ID: "9", Label: Unclear, Level: "critical", AlertAtS: &alert, labelled: true, Tactics: []string{"secrecy"}},
		{ID: "10", WER: &WER{Errors: 3, Words: 10}, Code: &Code{Spoken: 6, Heard: 5, Errors: 1}},
		{ID: "11", WER: &WER{Errors: 1, Words: 10}, Code: &Code{Spoken: 4, Heard: 2, Errors: 2}},
	}
	s := Score(rows, Audio, "warning")
	if s.Calls != 11 || s.Scam != 3 || s.ScamHook != 2 || s.Benign != 2 || s.Unclear != 1 || s.Failed != 1 ||
		s.TrueAlerts != 2 || s.Missed != 1 || s.FalseAlarms != 1 {
		t.Errorf("counts %+v", s)
	}
	for name, f := range map[string]struct {
		got  *float64
		want float64
	}{
		"recall": {s.Recall, 0.6667}, "precision": {s.Precision, 0.6667}, "false per 100": {s.FalsePer100, 50},
		"false per hour": {s.FalsePerHour, 0.5}, "notice recall": {s.NoticeRecall, 0.8}, "hook recall": {s.HookRecall, 0.5},
		"before compliance": {s.BeforeCompliance, 0.5}, "p50": {s.TimeToAlert.P50, 2}, "p90": {s.TimeToAlert.P90, 8},
		"otp precision": {s.PerTactic["otp_request"].Precision, 0.5}, "otp recall": {s.PerTactic["otp_request"].Recall, 1},
		"urgency recall": {s.PerTactic["urgency"].Recall, 0}, "wer": {s.WER.Rate, 0.2},
		"detected": {s.Digits.Rate, 0.5}, "within one": {s.Digits.CountWithinOne, 0.5}, "digit errors": {s.Digits.DigitErrors, 0.3},
	} {
		if f.got == nil || *f.got != f.want {
			t.Errorf("%s is %s, want %g", name, orNone(f.got, -1), f.want)
		}
	}
	if _, ok := s.PerTactic["secrecy"]; ok {
		t.Error("an unclear call is scored")
	}
	if empty := Score(nil, Audio, "warning"); empty.Recall != nil || empty.FalsePer100 != nil || empty.TimeToAlert.P50 != nil {
		t.Error("rates of nothing are not null")
	}
}

func TestRequirementsNameWhatIsNotMet(t *testing.T) {
	rate := func(v float64) *float64 { return &v }
	s := Summary{
		Recall: rate(0.94), FalsePer100: rate(2), TimeToAlert: Spread{P50: rate(3)},
		PerTactic: map[string]TacticScore{"otp_request": {Recall: rate(0.8), Precision: rate(1)}},
	}
	for _, tt := range []struct {
		require string
		want    []string
	}{
		{"recall=0.94,false_alarms_per_100=2", nil},
		{" recall = 0.9 , false_alarms_per_100_benign=2.5", nil},
		{"recall=0.95", []string{"recall: 0.94 must be at least 0.95"}},
		{"recall=1,false_alarms_per_100=1,time_to_alert_p50=2", []string{"recall: 0.94 must be at least 1", "false_alarms_per_100: 2 must be at most 1", "time_to_alert_p50: 3 must be at most 2"}},
		{"wer=0.5", []string{"wer: nothing was scored, must be at most 0.5"}},
		{"otp_request.recall=0.9,otp_request.precision=0.9,secrecy.recall=0.1", []string{"otp_request.recall: 0.8 must be at least 0.9", "secrecy.recall: nothing was scored, must be at least 0.1"}},
	} {
		reqs, err := ParseRequirements(tt.require)
		if err != nil {
			t.Errorf("%q: %v", tt.require, err)
			continue
		}
		got := Unmet(reqs, s)
		if len(got) != len(tt.want) {
			t.Errorf("%q: %q, want %q", tt.require, got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%q: %q, want %q", tt.require, got[i], tt.want[i])
			}
		}
	}
	for _, bad := range []string{"", "recall", "recall=", "recall=high", "recall=NaN", "recal=1", "otp_request=1", "otp_request.speed=1", "no_tactic.recall=1"} {
		if _, err := ParseRequirements(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestComparisonListsWhatChanged(t *testing.T) {
	when, now, later5 := 1.0, 3.0, 9.0
	quiet := func(id, label string) Row { return Row{ID: id, Label: label, Level: "none"} }
	alerted := func(id, label string, delay *float64) Row {
		return Row{ID: id, Label: label, Level: "warning", AlertAtS: &when, DelayS: delay}
	}
	notice := func(id, label string) Row { return Row{ID: id, Label: label, Level: "notice"} }
	before := Results{Items: []Row{
		quiet("found", Scam), alerted("lost", Scam, nil), alerted("sooner", Scam, &later5), alerted("same", Scam, &now),
		quiet("disturbed", Benign), alerted("left alone", Benign, nil), notice("opening", ScamHook), quiet("gone", Benign), quiet("not sure", Unclear),
	}}
	after := Results{Items: []Row{
		alerted("found", Scam, nil), notice("lost", Scam), alerted("sooner", Scam, &now), alerted("same", Scam, &now),
		notice("disturbed", Benign), quiet("left alone", Benign), alerted("opening", ScamHook, nil), quiet("new", Benign), alerted("not sure", Unclear, nil),
	}}
	before.Summary, after.Summary = Score(before.Items, Text, "warning"), Score(after.Items, Text, "warning")
	c := Compare(before, after)
	ids := func(ms []Move) (out string) {
		for _, m := range ms {
			out += m.ID + ";"
		}
		return out
	}
	if got, want := ids(c.Better), "found;sooner;left alone;"; got != want {
		t.Errorf("better %q, want %q", got, want)
	}
	if got, want := ids(c.Worse), "lost;disturbed;"; got != want {
		t.Errorf("worse %q, want %q", got, want)
	}
	if c.Only != 2 {
		t.Errorf("%d in one only, want 2", c.Only)
	}
	for _, p := range c.Figures {
		if p.Label == "Precision" && !p.Better || p.Label == "Recall" && (p.Better || p.Worse) {
			t.Errorf("%s from %s to %s: better %v, worse %v", p.Label, orNone(p.Old, -1), orNone(p.New, -1), p.Better, p.Worse)
		}
	}
}
