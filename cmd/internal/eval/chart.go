package eval

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// plot is a chart as the template draws it: a curve or bars, with ticks on
// both axes, in a box of plotW by plotH with room for labels around it.
type plot struct {
	Title, Caption string
	XLabel, YLabel string
	Path           string // of the curve; empty without
	Dots           []dot
	Bars           []bar
	XTicks, YTicks []tick
}

type dot struct {
	X, Y  string
	Title string
	Class string // "now" for where the run itself stands
	Text  string // beside the dot
}

type bar struct {
	X, Y, W, H string
	Title      string
	Class      string
}

type tick struct{ At, Text string }

const (
	plotLeft, plotTop = 46.0, 12.0
	plotW, plotH      = 400.0, 230.0
)

// axis maps values to the drawing.
type axis struct{ from, to, origin, length float64 }

func xAxis(to float64) axis { return axis{0, to, plotLeft, plotW} }
func yAxis(to float64) axis { return axis{0, to, plotTop + plotH, -plotH} }

func (a axis) at(v float64) float64 {
	return a.origin + a.length*min(1, max(0, (v-a.from)/(a.to-a.from)))
}

func (a axis) ticks(format func(float64) string) []tick {
	step := niceStep((a.to - a.from) / 5)
	var out []tick
	for i := 0; ; i++ {
		v := a.from + float64(i)*step
		if v > a.to*1.0001 {
			return out
		}
		out = append(out, tick{px(a.at(v)), format(v)})
	}
}

// niceStep is the smallest of 1, 2, 5 times a power of ten that is not below v.
func niceStep(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= v*0.999 {
			return m * power
		}
	}
	return 10 * power
}

func px(v float64) string    { return strconv.FormatFloat(round(v, 1), 'f', -1, 64) }
func short(v float64) string { return strconv.FormatFloat(round(v, 2), 'f', -1, 64) }
func asPercent(v float64) string {
	return short(100*v) + " %"
}

// curve draws points in order; x and y tell where each stands, or NaN where it
// is not on the chart.
func (p *plot) curve(points []sweepPoint, x, y axis, of func(sweepPoint) (float64, float64)) {
	var path strings.Builder
	for _, pt := range points {
		vx, vy := of(pt)
		if math.IsNaN(vx) || math.IsNaN(vy) || math.IsInf(vx, 0) || math.IsInf(vy, 0) {
			continue
		}
		move := "L"
		if path.Len() == 0 {
			move = "M"
		}
		cx, cy := px(x.at(vx)), px(y.at(vy))
		fmt.Fprintf(&path, "%s%s %s", move, cx, cy)
		p.Dots = append(p.Dots, dot{X: cx, Y: cy, Title: pt.String()})
	}
	p.Path = path.String()
}

func (p sweepPoint) String() string {
	s := fmt.Sprintf("alert from %s points on:", short(p.Threshold))
	for _, f := range []struct {
		v      float64
		format string
		scale  float64
	}{
		{p.Recall, " recall %s %%,", 100},
		{p.Precision, " precision %s %%,", 100},
		{p.FalsePer100, " %s false per 100,", 1},
		{p.Delay, " median %s s to the alert,", 1},
	} {
		if !math.IsNaN(f.v) && !math.IsInf(f.v, 0) {
			s += fmt.Sprintf(f.format, short(f.scale*f.v))
		}
	}
	return strings.TrimRight(s, ",:")
}

// now marks where the run itself stands.
func (p *plot) now(x, y axis, vx, vy *float64, text string) {
	if vx != nil && vy != nil {
		p.Dots = append(p.Dots, dot{X: px(x.at(*vx)), Y: px(y.at(*vy)), Class: "now", Title: text, Text: "this run"})
	}
}

// precisionRecall is nil where there are not both kinds of calls.
func precisionRecall(points []sweepPoint, s Summary) *plot {
	if s.Scam == 0 || s.Benign == 0 {
		return nil
	}
	x, y := xAxis(1), yAxis(1)
	p := &plot{
		Title: "Precision and recall", XLabel: "recall", YLabel: "precision",
		Caption: "Each point is another score from which on a call would be alerted.",
		XTicks:  x.ticks(asPercent), YTicks: y.ticks(asPercent),
	}
	p.curve(points, x, y, func(pt sweepPoint) (float64, float64) { return pt.Recall, pt.Precision })
	p.now(x, y, s.Recall, s.Precision, "this run, alerting at "+s.AlertLevel)
	return p
}

