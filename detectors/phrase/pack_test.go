package phrase

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A bad pack is refused by file, line, column and rule. ‸ in the text marks
// where the error must point; it is taken out before parsing.
func TestBadPackIsRefusedWhereItIsWrong(t *testing.T) {
	const head = "tactic: otp_request\nlanguage: en\nversion: 1\npoints: 6\n"
	const pattern = "patterns:\n  - {name: p, phrase: code}\n"
	for _, c := range []struct{ name, text, rule string }{
		{"circle", head + "classes:\n  a: [x, \"y <b>\"]\n  b: [‸<a>]\n" + pattern, "the classes go in a circle: a -> b -> a"},
		{"circle of one", head + "classes:\n  a: [x ‸<a>]\n" + pattern, "the classes go in a circle: a -> a"},
		{"empty class", head + "classes:\n  a: ‸[]\n" + pattern, "class a is empty"},
		{"class of nothing", head + "classes:\n  a:‸\n" + pattern, "class a is empty"},
		{"million words", head + "patterns:\n  - name: p\n    phrase: \"read ‸~1000000 code\"\n", "a gap is 1 to 30 words, not 1000000"},
		{"million words quoted", head + "patterns:\n  - name: p\n    phrase: 'don''t read ‸~1000000 code'\n", "a gap is 1 to 30 words, not 1000000"},
		{"escapes", head + "patterns:\n  - name: p\n    phrase: \"caf\\u00e9 \\x61 ‸~99 code\"\n", "a gap is 1 to 30 words, not 99"},
		{"folded", head + "patterns:\n  - name: p\n    phrase: >\n      read me\n      ‸~99 code\n", "a gap is 1 to 30 words, not 99"},
		{"plain over lines", head + "patterns:\n  - name: p\n    phrase: read me\n      the ‸~99 code\n", "a gap is 1 to 30 words, not 99"},
		{"characters before it", head + "patterns:\n  - {name: p, phrase: été ‸~99 code}\n", "a gap is 1 to 30 words, not 99"},
		{"unknown tactic", "tactic: ‸otp\nlanguage: en\nversion: 1\npoints: 6\n" + pattern, `unknown tactic "otp"`},
		{"unknown stage", head + "stage: ‸begin\n" + pattern, `unknown stage "begin"`},
		{"stage of another", head + "stage: ‸lure\n" + pattern, "stage lure: otp_request plays ask or instruct only"},
		{"unknown guard", head + pattern + "guards:\n  - ‸never\n", `unknown guard "never"`},
		{"unknown class", head + "patterns:\n  - {name: p, phrase: read ‸<cod> now}\n", "unknown class <cod>"},
		{"unknown key", head + pattern + "‸weight: 3\n", `unknown key "weight" in a pack`},
		{"unknown key of a pattern", head + "patterns:\n  - {name: p, phrase: code, ‸point: 3}\n", `unknown key "point" in a pattern`},
		{"missing key", "‸tactic: otp_request\nlanguage: en\nversion: 1\n" + pattern, "points is missing in a pack"},
		{"key twice", head + "‸points: 7\n" + pattern, "points: stands here twice"},
		{"pattern twice", head + "patterns:\n  - {name: p, phrase: code}\n  - ‸{name: p, phrase: pin}\n", `pattern "p" stands here twice`},
		{"class twice", head + "classes:\n  a: [x]\n  ‸a: [y]\n" + pattern, `class "a" stands here twice`},
		{"guard twice", head + pattern + "guards:\n  - {name: g, inside: x}\n  - ‸{name: g, inside: y}\n", `guard "g" stands here twice`},
		{"range upside down", head + "patterns:\n  - {name: p, phrase: read ~‸5-2 code}\n", "5-2: the range is upside down"},
		{"digits upside down", head + "patterns:\n  - name: p\n    phrase: \"{digits ‸8-4}\"\n", "8-4: the range is upside down"},
		{"digits without end", head + "patterns:\n  - name: p\n    phrase: \"‸{digits 4-999}\"\n", "{digits}: 4-999 is not within 1-24"},
		{"number of none", head + "patterns:\n  - name: p\n    phrase: \"{number ‸x}\"\n", "a number is missing"},
		{"matches nothing", head + "patterns:\n  - name: p\n    phrase: \"‸[please]\"\n", "the phrase matches no words at all"},
		{"matches any", head + "patterns:\n  - name: p\n    phrase: \"‸* *\"\n", "the phrase matches any words"},
		{"class matches nothing", head + "classes:\n  ‸a: ['[x]']\n" + pattern, "class a matches no words at all"},
		{"gap first", head + "patterns:\n  - name: p\n    phrase: \"‸~3 code\"\n", "a phrase does not begin with a gap"},
		{"gap last", head + "patterns:\n  - name: p\n    phrase: \"read ‸~3\"\n", "a phrase does not end with a gap"},
		{"gap twice", head + "patterns:\n  - name: p\n    phrase: \"read ~3 ‸~3 code\"\n", "two gaps in a row"},
		{"too long", head + "patterns:\n  - name: p\n    phrase: \"‸a ~30 b ~30 c\"\n", "the longest match is 63 words, limit 60"},
		{"too deep", head + "patterns:\n  - name: p\n    phrase: \"((((((((‸(a))))))))\"\n", "groups are nested at most 8 deep"},
		{"group not closed", head + "patterns:\n  - name: p\n    phrase: \"read ‸(a | b\"\n", "'(' is not closed by ')'"},
		{"group closed twice", head + "patterns:\n  - name: p\n    phrase: \"read (a | b)‸) c\"\n", "')' closes nothing"},
		{"empty alternative", head + "patterns:\n  - name: p\n    phrase: \"read (a | ‸)\"\n", "an empty alternative"},
		{"bar outside", head + "patterns:\n  - name: p\n    phrase: \"read ‸| tell\"\n", "alternatives stand in ( ) or [ ]"},
		{"star inside", head + "patterns:\n  - name: p\n    phrase: \"re‸*d\"\n", "'*' stands alone or at the end of a word"},
		{"sign", head + "patterns:\n  - name: p\n    phrase: \"support ‸. me\"\n", "'.' is not part of the language"},
		{"near of one", head + "patterns:\n  - name: p\n    phrase: \"‸{near 3: a}\"\n", "{near} has two or three parts, not 1"},
		{"near without end", head + "patterns:\n  - name: p\n    phrase: \"{near ‸99: a; b}\"\n", "at most 30 words"},
		{"unknown braces", head + "patterns:\n  - name: p\n    phrase: \"‸{card 16}\"\n", "{card …}: none of digits"},
		{"no phrase", head + "patterns:\n  - ‸{name: p}\n", `pattern "p" has neither phrase nor phrases`},
		{"mood twice", head + "patterns:\n  - {name: p, phrase: x, mood: question, not_mood: ‸question}\n", "exclude each other"},
		{"no mood", head + "patterns:\n  - {name: p, phrase: x, not_mood: ‸[question, statement, imperative, conditional]}\n", "no mood is left"},
		{"after without time", head + "patterns:\n  - {name: p, phrase: x, after: ‸{tactic: urgency}}\n", "after: says neither seconds nor turns"},
		{"after nothing", head + "patterns:\n  - {name: p, phrase: x, after: ‸{tactic: urgency, pattern: now, turns: 3}}\n", "no pack has a pattern urgency/now"},
		{"count of one", head + "patterns:\n  - {name: p, phrase: x, count: {at_least: ‸1}}\n", "no whole number from 2 to 1000"},
		{"guard without place", head + pattern + "guards:\n  - ‸{name: g}\n", "has none of inside, within, near, before, after"},
		{"guard without distance", head + pattern + "guards:\n  - {name: g, near: ‸x}\n", "near: is {phrase: …, words: N}"},
		{"example without words", head + pattern + "examples:\n  match: [‸\"?!\"]\n", "an example without words"},
		{"alias", head + "patterns:\n  - {name: p, phrase: &x code}\n  - {name: q, phrase: ‸*x}\n", "anchors and aliases are not used"},
		{"no YAML", "tactic: [\n‸", "YAML: "},
		{"nothing", "‸", "no documents"},
		{"a list", "‸[a, b]", "a pack: keys with values are expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := strings.Index(c.text, "‸")
			line := strings.Count(c.text[:i], "\n") + 1
			column := len([]rune(c.text[strings.LastIndex(c.text[:i], "\n")+1:i])) + 1
			pack, err := ParsePack("bad.yaml", []byte(strings.Replace(c.text, "‸", "", 1)))
			if err == nil {
				_, err = Compile([]*Pack{pack}, nil, nil)
			}
			var at *Error
			if !errors.As(err, &at) {
				t.Fatalf("got %v, want an Error", err)
			}
			if at.File != "bad.yaml" || at.Line != line || at.Column != column || !strings.Contains(at.Rule, c.rule) {
				t.Errorf("got  %v\nwant bad.yaml:%d:%d: …%s…", err, line, column, c.rule)
			}
		})
	}
}

