package eval

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed report.html.tmpl style.css
var files embed.FS

var page = template.Must(template.New("").Funcs(template.FuncMap{
	"css": func() (template.CSS, error) {
		b, err := files.ReadFile("style.css")
		return template.CSS(b), err
	},
	"clock":  clock,
	"figure": func(v *float64) string { return orNone(v, -1) },
	"rate":   func(v *float64) string { return orNone(v, 2) },
	"short":  short,
	"join":   func(s []string) string { return strings.Join(s, ", ") },
}).ParseFS(files, "report.html.tmpl"))

// ReportName is the page that WriteReport writes.
const ReportName = "index.html"

// WriteReport writes one page that needs nothing else into dir, and one for
// each backend that r was compared with, linked to each other. against may be
// nil.
func WriteReport(dir string, r Results, against *Comparison) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	runs := r.All()
	var beside *besidePages
	if len(runs) > 1 {
		beside = &besidePages{Beside: NewBeside(runs)}
		for i := range runs {
			beside.Pages = append(beside.Pages, pageName(i))
		}
	}
	for i, run := range runs {
		p := newReport(run, nil)
		if i == 0 {
			p.Against = against
		}
		p.Beside = beside
		if err := writePage(filepath.Join(dir, pageName(i)), p); err != nil {
			return err
		}
	}
	return nil
}

// pageName is of the i-th backend.
func pageName(i int) string {
	if i == 0 {
		return ReportName
	}
	return fmt.Sprintf("backend-%d.html", i+1)
}

func writePage(path string, p report) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := page.ExecuteTemplate(f, "report.html.tmpl", p); err != nil {
		f.Close()
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return f.Close()
}

// besidePages are several backends and where the page of each is.
type besidePages struct {
	Beside
	Pages []string
}

// More is how many items the page leaves out.
func (b besidePages) More() int { return max(0, len(b.Items)-maxCalls) }

// Listed are the items that the page shows.
func (b besidePages) Listed() []BesideItem { return b.Items[:min(len(b.Items), maxCalls)] }

// report is the page as the template wants it.
type report struct {
	Results
	Figures []shown
	Charts  []*plot
	Tactics []tacticRow
	Calls   []section
	Failed  []Row
	Against *Comparison
	Beside  *besidePages
}

type shown struct{ Label, Value, Note string }

type tacticRow struct {
	Name string
	TacticScore
}

// section lists calls that went wrong in one way.
type section struct {
	ID, Title, Hint, None string
	Calls                 []call
	More                  int // that the page leaves out
}

// maxCalls of a section keeps a page one that a browser opens.
const maxCalls = 200

// call is one item with its transcript and explanation.
type call struct {
	Row
	Turns []heardTurn
	Said  []line
	Why   []reason
}

type heardTurn struct {
	line
	Parts    []part
	Findings []Found
}

// part is a stretch of a turn; Marked ones are the words of a finding.
type part struct {
	Text   string
	Marked bool
	Muted  bool
}

func newReport(r Results, against *Comparison) report {
	s := r.Summary
	points := sweep(r.Items)
	p := report{Results: r, Against: against}
	for _, c := range []*plot{precisionRecall(points, s), falseAgainstDelay(points, r.Items, s), delays(r.Items)} {
		if c != nil {
			p.Charts = append(p.Charts, c)
		}
	}
	p.figures(s)
	for _, name := range slices.Sorted(maps.Keys(s.PerTactic)) {
		p.Tactics = append(p.Tactics, tacticRow{name, s.PerTactic[name]})
	}
	var missed, unnoticed, wrong []Row
	for _, row := range r.Items {
		switch {
		case row.Error != "":
			p.Failed = append(p.Failed, row)
		case row.Label == Scam && row.AlertAtS == nil:
			missed = append(missed, row)
		case row.Label == ScamHook && row.Level == "none":
			unnoticed = append(unnoticed, row)
		case row.Label == Benign && row.AlertAtS != nil:
			wrong = append(wrong, row)
		}
	}
	slices.SortStableFunc(missed, func(a, b Row) int { return cmp.Compare(a.Score, b.Score) })
	slices.SortStableFunc(wrong, func(a, b Row) int { return cmp.Compare(b.Score, a.Score) })
	if s.Scam > 0 {
		p.add("missed", "Missed frauds", "Below "+s.AlertLevel+" to their end, the quietest first.", "None was missed.", missed)
	}
	if s.ScamHook > 0 {
		p.add("unnoticed", "Openings that raised nothing", "Not even a notice.", "Every opening raised a notice.", unnoticed)
	}
	if s.Benign > 0 {
		p.add("false", "False alarms", "Honest calls at "+s.AlertLevel+" or above, the worst first.", "No honest call was alarmed.", wrong)
	}
	return p
}

