package phrase

import (
	"fmt"
	"strconv"
	"strings"
)

// Limits of the language. They bound what a pack from a stranger can cost;
// docs/phrases.md states them.
const (
	maxPhraseBytes = 2000
	maxDepth       = 8    // groups in groups; and classes in classes
	maxGap         = 30   // words
	maxSpan        = 60   // words of the longest match: a match and its ends fit 64 bits
	maxElements    = 4000 // of a pattern with its classes expanded
	maxNumber      = 1_000_000_000_000
)

type kind uint8

const (
	kindWord   kind = iota // text
	kindPrefix             // text
	kindAny
	kindGap    // lo to hi words
	kindClass  // text is its name
	kindDigits // lo to hi digits
	kindNumber // lo to hi
	kindAmount // lo to hi
	kindSeq    // kids one after the other
	kindAlt    // one of kids
	kindOpt    // one of kids or nothing
	kindNear   // kids in any order, at most hi words between neighbours
	kindBefore // kids in order, at most hi words between neighbours
	kindBegin
	kindEnd
)

// expr is a parsed phrase. A sequence has two kids or more and none that is a
// sequence; alternatives have two or more, an option one or more.
type expr struct {
	kind   kind
	text   string
	lo, hi int64
	kids   []*expr
	offset int // of its first byte in the phrase
}

// String prints the phrase so that it parses to the same.
func (e *expr) String() string {
	var b strings.Builder
	e.print(&b)
	return b.String()
}

func (e *expr) print(b *strings.Builder) {
	switch e.kind {
	case kindWord:
		b.WriteString(e.text)
	case kindPrefix:
		b.WriteString(e.text + "*")
	case kindAny:
		b.WriteByte('*')
	case kindGap:
		if e.lo == 0 {
			fmt.Fprintf(b, "~%d", e.hi)
		} else {
			fmt.Fprintf(b, "~%d-%d", e.lo, e.hi)
		}
	case kindClass:
		b.WriteString("<" + e.text + ">")
	case kindDigits:
		e.printRange(b, "digits", 1, maxDigits)
	case kindNumber:
		e.printRange(b, "number", 0, maxNumber)
	case kindAmount:
		e.printRange(b, "amount", 0, maxNumber)
	case kindSeq:
		e.printKids(b, "", " ", "")
	case kindAlt:
		e.printKids(b, "(", " | ", ")")
	case kindOpt:
		e.printKids(b, "[", " | ", "]")
	case kindNear:
		e.printKids(b, "{near "+strconv.FormatInt(e.hi, 10)+": ", "; ", "}")
	case kindBefore:
		e.printKids(b, "{before "+strconv.FormatInt(e.hi, 10)+": ", "; ", "}")
	case kindBegin:
		b.WriteByte('^')
	case kindEnd:
		b.WriteByte('$')
	}
}

func (e *expr) printKids(b *strings.Builder, open, between, end string) {
	b.WriteString(open)
	for i, k := range e.kids {
		if i > 0 {
			b.WriteString(between)
		}
		k.print(b)
	}
	b.WriteString(end)
}

func (e *expr) printRange(b *strings.Builder, name string, lo, hi int64) {
	switch {
	case e.lo == lo && e.hi == hi:
		fmt.Fprintf(b, "{%s}", name)
	case e.lo == e.hi:
		fmt.Fprintf(b, "{%s %d}", name, e.lo)
	default:
		fmt.Fprintf(b, "{%s %d-%d}", name, e.lo, e.hi)
	}
}
