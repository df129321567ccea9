//go:build e2e

package trypage_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
)

// shots is where pictures of the pages are left, for people to look at.
const shots = "../../../out/shots/try"

// without is a service that takes no calls from browsers.
const without = `
transcriber: {mode: inprocess, backend: none}
sources: {audiosocket: {enabled: true, listen: "127.0.0.1:0"}}
`

func TestThePageSaysWhichKeySwitchesItOn(t *testing.T) {
	served := browsertest.Serve(t, browsertest.Build(t), without)
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Open(served.URL + "/try/")
	p.WaitText(10*time.Second, "#problem", "sources.whip.enabled: true")
	look(t, p, "setup")
}

// look keeps what the page looks like on a telephone, a tablet and a desk, by
// day and by night, and holds it to what everybody can use.
func look(t *testing.T, p *browsertest.Page, name string) {
	t.Helper()
	for scheme, dark := range map[string]bool{"light": false, "dark": true} {
		p.Prefer(dark, true)
		for _, width := range []int64{360, 800, 1280} {
			p.Size(width, 800)
			if over := browsertest.Eval[int](p, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
				t.Errorf("%s is %d pixels wider than a window of %d", name, over, width)
			}
			p.Shot(filepath.Join(shots, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)))
		}
		p.Accessible(name + " " + scheme)
	}
}

// What replay finds in a call is put into the page's own modules, so that every
// part of it is shown also where no audio gets through.
func TestEventsOfACallAreDrawn(t *testing.T) {
	binary := browsertest.Build(t)
	served := browsertest.Serve(t, binary, without)
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Open(served.URL + "/try/")
	p.Wait("the page", 10*time.Second, `document.body.dataset.ready`)
	events := replay(t, binary, "fraud-code.wav")
	script := fmt.Sprintf(`(async () => {
		const { Call } = await import("./call.js"), { View } = await import("./view.js");
		const call = globalThis.call = new Call(), view = new View({notice: 1, warning: 6, critical: 12});
		view.show(call);
		for (const event of [%s]) if (event.type !== "callwarden.call.ended.v1") call.take(event);
		setup.hidden = true; live.hidden = bar.hidden = false;
		view.changed();
		await new Promise(requestAnimationFrame);
		await new Promise(requestAnimationFrame);
		return call.level;
	})()`, strings.Join(events, ","))
	if level := browsertest.Eval[string](p, script); level != "critical" {
		t.Errorf("the call is %s, replay found it critical", level)
	}
	for selector, want := range map[string]string{
		"#level": "Act now", "#advice": "Hang up", "#turns": "read me the code", "#turns mark": "security", "#ears-text": "Listening",
		"#found": "asks for a one-time code", "#alert": "Act now",
	} {
		if got := p.Text(selector); !strings.Contains(got, want) {
			t.Errorf("%s shows %q, want %q in it", selector, got, want)
		}
	}
	look(t, p, "drawn")
}

// replay is what callwarden finds in one of our calls, an event each.
func replay(t *testing.T, binary, name string) (events []string) {
	t.Helper()
	cmd := exec.Command(binary, "replay", filepath.Join("../../../testdata/calls", name), "--json", "--transcript", "--listen", "full")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
