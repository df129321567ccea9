package route

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe"
)

// pair is what was measured of a shadow beside the backend whose legs it
// hears.
type pair struct {
	backend, shadow string

	sessions, failures   atomic.Int64
	heard, dropped, busy atomic.Int64 // nanoseconds: audio, audio, and in the shadow's calls

	mu                 sync.Mutex
	words, shadowWords int
	differences        int // words to change, add or leave out
	lag                [2]lag
}

// lag is how long after its audio came a final segment was told, in total.
type lag struct {
	n   int
	sum time.Duration
	max time.Duration
}

// Sides of a pair.
const (
	leg = iota
	other
)

// chosen reports whether the shadow hears a call: the same always, and with a
// larger share those of the smaller one too.
func (r *rule) chosen(call string) bool {
	if r.ShadowShare == 0 {
		return true
	}
	sum := sha256.Sum256([]byte("shadow " + call))
	return float64(binary.BigEndian.Uint64(sum[:])>>11)/(1<<53) < r.ShadowShare
}

const (
	// Words are compared some at a time, so that hours of a call cost no more
	// than minutes.
	compareWords = 100
	// What one has heard in the last moments the other may be about to say.
	compareAfter = 2 * time.Second
	// Frames whose arrival is remembered, for the lag.
	arrivals = 512
)

// measure compares what two backends hear of one leg.
type measure struct {
	pair *pair

	mu    sync.Mutex
	sides [2]side
	// When audio came in, by its media time, the latest last.
	came []arrival
}

type arrival struct {
	media time.Duration
	at    time.Time
}

// side are the words of one backend that were not compared yet.
type side struct {
	words []transcribe.Word
	until time.Duration // end of the last final segment
}

func newMeasure(p *pair) *measure { return &measure{pair: p} }

// arrived notes that audio up to the media time to came in.
func (m *measure) arrived(to time.Duration, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.came) == arrivals {
		m.came = append(m.came[:0], m.came[arrivals/2:]...)
	}
	m.came = append(m.came, arrival{to, now})
}

// hear takes what a side has heard.
func (m *measure) hear(which int, segments []transcribe.Segment, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.sides[which]
	for _, seg := range segments {
		if !seg.Final || seg.Text == "" {
			continue
		}
		s.words = append(s.words, spread(seg)...)
		s.until = max(s.until, seg.End)
		for _, c := range m.came {
			if c.media >= seg.End {
				m.pair.late(which, now.Sub(c.at))
				break
			}
		}
	}
	if min(len(m.sides[leg].words), len(m.sides[other].words)) >= compareWords {
		m.compare(min(m.sides[leg].until, m.sides[other].until) - compareAfter)
	}
}

// spread are the words of seg, with times where the backend gives none.
func spread(seg transcribe.Segment) []transcribe.Word {
	if len(seg.Words) > 0 {
		return seg.Words
	}
	texts := strings.Fields(seg.Text)
	words := make([]transcribe.Word, len(texts))
	n := time.Duration(len(texts))
	for i, text := range texts {
		k := time.Duration(i)
		words[i] = transcribe.Word{Text: text, Start: seg.Start + (seg.End-seg.Start)*k/n, End: seg.Start + (seg.End-seg.Start)*(k+1)/n}
	}
	return words
}

// compare counts the differences of the words that end by then.
func (m *measure) compare(until time.Duration) {
	var texts [2][]string
	for i := range m.sides {
		s := &m.sides[i]
		k := 0
		for k < len(s.words) && s.words[k].End <= until {
			texts[i] = append(texts[i], s.words[k].Text)
			k++
		}
		s.words = append([]transcribe.Word(nil), s.words[k:]...)
	}
	m.pair.note(len(texts[leg]), len(texts[other]), distance(texts[leg], texts[other]))
}

// end compares the rest, where both have heard it.
func (m *measure) end(whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	until := time.Duration(1<<63 - 1)
	if !whole {
		until = min(m.sides[leg].until, m.sides[other].until)
	}
	m.compare(until)
}

func (p *pair) note(words, shadowWords, differences int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.words += words
	p.shadowWords += shadowWords
	p.differences += differences
}

func (p *pair) late(which int, by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &p.lag[which]
	l.n++
	l.sum += by
	l.max = max(l.max, by)
}

// distance is the least number of words to change, add or leave out to make b
// of a (Levenshtein 1966), in memory for one row.
func distance(a, b []string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j, y := range b {
			cost := diagonal
			if x != y {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
