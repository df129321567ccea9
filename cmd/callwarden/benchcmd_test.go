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

// Ten short calls stand for the thousand of bench --churn 1000.
func TestWholeBenchMeasuresCallsMemoryAndTheBareRecogniser(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), strings.Fields("bench --calls 1 --warm 0s --measure 2s --bare 1s --churn 10 --listen screen --json --out "+dir), &stdout, &stderr)
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
	if c := r.Churn; c == nil || c.Calls != 10 || c.MemoryBeforeMB <= 0 || c.MemoryAfterMB > 1.1*c.MemoryBeforeMB {
		t.Errorf("memory before and after short calls: %+v", c)
	}
	for _, name := range []string{"bench.json", "bench.html"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() < 500 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
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
