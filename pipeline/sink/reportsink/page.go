package reportsink

import (
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors/risk"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

//go:embed report.html.tmpl index.html.tmpl parts.html.tmpl
var templates embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"css":    func() template.CSS { return template.CSS(css()) },
	"script": func() template.JS { return template.JS(script) },
	"policy": policy,
	"clock":  clock,
	"fine":   fineClock,
	"points": points,
	"join":   func(s []string) string { return strings.Join(s, ", ") },
}).ParseFS(templates, "*.tmpl"))

// policy forbids the page everything that is not in it.
func policy() string {
	sum := sha256.Sum256([]byte(script))
	return "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// page is a report as the template wants it.
type page struct {
	summary
	Mono     bool
	Advice   *callwardenv1.Advice
	Figures  []figure
	Banners  []banner
	Chart    chart
	Steps    []*levelStep
	Findings []*finding
	Rows     []row
	Turns    int
	Legs     []legRow
	Details  []detail
	Unmasked bool
}

type figure struct{ Label, Value, Note string }

type banner struct{ Kind, Title, Text string }

type detail struct{ Label, Value string }

type legRow struct{ Name, State, Heard, Lost, Reason string }

// finding is one finding as the template wants it.
type finding struct {
	h          *history
	N          int    // counts from 1 in the order of the words
	Href       string // where its words are
	leg        callwardenv1.Leg
	start, end time.Duration
}

func (f *finding) retracted() bool {
	return f.h.last.GetState() == callwardenv1.FindingState_FINDING_STATE_RETRACTED
}

func (f *finding) Label() string      { return tactic(f.h.last.GetTactic()).label }
func (f *finding) Tactic() string     { return f.h.last.GetTactic() }
func (f *finding) Words() string      { return f.h.last.GetWords() }
func (f *finding) Who() string        { return who(f.leg) }
func (f *finding) Stage() string      { return stageWord(f.h.last.GetStage()) }
func (f *finding) Rule() string       { return f.h.last.GetRule() }
func (f *finding) Pack() string       { return f.h.last.GetPack() }
func (f *finding) MutedBy() string    { return f.h.last.GetMutedBy() }
func (f *finding) Confidence() string { return percent(f.h.last.GetConfidence()) }
func (f *finding) Clock() string      { return fineClock(f.start) }
func (f *finding) Machine() string    { return machineTime(f.start) }
func (f *finding) Counts() bool       { return f.h.weighs() }
func (f *finding) Points() string     { return points(f.h.points) }

// State is provisional, confirmed, withdrawn or muted: what a reader must know
// before the words count.
func (f *finding) State() string {
	switch {
	case f.retracted():
		return "withdrawn"
	case f.MutedBy() != "":
		return "muted"
	case f.h.last.GetState() == callwardenv1.FindingState_FINDING_STATE_PROVISIONAL:
		return "provisional"
	}
	return "confirmed"
}

// Settled tells how long the finding was provisional; empty where it was not.
func (f *finding) Settled() string {
	if f.h.settled > f.h.known && f.h.first.GetState() == callwardenv1.FindingState_FINDING_STATE_PROVISIONAL {
		return "after " + span(f.h.settled-f.h.known)
	}
	return ""
}

// Class is of the style sheet: family of the tactic, stage and state.
func (f *finding) Class() string {
	c := "k-" + tactic(f.Tactic()).family + " is-" + f.State()
	if f.h.last.GetStage() == callwardenv1.Stage_STAGE_COMPLY {
		c += " complies"
	}
	return c
}

func (f *finding) Title() string {
	t := fmt.Sprintf("%d: %s %s at %s", f.N, strings.ToLower(f.Who()), f.Label(), clock(f.start))
	if s := f.State(); s != "confirmed" {
		t += " (" + s + ")"
	}
	return t
}

// levelStep is one change of level with what made it.
type levelStep struct {
	at            time.Duration
	ID            string
	Level         levelWord
	Previous      levelWord
	Rises         bool
	Score         string
	Advice        *callwardenv1.Advice
	Contributions []contribution
	Open          bool
}

func (s *levelStep) Clock() string   { return fineClock(s.at) }
func (s *levelStep) Machine() string { return machineTime(s.at) }

type contribution struct {
	Finding *finding // nil where the finding itself was not told
	Label   string
	Class   string
	Points  string
	Share   template.CSS // of the largest
	Why     string
}

func newPage(r Report, f *facts) *page {
	p := &page{summary: summarise(r, f), Unmasked: r.Unmasked}
	legs := f.legs(r.Waveforms)
	p.Mono = len(legs) == 1
	byID := make(map[string]*finding)
	for i, h := range f.inOrder() {
		fd := &finding{
			h: h, N: i + 1, Href: fmt.Sprintf("#f%d", i+1), leg: h.last.GetLeg(),
			start: h.last.GetStart().AsDuration(), end: h.last.GetEnd().AsDuration(),
		}
		p.Findings = append(p.Findings, fd)
		byID[h.last.GetId()] = fd
	}
	p.Steps = newSteps(f, byID)
	p.Advice = f.advice(p.Level)
	turns := newTurns(f, p.Findings)
	p.Turns = len(turns)
	p.Rows = newRows(turns, p.Steps)
	p.Chart = newChart(r, f, p.Findings, legs)
	p.Figures = figures(f, p)
	p.Banners = banners(f, p.Chart.Total)
	p.legs(f)
	p.details(r, f, legs)
	return p
}

// legs are those that the call says it has, or else those that were heard.
func (f *facts) legs(waves []Waveform) []callwardenv1.Leg {
	out := slices.Clone(f.started.GetLegs())
	if len(out) == 0 {
		for _, w := range waves {
			out = append(out, legOf(w.Leg))
		}
		for _, s := range f.segments {
			out = append(out, s.GetLeg())
		}
		for _, h := range f.findings {
			out = append(out, h.last.GetLeg())
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) == 0 {
		out = append(out, callwardenv1.Leg_LEG_UNSPECIFIED)
	}
	return out
}

func newSteps(f *facts, byID map[string]*finding) []*levelStep {
	var out []*levelStep
	for i, l := range f.levels {
		s := &levelStep{
			at: l.GetAt().AsDuration(), ID: fmt.Sprintf("l%d", i+1),
			Level: levelOf(l.GetLevel()), Previous: levelOf(l.GetPrevious()), Rises: l.GetLevel() > l.GetPrevious(),
			Score: points(l.GetScore()), Advice: l.GetAdvice(),
		}
		var largest float64
		for _, c := range l.GetContributions() {
			largest = max(largest, c.GetPoints())
		}
		for _, c := range l.GetContributions() {
			t := tactic(c.GetTactic())
			row := contribution{
				Finding: byID[c.GetFindingId()], Label: t.label, Class: "k-" + t.family,
				Points: points(c.GetPoints()), Why: c.GetWhy(), Share: "width:0%",
			}
			if c.GetFindingId() == risk.TalkID {
				row.Label, row.Class = "the talk as a whole", "k-other"
			}
			if largest > 0 {
				row.Share = style("width", 100*max(c.GetPoints(), 0)/largest)
			}
			s.Contributions = append(s.Contributions, row)
		}
		out = append(out, s)
	}
	// The page opens on what made the highest level.
	if len(out) > 0 {
		i := 0
		for k, l := range f.levels {
			if l.GetLevel() > f.levels[i].GetLevel() {
				i = k
			}
		}
		out[i].Open = true
	}
	return out
}

// advice is the last that was given at the highest level.
func (f *facts) advice(level levelWord) *callwardenv1.Advice {
	var best *callwardenv1.RiskLevel
	for _, l := range f.levels {
		if l.GetAdvice().GetText() != "" && (best == nil || l.GetLevel() >= best.GetLevel()) {
			best = l
		}
	}
	switch {
	case level.Class == unheardWord.Class:
	case best != nil:
		return best.GetAdvice()
	case level.Class == "none" && len(f.segments)+len(f.findings) == 0:
		return &callwardenv1.Advice{Text: "No words were recognised in this call, so there is nothing to judge.", Language: "en"}
	}
	return &callwardenv1.Advice{Text: ownAdvice(level), Language: "en"}
}

func figures(f *facts, p *page) []figure {
	out := []figure{{"Duration", p.Length(), ""}}
	warned, ok := f.reached(callwardenv1.Level_LEVEL_WARNING)
	switch {
	case ok:
		out = append(out, figure{"First warning", fineClock(warned), beforeCompliance(f, warned)})
	default:
		if at, ok := f.reached(callwardenv1.Level_LEVEL_NOTICE); ok {
			out = append(out, figure{"First notice", fineClock(at), "never a warning"})
		} else {
			out = append(out, figure{"First warning", "none", ""})
		}
	}
	out = append(out, figure{"Highest score", p.Score(), ""})
	var withdrawn, muted int
	for _, fd := range p.Findings {
		switch fd.State() {
		case "withdrawn":
			withdrawn++
		case "muted":
			muted++
		}
	}
	var notes []string
	if withdrawn > 0 {
		notes = append(notes, fmt.Sprintf("%d withdrawn", withdrawn))
	}
	if muted > 0 {
		notes = append(notes, fmt.Sprintf("%d muted", muted))
	}
	return append(out, figure{"Findings", fmt.Sprint(len(p.Findings)), strings.Join(notes, ", ")})
}

// beforeCompliance says whether the warning came in time.
func beforeCompliance(f *facts, warned time.Duration) string {
	for _, h := range f.inOrder() {
		if h.weighs() && h.last.GetStage() == callwardenv1.Stage_STAGE_COMPLY {
			if began := h.last.GetStart().AsDuration(); warned <= began {
				return span(began-warned) + " before compliance"
			}
			return "after compliance began"
		}
	}
	return ""
}

func banners(f *facts, total time.Duration) []banner {
	var out []banner
	to := clock(total)
	if of, err := time.ParseDuration(f.started.GetAttributes()["duration"]); err == nil && of > total {
		to += " of " + clock(of)
	}
	switch h := f.hearing(); {
	case h.unheard:
		out = append(out, banner{"bad", "Nothing was heard", cmp.Or(h.told(), "No audio of this call reached the recogniser.")})
	case h.partly:
		out = append(out, banner{"bad", "Not everything was heard", cmp.Or(h.told(), "Some audio of this call did not reach the recogniser.")})
	}
	switch reason := f.ended.GetReason(); {
	case f.ended == nil:
		out = append(out, banner{"part", "Partial report", "The end of this call was not seen. Heard up to " + to + "."})
	case reason == "cancelled":
		out = append(out, banner{"part", "Partial report", "Listening was stopped before the call was over. Heard up to " + to + "."})
	case reason != "end of audio" && reason != "":
		out = append(out, banner{"bad", "The call broke off", sentence(reason) + " Heard up to " + to + "."})
	}
	if w := f.started.GetAttributes()["warning"]; w != "" {
		out = append(out, banner{"part", "About the recording", sentence(w)})
	}
	if n := f.left; n != (left{}) {
		out = append(out, banner{
			"part", "This page leaves some out",
			fmt.Sprintf("%s and %s more than a page holds are in the events only.", count(n.segments, "turn", "turns"), count(n.findings, "finding", "findings")),
		})
	}
	return out
}

// told is what was lost, why, and of which leg.
func (h hearing) told() string {
	var out []string
	if h.reason != "" {
		out = append(out, sentence(h.reason))
	}
	for _, l := range h.legs {
		var what []string
		if bad(l.GetHearing()) {
			what = append(what, hearingWord(l.GetHearing()))
		}
		if d := l.GetDropped().AsDuration(); d > 0 {
			what = append(what, span(d)+" lost of "+span(d+l.GetHeard().AsDuration()))
		}
		if l.GetReason() != "" && l.GetReason() != h.reason {
			what = append(what, l.GetReason())
		}
		if len(what) > 0 {
			out = append(out, sentence(who(l.GetLeg())+": "+strings.Join(what, ", ")))
		}
	}
	return strings.Join(out, " ")
}

// sentence makes one out of an error text.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	if r := s[0]; 'a' <= r && r <= 'z' {
		s = string(r-'a'+'A') + s[1:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func (p *page) legs(f *facts) {
	for _, l := range f.hearing().legs {
		name := who(l.GetLeg())
		if l.GetLeg() == callwardenv1.Leg_LEG_UNSPECIFIED {
			name = "One channel"
		}
		lost := "nothing"
		if d := l.GetDropped().AsDuration(); d > 0 {
			lost = span(d)
		}
		p.Legs = append(p.Legs, legRow{name, hearingWord(l.GetHearing()), span(l.GetHeard().AsDuration()), lost, l.GetReason()})
	}
}

func (p *page) details(r Report, f *facts, legs []callwardenv1.Leg) {
	add := func(label, value string) {
		if value != "" {
			p.Details = append(p.Details, detail{label, value})
		}
	}
	add("Call", r.Call)
	add("Tenant", r.Tenant)
	if t := f.started.GetBegan(); t != nil {
		add("Began", t.AsTime().UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	add("Way in", f.started.GetContext().GetSource())
	add("Recogniser", f.started.GetBackend())
	add("Model", f.started.GetModel())
	switch l := f.started.GetListen(); l {
	case "full":
		add("Listening", "full: every word is transcribed")
	case "screen":
		add("Listening", "screen: phrases first, every word where they give reason")
	default:
		add("Listening", l)
	}
	if len(legs) == 1 && legs[0] == callwardenv1.Leg_LEG_UNSPECIFIED {
		add("Legs", "one channel, speakers not told apart")
	} else {
		var names []string
		for _, l := range legs {
			names = append(names, strings.ToLower(who(l)))
		}
		add("Legs", strings.Join(names, ", "))
	}
	add("Ended", f.ended.GetReason())
	attributes := f.started.GetAttributes()
	for _, k := range slices.Sorted(maps.Keys(attributes)) {
		if k != "warning" {
			add(strings.ReplaceAll(k, "_", " "), attributes[k])
		}
	}
	packs := make(map[string]bool)
	for _, fd := range p.Findings {
		if fd.Pack() != "" {
			packs[fd.Pack()] = true
		}
	}
	add("Packs that matched", strings.Join(slices.Sorted(maps.Keys(packs)), ", "))
}

// title is what a person calls the call: its file, or else its id.
func title(call string, f *facts) string {
	file := strings.ReplaceAll(f.started.GetAttributes()["file"], `\`, "/")
	if base := path.Base(file); base != "." && base != "/" {
		return base
	}
	return cmp.Or(call, "unnamed call")
}
