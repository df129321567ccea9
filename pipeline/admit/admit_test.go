package admit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/pipeline/source"
)

func rules(t *testing.T, cfg Config) *Rules {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func call(id string, attributes ...string) *source.Call {
	c := &source.Call{ID: id, Tenant: "default", Source: "siprec", Attributes: map[string]string{}}
	for i := 0; i < len(attributes); i += 2 {
		c.Attributes[attributes[i]] = attributes[i+1]
	}
	return c
}

func TestNumbersFitTheirPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, number string
		want            bool
	}{
		{"+442071234567", "+44 20 7123 4567", true},
		{"+442071234567", "0044(20)7123-4567", true},
		{"+442071234567", "sip:+442071234567@sbc.example;user=phone", true},
		{"+442071234567", "tel:+44-20-7123-4567", true},
		{"+442071234567", "+442071234568", false},
		{"+442071234567", "+4420712345670", false},
		{"+44*", "+442071234567", true},
		{"+44*", "+491234567", false},
		{"+44*", "44207123456", false},
		{"+1800xxxxxxx", "+1 800 555 0123", true},
		{"+1800xxxxxxx", "+1 800 555 012", false},
		{"+1800xxxxxxx", "+1 801 555 0123", false},
		{"xxxx", "1234", true},
		{"xxxx", "12345", false},
		{"*", "12345", true},
		{"*", "anonymous", false},
		{"anonymous", "", true},
		{"anonymous", "sip:anonymous@anonymous.invalid", true},
		{"anonymous", "Restricted", true},
		{"anonymous", "+1", false},
		{"+1*", "reception", false},
	} {
		if got := anyNumber([]string{c.pattern}, c.number); got != c.want {
			t.Errorf("%q of %q is %v, want %v", c.number, c.pattern, got, c.want)
		}
	}
}

func TestFirstRuleThatFitsDecides(t *testing.T) {
	r := rules(t, Config{Otherwise: Skip, Rules: []Rule{
		{Name: "ministry", Then: Skip, Number: []string{"+4930182*"}},
		{Name: "no consent", Then: Skip, Attributes: map[string][]string{"consent": {"no"}}},
		{Name: "anonymous inbound", Then: Listen, From: []string{"anonymous"}, Direction: []string{"inbound"}, Listen: "full"},
		{Name: "flagged trunk", Then: Listen, Trunk: []string{"sbc-flagged"}, Source: []string{"siprec"}, SetTenant: "flagged", Language: "fr"},
	}})
	for _, c := range []struct {
		call *source.Call
		want Decision
	}{
		{call("a", "to", "+49 30 182 000 11", "from", "anonymous", "direction", "inbound"), Decision{Rule: "ministry", Told: true}},
		{call("b", "from", "+49301821", "trunk", "sbc-flagged"), Decision{Rule: "ministry", Told: true}},
		{call("c", "trunk", "sbc-flagged", "from", "+1", "consent", "NO"), Decision{Rule: "no consent", Told: true}},
		{call("d", "direction", "Inbound"), Decision{Heard: true, Rule: "anonymous inbound", Listen: "full"}},
		{call("e", "trunk", "SBC-flagged", "from", "+1"), Decision{Heard: true, Rule: "flagged trunk", Tenant: "flagged", Language: "fr"}},
		{call("f", "from", "+1"), Decision{Told: true}},
	} {
		if got := r.Decide(c.call); got != c.want {
			t.Errorf("call %s: %+v, want %+v", c.call.ID, got, c.want)
		}
	}
	if got := r.Decide(call("g", "to", "+4930182")).Reason(); got != "exempt by rule ministry" {
		t.Errorf("reason %q", got)
	}
}

func TestEveryCallIsHeardByDefault(t *testing.T) {
	if d := rules(t, DefaultConfig()).Decide(call("x")); d != (Decision{Heard: true}) {
		t.Errorf("%+v", d)
	}
}

func TestSilentSkipsAreNotTold(t *testing.T) {
	if d := rules(t, Config{Otherwise: Skip, Silent: true}).Decide(call("x")); d.Heard || d.Told {
		t.Errorf("%+v", d)
	}
}

func TestShareIsThatPartOfTheCallsAndAlwaysTheSame(t *testing.T) {
	decide := func(share float64) *Rules {
		return rules(t, Config{Otherwise: Skip, Rules: []Rule{{Name: "sample", Then: Listen, Share: share}}})
	}
	small, large := decide(0.1), decide(0.3)
	const calls = 20_000
	n := 0
	for i := range calls {
		c := call(fmt.Sprintf("call-%d", i))
		in := small.Decide(c).Heard
		if in != small.Decide(c).Heard {
			t.Fatalf("%s is decided in two ways", c.ID)
		}
		if in && !large.Decide(c).Heard {
			t.Fatalf("%s is in a tenth and not in three", c.ID)
		}
		if in {
			n++
		}
	}
	if n < calls*9/100 || n > calls*11/100 {
		t.Errorf("%d of %d calls are in a tenth", n, calls)
	}
}

func TestFaultsNameTheKeyTheValueAndTheRule(t *testing.T) {
	good := Rule{Name: "r", Then: Listen}
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Otherwise = "maybe" }, `otherwise: "maybe" must be listen or skip`},
		{func(c *Config) { c.Rules[0].Name = "" }, `rules[0].name: must not be empty`},
		{func(c *Config) { c.Rules[0].Name = "+44 2071" }, `rules[0].name: "+44 2071" must not be a number`},
		{func(c *Config) { c.Rules = append(c.Rules, good) }, `rules[1].name: "r" is taken`},
		{func(c *Config) { c.Rules[0].Then = "" }, `rules[0].then: "" must be listen or skip`},
		{func(c *Config) { c.Rules[0].From = []string{"+1", "4?"} }, `rules[0].from: "4?" must be a number such as`},
		{func(c *Config) { c.Rules[0].To = []string{""} }, `rules[0].to: "" must be a number such as`},
		{func(c *Config) { c.Rules[0].Share = 20 }, `rules[0].share: 20 must be 0 to 1`},
		{func(c *Config) { c.Rules[0].Listen = "half" }, `rules[0].listen: "half" must be full, screen or empty`},
		{func(c *Config) { c.Rules[0].Then, c.Rules[0].Listen = Skip, "full" }, `rules[0].then: skip leaves nothing`},
		{func(c *Config) { c.Rules[0].SetTenant = "a.b" }, `rules[0].set_tenant: "a.b" must be a name`},
	} {
		cfg := Config{Otherwise: Listen, Rules: []Rule{good}}
		c.change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q in it", err, c.want)
		}
	}
}
