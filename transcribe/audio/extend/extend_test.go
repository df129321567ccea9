package extend

import (
	"math"
	"math/rand/v2"
	"testing"
)

var telephone = Edges{LowHz: 300, HighHz: 3400}

// voice is something with bursts of harmonics and noise, at speech level.
func voice(n int) []float32 {
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, n)
	for i := range x {
		t := float64(i) / RateHz
		swell := max(0, math.Sin(2*math.Pi*2*t))
		s := 150 * r.NormFloat64()
		for h := 3.0; h < 28; h++ {
			s += 900 / h * math.Sin(2*math.Pi*120*h*t)
		}
		x[i] = float32(swell * s)
	}
	return x
}

func run(x []float32, cut func() int, edges func(at int) Edges) []float32 {
	e := New(Default())
	var out []float32
	for at := 0; at < len(x); {
		n := min(cut(), len(x)-at)
		out = e.Process(out, x[at:at+n], edges(at))
		at += n
	}
	return e.Flush(out)
}

func always(e Edges) func(int) Edges { return func(int) Edges { return e } }

func TestOutputDoesNotDependOnTheCutting(t *testing.T) {
	x := voice(2*RateHz + 77)
	whole := run(x, func() int { return len(x) }, always(telephone))
	if len(whole) != len(x) {
		t.Fatalf("%d samples came out of %d", len(whole), len(x))
	}
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 3))
		cut := run(x, func() int { return 1 + r.IntN(400) }, always(telephone))
		if len(cut) != len(x) {
			t.Fatalf("seed %d: %d samples came out of %d", seed, len(cut), len(x))
		}
		for i := range x {
			if cut[i] != whole[i] {
				t.Fatalf("seed %d: sample %d is %v in pieces and %v in one", seed, i, cut[i], whole[i])
			}
		}
	}
}

func TestASampleWaitsNoLongerThanItsLookAhead(t *testing.T) {
	e := New(Default())
	x := voice(RateHz)
	var out []float32
	for i, v := range x {
		out = e.Process(out, []float32{v}, telephone)
		if i+1-len(out) > LookAhead {
			t.Fatalf("after %d samples only %d came out", i+1, len(out))
		}
	}
}

func TestWideBandAudioIsLeftAlone(t *testing.T) {
	x := voice(RateHz)
	for _, e := range []Edges{{}, {HighHz: 8000}, {LowHz: 80, HighHz: 7200}} {
		for i, v := range run(x, func() int { return 160 }, always(e)) {
			if v != x[i] {
				t.Fatalf("%+v: sample %d was %v and became %v", e, i, x[i], v)
			}
		}
	}
}

func TestOnlyWhatTheChannelLacksIsFilled(t *testing.T) {
	x := voice(2 * RateHz)
	// Mean level between two frequencies of what was added, in dB.
	added := func(e Edges, low, high float64) float64 {
		fill := run(x, func() int { return 160 }, always(e))
		for i := range fill {
			fill[i] -= x[i]
		}
		sum, n := 0.0, 0.0
		for _, p := range Powers(fill) {
			for b, v := range p {
				if hz := float64(b) * binHz; hz >= low && hz <= high {
					sum, n = sum+float64(v), n+1
				}
			}
		}
		return 10 * math.Log10(sum/n+1e-9)
	}
	tests := []struct {
		edges     Edges
		low, high float64
		filled    bool
	}{
		{telephone, 80, 220, true},
		{telephone, 600, 2900, false},
		{telephone, 4200, 7800, true},
		{Edges{HighHz: 4000}, 80, 3500, false},
		{Edges{HighHz: 4000}, 4200, 7800, true},
		{Edges{LowHz: 300, HighHz: 8000}, 80, 220, true},
		{Edges{LowHz: 300, HighHz: 8000}, 1000, 7800, false},
	}
	for _, tt := range tests {
		db := added(tt.edges, tt.low, tt.high)
		if tt.filled && db < 20 || !tt.filled && db > 25 { // the voice has about 65
			t.Errorf("%+v: %.1f dB were added between %v and %v Hz", tt.edges, db, tt.low, tt.high)
		}
	}
}

func TestAChangeOfChannelDoesNotClick(t *testing.T) {
	x := make([]float32, RateHz) // all that can be heard is the filling
	r := rand.New(rand.NewPCG(1, 1))
	for i := range x {
		x[i] = float32(20 * r.NormFloat64())
	}
	edges := func(at int) Edges {
		if at/3200%2 == 0 {
			return telephone
		}
		return Edges{HighHz: 8000}
	}
	steady := run(x, func() int { return 160 }, always(telephone))
	changing := run(x, func() int { return 160 }, edges)
	most := float32(0)
	for i := 1; i < len(x); i++ {
		most = max(most, abs((steady[i]-x[i])-(steady[i-1]-x[i-1])))
	}
	for i := 1; i < len(x); i++ {
		if step := abs((changing[i] - x[i]) - (changing[i-1] - x[i-1])); step > 1.5*most+1 {
			t.Fatalf("at sample %d the filling jumps by %v; %v is the most without changes", i, step, most)
		}
	}
}

func abs(v float32) float32 { return max(v, -v) }

func TestNothingIsAllocatedForAFrame(t *testing.T) {
	e := New(Default())
	x := voice(320)
	dst := make([]float32, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { dst = e.Process(dst[:0], x, telephone) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func TestBadSamplesDoNotLast(t *testing.T) {
	x := voice(3 * RateHz)
	for i := 4000; i < 5000; i++ {
		x[i] = float32(32767 * (1 - 2*(i&1)))
	}
	for i, v := range run(x, func() int { return 160 }, always(telephone)) {
		if math.IsNaN(float64(v)) || abs(v) > 1e6 {
			t.Fatalf("sample %d is %v", i, v)
		}
	}
}

// A second of telephone speech; the net takes about half of it.
func BenchmarkExtender(b *testing.B) {
	for name, edges := range map[string]Edges{"telephone": telephone, "wide": {HighHz: 8000}} {
		b.Run(name, func(b *testing.B) {
			e := New(Default())
			x := voice(RateHz)
			dst := make([]float32, 0, 2*RateHz)
			b.ReportAllocs()
			for b.Loop() {
				for at := 0; at < len(x); at += 320 {
					dst = e.Process(dst[:0], x[at:at+320], edges)
				}
			}
		})
	}
}
