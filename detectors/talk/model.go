package talk

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

//go:embed model.tsv
var embedded []byte

const (
	biasLine = "bias"
	maxGrams = 1 << 20
)

// Load returns the model that callwarden ships with.
func Load() (*Model, error) { return Read("talk/model.tsv", bytes.NewReader(embedded)) }

// Read reads a model: lines of a gram, a tab and its weight, the first of them
// the bias. Lines without a tab that begin with "# " are its record. An error
// names the file and the line.
func Read(name string, r io.Reader) (*Model, error) {
	m := &Model{index: make(map[uint64]int32)}
	lines, n, begun := bufio.NewScanner(r), 0, false
	for lines.Scan() {
		n++
		if line := lines.Text(); !strings.HasPrefix(line, "# ") || strings.Contains(line, "\t") {
			gram, weight, ok := strings.Cut(line, "\t")
			w, err := strconv.ParseFloat(weight, 32)
			switch {
			case !ok || gram == "":
				return nil, fmt.Errorf("%s:%d: want a gram, a tab and its weight", name, n)
			case err != nil || math.IsNaN(w) || math.IsInf(w, 0):
				return nil, fmt.Errorf("%s:%d: weight %q is not a number", name, n, weight)
			case !begun && gram != biasLine:
				return nil, fmt.Errorf("%s:%d: the first weight must be that of %q", name, n, biasLine)
			case !begun:
				m.bias, begun = w, true
				continue
			case len(m.grams) == maxGrams:
				return nil, fmt.Errorf("%s:%d: more than %d grams", name, n, maxGrams)
			}
			h := hash(offset, gram)
			if _, twice := m.index[h]; twice {
				return nil, fmt.Errorf("%s:%d: %q is there already", name, n, gram)
			}
			m.index[h] = int32(len(m.grams))
			m.grams, m.weights = append(m.grams, gram), append(m.weights, float32(w))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
	}
	if !begun {
		return nil, fmt.Errorf("%s: no weights", name)
	}
	return m, nil
}
