package main

import (
	"math"
	"math/rand/v2"

	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/audio/extend"
)

const (
	speechLevel = 2067.0 // rms that the front end brings speech to
	telephoneHz = 8000
)

// channel is one telephone line, as far as it matters here.
type channel struct {
	edges     extend.Edges
	lowCut    float64 // Hz; 0 for none
	highCut   float64 // Hz; 4000 for none but that of the sample rate
	slope     float64 // Hz from passing to stopping
	level     float64 // of the line against that of the front end
	law       audio.G711
	coded     bool
	lineNoise float64 // rms on the line
	roomSNR   float64 // dB; 0 for none
	babble    bool
	tilt      [2]float64 // dB at 8 kHz and at 100 Hz, of the microphone
	offset    float64    // of the front end's gain, which may not have settled
}

// drawChannel draws one of the kinds that occur.
func drawChannel(r *rand.Rand, noisy float64) channel {
	c := channel{highCut: 4000, edges: extend.Edges{HighHz: 4000}, slope: 60 + 240*r.Float64()}
	kind := r.Float64()
	if kind < 0.65 { // low cut
		c.lowCut = 220 + 130*r.Float64()
		c.edges.LowHz = 300
	}
	if kind > 0.1 && kind < 0.75 { // high cut
		c.highCut = 3250 + 350*r.Float64()
		c.edges.HighHz = 3400
	}
	c.level = math.Pow(10, (-15+21*r.Float64())/20)
	switch v := r.Float64(); {
	case v < 0.35:
		c.coded = true
	case v < 0.55:
		c.law, c.coded = audio.ALaw, true
	}
	if r.Float64() < 0.5 {
		c.lineNoise = 2 + 20*r.Float64()*r.Float64()
	}
	if r.Float64() < noisy {
		c.roomSNR = 3 + 25*r.Float64()
		c.babble = r.Float64() < 0.5
	}
	c.tilt = [2]float64{r.NormFloat64() * 3, r.NormFloat64() * 2}
	c.offset = math.Pow(10, r.NormFloat64()*1.5/20)
	return c
}

// level brings speech to the front end's level.
func level(x []float32) {
	const block = 160
	var powers []float64
	loudest := 0.0
	for at := 0; at+block <= len(x); at += block {
		p := 0.0
		for _, v := range x[at : at+block] {
			p += float64(v) * float64(v)
		}
		powers = append(powers, p/block)
		loudest = max(loudest, p/block)
	}
	sum, n := 0.0, 0.0
	for _, p := range powers {
		if p > loudest/1000 {
			sum, n = sum+p, n+1
		}
	}
	if n == 0 || sum == 0 {
		return
	}
	g := float32(speechLevel / math.Sqrt(sum/n))
	for i := range x {
		x[i] *= g
	}
}

// simulate sends levelled wide-band speech through a channel. others is what
// babble is made of.
func simulate(c channel, wide []float32, others [][]float32, r *rand.Rand) (stream, error) {
	target := append([]float32(nil), wide...)
	if c.tilt != [2]float64{} {
		target = filter(target, 31, func(hz float64) float64 {
			return math.Pow(10, (c.tilt[0]*hz/8000+c.tilt[1]*max(0, 1-hz/800))/20)
		})
		level(target)
	}
	if c.roomSNR != 0 {
		target = append([]float32(nil), target...)
		addRoom(c, target, others, r)
	}
	line, err := through(c, target, r)
	if err != nil {
		return stream{}, err
	}
	var s stream
	heard, was := extend.Powers(line), extend.Powers(target)
	g := float32(c.offset * c.offset)
	for t := range heard {
		var x [extend.Inputs]float32
		var y [extend.Outputs]float32
		total := float32(0)
		for b := range heard[t] {
			heard[t][b] *= g
			was[t][b] *= g
			total += was[t][b] / extend.Bins
		}
		extend.Features(&x, &heard[t], c.edges)
		extend.Targets(&y, &was[t])
		s.in, s.want = append(s.in, x), append(s.want, y)
		// What is 35 dB under speech matters little.
		const quiet = speechLevel * speechLevel / 3000
		s.weight = append(s.weight, 0.15+0.85*total/(total+quiet))
	}
	for i := range s.lacks {
		low := i < 5
		switch {
		case low && c.edges.LowHz > 0:
			s.lacks[i] = 0.6 // five bins for three bands of the recogniser
		case !low:
			s.lacks[i] = 1
		}
	}
	return s, nil
}

