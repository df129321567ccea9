package risk

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/callwarden/callwarden/detectors"
)

// TalkID is the finding id under which the opinion of the call as a whole
// stands among the contributions. Its tactic is empty.
const TalkID = "talk"

// lean is what an opinion of the call adds to findings that sum to found, or
// takes from them; both in hundredths. A call of which nothing is known adds
// nothing. It never silences what is worth a notice.
func (c Config) lean(o detectors.Opinion, found int) int {
	if o.Known == 0 {
		return 0
	}
	t := c.Talk
	even := t.Even * float64(o.Known) / (float64(o.Known) + t.Half)
	points := hundredths(min(t.Most, max(-t.Least, t.Points*(o.LogOdds-even))))
	switch {
	case points < 0:
		// From all above From, and from the rest what the opinion is worth,
		// never more than there is.
		above := max(0, found-hundredths(t.From))
		return max(points-above, min(0, hundredths(c.Notice)-found))
	case found < hundredths(c.Notice):
		return max(0, min(points, hundredths(t.Alone)-found))
	}
	// What is critical must have been said.
	return max(0, min(points, hundredths(c.Critical)-1-found))
}

// Score is the score of findings that sum to found beside an opinion. It is
// what calibration looks at; [Assess] says the same and explains it.
func (c Config) Score(found float64, o detectors.Opinion) float64 {
	f := hundredths(found)
	return float64(f+c.lean(o, f)) / 100
}

// talk adds the opinion's contribution to an assessment.
func (a *Assessment) talk(cfg Config, o detectors.Opinion) {
	found := hundredths(a.Score)
	points := cfg.lean(o, found)
	if points == 0 {
		return
	}
	words, like := o.For[:], "frauds"
	if points < 0 {
		words, like = o.Against[:], "honest calls"
	}
	var named []string
	for _, w := range words {
		if w != "" {
			named = append(named, fmt.Sprintf("%q", w))
		}
	}
	why := fmt.Sprintf("the talk as a whole is more like that of %s", like)
	if len(named) > 0 {
		why += ": " + strings.Join(named, ", ")
	}
	c := Contribution{FindingID: TalkID, Points: float64(points) / 100, Why: why}
	at := 0
	for at < len(a.Contributions) && a.Contributions[at].Points >= c.Points {
		at++
	}
	a.Contributions = slices.Insert(a.Contributions, at, c)
	a.Score = float64(found+points) / 100
	a.Level = cfg.level(math.Max(0, a.Score))
}
