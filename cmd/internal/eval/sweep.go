package eval

import (
	"math"
	"slices"
)

// sweepPoint is what the corpus would give if a score of Threshold alerted.
type sweepPoint struct {
	Threshold   float64
	Recall      float64 // NaN without frauds
	Precision   float64 // NaN without alerts
	FalsePer100 float64 // NaN without honest calls
	// Delay is the median time to alert in seconds, where a fraud that is
	// missed counts as never; +Inf where most are, NaN without timed frauds.
	Delay float64
}

const sweepStep = 0.1 // points

// sweep tries every threshold that any score crosses. Where a threshold
// changes nothing against the one before, it is left out.
func sweep(rows []Row) []sweepPoint {
	highest := 0.0
	for _, r := range rows {
		if n := len(r.Scores); n > 0 {
			highest = max(highest, r.Scores[n-1].Score)
		}
	}
	var points []sweepPoint
	for n := 1; float64(n)*sweepStep <= highest+sweepStep; n++ {
		p := alertingAt(rows, round(float64(n)*sweepStep, 3))
		if len(points) == 0 || !p.same(points[len(points)-1]) {
			points = append(points, p)
		}
	}
	return points
}

func alertingAt(rows []Row, threshold float64) sweepPoint {
	var frauds, honest, right, wrong float64
	var delays []float64
	for _, r := range rows {
		if r.Error != "" || r.Label != Scam && r.Label != Benign {
			continue
		}
		at, alerted := r.crosses(threshold)
		if r.Label == Benign {
			honest++
			if alerted {
				wrong++
			}
			continue
		}
		frauds++
		delay := math.Inf(1)
		if alerted {
			right++
			if r.actionable != nil {
				delay = max(0, at-*r.actionable)
			}
		}
		if r.actionable != nil {
			delays = append(delays, delay)
		}
	}
	p := sweepPoint{threshold, right / frauds, right / (right + wrong), 100 * wrong / honest, math.NaN()}
	if len(delays) > 0 {
		p.Delay = median(delays)
	}
	return p
}

// median sorts xs, of which there is at least one.
func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[(len(xs)-1)/2]
}

// crosses is when the row's score first reached threshold.
func (r Row) crosses(threshold float64) (at float64, ok bool) {
	for _, s := range r.Scores {
		if s.Score >= threshold {
			return s.AtS, true
		}
	}
	return 0, false
}

func (p sweepPoint) same(q sweepPoint) bool {
	eq := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
	return eq(p.Recall, q.Recall) && eq(p.Precision, q.Precision) && eq(p.FalsePer100, q.FalsePer100) && eq(p.Delay, q.Delay)
}
