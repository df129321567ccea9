package main

import (
	// A screen is a terminal's in this package.
	closedlist "github.com/callwarden/callwarden/detectors/screen"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/transcribe"
)

// screenList is what the packs compile to, as the listening plan wants it.
type screenList struct{ *closedlist.List }

func (l screenList) Scorer() listen.Scorer { return l.List.Scorer() }

// compileScreen makes the closed list of the packs that engine can hear.
func compileScreen(engine transcribe.Engine, lib *tactics.Library) (screenList, error) {
	var knows func(string) bool
	if v, ok := engine.(transcribe.Vocabulary); ok {
		knows = v.Knows
	}
	list, err := closedlist.Compile(lib.Set, knows)
	return screenList{list}, err
}
