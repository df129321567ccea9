package reportsink

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// The drawings stretch with the page: x runs from 0 to chartWidth over the
// whole call, and the style sheet gives the height. Text stands in HTML beside
// them, placed in percent, so that it never stretches.
const (
	chartWidth = 1000
	laneHeight = 60
	riskHeight = 100
	columns    = 900 // of a waveform: a little finer than a wide page shows
	minBand    = 3   // of chartWidth: what can still be seen and hit
	flagRoom   = 5.8 // percent of the width between flags in one row: a flag on a phone
	flagRows   = 4
)

type chart struct {
	Total     time.Duration
	Lanes     []lane
	Flags     []pin
	FlagRows  int
	RiskLine  string
	RiskAreas []area
	Limits    []limit
	Dots      []dot
	Strip     []stretch
	Ticks     []tick
	Steps     string // "ms:score;…" for the read-out under the pointer
	Summary   string
}

type lane struct {
	Name     string
	Waveform bool
	Path     string
	Bands    []band
	Losses   []loss
}

type band struct {
	N           int
	X, W        string
	Class, Href string
	Title       string
}

type loss struct {
	X, W  string
	Title string
}

type pin struct {
	N     int
	Left  template.CSS
	Row   int
	Class string
	Href  string
	Title string
	More  int // findings beside it that found no room
}

type area struct{ X, Y, W, H, Class string }

type limit struct {
	Class, Name string
	Top         template.CSS
	Points      string
}

type dot struct {
	Left, Top template.CSS
	Class     string
	Title     string
}

// stretch is a time with one level.
type stretch struct {
	Class, Name string
	Left, Width template.CSS
	Title       string
	Wide, Roomy bool // has room for its name: on a wide page, on any
}

type tick struct {
	Left  template.CSS
	Label string
	Last  bool // its label would stick out at the right
}

// axis turns times into places.
type axis struct{ total time.Duration }

func (a axis) frac(d time.Duration) float64 {
	if a.total <= 0 {
		return 0
	}
	return min(max(float64(d)/float64(a.total), 0), 1)
}

func (a axis) x(d time.Duration) float64         { return a.frac(d) * chartWidth }
func (a axis) left(d time.Duration) template.CSS { return style("left", 100*a.frac(d)) }
func (a axis) width(from, to time.Duration) template.CSS {
	return style("width", 100*(a.frac(to)-a.frac(from)))
}
func (a axis) wide(from, to time.Duration, f float64) bool { return a.frac(to)-a.frac(from) >= f }

func newChart(r Report, f *facts, findings []*finding, legs []callwardenv1.Leg) chart {
	total := f.duration(r.Waveforms)
	a := axis{total}
	c := chart{Total: total}
	loudest := loudness(r.Waveforms)
	for _, leg := range legs {
		c.Lanes = append(c.Lanes, newLane(a, leg, r.Waveforms, loudest, findings, f.statuses))
	}
	c.flags(a, findings)
	c.risk(a, f, r.Thresholds)
	c.strip(a, f)
	c.ticks(a)
	return c
}

// loudness is the peak that fills a lane: one that all but the loudest
// hundredth of the call stay below, so that one click does not flatten it, and
// line noise alone stays small.
func loudness(waves []Waveform) float64 {
	var all []int16
	for _, w := range waves {
		for _, p := range w.Peaks {
			if p > 64 { // silence would drag it down
				all = append(all, p)
			}
		}
	}
	if len(all) == 0 {
		return 1
	}
	slices.Sort(all)
	return float64(max(all[len(all)*99/100], 2000))
}

