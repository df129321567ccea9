package browsertest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// axeRules are those of WCAG 2.2 at level AA, and what experience adds.
const axeRules = `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]`

// Accessible has axe-core look at the page as it is, and fails the test with
// every rule that it breaks. What was looked at is said with each.
func (p *Page) Accessible(what string) {
	p.t.Helper()
	if !Eval[bool](p, "Boolean(window.axe)") {
		mod, err := exec.Command("go", "env", "GOMOD").Output()
		if err != nil {
			p.t.Fatalf("looking for the module's folder: %v", err)
		}
		file := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "out", "axe", "node_modules", "axe-core", "axe.min.js")
		script, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatalf("axe-core is not here; type: make axe (%v)", err)
		}
		p.Do(Script(string(script) + ";0"))
	}
	var violations []struct {
		ID    string `json:"id"`
		Help  string `json:"help"`
		Nodes []struct {
			HTML    string `json:"html"`
			Summary string `json:"failureSummary"`
		} `json:"nodes"`
	}
	found := Eval[string](p, `axe.run(document, {runOnly: `+axeRules+`}).then((r) => JSON.stringify(r.violations))`)
	if err := json.Unmarshal([]byte(found), &violations); err != nil {
		p.t.Fatal(err)
	}
	for _, v := range violations {
		for _, n := range v.Nodes {
			p.t.Errorf("%s: %s: %s\n%s\n%s", what, v.ID, v.Help, n.HTML, n.Summary)
		}
	}
}
