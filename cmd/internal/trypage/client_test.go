//go:build e2e

package trypage_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/browsertest"
)

func TestTheClientSpeaksWHIP(t *testing.T) {
	served := browsertest.Serve(t, browsertest.Build(t), strings.Replace(deaf, "$MORE", "", 1))
	browser := browsertest.Start(t, browsertest.Config{})

	t.Run("ICE servers of Link headers", func(t *testing.T) {
		p := open(t, served, browser)
		for link, want := range map[string]string{
			"": `[]`,
			`<stun:stun.example.net>; rel="ice-server"`: `[{"urls":"stun:stun.example.net"}]`,
			`<turn:turn.example.net?transport=udp>; rel="ice-server"; username="u"; credential="a\"b,c"; credential-type="password", <stun:s.example>;rel=ice-server`: `[{"urls":"turn:turn.example.net?transport=udp","username":"u","credential":"a\"b,c"},{"urls":"stun:s.example"}]`,
			`<https://example.net/>; rel="ice-server", <stun:s.example>; rel="other"`:                                                                                 `[]`,
		} {
			quoted, _ := json.Marshal(link)
			got := browsertest.Eval[string](p, fmt.Sprintf(`import("./whip.js").then((m) => JSON.stringify(m.iceServersOf(%s)))`, quoted))
			if got != want {
				t.Errorf("%s\n gives %s\n want  %s", link, got, want)
			}
		}
	})

	t.Run("a call goes on over another path", func(t *testing.T) {
		p := open(t, served, browser)
		got := browsertest.Eval[string](p, `(async () => {
			const { publish } = await import("./whip.js"), { fromMicrophones } = await import("./microphone.js");
			const source = await fromMicrophones([""]);
			const types = globalThis.types = [], ends = globalThis.ends = [];
			const publication = globalThis.publication = await publish({
				url: "../v1/whip/?leg=caller", tracks: source.tracks, onEvent: (e) => types.push(e.type), onEnd: (p) => ends.push(p ? p.kind : "in order"),
			});
			const pwd = () => publication.connection.remoteDescription.sdp.match(/a=ice-pwd:(\S+)/)[1];
			const before = pwd();
			await publication.restart();
			return [before === pwd() ? "the old credentials" : "new credentials", publication.connection.connectionState, ends.length].join(", ");
		})()`)
		if got != "new credentials, connected, 0" {
			t.Errorf("after a restart: %s", got)
		}
		p.Do(browsertest.Script("publication.end()"))
		p.Wait("its end", 20*time.Second, "ends.length")
		if how := browsertest.Eval[string](p, "ends.join() + ' ' + types.at(-1)"); how != "in order callwarden.call.ended.v1" {
			t.Errorf("it ended: %s", how)
		}
	})

	t.Run("a page that is closed hangs up at once", func(t *testing.T) {
		p := open(t, served, browser)
		p.Click("#start")
		p.WaitText(20*time.Second, "#ears-text", "Listening")
		calls := func() string { return metric(t, served.URL, `callwarden_source_calls{source="whip"}`) }
		if calls() != "1" {
			t.Fatalf("there are %s calls", calls())
		}
		p.Close()
		for deadline := time.Now().Add(10 * time.Second); calls() != "0"; <-time.After(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("ten seconds later there are %s calls", calls())
			}
		}
	})
}

// metric is the value of a series at url.
func metric(t *testing.T, url, series string) string {
	t.Helper()
	r, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			return value
		}
	}
	return ""
}
