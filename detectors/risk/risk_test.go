package risk

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// sign is a finding in the shorthand of the tests.
func sign(id, tactic string, weight float64) detectors.Finding {
	f := detectors.Finding{ID: id, Tactic: tactic, Weight: weight, Confidence: 1, State: detectors.Confirmed}
	if t, ok := detectors.LookupTactic(tactic); ok {
		f.Stage = t.Stages[0]
	}
	return f
}

func TestLevelsFollowTheStagesOfAFraud(t *testing.T) {
	type step struct {
		tactic string
		weight float64
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  Level
	}{
		{"nothing", nil, None},
		{"lure alone", []step{{"lure_charge", 3}}, Notice},
		{"the same lure ten times", []step{{"lure_charge", 3}, {"lure_charge", 3}, {"lure_charge", 3}, {"lure_charge", 3}, {"lure_charge", 3}, {"lure_charge", 3}}, Notice},
		{"press a key", []step{{"press_key", 1}}, Notice},
		{"every story there is", []step{{"lure_charge", 4}, {"lure_account", 4}, {"lure_legal", 4}, {"urgency", 4}, {"impersonation", 3}, {"press_key", 2}, {"cross_channel", 4}}, Notice},
		{"a story and secrecy", []step{{"lure_legal", 4}, {"secrecy", 4}}, Notice},
		{"pressure and secrecy without a story", []step{{"urgency", 4}, {"impersonation", 3}, {"secrecy", 4}}, Notice},
		{"a story, pressure and secrecy", []step{{"lure_legal", 2.5}, {"urgency", 1}, {"secrecy", 3}}, Warning},
		{"all of it, and no ask", []step{{"lure_charge", 4}, {"lure_account", 4}, {"lure_legal", 4}, {"urgency", 4}, {"impersonation", 3}, {"press_key", 2}, {"secrecy", 4}}, Warning},
		{"plain ask", []step{{"otp_request", 6}}, Warning},
		{"weak ask", []step{{"remote_access_request", 3}}, Notice},
		{"weak ask after a lure", []step{{"lure_charge", 3}, {"remote_access_request", 3}}, Warning},
		{"weak ask with a story in a hurry", []step{{"lure_refund", 1.5}, {"urgency", 1}, {"gift_card_request", 2.5}}, Warning},
		{"weak ask with secrecy", []step{{"money_transfer_request", 2.5}, {"secrecy", 2.5}}, Warning},
		{"weak ask in a hurry", []step{{"urgency", 2}, {"money_transfer_request", 2.5}}, Notice},
		{"a hint of an ask with secrecy", []step{{"money_transfer_request", 1.5}, {"secrecy", 4}}, Notice},
		{"two different weak asks", []step{{"remote_access_request", 4}, {"credential_request", 3}}, Warning},
		{"compliance after a plain ask", []step{{"otp_request", 6}, {"otp_readback", 4}}, Critical},
		{"compliance after a weak ask", []step{{"otp_request", 3}, {"otp_readback", 4}}, Critical},
		{"compliance on the customer's ticket", []step{{"remote_access_request", 1}, {"remote_access_compliance", 2}}, Notice},
		{"official advice", []step{{"official_counter_advice", 2}}, None},
		{"a bank's own alert", []step{{"lure_account", 2}, {"official_counter_advice", 2}}, None},
		{"an ask behind official advice", []step{{"official_counter_advice", 2}, {"otp_request", 6}}, Warning},
	} {
		m := NewMeter(DefaultConfig())
		for i, s := range tt.steps {
			m.Observe(sign(fmt.Sprint(i), s.tactic, s.weight), time.Duration(i)*time.Second)
		}
		if m.Level() != tt.want {
			t.Errorf("%s: %v at %.2f, want %v: %+v", tt.name, m.Level(), m.Score(), tt.want, m.Contributions())
		}
	}
}

