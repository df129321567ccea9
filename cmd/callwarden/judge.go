package main

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/dialogue"
	"github.com/callwarden/callwarden/detectors/identity"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/detectors/talk"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe"
)

// judgeFlags say how findings are made.
type judgeFlags struct {
	packs    string
	country  string
	unmasked bool
	key      string // of packs, where it is not the flag
}

func (f *judgeFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.packs, "packs", "", "folder of tactic packs instead of the built-in ones; looked at again when it changes")
	c.Flags().StringVar(&f.country, "country", "US", "country whose advice is given: US, GB, IN")
	c.Flags().BoolVar(&f.unmasked, "unmasked", false, "let digits through into events and reports")
}

const (
	adviceLanguage = "en"            // the only one that the packs and the advice have
	packsEvery     = 2 * time.Second // reading all packs takes some 30 ms
)

// judge loads what calls are judged by. A call keeps the packs with which it
// began; where somebody runs the watcher, the next has those of its time.
func (f *judgeFlags) judge(log *slog.Logger) (*tactics.Watcher, pipeline.Judge, error) {
	return f.judgeBy(risk.DefaultConfig(), log)
}

// judgeBy is judge with other levels than the usual.
func (f *judgeFlags) judgeBy(levels risk.Config, log *slog.Logger) (*tactics.Watcher, pipeline.Judge, error) {
	packs, err := tactics.NewWatcher(f.packs, packsEvery, log)
	if err != nil {
		return nil, nil, usagef("%s: %w", cmp.Or(f.key, "--packs"), err)
	}
	model, err := talk.Load()
	if err != nil {
		return nil, nil, err
	}
	return packs, func(call *source.Call) (detectors.Detector, *risk.Meter) {
		lib := packs.Library()
		cfg := levels
		cfg.Advise = func(tactic string, level risk.Level) risk.Advice {
			a, ok := lib.Advice(tactic, adviceLanguage, f.country, level.String())
			if !ok {
				return risk.Advice{}
			}
			return risk.Advice{ID: a.ID, Language: adviceLanguage, Text: a.Text}
		}
		return &listener{
			Detector: dialogue.New(lib.Set, dialogue.Config{}),
			talk:     model.NewCall(),
			identity: identity.New(call.Attributes),
		}, risk.NewMeter(cfg)
	}, nil
}

// listener hears what is said in a call, what the call is like, and who claims
// to be somebody else.
type listener struct {
	*dialogue.Detector
	talk     *talk.Call
	identity *identity.Detector // nil where nobody says who is calling
}

var (
	_ detectors.Detector    = (*listener)(nil)
	_ detectors.Finisher    = (*listener)(nil)
	_ detectors.Opinionated = (*listener)(nil)
)

func (l *listener) Observe(seg transcribe.Segment) []detectors.Finding {
	if seg.Heard == transcribe.Openly { // what a closed list hears of ordinary talk is mostly wrong
		l.talk.Observe(seg)
	}
	found := l.Detector.Observe(seg)
	return append(found, l.identity.Claims(found)...)
}

func (l *listener) Finish(at time.Duration) []detectors.Finding {
	found := l.Detector.Finish(at)
	return append(found, l.identity.Claims(found)...)
}

func (l *listener) Opinion() detectors.Opinion { return l.talk.Opinion() }
