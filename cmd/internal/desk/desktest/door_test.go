//go:build e2e

package desktest_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
	"github.com/callwarden/callwarden/cmd/internal/desk"
)

const (
	annasToken = "anna-has-a-long-token"
	vidasToken = "vida-has-a-long-token"
	noorsToken = "noor-has-a-long-token"

	anna = annasToken + " anna admin *\n"
	vida = vidasToken + " vida viewer *\n"
	noor = noorsToken + " noor analyst north\n"
)

// withTokens lets in who is in the tokens file, whose name it returns.
func withTokens(t *testing.T, lines string) (*station, string) {
	t.Helper()
	var file string
	s := open(t, func(dir string, cfg *desk.Config) {
		file = filepath.Join(dir, "tokens")
		write(t, file, lines)
		cfg.TokensFile = file
	})
	return s, file
}

func TestOnlyWhoHasATokenSeesCalls(t *testing.T) {
	s, file := withTokens(t, anna+vida+noor)
	s.fraud("seen", "from", "+44 20 #### ##01")
	s.fraud("north", "from", "+44 20 #### ##02", "tenant", "north")
	chromium := browsertest.Start(t, browsertest.Config{})
	p := chromium.Page(t)
	p.Expect("401")
	p.Open(s.URL + "/#/call/default/seen")
	p.Wait("the form", soon, `document.activeElement === document.querySelector("#token")`)
	if body := browsertest.Eval[string](p, "document.body.innerText"); strings.Contains(body, "##01") {
		t.Errorf("somebody who is not signed in reads %q", body)
	}
	p.Type("#token", "not a token of anybody")
	p.Click(".signin button")
	p.Wait("the refusal", soon, `document.querySelector(".signin .error").innerText.length > 10 && document.querySelector("#token").getAttribute("aria-invalid") === "true"`)
	p.Type("#token", annasToken)
	p.Click(".signin button")
	p.WaitText(soon, ".verdict", "+44 20 #### ##01") // where the address leads
	p.WaitText(soon, "#user", "anna")
	p.Click("#sign-out")
	p.Wait("the form", soon, `document.querySelector("#token") && document.querySelector("#nav").hidden`)
	if body := browsertest.Eval[string](p, "document.body.innerText"); strings.Contains(body, "##01") {
		t.Errorf("somebody who has signed out reads %q", body)
	}

	// A viewer looks, and does nothing.
	v := chromium.Page(t)
	signedIn(v, s, vidasToken)
	v.Wait("both calls", soon, rows+" === 2")
	v.Click("main ol.calls a.go")
	v.WaitText(soon, ".verdict", "Critical")
	v.Click(".act-scam")
	v.WaitText(soon, ".toast.bad", "Your role is viewer")
	if v.Text(".log") != "" {
		t.Error("a viewer has done something")
	}
	// An analyst sees the calls of their tenant.
	n := chromium.Page(t)
	n.Expect("403")
	n.Expect("404")
	signedIn(n, s, noorsToken)
	n.Wait("one call", soon, rows+` === 1 && document.querySelector(".calls").innerText.includes("##02")`)
	n.Open(s.URL + "/#/call/default/seen")
	n.WaitText(soon, ".waiting", "Search the history")

	// A token is taken away from who is looking on.
	write(t, file, anna+noor)
	v.Wait("the form", soon, `document.querySelector("#token") && document.querySelector("#nav").hidden`)
	if body := browsertest.Eval[string](v, "document.body.innerText"); strings.Contains(body, "##0") {
		t.Errorf("somebody whose token was taken away reads %q", body)
	}
	n.Open(s.URL + "/#/")
	n.Wait("the other one to go on", soon, rows+" === 1")
}

func TestACutStreamLosesNoRowAndDoublesNone(t *testing.T) {
	s := open(t, nil)
	for i := range 12 {
		s.must(s.call(fmt.Sprintf("c%02d", i), time.Minute, "from", fmt.Sprintf("+1 415 ### ##%02d", i)).Score(t.Context(), "urgency", float64(2)))
	}
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Expect("ERR_")
	p.Expect("Failed to load resource")
	p.Open(s.URL + "/")
	p.Wait("the calls", soon, rows+" === 12")
	for round := range 3 {
		s.wire.Cut()
		p.WaitText(soon, "#banners .bad", "The connection is cut")
		p.WaitText(soon, "#pulse", "Cut")
		// What happens meanwhile.
		c := s.call(fmt.Sprintf("n%d", round), time.Second, "from", fmt.Sprintf("+1 415 ### ##9%d", round))
		s.must(c.Score(t.Context(), "otp_request", 13+float64(round)))
		s.must(c.Score(t.Context(), "otp_request", 20+float64(round)))
		s.wire.Mend()
		p.Wait("all rows, each once", soon, fmt.Sprintf(`(links => links.length === %d && new Set(links).size === %d)([...document.querySelectorAll("main ol.calls:first-of-type a.go")].map(a => a.getAttribute("href")))`, 13+round, 13+round))
		p.WaitText(soon, "#pulse", "Live")
		p.WaitText(soon, ".calls > li:first-child", fmt.Sprintf("##9%d", round))
		p.WaitText(soon, ".calls > li:first-child", fmt.Sprint(20+round))
		if p.Text("#banners") != "" {
			t.Errorf("the page still says %q", p.Text("#banners"))
		}
	}
}

func TestNATSAwayIsSaidAndMended(t *testing.T) {
	s := open(t, nil)
	c := s.call("stays", time.Minute, "from", "+1 415 ### ##01")
	s.must(c.Score(t.Context(), "urgency", 2))
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Expect("503")
	p.Open(s.URL + "/")
	p.Wait("the call", soon, rows+" === 1")
	s.nats.Shutdown()
	p.WaitText(soon, "#banners .bad", "The desk hears no events")
	p.WaitText(soon, "#pulse", "No events")
	p.Click("main ol.calls a.go")
	p.Click(".act-scam")
	p.WaitText(soon, ".toast.bad", "away")
	browsertest.Eval[any](p, "history.back()")
	s.must(c.Score(t.Context(), "otp_request", 15)) // waits for the server
	s.startNATS()
	p.WaitText(2*soon, "#pulse", "Live")
	p.WaitText(2*soon, ".calls > li:first-child", "Critical")
	if n := browsertest.Eval[int](p, rows); n != 1 {
		t.Errorf("%d calls are shown, want 1", n)
	}
	p.Wait("nothing to be wrong", soon, `document.querySelector("#banners").innerText === ""`)
}

func TestTwoAnalystsSeeWhatTheOtherDoes(t *testing.T) {
	s, _ := withTokens(t, anna+"bert-has-a-long-token bert analyst *\n")
	s.fraud("shared", "from", "+44 20 #### ##01")
	chromium := browsertest.Start(t, browsertest.Config{})
	a, b := chromium.Page(t), chromium.Page(t)
	signedIn(a, s, annasToken)
	signedIn(b, s, "bert-has-a-long-token")
	a.Click("main ol.calls a.go")
	b.Click("main ol.calls a.go")
	a.WaitText(soon, ".verdict", "Critical")
	b.WaitText(soon, ".verdict", "Critical")
	b.Click(".act-acknowledged")
	a.WaitText(soon, ".others", "bert looks after this call")
	a.WaitText(soon, ".act-acknowledged", "Acknowledged: bert")
	a.Click(".act-scam")
	b.WaitText(soon, ".act-scam", "Scam: anna")
	b.Click(".act-not_scam")
	a.WaitText(soon, ".act-not_scam", "Not a scam: bert")
	a.WaitText(soon, ".log", "bert said that it is not a scam")
}
