package console

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

// Look is how the desk is drawn: with the colours and characters that the
// terminal has.
type Look struct {
	bars   []rune // of a curve, low to high
	arrow  string
	column string // between the parties
	mark   string // before the selected call
	dots   string // where something is left out
	level  map[string]lipgloss.Style
	dim    lipgloss.Style
	bold   lipgloss.Style
	turned lipgloss.Style // the selected call, and headings
	bad    lipgloss.Style
	good   lipgloss.Style
}

// NewLook suits a terminal that is written to by w, whose environment is env:
// NO_COLOR takes the colours away, and a locale that is not UTF-8 all
// characters that are not ASCII.
func NewLook(w io.Writer, env func(string) string) *Look {
	r := lipgloss.NewRenderer(w)
	if env("NO_COLOR") != "" || env("TERM") == "dumb" {
		r.SetColorProfile(termenv.Ascii)
	}
	style := func(colour string) lipgloss.Style { return r.NewStyle().Foreground(lipgloss.Color(colour)) }
	l := &Look{
		bars: []rune("▁▂▃▄▅▆▇█"), arrow: "→", column: "│", mark: "▌", dots: "…",
		level: map[string]lipgloss.Style{
			"critical": style("1").Bold(true), "warning": style("3").Bold(true), "notice": style("6"), "none": r.NewStyle(),
		},
		dim: r.NewStyle().Faint(true), bold: r.NewStyle().Bold(true), turned: r.NewStyle().Reverse(true),
		bad: style("1").Bold(true), good: style("2"),
	}
	if !isUTF8(env) {
		l.bars, l.arrow, l.column, l.mark, l.dots = []rune("_.-~=+*#"), ">", "|", ">", "~"
	}
	return l
}

// isUTF8 is what the locale says, by the rule of POSIX: the first of these that
// is set.
func isUTF8(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(env(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// at is the style of a level.
func (l *Look) at(level string) lipgloss.Style { return l.level[level] }

// fit is s in exactly so many columns, cut or filled up. What is not text is
// left out.
func (l *Look) fit(s string, columns int) string {
	s = l.cut(s, columns)
	if n := columns - ansi.StringWidth(s); n > 0 {
		s += strings.Repeat(" ", n)
	}
	return s
}

// cut is s in at most so many columns.
func (l *Look) cut(s string, columns int) string {
	if columns <= 0 {
		return ""
	}
	return ansi.Truncate(s, columns, l.dots)
}

// clean is foreign text without what would move the cursor or turn the line
// around.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
}

// spark is a curve in so many columns, on a scale to full. A line is pairs of
// seconds and score; each column shows the highest of its time.
func (l *Look) spark(line []float64, last, full float64, columns int) string {
	if len(line) < 2 || columns < 1 {
		return strings.Repeat(" ", max(columns, 0))
	}
	last = max(last, line[len(line)-2], 1)
	high := make([]float64, columns)
	i, score := 0, 0.0
	for c := range high {
		until := last * float64(c+1) / float64(columns)
		best := score
		for i+1 < len(line) && (line[i] <= until || c == columns-1) {
			score = line[i+1]
			best = max(best, score)
			i += 2
		}
		high[c] = best
	}
	out := make([]rune, columns)
	for c, v := range high {
		step := int(v / max(full, 1) * float64(len(l.bars)))
		out[c] = l.bars[min(max(step, 0), len(l.bars)-1)]
	}
	return string(out)
}

// clock is a time as people read it.
func clock(d time.Duration) string {
	s := int(d / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}

// long is how long a call has gone on, or went.
func long(r *board.Row, now time.Time) time.Duration {
	d := r.Dur.Duration()
	if r.State == board.Live && r.Seen > 0 {
		d += max(0, now.Sub(r.Seen.Time()))
	}
	return d
}

// parties are who talks to whom; their names where there is room for them.
func (l *Look) parties(r *board.Row, columns int) string {
	if r.From == "" && r.FromName == "" && r.To == "" && r.ToName == "" {
		return clean(r.ID)
	}
	both := func(number, name string) string {
		if name == "" || number == "" {
			return cmp.Or(name, number, "?")
		}
		return name + " " + number
	}
	if full := clean(both(r.From, r.FromName) + " " + l.arrow + " " + both(r.To, r.ToName)); ansi.StringWidth(full) <= columns {
		return full
	}
	return clean(cmp.Or(r.From, r.FromName, "?") + " " + l.arrow + " " + cmp.Or(r.To, r.ToName, "?"))
}

// hearing is how a call is heard in one short word.
func (l *Look) hearing(r *board.Row) string {
	switch {
	case r.State == board.Ended:
		return l.dim.Render("ended")
	case r.State == board.Lost:
		return l.bad.Render("lost")
	}
	switch r.Hearing {
	case "listening":
		return l.good.Render("ok")
	case "degraded":
		return l.at("warning").Render("weak")
	case "deaf":
		return l.bad.Render("DEAF")
	case "not_monitored":
		return l.dim.Render("not")
	}
	return l.dim.Render("?")
}

// done is what people have said of a call, in short.
func done(r *board.Row) string {
	var marks []string
	switch r.Verdict {
	case "scam":
		marks = append(marks, "scam!")
	case "not_scam":
		marks = append(marks, "no scam")
	}
	if r.Ack != "" {
		marks = append(marks, "@"+clean(r.Ack))
	}
	if len(marks) == 0 {
		return ""
	}
	return "[" + strings.Join(marks, " ") + "] "
}

// tactics are a call's tactics in one line.
func tactics(r *board.Row) string {
	var names []string
	for _, c := range r.Tactics {
		if c.State == "retracted" || c.Muted {
			continue
		}
		name := strings.ReplaceAll(c.Tactic, "_", " ")
		if c.State == "provisional" {
			name += "?"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
