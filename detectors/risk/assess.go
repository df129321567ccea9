package risk

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Sign is a finding and when it was first reported: from then on it fades.
type Sign struct {
	Finding detectors.Finding
	First   time.Duration // media clock

	kind kind // set by NewSign: looking it up costs more than all the rest
}

// NewSign returns the sign of a finding that was first reported at a time.
func NewSign(f detectors.Finding, first time.Duration) Sign {
	return Sign{Finding: f, First: first, kind: kindOf(f)}
}

// Contribution is one finding's share of a score.
type Contribution struct {
	FindingID string
	Tactic    string
	Points    float64 // after confidence, repetition, fading and caps; below 0 for protective speech
	Why       string  // what gave or limited the points
}

// Assessment is the risk of a call at one moment.
type Assessment struct {
	Score         float64 // the sum of the contributions
	Level         Level
	Contributions []Contribution // largest first; those without points are left out
}

// kind is the group of tactics that share a cap.
type kind uint8

const (
	soft kind = iota
	ask
	comply
	protective
	kinds
)

// kindOf goes by the tactic's usual stage: "say it is for a gift" instructs,
// yet secrecy alone is no ask. Compliance is compliance whatever the tactic: a
// card number read out is that stage of credential_request.
func kindOf(f detectors.Finding) kind {
	stage := f.Stage
	if t, ok := detectors.LookupTactic(f.Tactic); ok && stage != detectors.Comply && stage != detectors.Loss {
		stage = t.Stages[0]
	}
	switch stage {
	case detectors.Ask, detectors.Instruct:
		return ask
	case detectors.Comply, detectors.Loss:
		return comply
	case detectors.Protective:
		return protective
	}
	return soft
}

// share is a sign on its way to its points. Points are counted in hundredths,
// so that what is shown sums to what is shown.
type share struct {
	sign   int // index, for ties and for the order of output
	kind   kind
	leg    audio.Leg
	tactic string
	raw    float64
	points int
	why    string
}

// Assess scores signs at a time of the media clock. It is a pure function: the
// same signs, made by [NewSign], in the same order and the same opinion give the
// same assessment. Muted and retracted findings count nothing.
func Assess(cfg Config, signs []Sign, o detectors.Opinion, at time.Duration) Assessment {
	shares := weigh(cfg, signs, at)
	capTactics(cfg, shares)
	var sums [kinds]int
	pressed := cfg.Soft
	if i, ok := varied(shares); ok {
		pressed = cfg.Varied
		shares[i].why += ", with a story and more of the same side"
		// It has its points before the cap takes them: it explains the cap.
		s := shares[i]
		shares = slices.Insert(slices.Delete(shares, i, i+1), 0, s)
	}
	for k, limit := range [...]float64{soft: pressed, ask: cfg.Ask, comply: cfg.Comply} {
		sums[k] = capKind(shares, kind(k), hundredths(limit))
	}
	sums[protective] = protect(cfg, shares)
	sums[ask] += accompany(cfg, shares, sums)
	arm(cfg, shares, sums)

	var a Assessment
	total := 0
	slices.SortStableFunc(shares, func(x, y share) int { return cmp.Or(y.points-x.points, x.sign-y.sign) })
	for _, s := range shares {
		if s.points == 0 {
			continue
		}
		total += s.points
		f := signs[s.sign].Finding
		a.Contributions = append(a.Contributions, Contribution{f.ID, f.Tactic, float64(s.points) / 100, s.why})
	}
	a.Score = float64(total) / 100
	a.Level = cfg.level(a.Score)
	a.talk(cfg, o)
	return a
}

func (c Config) level(score float64) Level {
	switch {
	case score >= c.Critical:
		return Critical
	case score >= c.Warning:
		return Warning
	case score >= c.Notice:
		return Notice
	}
	return None
}

func hundredths(points float64) int { return int(math.Round(points * 100)) }

// weigh gives each sign its points before repetition and caps, in order.
func weigh(cfg Config, signs []Sign, at time.Duration) []share {
	shares := make([]share, 0, len(signs))
	for i, s := range signs {
		f := s.Finding
		if f.Muted != "" || f.State == detectors.Retracted || !(f.Weight > 0) {
			continue
		}
		sh := share{sign: i, kind: s.kind, leg: f.Leg, tactic: f.Tactic, raw: f.Weight}
		sh.why = fmt.Sprintf("%s: %.4g points", f.Stage, f.Weight)
		if f.Confidence < cfg.SureFrom {
			sh.raw *= 0.5 + 0.5*max(f.Confidence, 0)/cfg.SureFrom
			sh.why += fmt.Sprintf(", heard with confidence %.2f", f.Confidence)
		}
		if age := at - s.First - cfg.Hold; age > 0 && sh.kind != comply {
			sh.raw *= math.Exp2(-float64(age) / float64(cfg.HalfLife))
			sh.why += fmt.Sprintf(", faded for %v", age.Round(time.Second))
		}
		shares = append(shares, sh)
	}
	return shares
}

