//go:build e2e

package desktest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func TestTheOverviewShowsTheWorstCallsFirstAndLive(t *testing.T) {
	s := open(t, nil)
	quiet := s.call("quiet", time.Minute, "from", "+44 20 #### ##01", "to", "+44 161 ### ##02", "source", "audiosocket")
	s.must(quiet.Hear(t.Context(), callwardenv1.Hearing_HEARING_LISTENING, ""))
	deaf := s.call("deaf", 2*time.Minute, "from", "+44 20 #### ##03", "tenant", "north")
	s.must(deaf.Hear(t.Context(), callwardenv1.Hearing_HEARING_DEAF, "no media for 5s"))
	warned := s.call("warned", 3*time.Minute, "from", "+44 20 #### ##05")
	s.must(warned.Hear(t.Context(), callwardenv1.Hearing_HEARING_LISTENING, ""), warned.Score(t.Context(), "otp_request", 7))
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Open(s.URL + "/")
	p.Wait("three calls", soon, rows+" === 3")
	first := texts(p, ".calls > li")[0]
	for _, part := range []string{"Warning", "7", "+44 20 #### ##05", "siprec", "asks for code", "Listening", "3:0"} {
		if !strings.Contains(first, part) {
			t.Errorf("the worst call shows %q, without %q", first, part)
		}
	}
	p.WaitText(soon, ".tile.l-unheard", "1")
	p.WaitText(soon, ".tile.l-none", "2")
	p.Wait("the tactic", soon, `document.querySelector(".now-tactics")?.textContent.includes("asks for a one-time code 1")`)

	// Live, and above what was worse before.
	s.must(quiet.Score(t.Context(), "gift_card_request", 14))
	p.WaitText(soon, ".calls > li:first-child", "Critical")
	p.WaitText(soon, ".calls > li:first-child", "asks for gift cards")
	p.WaitText(soon, "#urgent", "+44 20 #### ##01")
	p.Wait("the title to count it", soon, `document.title.startsWith("(1) ")`)
	before := texts(p, ".calls > li:first-child time")[0]
	p.Wait("the clock to go on", soon, fmt.Sprintf(`document.querySelector(".calls > li:first-child time").innerText !== %q`, before))

	s.must(warned.End(t.Context()), deaf.End(t.Context()))
	p.Wait("the ended alert below", soon, `document.querySelectorAll("main ol.calls")[1].children.length === 1`)
	if got := texts(p, "main ol.calls:last-of-type > li"); !strings.Contains(got[0], "ended") || !strings.Contains(got[0], "Warning") {
		t.Errorf("the ended call shows %q", got)
	}
}

func TestFiltersHaveAddresses(t *testing.T) {
	s := open(t, nil)
	s.must(s.call("a", time.Minute, "from", "+1 415 ### ##11", "from_name", "Ann", "source", "whip").Score(t.Context(), "otp_request", 13))
	s.must(s.call("b", time.Minute, "from", "+1 415 ### ##22", "tenant", "north").Score(t.Context(), "urgency", 8))
	s.must(s.call("c", time.Minute, "from", "+1 415 ### ##33").Hear(t.Context(), callwardenv1.Hearing_HEARING_DEAF, "gone"))
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	for address, want := range map[string]string{
		"":                                       "11 22 33",
		"level=critical":                         "11",
		"level=critical,warning":                 "11 22",
		"hearing=unheard":                        "33",
		"tactic=urgency":                         "22",
		"source=whip":                            "11",
		"tenant=north":                           "22",
		"q=415%23%23%23%23%2333":                 "33",
		"q=ann":                                  "11",
		"level=critical&tenant=north":            "",
		"level=warning&tactic=urgency&q=%2B1415": "22",
	} {
		p.Open("about:blank")
		p.Open(s.URL + "/#/?" + address)
		shown := fmt.Sprintf(`[...document.querySelectorAll("main ol.calls:first-of-type .parties bdi:first-of-type")].map(e => e.textContent.slice(-2)).sort().join(" ") === %q && document.querySelector(".filters")`, want)
		p.Wait(fmt.Sprintf("%q of %q", want, address), soon, shown)
	}
	p.Open("about:blank")
	p.Open(s.URL + "/")
	p.Wait("all", soon, rows+" === 3")
	p.Click(".tile.l-critical")
	p.Wait("one", soon, rows+` === 1 && location.hash === "#/?level=critical"`)
	p.Click(".tile.l-critical")
	p.Click(`.now-tactics [data-tactic="urgency"]`)
	p.Wait("another", soon, rows+` === 1 && location.hash === "#/?tactic=urgency"`)
	p.Click(".filters .quiet")
	p.Wait("all", soon, rows+` === 3 && location.hash === "#/"`)
	p.Type(".filters input", "ann")
	p.Wait("Ann", soon, rows+` === 1 && location.hash === "#/?q=ann"`)
	p.WaitText(soon, ".shown", "1 of 3")
	// A call and back again, with the filter as it was.
	p.Click("main ol.calls a.go")
	p.WaitText(soon, ".verdict", "Critical")
	browsertest.Eval[any](p, "history.back()")
	p.Wait("the filter of before", soon, rows+` === 1 && document.querySelector(".filters input").value === "ann"`)
}

