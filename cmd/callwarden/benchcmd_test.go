package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/cmd/internal/load"
)

func TestBenchMeasuresCallsAndTheBareRecogniser(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), strings.Fields("bench --calls 1 --warm 0s --measure 3s --bare 1s --listen screen --json --out "+dir), &stdout, &stderr)
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var r load.Results
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	if r.Bare == nil || r.Bare.CPUPerCallMinute <= 0 || len(r.Ways) != 1 || r.Ways[0].Listen != "screen" || len(r.Ways[0].Steps) != 1 {
		t.Fatalf("results: %s", stdout.String())
	}
	if s := r.Ways[0].Steps[0]; s.Calls != 1 || s.CPU <= 0 || s.MemoryMB <= 0 {
		t.Errorf("step: %+v", s)
	}
	for _, name := range []string{"bench.json", "bench.html"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() < 500 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// Thirty calls here stand for the thousand of bench --churn 1000.
func TestMemoryComesBackWhenCallsHaveEnded(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), strings.Fields("bench --measure 0s --bare 0s --churn 30 --listen screen --json"), &stdout, &stderr)
	var r load.Results
	if err := json.Unmarshal(stdout.Bytes(), &r); code != exitDone || err != nil || r.Churn == nil {
		t.Fatalf("exit code %d, %v: %s%s", code, err, stdout.String(), stderr.String())
	}
	if c := r.Churn; c.Calls != 30 || c.MemoryBeforeMB <= 0 || c.MemoryAfterMB > 1.1*c.MemoryBeforeMB {
		t.Errorf("%v MB before %d calls, %v MB after", c.MemoryBeforeMB, c.Calls, c.MemoryAfterMB)
	}
}

func TestBenchRefusesWhatItCannotPlay(t *testing.T) {
	for _, args := range []string{
		"--listen half", "--speech 0", "--frauds 2", "--calls -1", "--limit 0s", "--backend script", "--audio " + t.TempDir(), "extra",
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"bench"}, strings.Fields(args)...), &stdout, &stderr); code != exitUsage {
			t.Errorf("bench %s: exit code %d: %s", args, code, stderr.String())
		}
	}
}
