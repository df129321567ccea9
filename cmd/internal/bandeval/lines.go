package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const telephoneHz = 8000

// line is a telephone line that recordings are sent through, whatever their
// own rate.
type line struct {
	name string
	send func(pcm []int16, rateHz int) ([]int16, int, error)
}

var lines = [...]line{
	{"16k", func(pcm []int16, rateHz int) ([]int16, int, error) { return pcm, rateHz, nil }},
	{"8k", toTelephone},
	{"300-3400", func(pcm []int16, rateHz int) ([]int16, int, error) {
		return toTelephone(bandPass(pcm, rateHz, 300, 3400), rateHz)
	}},
	{"g711", func(pcm []int16, rateHz int) ([]int16, int, error) {
		pcm, rateHz, err := toTelephone(bandPass(pcm, rateHz, 300, 3400), rateHz)
		for i, v := range pcm {
			pcm[i] = v / 4 // a quiet line, for the coding to be heard
		}
		return audio.MuLaw.Decode(nil, audio.MuLaw.Encode(nil, pcm)), rateHz, err
	}},
}

func lineNamed(name string) (line, error) {
	var names []string
	for _, l := range lines {
		if l.name == name {
			return l, nil
		}
		names = append(names, l.name)
	}
	return line{}, fmt.Errorf("--rows: line %q is none of %s", name, strings.Join(names, ", "))
}

func toTelephone(pcm []int16, rateHz int) ([]int16, int, error) {
	if rateHz == telephoneHz {
		return pcm, rateHz, nil
	}
	out, err := resample(pcm, rateHz, telephoneHz)
	return out, telephoneHz, err
}

// bandPass is steep: 50 dB within 165 Hz. The net was trained on other filters.
func bandPass(pcm []int16, rateHz int, lowHz, highHz float64) []int16 {
	half := rateHz / 50
	lowPass := func(hz float64, n int) float64 {
		if n == 0 {
			return 2 * hz / float64(rateHz)
		}
		return math.Sin(2*math.Pi*hz*float64(n)/float64(rateHz)) / (math.Pi * float64(n))
	}
	taps := make([]float64, 2*half+1)
	for i := range taps {
		n := i - half
		hamming := 0.54 + 0.46*math.Cos(math.Pi*float64(n)/float64(half))
		taps[i] = (lowPass(highHz, n) - lowPass(lowHz, n)) * hamming
	}
	out := make([]int16, len(pcm))
	for i := range out {
		sum := 0.0
		for j := max(0, half-i); j < len(taps) && i+j-half < len(pcm); j++ {
			sum += taps[j] * float64(pcm[i+j-half])
		}
		out[i] = toSample(math.Round(sum))
	}
	return out
}
