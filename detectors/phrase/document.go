package phrase

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/callwarden/callwarden/detectors"
)

type node = yaml.Node

const mappingNode = yaml.MappingNode

const maxErrors = 20 // of one file; a broken file need not list thousands

// document reads one YAML file strictly and collects what is wrong with it.
type document struct {
	file  string
	lines []string
	errs  []error
}

func parseDocument(file string, data []byte) (*document, *node) {
	d := &document{file: file}
	if len(data) > maxPackBytes {
		d.add(&Error{file, 1, 1, fmt.Sprintf("the file is %d bytes, limit %d", len(data), maxPackBytes)})
		return d, nil
	}
	d.lines = strings.Split(string(data), "\n")
	var root node
	if err := yaml.Load(data, &root); err != nil {
		e := &Error{file, 1, 1, err.Error()}
		var at *yaml.LoadError
		if errors.As(err, &at) {
			e.Rule = "YAML: " + strings.TrimPrefix(at.Message, "yaml: ")
			if at.Mark.Line > 0 {
				e.Line, e.Column = at.Mark.Line, max(at.Mark.Column, 1)
			}
		}
		d.add(e)
		return d, nil
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 {
		d.add(&Error{file, 1, 1, "an empty file"})
		return d, nil
	}
	return d, root.Content[0]
}

func (d *document) add(err error) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, err)
	}
}

func (d *document) err() error { return errors.Join(d.errs...) }

func (d *document) at(n *node) func(format string, args ...any) *Error {
	file, line, col := d.file, n.Line, n.Column
	return func(format string, args ...any) *Error {
		return &Error{file, line, col, fmt.Sprintf(format, args...)}
	}
}

func (d *document) errorf(n *node, format string, args ...any) {
	d.add(d.at(n)(format, args...))
}

// field is a key of a mapping and what reads its value. Fields are read in the
// order of the list, not of the file.
type field struct {
	key      string
	read     func(*node)
	required bool
}

func (d *document) fields(n *node, what string, fields []field) {
	values := map[string]*node{}
	d.pairs(n, what, func(key, value *node) {
		known := make([]string, 0, len(fields))
		for _, f := range fields {
			if known = append(known, f.key); f.key == key.Value {
				if values[f.key] != nil {
					d.errorf(key, "%s: stands here twice", f.key)
				}
				values[f.key] = value
				return
			}
		}
		d.errorf(key, "unknown key %q in %s; known are %s", key.Value, what, strings.Join(known, ", "))
	})
	if n.Kind != mappingNode {
		return
	}
	for _, f := range fields {
		if v := values[f.key]; v != nil {
			f.read(v)
		} else if f.required {
			d.errorf(n, "%s is missing in %s", f.key, what)
		}
	}
}

func (d *document) pairs(n *node, what string, read func(key, value *node)) {
	if n.Kind != mappingNode {
		d.errorf(n, "%s: keys with values are expected", what)
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		read(n.Content[i], n.Content[i+1])
	}
}

func (d *document) items(n *node, what string, limit int, read func(*node)) {
	if n.Kind != yaml.SequenceNode {
		d.errorf(n, "%s: a list is expected", what)
		return
	}
	if len(n.Content) > limit {
		d.errorf(n.Content[limit], "%s: at most %d", what, limit)
		return
	}
	for _, item := range n.Content {
		read(item)
	}
}

func (d *document) str(n *node) string {
	if n.Kind != yaml.ScalarNode {
		d.errorf(n, "a text is expected; anchors and aliases are not used")
		return ""
	}
	return n.Value
}

// name reads the name of a pattern, class, guard or backend.
func (d *document) name(n *node) string {
	s := d.str(n)
	for i := range len(s) {
		if !nameByte(s[i]) {
			d.errorf(n, "name %q: lower-case letters, digits, '-' and '_' only", s)
			return s
		}
	}
	if s == "" {
		d.errorf(n, "a name is missing")
	}
	if len(s) > 64 {
		d.errorf(n, "a name is at most 64 bytes")
	}
	return s
}

func (d *document) language(n *node) string {
	s := d.str(n)
	for i, part := range strings.Split(s, "-") {
		ok := len(part) >= 2 && len(part) <= 8
		for _, r := range part {
			ok = ok && r < 128 && (unicode.IsLetter(r) || i > 0 && unicode.IsDigit(r))
		}
		if !ok {
			d.errorf(n, "language %q is no BCP 47 tag", s)
			break
		}
	}
	return s
}

func (d *document) integer(n *node, lo, hi int) int {
	v, err := strconv.Atoi(d.str(n))
	if err != nil || v < lo || v > hi {
		d.errorf(n, "%q is no whole number from %d to %d", n.Value, lo, hi)
		return lo
	}
	return v
}

