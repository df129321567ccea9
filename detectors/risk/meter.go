package risk

import (
	"math"
	"slices"
	"time"

	"github.com/callwarden/callwarden/detectors"
)

// Advice is what a person can do or say now.
type Advice struct {
	ID, Language, Text string
}

// Adviser finds the advice for a tactic at a level; without any it returns the
// zero Advice.
type Adviser func(tactic string, level Level) Advice

// maxSigns bounds what a meter remembers; what adds least to the score goes
// first. With repetition counting half each time, the tenth finding of a tactic
// is worth nothing already.
const maxSigns = 100

// Meter holds the risk of one call. It is used by one goroutine.
type Meter struct {
	cfg   Config
	signs []Sign
	at    time.Duration
	talk  detectors.Opinion
	now   Assessment
	peak  Peak
}

// Peak is the highest that a call has reached.
type Peak struct {
	Level Level
	Score float64
	At    time.Duration // when the score was reached first
}

// Change is what one finding did to a call's risk.
type Change struct {
	Points          float64 // what the finding adds now; 0 when it is muted or retracted
	Level, Previous Level   // equal when the level stays
	// Advice goes with Level, for the tactic that leads the score. It is zero
	// when the level stays or there is none for it.
	Advice Advice
}

// NewMeter returns the meter of a call of which nothing is known yet. A config
// that fails Validate is a wiring fault: NewMeter panics.
func NewMeter(cfg Config) *Meter {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	return &Meter{cfg: cfg}
}

// Observe takes a finding that is new or changed at a time of the media clock;
// a time before the last one counts as that. Provisional findings count as
// confirmed ones do; a retraction takes their points back, and the level may
// fall.
func (m *Meter) Observe(f detectors.Finding, at time.Duration) Change {
	m.at = max(m.at, at)
	m.put(f)
	c := m.assess(at)
	for _, s := range m.now.Contributions {
		if s.FindingID == f.ID {
			c.Points = s.Points
		}
	}
	return c
}

// Consider takes the opinion that a detector has of the call by now.
func (m *Meter) Consider(o detectors.Opinion, at time.Duration) Change {
	m.talk = o
	return m.assess(at)
}

func (m *Meter) assess(at time.Duration) Change {
	m.at = max(m.at, at)
	previous := m.now.Level
	m.now = Assess(m.cfg, m.signs, m.talk, m.at)
	if m.now.Score > m.peak.Score {
		m.peak.Score, m.peak.At = m.now.Score, m.at
	}
	m.peak.Level = max(m.peak.Level, m.now.Level)

	c := Change{Level: m.now.Level, Previous: previous}
	if c.Level != previous {
		c.Advice = m.advice()
	}
	return c
}

// put adds f or replaces its earlier state, which keeps its first time.
func (m *Meter) put(f detectors.Finding) {
	gone := f.Muted != "" || f.State == detectors.Retracted
	for i := range m.signs {
		if m.signs[i].Finding.ID == f.ID {
			if gone {
				m.signs = slices.Delete(m.signs, i, i+1)
			} else {
				m.signs[i] = NewSign(f, m.signs[i].First)
			}
			return
		}
	}
	if gone {
		return
	}
	if len(m.signs) == maxSigns {
		m.forgetLeast()
	}
	m.signs = append(m.signs, NewSign(f, m.at))
}

// forgetLeast drops the oldest sign that adds nothing, or else the one that
// adds least.
func (m *Meter) forgetLeast() {
	adds := func(s Sign) float64 {
		for _, c := range m.now.Contributions {
			if c.FindingID == s.Finding.ID {
				return math.Abs(c.Points)
			}
		}
		return 0
	}
	least := 0
	for i, s := range m.signs {
		if adds(s) < adds(m.signs[least]) {
			least = i
		}
	}
	m.signs = slices.Delete(m.signs, least, least+1)
}

// advice asks for the strongest tactic of the furthest kind first: what to do
// about a code that is being read out matters more than the story around it.
func (m *Meter) advice() Advice {
	if m.cfg.Advise == nil || m.now.Level == None {
		return Advice{}
	}
	for _, k := range [...]kind{comply, ask, soft} {
		for _, c := range m.now.Contributions {
			if kindOf(detectors.Finding{Tactic: c.Tactic}) != k {
				continue
			}
			if a := m.cfg.Advise(c.Tactic, m.now.Level); a.ID != "" {
				return a
			}
		}
	}
	return Advice{}
}

// Score is the score as of the last finding.
func (m *Meter) Score() float64 { return m.now.Score }

// Level is the level as of the last finding.
func (m *Meter) Level() Level { return m.now.Level }

// Contributions explain the score: they sum to it, the largest first. The
// slice belongs to the caller.
func (m *Meter) Contributions() []Contribution {
	return append([]Contribution(nil), m.now.Contributions...)
}

// Peak is the highest level and score so far.
func (m *Meter) Peak() Peak { return m.peak }
