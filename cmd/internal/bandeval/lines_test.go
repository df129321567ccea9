package main

import (
	"math"
	"testing"
)

func TestLinesCarryTheirBand(t *testing.T) {
	const rateHz = 16000
	level := func(name string, hz float64) float64 {
		t.Helper()
		l, err := lineNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		pcm := make([]int16, rateHz)
		for i := range pcm {
			pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/rateHz))
		}
		out, outHz, err := l.send(pcm, rateHz)
		if err != nil || len(out) != len(pcm)*outHz/rateHz {
			t.Fatalf("%s: %d samples at %d Hz, %v", name, len(out), outHz, err)
		}
		sum := 0.0
		for _, v := range out[len(out)/4 : 3*len(out)/4] {
			sum += float64(v) * float64(v)
		}
		return 10*math.Log10(sum/float64(len(out)/2)+1e-9) - 20*math.Log10(8000/math.Sqrt2)
	}
	tests := []struct {
		line  string
		hz    float64
		least float64 // dB
		most  float64
	}{
		{"16k", 6000, -1, 1},
		{"8k", 100, -1, 1},
		{"8k", 3300, -1, 1},
		{"8k", 5000, -200, -60},
		{"300-3400", 100, -200, -45},
		{"300-3400", 1000, -1, 1},
		{"300-3400", 3700, -200, -45},
		{"g711", 1000, -13, -11},
		{"g711", 100, -200, -45},
	}
	for _, tt := range tests {
		if db := level(tt.line, tt.hz); db < tt.least || db > tt.most {
			t.Errorf("line %s has %.0f Hz at %.1f dB, want %v to %v", tt.line, tt.hz, db, tt.least, tt.most)
		}
	}
}
