// Package termsink shows events to people, a line each.
//
//	00:11.2  warning   caller  otp_request           "read me the code we sent you"
//	00:11.2  WARNING   risk 48, was notice
//	                   > Do not read the code to anybody. Hang up and call your bank.
package termsink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/text/width"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// ErrClosed is what Publish returns after Close.
var ErrClosed = errors.New("terminal sink is closed")

// Config is how lines look.
type Config struct {
	Color       bool `yaml:"color"`       // ANSI colours
	Width       int  `yaml:"width"`       // columns; longer lines are cut, advice is wrapped; 0 is no limit
	Calls       bool `yaml:"calls"`       // begin each line with the call's name, for several calls at once
	Transcripts bool `yaml:"transcripts"` // also final transcript segments
}

// DefaultConfig is plain text of any length about one call.
func DefaultConfig() Config { return Config{} }

const (
	callColumns  = 16
	leastColumns = 20 // narrower terminals are written to as if this wide
)

// Sink writes what Format makes of events. A finding has one line: that of
// its first report. When it is confirmed after that nothing is written, when
// it is retracted a line says so.
type Sink struct {
	cfg Config

	mu     sync.Mutex
	w      io.Writer
	shown  map[string]map[string]bool // call -> ids of provisional findings on the screen
	err    error
	closed bool
}

var _ sink.Sink = (*Sink)(nil)

// New writes to w, from one goroutine at a time and with one Write per event.
func New(w io.Writer, cfg Config) *Sink {
	return &Sink{w: w, cfg: cfg, shown: map[string]map[string]bool{}}
}

// Publish shows ev. The first write that fails is an error here; nothing is
// written after it, and Close returns it again.
func (s *Sink) Publish(_ context.Context, ev sink.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.err != nil || !s.news(ev) {
		return nil
	}
	text := Format(ev, s.cfg)
	if text == "" {
		return nil
	}
	if _, err := io.WriteString(s.w, text); err != nil {
		s.err = fmt.Errorf("writing to the terminal: %w", err)
	}
	return s.err
}

// news says whether ev is to be shown after what has been shown of its call.
func (s *Sink) news(ev sink.Event) bool {
	key := ev.Tenant + "." + ev.Call
	switch d := ev.Data.(type) {
	case *callwardenv1.CallEnded:
		delete(s.shown, key)
	case *callwardenv1.RiskFinding:
		id := d.GetFinding().GetId()
		switch d.GetFinding().GetState() {
		case callwardenv1.FindingState_FINDING_STATE_PROVISIONAL:
			if s.shown[key] == nil {
				s.shown[key] = map[string]bool{}
			}
			again := s.shown[key][id]
			s.shown[key][id] = true
			return !again
		default:
			had := s.shown[key][id]
			delete(s.shown[key], id)
			retracted := d.GetFinding().GetState() == callwardenv1.FindingState_FINDING_STATE_RETRACTED
			return had == retracted
		}
	}
	return true
}

// Close returns what Publish could not write. It leaves the writer open.
func (s *Sink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.err
}

// style is an ANSI attribute.
type style string

const (
	plain  style = ""
	dim    style = "\x1b[2m"
	bold   style = "\x1b[1m"
	cyan   style = "\x1b[36m"
	yellow style = "\x1b[33m"
	red    style = "\x1b[1;31m"
	green  style = "\x1b[32m"
	reset        = "\x1b[0m"
)

// Format is what a person is shown of one event: lines that end in a line
// feed, or nothing where there is nothing to tell. Nothing from the event
// reaches a terminal as a control character.
func Format(ev sink.Event, cfg Config) string {
	p := &page{cfg: cfg, ev: ev}
	switch d := ev.Data.(type) {
	case *callwardenv1.RiskFinding:
		p.finding(d)
	case *callwardenv1.RiskLevel:
		p.level(d)
	case *callwardenv1.CallStarted:
		p.started(d)
	case *callwardenv1.CallStatus:
		p.status(d)
	case *callwardenv1.CallEnded:
		p.ended(d)
	case *callwardenv1.TranscriptSegment:
		if cfg.Transcripts && d.GetFinal() && d.GetText() != "" {
			p.line(dim, "", column(legName(d.GetLeg()), 7)+"  "+clean(d.GetText()))
		}
	}
	return p.b.String()
}

// page gathers the lines of one event.
type page struct {
	cfg Config
	ev  sink.Event
	b   bytes.Buffer
}

const labelColumns = 9 // "critical" is 8

func (p *page) finding(d *callwardenv1.RiskFinding) {
	f := d.GetFinding()
	st := levelStyle(d.GetLevel())
	text := column(legName(f.GetLeg()), 7) + "  " + column(clean(f.GetTactic()), 26) + "  \"" + clean(f.GetWords()) + `"`
	label := levelName(d.GetLevel())
	switch {
	case f.GetState() == callwardenv1.FindingState_FINDING_STATE_RETRACTED:
		label, st = "withdrawn", dim
	case f.GetMutedBy() != "":
		st = dim
		text += " (no risk: " + clean(f.GetMutedBy()) + ")"
	case f.GetState() == callwardenv1.FindingState_FINDING_STATE_PROVISIONAL:
		text += " ?"
	}
	p.line(st, label, text)
}

func (p *page) level(d *callwardenv1.RiskLevel) {
	from, to := d.GetPrevious(), d.GetLevel()
	if to <= from {
		if to != from {
			p.line(dim, levelName(to), fmt.Sprintf("risk %.0f, was %s", d.GetScore(), levelName(from)))
		}
		return
	}
	text := fmt.Sprintf("risk %.0f", d.GetScore())
	if from > callwardenv1.Level_LEVEL_NONE {
		text += ", was " + levelName(from)
	}
	p.line(levelStyle(to), strings.ToUpper(levelName(to)), text)
	if advice := d.GetAdvice().GetText(); advice != "" {
		p.wrapped(bold, "> ", clean(advice))
	}
}

