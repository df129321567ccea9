package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	// A screen is a terminal's in this package.
	closedlist "github.com/callwarden/callwarden/detectors/screen"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/detectors/talk"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// screenList is what the packs compile to, as the listening plan wants it.
type screenList struct {
	*closedlist.List
	talk *talk.Model
}

func (l screenList) Scorer() listen.Scorer { return l.List.Scorer(l.talk.NewCall()) }

// screens makes the closed lists of the packs as they change. A call keeps the
// list with which it began.
type screens struct {
	packs func() *tactics.Library
	knows func(word string) bool // nil where the engine does not say
	log   *slog.Logger
	talk  *talk.Model

	mu   sync.Mutex
	lib  *tactics.Library // that list was made of
	list *closedlist.List
}

// newScreens fails where engine can hear nothing of the packs.
func newScreens(engine transcribe.Engine, packs func() *tactics.Library, log *slog.Logger) (*screens, error) {
	s := &screens{packs: packs, log: log, lib: packs()}
	if v, ok := engine.(transcribe.Vocabulary); ok {
		s.knows = v.Knows
	}
	var err error
	if s.talk, err = talk.Load(); err != nil {
		return nil, err
	}
	if s.list, err = closedlist.Compile(s.lib.Set, s.knows); err != nil {
		return nil, err
	}
	if engine.Info().Phrases {
		if err := warm(engine, s.list.Phrases()); err != nil {
			log.Warn("the first call will be screened late", "err", err)
		}
	}
	return s, nil
}

// warm has a moment of silence screened, so that the first call need not wait
// for what the recogniser loads with the first list: a second of loading.
func warm(engine transcribe.Engine, phrases []string) (err error) {
	ctx, rateHz := context.Background(), engine.Info().RateHz
	s, err := engine.Open(ctx, transcribe.Options{RateHz: rateHz, Phrases: phrases, Thrifty: true, Live: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err = s.Write(ctx, audio.Frame{Rate: rateHz, PCM: make([]int16, rateHz/2)}); err != nil {
		return err
	}
	_, err = s.Finish(ctx)
	return err
}

// current is the list of the newest packs that make one.
func (s *screens) current() listen.Screen {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lib := s.packs(); lib != s.lib {
		s.lib = lib
		list, err := closedlist.Compile(lib.Set, s.knows)
		if err != nil {
			s.log.Error("screening goes on with the packs before", "err", err)
		} else {
			s.list = list
		}
	}
	return screenList{s.list, s.talk}
}

// maxHints is how many words and phrases recognisers are told to expect. They
// are the first of several hundred; services that take hints advise against
// long lists.
const maxHints = 100

// hints are those of the packs as they change.
type hints struct {
	packs func() *tactics.Library

	mu   sync.Mutex
	lib  *tactics.Library // that list was made of
	list []string
}

func (h *hints) current() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if lib := h.packs(); lib != h.lib {
		h.lib, h.list = lib, closedlist.Hints(lib.Set, maxHints)
	}
	return h.list
}
