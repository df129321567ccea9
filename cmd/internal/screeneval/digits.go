package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/detectors/screen"
	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

// readBack is how many digits make an answer to an ask for a code.
const readBack = 4

// codeTally is how spoken codes were heard.
type codeTally struct {
	codes, heard, counted, right, errors, digits int
}

func (t *codeTally) hear(ctx context.Context, engine *vosk.Engine, list *screen.List, it item, legs []leg) error {
	segs, err := decode(ctx, engine, transcribe.Options{Phrases: list.Digits()}, legs)
	if err != nil {
		return err
	}
	var heard strings.Builder
	for _, s := range segs {
		if !s.Final {
			continue
		}
		tokens, _ := phrase.Tokenize(s.Text, nil)
		for i, t := range tokens {
			tokens[i] = spoken.DigitOf(t)
		}
		for _, run := range spoken.Runs(tokens, nil) {
			heard.WriteString(run.Digits())
		}
	}
	t.codes++
	t.digits += len(it.digits)
	wrong := levenshtein.ComputeDistance(it.digits, heard.String())
	t.errors += wrong
	if wrong == 0 {
		t.right++
	}
	if heard.Len() >= readBack {
		t.heard++
	}
	if d := heard.Len() - len(it.digits); d >= -1 && d <= 1 {
		t.counted++
	}
	return nil
}

func (t *codeTally) print(out io.Writer) error {
	if t.codes == 0 {
		return nil
	}
	of := func(n int) float64 { return 100 * float64(n) / float64(t.codes) }
	_, err := fmt.Fprintf(out, "%d codes: %.0f %% heard as a read-back of %d digits or more, %.0f %% counted to one, %.0f %% right; %.1f %% of the digits wrong\n",
		t.codes, of(t.heard), readBack, of(t.counted), of(t.right), 100*float64(t.errors)/float64(t.digits))
	return err
}
