package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// What a screened call says, in the order in which it is said.
type screenedCall struct {
	level     string
	complete  bool
	listened  []string        // ways, in order
	open      []time.Duration // begins of what was transcribed
	hit       time.Duration   // when transcribing began
	duplicate []string        // finding ids that were confirmed twice
}

func readScreened(t *testing.T, lines string) (c screenedCall) {
	t.Helper()
	confirmed := map[string]bool{}
	for line := range bytes.Lines([]byte(lines)) {
		var ev struct {
			Type string
			Data struct {
				At       string
				Start    string
				Heard    string
				Listen   string
				Level    string
				Complete bool
				Finding  struct{ ID, State string }
			}
		}
		if err := json.Unmarshal(line, &ev); err != nil {
			t.Fatal(err)
		}
		at := func(s string) time.Duration {
			d, _ := time.ParseDuration(s) // absent is zero
			return d
		}
		switch d := ev.Data; ev.Type {
		case "callwarden.call.status.v1":
			if n := len(c.listened); n == 0 || c.listened[n-1] != d.Listen {
				c.listened = append(c.listened, d.Listen)
				c.hit = at(d.At)
			}
		case "callwarden.transcript.segment.v1":
			if d.Heard == "HEARD_OPEN" {
				c.open = append(c.open, at(d.Start))
			}
		case "callwarden.risk.finding.v1":
			if d.Finding.State != "FINDING_STATE_CONFIRMED" {
				break
			}
			if confirmed[d.Finding.ID] {
				c.duplicate = append(c.duplicate, d.Finding.ID)
			}
			confirmed[d.Finding.ID] = true
		case "callwarden.call.ended.v1":
			c.level, c.complete = d.Level, d.Complete
		}
	}
	return c
}

// The real recogniser screens a fraud, wakes, goes back in time for what was
// said before, and says the same when it hears it again.
func TestWholeScreenedFraudIsTranscribedFromBeforeTheHitAndRepeats(t *testing.T) {
	file := filepath.Join(calls, "fraud-code.wav")
	var first string
	for range 2 {
		code, stdout, stderr := callwarden(t, "replay", file, "--listen", "screen", "--json", "--transcript")
		if code != exitDone {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
		if first == "" {
			first = stdout
		} else if stdout != first {
			t.Error("the second run says something else")
		}
	}
	c := readScreened(t, first)
	if c.level != "LEVEL_CRITICAL" || !c.complete {
		t.Errorf("the fraud ended at %s, complete %v", c.level, c.complete)
	}
	if !slices.Equal(c.listened, []string{"screen", "full"}) {
		t.Errorf("listened %v", c.listened)
	}
	if len(c.open) == 0 || slices.Min(c.open) > c.hit-5*time.Second {
		t.Errorf("woken at %v, transcribed from %v: nothing of what was said before", c.hit, c.open)
	}
	if len(c.duplicate) > 0 {
		t.Errorf("confirmed twice: %v", c.duplicate)
	}
}

func TestWholeScreenedHonestCallStaysQuiet(t *testing.T) {
	code, stdout, stderr := callwarden(t, "replay", filepath.Join(calls, "honest-help-desk.wav"), "--listen", "screen", "--json")
	if code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if c := readScreened(t, stdout); c.level != "LEVEL_NONE" && c.level != "LEVEL_NOTICE" || !c.complete {
		t.Errorf("an honest call ended at %s, complete %v", c.level, c.complete)
	}
}

// A transcript takes no phrase list: it is listened to in full, and that is
// said.
func TestScreeningWithABackendThatCannotIsSaid(t *testing.T) {
	code, stdout, stderr := callwarden(t, "replay", filepath.Join(calls, "fraud-code.txt"), "--backend", "script", "--listen", "screen", "--json")
	if code != exitDone {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if c := readScreened(t, stdout); !slices.Equal(c.listened, []string{"full"}) || c.level != "LEVEL_CRITICAL" {
		t.Errorf("listened %v and ended at %s", c.listened, c.level)
	}
	if !bytes.Contains([]byte(stdout), []byte("script takes no phrase lists")) {
		t.Error("no event says why it was not screened")
	}
}
