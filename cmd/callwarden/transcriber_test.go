package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// told is what a program that runs beside a test has said so far.
type told struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // has a token after each Write
}

func newTold() *told { return &told{more: make(chan struct{}, 1)} }

func (w *told) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
	return w.text.Write(p)
}

func (w *told) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// transcriber runs transcriber serve until the test ends, and returns when it
// has said that it listens, with what it matches.
func transcriber(t *testing.T, says string, args ...string) []string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	stderr, code := newTold(), make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"transcriber", "serve", "--grace", "1s"}, args...), io.Discard, stderr)
	}()
	t.Cleanup(func() {
		stop()
		if c := <-code; c != exitDone {
			t.Errorf("transcriber serve ended with %d: %s", c, stderr)
		}
	})
	for {
		if m := regexp.MustCompile(says).FindStringSubmatch(stderr.String()); m != nil {
			return m
		}
		select {
		case <-stderr.more:
		case c := <-code:
			code <- c
			t.Fatalf("transcriber serve ended with %d: %s", c, stderr)
		}
	}
}

var ofBackend = regexp.MustCompile(`"backend":"[a-z]*"`)

// A call says the same byte for byte, whichever process its words come from.
func TestWholeCallsAreHeardElsewhereAsInThisProcess(t *testing.T) {
	t.Setenv(asProgram, "1")
	file := "../../transcribe/vosk/testdata/speech.wav" // eight seconds
	socket := "unix:" + filepath.Join(t.TempDir(), "s")
	transcriber(t, "transcriber listens at unix:", "--listen", socket)
	var want string
	for _, args := range [][]string{{"--backend", "vosk"}, {"--backend", "remote", "--transcriber", socket}, {"--backend", "supervised"}} {
		code, stdout, stderr := callwarden(t, append([]string{"replay", file, "--listen", "screen", "--json"}, args...)...)
		if code != exitDone {
			t.Fatalf("%v: exit code %d: %s", args, code, stderr)
		}
		if !strings.Contains(stdout, fmt.Sprintf(`"backend":%q`, args[1])) {
			t.Errorf("%v: no event names the backend", args)
		}
		switch got := ofBackend.ReplaceAllString(stdout, ""); {
		case want == "":
			want = got
		case got != want:
			t.Errorf("%v says something else:\n%s\nwant\n%s", args, got, want)
		}
	}
}

func TestTranscriberShowsItsFigures(t *testing.T) {
	addr := transcriber(t, `figures at http://([^ ]*)/metrics`, "--backend", "none", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")[1]
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Contains(page, []byte("callwarden_transcriber_streams 0")) || !bytes.Contains(page, []byte("go_goroutines")) {
		t.Errorf("%v: %s", err, page)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestTranscriberServeRefusesWhatCannotBe(t *testing.T) {
	for args, want := range map[string]string{
		"transcriber serve --backend remote":                                         "--backend: remote cannot be served",
		"transcriber serve --backend none --streams 0":                               "--streams: 0 must be from 1",
		"transcriber serve --backend none --client-ca x":                             "--tls-cert: it must be set",
		"transcriber serve --backend none --tls-cert x":                              `--tls-cert: "x" and key: ""`,
		"transcriber serve --backend none --listen unix:/n/s":                        "--listen unix:/n/s: ",
		"transcriber serve --backend none --token-file /nonexistent":                 "--token-file: open /nonexistent",
		"transcriber serve extra":                                                    "unknown command",
		"replay x.wav --backend remote":                                              "--transcriber: --backend remote needs the address",
		"replay x.wav --backend remote --transcriber nowhere":                        `"nowhere" must be host:port`,
		"replay x.wav --backend remote --transcriber a:1 --transcriber-token-file t": "must not get a token without TLS",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(strings.Replace(args, "x.wav", filepath.Join(calls, "fraud-code.wav"), 1)), &stdout, &stderr)
		if code != exitUsage && !strings.Contains(args, "/n/s") || code == exitDone || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d: %s; want %q", args, code, stderr.String(), want)
		}
	}
}
