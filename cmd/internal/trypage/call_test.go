//go:build e2e

package trypage_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// with is a service as somebody has it who tries it out: Vosk, and calls from
// browsers on this machine.
const with = `
transcriber: {mode: inprocess, backend: vosk}
sources:
  whip: {enabled: true, udp: "127.0.0.1:0"}
`

// listening begins a call again for as long as the server says that it is busy,
// as people do on a machine that is.
const listening = `document.getElementById("ears-text").innerText.includes("Listening") ||
	document.getElementById("setup").innerText.includes("busy") && !document.getElementById("start").disabled && (document.getElementById("start").click(), false)`

// open is the page, ready.
func open(t *testing.T, served *browsertest.Served, in *browsertest.Browser) *browsertest.Page {
	t.Helper()
	p := in.Page(t)
	p.Prefer(false, true)
	p.Open(served.URL + "/try/")
	p.Wait("the page", 10*time.Second, `document.body.dataset.ready`)
	return p
}

// choose picks where the sound comes from.
func choose(p *browsertest.Page, way string) {
	p.Do(browsertest.Script(fmt.Sprintf(`document.querySelector("input[name=way][value=%s]").click()`, way)))
}

func TestACallFromTheBrowserIsHeardAndItsRiskShown(t *testing.T) {
	served := browsertest.Serve(t, browsertest.Build(t), with)

	t.Run("two legs of a recording", func(t *testing.T) {
		p := open(t, served, browsertest.Start(t, browsertest.Config{}))
		choose(p, "demo")
		p.Do(browsertest.Script(`demo.value = "fraud-code.wav"`))
		p.Click("#start")
		p.Wait("a call that is heard", 60*time.Second, listening)
		p.Wait("words that are not final yet", 20*time.Second, `document.querySelector("#turns .soon")`)
		p.Shot(filepath.Join(shots, "call-begins.png"))
		p.WaitText(60*time.Second, "#level", "Act now")
		p.Shot(filepath.Join(shots, "call-critical.png"))
		for selector, want := range map[string]string{
			"#advice": "Hang up", "#turns .callee mark": "#", "#alert": "Act now",
		} {
			p.WaitText(20*time.Second, selector, want)
		}
		// What is heard through a browser's codec is not the same every time.
		p.Wait("most of what the caller says first", 20*time.Second,
			`["department", "bank", "somebody", "money", "account"].filter((w) => document.querySelector("#turns .caller")?.innerText.includes(w)).length >= 3`)
		p.Wait("the end", 60*time.Second, `!ended.hidden`)
		if got := p.Text("#ended"); !strings.Contains(got, "All of it was heard") {
			t.Errorf("at the end: %q", got)
		}
		if got := p.Text("#eyebrow"); !strings.Contains(got, "highest") {
			t.Errorf("the eyebrow says %q", got)
		}
		look(t, p, "call-over")
		p.Click("#again")
		p.Wait("the beginning", 5*time.Second, `!setup.hidden && live.hidden`)
	})

	t.Run("two legs of a recording, in Firefox", func(t *testing.T) {
		f := browsertest.StartFirefox(t)
		f.Open(served.URL + "/try/")
		f.Wait("the page", 20*time.Second, `document.body.dataset.ready`)
		f.Eval(`(document.querySelector("input[name=way][value=demo]").click(), document.getElementById("demo").value = "fraud-remote.wav", document.getElementById("start").click())`)
		f.Wait("a call that is heard", 60*time.Second, listening)
		f.Wait("words", 40*time.Second, `document.querySelector("#turns .caller")`)
		f.Wait("a likely fraud", 90*time.Second, `document.getElementById("level").innerText === "Probably a fraud"`)
		f.Shot(filepath.Join(shots, "firefox-warning.png"))
		f.Eval(`document.getElementById("end").click()`)
		f.Wait("the end", 30*time.Second, `!document.getElementById("ended").hidden`)
		if got := f.Eval(`document.getElementById("ended").innerText`); !strings.Contains(got, "The call lasted") || strings.Contains(got, "lost") {
			t.Errorf("at the end: %q", got)
		}
		// Its microphone beeps: what counts is that it is heard, and that a call
		// that somebody ends is over.
		f.Eval(`(document.getElementById("again").click(), document.querySelector("input[name=way][value=one]").click(), document.getElementById("start").click())`)
		f.Wait("a call by microphone", 60*time.Second, listening)
		f.Eval(`document.getElementById("end").click()`)
		f.Wait("its end", 30*time.Second, `!document.getElementById("ended").hidden`)
	})

	t.Run("one microphone", func(t *testing.T) {
		p := open(t, served, browsertest.Start(t, browsertest.Config{Microphone: microphone(t, "fraud-giftcards.wav", audio.Caller)}))
		p.Click("#start")
		p.Wait("a call that is heard", 60*time.Second, listening)
		p.Wait("a meter that moves", 20*time.Second, `document.querySelector(".meter i").style.transform > "scaleX(0.2)"`)
		p.WaitText(60*time.Second, "#found", "gift cards")
		p.Click("#end")
		p.Wait("the end", 20*time.Second, `!ended.hidden`)
		if got := p.Text("#ended"); !strings.Contains(got, "The call lasted") || strings.Contains(got, "lost") {
			t.Errorf("at the end: %q", got)
		}
	})
}

// microphone is what one side of one of our calls says, for Chromium to take it
// for its microphone.
func microphone(t *testing.T, name string, leg audio.Leg) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "microphone.wav")
	if err := browsertest.Microphone(file, filepath.Join("../../../testdata/calls", name), leg, 2*time.Second); err != nil {
		t.Fatal(err)
	}
	return file
}
