package audio

import (
	"math"
	"testing"
)

// segment is one line of G.711 tables 1a and 2a: steps of equal size from a
// decision value on, in the table's units.
type segment struct {
	from, step, count int
}

var (
	// Table 1a/G.711, A-law: 4096 is full scale. The first segment has 32
	// steps of 2 because the Recommendation draws two segments of one slope.
	aLawSegments = []segment{{0, 2, 32}, {64, 4, 16}, {128, 8, 16}, {256, 16, 16}, {512, 32, 16}, {1024, 64, 16}, {2048, 128, 16}}
	// Table 2a/G.711, µ-law: 8159 is full scale; the first step is half a step.
	muLawSegments = []segment{{0, 1, 1}, {1, 2, 15}, {31, 4, 16}, {95, 8, 16}, {223, 16, 16}, {479, 32, 16}, {991, 64, 16}, {2015, 128, 16}, {4063, 256, 16}}
)

// interval is one decision interval and the value it is decoded to.
type interval struct{ low, high, value int }

func intervals(segments []segment) (out []interval) {
	for _, s := range segments {
		for i := range s.count {
			low := s.from + i*s.step
			out = append(out, interval{low, low + s.step, (2*low + s.step) / 2})
		}
	}
	out[0].value = out[0].low + (out[0].high-out[0].low)/2
	return out
}

// laws are the two tables with how 16-bit samples relate to their units and
// how the n-th positive interval is sent.
var laws = []struct {
	name  string
	law   G711
	table []interval
	scale int
	code  func(n int) byte // for the positive value of interval n
	sign  byte
}{
	// µ-law sends character signals inverted: value 0 is 1111 1111.
	{"µ-law", MuLaw, intervals(muLawSegments), 4, func(n int) byte { return 0xff - byte(n) }, 0x80},
	// A-law sends even bits inverted: interval 1 is 1101 0101.
	{"A-law", ALaw, intervals(aLawSegments), 8, func(n int) byte { return (0x80 | byte(n)) ^ 0x55 }, 0x80},
}

func TestG711DecodesTheRecommendationsTables(t *testing.T) {
	for _, l := range laws {
		if len(l.table) != 128 {
			t.Fatalf("%s: %d intervals, want 128", l.name, len(l.table))
		}
		for n, iv := range l.table {
			code := l.code(n)
			want := int16(iv.value * l.scale)
			if got := l.law.Decode(nil, []byte{code}); got[0] != want {
				t.Errorf("%s: %#02x decodes to %d, the table says %d", l.name, code, got[0], want)
			}
			if got := l.law.Decode(nil, []byte{code ^ l.sign}); got[0] != -want {
				t.Errorf("%s: %#02x decodes to %d, the table says %d", l.name, code^l.sign, got[0], -want)
			}
		}
	}
}

// The Recommendation leaves open on which side a decision value itself falls.
func TestG711EncodesEverySampleIntoItsInterval(t *testing.T) {
	for _, l := range laws {
		for v := math.MinInt16; v <= math.MaxInt16; v++ {
			code := l.law.Encode(nil, []int16{int16(v)})[0]
			positive, sign := code, 1
			if code&l.sign != l.code(0)&l.sign {
				positive, sign = code^l.sign, -1
			}
			n := 0
			for l.code(n) != positive {
				n++
			}
			iv := l.table[n]
			at := v * sign
			low, high := iv.low*l.scale, iv.high*l.scale
			if n == 127 {
				high = math.MaxInt16 + 1 // overload
			}
			if at < low || at > high {
				t.Fatalf("%s: %d becomes %#02x, whose interval is %d to %d", l.name, v, code, low*sign, high*sign)
			}
		}
	}
}

func TestG711EncodeUndoesDecode(t *testing.T) {
	for _, l := range laws {
		for b := range 256 {
			got := l.law.Encode(nil, l.law.Decode(nil, []byte{byte(b)}))[0]
			if l.law == MuLaw && b == 0x7f { // negative zero
				b = 0xff
			}
			if got != byte(b) {
				t.Errorf("%s: %#02x becomes %#02x", l.name, b, got)
			}
		}
	}
}

func FuzzG711(f *testing.F) {
	f.Add([]byte{0, 0x55, 0x7f, 0x80, 0xd5, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, l := range laws {
			pcm := l.law.Decode(nil, b)
			again := l.law.Decode(nil, l.law.Encode(nil, pcm))
			for i := range pcm {
				if pcm[i] != again[i] {
					t.Fatalf("%s: %d becomes %d", l.name, pcm[i], again[i])
				}
			}
		}
	})
}
