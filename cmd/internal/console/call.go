package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

// callLines are one call: what it is, what to do, why, and what is said.
func (m *model) callLines() []string {
	c, ok := m.calls.Board().Call(m.chosen)
	if !ok {
		return []string{"", "  This call is not shown any more: it ended a while ago. esc goes back."}
	}
	r := c.Row
	lines := m.head(c)
	lines = append(lines, m.advice(c)...)
	lines = append(lines, m.findings(c)...)
	room := m.height - 2 - len(lines)
	if room < 3 { // a small terminal: what is said gives way
		return lines
	}
	lines = append(lines, m.rule())
	return append(lines, m.words(c, r, room-1)...)
}

// head is the call itself: level, parties, time, the curve, how it is heard,
// and who did what.
func (m *model) head(c board.Call) []string {
	r := c.Row
	now := m.now()
	level := m.look.at(r.Level)
	state := r.State
	if r.State == board.Live && r.Hearing != "listening" {
		state += ", " + strings.ReplaceAll(r.Hearing, "_", " ")
		if r.Reason != "" {
			state += ": " + clean(r.Reason)
		}
	}
	if r.Lag >= 1 {
		state += fmt.Sprintf(", %.0f s late", float64(r.Lag))
	}
	if c.End != nil && c.End.Reason != "" {
		state += ": " + clean(c.End.Reason)
	}
	first := m.apart(
		level.Render(fmt.Sprintf("%s %.1f", strings.ToUpper(r.Level), r.Score))+"  "+m.look.bold.Render(m.look.parties(r, m.width-30)),
		clock(long(r, now)),
	)
	second := m.apart(state, m.look.dim.Render(clean(r.Source+"  "+r.Tenant+"/"+r.ID)))
	curve := make([]float64, 0, 2*len(c.Curve))
	for _, p := range c.Curve {
		curve = append(curve, float64(p.At), p.Score)
	}
	lines := []string{first, second}
	if len(curve) > 0 {
		lines = append(lines, level.Render(m.look.spark(curve, long(r, now).Seconds(), fullScore, m.width)))
	}
	if what := m.people(c.Actions); what != "" {
		lines = append(lines, what)
	}
	return lines
}

// people is what was done about the call and not taken back, newest first.
func (m *model) people(actions []board.Action) string {
	var all []string
	for _, a := range slices.Backward(actions) {
		if a.Undone != 0 {
			continue
		}
		text := strings.ReplaceAll(a.Action, "_", " ")
		if a.Note != "" {
			text += fmt.Sprintf(" %q", clean(a.Note))
		}
		all = append(all, fmt.Sprintf("%s by %s %s", text, clean(a.Who), a.When.Time().Local().Format("15:04")))
	}
	if len(all) == 0 {
		return ""
	}
	return m.look.bold.Render(m.look.cut(strings.Join(all, "; "), m.width))
}

// advice is what to say now.
func (m *model) advice(c board.Call) []string {
	if len(c.Advice) == 0 {
		return nil
	}
	a := c.Advice[len(c.Advice)-1]
	var lines []string
	for i, l := range wrap(clean(a.Text), m.width-5) {
		if i == 3 && m.height < 30 {
			break
		}
		begin := "     "
		if i == 0 {
			begin = "SAY: "
		}
		lines = append(lines, m.look.at(a.Level).Render(begin+l))
	}
	return lines
}

// wrap breaks text at spaces.
func wrap(text string, columns int) []string {
	return strings.Split(ansi.Wordwrap(text, max(columns, 10), ""), "\n")
}

// findings are those that count most, one a line.
func (m *model) findings(c board.Call) []string {
	all := slices.Clone(c.Findings)
	slices.SortStableFunc(all, func(x, y board.Finding) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(weight(y), weight(x)), cmp.Compare(y.At, x.At))
	})
	most := max(2, (m.height-10)/3)
	var lines []string
	for i, f := range all {
		if i == most {
			lines = append(lines, m.look.dim.Render(fmt.Sprintf("      and %d more", len(all)-most)))
			break
		}
		lines = append(lines, m.finding(f))
	}
	for _, s := range c.Shares {
		if s.Finding == "talk" && s.Points > 0 {
			lines = append(lines, m.look.dim.Render(fmt.Sprintf("%+5.1f %s", s.Points, clean(s.Why))))
		}
	}
	return lines
}