func TestEachSideAnswersForItself(t *testing.T) {
	said := func(leg audio.Leg, tactic string, weight float64) detectors.Finding {
		f := sign(leg.String()+tactic, tactic, weight)
		f.Leg = leg
		return f
	}
	for _, tt := range []struct {
		name  string
		steps []detectors.Finding
		want  float64
	}{
		{"advice takes from what its side says", []detectors.Finding{
			said(audio.Caller, "lure_account", 3), said(audio.Caller, "official_counter_advice", 2),
		}, 1},
		{"a victim who quotes advice takes nothing", []detectors.Finding{
			said(audio.Caller, "lure_account", 3), said(audio.Callee, "official_counter_advice", 2),
		}, 3},
		{"an unknown side may be either", []detectors.Finding{
			said(audio.Unknown, "lure_account", 3), said(audio.Callee, "official_counter_advice", 2),
		}, 1},
		{"never more than there is", []detectors.Finding{
			said(audio.Caller, "lure_account", 1), said(audio.Callee, "lure_charge", 2), said(audio.Caller, "official_counter_advice", 2),
		}, 2},
		{"two sides are not one that plays everything", []detectors.Finding{
			said(audio.Caller, "lure_legal", 4), said(audio.Caller, "urgency", 4), said(audio.Callee, "secrecy", 4),
		}, 5.5},
	} {
		m := NewMeter(DefaultConfig())
		for _, f := range tt.steps {
			m.Observe(f, 0)
		}
		if m.Score() != tt.want {
			t.Errorf("%s: %v, want %v: %+v", tt.name, m.Score(), tt.want, m.Contributions())
		}
	}
}

func TestRetractionTakesPointsBackAndKeepsThePeak(t *testing.T) {
	m := NewMeter(DefaultConfig())
	f := sign("a", "otp_request", 6)
	f.State = detectors.Provisional
	c := m.Observe(f, time.Second)
	if c.Points != 6 || c.Level != Warning || c.Previous != None {
		t.Fatalf("provisional: %+v", c)
	}
	f.State = detectors.Retracted
	c = m.Observe(f, 2*time.Second)
	if c.Points != 0 || c.Level != None || c.Previous != Warning || m.Score() != 0 {
		t.Errorf("retracted: %+v, score %v", c, m.Score())
	}
	if p := m.Peak(); p.Level != Warning || p.Score != 6 || p.At != time.Second {
		t.Errorf("peak %+v", p)
	}
}

func TestConfirmationCountsOnce(t *testing.T) {
	m := NewMeter(DefaultConfig())
	f := sign("a", "otp_request", 6)
	for _, s := range []detectors.State{detectors.Provisional, detectors.Confirmed} {
		f.State = s
		m.Observe(f, time.Second)
	}
	if m.Score() != 6 {
		t.Errorf("score %v, want 6", m.Score())
	}
}

func TestMutedFindingsCountNothing(t *testing.T) {
	m := NewMeter(DefaultConfig())
	f := sign("a", "otp_request", 6)
	f.State = detectors.Provisional
	m.Observe(f, 0)
	f.State, f.Muted = detectors.Confirmed, "never"
	if c := m.Observe(f, time.Second); c.Points != 0 || c.Level != None {
		t.Errorf("%+v", c)
	}
}

func TestScoreFadesButComplianceStays(t *testing.T) {
	cfg := DefaultConfig()
	later := cfg.Hold + cfg.HalfLife
	asked := Assess(cfg, []Sign{NewSign(sign("a", "otp_request", 6), 0)}, detectors.Opinion{}, later)
	if asked.Score != 3 {
		t.Errorf("ask after one half-life: %v, want 3", asked.Score)
	}
	if held := Assess(cfg, []Sign{NewSign(sign("a", "otp_request", 6), 0)}, detectors.Opinion{}, cfg.Hold); held.Score != 6 {
		t.Errorf("ask within the hold: %v, want 6", held.Score)
	}
	gave := Assess(cfg, []Sign{NewSign(sign("a", "otp_readback", 8), 0)}, detectors.Opinion{}, 100*later)
	if gave.Score != 8 {
		t.Errorf("compliance much later: %v, want 8", gave.Score)
	}
}

