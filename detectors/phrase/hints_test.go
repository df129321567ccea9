package phrase

import (
	"slices"
	"testing"
)

func TestHintsAreTheWordsOfClassesThatGiveThem(t *testing.T) {
	pack := mustPack(t, `
tactic: remote_access_request
language: en
version: 1
points: 1
classes:
  get: [download]
  tool: {phrases: [any desk, "(team | ultra) viewer", any desk, zoho*, rustdesk, "go ~2 it", 123rescue], hints: true}
  pay: {phrases: [zelle, any desk, cash app], hints: true, sound_alikes: true}
patterns:
  - {name: get, phrase: "<get> <tool>"}
  - {name: pay, phrase: "<get> <pay>"}
`)
	conf, err := ParseConfusions("vosk.yaml", []byte("backend: vosk\nlanguage: en\nversion: 1\nsounds:\n  zelle: [sell]\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := mustCompile(t, []*Pack{pack}, nil, []*Confusions{conf}).Hints()
	if want := []string{"any desk", "zelle", "rustdesk", "cash app"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