func newLane(a axis, leg callwardenv1.Leg, waves []Waveform, loudest float64, findings []*finding, statuses []*callwardenv1.CallStatus) lane {
	l := lane{Name: who(leg), Path: fmt.Sprintf("M0 %d H%d", laneHeight/2, chartWidth)}
	if leg == callwardenv1.Leg_LEG_UNSPECIFIED {
		l.Name = "Both voices on one channel"
	}
	for _, w := range waves {
		if legOf(w.Leg) == leg && len(w.Peaks) > 0 && w.Step > 0 {
			l.Path, l.Waveform = envelope(a, w, loudest), true
			break
		}
	}
	for _, f := range findings {
		if f.leg != leg && f.leg != callwardenv1.Leg_LEG_UNSPECIFIED {
			continue
		}
		x, to := a.x(f.start), a.x(f.end)
		if to-x < minBand {
			x, to = (x+to-minBand)/2, (x+to+minBand)/2
		}
		l.Bands = append(l.Bands, band{f.N, num(x), num(to - x), f.Class(), f.Href, f.Title()})
	}
	l.Losses = losses(a, leg, statuses)
	return l
}

// envelope is the outline of a waveform: upper side from left to right, lower
// side back.
func envelope(a axis, w Waveform, loudest float64) string {
	n := min(columns, len(w.Peaks))
	width := a.frac(w.Duration()) * chartWidth
	const mid, room, floor = laneHeight / 2.0, laneHeight/2.0 - 2, 0.4
	heights := make([]float64, n)
	for i := range heights {
		peak := slices.Max(w.Peaks[i*len(w.Peaks)/n : max((i+1)*len(w.Peaks)/n, i*len(w.Peaks)/n+1)])
		// The ear is nearer to a root than to a line.
		heights[i] = floor + (room-floor)*math.Pow(min(float64(max(peak, 0))/loudest, 1), 0.7)
	}
	var b strings.Builder
	at := func(i int) string { return num(width * (float64(i) + 0.5) / float64(n)) }
	b.WriteString("M0 " + num(mid))
	for i := range n {
		b.WriteString("L" + at(i) + " " + num(mid-heights[i]))
	}
	b.WriteString("L" + num(width) + " " + num(mid))
	for i := n - 1; i >= 0; i-- {
		b.WriteString("L" + at(i) + " " + num(mid+heights[i]))
	}
	b.WriteString("Z")
	return b.String()
}

// losses are the times in which a leg was badly heard: from the status that
// says so to the next, or to the end.
func losses(a axis, leg callwardenv1.Leg, statuses []*callwardenv1.CallStatus) []loss {
	var out []loss
	for i, s := range statuses {
		h := s.GetHearing()
		for _, l := range s.GetLegs() {
			if l.GetLeg() == leg {
				h = l.GetHearing()
			}
		}
		if h != callwardenv1.Hearing_HEARING_DEAF && h != callwardenv1.Hearing_HEARING_NOT_MONITORED {
			continue
		}
		from, to := s.GetAt().AsDuration(), a.total
		if i+1 < len(statuses) {
			to = statuses[i+1].GetAt().AsDuration()
		}
		out = append(out, loss{
			num(a.x(from)), num(max(a.x(to)-a.x(from), minBand)),
			"not heard from " + clock(from) + " to " + clock(to),
		})
	}
	return out
}

// flags places the numbers of the findings in rows, each in the first row with
// room for it; what finds none is told by the flag before it.
func (c *chart) flags(a axis, findings []*finding) {
	var ends [flagRows]float64
	for i := range ends {
		ends[i] = -100
	}
	for _, f := range findings {
		left := 100 * a.frac((f.start+f.end)/2)
		row := slices.IndexFunc(ends[:], func(e float64) bool { return left-e >= flagRoom })
		if row < 0 {
			c.Flags[len(c.Flags)-1].More++
			continue
		}
		ends[row] = left
		c.FlagRows = max(c.FlagRows, row+1)
		// The outermost flags stay inside the drawing.
		c.Flags = append(c.Flags, pin{N: f.N, Left: style("left", min(max(left, 0.9), 99.1)), Row: row, Class: f.Class(), Href: f.Href, Title: f.Title()})
	}
}