func (p *report) figures(s Summary) {
	add := func(label string, v *float64, format func(float64) string, note string, args ...any) {
		if v != nil {
			p.Figures = append(p.Figures, shown{label, format(*v), fmt.Sprintf(note, args...)})
		}
	}
	secs := func(v float64) string { return short(v) + " s" }
	add("Recall", s.Recall, asPercent, "%d of %d frauds at %s", s.TrueAlerts, s.Scam, s.AlertLevel)
	add("False alarms per 100", s.FalsePer100, short, "%d of %d honest calls", s.FalseAlarms, s.Benign)
	add("False alarms an hour", s.FalsePerHour, short, "of honest calls")
	add("Precision", s.Precision, asPercent, "%d of %d alerts", s.TrueAlerts, s.TrueAlerts+s.FalseAlarms)
	add("Openings noticed", s.HookRecall, asPercent, "of %d, at notice or above", s.ScamHook)
	add("Before compliance", s.BeforeCompliance, asPercent, "of frauds that end in it")
	if s.TimeToAlert.P90 != nil {
		add("Time to alert", s.TimeToAlert.P50, secs, "median; 90 %% within %s s", short(*s.TimeToAlert.P90))
	}
	add("Word error rate", s.WER.Rate, asPercent, "%d of %d words", s.WER.Errors, s.WER.Words)
	add("Codes detected", s.Digits.Rate, asPercent, "of %d; %d right", s.Digits.Codes, s.Digits.Right)
	add("Digit errors", s.Digits.DigitErrors, asPercent, "of the digits spoken")
}

func (p *report) add(id, title, hint, none string, rows []Row) {
	sec := section{ID: id, Title: title, Hint: hint, None: none}
	for i, row := range rows {
		if i == maxCalls {
			sec.More = len(rows) - maxCalls
			break
		}
		sec.Calls = append(sec.Calls, newCall(row))
	}
	p.Calls = append(p.Calls, sec)
}

func newCall(row Row) call {
	c := call{Row: row, Said: row.said, Why: row.why}
	for _, l := range row.heard {
		c.Turns = append(c.Turns, newTurn(l, row.Findings))
	}
	return c
}

// newTurn marks the words of the findings that end in l.
func newTurn(l line, findings []Found) heardTurn {
	t := heardTurn{line: l}
	type span struct {
		from, to int
		muted    bool
	}
	var spans []span
	for _, f := range findings {
		if f.Leg != l.Leg || f.EndS <= l.StartS || f.EndS > l.EndS+0.001 {
			continue
		}
		t.Findings = append(t.Findings, f)
		if i := strings.Index(l.Text, f.Words); i >= 0 && f.Words != "" {
			spans = append(spans, span{i, i + len(f.Words), f.MutedBy != "" || f.State == "retracted"})
		}
	}
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	at := 0
	for _, s := range spans {
		if s.to <= at {
			continue
		}
		from := max(s.from, at)
		t.Parts = append(t.Parts, part{Text: l.Text[at:from]}, part{l.Text[from:s.to], true, s.muted})
		at = s.to
	}
	t.Parts = append(t.Parts, part{Text: l.Text[at:]})
	return t
}

// clock writes seconds as people read a media time.
func clock(s float64) string {
	d := time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond)
	return fmt.Sprintf("%d:%04.1f", int(d.Minutes()), (d % time.Minute).Seconds())
}

// orNone writes a figure with so many decimals, -1 for up to three as needed.
func orNone(v *float64, decimals int) string {
	if v == nil {
		return "–"
	}
	return strconv.FormatFloat(round(*v, 3), 'f', decimals, 64)
}