func (d *document) number(n *node, lo, hi float64) float64 {
	v, err := strconv.ParseFloat(d.str(n), 64)
	if err != nil || math.IsNaN(v) || v < lo || v > hi {
		d.errorf(n, "%q is no number from %g to %g", n.Value, lo, hi)
		return lo
	}
	return v
}

func (d *document) positive(n *node, limit float64) float64 {
	v := d.number(n, 0, limit)
	if v == 0 {
		d.errorf(n, "must be more than 0")
	}
	return v
}

func (d *document) boolean(n *node) bool {
	switch s := d.str(n); s {
	case "true":
		return true
	case "false":
	default:
		d.errorf(n, "%q is neither true nor false", s)
	}
	return false
}

func (d *document) choice(n *node, what string, names []string) int {
	s := d.str(n)
	for i, name := range names {
		if s == name {
			return i
		}
	}
	d.errorf(n, "%s: %q is none of %s", what, s, strings.Join(names, ", "))
	return 0
}

func (d *document) moods(n *node) MoodSet {
	if n.Kind == yaml.ScalarNode {
		return 1 << d.choice(n, "mood", moodNames[:])
	}
	var set MoodSet
	d.items(n, "mood", len(moodNames), func(item *node) {
		set |= 1 << d.choice(item, "mood", moodNames[:])
	})
	return set
}

func (d *document) stage(n *node, tactic detectors.Tactic) detectors.Stage {
	s, ok := detectors.ParseStage(d.str(n))
	if !ok {
		d.errorf(n, "unknown stage %q", n.Value)
		return s
	}
	var names []string
	for _, allowed := range tactic.Stages {
		if names = append(names, allowed.String()); s == allowed {
			return s
		}
	}
	if len(names) > 0 {
		d.errorf(n, "stage %s: %s plays %s only", s, tactic.Name, strings.Join(names, " or "))
	}
	return s
}

// phrase reads a phrase of the language. It always returns a source; one that
// is at fault was reported and holds an expr that matches one odd word.
func (d *document) phrase(n *node) *source {
	s := &source{doc: d, text: newScalar(n)}
	var bad *fault
	if n.Kind != yaml.ScalarNode {
		d.str(n)
	} else if s.expr, bad = parsePhrase(n.Value); bad != nil {
		d.add(s.errorAt(bad.offset, "%s", bad.rule))
	}
	if s.expr == nil {
		s.expr = &expr{kind: kindWord, text: "?"}
	}
	return s
}

// phrases reads a phrase or a list of them.
func (d *document) phrases(n *node, what string) []*source {
	if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
		return []*source{d.phrase(n)}
	}
	var list []*source
	if n.Kind == yaml.ScalarNode || n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.errorf(n, "%s is empty", what)
		return nil
	}
	d.items(n, what, maxPhrases, func(item *node) { list = append(list, d.phrase(item)) })
	return list
}

// scalar is a YAML text and where it begins.
type scalar struct {
	value        string
	style        yaml.Style
	line, column int
}

func newScalar(n *node) scalar { return scalar{n.Value, n.Style, n.Line, n.Column} }

// locate finds the line and column, 1-based, of the character at a byte offset
// of a scalar's value. It walks the source beside the value: quotes, escapes
// and folded lines are in the one and not in the other.
func (d *document) locate(s scalar, offset int) (line, column int) {
	if s.line < 1 || s.line > len(d.lines) {
		return s.line, s.column
	}
	row := s.line - 1
	src := []rune(d.lines[row])
	at := s.column - 1
	quoted := s.style&yaml.DoubleQuotedStyle != 0
	switch {
	case s.style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		at++
	case s.style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		row, at = row+1, 0
		if row < len(d.lines) {
			src = []rune(d.lines[row])
		}
	}
	// skip moves to the next character that is not white space.
	skip := func() bool {
		for {
			for at < len(src) && unicode.IsSpace(src[at]) {
				at++
			}
			if at < len(src) && !(quoted && src[at] == '\\' && at == len(src)-1) {
				return true
			}
			if row+1 >= len(d.lines) {
				return false
			}
			row, at = row+1, 0
			src = []rune(d.lines[row])
		}
	}
	for i, r := range s.value {
		if unicode.IsSpace(r) {
			continue
		}
		if !skip() {
			return s.line, s.column
		}
		if i >= offset {
			return row + 1, at + 1
		}
		switch {
		case quoted && src[at] == '\\':
			at += escapeLength(src[at:])
		case s.style&yaml.SingleQuotedStyle != 0 && src[at] == '\'':
			at += 2
		default:
			at++
		}
	}
	return row + 1, at + 1
}

// escapeLength is the length of the escape with which src begins.
func escapeLength(src []rune) int {
	if len(src) < 2 {
		return len(src)
	}
	switch src[1] {
	case 'x':
		return 4
	case 'u':
		return 6
	case 'U':
		return 10
	}
	return 2
}