// risk draws the score as it was told: it stands from one event to the next.
func (c *chart) risk(a axis, f *facts, t Thresholds) {
	_, top := f.peak()
	top = max(1.12*top, 1.3*max(t.Critical, t.Warning, t.Notice), 1)
	y := func(score float64) float64 { return riskHeight * (1 - min(max(score/top, 0), 1)) }
	for _, l := range []struct {
		at    float64
		level callwardenv1.Level
	}{{t.Notice, callwardenv1.Level_LEVEL_NOTICE}, {t.Warning, callwardenv1.Level_LEVEL_WARNING}, {t.Critical, callwardenv1.Level_LEVEL_CRITICAL}} {
		if l.at > 0 {
			w := levelOf(l.level)
			c.Limits = append(c.Limits, limit{w.Class, w.Name, style("top", y(l.at)), points(l.at)})
		}
	}
	samples := slices.Clone(f.scores)
	slices.SortStableFunc(samples, func(p, q sample) int { return int(min(max(p.at-q.at, -1), 1)) })
	now := sample{level: callwardenv1.Level_LEVEL_NONE}
	line, steps := "M0 "+num(y(0)), "0:0"
	stand := func(until time.Duration) {
		line += "H" + num(a.x(until))
		if w := a.x(until) - a.x(now.at); w > 0 && now.score > 0 {
			c.RiskAreas = append(c.RiskAreas, area{num(a.x(now.at)), num(y(now.score)), num(w), num(riskHeight - y(now.score)), levelOf(now.level).Class})
		}
	}
	for _, s := range samples {
		stand(s.at)
		line += "V" + num(y(s.score))
		steps += fmt.Sprintf(";%d:%s", s.at.Milliseconds(), num(s.score))
		now = s
	}
	stand(a.total)
	c.RiskLine, c.Steps = line, steps
	for _, l := range f.levels {
		w, at := levelOf(l.GetLevel()), l.GetAt().AsDuration()
		c.Dots = append(c.Dots, dot{
			a.left(at), style("top", y(l.GetScore())), w.Class,
			fmt.Sprintf("%s at %s, score %s", w.Name, fineClock(at), points(l.GetScore())),
		})
	}
}

// strip is which level held when.
func (c *chart) strip(a axis, f *facts) {
	from, word := time.Duration(0), levelOf(callwardenv1.Level_LEVEL_NONE)
	var said []string
	until := func(to time.Duration) {
		if to > from {
			c.Strip = append(c.Strip, stretch{
				word.Class, word.Name, a.left(from), a.width(from, to),
				word.Name + " from " + fineClock(from) + " to " + fineClock(to), a.wide(from, to, 0.09), a.wide(from, to, 0.25),
			})
		}
	}
	for _, l := range f.levels {
		at := l.GetAt().AsDuration()
		until(at)
		from, word = at, levelOf(l.GetLevel())
		said = append(said, strings.ToLower(word.Name)+" at "+clock(at))
	}
	until(a.total)
	switch {
	case len(said) == 0:
		c.Summary = "The level did not change."
	case len(said) > 8:
		c.Summary = fmt.Sprintf("The level changed %d times.", len(said))
	default:
		c.Summary = "Level: " + strings.Join(said, ", ") + "."
	}
}

func (c *chart) ticks(a axis) {
	if a.total <= 0 {
		return
	}
	step := 12 * time.Hour
	for _, s := range []int{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200} {
		if d := time.Duration(s) * time.Second; a.total/d <= 10 {
			step = d
			break
		}
	}
	for d := time.Duration(0); d <= a.total && len(c.Ticks) < 100; d += step {
		c.Ticks = append(c.Ticks, tick{a.left(d), clock(d), a.frac(d) > 0.96})
	}
}

func legOf(l audio.Leg) callwardenv1.Leg {
	switch l {
	case audio.Caller:
		return callwardenv1.Leg_LEG_CALLER
	case audio.Callee:
		return callwardenv1.Leg_LEG_CALLEE
	}
	return callwardenv1.Leg_LEG_UNSPECIFIED
}
