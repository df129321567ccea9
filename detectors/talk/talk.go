// Package talk judges a call by its talk as a whole: not by what one sentence
// asks for, which the phrase packs know, but by all the words, as a listener
// does who could not say which of them made him suspicious. It is a logistic
// regression over the words and pairs of words that were said so far (Wang and
// Manning, "Baselines and Bigrams", ACL 2012), trained on scripted calls by
// cmd/internal/talktrain.
package talk

import (
	"math"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/transcribe"
)

// Model is what the words weigh. It is immutable and safe for all goroutines.
type Model struct {
	bias    float64
	index   map[uint64]int32 // of grams, by hash
	grams   []string         // as people read them
	weights []float32
}

// Damping keeps a call of a few words from a firm opinion: the sum of the
// weights is divided by the root of the number of grams and of these.
const Damping = 60

// logOdds is the opinion about a call with n known grams whose weights sum to
// sum.
func (m *Model) logOdds(sum float64, n int) float64 {
	return m.bias + sum/math.Sqrt(float64(n+Damping))
}

// Bias is the log odds of a call of which nothing was heard.
func (m *Model) Bias() float64 { return m.bias }

// Len is how many grams the model knows.
func (m *Model) Len() int { return len(m.grams) }

// Call is the opinion about one call. It is used by one goroutine.
type Call struct {
	model *Model
	seen  []uint64 // a bit for each gram of the model
	known int
	sum   float64
	most  [detectors.OpinionWords]int32 // of the grams that were seen, those that weigh most,
	least [detectors.OpinionWords]int32 // and least; -1 for none

	tokens []string
	words  []string
}

// NewCall returns the opinion about a call that begins.
func (m *Model) NewCall() *Call {
	c := &Call{model: m, seen: make([]uint64, (len(m.grams)+63)/64)}
	for i := range c.most {
		c.most[i], c.least[i] = -1, -1
	}
	return c
}

// Observe hears a segment. An unfinished one changes nothing: words are
// counted once, when they stand. Said twice, or on both legs, they count once
// too.
func (c *Call) Observe(seg transcribe.Segment) {
	if !seg.Final {
		return
	}
	c.tokens, _ = phrase.Tokenize(seg.Text, c.tokens[:0])
	c.words = Normalize(c.tokens, c.words[:0])
	for g := range Grams(c.words) {
		i, ok := c.model.index[g.Hash]
		if !ok || c.seen[i/64]&(1<<(i%64)) != 0 {
			continue
		}
		c.seen[i/64] |= 1 << (i % 64)
		c.known++
		w := c.model.weights[i]
		c.sum += float64(w)
		c.rank(i, w)
	}
}

// rank keeps the grams that weigh most and least.
func (c *Call) rank(i int32, w float32) {
	for k := range c.most {
		if c.most[k] < 0 || w > c.model.weights[c.most[k]] {
			copy(c.most[k+1:], c.most[k:])
			c.most[k] = i
			break
		}
	}
	for k := range c.least {
		if c.least[k] < 0 || w < c.model.weights[c.least[k]] {
			copy(c.least[k+1:], c.least[k:])
			c.least[k] = i
			break
		}
	}
}

// Opinion is what the call looks like so far.
func (c *Call) Opinion() detectors.Opinion {
	o := detectors.Opinion{LogOdds: c.model.logOdds(c.sum, c.known), Known: c.known}
	for k := range o.For {
		if i := c.most[k]; i >= 0 && c.model.weights[i] > 0 {
			o.For[k] = c.model.grams[i]
		}
		if i := c.least[k]; i >= 0 && c.model.weights[i] < 0 {
			o.Against[k] = c.model.grams[i]
		}
	}
	return o
}
