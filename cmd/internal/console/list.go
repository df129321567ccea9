package console

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

func width(s string) int { return ansi.StringWidth(s) }

// Columns of the list, without the mark and the spaces between.
const (
	levelColumns   = 8
	timeColumns    = 7
	scoreColumns   = 4
	hearingColumns = 5
	partiesLeast   = 27 // two numbers
	partiesMost    = 48
	sparkLeast     = 8
	sparkMost      = 24

	// fullScore is a score that fills a curve; calls are critical from about
	// there.
	fullScore = 18.0
)

// columns are those that depend on the width of the terminal.
type columns struct{ parties, spark, tactics int }

func (m *model) columns() columns {
	room := m.width - 1 - levelColumns - timeColumns - scoreColumns - hearingColumns - 6
	c := columns{parties: partiesLeast, spark: sparkLeast}
	c.tactics = room - c.parties - c.spark
	if more := c.tactics - 30; more > 0 { // what is over goes to the parties, then to the curve
		add := min(more, partiesMost-partiesLeast)
		c.parties += add
		c.tactics -= add
		add = min(more-add, sparkMost-sparkLeast)
		c.spark += add
		c.tactics -= add
	}
	if c.tactics < 8 { // narrow: the numbers are less worth than the tactics
		c.parties = max(10, c.parties+c.tactics-8)
		c.tactics = max(0, room-c.parties-c.spark)
	}
	return c
}

// listRows is how many calls the list has room for.
func (m *model) listRows() int { return max(1, m.height-3) }

func (m *model) listLines() []string {
	c := m.columns()
	lines := []string{m.look.dim.Render(m.line(" ", "LEVEL", "TIME", "FROM "+m.look.arrow+" TO", "RISK", "", "TACTICS", "HEARD", c))}
	if len(m.rows) == 0 {
		return append(lines, "", "  "+m.empty())
	}
	i := max(m.index(), 0)
	n := m.listRows()
	m.top = min(max(m.top, i-n+1), i)
	m.top = min(m.top, max(0, len(m.rows)-n))
	for at := m.top; at < len(m.rows) && at < m.top+n; at++ {
		lines = append(lines, m.row(m.rows[at], at == i, c))
	}
	return lines
}

// empty says why there is nothing.
func (m *model) empty() string {
	switch {
	case !m.link.Up && m.link.Why != nil:
		return clean("The server is away: " + m.link.Why.Error())
	case !m.link.Up:
		return "Connecting."
	case m.filter != "" || m.live:
		return "No call fits. esc shows all, l those that are over too."
	}
	return "No calls at the moment. They appear here as they begin."
}

func (m *model) row(r *board.Row, chosen bool, c columns) string {
	now := m.now()
	level := m.look.at(r.Level)
	over := r.State != board.Live
	shown := r.Level
	if over {
		shown, level = r.Peak, m.look.dim
	}
	last := long(r, now).Seconds()
	mark := " "
	if chosen {
		mark = m.look.mark
	}
	what := tactics(r)
	if marks := done(r); marks != "" {
		what = m.look.bold.Render(strings.TrimSpace(marks)) + " " + what
	}
	parties := m.look.parties(r, c.parties)
	text := m.line(
		mark, level.Render(m.look.fit(shown, levelColumns)), clock(long(r, now)), parties,
		level.Render(m.look.spark(r.Line, last, fullScore, c.spark)), level.Render(fmt.Sprintf("%*.0f", scoreColumns, score(r))),
		what, m.look.hearing(r), c,
	)
	if chosen {
		return m.look.turned.Render(ansi.Strip(text))
	}
	return text
}

// score is the one to show: of a call that is over the highest.
func score(r *board.Row) float64 {
	if r.State != board.Live {
		return r.PeakScore
	}
	return r.Score
}

// line puts the columns of a row beside each other.
func (m *model) line(mark, level, time, parties, spark, score, tactics, hearing string, c columns) string {
	return mark + strings.Join([]string{
		m.look.fit(level, levelColumns), m.look.fit(time, timeColumns), m.look.fit(parties, c.parties), m.look.fit(spark, c.spark),
		m.look.fit(score, scoreColumns), m.look.fit(tactics, c.tactics), m.look.fit(hearing, hearingColumns),
	}, " ")
}
