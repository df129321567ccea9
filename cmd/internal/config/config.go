// Package config reads one YAML file into a struct that holds the defaults,
// and says everything that is wrong with it at once: where, what, which rule,
// and what to type.
package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
	"go.yaml.in/yaml/v4"
)

const (
	maxBytes = 1 << 20 // of a file
	maxDepth = 32      // of nested keys
)

// Fault is one thing that is wrong.
type Fault struct {
	Line int    // 0 where the file does not have the key
	Path string // of the key, such as "sources.rtp.ports.max"
	Rule string // the value and what it must be, or what is wrong with the key
	Type string // what to type instead; empty where the rule says it
}

func (f Fault) String() string {
	s := f.Path + ": " + f.Rule
	if f.Path == "" {
		s = f.Rule
	}
	if f.Line > 0 {
		s = fmt.Sprintf("line %d: %s", f.Line, s)
	}
	if f.Type != "" {
		s += "; type: " + f.Type
	}
	return s
}

// Error is everything that is wrong with a file.
type Error struct {
	File   string
	Faults []Fault
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = e.File + ": " + f.String()
	}
	return strings.Join(lines, "\n")
}

// File is a file that was read, for the lines of what is found later.
type File struct {
	name     string
	lines    map[string]int // of every key that the file has, by path
	defaults reflect.Value  // what a key has without the file
	faults   []Fault
}

// Read decodes data into the struct that into points to, which holds the
// defaults: keys that data leaves out keep them. Fields are named by their yaml
// tags. Keys that no field has, values of another type and YAML that is none
// are faults; the good rest is decoded all the same. name is what errors call
// the file.
func Read(name string, data []byte, into any) *File {
	v := reflect.ValueOf(into).Elem()
	f := &File{name: name, lines: make(map[string]int), defaults: reflect.New(v.Type()).Elem()}
	f.defaults.Set(v)
	if len(data) > maxBytes {
		f.fault(0, "", fmt.Sprintf("%d bytes must be at most %d", len(data), maxBytes), "")
		return f
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		line, text := lineOf(err)
		f.fault(line, "", "is no YAML: "+text, "")
		return f
	}
	if len(doc.Content) > 0 {
		f.decode(doc.Content[0], v, "", 0)
	}
	return f
}

func (f *File) fault(line int, path, rule, hint string) {
	f.faults = append(f.faults, Fault{line, path, rule, hint})
}

// Check adds the faults of a section: err is nil, or one or several joined
// errors of the form "key: rule", with keys relative to the section.
func (f *File) Check(section string, err error) {
	for _, e := range apart(err) {
		key, rule, ok := strings.Cut(e.Error(), ": ")
		path := join(section, key)
		if !ok {
			path, rule = section, e.Error()
		}
		f.Add(path, rule)
	}
}

// Add adds a fault of the key at path.
func (f *File) Add(path, rule string) {
	hint := ""
	if value, ok := f.Default(path); ok {
		hint = fmt.Sprintf("%s  (the default)", value)
	}
	f.fault(f.Line(path), path, rule, hint)
}

// apart takes joined errors apart.
func apart(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, apart(e)...)
	}
	return all
}

// Err is everything that is wrong so far, nil if nothing is.
func (f *File) Err() error {
	if len(f.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(f.faults, func(a, b Fault) int { return a.Line - b.Line })
	return &Error{f.name, f.faults}
}

// Line is where the key at path stands in the file, 0 if it does not.
func (f *File) Line(path string) int { return f.lines[path] }

// Default is the line "key: value" of a key without the file; ok is false for
// sections and for keys that no default has.
func (f *File) Default(path string) (line string, ok bool) {
	v := f.defaults
	name := ""
	for part := range strings.SplitSeq(path, ".") {
		if v.Kind() != reflect.Struct {
			return "", false
		}
		field, found := fields(v.Type())[part]
		if !found {
			return "", false
		}
		v, name = v.FieldByIndex(field.index), part
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Pointer, reflect.Interface:
		if v.Kind() != reflect.Slice || v.Len() > 0 {
			return "", false
		}
		return name + ": []", true
	case reflect.String:
		return name + ": " + strconv.Quote(v.String()), true
	}
	return fmt.Sprintf("%s: %v", name, v.Interface()), true
}

// field is where the value of a key goes.
type field struct {
	index []int
	typ   reflect.Type
}

// fields are the keys of a struct, those of inline structs among them.
func fields(t reflect.Type) map[string]field {
	all := make(map[string]field)
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		switch {
		case name == "-" || !sf.IsExported():
		case slices.Contains(strings.Split(options, ","), "inline"):
			for key, inner := range fields(sf.Type) {
				all[key] = field{append([]int{i}, inner.index...), inner.typ}
			}
		case name == "":
			all[strings.ToLower(sf.Name)] = field{[]int{i}, sf.Type}
		default:
			all[name] = field{[]int{i}, sf.Type}
		}
	}
	return all
}

