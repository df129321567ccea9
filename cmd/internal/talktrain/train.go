package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/detectors/talk"
)

// What the training was tuned to, by the figures of calls whose author it had
// not seen.
const (
	epochs   = 30
	rate     = 0.5  // AdaGrad's
	shrink   = 1e-5 // L2 penalty
	dropMost = 0.4  // of the words of a call, at most: recognisers lose words
	fewest   = 3    // calls that a gram must stand in
	lightest = 0.02 // weights below are left out of the file
)

// example is a call as the trainer sees it.
type example struct {
	turns [][]string // normalized words
	scam  bool
	// from is the number of turns after which a fraud can be known for one.
	from int
}

func newExample(c call) example {
	ex := example{scam: c.Label == "scam"}
	for _, t := range c.Turns {
		tokens, _ := phrase.Tokenize(t.Text, nil)
		ex.turns = append(ex.turns, talk.Normalize(tokens, nil))
	}
	if ex.scam {
		ex.from = (len(c.Turns) + 1) / 2
		if c.First != nil {
			ex.from = *c.First + 1
		}
	}
	ex.from = min(max(ex.from, 1), len(c.Turns))
	return ex
}

// weights is a model in training.
type weights struct {
	bias  float64
	ids   map[string]int // of grams
	grams []string
	w, g2 []float64 // weight and sum of squared gradients
}

// train fits a logistic regression to calls by stochastic gradient descent with
// AdaGrad (Duchi, Hazan and Singer, 2011). Half of the time it sees a call only
// up to some turn, since a listener must judge before the end; and always with
// some words missing. The same calls in the same order give the same weights.
func train(calls []call) *weights {
	m := &weights{ids: make(map[string]int)}
	examples := make([]example, len(calls))
	in := map[string]int{} // calls that a gram stands in
	for i, c := range calls {
		examples[i] = newExample(c)
		for g := range gramsOf(examples[i].turns) {
			in[g]++
		}
	}
	for g, n := range in {
		if n >= fewest {
			m.grams = append(m.grams, g)
		}
	}
	slices.Sort(m.grams)
	for i, g := range m.grams {
		m.ids[g] = i
	}
	m.w, m.g2 = make([]float64, len(m.grams)), make([]float64, len(m.grams))

	rng := rand.New(rand.NewPCG(1, 2))
	order := rng.Perm(len(examples))
	sum := make([]float64, len(m.w)) // of the weights of the last epochs: their mean swings less
	bias, kept := 0.0, 0
	for epoch := range epochs {
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			m.step(examples[i], rng)
		}
		if epoch >= epochs/2 {
			for k, w := range m.w {
				sum[k] += w
			}
			bias += m.bias
			kept++
		}
	}
	for k := range m.w {
		m.w[k] = sum[k] / float64(kept)
	}
	m.bias = bias / float64(kept)
	return m
}

// step learns from one call.
func (m *weights) step(ex example, rng *rand.Rand) {
	end := len(ex.turns)
	if rng.IntN(2) == 0 {
		end = ex.from + rng.IntN(len(ex.turns)-ex.from+1)
	}
	var turns [][]string
	for _, words := range ex.turns[:end] {
		lost := rng.Float64() * dropMost
		var left []string
		for _, w := range words {
			if rng.Float64() >= lost {
				left = append(left, w)
			}
		}
		turns = append(turns, left)
	}
	var known []int
	sum := 0.0
	for g := range gramsOf(turns) {
		if id, ok := m.ids[g]; ok {
			known = append(known, id)
		}
	}
	slices.Sort(known) // the order of a map must not show in the sum
	for _, id := range known {
		sum += m.w[id]
	}
	norm := 1 / math.Sqrt(float64(len(known)+talk.Damping))
	d := 1/(1+math.Exp(-m.bias-sum*norm)) - label(ex.scam)
	m.bias -= 0.01 * d
	for _, id := range known {
		g := d*norm + shrink*m.w[id]
		m.g2[id] += g * g
		m.w[id] -= rate * g / (math.Sqrt(m.g2[id]) + 1e-3)
	}
}

func label(scam bool) float64 {
	if scam {
		return 1
	}
	return 0
}

// gramsOf is the different grams of turns.
func gramsOf(turns [][]string) map[string]bool {
	set := map[string]bool{}
	for _, words := range turns {
		for g := range talk.Grams(words) {
			set[g.Text()] = true
		}
	}
	return set
}

// write writes the model as talk.Read reads it.
func (m *weights) write(w io.Writer, record []string) error {
	var b strings.Builder
	for _, line := range record {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	fmt.Fprintf(&b, "bias\t%.4f\n", m.bias)
	for i, g := range m.grams {
		if math.Abs(m.w[i]) >= lightest {
			fmt.Fprintf(&b, "%s\t%.3f\n", g, m.w[i])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
