//go:build e2e

package desktest_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
	"github.com/callwarden/callwarden/cmd/internal/desk/desktest"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

func TestACallIsShownAsItIsSpoken(t *testing.T) {
	s := open(t, nil)
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	c := s.call("spoken", 10*time.Second, "from", "+44 20 #### ##01")
	p.Open(s.URL + "/#/call/default/spoken")
	p.WaitText(soon, ".verdict", "No sign of fraud was heard")
	p.WaitText(soon, ".transcript", "Nothing was said yet.")
	_, err := c.Say(t.Context(), desktest.Caller, 10*time.Second, "please read", false)
	s.must(err)
	p.Wait("lighter words", soon, `document.querySelector(".turn.caller.open")?.innerText.includes("please read")`)
	_, err = c.Say(t.Context(), desktest.Caller, 10*time.Second, "please read me the code", true)
	s.must(err)
	p.Wait("the same words, settled", soon, `document.querySelectorAll(".turn").length === 1 && document.querySelector(".turn:not(.open)")?.innerText.includes("please read me the code")`)
	s.must(c.Find(t.Context(), desktest.Found{
		Tactic: "otp_request", Leg: desktest.Caller, Words: "read me the code", Points: 6.5, ID: "f",
		Start: 10300 * time.Millisecond, End: 11500 * time.Millisecond, State: callwardenv1.FindingState_FINDING_STATE_PROVISIONAL,
	}))
	p.Wait("marked words", soon, `document.querySelector("mark.is-provisional")?.firstChild.textContent === "read me the code"`)
	p.WaitText(soon, ".verdict", "Warning")
	p.WaitText(soon, ".advice", "Do not read out the code.")
	p.WaitText(soon, ".why", "6.5")
	p.WaitText(soon, ".flag", "1")

	// What is marked says why, to the pointer, to the finger and to the keyboard.
	for _, event := range []string{`dispatchEvent(new PointerEvent("pointerover", {bubbles: true}))`, `click()`, `focus()`} {
		browsertest.Eval[any](p, `document.querySelector("mark").`+event)
		p.Wait("the tip", soon, `!document.querySelector("#tip").hidden`)
		for _, part := range []string{"asks for a one-time code", "6.5", "otp_request / a-pattern", "not final yet", "91 %", "ask"} {
			p.WaitText(soon, "#tip", part)
		}
		browsertest.Eval[any](p, `document.activeElement.blur(), document.querySelector("mark").dispatchEvent(new PointerEvent("pointerout", {bubbles: true}))`)
		p.Wait("the tip to go", soon, `document.querySelector("#tip").hidden`)
	}
	// A guard takes the points, and says so; a finding that did not hold goes.
	s.must(c.Find(t.Context(), desktest.Found{Tactic: "urgency", Leg: desktest.Caller, Words: "please", Guard: "reported", ID: "g", Start: 10 * time.Second, End: 10280 * time.Millisecond}))
	p.Wait("a muted mark", soon, `document.querySelector("mark.is-muted")?.firstChild.textContent === "please"`)
	browsertest.Eval[any](p, `document.querySelector("mark.is-muted").focus()`)
	p.WaitText(soon, "#tip", "reported")
	s.must(c.Find(t.Context(), desktest.Found{
		Tactic: "otp_request", Leg: desktest.Caller, Words: "read me the code", Points: -6.5, ID: "f",
		Start: 10300 * time.Millisecond, End: 11500 * time.Millisecond, State: callwardenv1.FindingState_FINDING_STATE_RETRACTED,
	}))
	p.Wait("the mark to go", soon, `document.querySelectorAll("mark").length === 1 && document.querySelector(".note")?.innerText.includes("withdrawn")`)
	s.must(c.Hear(t.Context(), callwardenv1.Hearing_HEARING_DEAF, "no media for 5s"))
	p.WaitText(soon, ".banner.bad", "no media for 5s")
	p.WaitText(soon, ".ears", "Deaf")
	s.must(c.End(t.Context()))
	p.WaitText(soon, ".about-call", "ended: end of audio")
}

// told follows what people do, as others on NATS see it.
type told struct {
	t  *testing.T
	mu sync.Mutex
	by []*callwardenv1.CallAction
}

func (s *station) told() *told {
	w := &told{t: s.t.(*testing.T)}
	cfg := natssink.DefaultWatchConfig()
	cfg.URL = s.url
	cfg.Since = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		_, _ = natssink.Watch(ctx, cfg, discard(), func(ev sink.Event) error {
			if a, ok := ev.Data.(*callwardenv1.CallAction); ok {
				w.mu.Lock()
				w.by = append(w.by, a)
				w.mu.Unlock()
			}
			return nil
		})
	})
	s.t.Cleanup(func() { cancel(); group.Wait() })
	return w
}

