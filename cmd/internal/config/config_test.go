package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

type sample struct {
	Name  string          `yaml:"name"`
	Wait  time.Duration   `yaml:"wait"`
	Ports limits          `yaml:"ports"`
	List  []item          `yaml:"list"`
	Words []string        `yaml:"words"`
	Named map[string]item `yaml:"named"`
	Inner `yaml:",inline"`
	Off   string `yaml:"-"`
}

type limits struct {
	Min int `yaml:"min"`
	Max int `yaml:"max"`
}

type item struct {
	Key   string  `yaml:"key"`
	Share float64 `yaml:"share"`
}

type Inner struct {
	Deep bool `yaml:"deep"`
}

func defaults() sample {
	return sample{Name: "callwarden", Wait: 5 * time.Second, Ports: limits{1, 10}, Inner: Inner{true}, Off: "kept"}
}

func TestKeysThatAreLeftOutKeepTheirDefaults(t *testing.T) {
	s := defaults()
	f := Read("f", []byte("ports: {max: 20}\nname:\nlist: [{key: a}, {key: b, share: 0.5}]\nnamed: {x: {share: 1}}\n"), &s)
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Ports.Max = 20
	want.List = []item{{"a", 0}, {"b", 0.5}}
	want.Named = map[string]item{"x": {"", 1}}
	if got := fmt.Sprintf("%+v", s); got != fmt.Sprintf("%+v", want) {
		t.Errorf("%s, want %+v", got, want)
	}
	if f.Line("ports.max") != 1 || f.Line("list[1].share") != 3 || f.Line("wait") != 0 {
		t.Errorf("lines %d, %d, %d", f.Line("ports.max"), f.Line("list[1].share"), f.Line("wait"))
	}
}

func TestFaultsNameLineKeyValueRuleAndWhatToType(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"nam: x", "line 1: nam: is no key that callwarden knows; type: name: …"},
		{"\nzebra: x", "line 2: zebra: is no key that callwarden knows; type: one of deep, list, name, named, ports, wait, words"},
		{"Off: x", "line 1: Off: is no key"},
		{"wait: soon", `line 1: wait: soon must be a duration such as 500ms, 5s or 2h; type: wait: 5s  (the default)`},
		{"ports: {max: 1.5}", "line 1: ports.max: 1.5 must be a whole number; type: max: 10  (the default)"},
		{"ports: [1]", "line 1: ports: must be keys and values; type: max: …"},
		{"deep: perhaps", "line 1: deep: perhaps must be true or false; type: deep: true  (the default)"},
		{"list: {key: a}", "line 1: list: must be a list; type: - key: …"},
		{"list:\n  - key: a\n    share: lots", "line 3: list[0].share: lots must be a number"},
		{"words: one", "line 1: words: one must be a list of which each is a text; type: words: []  (the default)"},
		{"named: [a]", "line 1: named: must be keys and values"},
		{"name: [a]", "line 1: name: what is there must be a text"},
		{"name: a\nname: b", "line 2"},
		{"name: &x a", "anchors and aliases are not taken"},
		{"name: 'a", "is no YAML"},
		{strings.Repeat("#", maxBytes+1), "must be at most"},
	} {
		s := defaults()
		err := Read("f", []byte(c.text), &s).Err()
		var all *Error
		if !errors.As(err, &all) || !strings.Contains(err.Error(), "f: "+c.want) && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %q", c.text, err, c.want)
		}
	}
}

func TestFaultsOfSectionsGetTheirPathAndLine(t *testing.T) {
	s := defaults()
	f := Read("f", []byte("# one\nports:\n  max: 70000\n"), &s)
	f.Check("ports", errors.Join(errors.New("max: 70000 must be at most 65535"), errors.Join(errors.New("min: 1 must be even"))))
	f.Check("", nil)
	err := f.Err()
	want := "f: ports.min: 1 must be even; type: min: 1  (the default)\nf: line 3: ports.max: 70000 must be at most 65535; type: max: 10  (the default)"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
}
