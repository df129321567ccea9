package phrase

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxDigits = 24 // of {digits}: a gift card has 19

// fault is a phrase that breaks a rule at a byte offset.
type fault struct {
	offset int
	rule   string
}

func faultf(offset int, format string, args ...any) *fault {
	return &fault{offset, fmt.Sprintf(format, args...)}
}

// parsePhrase reads one phrase of the language. Classes are not resolved.
func parsePhrase(text string) (*expr, *fault) {
	if len(text) > maxPhraseBytes {
		return nil, faultf(maxPhraseBytes, "a phrase is at most %d bytes", maxPhraseBytes)
	}
	if i := firstInvalid(text); i >= 0 {
		return nil, faultf(i, "not UTF-8")
	}
	p := &parser{text: text}
	e, err := p.sequence("")
	if err != nil {
		return nil, err
	}
	if p.at < len(text) {
		switch c := text[p.at]; c {
		case '|':
			return nil, faultf(p.at, "alternatives stand in ( ) or [ ]")
		case ';':
			return nil, faultf(p.at, "';' stands in {near …} and {before …} only")
		default:
			return nil, faultf(p.at, "'%c' closes nothing", c)
		}
	}
	if k := edge(e, false, kindGap); k != nil {
		return nil, faultf(k.offset, "a phrase does not begin with a gap")
	}
	if k := edge(e, true, kindGap); k != nil {
		return nil, faultf(k.offset, "a phrase does not end with a gap")
	}
	return e, nil
}

func firstInvalid(text string) int {
	for i, r := range text {
		if r == utf8.RuneError {
			return i
		}
	}
	return -1
}

// edge finds an element of kind k with which a match of e could begin, or end.
func edge(e *expr, last bool, k kind) *expr {
	switch e.kind {
	case k:
		return e
	case kindSeq:
		for i := range e.kids {
			kid := e.kids[i]
			if last {
				kid = e.kids[len(e.kids)-1-i]
			}
			if found := edge(kid, last, k); found != nil {
				return found
			}
			if kid.kind != kindOpt {
				return nil
			}
		}
	case kindAlt, kindOpt, kindNear, kindBefore:
		for _, kid := range e.kids {
			if found := edge(kid, last, k); found != nil {
				return found
			}
		}
	}
	return nil
}

type parser struct {
	text  string
	at    int
	depth int
}

func (p *parser) space() {
	for p.at < len(p.text) {
		r, size := utf8.DecodeRuneInString(p.text[p.at:])
		if !unicode.IsSpace(r) {
			return
		}
		p.at += size
	}
}

// sequence reads elements up to one of the closing bytes or the end.
func (p *parser) sequence(what string) (*expr, *fault) {
	start := p.at
	var kids []*expr
	for {
		p.space()
		if p.at == len(p.text) || strings.IndexByte(")]}|;", p.text[p.at]) >= 0 {
			break
		}
		es, err := p.element()
		if err != nil {
			return nil, err
		}
		for _, e := range es {
			if n := len(kids); e.kind == kindGap && n > 0 && kids[n-1].kind == kindGap {
				return nil, faultf(e.offset, "two gaps in a row: write one")
			}
			kids = append(kids, e)
		}
	}
	switch len(kids) {
	case 0:
		if what == "" {
			return nil, faultf(start, "an empty phrase")
		}
		return nil, faultf(p.at, "an empty %s", what)
	case 1:
		return kids[0], nil
	}
	return &expr{kind: kindSeq, kids: kids, offset: kids[0].offset}, nil
}

