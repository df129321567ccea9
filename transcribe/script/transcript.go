// Package script is a recogniser that hears nothing: it speaks a prepared
// transcript as the audio's clock passes. Tests use it, and researchers who
// have the words of a call but not its sound.
package script

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// Transcript is what is said in a call, in the order of its lines. Final
// lines of a leg do not overlap and come in order of time; partial lines
// stand before the final line that they lead to. Build one with Parse, Say
// and Add, which keep these rules.
type Transcript struct {
	Lines []Line
}

// Line is one stretch of speech, or with Partial an unfinished hypothesis of
// it: what was understood by End.
type Line struct {
	Leg        audio.Leg
	Start, End time.Duration // media clock
	Partial    bool
	Text       string // as written; see Words for what is heard of it
}

const (
	maxLine  = 1 << 16        // bytes
	maxText  = maxLine - 128  // of a line, so that it can be written with its times
	maxLines = 20_000         // of a transcript; checking a line looks at those before it
	maxTime  = 24 * time.Hour // no call is longer
)

// perWord is how long a word takes where no times are given: 2.6 a second, an
// unhurried speaker on the telephone.
const perWord = time.Second * 10 / 26

// Parse reads a transcript, one line each of
//
//	START END LEG final TEXT…     times in seconds, LEG caller, callee or unknown
//	START END LEG partial TEXT…   an unfinished hypothesis, shown at END
//	LEG: TEXT…                    no times: begins when all before it have ended
//	# COMMENT                     nothing, like an empty line
//
// Errors name the line.
func Parse(r io.Reader) (Transcript, error) {
	var t Transcript
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		if err := t.parseLine(lines.Text()); err != nil {
			return Transcript{}, fmt.Errorf("transcript line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("longer than %d bytes", maxLine)
		}
		return Transcript{}, fmt.Errorf("transcript line %d: %w", n+1, err)
	}
	return t, t.Validate()
}

func (t *Transcript) parseLine(text string) error {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return errors.New("not UTF-8 text")
	}
	text = strings.TrimPrefix(text, "\ufeff") // some editors begin files with it
	fields := strings.Fields(text)
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return nil
	}
	if _, err := strconv.ParseFloat(fields[0], 64); err != nil {
		name, said, _ := strings.Cut(text, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		leg, err := audio.ParseLeg(name)
		if err != nil || name == "" || !strings.Contains(text, ":") {
			return errors.New("begins with neither a time in seconds nor caller:, callee: or unknown: and what is said")
		}
		return t.Say(leg, said)
	}
	start, err := parseTime(fields[0])
	if err != nil {
		return err
	}
	if len(fields) < 4 {
		return errors.New("wants START END LEG final|partial TEXT")
	}
	end, err := parseTime(fields[1])
	if err != nil {
		return err
	}
	leg, err := audio.ParseLeg(fields[2])
	if err != nil {
		return err
	}
	if fields[3] != "final" && fields[3] != "partial" {
		return fmt.Errorf("%q is neither final nor partial", fields[3])
	}
	return t.Add(Line{Leg: leg, Start: start, End: end, Partial: fields[3] == "partial", Text: strings.Join(fields[4:], " ")})
}

func parseTime(s string) (time.Duration, error) {
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no time in seconds", s)
	}
	if !(seconds >= 0 && seconds <= maxTime.Seconds()) {
		return 0, fmt.Errorf("time %s s: must be from 0 to %g", s, maxTime.Seconds())
	}
	return time.Duration(math.Round(seconds * float64(time.Second))), nil
}

// Add appends a line with times. It refuses one that breaks the rules of
// Transcript and leaves t as it was.
func (t *Transcript) Add(l Line) error {
	if len(t.Lines) == maxLines {
		return fmt.Errorf("more than %d lines", maxLines)
	}
	if l.Start < 0 || l.End < l.Start || l.End > maxTime {
		return fmt.Errorf("from %v to %v: must lie in order between 0 and %v", l.Start, l.End, maxTime)
	}
	if len(l.Text) > maxText {
		return fmt.Errorf("text of %d bytes: more than %d", len(l.Text), maxText)
	}
	for _, before := range slices.Backward(t.Lines) {
		if before.Leg != l.Leg {
			continue
		}
		if !before.Partial && l.Start < before.End {
			return fmt.Errorf("%v begins at %v, inside the line before, which ends at %v", l.Leg, l.Start, before.End)
		}
		if before.Partial && l.End < before.End {
			return fmt.Errorf("%v ends at %v, before its partial line at %v", l.Leg, l.End, before.End)
		}
		if !before.Partial {
			break
		}
	}
	t.Lines = append(t.Lines, l)
	return nil
}

// Say appends a final line without times: it begins when all lines before it
// have ended and takes as long as its words do at 2.6 a second.
func (t *Transcript) Say(leg audio.Leg, text string) error {
	text = strings.Join(strings.Fields(text), " ")
	start := t.Duration()
	return t.Add(Line{Leg: leg, Start: start, End: start + perWord*time.Duration(len(Words(text))), Text: text})
}

// Validate finds partial lines that no final line follows.
func (t Transcript) Validate() error {
	for _, leg := range []audio.Leg{audio.Unknown, audio.Caller, audio.Callee} {
		for _, l := range slices.Backward(t.Lines) {
			if l.Leg != leg {
				continue
			}
			if l.Partial {
				return fmt.Errorf("transcript: the last partial line of %v, at %v, has no final line after it", leg, l.End)
			}
			break
		}
	}
	return nil
}

// Duration is the media time at which the last line ends.
func (t Transcript) Duration() time.Duration {
	var end time.Duration
	for _, l := range t.Lines {
		end = max(end, l.End)
	}
	return end
}

// Format writes t so that Parse reads the same again.
func Format(w io.Writer, t Transcript) error {
	seconds := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
	for _, l := range t.Lines {
		state := "final"
		if l.Partial {
			state = "partial"
		}
		if _, err := fmt.Fprintf(w, "%s %s %v %s %s\n", seconds(l.Start), seconds(l.End), l.Leg, state, l.Text); err != nil {
			return err
		}
	}
	return nil
}

// Words are the words that a recogniser would make of a written text: lower
// case, without punctuation. Apostrophes and hyphens stay inside words, and
// commas between digits go without a trace.
func Words(text string) []string {
	runes := []rune(strings.ToLower(text))
	in := func(i int, table ...*unicode.RangeTable) bool {
		return i >= 0 && i < len(runes) && unicode.In(runes[i], table...)
	}
	var b strings.Builder
	for i, r := range runes {
		switch {
		case in(i, unicode.L, unicode.M, unicode.N):
			b.WriteRune(r)
		case r == '\'' || r == '’':
			if in(i-1, unicode.L, unicode.N) || in(i+1, unicode.L, unicode.N) {
				b.WriteByte('\'')
			}
		case r == '-' && in(i-1, unicode.L, unicode.N) && in(i+1, unicode.L, unicode.N):
			b.WriteByte('-')
		case r == ',' && in(i-1, unicode.N) && in(i+1, unicode.N):
		default:
			b.WriteByte(' ')
		}
	}
	words := strings.Fields(b.String())
	for i, w := range words {
		// Quotation marks, not "y'all" nor "agents'".
		if strings.HasPrefix(w, "'") && strings.HasSuffix(w, "'") {
			words[i] = strings.Trim(w, "'")
		}
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}