// capTactics lets the findings of each tactic count less and less, the
// strongest first, up to the cap of a tactic.
func capTactics(cfg Config, shares []share) {
	order := make([]int, len(shares))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case shares[a].raw > shares[b].raw:
			return -1
		case shares[a].raw < shares[b].raw:
			return 1
		}
		return 0
	})
	limits := [kinds]float64{soft: cfg.SoftTactic, ask: cfg.AskTactic, comply: cfg.ComplyTactic, protective: cfg.Protective}
	for n, i := range order {
		s := &shares[i]
		before, room := 0, hundredths(limits[s.kind])
		for _, j := range order[:n] {
			if shares[j].tactic == s.tactic {
				before++
				room -= shares[j].points
			}
		}
		s.points = hundredths(s.raw * math.Pow(cfg.Repeat, float64(before)))
		if before > 0 {
			s.why += fmt.Sprintf(", number %d of its tactic", before+1)
		}
		if s.points > room {
			s.points = room
			s.why += fmt.Sprintf(", capped at %.4g for the tactic", limits[s.kind])
		}
	}
}

// capKind scales the shares of a kind down to limit, the later of them first,
// and returns their sum.
func capKind(shares []share, k kind, limit int) int {
	sum := 0
	for i := range shares {
		s := &shares[i]
		if s.kind != k {
			continue
		}
		if sum+s.points > limit {
			s.points = limit - sum
			s.why += fmt.Sprintf(", capped at %.4g for its kind", float64(limit)/100)
		}
		sum += s.points
	}
	return sum
}

// accompany raises the strongest ask towards the warning level, for every
// different story and pressure that the same side brings with it, secrecy
// counting twice, and returns by how much. They are not independent: honest
// people ask for things, and are in a hurry, but few do both and want it kept
// quiet.
func accompany(cfg Config, shares []share, sums [kinds]int) int {
	missing := hundredths(cfg.Warning)
	for _, s := range sums {
		missing -= s
	}
	if missing <= 0 {
		return 0
	}
	const (
		most = 3   // of what counts
		from = 250 // hundredths: a hint of an ask gains nothing
	)
	var raised *share
	var with []string
	bonus := 0
	for i := range shares {
		s := &shares[i]
		if s.kind != ask || s.points < from {
			continue
		}
		company := companyOf(shares, s.leg)
		n := len(company)
		if slices.Contains(company, "secrecy") {
			n++
		}
		if b := min(n, most) * hundredths(cfg.Company); b > bonus {
			raised, with, bonus = s, company, b
		}
	}
	if raised == nil {
		return 0
	}
	bonus = min(bonus, missing)
	raised.points += bonus
	raised.why += fmt.Sprintf(", %.4g more beside %s", float64(bonus)/100, strings.Join(with, ", "))
	return bonus
}

// companyOf lists the soft tactics of a side that have half a point or more.
func companyOf(shares []share, side audio.Leg) []string {
	var list []string
	for i := range shares {
		s := &shares[i]
		if s.kind == soft && s.leg == side && s.points >= 50 && !slices.Contains(list, s.tactic) {
			list = append(list, s.tactic)
		}
	}
	return list
}

// varied reports whether one side plays three different soft tactics or more,
// a story, secrecy and something else, and which share is the secrecy. Honest
// callers have a story, or are in a hurry, or ask for discretion, and few have
// all of it.
func varied(shares []share) (secrecy int, ok bool) {
	for i := range shares {
		if shares[i].tactic != "secrecy" || shares[i].points <= 0 {
			continue
		}
		var others []string
		story := false
		for j := range shares {
			s := &shares[j]
			if s.kind == soft && s.points > 0 && s.leg == shares[i].leg && s.tactic != "secrecy" && !slices.Contains(others, s.tactic) {
				others = append(others, s.tactic)
				story = story || strings.HasPrefix(s.tactic, "lure_")
			}
		}
		if story && len(others) >= 2 {
			return i, true
		}
	}
	return 0, false
}

// protect turns protective shares negative and returns their sum. What a side
// advises takes from its own stories and pressure, never more than they have:
// a victim who quotes the bank's advice does not make the other side honest.
func protect(cfg Config, shares []share) int {
	left, sum := hundredths(cfg.Protective), 0
	for i := range shares {
		s := &shares[i]
		if s.kind != protective {
			continue
		}
		room := 0
		for j := range shares {
			o := &shares[j]
			if (o.kind == soft || (o.kind == protective && j < i)) && sameSide(o.leg, s.leg) {
				room += o.points
			}
		}
		s.points = -max(0, min(s.points, room, left))
		left += s.points
		sum += s.points
		s.why += ", takes from stories and pressure"
	}
	return sum
}

// sameSide reports whether two legs may be one side.
func sameSide(a, b audio.Leg) bool { return a == b || a == audio.Unknown || b == audio.Unknown }

// asked is the tactic that a compliance answers.
func asked(comply string) string {
	switch comply {
	case "otp_readback":
		return "otp_request"
	case "gift_card_readback":
		return "gift_card_request"
	case "remote_access_compliance":
		return "remote_access_request"
	}
	return "" // a card number is given to honest sellers too: it counts what it counts
}

// arm raises the first compliance after an ask to the critical level.
func arm(cfg Config, shares []share, sums [kinds]int) {
	missing := hundredths(cfg.Critical)
	for _, s := range sums {
		missing -= s
	}
	if missing <= 0 {
		return
	}
	for i := range shares {
		s := &shares[i]
		if s.kind != comply || s.points == 0 || asks(shares, asked(s.tactic)) < hundredths(cfg.ArmingAsk) {
			continue
		}
		s.points += missing
		s.why += ", compliance after an ask is critical"
		return
	}
}

// asks is the points of the asks of a tactic.
func asks(shares []share, tactic string) int {
	sum := 0
	for _, s := range shares {
		if s.kind == ask && s.tactic == tactic {
			sum += s.points
		}
	}
	return sum
}