func TestExpansionOfClassesIsBounded(t *testing.T) {
	text := "tactic: otp_request\nlanguage: en\nversion: 1\npoints: 1\nclasses:\n  c0: [a, b]\n"
	for i := range 6 {
		c := "<c" + string(rune('0'+i)) + ">"
		text += "  c" + string(rune('1'+i)) + ": ['" + c + " " + c + " " + c + "', '(" + c + " | " + c + " | " + c + ") " + c + "']\n"
	}
	pack := mustPack(t, text+"patterns:\n  - {name: p, phrase: 'a [<c6>]'}\n")
	_, err := Compile([]*Pack{pack}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "the longest match is") {
		t.Errorf("got %v", err)
	}
	text = "tactic: otp_request\nlanguage: en\nversion: 1\npoints: 1\nclasses:\n  c0: [a, b]\n"
	for i := range 7 {
		c := "<c" + string(rune('0'+i)) + ">"
		text += "  c" + string(rune('1'+i)) + ": ['" + c + "', '" + c + "', '" + c + "', '" + c + "', '" + c + "', '" + c + "']\n"
	}
	pack = mustPack(t, text+"patterns:\n  - {name: p, phrase: 'x <c7>'}\n")
	_, err = Compile([]*Pack{pack}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "more than 4000 elements") {
		t.Errorf("got %v", err)
	}
}

func TestClassesNestEightDeep(t *testing.T) {
	for classes, ok := range map[int]bool{8: true, 9: false} {
		for _, innerFirst := range []bool{true, false} {
			lines := []string{"  c1: [a]"}
			for i := 2; i <= classes; i++ {
				lines = append(lines, fmt.Sprintf("  c%d: [<c%d>]", i, i-1))
			}
			if !innerFirst {
				slices.Reverse(lines)
			}
			_, err := Compile([]*Pack{mustPack(t, "tactic: otp_request\nlanguage: en\nversion: 1\npoints: 1\nclasses:\n"+
				strings.Join(lines, "\n")+fmt.Sprintf("\npatterns:\n  - {name: p, phrase: 'x <c%d>'}\n", classes))}, nil, nil)
			if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "nested at most 8 deep") {
				t.Errorf("%d classes: %v", classes, err)
			}
		}
	}
}