func TestUnsureWordsCountLess(t *testing.T) {
	cfg := DefaultConfig()
	f := sign("a", "otp_request", 6)
	for _, tt := range []struct{ confidence, want float64 }{{1, 6}, {0.7, 6}, {0.35, 4.5}, {0, 3}, {-1, 3}} {
		f.Confidence = tt.confidence
		if got := Assess(cfg, []Sign{NewSign(f, 0)}, detectors.Opinion{}, 0).Score; got != tt.want {
			t.Errorf("confidence %v: %v, want %v", tt.confidence, got, tt.want)
		}
	}
}

func TestAdviceIsForTheFurthestTactic(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Advise = func(tactic string, level Level) Advice {
		if tactic == "otp_readback" {
			return Advice{} // the data has none: the ask's stands in
		}
		return Advice{ID: tactic + "." + level.String()}
	}
	m := NewMeter(cfg)
	if c := m.Observe(sign("a", "lure_account", 4), 0); c.Advice.ID != "lure_account.notice" {
		t.Errorf("notice: %+v", c.Advice)
	}
	if c := m.Observe(sign("b", "otp_request", 6), 0); c.Advice.ID != "otp_request.warning" {
		t.Errorf("warning: %+v", c.Advice)
	}
	if c := m.Observe(sign("c", "lure_charge", 1), 0); c.Advice.ID != "" {
		t.Errorf("no change of level: %+v", c.Advice)
	}
	if c := m.Observe(sign("d", "otp_readback", 8), 0); c.Advice.ID != "otp_request.critical" {
		t.Errorf("critical: %+v", c.Advice)
	}
}

func TestValidateNamesKeyValueAndRule(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		want  string
		spoil func(*Config)
	}{
		{"risk.warning: 0.5 must be above risk.notice, 1", func(c *Config) { c.Warning = 0.5 }},
		{"risk.critical: 6 must", func(c *Config) { c.Critical = 6 }},
		{"risk.soft: 6 must be below", func(c *Config) { c.Soft = 6 }},
		{"risk.half_life: 0s", func(c *Config) { c.HalfLife = 0 }},
		{"risk.hold: -1ns", func(c *Config) { c.Hold = -1 }},
		{"risk.repeat: 1.5", func(c *Config) { c.Repeat = 1.5 }},
		{"risk.repeat: NaN", func(c *Config) { c.Repeat = math.NaN() }},
		{"risk.sure_from: 2", func(c *Config) { c.SureFrom = 2 }},
		{"risk.company: -1", func(c *Config) { c.Company = -1 }},
		{"risk.varied: 5 must be at least risk.soft, 5.5", func(c *Config) { c.Varied = 5 }},
		{"risk.varied: 12 must be at least risk.soft", func(c *Config) { c.Varied = 12 }},
		{"risk.protective: -1", func(c *Config) { c.Protective = -1 }},
		{"risk.ask: NaN", func(c *Config) { c.Ask = math.NaN() }},
		{"risk.comply_tactic: 0", func(c *Config) { c.ComplyTactic = 0 }},
	} {
		c := DefaultConfig()
		tt.spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}

// anyFindings draws the findings of a call, with repeated ids.
var anyFindings = rapid.Custom(func(t *rapid.T) []detectors.Finding {
	tactics := detectors.Tactics()
	list := make([]detectors.Finding, rapid.IntRange(0, 40).Draw(t, "n"))
	for i := range list {
		f := sign(fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "id")), tactics[rapid.IntRange(0, len(tactics)-1).Draw(t, "tactic")].Name,
			rapid.Float64Range(0, 10).Draw(t, "weight"))
		f.Confidence = rapid.Float64Range(0, 1).Draw(t, "confidence")
		f.State = detectors.State(rapid.IntRange(1, 3).Draw(t, "state"))
		if rapid.IntRange(0, 4).Draw(t, "muted") == 0 {
			f.Muted = "never"
		}
		list[i] = f
	}
	return list
})

