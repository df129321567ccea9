package load

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"os"
	"strconv"
	"strings"
)

//go:embed page.html.tmpl
var pageTemplate string

// WritePage writes a page with the figures and their curves. It needs nothing
// beside it.
func (r *Results) WritePage(name string) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"percent": func(v float64) string { return strconv.FormatFloat(100*v, 'f', 0, 64) },
		"charts":  charts,
		"times":   func(v float64) float64 { return 2 * v },
	}).Parse(pageTemplate)
	if err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := t.Execute(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// chart is one drawing: a curve for each way over the calls at once.
type chart struct {
	Title  string
	Unit   string
	Curves []curve
	XTicks []mark
	YTicks []mark
	Limit  string // y of a line that is not to be passed; empty without
}

type curve struct {
	Name, Class, Points string
	Dots                []dot
	X, Y                string // of its name
}

type dot struct {
	X, Y, Title string
	Held        bool
}

type mark struct{ At, Text string }

const chartLeft, chartTop, chartWidth, chartHeight = 52.0, 14.0, 460.0, 220.0

// charts are the curves of all ways.
func charts(r *Results) []chart {
	figures := []struct {
		title, unit string
		of          func(*Step) (float64, bool)
		limit       float64
	}{
		{"How late audio is decoded, 95th percentile", "ms", func(s *Step) (float64, bool) { return s.LagP95MS, true }, r.LagLimitMS},
		{"Processor time", "cores", func(s *Step) (float64, bool) { return s.CPU, true }, 0},
		{"From the end of the words to the event, 95th percentile", "ms", func(s *Step) (float64, bool) {
			if s.Delay == nil {
				return 0, false
			}
			return s.Delay.P95, true
		}, 0},
		{"Memory", "MB", func(s *Step) (float64, bool) { return s.MemoryMB, true }, 0},
	}
	var out []chart
	for _, f := range figures {
		c := chart{Title: f.title, Unit: f.unit}
		mostX, mostY := 1.0, f.limit*1.5
		for _, w := range r.Ways {
			for _, s := range w.Steps {
				v, ok := f.of(s)
				mostX = max(mostX, float64(s.Calls))
				if ok && (f.limit == 0 || v < 4*f.limit) { // beyond, the curve leaves the drawing
					mostY = max(mostY, v)
				}
			}
		}
		mostY = max(mostY*1.05, 1e-3)
		x := func(v float64) float64 { return chartLeft + chartWidth*v/mostX }
		y := func(v float64) float64 { return chartTop + chartHeight*(1-min(v/mostY, 1.04)) }
		for i, w := range r.Ways {
			k := curve{Name: w.Listen, Class: "way" + strconv.Itoa(i%3)}
			var points []string
			for _, s := range byCalls(w.Steps) {
				v, ok := f.of(s)
				if !ok {
					continue
				}
				d := dot{X: px(x(float64(s.Calls))), Y: px(y(v)), Held: s.Held}
				d.Title = fmt.Sprintf("%s, %d calls: %.4g %s", w.Listen, s.Calls, v, f.unit)
				k.Dots = append(k.Dots, d)
				points = append(points, d.X+","+d.Y)
				k.X, k.Y = px(x(float64(s.Calls))+6), px(y(v)-6)
			}
			k.Points = strings.Join(points, " ")
			if len(k.Dots) > 0 {
				c.Curves = append(c.Curves, k)
			}
		}
		if len(c.Curves) == 0 {
			continue
		}
		for _, v := range steps(mostX, 1) {
			c.XTicks = append(c.XTicks, mark{px(x(v)), strconv.FormatFloat(v, 'g', 4, 64)})
		}
		for _, v := range steps(mostY, 0) {
			c.YTicks = append(c.YTicks, mark{px(y(v)), strconv.FormatFloat(v, 'g', 4, 64)})
		}
		if f.limit > 0 {
			c.Limit = px(y(f.limit))
		}
		out = append(out, c)
	}
	return out
}

// byCalls are the steps in the order of their calls; a run goes back and forth.
func byCalls(steps []*Step) []*Step {
	sorted := append([]*Step(nil), steps...)
	for i := range sorted {
		for j := i; j > 0 && sorted[j].Calls < sorted[j-1].Calls; j-- {
			sorted[j], sorted[j-1] = sorted[j-1], sorted[j]
		}
	}
	return sorted
}

// steps are round values from 0 to most, about five, at least least apart.
func steps(most, least float64) (out []float64) {
	size := math.Pow(10, math.Floor(math.Log10(most/4)))
	for _, by := range []float64{5, 2} {
		if most/(size*by) >= 4 {
			size *= by
			break
		}
	}
	size = max(size, least)
	for i := 0; float64(i)*size <= most*1.0001; i++ {
		out = append(out, float64(i)*size)
	}
	return out
}

func px(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