// wait waits for the nth action and returns it.
func (w *told) wait(n int) *callwardenv1.CallAction {
	w.t.Helper()
	for deadline := time.Now().Add(soon); ; <-time.After(20 * time.Millisecond) {
		w.mu.Lock()
		list := slices.Clone(w.by)
		w.mu.Unlock()
		if len(list) >= n {
			return list[n-1]
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d actions were told, want %d", len(list), n)
		}
	}
}

func TestEveryButtonTellsWhoDidWhat(t *testing.T) {
	s := open(t, nil)
	told := s.told()
	s.fraud("acted", "from", "+44 20 #### ##01")
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Expect("409")
	p.Expect("504")
	p.Open(s.URL + "/#/call/default/acted")
	p.WaitText(soon, ".verdict", "Critical")
	// What the clipboard is given; a page may not read it unasked.
	browsertest.Eval[any](p, `(write => { navigator.clipboard.writeText = text => { window.copied = text; return write(text); }; })(navigator.clipboard.writeText.bind(navigator.clipboard))`)
	is := func(n int, action callwardenv1.Action, note string) *callwardenv1.CallAction {
		t.Helper()
		a := told.wait(n)
		if a.GetAction() != action || a.GetNote() != note || a.GetWho() == "" || time.Since(a.GetWhen().AsTime()).Abs() > time.Minute || a.GetContext().GetCall() != "acted" {
			t.Errorf("action %d is %v", n, a)
		}
		return a
	}
	const ack, scam, not, note, copied = callwardenv1.Action_ACTION_ACKNOWLEDGED, callwardenv1.Action_ACTION_SCAM, callwardenv1.Action_ACTION_NOT_SCAM, callwardenv1.Action_ACTION_NOTE, callwardenv1.Action_ACTION_EVIDENCE_COPIED
	pressed := func(kind string, on bool) {
		t.Helper()
		p.Wait(fmt.Sprintf("%s to be pressed %v", kind, on), soon, fmt.Sprintf(`document.querySelector(".act-%s").getAttribute("aria-pressed") === "%v"`, kind, on))
	}

	p.Click(".act-acknowledged")
	is(1, ack, "")
	pressed("acknowledged", true)
	p.WaitText(soon, ".log", "acknowledged the call")
	p.Click(".toast button") // Undo
	if a := is(2, ack, ""); a.GetUndoes() == "" {
		t.Error("the undoing undoes nothing")
	}
	pressed("acknowledged", false)
	p.WaitText(soon, ".log .undone", "taken back by")

	p.Click(".act-scam")
	is(3, scam, "")
	pressed("scam", true)
	p.Click(".act-not_scam")
	is(4, not, "")
	pressed("not_scam", true)
	pressed("scam", false)
	p.Click(".act-not_scam") // again: taken back
	if a := is(5, not, ""); a.GetUndoes() == "" {
		t.Error("the undoing undoes nothing")
	}
	pressed("not_scam", false)

	p.Click(".act-note")
	p.Type("dialog textarea", "called back on 0201234567 <b>fast</b>")
	p.Click("dialog .primary")
	is(6, note, "called back on ########## <b>fast</b>")
	p.WaitText(soon, ".log", "called back on ########## <b>fast</b>")
	p.Click(".log .undo") // the latest: the note
	if a := is(7, note, ""); a.GetUndoes() == "" {
		t.Error("the undoing undoes nothing")
	}

	p.Click(".act-copy")
	is(8, copied, "")
	text := browsertest.Eval[string](p, "window.copied")
	for _, part := range []string{"Call from +44 20 #### ##01", "highest level critical", "“read me the code” (6 points, otp_request/a-pattern)", "guard your-code-is", "Callee: okay the code is # # # # # #"} {
		if !strings.Contains(text, part) {
			t.Errorf("the evidence is without %q:\n%s", part, text)
		}
	}
	// The way in cannot speak into this call, and the page says so.
	if got := browsertest.Eval[string](p, `document.querySelector(".act-play").getAttribute("aria-disabled") + document.querySelector(".act-play").title`); !strings.Contains(got, "true") || !strings.Contains(got, "siprec") {
		t.Errorf("the button to play a warning is %q", got)
	}
}

