package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/cmd/internal/eval"
)

const evalCalls = "../internal/eval/testdata/calls.jsonl"

func TestEvalWritesResultsAndReport(t *testing.T) {
	dir := t.TempDir()
	out, report := filepath.Join(dir, "r.json"), filepath.Join(dir, "report")
	code, stdout, stderr := callwarden(t, "eval", evalCalls, "--out", out, "--report", report)
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{"text, script transcript", "recall", "2 of 3 at warning", "otp_request"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("summary lacks %q:\n%s", want, stdout)
		}
	}
	r, err := eval.Read(out)
	if err != nil || r.Mode != eval.Text || len(r.Items) != 8 || r.Summary.Missed != 1 {
		t.Errorf("results: %v, mode %s, %d items, %d missed", err, r.Mode, len(r.Items), r.Summary.Missed)
	}
	if _, err := os.Stat(filepath.Join(report, eval.ReportName)); err != nil {
		t.Error(err)
	}

	code, stdout, stderr = callwarden(t, "eval", evalCalls, "--against", out, "--json", "--alert-level", "critical")
	if code != exitDone || !strings.Contains(stderr, "AGAINST THE EARLIER RESULTS") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	n := 0
	for line := range strings.Lines(stdout) {
		var row eval.Row
		if err := json.Unmarshal([]byte(line), &row); err != nil || row.ID == "" {
			t.Fatalf("line %q: %v", line, err)
		}
		n++
	}
	if n != 8 {
		t.Errorf("%d lines of JSON, want 8", n)
	}
}

func TestEvalExitSaysWhatIsWrong(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.jsonl")
	if err := os.WriteFile(bad, []byte("{\"id\":\"a\",\"text\":\"hello there\",\"label\":\"benign\"}\n!\n{\"id\":\"b\",\"text\":\"x\",\"label\":\"odd\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string // on stderr
	}{
		{"requirements met", []string{evalCalls, "--require", "recall=0.6,otp_request.recall=1"}, exitDone, nil},
		{
			"requirements not met",
			[]string{evalCalls, "--require", "recall=0.9,precision=0.5,false_alarms_per_100=2"},
			exitFailed,
			[]string{"not met: recall: 0.6667 must be at least 0.9", "not met: false_alarms_per_100: 50 must be at most 2"},
		},
		{"bad lines", []string{bad}, exitFailed, []string{"bad.jsonl:2: no JSON", "bad.jsonl:3: label: \"odd\"", "2 bad lines"}},
		{"no such manifest", []string{"nowhere.jsonl"}, exitFailed, []string{"nowhere.jsonl"}},
		{"no manifest", nil, exitUsage, []string{"arg"}},
		{"unknown mode", []string{evalCalls, "--mode", "video"}, exitUsage, []string{`--mode: "video" must be audio or text`}},
		{"unknown level", []string{evalCalls, "--alert-level", "none"}, exitUsage, []string{"--alert-level"}},
		{"unknown figure", []string{evalCalls, "--require", "speed=1"}, exitUsage, []string{`--require: "speed" is no figure`}},
		{"nothing at once", []string{evalCalls, "--parallel", "0"}, exitUsage, []string{"--parallel: 0 must be at least 1"}},
		{"no earlier results", []string{evalCalls, "--against", bad}, exitUsage, []string{"no results"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, stderr := callwarden(t, append([]string{"eval"}, tt.args...)...)
			if code != tt.code {
				t.Errorf("exit %d, want %d: %s", code, tt.code, stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr lacks %q:\n%s", want, stderr)
				}
			}
		})
	}
}

// The rules were written with these calls: what they find there must not get
// lost. It says nothing of unseen calls. Every eighth will do here; make eval
// judges all.
func TestWholeDevelopmentCallsStayAsTheyAreJudged(t *testing.T) {
	all, err := os.ReadFile("../../testdata/eval/development.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var some []byte
	n := 0
	for line := range bytes.Lines(all) {
		if n++; n%8 == 0 {
			some = append(some, line...)
		}
	}
	manifest := filepath.Join(t.TempDir(), "some.jsonl")
	if err := os.WriteFile(manifest, some, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := callwarden(t, "eval", manifest, "--mode", "text", "--require", "recall=0.93,false_alarms_per_100=3.5")
	if code != exitDone {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
