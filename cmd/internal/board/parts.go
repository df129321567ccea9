package board

import (
	"slices"
	"sort"
	"time"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// addPoint adds p where it belongs. A curve that has grown too long loses
// every other point whose level is that of both its neighbours.
func addPoint(curve []Point, p Point) []Point {
	i := sort.Search(len(curve), func(i int) bool { return curve[i].At > p.At })
	if i > 0 && curve[i-1] == p {
		return curve
	}
	curve = slices.Insert(slices.Clip(curve), i, p) // a copy: readers may hold the old one
	if len(curve) <= pointsMost {
		return curve
	}
	thin := curve[:0:0]
	for i, p := range curve {
		inner := i > 0 && i < len(curve)-1 && p.Level == curve[i-1].Level && p.Level == curve[i+1].Level
		if !inner || i%2 == 0 {
			thin = append(thin, p)
		}
	}
	if len(thin) > pointsMost { // levels that never rest
		thin = thin[len(thin)-pointsMost:]
	}
	return thin
}

// lineOf is the curve with few points: of each stretch of it the highest.
func lineOf(curve []Point) []float64 {
	pairs := make([]float64, 0, 2*min(len(curve), lineMost))
	n := min(len(curve), lineMost)
	for i := range n {
		from, to := i*len(curve)/n, (i+1)*len(curve)/n
		best := curve[from]
		for _, p := range curve[from:to] {
			if p.Score > best.Score {
				best = p
			}
		}
		if i == n-1 {
			best = curve[len(curve)-1] // how it stands now
		}
		pairs = append(pairs, round1(float64(best.At)), round1(best.Score))
	}
	return pairs
}

func round1(f float64) float64 { return float64(int64(f*10+0.5)) / 10 }

// segments are those of one call, in the order in which they came first.
type segments struct {
	first int // N of all[0]
	all   []Segment
	at    map[segmentKey]int // N
}

type segmentKey struct {
	leg       callwardenv1.Leg
	utterance int32
	heard     callwardenv1.Heard
}

func (s *segments) take(d *callwardenv1.TranscriptSegment, version uint64, most int) {
	if s.at == nil {
		s.at = make(map[segmentKey]int)
	}
	key := segmentKey{d.GetLeg(), d.GetUtterance(), d.GetHeard()}
	n, known := s.at[key]
	if known && n >= s.first {
		if s.all[n-s.first].Final && !d.GetFinal() {
			return // came late
		}
	} else {
		n = s.first + len(s.all)
		s.at[key] = n
		s.all = append(s.all, Segment{})
		s.trim(most)
	}
	seg := Segment{
		N: n, Leg: legName(d.GetLeg()), Utterance: d.GetUtterance(), Heard: heardName(d.GetHeard()), Final: d.GetFinal(),
		Start: secondsOf(d.GetStart()), End: secondsOf(d.GetEnd()), Text: d.GetText(), version: version,
	}
	if words := d.GetWords(); len(words) > 0 {
		seg.Words = make([]Word, len(words))
		for i, w := range words {
			seg.Words[i] = Word{
				Text: w.GetText(), Confidence: w.GetConfidence(),
				Start: float32(w.GetStart().AsDuration().Seconds()), End: float32(w.GetEnd().AsDuration().Seconds()),
			}
		}
	}
	s.all[n-s.first] = seg
}

// trim lets the first segments go where there are more than most, a tenth at a
// time. One always stays.
func (s *segments) trim(most int) {
	if len(s.all) <= most {
		return
	}
	drop := min(len(s.all)-1, max(len(s.all)-most, most/10))
	s.first += drop
	s.all = slices.Clone(s.all[drop:])
	for key, n := range s.at {
		if n < s.first {
			delete(s.at, key)
		}
	}
}

// Strips begin with the step of the events and double it when they are longer
// than an hour of that: then the louder of two steps counts.
const (
	stripMost = 36_000 // steps; an hour of 100 ms
	stepLeast = 10 * time.Millisecond
	silence   = 255 // nothing came
)

func (e *entry) takeLevels(d *callwardenv1.CallLevels) {
	step, start := d.GetStep().AsDuration(), d.GetStart().AsDuration()
	if step < stepLeast || start < 0 {
		return
	}
	for _, l := range d.GetLegs() {
		name := legName(l.GetLeg())
		i := slices.IndexFunc(e.strips, func(s Strip) bool { return s.Leg == name })
		if i < 0 {
			i = len(e.strips)
			e.strips = append(e.strips, Strip{Leg: name, Step: seconds(step)})
		}
		e.strips[i].put(start, step, l.GetBelow())
	}
}

// put writes levels at their place; a step of another length counts for the
// place in which it begins.
func (s *Strip) put(start, step time.Duration, below []byte) {
	for i, v := range below {
		at := start + time.Duration(i)*step
		own := s.Step.Duration()
		n := int((at + own/100) / own) // steps of the events are exact, those in JSON rounded
		if n >= 1000*stripMost {
			return // no call is that long
		}
		for n >= stripMost {
			s.halve()
			n /= 2
		}
		for len(s.Below) <= n {
			s.Below = append(s.Below, silence)
		}
		s.Below[n] = min(s.Below[n], v)
	}
}

func (s *Strip) halve() {
	out := make([]byte, 0, cap(s.Below))
	for i := 0; i < len(s.Below); i += 2 {
		out = append(out, slices.Min(s.Below[i:min(i+2, len(s.Below))]))
	}
	s.Below, s.Step = out, s.Step*2
}