func TestAWarningIsPlayedOnRequest(t *testing.T) {
	s := open(t, nil)
	s.fraud("played", "can_play", "yes")
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Expect("409")
	p.Expect("504")
	p.Open(s.URL + "/#/call/default/played")
	p.WaitText(soon, ".verdict", "Critical")
	press := func() {
		p.Click(".act-play")
		p.WaitText(soon, "dialog[open]", "It cannot be taken back.")
		p.Click("dialog .danger")
	}
	press()
	p.WaitText(soon, ".toast.bad", "Nobody answers for this call.")

	// The process that has the call.
	type command struct{ tenant, call, play, who string }
	commands, answers := make(chan command, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		_ = natssink.TakeCommands(ctx, natssink.Connection{URL: s.url}, discard(), func(_ context.Context, tenant, call string, cmd natssink.Command) error {
			commands <- command{tenant, call, cmd.Play, cmd.Who}
			return <-answers
		})
	})
	answers <- natssink.Refusal("too much is waiting to be said")
	s.await("a player", func() bool { // it listens from some time on
		code, _ := ask(t, "POST", s.URL+"/api/calls/default/played/prompt", `{"prompt":"customer"}`)
		return code != 504
	})
	<-commands
	answers <- natssink.Refusal("too much is waiting to be said")
	press()
	p.WaitText(soon, ".toast.bad:last-of-type", "Too much is waiting to be said.")
	<-commands
	answers <- nil
	press()
	p.WaitText(soon, ".toast:last-of-type", "The warning is being played.")
	if got := <-commands; got.tenant != "default" || got.call != "played" || got.play != "customer" || got.who == "" {
		t.Errorf("the command was %+v", got)
	}
}

func TestLongCallsAreShownInPieces(t *testing.T) {
	const segments = 10_000
	s := open(t, nil)
	c := s.call("long", 5*time.Hour, "from", "+44 20 #### ##01")
	s.await("the desk to know the call", func() bool { return s.row("long") != "" })
	for i := range segments {
		_, err := c.Say(t.Context(), desktest.Caller+callwardenv1.Leg(i%2), time.Duration(i)*1700*time.Millisecond, fmt.Sprintf("stretch %d of a long talk", i), true)
		s.must(err)
	}
	s.await("all of it to arrive", func() bool {
		code, body := ask(t, "GET", s.URL+"/api/calls/default/long", "")
		return code == 200 && strings.Contains(body, fmt.Sprintf("stretch %d of", segments-1))
	})
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Open(s.URL + "/#/call/default/long")
	p.WaitText(soon, ".turns", fmt.Sprintf("stretch %d of a long talk", segments-1))
	p.Wait("the end to be in sight", soon, `(e => e.scrollHeight - e.scrollTop - e.clientHeight < 60)(document.querySelector(".scroller"))`)
	shown := func() int { return browsertest.Eval[int](p, `document.querySelectorAll(".turn").length`) }
	if n := shown(); n > 1000 {
		t.Errorf("%d stretches are in the page", n)
	}
	for range 4 { // back in the call
		first := browsertest.Eval[string](p, `document.querySelector(".turn").innerText`)
		browsertest.Eval[any](p, `document.querySelector(".earlier").click()`)
		p.Wait("earlier stretches", soon, fmt.Sprintf(`document.querySelector(".turn").innerText !== %q`, first))
	}
	if n := shown(); n > 1000 {
		t.Errorf("%d stretches are in the page", n)
	}
	// What is said now does not pull the reader away, and can be gone back to.
	_, err := c.Say(t.Context(), desktest.Caller, segments*1700*time.Millisecond, "and one more", true)
	s.must(err)
	p.Click(".to-now")
	p.WaitText(soon, ".turns", "and one more")
	if got := texts(p, ".turn:last-of-type"); !strings.Contains(got[len(got)-1], "and one more") {
		t.Errorf("the last stretch is %q", got[len(got)-1])
	}
}

func TestAWrongClockIsSaidAndDoesNotCount(t *testing.T) {
	s := open(t, nil)
	s.fraud("ahead", "clock_off", "3h")
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Open(s.URL + "/#/call/default/ahead")
	p.WaitText(soon, ".banner", "A clock is wrong")
	p.Wait("how much", soon, `/(2 h 59|3 h)/.test(document.querySelector(".banner").innerText)`)
	if lasts := texts(p, ".figures dd")[1]; !strings.HasPrefix(lasts, "1:") {
		t.Errorf("a call of a minute lasts %s", lasts)
	}
}

func TestACallThatIsNotThereIsSaid(t *testing.T) {
	s := open(t, nil)
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Expect("404")
	p.Open(s.URL + "/#/call/default/" + url.PathEscape("no such/call"))
	p.WaitText(soon, ".waiting", "Search the history")
}

// row is a call's in the overview's API, "" where there is none.
func (s *station) row(id string) string {
	code, body := ask(s.t, "GET", s.URL+"/api/calls/default/"+id, "")
	if code != 200 {
		return ""
	}
	return body
}

func (s *station) await(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(2 * soon); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain for %s", what)
		}
	}
}
