package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// tally is the sink that remembers how each call went, for the summary.
type tally struct {
	mu    sync.Mutex
	calls map[string]*callTally // by call id
}

type callTally struct {
	name    string
	level   callwardenv1.Level
	alertAt time.Duration // first warning or critical
	alerted bool
	ended   *callwardenv1.CallEnded
}

var _ sink.Sink = (*tally)(nil)

func newTally() *tally { return &tally{calls: make(map[string]*callTally)} }

func (t *tally) Publish(_ context.Context, ev sink.Event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.calls[ev.Call]
	if c == nil {
		c = &callTally{name: ev.Call}
		t.calls[ev.Call] = c
	}
	switch d := ev.Data.(type) {
	case *callwardenv1.CallStarted:
		if file := d.Attributes["file"]; file != "" {
			c.name = file
		}
	case *callwardenv1.RiskLevel:
		if d.Level >= callwardenv1.Level_LEVEL_WARNING && !c.alerted {
			c.alerted, c.alertAt = true, ev.At
		}
	case *callwardenv1.CallEnded:
		c.ended, c.level = d, d.Level
	}
	return nil
}

func (t *tally) Close(context.Context) error { return nil }

// knows reports whether a call of the named file was heard, be it in part.
func (t *tally) knows(file string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.calls {
		if c.name == file {
			return true
		}
	}
	return false
}

// unheard are errors about calls of which a leg was not heard to its end because
// the recogniser could not be had, or failed: what is said of them is not all.
func (t *tally) unheard() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, c := range t.calls {
		for _, l := range c.ended.GetLegs() {
			if l.GetHearing() == callwardenv1.Hearing_HEARING_DEAF {
				errs = append(errs, fmt.Errorf("%s was not heard: %s", c.name, l.GetReason()))
				break
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// print writes a line a call, the worst first.
func (t *tally) print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.calls) == 0 {
		return
	}
	calls := make([]*callTally, 0, len(t.calls))
	for _, c := range t.calls {
		calls = append(calls, c)
	}
	sort.Slice(calls, func(i, j int) bool {
		if calls[i].level != calls[j].level {
			return calls[i].level > calls[j].level
		}
		return calls[i].name < calls[j].name
	})
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "\nCALL\tLENGTH\tLEVEL\tALERT AT\tTACTICS\t")
	for _, c := range calls {
		alert, length, found, remark := "-", "-", "-", ""
		if c.alerted {
			alert = clock(c.alertAt)
		}
		if e := c.ended; e != nil {
			length = clock(e.GetDuration().AsDuration())
			if len(e.Tactics) > 0 {
				found = strings.Join(e.Tactics, ", ")
			}
			if !e.Complete {
				remark = incomplete(e)
			}
		}
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", c.name, length, levelName(c.level), alert, found, remark)
	}
	_ = tab.Flush() // to a terminal or a pipe; a broken one shows elsewhere
}

func incomplete(e *callwardenv1.CallEnded) string {
	why := append([]string(nil), e.Warnings...)
	if e.Reason != "end of audio" {
		why = append(why, e.Reason)
	}
	for _, l := range e.Legs {
		if l.Reason != "" {
			why = append(why, l.Reason)
		}
	}
	return "(" + strings.Join(why, "; ") + ")"
}

func levelName(l callwardenv1.Level) string {
	return strings.ToLower(strings.TrimPrefix(l.String(), "LEVEL_"))
}

// clock writes a media time as people read one.
func clock(d time.Duration) string {
	d = d.Round(100 * time.Millisecond)
	return fmt.Sprintf("%d:%04.1f", int(d.Minutes()), (d % time.Minute).Seconds())
}
