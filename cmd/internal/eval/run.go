package eval

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/agnivade/levenshtein"
	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/cmd/internal/wer"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
)

// Ways of measuring.
const (
	Audio = "audio" // hears the recordings of items; those without are skipped
	Text  = "text"  // speaks the words of items; those without are skipped
)

// Config says how a corpus is heard and judged.
type Config struct {
	Mode       string // Audio or Text
	AlertLevel risk.Level
	Parallel   int // items at once
	Judge      pipeline.Judge
	Unmasked   bool // lets digits through into rows

	// Engine and Open hear recordings; text mode has its own.
	Engine transcribe.Engine
	Listen listen.Config
	Open   OpenFunc

	// Row, where not nil, is told of each item that is done, in the order of
	// the manifest. Done is told of any that is, as they come. Neither is
	// called twice at once.
	Row, Done func(Row)
}

// Run measures items and returns their results. Cancelling ctx ends it early
// with partial results. The same items give the same results but for the times
// that it took.
func Run(ctx context.Context, cfg Config, items []Item, log *slog.Logger) (Results, error) {
	ears := func(script.Transcript) (*listen.Listener, error) { return nil, errors.ErrUnsupported }
	r := Results{Mode: cfg.Mode, Backend: "script", Model: "transcript", Listen: listen.Full, Items: []Row{}}
	switch cfg.Mode {
	case Audio:
		l, err := listen.New(cfg.Engine, cfg.Listen, log)
		if err != nil {
			return r, err
		}
		r.Backend, r.Model, r.Listen = l.Info().Backend, l.Info().Model, l.Mode()
		ears = func(script.Transcript) (*listen.Listener, error) { return l, nil } //nolint:unparam // text mode opens one each
	case Text:
		ears = func(t script.Transcript) (*listen.Listener, error) {
			speak := script.New(func(string) (script.Transcript, error) { return t, nil })
			return listen.New(speak, listen.DefaultConfig(), log)
		}
	default:
		return r, fmt.Errorf("mode %q is neither %s nor %s", cfg.Mode, Audio, Text)
	}

	began, cpu := time.Now(), cpuTime()
	rows := make([]Row, len(items))
	tell := newTeller(cfg, rows)
	var group errgroup.Group
	group.SetLimit(max(1, cfg.Parallel))
	for i, it := range items {
		group.Go(func() error {
			rows[i] = measure(ctx, cfg, it, ears, log)
			tell.done(i)
			return nil
		})
	}
	_ = group.Wait() // each error stands in its row

	skipped := 0
	for _, row := range rows {
		switch {
		case row.skipped:
			skipped++
		case row.undone:
			r.Partial = true
		default:
			r.Items = append(r.Items, row)
		}
	}
	r.Summary = Score(r.Items, cfg.Mode, cfg.AlertLevel.String())
	r.Summary.Skipped = skipped
	r.Summary.WallS = round(time.Since(began).Seconds(), 2)
	r.Summary.CPUS = round((cpuTime() - cpu).Seconds(), 2)
	return r, nil
}

// measure hears one item.
func measure(ctx context.Context, cfg Config, it Item, ears func(script.Transcript) (*listen.Listener, error), log *slog.Logger) Row {
	failed := func(err error) Row {
		return Row{
			ID: it.ID, Label: it.Label, Level: "none", Tactics: []string{}, Findings: []Found{},
			Error: err.Error(), undone: ctx.Err() != nil,
		}
	}
	var (
		call    *source.Call
		words   script.Transcript
		closeIt = func() error { return nil }
		timed   = it.Turns // of a recording: those that have times
		err     error
	)
	switch {
	case ctx.Err() != nil:
		return failed(ctx.Err())
	case cfg.Mode == Audio && it.Audio != "":
		call, closeIt, err = it.audioCall(cfg.Open)
	case cfg.Mode == Text && it.hasWords():
		call, words, err = it.textCall()
		if timed != nil {
			timed = it.timed()
		}
	default:
		return Row{skipped: true}
	}
	if err != nil {
		return failed(err)
	}
	defer func() { _ = closeIt() }() // it was only read
	listener, err := ears(words)
	if err != nil {
		return failed(err)
	}
	// The events are ours alone: the row masks what leaves.
	pipe := pipeline.DefaultConfig()
	pipe.Unmasked = true
	rec := newRecord(callwardenv1.Level(cfg.AlertLevel + 1))
	p, err := pipeline.New(pipe, listener, cfg.Judge, rec, log)
	if err != nil {
		return failed(err)
	}
	if err := p.Listen(ctx, call); err != nil {
		return failed(&LineError{it.file, it.line, err})
	}
	row := rec.row(it, timed, cfg.Unmasked)
	if cfg.Mode == Audio {
		row.lags = rec.lags
		row.said = it.said(cfg.Unmasked)
		row.WER = rec.wordErrors(it, call.Legs)
		if it.Digits != "" {
			heard := rec.digits()
			row.Code = &Code{len(it.Digits), len(heard), levenshtein.ComputeDistance(it.Digits, heard)}
		}
	}
	return row
}

// wordErrors compares what was heard with what the item says was said, leg by
// leg; nil where nobody has written that down.
func (r *record) wordErrors(it Item, legs []audio.Leg) *WER {
	if !it.hasWords() || it.HumanReference != nil && !*it.HumanReference {
		return nil
	}
	var w WER
	add := func(said, heard string) {
		words := wer.Words(said)
		w.Words += len(words)
		w.Errors += wer.Errors(words, wer.Words(heard))
	}
	switch roles := it.legs(); {
	case len(it.Turns) == 0:
		add(it.Text, r.words(audio.Unknown, true))
	case len(legs) == 1:
		add(spokenBy(it.Turns, func(Turn) bool { return true }), r.words(audio.Unknown, true))
	default:
		for _, leg := range legs {
			add(spokenBy(it.Turns, func(t Turn) bool { return roles[t.Role] == leg }), r.words(leg, false))
		}
	}
	if w.Words == 0 {
		return nil
	}
	w.Rate = ratio(w.Errors, w.Words)
	return &w
}

func spokenBy(turns []Turn, is func(Turn) bool) string {
	var texts []string
	for _, t := range turns {
		if is(t) {
			texts = append(texts, t.Text)
		}
	}
	return strings.Join(texts, " ")
}

// teller tells of rows as they come and in their order.
type teller struct {
	cfg  Config
	rows []Row

	mu    sync.Mutex
	ready []bool
	next  int // first row that has not been told in order
}

func newTeller(cfg Config, rows []Row) *teller {
	return &teller{cfg: cfg, rows: rows, ready: make([]bool, len(rows))}
}

func (t *teller) done(i int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready[i] = true
	if t.cfg.Done != nil {
		t.cfg.Done(t.rows[i])
	}
	for t.next < len(t.rows) && t.ready[t.next] {
		row := t.rows[t.next]
		t.next++
		if t.cfg.Row != nil && !row.skipped && !row.undone {
			t.cfg.Row(row)
		}
	}
}
