package dialogue

import (
	"slices"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
)

// A weak sign of an ask ("open the browser", "share your screen") is said in
// many honest calls. It is kept back until signs of its tactic, of different
// patterns, weigh tellingPoints together, and is told then with the others.
const tellingPoints = armPoints

// weakSign reports whether p, found by itself, is told of later only.
func weakSign(p *phrase.Pattern) bool {
	return p != nil && p.Points > 0 && p.Points < tellingPoints && (p.Stage == detectors.Ask || p.Stage == detectors.Instruct)
}

// faint reports whether p and the signs that are kept back are too little yet
// to be told.
func (d *Detector) faint(p *phrase.Pattern) bool {
	if !weakSign(p) || slices.Contains(d.known, p.Tactic) {
		return false
	}
	sum := p.Points
	for i := range d.kept {
		k := &d.kept[i]
		repeated := k.pattern == p || slices.ContainsFunc(d.kept[:i], func(o waiting) bool { return o.pattern == k.pattern })
		if k.pattern.Tactic == p.Tactic && !repeated {
			sum += k.pattern.Points
		}
	}
	return sum < tellingPoints
}

// tell publishes what is kept back of a tactic: it goes on in this call.
func (d *Detector) tell(tactic string) {
	if slices.Contains(d.known, tactic) {
		return
	}
	d.known = append(d.known, tactic)
	for i := 0; i < len(d.kept); i++ {
		if k := d.kept[i]; k.pattern.Tactic == tactic {
			d.kept = slices.Delete(d.kept, i, i+1)
			i--
			d.end(k.id, k.finding, detectors.Confirmed)
		}
	}
}
