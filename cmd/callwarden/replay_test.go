package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/sink/natssink"
)

// asProgram makes this program callwarden itself, for what starts itself as a
// child.
const asProgram = "CALLWARDEN_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

const calls = "../../testdata/calls"

// callwarden runs the program and returns its exit code and output.
func callwarden(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

// The demo's promise, kept by the real recogniser and heard by a subscriber
// who knows nothing of us but the subjects.
func TestWholeDemoCallsAreJudgedAsPromised(t *testing.T) {
	server, err := natssink.StartServer(natssink.ServerConfig{Listen: "127.0.0.1:0", MaxStore: 1 << 30}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var mu sync.Mutex
	got := map[string][]*nats.Msg{} // by subject
	sub, err := nc.Subscribe("callwarden.v1.>", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		got[m.Subject] = append(got[m.Subject], m)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	code, stdout, stderr := callwarden(t, "replay", calls, "--nats", server.URL(), "--out", dir, "--quiet")
	if code != exitDone {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	ended, found := map[string]string{}, map[string][]string{}
	total := 0
	for subject, msgs := range got {
		for _, m := range msgs {
			total++
			if m.Header.Get("ce-specversion") != "1.0" || m.Header.Get("Nats-Msg-Id") != m.Header.Get("ce-id") {
				t.Fatalf("on %s: headers %v", subject, m.Header)
			}
			if m.Header.Get("ce-type") != "callwarden.call.ended.v1" {
				continue
			}
			var e struct {
				Level   string   `json:"level"`
				Tactics []string `json:"tactics"`
			}
			if err := json.Unmarshal(m.Data, &e); err != nil {
				t.Fatal(err)
			}
			call := strings.TrimPrefix(subject, "callwarden.v1.call.default.")
			ended[call], found[call] = e.Level, e.Tactics
		}
	}
	if len(ended) != 6 {
		t.Errorf("%d calls ended over NATS, want 6", len(ended))
	}
	for call, level := range ended {
		fraud := strings.HasPrefix(call, "fraud-")
		if fraud && level != "LEVEL_CRITICAL" || !fraud && level != "LEVEL_NONE" && level != "LEVEL_NOTICE" {
			t.Errorf("%s ended at %s", call, level)
		}
	}
	for prefix, tactics := range map[string][]string{
		"fraud-code-":      {"otp_request", "otp_readback"},
		"fraud-giftcards-": {"gift_card_request", "gift_card_readback"},
		"fraud-remote-":    {"remote_access_request", "remote_access_compliance"},
	} {
		for call := range found {
			for _, want := range tactics {
				if strings.HasPrefix(call, prefix) && !slices.Contains(found[call], want) {
					t.Errorf("%s: ask and compliance are %v, found %v", call, tactics, found[call])
				}
			}
		}
	}
	delivered := regexp.MustCompile(`(\d+) of (\d+) events delivered`).FindStringSubmatch(stdout)
	if delivered == nil || delivered[1] != delivered[2] {
		t.Errorf("the summary does not say that all was delivered:\n%s", stdout)
	}

	// The files say the same as NATS, and the pages stand on their own.
	lines := 0
	for call := range ended {
		b, err := os.ReadFile(filepath.Join(dir, call, "events.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(b, []byte("\n"))
		page, err := os.ReadFile(filepath.Join(dir, call, "report.html"))
		if err != nil {
			t.Fatal(err)
		}
		for _, foreign := range []string{"http://", "https://", "<link", "@import"} {
			if i := bytes.Index(bytes.ReplaceAll(page, []byte("http://www.w3.org/"), nil), []byte(foreign)); i >= 0 {
				t.Errorf("report of %s refers to something outside: %.60q", call, page[i:])
			}
		}
	}
	if lines != total {
		t.Errorf("%d events in the files, %d over NATS", lines, total)
	}
}

func TestWholeCallReplayedTwiceGivesEqualBytes(t *testing.T) {
	file := filepath.Join(calls, "fraud-code.wav")
	read := func() map[string][]byte {
		dir := t.TempDir()
		if code, _, stderr := callwarden(t, "replay", file, "--out", dir, "--transcript", "--quiet"); code != exitDone {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		files := map[string][]byte{}
		err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files[filepath.Base(p)], err = os.ReadFile(p)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	a, b := read(), read()
	for _, name := range []string{"events.jsonl", "report.html", "index.html"} {
		if len(a[name]) == 0 || !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s: %d and %d bytes, and they differ", name, len(a[name]), len(b[name]))
		}
	}
}

func TestTranscriptsAreReplayedWithoutSound(t *testing.T) {
	code, stdout, stderr := callwarden(t, "replay", calls, "--backend", "script", "--json", "--transcript")
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	levels := map[string]string{}
	for line := range strings.Lines(stdout) {
		var ev struct {
			Type, Subject string
			Data          struct{ Level string }
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("stdout has a line that is no JSON: %q", line)
		}
		if ev.Type == "callwarden.call.ended.v1" {
			levels[ev.Subject] = ev.Data.Level
		}
	}
	if len(levels) != 6 {
		t.Fatalf("%d calls ended", len(levels))
	}
	for call, level := range levels {
		if strings.HasPrefix(call, "fraud-") != (level == "LEVEL_CRITICAL") {
			t.Errorf("%s ended at %s", call, level)
		}
	}
	if !strings.Contains(stderr, "events delivered to NATS") {
		t.Errorf("the summary is not on stderr: %s", stderr)
	}
}

func TestExitCodesAndErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// 96 kHz, 8 channels of 16 bit, one sample of each.
	wide := write("wide.wav", "RIFF\x34\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x08\x00\x00\x77\x01\x00\x00\x70\x17\x00\x10\x00\x10\x00"+
		"data\x10\x00\x00\x00"+strings.Repeat("\x00", 16))
	empty := filepath.Join(dir, "folder")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(calls, "honest-help-desk.txt")
	for name, c := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"no such flag":       {[]string{"replay", "--nope", "x"}, exitUsage, []string{"--nope", "--help"}},
		"no such command":    {[]string{"repaly"}, exitUsage, []string{"repaly", "replay"}},
		"no file":            {[]string{"replay"}, exitUsage, []string{"--help"}},
		"bad caller":         {[]string{"replay", "x", "--caller", "up"}, exitUsage, []string{"--caller", "up", "left or right"}},
		"bad backend":        {[]string{"replay", "x", "--backend", "ears"}, exitUsage, []string{"ears", "vosk", "script"}},
		"bad listen":         {[]string{"replay", good, "--backend", "script", "--listen", "half"}, exitUsage, []string{"half"}},
		"bad speed":          {[]string{"replay", good, "--backend", "script", "--speed", "-1"}, exitUsage, []string{"speed", "-1"}},
		"bad since":          {[]string{"watch", "--since", "soon"}, exitUsage, []string{"soon", "10m"}},
		"no packs there":     {[]string{"replay", good, "--backend", "script", "--packs", empty}, exitUsage, []string{empty}},
		"not installed":      {[]string{"replay", good, "--data-dir", empty}, exitNotInstalled, []string{"callwarden models install"}},
		"doctor, nothing":    {[]string{"doctor", "--data-dir", empty}, exitNotInstalled, nil},
		"not a recording":    {[]string{"replay", write("text.wav", "words words words")}, exitFailed, []string{"text.wav", "not a WAV"}},
		"empty file":         {[]string{"replay", write("empty.wav", "")}, exitFailed, []string{"empty.wav", "empty"}},
		"eight channels":     {[]string{"replay", wide}, exitFailed, []string{"wide.wav", "channels"}},
		"folder of nothing":  {[]string{"replay", empty}, exitFailed, []string{empty, "no recordings"}},
		"missing":            {[]string{"replay", filepath.Join(dir, "gone.wav")}, exitFailed, []string{"gone.wav", "no such file"}},
		"missing, script":    {[]string{"replay", good, filepath.Join(dir, "gone.txt"), "--backend", "script"}, exitFailed, []string{"gone.txt"}},
		"transcript, broken": {[]string{"replay", write("bad.txt", "caller: hello\nnobody here\n"), "--backend", "script"}, exitFailed, []string{"bad.txt", "2"}},
		"port taken by name": {[]string{"replay", good, "--backend", "script", "--nats-listen", "nowhere"}, exitFailed, []string{"nowhere", "host:port"}},
		"both servers":       {[]string{"replay", good, "--backend", "script", "--nats", "nats://127.0.0.1:1", "--nats-listen", "127.0.0.1:0"}, exitUsage, []string{"--nats-listen"}},
		"server away":        {[]string{"replay", good, "--backend", "script", "--nats", "nats://127.0.0.1:1", "--deliver", "300ms"}, exitFailed, []string{"not delivered", "127.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := callwarden(t, c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.says {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr does not say %q:\n%s", want, stderr)
				}
			}
			if name == "missing, script" && !strings.Contains(stdout, "honest-help-desk") {
				t.Errorf("the good call was not heard beside the missing one:\n%s", stdout)
			}
		})
	}
}

func TestInterruptedReplaySaysSoAndDelivers(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var out, err bytes.Buffer
	dir := t.TempDir()
	// The first event on stdout interrupts, as a person would.
	code := run(ctx, []string{"replay", filepath.Join(calls, "fraud-code.txt"), "--backend", "script", "--speed", "1", "--json", "--out", dir},
		writerFunc(func(p []byte) (int, error) { cancel(); return out.Write(p) }), &err)
	if code != exitFailed || !strings.Contains(err.String(), "interrupted") {
		t.Errorf("exit code %d, stderr:\n%s", code, err.String())
	}
	if !strings.Contains(out.String(), `"cancelled"`) {
		t.Errorf("the call's end is not told:\n%s", out.String())
	}
	if m := regexp.MustCompile(`(\d+) of (\d+) events delivered`).FindStringSubmatch(err.String()); m == nil || m[1] != m[2] {
		t.Errorf("not everything that was heard was delivered:\n%s", err.String())
	}
	pages, _ := filepath.Glob(filepath.Join(dir, "*", "report.html"))
	if len(pages) != 1 {
		t.Errorf("%d reports of the part that was heard, want 1", len(pages))
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