func TestContributionsSumToTheScore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		a, b := NewMeter(cfg), NewMeter(cfg)
		for i, f := range anyFindings.Draw(t, "findings") {
			at := time.Duration(i) * 40 * time.Second
			change := a.Observe(f, at)
			if again := b.Observe(f, at); again != change || !reflect.DeepEqual(a.Contributions(), b.Contributions()) {
				t.Fatalf("two runs differ: %+v, %+v", change, again)
			}
			sum, stories := 0.0, true
			last := math.Inf(1)
			for _, c := range a.Contributions() {
				sum += c.Points
				k := kindOf(detectors.Finding{Tactic: c.Tactic})
				stories = stories && (k == soft || k == protective) && c.Tactic != "secrecy"
				if c.Points > last || c.Why == "" {
					t.Fatalf("contribution %+v after %v points", c, last)
				}
				last = c.Points
				if math.Abs(c.Points*100-math.Round(c.Points*100)) > 1e-9 {
					t.Fatalf("points %v are not rounded", c.Points)
				}
			}
			if math.Abs(sum-a.Score()) > 1e-9 || a.Score() < 0 {
				t.Fatalf("contributions sum to %v, score %v", sum, a.Score())
			}
			if stories && a.Level() > Notice {
				t.Fatalf("stories and pressure without secrecy are %v", a.Level())
			}
			if a.Peak().Score < a.Score() || a.Peak().Level < a.Level() {
				t.Fatalf("peak %+v below %v", a.Peak(), a.Score())
			}
		}
	})
}

func TestMeterStaysSmallInALongCall(t *testing.T) {
	m := NewMeter(DefaultConfig())
	m.Observe(sign("ask", "otp_request", 6), 0)
	for i := range 1000 {
		m.Observe(sign(fmt.Sprint(i), "lure_charge", 2), time.Duration(i)*time.Millisecond)
	}
	if len(m.signs) > maxSigns {
		t.Errorf("%d signs are kept", len(m.signs))
	}
	if c := m.Contributions()[0]; c.FindingID != "ask" || c.Points != 6 {
		t.Errorf("the ask is forgotten: %+v", c)
	}
}

// A call with as many findings as a meter keeps.
func BenchmarkObserve(b *testing.B) {
	tactics := detectors.Tactics()
	m := NewMeter(DefaultConfig())
	for i := range maxSigns {
		m.Observe(sign(fmt.Sprint(i), tactics[i%len(tactics)].Name, 2), time.Duration(i)*time.Second)
	}
	f := sign("7", "otp_request", 6)
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(f, time.Minute)
	}
}

// What a call is like as a whole weighs beside what was found in it, and is
// explained among the contributions.
func TestOpinionRaisesAndLowersButNeverDecidesAlone(t *testing.T) {
	const asks, known = 4, 400
	cfg := DefaultConfig()
	for name, tt := range map[string]struct {
		found, odds float64
		want        Level
	}{
		"an ask alone":                      {asks, 2, Notice},
		"an ask in a fraud's talk":          {asks, 5, Warning},
		"nothing in a fraud's talk":         {0, 9, Notice},
		"a plain ask in honest talk":        {7, -2, Notice},
		"an honest call is still a notice":  {1, -9, Notice},
		"silence":                           {0, -9, None},
		"any number of asks in honest talk": {40, -9, Notice},
	} {
		t.Run(name, func(t *testing.T) {
			var signs []Sign
			for i, left := 0, tt.found; left > 0; i, left = i+1, left-10 {
				tactic := []string{"otp_request", "gift_card_readback", "otp_readback", "credential_request"}[i]
				signs = append(signs, NewSign(sign(tactic, tactic, min(left, 10)), 0))
			}
			o := detectors.Opinion{LogOdds: tt.odds, Known: known, For: [detectors.OpinionWords]string{"read me"}}
			got := Assess(cfg, signs, o, 0)
			if got.Level != tt.want {
				t.Errorf("%s at %.2f, want %s: %+v", got.Level, got.Score, tt.want, got.Contributions)
			}
			sum := 0.0
			for _, c := range got.Contributions {
				sum += c.Points
			}
			if math.Abs(sum-got.Score) > 1e-9 {
				t.Errorf("contributions sum to %g, score %g", sum, got.Score)
			}
		})
	}
}

func TestOpinionOfNothingHeardIsNone(t *testing.T) {
	if got := Assess(DefaultConfig(), nil, detectors.Opinion{LogOdds: -1.5}, 0); got.Score != 0 || len(got.Contributions) != 0 {
		t.Errorf("%+v", got)
	}
}
