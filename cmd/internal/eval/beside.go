package eval

import "slices"

// Beside sets the results of several backends side by side.
type Beside struct {
	Names   []string
	Figures []BesideFigure
	Items   []BesideItem // that did not end alike for all
}

// BesideFigure is one figure of every backend; nil where nothing was scored.
type BesideFigure struct {
	Label  string
	Values []*float64
	Best   []bool // none where all are alike
}

// BesideItem is what became of one item with every backend.
type BesideItem struct {
	ID, Label string
	Outcomes  []string
	Best      []bool
}

// costs are compared between backends only: from day to day they are the
// machine's.
var costs = [...]figure{
	{"word_lag_p50", "Words after they were said, median, s", func(s Summary) *float64 { return s.WordLag.P50 }, true},
	{"word_lag_p90", "Words after they were said, 90 %, s", func(s Summary) *float64 { return s.WordLag.P90 }, true},
	{"cpu_per_audio_s", "CPU seconds of this process for a second of call", func(s Summary) *float64 { return perSecond(s.CPUS, s.AudioS) }, true},
	{"wall_per_audio_s", "Seconds that a second of call took", func(s Summary) *float64 { return perSecond(s.WallS, s.AudioS) }, true},
	{"failed", "Calls that were not heard", func(s Summary) *float64 { n := float64(s.Failed); return &n }, true},
}

func perSecond(s, audio float64) *float64 {
	if audio == 0 {
		return nil
	}
	v := round(s/audio, 4)
	return &v
}

// All are r and the results that it was compared with, in the order in which
// they were asked for.
func (r Results) All() []Results {
	return append([]Results{r}, r.ComparedWith...)
}

// NewBeside compares all runs, which must be of the same items.
func NewBeside(runs []Results) Beside {
	var b Beside
	for _, r := range runs {
		b.Names = append(b.Names, r.Name)
	}
	for _, f := range slices.Concat(figures[:], costs[:]) {
		row := BesideFigure{Label: f.label}
		scored := false
		for _, r := range runs {
			v := f.of(r.Summary)
			scored = scored || v != nil
			row.Values = append(row.Values, v)
		}
		if scored {
			row.Best = best(row.Values, f.atMost)
			b.Figures = append(b.Figures, row)
		}
	}
	b.items(runs)
	return b
}

// best marks the values that none is better than, unless they are all alike.
func best(values []*float64, atMost bool) []bool {
	marks := make([]bool, len(values))
	better := func(x, y float64) bool { return x != y && (x < y) == atMost }
	differ := false
	for i, v := range values {
		marks[i] = v != nil
		for _, w := range values {
			if v == nil || w == nil {
				continue
			}
			differ = differ || *v != *w
			marks[i] = marks[i] && !better(*w, *v)
		}
	}
	if !differ {
		clear(marks)
	}
	return marks
}

// items lists those of which one backend made more than another.
func (b *Beside) items(runs []Results) {
	rows := make([]map[string]Row, len(runs))
	for i, r := range runs {
		rows[i] = make(map[string]Row, len(r.Items))
		for _, row := range r.Items {
			rows[i][row.ID] = row
		}
	}
	for _, first := range runs[0].Items {
		it := BesideItem{ID: first.ID, Label: first.Label}
		var all []Row
		for i := range runs {
			row, ok := rows[i][first.ID]
			if !ok {
				break // a run that was interrupted
			}
			all = append(all, row)
			it.Outcomes = append(it.Outcomes, outcome(row))
		}
		if len(all) < len(runs) {
			continue
		}
		differ := false
		for _, row := range all {
			top := true
			for _, other := range all {
				d := change(row, other)
				differ, top = differ || d != 0, top && d <= 0
			}
			it.Best = append(it.Best, top)
		}
		if differ {
			b.Items = append(b.Items, it)
		}
	}
}