// element reads one element; a group of one alternative is its elements.
func (p *parser) element() ([]*expr, *fault) {
	start := p.at
	one := func(e *expr, err *fault) ([]*expr, *fault) { return []*expr{e}, err }
	switch p.text[p.at] {
	case '(':
		e, err := p.group(')', kindAlt)
		if err != nil {
			return nil, err
		}
		if len(e.kids) == 1 {
			if e = e.kids[0]; e.kind == kindSeq {
				return e.kids, nil
			}
		}
		return []*expr{e}, nil
	case '[':
		return one(p.group(']', kindOpt))
	case '{':
		return one(p.braces())
	case '<':
		return one(p.class())
	case '~':
		return one(p.gap())
	case '^':
		p.at++
		return one(&expr{kind: kindBegin, offset: start}, nil)
	case '$':
		p.at++
		return one(&expr{kind: kindEnd, offset: start}, nil)
	}
	return p.word()
}

func (p *parser) deeper() *fault {
	if p.depth++; p.depth > maxDepth {
		return faultf(p.at, "groups are nested at most %d deep", maxDepth)
	}
	return nil
}

func (p *parser) group(end byte, k kind) (*expr, *fault) {
	if err := p.deeper(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	e := &expr{kind: k, offset: p.at}
	for {
		p.at++ // the opening, or the |
		kid, err := p.sequence("alternative")
		if err != nil {
			return nil, err
		}
		e.kids = append(e.kids, kid)
		switch {
		case p.at == len(p.text):
			return nil, faultf(e.offset, "'%c' is not closed by '%c'", p.text[e.offset], end)
		case p.text[p.at] == end:
			p.at++
			return e, nil
		case p.text[p.at] != '|':
			return nil, faultf(p.at, "'%c' where '%c' closes the group", p.text[p.at], end)
		}
	}
}

// braces reads {digits 4-8}, {number}, {amount 50-500}, {near 6: A; B} and
// {before 6: A; B}.
func (p *parser) braces() (*expr, *fault) {
	start := p.at
	p.at++
	p.space()
	name := p.name()
	e := &expr{offset: start}
	switch name {
	case "digits":
		e.kind, e.lo, e.hi = kindDigits, 1, maxDigits
	case "number":
		e.kind, e.lo, e.hi = kindNumber, 0, maxNumber
	case "amount":
		e.kind, e.lo, e.hi = kindAmount, 0, maxNumber
	case "near":
		e.kind = kindNear
		return e, p.proximity(e)
	case "before":
		e.kind = kindBefore
		return e, p.proximity(e)
	default:
		return nil, faultf(start, "{%s …}: none of digits, number, amount, near, before", name)
	}
	least, most := e.lo, e.hi
	p.space()
	if p.at < len(p.text) && p.text[p.at] != '}' {
		lo, hi, err := p.span()
		if err != nil {
			return nil, err
		}
		if lo < least || hi > most {
			return nil, faultf(start, "{%s}: %d-%d is not within %d-%d", name, lo, hi, least, most)
		}
		e.lo, e.hi = lo, hi
		p.space()
	}
	if p.at == len(p.text) || p.text[p.at] != '}' {
		return nil, faultf(start, "'{' is not closed by '}'")
	}
	p.at++
	return e, nil
}

func (p *parser) proximity(e *expr) *fault {
	if err := p.deeper(); err != nil {
		return err
	}
	defer func() { p.depth-- }()
	name := "near"
	if e.kind == kindBefore {
		name = "before"
	}
	p.space()
	at := p.at
	n, err := p.integer()
	if err != nil {
		return err
	}
	if n > maxGap {
		return faultf(at, "{%s %d: …}: at most %d words", name, n, maxGap)
	}
	e.hi = n
	p.space()
	if p.at == len(p.text) || p.text[p.at] != ':' {
		return faultf(p.at, "{%s %d: A; B} has a ':' after the number of words", name, n)
	}
	for {
		p.at++ // the : or ;
		kid, err := p.sequence("part of {" + name + "}")
		if err != nil {
			return err
		}
		for _, last := range []bool{false, true} {
			if k := edge(kid, last, kindGap); k != nil {
				return faultf(k.offset, "a part of {%s} does not begin or end with a gap", name)
			}
		}
		e.kids = append(e.kids, kid)
		if p.at == len(p.text) {
			return faultf(e.offset, "'{' is not closed by '}'")
		}
		if p.text[p.at] == '}' {
			break
		}
		if p.text[p.at] != ';' {
			return faultf(p.at, "'%c' where ';' or '}' follows", p.text[p.at])
		}
	}
	if len(e.kids) < 2 || len(e.kids) > 3 {
		return faultf(e.offset, "{%s} has two or three parts, not %d", name, len(e.kids))
	}
	p.at++
	return nil
}

func (p *parser) class() (*expr, *fault) {
	start := p.at
	p.at++
	name := p.name()
	if name == "" {
		return nil, faultf(start, "'<' begins the name of a class: lower-case letters, digits, '-' and '_'")
	}
	if p.at == len(p.text) || p.text[p.at] != '>' {
		return nil, faultf(start, "<%s is not closed by '>'", name)
	}
	p.at++
	return &expr{kind: kindClass, text: name, offset: start}, nil
}

func (p *parser) gap() (*expr, *fault) {
	start := p.at
	p.at++
	lo, hi, err := p.span()
	if err != nil {
		return nil, err
	}
	if !strings.Contains(p.text[start:p.at], "-") {
		lo = 0
	}
	if hi < 1 || hi > maxGap {
		return nil, faultf(start, "a gap is 1 to %d words, not %d", maxGap, hi)
	}
	return &expr{kind: kindGap, lo: lo, hi: hi, offset: start}, nil
}

// span reads "4" or "4-8".
func (p *parser) span() (lo, hi int64, err *fault) {
	start := p.at
	if lo, err = p.integer(); err != nil {
		return 0, 0, err
	}
	hi = lo
	if p.at < len(p.text) && p.text[p.at] == '-' {
		p.at++
		if hi, err = p.integer(); err != nil {
			return 0, 0, err
		}
	}
	if lo > hi {
		return 0, 0, faultf(start, "%d-%d: the range is upside down", lo, hi)
	}
	return lo, hi, nil
}

func (p *parser) integer() (int64, *fault) {
	start := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	if p.at == start {
		return 0, faultf(start, "a number is missing")
	}
	n, err := strconv.ParseInt(p.text[start:p.at], 10, 64)
	if err != nil || n > maxNumber {
		return 0, faultf(start, "%s is more than %d", p.text[start:p.at], maxNumber)
	}
	return n, nil
}

func (p *parser) name() string {
	start := p.at
	for p.at < len(p.text) && nameByte(p.text[p.at]) {
		p.at++
	}
	return p.text[start:p.at]
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// word reads a word, which may be several tokens ("sign-in"), a prefix, or *.
func (p *parser) word() ([]*expr, *fault) {
	start := p.at
	for p.at < len(p.text) {
		r, size := utf8.DecodeRuneInString(p.text[p.at:])
		if !isWordRune(r) && !strings.ContainsRune("'’-*", r) {
			break
		}
		p.at += size
	}
	chunk := p.text[start:p.at]
	if chunk == "" {
		r, _ := utf8.DecodeRuneInString(p.text[p.at:])
		return nil, faultf(start, "'%c' is not part of the language; write words as they are said", r)
	}
	if chunk == "*" {
		return []*expr{{kind: kindAny, offset: start}}, nil
	}
	stem, prefix := strings.CutSuffix(chunk, "*")
	if i := strings.IndexByte(stem, '*'); i >= 0 {
		return nil, faultf(start+i, "'*' stands alone or at the end of a word")
	}
	var es []*expr
	for _, t := range AppendWord(nil, stem) {
		es = append(es, &expr{kind: kindWord, text: t, offset: start})
	}
	if len(es) == 0 {
		return nil, faultf(start, "%q holds no word", chunk)
	}
	if prefix {
		last := es[len(es)-1]
		if utf8.RuneCountInString(last.text) < 2 || !strings.HasSuffix(strings.ToLower(stem), last.text) {
			return nil, faultf(start, "%q: at least two letters stand before '*'", chunk)
		}
		last.kind = kindPrefix
	}
	return es, nil
}
