//go:build e2e

package desktest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
)

// past tells three calls that are over: a fraud that was judged as one, a
// warning that was judged as none, and a quiet one.
func past(t *testing.T, s *station) {
	t.Helper()
	s.must(s.fraud("h-fraud", "from", "+442079460001", "to", "+44 161 ### ##77").End(t.Context()))
	w := s.call("h-warned", 2*time.Minute, "from", "+442079460002", "to", "+44 161 ### ##77")
	s.must(w.Score(t.Context(), "gift_card_request", 7), w.End(t.Context()))
	s.must(s.call("h-quiet", 3*time.Minute, "from", "+44 20 #### ##03").End(t.Context()))
	s.await("the history to have them", func() bool {
		_, body := ask(t, "GET", s.URL+"/api/history", "")
		return strings.Count(body, `"tenant"`) == 3
	})
	for id, verdict := range map[string]string{"h-fraud": "scam", "h-warned": "not_scam"} {
		if code, body := ask(t, "POST", s.URL+"/api/calls/default/"+id+"/actions", fmt.Sprintf(`{"action":%q}`, verdict)); code/100 != 2 {
			t.Fatalf("judging %s: %d %s", id, code, body)
		}
	}
	s.await("the verdicts", func() bool {
		_, body := ask(t, "GET", s.URL+"/api/history", "")
		return strings.Count(body, `"verdict":`) == 2
	})
}

func TestEndedCallsAreFoundTakenAlongAndDeleted(t *testing.T) {
	s := open(t, nil)
	past(t, s)
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Expect("404")
	ids := func(want string) {
		t.Helper()
		p.Wait("calls "+want, soon, fmt.Sprintf(`[...document.querySelectorAll(".hist-list a.go")].map(a => a.getAttribute("href").split("/").pop()).sort().join(" ") === %q`, want))
	}
	p.Open(s.URL + "/#/history")
	ids("h-fraud h-quiet h-warned")
	p.Type(".search [name=number]", "20 7946 0002")
	p.Click(".search .primary")
	ids("h-warned")
	p.Click(".search .button") // clear
	ids("h-fraud h-quiet h-warned")
	for address, want := range map[string]string{
		"level=critical": "h-fraud", "level=warning": "h-fraud h-warned", "verdict=not_scam": "h-warned", "verdict=none": "h-quiet",
		"tactic=gift_card_request": "h-warned", "q=h-quiet": "h-quiet", "q=strangers&spoken=1": "h-fraud", "from=2020-01-01&to=2020-01-02": "",
	} {
		browsertest.Eval[any](p, fmt.Sprintf("location.hash = %q", "#/history?"+address))
		ids(want)
	}
	browsertest.Eval[any](p, `location.hash = "#/history?q=nobody-said-this"`)
	p.WaitText(soon, "main", "No ended call fits the search.")
	browsertest.Eval[any](p, `location.hash = "#/history?level=warning"`)
	ids("h-fraud h-warned")
	for kind, want := range map[string]string{"csv": "h-fraud", "json": `"h-fraud"`} {
		if got := browsertest.Eval[string](p, fmt.Sprintf(`fetch(document.querySelector('.tools a[download$=%s]').href).then(r => r.text())`, kind)); !strings.Contains(got, want) || strings.Contains(got, "h-quiet") {
			t.Errorf("the %s is %q", kind, got)
		}
	}
	// All of a call but its sound.
	p.Click(`.hist-list a.go[href$="h-fraud"]`)
	for selector, text := range map[string]string{".verdict": "The code was read out.", ".transcript": "that is only for strangers", ".log": "said that it is a scam", ".why": "6", ".timeline": "Critical"} {
		p.WaitText(soon, selector, text)
	}
	// Deleting asks first.
	browsertest.Eval[any](p, `location.hash = "#/history"`)
	ids("h-fraud h-quiet h-warned")
	remove := `.hist-list li:has(a[href$="h-warned"]) .remove`
	press := fmt.Sprintf("document.querySelector(%q).click()", remove) // a row may still move under the pointer
	browsertest.Eval[any](p, press)
	p.Click("dialog[open] .choices button:last-child")
	ids("h-fraud h-quiet h-warned")
	browsertest.Eval[any](p, press)
	p.Click("dialog[open] .danger")
	ids("h-fraud h-quiet")
	p.Click(".tools > button")
	p.Type("dialog[open] input", "+44 20 7946 0001")
	p.Click("dialog[open] .primary")
	p.WaitText(soon, "dialog[open] h2", "Delete 1 call?")
	p.Click("dialog[open] .danger")
	ids("h-quiet")
	if code, _ := ask(t, "GET", s.URL+"/api/calls/default/h-fraud", ""); code != 404 {
		t.Errorf("a call that was deleted is answered with %d", code)
	}
	// Who looked is known.
	browsertest.Eval[any](p, `location.hash = "#/audit"`)
	p.WaitText(soon, ".audit-card tbody", "h-fraud")
}

func TestADayIsToldInFigures(t *testing.T) {
	s := open(t, nil)
	past(t, s)
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Open(s.URL + "/#/day")
	p.Wait("the figures", soon, `document.querySelector(".facts")`)
	facts := strings.Join(texts(p, ".facts > div"), "\n")
	for _, part := range []string{"Calls\n3", "Alerts\n2", "Critical\n1", "50 % of 2 judged", "100 % of 1 judged"} {
		if !strings.Contains(facts, part) {
			t.Errorf("the day is told without %q:\n%s", part, facts)
		}
	}
	p.WaitText(soon, ".days-grid", "asks for gift cards")
	if n := browsertest.Eval[int](p, `document.querySelectorAll(".hour-chart .critical, .hour-chart .warning").length`); n < 1 {
		t.Error("no hour has an alert")
	}
	p.Click(".day-nav a")
	p.WaitText(soon, "main", "No calls ended on this day.")
}
