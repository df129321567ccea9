package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/cmd/internal/caller"
	"github.com/callwarden/callwarden/cmd/internal/eval"
	"github.com/callwarden/callwarden/pipeline/admit"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/transcribe/route"
)

// audioManifest lists two recorded calls beside which their transcripts are.
func audioManifest(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(calls)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for name, label := range map[string]string{"fraud-code": "scam", "honest-code-warning": "benign"} {
		line, err := json.Marshal(map[string]string{"id": name, "audio": filepath.Join(dir, name+".wav"), "label": label, "text": "please read me the code"})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	path := filepath.Join(t.TempDir(), "calls.jsonl")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func backendsYAML(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backends.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEvalSetsBackendsSideBySide(t *testing.T) {
	dir := t.TempDir()
	out, report := filepath.Join(dir, "r.json"), filepath.Join(dir, "report")
	file := backendsYAML(t, "backends:\n  deaf: {backend: none}\n")
	code, stdout, stderr := callwarden(t, "eval", audioManifest(t), "--backend", "script,deaf", "--backends", file, "--out", out, "--report", report, "--require", "recall=0.5")
	if code != exitFailed || !strings.Contains(stderr, "deaf: not met: recall: 0 must be at least 0.5") || strings.Contains(stderr, "script: not met") {
		t.Errorf("exit %d, stderr %s", code, stderr)
	}
	// How wide the columns are is a matter of what was measured.
	narrow := strings.Join(strings.Fields(stdout), " ")
	for _, want := range []string{"SIDE BY SIDE script deaf", "Recall 1.00* 0.00", "1 items did not end alike", "fraud-code scam critical at"} {
		if !strings.Contains(narrow, want) {
			t.Errorf("output lacks %q:\n%s", want, stdout)
		}
	}
	r, err := eval.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	all := r.All()
	if len(all) != 2 || all[0].Name != "script" || all[1].Name != "deaf" || all[1].Backend != "none" {
		t.Fatalf("results are of %d backends", len(all))
	}
	for i, recall := range []float64{1, 0} {
		if s := all[i].Summary; s.Recall == nil || *s.Recall != recall || s.Calls != 2 || s.WER.Words == 0 {
			t.Errorf("%s: summary is %+v", all[i].Name, s)
		}
	}
	for _, page := range []string{"index.html", "backend-2.html"} {
		b, err := os.ReadFile(filepath.Join(report, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Backends side by side", `<a href="backend-2.html">deaf</a>`, `<a href="index.html">script</a>`, "Calls that did not end alike: 1"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s lacks %q", page, want)
			}
		}
	}

	code, stdout, stderr = callwarden(t, "eval", audioManifest(t), "--backend", "deaf,script", "--backends", file, "--json", "--against", out)
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	of := map[string]int{}
	for line := range strings.Lines(stdout) {
		var row eval.Row
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		of[row.Backend]++
	}
	if of["deaf"] != 2 || of["script"] != 2 {
		t.Errorf("lines of backends: %v", of)
	}
}

func TestBackendsFileSaysWhatIsWrong(t *testing.T) {
	manifest := audioManifest(t)
	call := filepath.Join(calls, "fraud-code.wav")
	for name, tt := range map[string]struct {
		file string
		args []string
		want []string
	}{
		"unknown key":        {"engines: {}\n", []string{"replay", call}, []string{"engines"}},
		"unknown setting":    {"backends: {a: {backend: vosk, volume: 3}}\n", []string{"replay", call}, []string{"backends.a.volume: is no setting of a backend", "model"}},
		"no backend":         {"backends: {a: {model: x}}\n", []string{"replay", call}, []string{"backends.a.backend: must be one of vosk"}},
		"way of listening":   {"backends: {a: {backend: none, listen: full}}\n", []string{"replay", call}, []string{"backends.a.listen: is no setting"}},
		"route in a route":   {"backends: {a: {backend: route}}\n", []string{"replay", call}, []string{`backends.a.backend: "route" must be one of`}},
		"unknown name":       {"backends: {a: {backend: none}}\n", []string{"replay", call, "--backend", "b"}, []string{`--backend: "b" is none of`, "vosk", "a"}},
		"unknown among some": {"backends: {a: {backend: none}}\n", []string{"eval", manifest, "--backend", "a,b"}, []string{`--backend: "b" is none of`}},
		"twice":              {"backends: {a: {backend: none}}\n", []string{"eval", manifest, "--backend", "a, a"}, []string{`--backend: "a" stands there twice`}},
		"text":               {"backends: {a: {backend: none}}\n", []string{"eval", manifest, "--backend", "a,none", "--mode", "text"}, []string{"nothing to compare"}},
		"no rules":           {"backends: {a: {backend: none}}\n", []string{"replay", call, "--backend", "route"}, []string{"routing.rules: must have one or more"}},
		"rule without":       {"backends: {a: {backend: none}}\nrouting: {rules: [{backend: z}]}\n", []string{"replay", call, "--backend", "route"}, []string{`routing.rules: "z" must be one of the backends: a`}},
		"wrong rule":         {"backends: {a: {backend: none}}\nrouting: {patience: 0s, rules: [{backend: a, leg: [left]}]}\n", []string{"replay", call, "--backend", "route"}, []string{"routing.", `rules[0].leg: "left"`, "patience: 0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := callwarden(t, append(tt.args, "--backends", backendsYAML(t, tt.file))...)
			if code != exitUsage {
				t.Errorf("exit %d, want %d", code, exitUsage)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr lacks %q: %s", want, stderr)
				}
			}
		})
	}
	if code, _, stderr := callwarden(t, "replay", call, "--backend", "route"); code != exitUsage || !strings.Contains(stderr, "needs --backends FILE") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestRouteOfAFileHearsACall(t *testing.T) {
	file := backendsYAML(t, `
backends:
  near: {backend: none}
  far: {backend: none}
routing:
  patience: 1s
  rules:
    - {leg: [caller], backend: far, fallback: near}
    - {backend: near, shadow: far, shadow_share: 0.5}
`)
	code, stdout, stderr := callwarden(t, "replay", filepath.Join(calls, "fraud-code.wav"), "--backend", "route", "--backends", file, "--json")
	if code != exitDone || !strings.Contains(stdout, "call.ended") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// Backends that are compared have the flags of the command line, those of a
// file their own.
func TestNamedBackendsHaveTheirOwnFlags(t *testing.T) {
	file := backendsYAML(t, "backends:\n  large: {backend: vosk, model: /m/large}\n")
	f := &hearFlags{}
	set := f.flagSet()
	for key, value := range map[string]string{"backend": "large,vosk", "model": "/m/own", "listen": listen.Screening, "backends": file, "transcriber": "a:1,b:2"} {
		if err := set.Set(key, value); err != nil {
			t.Fatal(err)
		}
	}
	names, each, err := f.several()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ name, backend, model string }{{"large", "vosk", "/m/large"}, {"vosk", "vosk", "/m/own"}} {
		if n := len(each[i].remote.cfg.Addresses); n != 2*i {
			t.Errorf("%s: %d addresses", names[i], n)
		}
		if got := each[i]; names[i] != want.name || got.backend != want.backend || got.model != want.model || got.listen != listen.Screening {
			t.Errorf("%s: %s with model %s, listening %s", names[i], got.backend, got.model, got.listen)
		}
	}
}

// The file that the page shows is one, and shows the defaults.
func TestPageShowsABackendsFile(t *testing.T) {
	page, err := os.ReadFile("../../docs/backends.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, ok := strings.Cut(text, "```\n")
	if !ok {
		t.Fatal("the page shows no file")
	}
	file, err := readBackends(backendsYAML(t, text))
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Backends.check(file.Routing); err != nil {
		t.Error(err)
	}
	if len(file.Routing.Rules) != 3 || len(file.Backends) != 3 {
		t.Errorf("the file has %d rules and %d backends", len(file.Routing.Rules), len(file.Backends))
	}
	want := route.DefaultConfig()
	want.Rules = file.Routing.Rules
	if !reflect.DeepEqual(file.Routing, want) {
		t.Errorf("the file has %+v, the defaults are %+v", file.Routing, want)
	}
}

func TestServeRoutesAndTellsTheMetricsOfIt(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := startServer(t, "", func(cfg *serveConfig) {
		cfg.Transcriber.Mode, cfg.Transcriber.Backend = inProcess, routeBackend
		cfg.Transcriber.Backends = namedBackends{"near": {"backend": "none"}, "far": {"backend": "none"}}
		cfg.Transcriber.Routing.Rules = []route.Rule{
			{Leg: []string{"caller"}, Backend: "near"},
			{Language: []string{"fr"}, Backend: "far", Fallback: "near", Shadow: "near"}, // as the rule below says
		}
		cfg.Admit.Rules = []admit.Rule{{Name: "french trunk", Then: admit.Listen, Source: []string{"rtp"}, Language: "fr-CA"}}
	})
	if r, err := s.call(t.Context(), caller.RTP, 1, time.Second); err != nil || !r.Good() {
		t.Fatalf("%v, %+v", err, r)
	}
	until(t, "the end of the call", func() bool { return len(s.out.events(t, "call.ended")) == 1 })
	_, text := s.get("/metrics")
	for _, want := range []string{
		`callwarden_route_sessions_total{backend="near"} 1`,
		`callwarden_route_sessions_total{backend="far"} 1`,
		`callwarden_route_away{backend="far"} 0`,
		`callwarden_route_shadow_sessions_total{backend="far",shadow="near"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics do not say %s", want)
		}
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
}
