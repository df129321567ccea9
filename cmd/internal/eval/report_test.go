package eval

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSweepTriesEveryThreshold(t *testing.T) {
	start := 2.0
	rows := []Row{
		{ID: "early", Label: Scam, actionable: &start, Scores: []ScoreAt{{3, 2}, {5, 8}}},
		{ID: "late", Label: Scam, actionable: &start, Scores: []ScoreAt{{12, 6}}},
		{ID: "never", Label: Scam, actionable: &start},
		{ID: "honest", Label: Benign, Scores: []ScoreAt{{1, 2}}},
		{ID: "quiet", Label: Benign},
		{ID: "failed", Label: Benign, Error: "deaf", Scores: []ScoreAt{{1, 20}}},
		{ID: "opening", Label: ScamHook, Scores: []ScoreAt{{1, 9}}},
	}
	never := math.Inf(1)
	for _, want := range []sweepPoint{
		{2, 2.0 / 3, 2.0 / 3, 50, 10},
		{2.1, 2.0 / 3, 1, 0, 10},
		{6.1, 1.0 / 3, 1, 0, never},
		{8.1, 0, math.NaN(), 0, never},
	} {
		if got := alertingAt(rows, want.Threshold); !got.same(want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	points := sweep(rows)
	var at []float64
	for _, p := range points {
		at = append(at, p.Threshold)
	}
	// 9 is the opening's: its score is swept, but it is no fraud.
	if len(at) != 4 || at[0] != 0.1 || at[1] != 2.1 || at[2] != 6.1 || at[3] != 8.1 {
		t.Errorf("thresholds %v that change something, want 0.1, 2.1, 6.1, 8.1", at)
	}
}

func TestAxisTicksAreRound(t *testing.T) {
	for _, tt := range []struct {
		to   float64
		want string
	}{{1, "0 0.2 0.4 0.6 0.8 1"}, {60, "0 20 40 60"}, {7, "0 2 4 6"}, {0.3, "0 0.1 0.2 0.3"}} {
		var got []string
		for _, tick := range xAxis(tt.to).ticks(short) {
			got = append(got, tick.Text)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("axis to %g: %v, want %s", tt.to, got, tt.want)
		}
	}
}

func TestTurnMarksTheWordsOfItsFindings(t *testing.T) {
	l := line{Leg: "caller", StartS: 2, EndS: 6, Text: "please read me the code now"}
	turn := newTurn(l, []Found{
		{Leg: "caller", EndS: 5, Words: "read me the code"},
		{Leg: "caller", EndS: 5, Words: "the code now", MutedBy: "reported"},
		{Leg: "caller", EndS: 5, Words: "words that are not here"},
		{Leg: "callee", EndS: 5, Words: "please"},
		{Leg: "caller", EndS: 1, Words: "please"},
	})
	var got strings.Builder
	for _, p := range turn.Parts {
		switch {
		case p.Muted:
			got.WriteString("(" + p.Text + ")")
		case p.Marked:
			got.WriteString("[" + p.Text + "]")
		default:
			got.WriteString(p.Text)
		}
	}
	if want := "please [read me the code]( now)"; got.String() != want {
		t.Errorf("%s, want %s", got.String(), want)
	}
	if len(turn.Findings) != 3 {
		t.Errorf("%d findings, want the 3 that end in the turn", len(turn.Findings))
	}
}

func TestReportShowsWhatWentWrongAndNothingFromElsewhere(t *testing.T) {
	r := mustRun(t, textConfig(t), manifest(t, "testdata/calls.jsonl"))
	r.Version, r.Packs = "1.2.3", "built-in"
	before := r
	before.Items = append([]Row(nil), r.Items...)
	before.Items[2].Level, before.Items[2].AlertAtS = "warning", new(float64)
	before.Summary = Score(before.Items, Text, "warning")
	c := Compare(before, r)
	dir := filepath.Join(t.TempDir(), "new", "folder")
	if err := WriteReport(dir, r, &c); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, ReportName))
	if err != nil {
		t.Fatal(err)
	}
	html := string(b)
	section := func(id string) string {
		_, s, ok := strings.Cut(html, `<section class="card" id="`+id+`"`)
		if !ok {
			t.Fatalf("no section %q", id)
		}
		s, _, _ = strings.Cut(s, "</section>")
		return s
	}
	for id, want := range map[string][]string{
		"missed":  {"fraud-too-quiet", "number is # # # # # # #"},
		"false":   {"honest-mislabelled", "<mark>", "otp_request/", "points"},
		"against": {"fraud-too-quiet", "worse"},
		"tactics": {"gift_card_request", "otp_readback"},
		"curves":  {"Precision and recall", "False alarms against time to alert", "Time to alert", `class="now"`, `class="bar never"`},
	} {
		s := section(id)
		for _, w := range want {
			if !strings.Contains(s, w) {
				t.Errorf("section %s lacks %q", id, w)
			}
		}
	}
	if s := section("missed"); strings.Contains(s, "honest-") || strings.Contains(s, "fraud-code") {
		t.Error("a call that went right is among the missed")
	}
	for _, bad := range []string{"http:", "https:", "<script", "src=", "url(", "four one nine", "ZgotmplZ", "NaN", "%!"} {
		if strings.Contains(html, bad) {
			t.Errorf("the page has %q in it", bad)
		}
	}
}

func TestReportOfNothingIsAPage(t *testing.T) {
	dir := t.TempDir()
	if err := WriteReport(dir, Results{Mode: Audio, Summary: Score(nil, Audio, "warning"), Partial: true}, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, ReportName))
	if err != nil || !strings.Contains(string(b), "Partial results") {
		t.Errorf("%v: an empty partial run is not told", err)
	}
}

func TestResultsAreReadAsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	r := mustRun(t, textConfig(t), manifest(t, "testdata/calls.jsonl"))
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if c := Compare(got, r); len(c.Better)+len(c.Worse)+c.Only != 0 || *got.Summary.Recall != *r.Summary.Recall {
		t.Errorf("read back: %+v", c)
	}
	for name, text := range map[string]string{"cut": `{"items": [`, "other": `{"calls": 3}`} {
		bad := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(bad); err == nil || !strings.Contains(err.Error(), "no results") {
			t.Errorf("%s: %v, want that it is no results", name, err)
		}
	}
}
