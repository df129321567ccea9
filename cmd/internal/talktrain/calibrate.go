package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/dialogue"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/detectors/talk"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// judged is a call as it was judged after each of its turns.
type judged struct {
	author  string
	scam    bool
	found   []float64 // score of the findings alone
	opinion []detectors.Opinion
}

// calibration judges all calls and prints what several weights of the opinion
// would give, the ones in use first, then the best.
func calibration(calls []call, w io.Writer) error {
	packs, err := tactics.Load("")
	if err != nil {
		return err
	}
	var authors []string
	for _, c := range calls {
		if a := c.author(); !slices.Contains(authors, a) {
			authors = append(authors, a)
		}
	}
	var all []judged
	for _, a := range authors {
		others := slices.DeleteFunc(slices.Clone(calls), func(c call) bool { return c.author() == a })
		m, err := modelOf(others)
		if err != nil {
			return fmt.Errorf("model without the calls of %q: %w", a, err)
		}
		for _, c := range calls {
			if c.author() == a {
				all = append(all, judge(c, packs, m))
			}
		}
	}

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer t.Flush()
	fmt.Fprintf(t, "points\teven\thalf\trecall\tfalse per 100\tnotice\t%s\t\n", strings.Join(authors, "\t"))
	show := func(c risk.Config) {
		f := figuresOf(all, c)
		fmt.Fprintf(t, "%g\t%g\t%g\t%.3f\t%.1f\t%.3f\t", c.Talk.Points, c.Talk.Even, c.Talk.Half, f.recall(), f.alarms(), f.noticed())
		for _, a := range authors {
			one := figuresOf(slices.DeleteFunc(slices.Clone(all), func(j judged) bool { return j.author != a }), c)
			fmt.Fprintf(t, "%.2f/%.0f\t", one.recall(), one.alarms())
		}
		fmt.Fprintln(t)
	}
	silent := risk.DefaultConfig()
	silent.Talk.Points = 0
	show(silent)
	show(risk.DefaultConfig())
	var tried []risk.Config
	for _, points := range []float64{1.5, 2, 3, 4} {
		for _, even := range []float64{1, 1.5, 2, 2.5, 3, 3.5, 4} {
			for _, half := range []float64{50, 100, 200, 400} {
				c := risk.DefaultConfig()
				c.Talk.Points, c.Talk.Even, c.Talk.Half = points, even, half
				tried = append(tried, c)
			}
		}
	}
	slices.SortStableFunc(tried, func(a, b risk.Config) int {
		x, y := figuresOf(all, a), figuresOf(all, b)
		// A false alarm in a hundred costs as much as two frauds in a hundred.
		worth := func(f figures) float64 { return f.recall() - 2*f.alarms()/100 }
		switch {
		case worth(x) > worth(y):
			return -1
		case worth(x) < worth(y):
			return 1
		}
		return 0
	})
	for _, c := range tried[:10] {
		show(c)
	}
	return nil
}

// modelOf trains a model and loads it as it would be shipped.
func modelOf(calls []call) (*talk.Model, error) {
	var b bytes.Buffer
	if err := train(calls).write(&b, nil); err != nil {
		return nil, err
	}
	return talk.Read("trained", &b)
}

// judge lets the detectors read a call, at 150 words a minute.
func judge(c call, packs *tactics.Library, m *talk.Model) judged {
	const word, pause = 400 * time.Millisecond, 300 * time.Millisecond
	j := judged{author: c.author(), scam: c.Label == "scam"}
	silent := risk.DefaultConfig()
	silent.Talk.Points = 0
	d, meter, opinion := dialogue.New(packs.Set, dialogue.Config{}), risk.NewMeter(silent), m.NewCall()
	at := time.Duration(0)
	for i, t := range c.Turns {
		seg := transcribe.Segment{Leg: audio.Caller, Utterance: i, Final: true, Start: at, Text: t.Text}
		if t.Role == "callee" || t.Role == "agent" {
			seg.Leg = audio.Callee
		}
		seg.End = at + word*time.Duration(len(strings.Fields(t.Text)))
		for _, f := range d.Observe(seg) {
			meter.Observe(f, seg.End)
		}
		opinion.Observe(seg)
		j.found = append(j.found, meter.Score())
		j.opinion = append(j.opinion, opinion.Opinion())
		at = seg.End + pause
	}
	return j
}

// figures count calls.
type figures struct{ frauds, honest, found, alarmed, seen int }

func figuresOf(calls []judged, c risk.Config) figures {
	var f figures
	for _, j := range calls {
		top := 0.0
		for i, found := range j.found {
			top = max(top, c.Score(found, j.opinion[i]))
		}
		if j.scam {
			f.frauds++
			if top >= c.Warning {
				f.found++
			}
			if top >= c.Notice {
				f.seen++
			}
		} else {
			f.honest++
			if top >= c.Warning {
				f.alarmed++
			}
		}
	}
	return f
}

func (f figures) recall() float64  { return float64(f.found) / float64(max(1, f.frauds)) }
func (f figures) noticed() float64 { return float64(f.seen) / float64(max(1, f.frauds)) }
func (f figures) alarms() float64  { return 100 * float64(f.alarmed) / float64(max(1, f.honest)) }