// falseAgainstDelay is nil where there are no honest calls, or no frauds of
// which it is known when they become plain.
func falseAgainstDelay(points []sweepPoint, rows []Row, s Summary) *plot {
	longest, most := 0.0, 0.0
	for _, pt := range points {
		if !math.IsNaN(pt.Delay) && !math.IsInf(pt.Delay, 0) {
			longest, most = max(longest, pt.Delay), max(most, pt.FalsePer100)
		}
	}
	if s.Benign == 0 || longest == 0 {
		return nil
	}
	x, y := xAxis(roundUp(longest)), yAxis(max(1, roundUp(most)))
	p := &plot{
		Title: "False alarms against time to alert", XLabel: "median time to alert, s", YLabel: "false alarms per 100 honest calls",
		Caption: "From the first turn that could be acted on. A missed fraud counts as never, so the curve ends where half are missed.",
		XTicks:  x.ticks(short), YTicks: y.ticks(short),
	}
	p.curve(points, x, y, func(pt sweepPoint) (float64, float64) { return pt.Delay, pt.FalsePer100 })
	var all []float64
	for _, r := range rows {
		switch {
		case r.Label != Scam || r.Error != "" || r.actionable == nil:
		case r.DelayS != nil:
			all = append(all, *r.DelayS)
		default:
			all = append(all, math.Inf(1))
		}
	}
	if m := median(all); !math.IsInf(m, 1) {
		p.now(x, y, &m, s.FalsePer100, "this run, alerting at "+s.AlertLevel)
	}
	return p
}

// roundUp is v or a little more, a whole number of steps of its axis.
func roundUp(v float64) float64 {
	step := niceStep(v / 5)
	return step * math.Ceil(v/step-0.001)
}

const maxBins = 20

// delays is the distribution of the time to alert; nil of nothing.
func delays(rows []Row) *plot {
	var all []float64
	never := 0
	for _, r := range rows {
		switch {
		case r.Label != Scam || r.Error != "" || r.actionable == nil:
		case r.DelayS != nil:
			all = append(all, *r.DelayS)
		default:
			never++
		}
	}
	if len(all) == 0 {
		return nil
	}
	longest := 0.0
	for _, d := range all {
		longest = max(longest, d)
	}
	step := max(1, niceStep(longest/maxBins))
	bins := make([]int, int(longest/step)+1)
	for _, d := range all {
		bins[int(d/step)]++
	}
	most := never
	for _, n := range bins {
		most = max(most, n)
	}
	x, y := xAxis(step*float64(len(bins)+2)), yAxis(roundUp(float64(most)))
	p := &plot{
		Title: "Time to alert", XLabel: "seconds from the first turn that could be acted on", YLabel: "frauds",
		Caption: fmt.Sprintf("%d alerted, %d never.", len(all), never), YTicks: y.ticks(short),
	}
	add := func(i, n int, class, title string) {
		from, to := x.at(step*float64(i))+1, x.at(step*float64(i+1))-1
		top := y.at(float64(n))
		p.Bars = append(p.Bars, bar{px(from), px(top), px(to - from), px(plotTop + plotH - top), title, class})
	}
	for i, n := range bins {
		add(i, n, "", fmt.Sprintf("%s to %s s: %d", short(step*float64(i)), short(step*float64(i+1)), n))
	}
	for _, t := range x.ticks(short) {
		if v, err := strconv.ParseFloat(t.Text, 64); err == nil && v <= step*float64(len(bins)) {
			p.XTicks = append(p.XTicks, t)
		}
	}
	add(len(bins)+1, never, "never", fmt.Sprintf("never: %d", never))
	p.XTicks = append(p.XTicks, tick{px(x.at(step * (float64(len(bins)) + 1.5))), "never"})
	return p
}
