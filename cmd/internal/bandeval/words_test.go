package main

import (
	"slices"
	"strings"
	"testing"
)

func TestRightWordsAreThoseOfAnAlignment(t *testing.T) {
	tests := []struct{ said, heard, right string }{
		{"read me the code", "read me the code", "read me the code"},
		{"read me the code", "red me a code please", "me code"},
		{"read me the code", "", ""},
		{"", "what", ""},
		{"one two three", "zero one three", "one three"},
		{"code", "the the code", "code"},
	}
	for _, tt := range tests {
		said := strings.Fields(tt.said)
		var got []string
		for i, ok := range right(said, strings.Fields(tt.heard)) {
			if ok {
				got = append(got, said[i])
			}
		}
		if !slices.Equal(got, strings.Fields(tt.right)) {
			t.Errorf("of %q heard as %q: %v", tt.said, tt.heard, got)
		}
	}
}

func TestChangesAreBetweenSimpleAndLearned(t *testing.T) {
	rows := []row{{
		set: "demo", line: line{name: "8k"}, words: true,
		clips: []clip{{name: "a", text: []string{"gift", "card"}}},
		heard: [][][]string{{{"lift", "card"}}, {{"gift", "car"}}},
	}}
	got := changes([]way{{name: "simple"}, {name: "learned"}}, rows)
	if len(got) != 1 || !slices.Equal(got[0].Gained, []string{"gift"}) || !slices.Equal(got[0].Lost, []string{"card"}) {
		t.Errorf("%+v", got)
	}
}
