package eval

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/callwarden/callwarden/detectors"
)

// figure is a number of a summary that people compare.
type figure struct {
	name  string // of --require
	label string
	of    func(Summary) *float64 // nil where nothing was scored
	// atMost figures are the better the lower they are.
	atMost bool
}

var figures = [...]figure{
	{"recall", "Recall", func(s Summary) *float64 { return s.Recall }, false},
	{"precision", "Precision", func(s Summary) *float64 { return s.Precision }, false},
	{"false_alarms_per_100", "False alarms per 100 honest calls", func(s Summary) *float64 { return s.FalsePer100 }, true},
	{"false_alarms_per_hour", "False alarms per hour of honest calls", func(s Summary) *float64 { return s.FalsePerHour }, true},
	{"notice_recall", "Recall at notice, openings too", func(s Summary) *float64 { return s.NoticeRecall }, false},
	{"hook_notice_recall", "Recall at notice of openings", func(s Summary) *float64 { return s.HookRecall }, false},
	{"false_notices_per_100", "False notices per 100 honest calls", func(s Summary) *float64 { return s.FalseNoticePer100 }, true},
	{"alert_before_compliance", "Alerts before compliance", func(s Summary) *float64 { return s.BeforeCompliance }, false},
	{"time_to_alert_p50", "Time to alert, median, s", func(s Summary) *float64 { return s.TimeToAlert.P50 }, true},
	{"time_to_alert_p90", "Time to alert, 90 %, s", func(s Summary) *float64 { return s.TimeToAlert.P90 }, true},
	{"wer", "Word error rate", func(s Summary) *float64 { return s.WER.Rate }, true},
	{"digits_detected", "Codes detected", func(s Summary) *float64 { return s.Digits.Rate }, false},
	{"digits_count_within_one", "Codes with their digits counted to one", func(s Summary) *float64 { return s.Digits.CountWithinOne }, false},
	{"digit_errors", "Digit error rate", func(s Summary) *float64 { return s.Digits.DigitErrors }, true},
}

// Requirement is a figure that results must reach.
type Requirement struct {
	figure
	bound float64
}

// ParseRequirements reads "recall=0.95,false_alarms_per_100=2". A tactic has
// figures too: "otp_request.recall=0.9", "otp_request.precision=0.9".
func ParseRequirements(text string) ([]Requirement, error) {
	var out []Requirement
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return nil, fmt.Errorf("%q is no NAME=NUMBER", part)
		}
		f, ok := lookupFigure(strings.TrimSpace(name))
		if !ok {
			return nil, fmt.Errorf("%q is no figure; there are %s, TACTIC.recall and TACTIC.precision", name, figureNames())
		}
		bound, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || bound != bound {
			return nil, fmt.Errorf("%s: %q is no number", name, value)
		}
		out = append(out, Requirement{f, bound})
	}
	return out, nil
}

func lookupFigure(name string) (figure, bool) {
	// The key in results.json says what the hundred are; people leave it out.
	short := strings.TrimSuffix(name, "_benign")
	if i := slices.IndexFunc(figures[:], func(f figure) bool { return f.name == short }); i >= 0 {
		return figures[i], true
	}
	tactic, what, _ := strings.Cut(name, ".")
	if _, ok := detectors.LookupTactic(tactic); !ok {
		return figure{}, false
	}
	f := figure{name: name, label: name}
	switch what {
	case "recall":
		f.of = func(s Summary) *float64 { return s.PerTactic[tactic].Recall }
	case "precision":
		f.of = func(s Summary) *float64 { return s.PerTactic[tactic].Precision }
	}
	return f, f.of != nil
}

func figureNames() string {
	names := make([]string, len(figures))
	for i, f := range figures {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

// Unmet says for each requirement that s does not meet what it is and what it
// must be. A figure of which nothing was scored is not met.
func Unmet(reqs []Requirement, s Summary) []string {
	var out []string
	for _, r := range reqs {
		must := "at least"
		if r.atMost {
			must = "at most"
		}
		switch v := r.of(s); {
		case v == nil:
			out = append(out, fmt.Sprintf("%s: nothing was scored, must be %s %g", r.name, must, r.bound))
		case r.atMost && *v > r.bound, !r.atMost && *v < r.bound:
			out = append(out, fmt.Sprintf("%s: %g must be %s %g", r.name, *v, must, r.bound))
		}
	}
	return out
}
