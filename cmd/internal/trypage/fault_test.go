//go:build e2e

package trypage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
)

// deaf is a service that takes calls from browsers and hears nothing, which
// starts at once; $MORE are more keys of sources.whip.
const deaf = `
transcriber: {mode: inprocess, backend: none}
drain: {grace: 1s}
sources: {whip: {enabled: true, udp: "127.0.0.1:0" $MORE}}
`

func TestWhatGoesWrongIsSaidInPlainWords(t *testing.T) {
	binary := browsertest.Build(t)
	browser := browsertest.Start(t, browsertest.Config{})

	t.Run("no token, a wrong one, the right one", func(t *testing.T) {
		tokens := filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(tokens, []byte("default open-sesame-0123456789\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		served := browsertest.Serve(t, binary, strings.Replace(deaf, "$MORE", `, tokens_file: "`+tokens+`"`, 1))
		p := open(t, served, browser)
		p.Expect("status of 401")
		choose(p, "demo")
		p.Click("#start")
		p.WaitText(10*time.Second, "#problem", "An access token is needed.")
		if focused := browsertest.Eval[string](p, "document.activeElement.id"); focused != "token" {
			t.Errorf("the focus is on %q, not where the token is typed", focused)
		}
		p.Type("#token", "open-door-0123456789")
		p.Click("#start")
		p.Wait("another refusal", 10*time.Second, `!problem.hidden && !start.disabled`)
		p.Shot(filepath.Join(shots, "fault-token.png"))
		p.Do(browsertest.Script(`token.value = ""`))
		p.Type("#token", "open-sesame-0123456789")
		p.Click("#start")
		p.Wait("the call", 20*time.Second, `!live.hidden`)
		p.WaitText(20*time.Second, "#ears-text", "Listening")
		p.Click("#end")
		p.Wait("the end", 20*time.Second, `!ended.hidden`)
	})

	t.Run("busy", func(t *testing.T) {
		served := browsertest.Serve(t, binary, strings.Replace(deaf, "$MORE", ", publications: 1, retry_after: 7s", 1))
		first := open(t, served, browser)
		first.Click("#start")
		first.Wait("the first call", 20*time.Second, `!live.hidden`)
		second := open(t, served, browser)
		second.Expect("status of 503")
		second.Click("#start")
		second.WaitText(10*time.Second, "#problem", "busy")
		second.WaitText(5*time.Second, "#problem", "Try again in 7 seconds.")
		second.Shot(filepath.Join(shots, "fault-busy.png"))
		// Somebody who closes the page has hung up: there is room again.
		first.Close()
		second.Wait("room", 20*time.Second, `(!live.hidden || (!start.disabled && start.click(), false))`)
	})

	served := browsertest.Serve(t, binary, strings.Replace(deaf, "$MORE", "", 1))

	t.Run("no leave to use the microphone", func(t *testing.T) {
		p := open(t, served, browsertest.Start(t, browsertest.Config{Refuse: true}))
		p.Click("#start")
		p.WaitText(10*time.Second, "#problem", "did not get leave to use the microphone")
		p.Shot(filepath.Join(shots, "fault-microphone.png"))
	})

	t.Run("neither https nor this machine", func(t *testing.T) {
		p := browser.Page(t)
		p.Open(strings.Replace(served.URL, "127.0.0.1", browsertest.Elsewhere, 1) + "/try/")
		p.WaitText(10*time.Second, "#problem", "only to pages that come over https")
		if !browsertest.Eval[bool](p, `document.querySelector("input[value=one]").disabled && document.querySelector("input[value=demo]").checked`) {
			t.Error("a microphone is offered that the browser does not give")
		}
		p.Shot(filepath.Join(shots, "fault-insecure.png"))
		p.Click("#start")
		p.Wait("the call, which needs no microphone", 20*time.Second, `!live.hidden`)
	})

	t.Run("a file that is no recording", func(t *testing.T) {
		p := open(t, served, browser)
		choose(p, "file")
		p.Click("#start")
		p.WaitText(10*time.Second, "#problem", "Choose a file first.")
		text := filepath.Join(t.TempDir(), "call.wav")
		if err := os.WriteFile(text, []byte("this is no recording"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.Upload("#file", text)
		p.Click("#start")
		p.WaitText(10*time.Second, "#problem", "cannot read that file")
	})

	t.Run("the server goes away", func(t *testing.T) {
		own := browsertest.Serve(t, binary, strings.Replace(deaf, "$MORE", "", 1))
		p := open(t, own, browser)
		p.Expect("ERR_CONNECTION_REFUSED")
		p.Click("#start")
		p.WaitText(20*time.Second, "#ears-text", "Listening")
		own.Kill()
		p.Wait("the page to notice", 40*time.Second, `!ended.hidden`)
		p.WaitText(time.Second, "#ended", "The connection to the server was lost.")
		p.WaitText(time.Second, "#level", "Not heard")
		p.Shot(filepath.Join(shots, "fault-gone.png"))
		p.Click("#again")
		p.Click("#start")
		p.WaitText(10*time.Second, "#problem", "The server does not answer.")
	})
}
