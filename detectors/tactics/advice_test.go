package tactics_test

import (
	"strings"
	"testing"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/tactics"
)

func TestAdvicePrefersTheCountryThenTheLevelThenAnyTactic(t *testing.T) {
	lib := embeddedPacks(t)
	for _, c := range []struct {
		tactic, language, country, level string
		id                               string // empty: none
	}{
		{"otp_request", "en-IN", "IN", "critical", "otp_request.critical.IN"},
		{"otp_request", "en", "in", "warning", "otp_request.warning.IN"},
		{"otp_request", "en-US", "US", "warning", "otp_request.warning"},
		{"otp_request", "en", "", "notice", "otp_request.notice"},
		{"press_key", "en-US", "US", "critical", "press_key.notice"},
		{"unheard_of", "en-GB", "GB", "critical", "any.critical.GB"},
		{"otp_request", "en", "", "none", ""},
		{"otp_request", "fr", "", "warning", ""},
	} {
		a, ok := lib.Advice(c.tactic, c.language, c.country, c.level)
		if a.ID != c.id || ok != (c.id != "") {
			t.Errorf("advice for %s in %s/%s at %s is %q (%v), want %q", c.tactic, c.language, c.country, c.level, a.ID, ok, c.id)
		}
	}
}

func TestEveryTacticHasAdviceAtEveryLevel(t *testing.T) {
	lib := embeddedPacks(t)
	for _, tactic := range detectors.Tactics() {
		for _, level := range []string{"notice", "warning", "critical"} {
			for _, country := range []string{"US", "GB", "IN", ""} {
				a, ok := lib.Advice(tactic.Name, "en", country, level)
				if !ok || a.Text == "" {
					t.Errorf("no advice for %s at %s in %q", tactic.Name, level, country)
				}
				if !ok || !strings.HasPrefix(a.ID, tactic.Name+".") {
					t.Errorf("advice for %s at %s in %q is %s", tactic.Name, level, country, a.ID)
				}
			}
		}
	}
}

func TestAdviceErrorsSayWhere(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"unknown tactic":   {"language: en\nversion: 1\ntactics:\n  otp_requst:\n    notice: x\n", "advice/en.yaml:5:5: unknown tactic"},
		"unknown level":    {"language: en\nversion: 1\ntactics:\n  any:\n    severe: x\n", "advice/en.yaml:5:13: \"severe\" is none of the levels"},
		"empty text":       {"language: en\nversion: 1\ntactics:\n  any:\n    notice: ''\n", "advice/en.yaml:5:13: a text is expected"},
		"no language":      {"version: 1\n", "advice/en.yaml:1:1: language is missing"},
		"bad country":      {"language: en\nversion: 1\ntactics:\n  any:\n    countries:\n      usa:\n        notice: x\n", "country \"usa\""},
		"no YAML":          {"language: [en\n", "advice/en.yaml:"},
		"unknown key":      {"language: en\ntatics: {}\n", "advice/en.yaml:2:9: unknown key"},
		"tactic is a list": {"language: en\nversion: 1\ntactics: [a]\n", "advice/en.yaml:3:10: keys with values"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, "en/common.yaml", "language: en\nversion: 1\n")
			put(t, dir, "en/urgency.yaml", smallPack)
			put(t, dir, "advice/en.yaml", c.file)
			_, err := tactics.Load(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q in it", err, c.want)
			}
		})
	}
}