// through is the line itself: down to 8 kHz, coded, and up again.
func through(c channel, x []float32, r *rand.Rand) ([]float32, error) {
	x = filter(x, 191, func(hz float64) float64 {
		g := 1.0
		if c.lowCut > 0 {
			// Not a wall: a line falls by some dB an octave at first.
			g *= 1 / math.Sqrt(1+math.Pow(c.lowCut*0.9/max(hz, 1), 8))
		}
		if c.highCut < 4000 {
			g *= ramp((c.highCut + c.slope - hz) / c.slope)
		}
		return g
	})
	down, err := audio.NewResampler(extend.RateHz, telephoneHz)
	if err != nil {
		return nil, err
	}
	up, err := audio.NewSpeechResampler(telephoneHz, extend.RateHz)
	if err != nil {
		return nil, err
	}
	n := len(x)
	x = down.Flush(down.Process(nil, x))
	line := make([]int16, len(x))
	for i, v := range x {
		v = v*float32(c.level) + float32(c.lineNoise*r.NormFloat64())
		s := int16(min(max(v, -32768), 32767))
		line[i] = s
	}
	if c.coded {
		line = c.law.Decode(line[:0], c.law.Encode(nil, line))
	}
	for i, s := range line {
		x[i] = float32(s) / float32(c.level)
	}
	return up.Flush(up.Process(nil, x))[:n], nil
}

func ramp(v float64) float64 { return min(max(v, 0), 1) }

// filter applies a gain by frequency, without delay, by a filter of 2·half+1 taps.
func filter(x []float32, half int, gain func(hz float64) float64) []float32 {
	taps := make([]float32, 2*half+1)
	for n := -half; n <= half; n++ {
		sum := gain(0) / 2
		for k := 1; k < 512; k++ {
			sum += gain(float64(k)*8000/512) * math.Cos(math.Pi*float64(k*n)/512)
		}
		w := 0.5 + 0.5*math.Cos(math.Pi*float64(n)/float64(half+1))
		taps[half+n] = float32(sum / 512 * w)
	}
	out := make([]float32, len(x))
	padded := make([]float32, len(x)+2*half)
	copy(padded[half:], x)
	for i := range out {
		var s0, s1, s2, s3 float32
		p := padded[i:][:2*half+1]
		for j := 0; j+4 <= len(taps); j += 4 {
			s0 += p[j] * taps[j]
			s1 += p[j+1] * taps[j+1]
			s2 += p[j+2] * taps[j+2]
			s3 += p[j+3] * taps[j+3]
		}
		for j := len(taps) &^ 3; j < len(taps); j++ {
			s0 += p[j] * taps[j]
		}
		out[i] = s0 + s1 + s2 + s3
	}
	return out
}

// addRoom puts noise into the room where somebody speaks.
func addRoom(c channel, x []float32, others [][]float32, r *rand.Rand) {
	noise := make([]float32, len(x))
	if c.babble {
		for range 5 {
			o := others[r.IntN(len(others))]
			at := r.IntN(len(o))
			for i := range noise {
				noise[i] += o[(at+i)%len(o)]
			}
		}
	} else {
		// Two resonances of white noise and a fall towards the highs.
		pole := 0.3 + 0.65*r.Float64()
		p1, p2, last := 0.0, 0.0, 0.0
		hz, width := 100+2000*r.Float64(), 200+1500*r.Float64()
		rad := math.Exp(-math.Pi * width / 16000)
		a1, a2 := 2*rad*math.Cos(2*math.Pi*hz/16000), -rad*rad
		mix := r.Float64()
		pace, phase := 0.2+3*r.Float64(), r.Float64()
		for i := range noise {
			w := r.NormFloat64()
			last = pole*last + w*(1-pole)
			y := w*(1-rad) + a1*p1 + a2*p2
			p1, p2 = y, p1
			swell := 1 + 0.4*math.Sin(2*math.Pi*(pace*float64(i)/16000+phase))
			noise[i] = float32(swell * (last + mix*y))
		}
	}
	p := 0.0
	for _, v := range noise {
		p += float64(v) * float64(v)
	}
	g := float32(speechLevel * math.Pow(10, -c.roomSNR/20) / math.Sqrt(p/float64(len(noise))+1e-9))
	for i, v := range noise {
		x[i] += g * v
	}
}
