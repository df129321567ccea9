package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/transcribe"
)

func calls(t *testing.T) []call {
	t.Helper()
	var b strings.Builder
	for range 4 {
		b.WriteString(`{"id":"x-1","label":"scam","first_actionable_turn":0,"turns":[{"role":"caller","text":"read me the code we sent"},{"role":"callee","text":"one two three four"}]}` + "\n")
		b.WriteString(`{"id":"y-1","label":"benign","turns":[{"role":"caller","text":"shall we have lunch on friday"},{"role":"callee","text":"lovely, see you then"}]}` + "\n")
		b.WriteString(`{"id":"z-1","label":"unclear","turns":[{"role":"caller","text":"left out"}]}` + "\n")
	}
	name := filepath.Join(t.TempDir(), "calls.jsonl")
	if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := load(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 8 {
		t.Fatalf("%d calls, want the 8 that are labelled", len(list))
	}
	return list
}

func trained(t *testing.T, list []call) string {
	t.Helper()
	var b bytes.Buffer
	if err := train(list).write(&b, record(list)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTrainingAgainGivesTheSameFile(t *testing.T) {
	list := calls(t)
	if a, b := trained(t, list), trained(t, list); a != b {
		t.Errorf("two trainings differ:\n%s\n%s", a, b)
	}
}

func TestTrainedModelTellsItsCallsApart(t *testing.T) {
	list := calls(t)
	m, err := modelOf(list)
	if err != nil {
		t.Fatal(err)
	}
	odds := func(c call) float64 {
		k := m.NewCall()
		for _, turn := range c.Turns {
			k.Observe(transcribe.Segment{Final: true, Text: turn.Text})
		}
		return k.Opinion().LogOdds
	}
	if scam, honest := odds(list[0]), odds(list[1]); scam <= 0 || honest >= 0 {
		t.Errorf("fraud %.2f, honest %.2f", scam, honest)
	}
}

func TestAuthorIsTheLettersOfTheID(t *testing.T) {
	for id, want := range map[string]string{"homes-012": "homes", "A7": "A", "12": "", "abc": "abc"} {
		if got := (call{ID: id}).author(); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}

func TestLoadNamesTheBadLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bad.jsonl")
	if err := os.WriteFile(name, []byte("{}\nnonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(name); err == nil || !strings.Contains(err.Error(), "bad.jsonl:2") {
		t.Errorf("%v, want the file and line 2", err)
	}
}
