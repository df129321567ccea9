package phrase

import (
	"os"
	"strings"
	"testing"
)

const page = "../../docs/phrases.md"

func readPage(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Every file on the page compiles with the others, and its examples hold.
func TestPageShowsPacksThatCompile(t *testing.T) {
	var packs []*Pack
	var shared *Shared
	var conf []*Confusions
	blocks := strings.Split(readPage(t), "```")
	for i := 1; i < len(blocks); i += 2 {
		text, ok := strings.CutPrefix(blocks[i], "yaml\n")
		if !ok {
			t.Fatalf("a block that no test reads: %s", blocks[i])
		}
		var err error
		switch {
		case strings.HasPrefix(text, "tactic:"):
			var p *Pack
			p, err = ParsePack(page, []byte(text))
			packs = append(packs, p)
		case strings.HasPrefix(text, "backend:"):
			var c *Confusions
			c, err = ParseConfusions(page, []byte(text))
			conf = append(conf, c)
		default:
			shared, err = ParseShared(page, []byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(packs) != 1 || shared == nil || len(conf) != 1 {
		t.Fatalf("the page shows %d packs, %d confusion lists", len(packs), len(conf))
	}
	set := mustCompile(t, packs, shared, conf)
	for _, f := range set.TestExamples() {
		t.Error(f)
	}
	// What its tables and sentences say of this pack.
	for text, want := range map[string]string{
		"tell me the dress code":               "read-me-the-code[tell me the dress code]-dress-code",
		"tell me dress code and pin":           "read-me-the-code[tell me dress code and pin]",
		"never tell me the code":               "read-me-the-code[tell me the code]-never",
		"never tell me the code except to me":  "read-me-the-code[tell me the code]",
		"tell me nobody code":                  "read-me-the-code[tell me nobody code]-nobody",
		"tell me the code and to nobody":       "read-me-the-code[tell me the code]-nobody",
		"they confirm the code":                "",
		"we just sent you the code confirm it": "we-sent-it[we just sent you the code] now-read-it[confirm it]",
	} {
		if got := found(set, text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// Every form in the table matches the words beside it.
func TestPageShowsFormsThatMatch(t *testing.T) {
	_, table, _ := strings.Cut(readPage(t), "| form | matches | as in |")
	table, _, _ = strings.Cut(table, "\n\n")
	forms := 0
	for line := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		for i, form := range strings.Split(cells[1], "`") {
			if i%2 == 0 {
				continue
			}
			forms++
			form = strings.ReplaceAll(form, "\x00", "|")
			e, bad := parsePhrase(form)
			if bad != nil {
				t.Errorf("%s: %s", form, bad.rule)
				continue
			}
			if form == "*" {
				continue // refused alone, as the page says; tried with company elsewhere
			}
			set := mustCompile(t, []*Pack{mustPack(t, "tactic: otp_request\nlanguage: en\nversion: 1\npoints: 1\nclasses:\n  code: [code, pin]\npatterns:\n  - name: p\n    phrase: \""+
				e.String()+"\"\n")}, nil, nil)
			text := strings.TrimSpace(cells[3])
			if strings.HasPrefix(form, "{digits 6}") {
				text = "472 913"
			}
			if found(set, text) == "" {
				t.Errorf("%s does not match %q", form, text)
			}
		}
	}
	if forms < 18 {
		t.Errorf("%d forms in the table", forms)
	}
}
