package tactics

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/callwarden/callwarden/detectors"
)

// Advice is what a person should do now.
type Advice struct {
	ID   string // stable, such as "otp_request.critical" or "otp_request.critical.IN"
	Text string // sentences in the person's language
}

// levels that advice is given at, rising.
var levels = []string{"notice", "warning", "critical"}

// anyTactic is the entry for tactics that have none of their own.
const anyTactic = "any"

type adviceFile struct {
	language string
	texts    map[adviceKey]Advice
}

type adviceKey struct{ tactic, level, country string }

// Advice finds what to say about a tactic at a level ("notice", "warning",
// "critical") in a language (BCP 47) and country (ISO 3166, such as "GB"; empty
// when unknown). What is most fitting wins: the country's own text, then the
// text of the next lower level, then the text for any tactic. ok is false when
// there is nothing to say, as at level "none" or in a language that has no
// advice.
func (l *Library) Advice(tactic, language, country, level string) (advice Advice, ok bool) {
	rank := slices.Index(levels, level)
	base, _, _ := strings.Cut(language, "-")
	for _, file := range l.advice {
		if !strings.EqualFold(file.language, base) {
			continue
		}
		for _, t := range []string{tactic, anyTactic} {
			for r := rank; r >= 0; r-- {
				for _, c := range []string{strings.ToUpper(country), ""} {
					if a, ok := file.texts[adviceKey{t, levels[r], c}]; ok {
						return a, true
					}
				}
			}
		}
	}
	return Advice{}, false
}

const maxAdviceBytes = 400 // of a text: it is read while the phone is in the hand

// parseAdvice reads
//
//	language: en
//	version: 1
//	tactics:
//	  otp_request:
//	    critical: Do not read out the code.
//	    countries:
//	      IN:
//	        critical: …
//
// where tactics are those of the packs, or "any".
func parseAdvice(name string, data []byte) (*adviceFile, error) {
	var root yaml.Node
	if err := yaml.Load(data, &root); err != nil {
		var at *yaml.LoadError
		if errors.As(err, &at) {
			return nil, &Error{name, max(at.Mark.Line, 1), max(at.Mark.Column, 1), strings.TrimPrefix(at.Message, "yaml: ")}
		}
		return nil, &Error{name, 1, 1, err.Error()}
	}
	r := adviceReader{name: name, file: &adviceFile{texts: map[adviceKey]Advice{}}}
	if len(root.Content) != 1 {
		return nil, &Error{name, 1, 1, "an empty file"}
	}
	r.mapping(root.Content[0], func(key string, value *yaml.Node) {
		switch key {
		case "language":
			r.file.language = r.text(value)
		case "version":
			r.text(value)
		case "tactics":
			r.mapping(value, func(tactic string, value *yaml.Node) { r.tactic(tactic, value) })
		default:
			r.errorf(value, "unknown key %q; known are language, version, tactics", key)
		}
	})
	if r.file.language == "" {
		r.errorf(root.Content[0], "language is missing")
	}
	return r.file, errors.Join(r.errs...)
}

// Error is a rule that a file breaks, and where.
type Error struct {
	File         string
	Line, Column int
	Rule         string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Rule)
}

type adviceReader struct {
	name string
	file *adviceFile
	errs []error
}

func (r *adviceReader) errorf(at *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, &Error{r.name, at.Line, at.Column, fmt.Sprintf(format, args...)})
}

func (r *adviceReader) mapping(n *yaml.Node, each func(key string, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.errorf(n, "keys with values are expected")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if seen[key] {
			r.errorf(n.Content[i], "%s: stands here twice", key)
			continue
		}
		seen[key] = true
		each(key, n.Content[i+1])
	}
}

func (r *adviceReader) text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || strings.TrimSpace(n.Value) == "" {
		r.errorf(n, "a text is expected")
		return ""
	}
	if len(n.Value) > maxAdviceBytes {
		r.errorf(n, "the text is %d bytes, limit %d", len(n.Value), maxAdviceBytes)
	}
	return strings.TrimSpace(n.Value)
}

func (r *adviceReader) tactic(tactic string, n *yaml.Node) {
	if _, ok := detectors.LookupTactic(tactic); !ok && tactic != anyTactic {
		r.errorf(n, "unknown tactic %q", tactic)
	}
	r.mapping(n, func(key string, value *yaml.Node) {
		if key != "countries" {
			r.level(tactic, key, "", value)
			return
		}
		r.mapping(value, func(country string, value *yaml.Node) {
			if len(country) != 2 || strings.ToUpper(country) != country {
				r.errorf(value, "country %q is no two capital letters", country)
			}
			r.mapping(value, func(level string, value *yaml.Node) { r.level(tactic, level, country, value) })
		})
	})
}

func (r *adviceReader) level(tactic, level, country string, n *yaml.Node) {
	if !slices.Contains(levels, level) {
		r.errorf(n, "%q is none of the levels %s", level, strings.Join(levels, ", "))
	}
	id := tactic + "." + level
	if country != "" {
		id += "." + country
	}
	r.file.texts[adviceKey{tactic, level, country}] = Advice{ID: id, Text: r.text(n)}
}
