// Package reportsink writes what was heard in a call as one HTML page that
// opens offline: the sound of both legs with the findings marked on it, the
// risk over time, why it rose, and the words. It is made from events alone, so
// digits are masked in it exactly as they are in the events.
package reportsink

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Report is what a page is made of. Everything may be empty: a call without
// words, waveform or end has a page that says so.
type Report struct {
	Tenant string
	Call   string
	// Events of this call in the order in which they were published.
	Events []sink.Event
	// Waveforms has at most one envelope per leg; legs without one are drawn
	// as a plain line.
	Waveforms  []Waveform
	Thresholds Thresholds
	// Unmasked is set where the operator opted out of masking, so that the
	// page does not claim otherwise.
	Unmasked bool
}

// Waveform is the loudness of one leg: Peaks[i] is the largest absolute sample
// from i*Step to (i+1)*Step on the media clock.
type Waveform struct {
	Leg   audio.Leg
	Step  time.Duration
	Peaks []int16
}

// Duration is how much sound the waveform covers.
func (w Waveform) Duration() time.Duration { return time.Duration(len(w.Peaks)) * w.Step }

// Thresholds are the scores at which levels begin, drawn behind the risk
// curve. Those that are zero are not drawn.
type Thresholds struct{ Notice, Warning, Critical float64 }

// Render writes the page of one call. The same report gives the same bytes. An
// event whose data does not belong to its type is an error before anything is
// written; other errors are w's.
func Render(w io.Writer, r Report) error {
	var f facts
	for _, ev := range r.Events {
		if err := f.add(ev); err != nil {
			return err
		}
	}
	return render(w, r, &f)
}

// render writes the page of r with f in the place of its events.
func render(w io.Writer, r Report, f *facts) error {
	b := bufio.NewWriterSize(w, 64<<10)
	if err := pages.ExecuteTemplate(b, "report.html.tmpl", newPage(r, f)); err != nil {
		return fmt.Errorf("rendering report of call %s: %w", r.Call, err)
	}
	return b.Flush()
}
