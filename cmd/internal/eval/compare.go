package eval

import (
	"cmp"
	"fmt"
	"math"
)

// Comparison sets results against earlier ones.
type Comparison struct {
	Figures       []Pair
	Better, Worse []Move // of items that both have
	Only          int    // items that only one of the two has
}

// Pair is one figure, before and now; nil where nothing was scored.
type Pair struct {
	Label    string
	Old, New *float64
	// Better and Worse are both false where it stays or cannot be compared.
	Better, Worse bool
}

// Move is what became of one item.
type Move struct{ ID, Label, Was, Is string }

// Compare lists what got better and worse from before to now.
func Compare(before, now Results) Comparison {
	var c Comparison
	for _, f := range figures {
		p := Pair{Label: f.label, Old: f.of(before.Summary), New: f.of(now.Summary)}
		if p.Old == nil && p.New == nil {
			continue
		}
		if p.Old != nil && p.New != nil && *p.Old != *p.New {
			p.Better = (*p.New < *p.Old) == f.atMost
			p.Worse = !p.Better
		}
		c.Figures = append(c.Figures, p)
	}
	old := make(map[string]Row, len(before.Items))
	for _, row := range before.Items {
		old[row.ID] = row
	}
	for _, row := range now.Items {
		was, ok := old[row.ID]
		if !ok {
			c.Only++
			continue
		}
		delete(old, row.ID)
		m := Move{row.ID, row.Label, outcome(was), outcome(row)}
		switch d := change(was, row); {
		case d > 0:
			c.Better = append(c.Better, m)
		case d < 0:
			c.Worse = append(c.Worse, m)
		}
	}
	c.Only += len(old)
	return c
}

// later is how many seconds an alert must move to be worth telling: less than
// that is how words fall into utterances.
const later = 2.0

// change is above 0 where is went better than was, below where worse.
func change(was, is Row) int {
	if d := merit(is) - merit(was); d != 0 {
		return d
	}
	if was.DelayS == nil || is.DelayS == nil || math.Abs(*is.DelayS-*was.DelayS) < later {
		return 0
	}
	return cmp.Compare(*was.DelayS, *is.DelayS)
}

// merit orders the outcomes of items with one label.
func merit(r Row) int {
	reached := 0
	switch {
	case r.Error != "":
		return -3
	case r.AlertAtS != nil:
		reached = 2
	case r.Level != "none":
		reached = 1
	}
	switch r.Label {
	case Benign:
		return -reached
	case Scam:
		return reached
	case ScamHook:
		return min(reached, 1) // a notice is all that an opening must raise
	}
	return 0
}

// outcome is what became of an item, in words.
func outcome(r Row) string {
	switch {
	case r.Error != "":
		return "failed"
	case r.AlertAtS == nil && r.Level == "none":
		return "quiet"
	case r.AlertAtS == nil:
		return r.Level
	case r.DelayS != nil:
		return fmt.Sprintf("%s %.1f s after the first actionable turn", r.Level, *r.DelayS)
	}
	return fmt.Sprintf("%s at %.1f s", r.Level, *r.AlertAtS)
}
