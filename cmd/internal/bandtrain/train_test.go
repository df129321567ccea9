package main

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/callwarden/callwarden/transcribe/audio/extend"
)

// speech is some seconds of what behaves as speech does: bursts of harmonics
// and of noise, the loudness of the highs going along with that of the rest.
func speech(seed uint64, seconds int) []float32 {
	r := rand.New(rand.NewPCG(seed, 7))
	x := make([]float32, seconds*extend.RateHz)
	pitch, pace := 90+120*r.Float64(), 1+3*r.Float64()
	last := 0.0
	for i := range x {
		t := float64(i) / extend.RateHz
		voiced := max(0, math.Sin(2*math.Pi*pace*t))
		noise := r.NormFloat64()
		s := max(0, -math.Sin(2*math.Pi*pace*t)) * 500 * (noise - last)
		last = noise
		for h := 1.0; h*pitch < 7500; h++ {
			s += voiced * 900 / h * math.Sin(2*math.Pi*pitch*h*t+h)
		}
		x[i] = float32(s)
	}
	return x
}

func streams(t *testing.T) []stream {
	t.Helper()
	var clips [][]float32
	for i := range uint64(4) {
		clips = append(clips, speech(i, 3))
	}
	s, err := prepare([][][]float32{clips}, trainConfig{Variants: 2, Noisy: 0.5, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTrainingTwiceGivesTheSameBytes(t *testing.T) {
	cfg := trainConfig{Hidden: 6, Passes: 2, Rate: 3e-3, Batch: 2, Seed: 1}
	var files [2][]byte
	for i := range files {
		net, _ := train(cfg, streams(t), io.Discard)
		var err error
		if files[i], err = net.MarshalBinary(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same speech gave another net")
	}
}

func TestGradientIsTheSlopeOfTheLoss(t *testing.T) {
	s := streams(t)[0]
	s.in, s.want, s.weight = s.in[:23], s.want[:23], s.weight[:23]
	net := extend.NewNet(5)
	normalise(net, []stream{s})
	start(net, rand.New(rand.NewPCG(1, 1)))
	l := newLearner(net)
	loss := func() float64 {
		l.learn(&s)
		return l.loss
	}
	loss()
	gradient := append([]float32(nil), l.gradient...)
	w := net.Weights()
	for i := 0; i < len(w); i += 7 {
		const by = 1e-2
		old := w[i]
		w[i] = old + by
		more := loss()
		w[i] = old - by
		less := loss()
		w[i] = old
		want := (more - less) / (2 * by) / 2 // the gradient is of half the square
		if got := float64(gradient[i]); math.Abs(got-want) > 0.02*math.Abs(want)+0.05 {
			t.Errorf("weight %d: gradient %v, slope %v", i, got, want)
		}
	}
}

func TestTrainingLearns(t *testing.T) {
	all := streams(t)
	square := func(net *extend.Net) float64 {
		l := newLearner(net)
		sum, n := 0.0, 0.0
		for i := range all {
			l.learn(&all[i])
			sum, n = sum+l.loss, n+l.count
		}
		return sum / n
	}
	blank := extend.NewNet(6) // predicts the mean
	normalise(blank, all)
	trained, _ := train(trainConfig{Hidden: 6, Passes: 30, Rate: 1e-2, Batch: 2, Seed: 1}, all, io.Discard)
	if a, b := square(blank), square(trained); b > a/3 {
		t.Errorf("the square error fell from %.2f to %.2f only", a, b)
	}
}
