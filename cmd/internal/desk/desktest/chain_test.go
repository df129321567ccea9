//go:build e2e

package desktest_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
)

// From the telephone to the page: serve hears a recorded fraud with the
// recogniser that it ships with, and its own desk shows the call.
func TestARealCallIsShownWhileItIsHeard(t *testing.T) {
	const patience = 90 * time.Second // the call lasts half a minute, and the recogniser is loaded before
	socket := free(t)
	binary := browsertest.Build(t)
	s := browsertest.Serve(t, binary, fmt.Sprintf(`
listen: {mode: full}
calls: {hypotheses: true}
sources: {audiosocket: {enabled: true, listen: %q}}
desk: {dir: "$DIR/desk"}
sinks: {nats: {transcripts: true, embedded: {store_dir: "$DIR/events", listen: "$NATS"}}}
`, socket))
	p := browsertest.Start(t, browsertest.Config{}).Page(t)
	p.Open(s.URL + "/")
	p.WaitText(soon, ".nothing", "No calls at the moment.")
	p.Wait("the machine to tell how it is", soon, `document.querySelector(".machine .meter")`)

	call := exec.CommandContext(t.Context(), binary, "call", "audiosocket", filepath.Join(root, "testdata", "calls", "fraud-code.wav"), "--to", socket, "--api", s.URL, "--from", "+442079460123")
	out := new(strings.Builder)
	call.Stdout, call.Stderr = out, out
	if err := call.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var failed error
	go func() { failed = call.Wait(); close(ended) }()
	t.Cleanup(func() { _ = call.Process.Kill(); <-ended })

	p.Wait("the call", patience, rows+" === 1")
	p.WaitText(soon, ".calls > li:first-child", "audiosocket")
	if strings.Contains(p.Text(".calls"), "9460123") {
		t.Error("the number is not masked")
	}
	p.Click("main ol.calls a.go")
	p.Wait("words as they are spoken", patience, `document.querySelector(".turn")`)
	p.Wait("both sides", patience, `document.querySelector(".turn.caller") && document.querySelector(".turn.callee")`)
	p.Wait("an alert", patience, `document.querySelector(".verdict").matches(".l-warning, .l-critical")`)
	p.Wait("what to say", soon, `document.querySelector(".advice").innerText.length > 20`)
	p.Wait("marked words", patience, `document.querySelector("mark")`)
	p.Wait("why", patience, `document.querySelectorAll(".why tbody tr").length > 0`)
	// How loud each side was is drawn: more than one colour of the lane is used.
	p.Wait("the lanes", patience, `[...document.querySelectorAll(".lane canvas")].filter(c => new Set(new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer)).size > 1).length === 2`)
	p.WaitText(patience, ".about-call", "ended")
	p.Shot(filepath.Join(shots(), "real-call.png"))
	if digits := browsertest.Eval[[]string](p, `document.querySelector(".transcript").innerText.match(/\b(four|seven|nine|six)\b/g) ?? []`); len(digits) > 1 {
		t.Errorf("digits are told: %q", digits)
	}
	if <-ended; failed != nil {
		t.Errorf("the caller: %v\n%s", failed, out)
	}
	p.Open(s.URL + "/#/history")
	p.Wait("the call in the history", soon, `document.querySelectorAll(".hist-list li").length === 1`)
}
