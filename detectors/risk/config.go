package risk

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Config says how findings become a score. Points are those of the tactic
// packs, where an ask that is plainly a fraud's has 6.
type Config struct {
	// The lowest score of each level.
	Notice   float64 `yaml:"notice"`
	Warning  float64 `yaml:"warning"`
	Critical float64 `yaml:"critical"`

	// A finding counts fully for Hold, then halves every HalfLife. Compliance
	// and loss do not fade: what was given stays given.
	Hold     time.Duration `yaml:"hold"`
	HalfLife time.Duration `yaml:"half_life"`

	// Repeat is what the second finding of a tactic counts of its points, the
	// third of that again, the strongest coming first.
	Repeat float64 `yaml:"repeat"`
	// SureFrom is the confidence from which a finding counts fully; one heard
	// with less loses up to half of its points.
	SureFrom float64 `yaml:"sure_from"`

	// What a single tactic, and what all tactics of a kind together, can add.
	// Soft are stories and pressure: their cap together is below Warning, so
	// that a call without an ask does not rise above a notice; unless one side
	// has a story, secrecy and a third of them, for which the cap is Varied.
	SoftTactic   float64 `yaml:"soft_tactic"`
	Soft         float64 `yaml:"soft"`
	Varied       float64 `yaml:"varied"`
	AskTactic    float64 `yaml:"ask_tactic"`
	Ask          float64 `yaml:"ask"`
	ComplyTactic float64 `yaml:"comply_tactic"`
	Comply       float64 `yaml:"comply"`
	// Company is what an ask gains towards Warning for each story or pressure
	// that the same side brings with it.
	Company float64 `yaml:"company"`
	// Protective is the most that official advice takes away, and it takes it
	// from soft points only: a fraudster who says "never share your code"
	// before he asks for it gains nothing.
	Protective float64 `yaml:"protective"`

	// Talk is what the opinion of the call as a whole adds or takes.
	Talk Talk `yaml:"talk"`

	// ArmingAsk is how many points the asks of its tactic must have for a
	// compliance to be critical whatever the sum. Asks made on the customer's
	// own ticket have fewer.
	ArmingAsk float64 `yaml:"arming_ask"`

	// Advise finds what a person can do; nil gives no advice.
	Advise Adviser `yaml:"-"`
}

// Talk says how an opinion becomes points.
type Talk struct {
	// Points for each unit of log odds above Even.
	Points float64 `yaml:"points"`
	// Even are the log odds at which a long call is as likely to alarm as its
	// findings alone make it. Of a call of which little is known less is asked:
	// half of Even where Half grams are known.
	Even float64 `yaml:"even"`
	Half float64 `yaml:"half"`
	// Most is what an opinion can add, Least what it can take. What it takes
	// is taken from no more than From points, which is enough to keep any
	// number of findings in an honest call low.
	Most  float64 `yaml:"most"`
	Least float64 `yaml:"least"`
	From  float64 `yaml:"from"`
	// Alone is the highest score of a call in which nothing was found.
	Alone float64 `yaml:"alone"`
}

// DefaultConfig returns the levels that callwarden ships with.
func DefaultConfig() Config {
	return Config{
		Notice: 1, Warning: 6, Critical: 12,
		// A fraud's steps follow within minutes; half an hour later an ask
		// that nothing came of should not colour a new subject.
		Hold: 5 * time.Minute, HalfLife: 10 * time.Minute,
		// Two findings of one tactic are rarely independent: the second says
		// half as much. Half also bounds the sum at twice the strongest.
		Repeat: 0.5,
		// Of the small Vosk model's words at 0.7 and above, nine in ten are
		// right; below, confidence says something.
		SureFrom:   0.7,
		SoftTactic: 4, Soft: 5.5, Varied: 8,
		AskTactic: 10, Ask: 14,
		ComplyTactic: 10, Comply: 14,
		Company:    0.5,
		Protective: 2,
		ArmingAsk:  2,
		// By the figures of calls by authors whose calls were left out of the
		// training: make calibrate.
		Talk: Talk{Points: 3, Even: 2.5, Half: 200, Most: 9, Least: 9, From: 12, Alone: 5},
	}
}

// Validate names the first key whose value cannot be.
func (c Config) Validate() error {
	for _, f := range []struct {
		key   string
		value float64
	}{
		{"notice", c.Notice},
		{"warning", c.Warning},
		{"critical", c.Critical},
		{"soft_tactic", c.SoftTactic},
		{"soft", c.Soft},
		{"varied", c.Varied},
		{"ask_tactic", c.AskTactic},
		{"ask", c.Ask},
		{"comply_tactic", c.ComplyTactic},
		{"comply", c.Comply},
		{"arming_ask", c.ArmingAsk},
		{"talk.half", c.Talk.Half},
		{"talk.from", c.Talk.From},
	} {
		if !(f.value > 0) || math.IsInf(f.value, 0) {
			return fmt.Errorf("risk.%s: %g must be above 0", f.key, f.value)
		}
	}
	switch {
	case c.Warning <= c.Notice:
		return fmt.Errorf("risk.warning: %g must be above risk.notice, %g", c.Warning, c.Notice)
	case c.Critical <= c.Warning:
		return fmt.Errorf("risk.critical: %g must be above risk.warning, %g", c.Critical, c.Warning)
	case c.Soft >= c.Warning:
		return fmt.Errorf("risk.soft: %g must be below risk.warning, %g: no story alone is a fraud", c.Soft, c.Warning)
	case c.Varied < c.Soft || c.Varied >= c.Critical:
		return fmt.Errorf("risk.varied: %g must be at least risk.soft, %g, and below risk.critical, %g", c.Varied, c.Soft, c.Critical)
	case !(c.Talk.Points >= 0) || !(c.Talk.Most >= 0) || !(c.Talk.Least >= 0):
		return errors.New("risk.talk: points, most and least must be at least 0")
	case c.Talk.Alone >= c.Warning:
		return fmt.Errorf("risk.talk.alone: %g must be below risk.warning, %g: no impression alone is a fraud", c.Talk.Alone, c.Warning)
	case c.Hold < 0:
		return fmt.Errorf("risk.hold: %v must be at least 0", c.Hold)
	case c.HalfLife <= 0:
		return fmt.Errorf("risk.half_life: %v must be above 0", c.HalfLife)
	case !(c.Repeat >= 0 && c.Repeat <= 1):
		return fmt.Errorf("risk.repeat: %g must be from 0 to 1", c.Repeat)
	case !(c.SureFrom >= 0 && c.SureFrom <= 1):
		return fmt.Errorf("risk.sure_from: %g must be from 0 to 1", c.SureFrom)
	case !(c.Company >= 0) || math.IsInf(c.Company, 0):
		return fmt.Errorf("risk.company: %g must be at least 0", c.Company)
	case !(c.Protective >= 0) || math.IsInf(c.Protective, 0):
		return fmt.Errorf("risk.protective: %g must be at least 0", c.Protective)
	}
	return nil
}