func (p *page) started(d *callwardenv1.CallStarted) {
	var legs []string
	for _, l := range d.GetLegs() {
		legs = append(legs, legName(l))
	}
	var with []string
	for _, s := range []string{strings.Join(legs, " and "), d.GetBackend(), d.GetModel(), d.GetListen()} {
		if s != "" {
			with = append(with, clean(s))
		}
	}
	p.line(dim, "started", strings.Join(with, ", "))
}

func (p *page) status(d *callwardenv1.CallStatus) {
	st, text := yellow, clean(d.GetReason())
	switch d.GetHearing() {
	case callwardenv1.Hearing_HEARING_LISTENING:
		st = dim
	case callwardenv1.Hearing_HEARING_DEAF:
		st = red
	}
	if text == "" {
		for _, l := range d.GetLegs() {
			if l.GetHearing() != d.GetHearing() || l.GetReason() == "" {
				continue
			}
			text = legName(l.GetLeg()) + ": " + clean(l.GetReason())
			break
		}
	}
	if text == "" && d.GetHearing() == callwardenv1.Hearing_HEARING_LISTENING {
		text = clean(d.GetListen())
		// A listening call is told of again when it is known what its channels carry.
		for _, l := range d.GetLegs() {
			if c := l.GetChannel(); c != nil {
				text += fmt.Sprintf(", %s %d to %d Hz", legName(l.GetLeg()), c.GetLowHz(), c.GetHighHz())
			}
		}
	}
	p.line(st, enumName(d.GetHearing().String(), "HEARING_"), text)
}

func (p *page) ended(d *callwardenv1.CallEnded) {
	text := "highest level " + levelName(d.GetLevel())
	if len(d.GetTactics()) > 0 {
		text += ": " + clean(strings.Join(d.GetTactics(), ", "))
	}
	st := levelStyle(d.GetLevel())
	if !d.GetComplete() {
		text += "; not all was heard: " + clean(d.GetReason())
		st = yellow
	}
	p.line(st, "ended", text)
}

// line writes time, label and text, cut to the width.
func (p *page) line(st style, label, text string) {
	var head string
	if p.cfg.Calls {
		head = column(clean(callName(p.ev)), callColumns) + "  "
	}
	head += clock(p.ev.At) + "  " + column(label, labelColumns)
	p.put(st, cut(strings.TrimRight(head+"  "+text, " "), p.columns()))
}

// wrapped writes text under the texts of other lines, on as many as it needs.
func (p *page) wrapped(st style, mark, text string) {
	indent := len("00:00.0") + 2 + labelColumns + 2
	if p.cfg.Calls {
		indent += callColumns + 2
	}
	most := p.columns()
	if most-indent < leastColumns {
		indent = 0
	}
	row, used := strings.Repeat(" ", indent)+mark, indent+len(mark)
	start := used
	for word := range strings.FieldsSeq(text) {
		w := columns(word)
		if used > start && used+1+w > most {
			p.put(st, row)
			row, used = strings.Repeat(" ", start), start
		}
		if used > start {
			row, used = row+" ", used+1
		}
		row, used = row+word, used+w
	}
	p.put(st, row)
}

func (p *page) columns() int {
	if p.cfg.Width <= 0 {
		return 1 << 20
	}
	return max(p.cfg.Width, leastColumns)
}

func (p *page) put(st style, row string) {
	if p.cfg.Color && st != plain {
		p.b.WriteString(string(st) + row + reset + "\n")
		return
	}
	p.b.WriteString(row + "\n")
}

// clock is mm:ss.s on the media clock, tenths rounded down.
func clock(d time.Duration) string {
	tenths := max(d, 0).Milliseconds() / 100
	return fmt.Sprintf("%02d:%02d.%d", tenths/600, tenths/10%60, tenths%10)
}

func callName(ev sink.Event) string {
	if ev.Tenant == "" || ev.Tenant == "default" {
		return ev.Call
	}
	return ev.Tenant + "/" + ev.Call
}

func levelName(l callwardenv1.Level) string {
	if l == callwardenv1.Level_LEVEL_UNSPECIFIED {
		return "none"
	}
	return enumName(l.String(), "LEVEL_")
}

func levelStyle(l callwardenv1.Level) style {
	switch l {
	case callwardenv1.Level_LEVEL_NOTICE:
		return cyan
	case callwardenv1.Level_LEVEL_WARNING:
		return yellow
	case callwardenv1.Level_LEVEL_CRITICAL:
		return red
	}
	return plain
}

func legName(l callwardenv1.Leg) string {
	if l == callwardenv1.Leg_LEG_UNSPECIFIED {
		return "unknown"
	}
	return enumName(l.String(), "LEG_")
}

// enumName makes "not monitored" of HEARING_NOT_MONITORED.
func enumName(s, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s, prefix)), "_", " ")
}

// clean shows what cannot be printed as an escape: control characters, which
// a terminal would obey, and the marks that turn the direction of writing.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	return b.String()
}

// columns is how many columns s takes on a terminal: none for marks that
// combine, two for wide characters.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch {
	case r < 0x7f:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cut shortens s to at most most columns; an ellipsis tells.
func cut(s string, most int) string {
	if columns(s) <= most {
		return s
	}
	used := 0
	for i, r := range s {
		if used += runeColumns(r); used > most-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// column pads or cuts s to n columns.
func column(s string, n int) string {
	s = cut(s, n)
	return s + strings.Repeat(" ", n-columns(s))
}