func TestNamesWithMarkupAreText(t *testing.T) {
	const name = `<img src=x onerror="window.taken=1"><b>Bob</b>`
	s := open(t, nil)
	c := s.fraud("markup", "from_name", name, "to_name", "عبد الرحمن", "x", name)
	_, err := c.Say(t.Context(), 2, 70*time.Second, name+" </p><script>window.taken=1</script>", true)
	s.must(err)
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Open(s.URL + "/")
	p.WaitText(soon, ".calls", name)
	p.WaitText(soon, ".calls", "عبد الرحمن")
	p.Click("main ol.calls a.go")
	p.WaitText(soon, ".verdict", name)
	p.WaitText(soon, ".details", name)
	if n := browsertest.Eval[int](p, `document.querySelectorAll("main img, main script").length`); n != 0 {
		t.Errorf("%d elements came of what somebody calls himself", n)
	}
	if browsertest.Eval[bool](p, "Boolean(window.taken)") {
		t.Error("what somebody calls himself was run")
	}
}

func TestTheKeyboardIsEnough(t *testing.T) {
	s := open(t, nil)
	for i := range 4 {
		s.must(s.fraud(fmt.Sprintf("k%d", i), "from", fmt.Sprintf("+1 415 ### ##0%d", i)).Score(t.Context(), "overpayment", float64(40-i)))
	}
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Open(s.URL + "/")
	p.Wait("the calls", soon, rows+" === 4")
	key := func(k string) {
		browsertest.Eval[any](p, fmt.Sprintf(`(document.activeElement || document.body).dispatchEvent(new KeyboardEvent("keydown", {key: %q, bubbles: true, cancelable: true}))`, k))
	}
	on := func(i int) string {
		return fmt.Sprintf(`document.activeElement === document.querySelectorAll("main ol.calls a.go")[%d]`, i)
	}
	key("j")
	p.Wait("the first", soon, on(0))
	key("j")
	key("ArrowDown")
	p.Wait("the third", soon, on(2))
	key("k")
	key("End")
	p.Wait("the last", soon, on(3))
	key("Home")
	p.Wait("the first", soon, on(0))
	if n := browsertest.Eval[int](p, `document.querySelectorAll('main ol.calls a.go[tabindex="0"]').length`); n != 1 {
		t.Errorf("%d calls are in the order of the Tab key, want 1", n)
	}
	// What is looked at keeps the focus when the order changes.
	c := s.call("later", time.Second, "from", "+1 415 ### ##09")
	s.must(c.Score(t.Context(), "otp_request", 60))
	p.Wait("a new first", soon, `document.querySelector("main ol.calls a.go").innerText.includes("##09")`)
	p.Wait("the one of before", soon, on(1))
	browsertest.Eval[any](p, "document.activeElement.click()")
	p.WaitText(soon, ".verdict", "Critical")
	key("n")
	p.Wait("the first marked words", soon, `document.activeElement === document.querySelector("mark") && !document.querySelector("#tip").hidden`)
	key("Escape")
	p.Wait("the tip to go, and the call to stay", soon, `document.querySelector("#tip").hidden && document.querySelector(".verdict")`)
	key("?")
	p.WaitText(soon, "dialog[open]", "it is a scam")
	browsertest.Eval[any](p, `document.querySelector("dialog[open] .choices button").click()`)
	p.Wait("the words of before", soon, `document.activeElement === document.querySelector("mark")`)
	key("Escape") // what was found in them
	key("Escape")
	p.Wait("the calls", soon, rows+" === 5")
}
