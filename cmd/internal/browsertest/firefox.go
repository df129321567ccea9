package browsertest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// ErrNoFirefox says that there is no Firefox on this machine.
var ErrNoFirefox = errors.New("there is no Firefox here; type: sudo apt-get install firefox-esr, or make browser")

// preferences let a Firefox talk with this machine only, give pages a microphone
// that beeps without asking, and play sound without a click.
const preferences = `
user_pref("app.normandy.enabled", false);
user_pref("app.update.disabledForTesting", true);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.homepage", "about:blank");
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("extensions.update.enabled", false);
user_pref("media.autoplay.default", 0);
user_pref("media.autoplay.blocking_policy", 0);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.navigator.streams.fake", true);
user_pref("media.peerconnection.ice.loopback", true);
user_pref("media.peerconnection.ice.obfuscate_host_addresses", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,");
user_pref("toolkit.telemetry.enabled", false);
`

// listensAt is the line in which Firefox tells where its remote protocol is.
var listensAt = regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`)

// Firefox is a tab of a real Firefox, headless, driven by WebDriver BiDi (W3C).
// It is for what browsers do differently; Page does more.
type Firefox struct {
	t    testing.TB
	conn *websocket.Conn
	tab  string
	last int
}

// StartFirefox starts a Firefox with an empty tab. It ends with the test, which
// fails where there is none.
func StartFirefox(t testing.TB) *Firefox {
	t.Helper()
	path, err := exec.LookPath("firefox-esr")
	if err != nil {
		if path, err = exec.LookPath("firefox"); err != nil {
			t.Fatal(ErrNoFirefox)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "user.js"), []byte(preferences), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-remote", "--profile", dir, "--remote-debugging-port", "0")
	cmd.Env = append(os.Environ(), "HOME="+dir, "MOZ_CRASHREPORTER_DISABLE=1", "PULSE_SERVER=unix:"+startSound(t))
	says, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting Firefox: %v", err)
	}
	address := make(chan string, 1) // sent once by the goroutine below, which closes it
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(address)
		for lines := bufio.NewScanner(says); lines.Scan(); {
			if m := listensAt.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	f := &Firefox{t: t}
	select {
	case at, ok := <-address:
		if !ok {
			t.Fatal("Firefox ended before it could be driven")
		}
		f.connect(at)
	case <-time.After(time.Minute):
		t.Fatal("Firefox said nothing for a minute")
	}
	return f
}

// startSound starts a sound server whose loudspeaker nobody hears, and returns
// its socket: where there is none, Firefox plays nothing, not even into a call.
func startSound(t testing.TB) (socket string) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "sound")
	cmd := exec.Command("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes",
		"-L", "module-null-sink", "-L", "module-native-protocol-unix auth-anonymous=1 socket="+socket)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting a sound server: %v; type: sudo apt-get install pulseaudio, or make browser", err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal("the sound server did not start")
		}
	}
}

func (f *Firefox) connect(address string) {
	f.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	conn, _, err := websocket.Dial(ctx, address+"/session", nil) //nolint:bodyclose // the library has taken it
	if err != nil {
		f.t.Fatalf("connecting to Firefox: %v", err)
	}
	conn.SetReadLimit(16 << 20)
	f.conn = conn
	f.t.Cleanup(func() { _ = conn.CloseNow() })
	f.command("session.new", map[string]any{"capabilities": map[string]any{}}, nil)
	var tree struct {
		Contexts []struct {
			Context string `json:"context"`
		} `json:"contexts"`
	}
	f.command("browsingContext.getTree", map[string]any{}, &tree)
	if len(tree.Contexts) == 0 {
		f.t.Fatal("Firefox has no tab")
	}
	f.tab = tree.Contexts[0].Context
}

// command sends a command and reads its result; events in between are passed over.
func (f *Firefox) command(method string, params, result any) {
	f.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	f.last++
	err := wsjson.Write(ctx, f.conn, map[string]any{"id": f.last, "method": method, "params": params})
	for err == nil {
		var answer struct {
			ID      int             `json:"id"`
			Type    string          `json:"type"`
			Result  json.RawMessage `json:"result"`
			Error   string          `json:"error"`
			Message string          `json:"message"`
		}
		if err = wsjson.Read(ctx, f.conn, &answer); err != nil || answer.ID != f.last {
			continue
		}
		if answer.Error != "" {
			err = fmt.Errorf("%s: %s", answer.Error, answer.Message)
		} else if result != nil {
			err = json.Unmarshal(answer.Result, result)
		}
		if err == nil {
			return
		}
	}
	f.t.Fatalf("Firefox: %s: %v", method, err)
}

// Open goes to url and waits until it is loaded.
func (f *Firefox) Open(url string) {
	f.t.Helper()
	f.command("browsingContext.navigate", map[string]any{"context": f.tab, "url": url, "wait": "complete"}, nil)
}

// Eval is the string that a JavaScript expression yields in the page; of a
// promise, what it is settled with.
func (f *Firefox) Eval(expression string) string {
	f.t.Helper()
	var answer struct {
		Type   string `json:"type"`
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		ExceptionDetails struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	f.command("script.evaluate", map[string]any{
		"expression": "(async () => String(await (" + expression + ")))()", "target": map[string]any{"context": f.tab}, "awaitPromise": true,
		"userActivation": true,
	}, &answer)
	if answer.Type != "success" {
		f.t.Fatalf("Firefox: %s: %s", expression, answer.ExceptionDetails.Text)
	}
	return fmt.Sprint(answer.Result.Value)
}

// Wait waits until the JavaScript expression is truthy; what is said of it where
// that takes more than most.
func (f *Firefox) Wait(what string, most time.Duration, expression string) {
	f.t.Helper()
	for deadline := time.Now().Add(most); f.Eval("!!("+expression+")") != "true"; <-time.After(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("waited %v in vain for %s; the page shows:\n%s", most, what, f.Eval("document.body.innerText"))
		}
	}
}

// Shot keeps what the window looks like in file, a PNG; folders are made.
func (f *Firefox) Shot(file string) {
	f.t.Helper()
	var answer struct {
		Data []byte `json:"data"` // base64
	}
	f.command("browsingContext.captureScreenshot", map[string]any{"context": f.tab, "origin": "document"}, &answer)
	keep(f.t, file, answer.Data)
}
