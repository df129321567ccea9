package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// way makes a recording into what the model hears.
type way struct {
	name     string
	original bool // hears the recording as it was before the line, if it is wide
	make     func(pcm []int16, rateHz, modelHz int) ([]int16, error)
}

// ways are compared. All but the front end itself use its level and resampler,
// so that the table shows the filling and nothing else.
var ways = [...]way{
	{name: "sinc", make: unfilled},
	{name: "noise", make: func(pcm []int16, rateHz, modelHz int) ([]int16, error) {
		pcm, err := unfilled(pcm, rateHz, modelHz)
		white := rand.New(rand.NewPCG(1, 1))
		for i, v := range pcm {
			pcm[i] = toSample(float64(v) + 30*(2*white.Float64()-1))
		}
		return pcm, err
	}},
	{name: "doubling", make: func(pcm []int16, rateHz, modelHz int) ([]int16, error) {
		return double(pcm, rateHz, modelHz, func(a, _ int16) int16 { return a })
	}},
	{name: "linear", make: func(pcm []int16, rateHz, modelHz int) ([]int16, error) {
		return double(pcm, rateHz, modelHz, func(a, b int16) int16 { return int16((int(a) + int(b)) / 2) })
	}},
	{name: "simple", make: func(pcm []int16, rateHz, modelHz int) ([]int16, error) {
		return through(audio.FrontEndConfig{RateHz: modelHz, Filling: audio.Simple}, pcm, rateHz)
	}},
	{name: "learned", make: learned},
	{name: "original", original: true, make: learned},
}

func learned(pcm []int16, rateHz, modelHz int) ([]int16, error) {
	return through(audio.FrontEndConfig{RateHz: modelHz}, pcm, rateHz)
}

func wayNames() string {
	var names []string
	for _, w := range ways {
		names = append(names, w.name)
	}
	return strings.Join(names, ",")
}

func wayNamed(name string) (way, error) {
	for _, w := range ways {
		if w.name == name {
			return w, nil
		}
	}
	return way{}, fmt.Errorf("--ways: %q is none of %s", name, wayNames())
}

// unfilled is the front end without its filling: plain windowed-sinc
// resampling of levelled speech.
func unfilled(pcm []int16, rateHz, modelHz int) ([]int16, error) {
	return through(audio.FrontEndConfig{RateHz: modelHz, Filling: audio.Unfilled}, pcm, rateHz)
}

// double makes two samples of each: itself and one between it and the next.
func double(pcm []int16, rateHz, modelHz int, between func(a, b int16) int16) ([]int16, error) {
	if modelHz != 2*rateHz {
		return nil, fmt.Errorf("doubling %d Hz does not give %d Hz", rateHz, modelHz)
	}
	pcm, err := unfilled(pcm, rateHz, rateHz)
	out := make([]int16, 0, 2*len(pcm))
	for i, v := range pcm {
		out = append(out, v, between(v, pcm[min(i+1, len(pcm)-1)]))
	}
	return out, err
}

// through sends a whole recording through a front end in frames of 20 ms.
func through(cfg audio.FrontEndConfig, pcm []int16, rateHz int) (out []int16, err error) {
	front, err := audio.NewFrontEnd(cfg)
	if err != nil {
		return nil, err
	}
	n := rateHz / 50
	for at := 0; at < len(pcm); at += n {
		frames, err := front.Process(audio.Frame{Start: audio.Span(at, rateHz), Rate: rateHz, PCM: pcm[at:min(at+n, len(pcm))]})
		if err != nil {
			return nil, err
		}
		for _, f := range frames {
			out = append(out, f.PCM...)
		}
	}
	for _, f := range front.Flush() {
		out = append(out, f.PCM...)
	}
	return out, nil
}

// resample changes the rate of a whole recording.
func resample(pcm []int16, inHz, outHz int) ([]int16, error) {
	r, err := audio.NewResampler(inHz, outHz)
	if err != nil {
		return nil, err
	}
	x := make([]float32, len(pcm))
	for i, v := range pcm {
		x[i] = float32(v)
	}
	var out []int16
	for _, v := range r.Flush(r.Process(nil, x)) {
		out = append(out, toSample(float64(v)))
	}
	return out, nil
}

func toSample(v float64) int16 { return int16(min(max(v, -32768), 32767)) }
