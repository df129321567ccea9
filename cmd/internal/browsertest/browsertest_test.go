//go:build e2e

package browsertest_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
)

func TestPagesShowWhatTheyDoAndWhatTheyComplainOf(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'")
		fmt.Fprint(w, `<title>t</title><button>go</button><p>waiting</p><input>
			<script>onclick = e => { if (e.target.matches("button")) { document.querySelector("p").innerText = "done"; console.error("as said"); } }</script>`)
	}))
	defer server.Close()
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Expect("as said")
	p.Expect("favicon.ico")
	p.Open(server.URL)
	p.Type("input", "typed")
	if got := browsertest.Eval[string](p, `document.querySelector("input").value`); got != "typed" {
		t.Errorf("the field has %q", got)
	}
	p.Click("button")
	p.WaitText(5*time.Second, "p", "done")
	if got := browsertest.Eval[int](p, "Promise.resolve(7)"); got != 7 {
		t.Errorf("a promise of 7 gave %d", got)
	}
	p.Prefer(true, true)
	if !browsertest.Eval[bool](p, `matchMedia("(prefers-color-scheme: dark) and (prefers-reduced-motion)").matches`) {
		t.Error("the page is not told what the person prefers")
	}
	p.Size(360, 640)
	if got := browsertest.Eval[int](p, "innerWidth"); got != 360 {
		t.Errorf("the window is %d wide", got)
	}
	p.Wait("the complaint", 5*time.Second, "true")
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(strings.Join(p.Console(), "\n"), "as said"); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the console has %q", p.Console())
		}
	}
	shot := filepath.Join(t.TempDir(), "new", "shot.png")
	p.Shot(shot)
	if png, err := os.ReadFile(shot); err != nil || !strings.HasPrefix(string(png), "\x89PNG") {
		t.Errorf("the screenshot is no PNG: %v", err)
	}
}

func TestAMissingBrowserSaysWhatToType(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := browsertest.Options(browsertest.Config{})
	if !errors.Is(err, browsertest.ErrMissing) || !strings.Contains(err.Error(), "apt-get install chromium") {
		t.Errorf("without a browser: %v", err)
	}
}

func TestAPersonMayRefuseTheMicrophone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<link rel="icon" href="data:,">`)
	}))
	defer server.Close()
	for refuse, want := range map[bool]string{true: "NotAllowedError", false: "ok"} {
		p := browsertest.Start(t, browsertest.Config{Refuse: refuse}).Page(t)
		p.Open(server.URL)
		got := browsertest.Eval[string](p, `navigator.mediaDevices.getUserMedia({audio: true}).then(() => "ok", e => e.name)`)
		if got != want {
			t.Errorf("refuse %v: getUserMedia gave %s, want %s", refuse, got, want)
		}
	}
}

func TestServeTakesCallsUntilItIsStopped(t *testing.T) {
	s := browsertest.Serve(t, browsertest.Build(t), "transcriber: {mode: inprocess, backend: none}\nsources: {audiosocket: {enabled: true, listen: \"127.0.0.1:0\"}}")
	r, err := http.Get(s.URL + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %s", r.Status)
	}
	s.Stop()
	if r, err := http.Get(s.URL + "/healthz"); err == nil {
		_ = r.Body.Close()
		t.Error("it answers after it was stopped")
	}
}
