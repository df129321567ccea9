package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// screen shows live lines with a progress bar for each call below them. Bars
// are drawn on stderr, and only if it is a terminal.
type screen struct {
	out   io.Writer
	bars  progress.Writer // nil where there are none
	color bool
	width int
}

// maxBars is how many recordings get a bar each; more share none, as the lines
// would scroll away.
const maxBars = 50

func newScreen(out, err io.Writer, calls int) *screen {
	s := &screen{out: out, width: 0}
	if width, ok := terminal(out); ok {
		s.width = width
		s.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	if width, ok := terminal(err); ok && calls <= maxBars {
		s.bars = newBars(err, width)
		go s.bars.Render() // ends with close, which waits for it
	}
	return s
}

// lines is where live lines go: above the bars where both are one terminal.
func (s *screen) lines() io.Writer {
	if s.bars != nil && s.width > 0 {
		return barLog{s.bars}
	}
	return s.out
}

type barLog struct{ bars progress.Writer }

func (b barLog) Write(p []byte) (int, error) {
	b.bars.Log("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// follow draws the call's progress until done is called.
func (s *screen) follow(call *source.Call) (done func()) {
	if s.bars == nil {
		return func() {}
	}
	t := &progress.Tracker{
		Message: call.Attributes["file"],
		Total:   int64(call.Duration / time.Millisecond),
		Units:   progress.Units{Notation: "", Formatter: func(ms int64) string { return clock(time.Duration(ms) * time.Millisecond) }},
	}
	s.bars.AppendTracker(t)
	call.Audio = &followed{call.Audio, t}
	return t.MarkAsDone
}

type followed struct {
	audio.Reader
	t *progress.Tracker
}

func (f *followed) ReadFrame(ctx context.Context) (audio.Frame, error) {
	frame, err := f.Reader.ReadFrame(ctx)
	if err == nil {
		f.t.SetValue(int64(frame.End() / time.Millisecond))
	}
	return frame, err
}

func (s *screen) close() {
	if s.bars != nil {
		stopBars(s.bars)
	}
}