var (
	yamlUnmarshaler = reflect.TypeFor[yaml.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	duration        = reflect.TypeFor[time.Duration]()
)

// section reports whether t is a struct whose keys are ours to look at.
func section(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t.Kind() == reflect.Struct && !p.Implements(yamlUnmarshaler) && !p.Implements(textUnmarshaler)
}

func (f *File) decode(n *yaml.Node, v reflect.Value, path string, depth int) {
	if path != "" {
		f.lines[path] = n.Line
	}
	if depth > maxDepth {
		f.fault(n.Line, path, fmt.Sprintf("is nested deeper than %d", maxDepth), "")
		return
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		f.fault(n.Line, path, "anchors and aliases are not taken", "the value itself")
		return
	}
	switch t := v.Type(); {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		// "key:" with nothing behind it leaves the default.
	case section(t):
		f.decodeSection(n, v, path, depth)
	case t.Kind() == reflect.Slice && section(t.Elem()):
		if n.Kind != yaml.SequenceNode {
			f.fault(n.Line, path, "must be a list", "- "+first(t.Elem())+": …")
			return
		}
		v.Set(reflect.MakeSlice(t, len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			f.decode(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i), depth+1)
		}
	case t.Kind() == reflect.Map && section(t.Elem()) && t.Key().Kind() == reflect.String:
		if n.Kind != yaml.MappingNode {
			f.fault(n.Line, path, "must be keys and values", "")
			return
		}
		v.Set(reflect.MakeMap(t))
		for i := 0; i+1 < len(n.Content); i += 2 {
			item := reflect.New(t.Elem()).Elem()
			f.decode(n.Content[i+1], item, join(path, n.Content[i].Value), depth+1)
			v.SetMapIndex(reflect.ValueOf(n.Content[i].Value).Convert(t.Key()), item)
		}
	default:
		f.decodeValue(n, v, path)
	}
}

func (f *File) decodeSection(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		f.fault(n.Line, path, "must be keys and values", first(v.Type())+": …")
		return
	}
	known := fields(v.Type())
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		to, ok := known[key.Value]
		switch {
		case !ok:
			f.fault(key.Line, at, "is no key that callwarden knows", suggest(key.Value, known))
		case seen[key.Value]:
			f.fault(key.Line, at, "is there twice", "")
		default:
			seen[key.Value] = true
			f.decode(value, v.FieldByIndex(to.index), at, depth+1)
			f.lines[at] = key.Line
		}
	}
}

func (f *File) decodeValue(n *yaml.Node, v reflect.Value, path string) {
	fresh := reflect.New(v.Type())
	if err := n.Decode(fresh.Interface()); err != nil {
		value := n.Value
		if n.Kind != yaml.ScalarNode {
			value = "what is there"
		}
		rule := fmt.Sprintf("%s must be %s", value, describe(v.Type()))
		if special(v.Type()) {
			_, text := lineOf(err)
			rule = text
		}
		f.Add(path, rule)
		f.faults[len(f.faults)-1].Line = n.Line
		return
	}
	v.Set(fresh.Elem())
}

func special(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(yamlUnmarshaler) || p.Implements(textUnmarshaler)
}

// describe names a type to a person.
func describe(t reflect.Type) string {
	if t == duration {
		return "a duration such as 500ms, 5s or 2h"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0 on"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "a text"
	case reflect.Slice:
		return "a list of which each is " + describe(t.Elem())
	case reflect.Map:
		return "keys and values"
	case reflect.Pointer:
		return describe(t.Elem())
	}
	return "something else"
}

func join(path, key string) string {
	if path == "" || key == "" {
		return path + key
	}
	return path + "." + key
}

// first is the alphabetically first key of a struct: an example.
func first(t reflect.Type) string {
	return slices.Sorted(keysOf(fields(t)))[0]
}

func keysOf(m map[string]field) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// suggest is the key that somebody may have meant, or all there are.
func suggest(key string, known map[string]field) string {
	names := slices.Sorted(keysOf(known))
	best, distance := "", 3
	for _, name := range names {
		if d := levenshtein.ComputeDistance(key, name); d < distance {
			best, distance = name, d
		}
	}
	if best != "" {
		return best + ": …"
	}
	return "one of " + strings.Join(names, ", ")
}

// lineOf takes the line out of an error of the YAML decoder.
func lineOf(err error) (line int, text string) {
	text = err.Error()
	var several *yaml.LoadErrors
	if errors.As(err, &several) && len(several.Errors) > 0 {
		text = fmt.Sprint(several.Errors[0])
	}
	text = strings.TrimPrefix(text, "yaml: ")
	if i := strings.Index(text, "line "); i >= 0 {
		rest := text[i+len("line "):]
		if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end > 0 {
			line, _ = strconv.Atoi(rest[:end])
			if _, after, ok := strings.Cut(rest, ": "); ok && i == 0 {
				text = after
			}
		}
	}
	return line, text
}