// rank puts what counts before what does not.
func rank(f board.Finding) int {
	switch {
	case f.State == "retracted":
		return 2
	case f.MutedBy != "":
		return 1
	}
	return 0
}

func weight(f board.Finding) float64 {
	if f.Share != 0 {
		return f.Share
	}
	return f.Points
}

func (m *model) finding(f board.Finding) string {
	text := fmt.Sprintf("%+5.1f %s  %s %s  \"%s\"", weight(f), strings.ReplaceAll(f.Tactic, "_", " "), f.Leg, clock(f.Start.Duration()), clean(f.Words))
	switch {
	case f.State == "retracted":
		return m.look.dim.Render(text + "  taken back")
	case f.MutedBy != "":
		return m.look.dim.Render(text + "  does not count: " + clean(f.MutedBy))
	case f.State == "provisional":
		return text + m.look.dim.Render("  not sure yet")
	}
	return text
}

func (m *model) rule() string {
	return m.look.dim.Render(strings.Repeat("-", m.width))
}

// words are what is said, the caller's on the left, in so many lines: the last
// ones, unless the person has scrolled up.
func (m *model) words(c board.Call, r *board.Row, room int) []string {
	if len(c.Segments) == 0 {
		return []string{m.look.dim.Render(m.silence(r))}
	}
	side := (m.width - 3) / 2
	var all []string
	if n := c.Earlier + c.Dropped; n > 0 {
		all = append(all, m.look.dim.Render(fmt.Sprintf("%d stretches of speech before these are not shown here", n)))
	}
	segs := slices.Clone(c.Segments)
	slices.SortStableFunc(segs, func(x, y board.Segment) int { return cmp.Compare(x.Start, y.Start) })
	for _, s := range open(segs) {
		all = append(all, m.spoken(s, side)...)
	}
	head := m.look.fit("Caller", side) + " " + m.look.column + " Callee"
	if segs[0].Leg == "unknown" {
		head = "Both on one channel"
	}
	room--
	if room < 1 {
		return nil
	}
	m.back = min(m.back, max(0, len(all)-room))
	end := len(all) - m.back
	shown := all[max(0, end-room):end]
	if m.back > 0 {
		head = m.apart(head, fmt.Sprintf("%d lines below", m.back))
	}
	return append([]string{m.look.dim.Render(head)}, shown...)
}

// open leaves out what only the screening heard of words that are written out
// in full anyway.
func open(segs []board.Segment) []board.Segment {
	return slices.DeleteFunc(segs, func(s board.Segment) bool {
		return s.Heard == "screen" && slices.ContainsFunc(segs, func(o board.Segment) bool {
			return o.Heard == "open" && o.Leg == s.Leg && o.Start < s.End && s.Start < o.End
		})
	})
}

func (m *model) silence(r *board.Row) string {
	switch {
	case m.link.Known && !m.link.Words:
		return "What is said is not published: see sinks.nats.transcripts in the configuration."
	case r.State != board.Live:
		return "What was said is not kept."
	}
	return "Nothing was said since you began to look."
}

// spoken is one segment on its side.
func (m *model) spoken(s board.Segment, side int) []string {
	columns, indent := side, ""
	between := " " + m.look.column + " "
	switch s.Leg {
	case "callee":
		indent = strings.Repeat(" ", side) + between
	case "unknown":
		columns = m.width
	}
	style := m.look.level["none"]
	if !s.Final {
		style = m.look.dim
	}
	var lines []string
	at := clock(s.Start.Duration()) + " "
	for i, l := range wrap(clean(s.Text), columns-len(at)) {
		begin := strings.Repeat(" ", len(at))
		if i == 0 {
			begin = m.look.dim.Render(at)
		}
		text := begin + style.Render(l)
		if s.Leg == "caller" {
			text = m.look.fit(text, side) + strings.TrimRight(between, " ")
		}
		lines = append(lines, indent+text)
	}
	return lines
}
