package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/service"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// sayings hears the same in every second of audio.
func sayings() *transcribetest.Faulty {
	heard := map[int]int{}
	return &transcribetest.Faulty{Write: func(session, _ int, f audio.Frame) ([]transcribe.Segment, error) {
		n := heard[session]
		heard[session] = n + len(f.PCM)
		if n/8000 == heard[session]/8000 {
			return nil, nil
		}
		return []transcribe.Segment{{
			Utterance: n / 8000, Final: true, Start: f.Start, End: f.End(), Text: "gift",
			Words: []transcribe.Word{{Text: "gift", Start: f.Start, End: f.End(), Confidence: 1}},
		}}, nil
	}}
}

func TestBackendsElsewhereAreOpenedByTheirFlags(t *testing.T) {
	addr, stop, err := serveVosk("127.0.0.1:0", sayings(), service.DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	var prompts []string
	whisper := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		prompts = append(prompts, r.FormValue("prompt"))
		_ = json.NewEncoder(w).Encode(map[string]string{"text": "gift"})
	}))
	defer whisper.Close()
	settings := filepath.Join(t.TempDir(), "settings.yml")
	if err := os.WriteFile(settings, []byte("timeout: 5s\nprompt_bytes: 100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	speech := filepath.Join("..", "..", "transcribe", "vosk", "testdata", "speech.wav")
	for _, args := range [][]string{
		{"--backend", "voskserver", "--transcriber", addr.String()},
		{"--backend", "openai", "--transcriber", whisper.URL, "--backend-settings", settings, "--model", "large-v3"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"replay", speech, "--json", "--transcript"}, args...), &out, &errs); code != exitDone {
			t.Fatalf("%q: exit code %d: %s", args, code, &errs)
		}
		if !strings.Contains(out.String(), `"text":"gift"`) || !strings.Contains(out.String(), `"backend":"`+args[1]+`"`) {
			t.Errorf("%q: %s", args, &out)
		}
	}
	if len(prompts) == 0 || prompts[0] == "" || len(prompts[0]) > 100 {
		t.Errorf("prompts %q, want the packs' words in 100 bytes", prompts)
	}
}

func TestBackendsElsewhereSayWhatIsWrong(t *testing.T) {
	speech := filepath.Join("..", "..", "transcribe", "vosk", "testdata", "speech.wav")
	dir := t.TempDir()
	settings := filepath.Join(dir, "settings.yml")
	if err := os.WriteFile(settings, []byte("boots: 10\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := l.Addr().String() // nobody is there once it is closed
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"voskserver"}, exitUsage, "voskserver.addresses"},
		{[]string{"voskserver", "--transcriber", "http://a:1"}, exitUsage, "http://a:1"},
		{[]string{"riva"}, exitUsage, "riva.addresses"},
		{[]string{"riva", "--transcriber", "a:1", "--backend-settings", settings}, exitUsage, "boots"},
		{[]string{"riva", "--transcriber", "a:1", "--backend-settings", "/nowhere"}, exitUsage, "/nowhere"},
		{[]string{"riva", "--transcriber", "a:1", "--transcriber-token-file", settings}, exitUsage, "in the clear"},
		{[]string{"openai"}, exitUsage, "openai.address"},
		{[]string{"voskserver", "--transcriber", away}, exitFailed, "speech.wav was not heard: opening recogniser: vosk server"},
		{[]string{"riva", "--transcriber", away}, exitFailed, "speech.wav was not heard: opening recogniser: riva server"},
		{[]string{"openai", "--transcriber", "http://a,http://b"}, exitUsage, "one address"},
		{[]string{"sherpa"}, exitUsage, "--model"},
		{[]string{"sherpa", "--model", dir}, exitNotInstalled, "encoder"},
		{[]string{"sherpa", "--model", dir, "--library", "/nowhere"}, exitNotInstalled, "/nowhere"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"replay", speech, "--backend"}, tt.args...), &out, &errs)
		if code != tt.code || !strings.Contains(errs.String(), tt.says) {
			t.Errorf("%q: exit code %d: %s, want %d and %q", tt.args, code, &errs, tt.code, tt.says)
		}
	}
}

func TestVoskClientsNeedTheTokenThatOthersNeed(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := service.DefaultConfig()
	cfg.TokenFile, cfg.Streams, cfg.Grace = token, 1, 0
	addr, stop, err := serveVosk("127.0.0.1:0", sayings(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	dial := func(authorization string) (*websocket.Conn, int) {
		conn, resp, err := websocket.Dial(t.Context(), voskAddress(addr, false), &websocket.DialOptions{ //nolint:bodyclose // Dial has read it
			HTTPClient: client, HTTPHeader: http.Header{"Authorization": {authorization}},
		})
		if resp == nil {
			t.Fatal(err)
		}
		return conn, resp.StatusCode
	}
	for _, wrong := range []string{"", "Bearer", "Bearer 0123456789abcdeg", "Basic 0123456789abcdef"} {
		if _, code := dial(wrong); code != http.StatusUnauthorized {
			t.Errorf("%q: %d", wrong, code)
		}
	}
	conn, code := dial("bearer 0123456789abcdef")
	if code != http.StatusSwitchingProtocols {
		t.Fatal(code)
	}
	defer func() { _ = conn.CloseNow() }()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"eof" : 1}`)); err != nil {
		t.Fatal(err)
	}
	if _, data, err := conn.Read(t.Context()); err != nil || string(data) != `{"text":""}` {
		t.Errorf("%q, %v", data, err)
	}
}
