package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPageShowsRatesAndWords(t *testing.T) {
	ways := []way{{name: "simple"}, {name: "learned"}, {name: "original", original: true}}
	rows := []row{{
		set: "an4", line: lines[0], scored: true, words: true,
		clips: []clip{{name: "c1", text: []string{"gift", "card", "code", "please"}}},
		heard: [][][]string{{{"lift", "card", "coat", "please"}}, {{"gift", "card", "code"}}, {nil}},
	}}
	path := filepath.Join(t.TempDir(), "sub", "index.html")
	if err := writePage(t.Context(), path, ways, rows, 16000); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"an4, 16k", "simple 50.0 %", "learned 25.0 %", ">gift code <", ">please <"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(string(data), "original 0") {
		t.Error("what has no original has a rate for it")
	}
}
