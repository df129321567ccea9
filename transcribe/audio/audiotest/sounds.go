// Package audiotest makes the sounds of telephone lines that are not speech,
// for tests and measurements. The same call gives the same samples.
package audiotest

import "math"

// Sound is one of them.
type Sound struct {
	Name string
	// Make returns n samples at rateHz.
	Make func(n, rateHz int) []int16
}

// Sounds are what a leg may carry when nobody speaks. Levels are those of
// telephone networks: tones near -20 dBFS, comfort noise near -55.
func Sounds() []Sound {
	return []Sound{
		{"silence", func(n, _ int) []int16 { return make([]int16, n) }},
		{"comfort noise", noise(60, 0.6)},
		{"loud noise", noise(600, 0)},
		{"hum", tones(cadence{}, 2000, 50, 100, 150)},
		{"dial tone", tones(cadence{}, 3000, 350, 440)},
		{"ringing", tones(cadence{on: 2, off: 4}, 3000, 440, 480)},
		{"ringing, Europe", tones(cadence{on: 1, off: 4}, 3000, 425)},
		{"busy", tones(cadence{on: 0.5, off: 0.5}, 3000, 480, 620)},
		{"fax calling", tones(cadence{on: 0.5, off: 3}, 3000, 1100)},
		{"fax answering", tones(cadence{}, 3000, 2100)},
		{"fax page", fax},
		{"beeps", tones(cadence{on: 0.2, off: 14.8}, 3000, 1400)}, // this call is recorded
		{"clicks", clicks},
		{"music", music},
	}
}

// cadence is how long a tone sounds and rests, in seconds; none is for ever.
type cadence struct{ on, off float64 }

func tones(c cadence, rms float64, hz ...float64) func(n, rateHz int) []int16 {
	amplitude := rms * math.Sqrt2 / math.Sqrt(float64(len(hz)))
	return func(n, rateHz int) []int16 {
		r := random(1)
		return sampled(n, rateHz, func(t float64) float64 {
			v := 3 * r.next() // of the line
			if c.off > 0 && math.Mod(t, c.on+c.off) >= c.on {
				return v
			}
			for _, f := range hz {
				v += amplitude * math.Sin(2*math.Pi*f*t)
			}
			return v
		})
	}
}

// noise is white through a one-pole low-pass; colour 0 leaves it white.
func noise(rms, colour float64) func(n, rateHz int) []int16 {
	return func(n, rateHz int) []int16 {
		r := random(2)
		scale := rms * math.Sqrt(3) * math.Sqrt((1+colour)/(1-colour))
		last := 0.0
		return sampled(n, rateHz, func(float64) float64 {
			last = colour*last + (1-colour)*r.next()
			return scale * last
		})
	}
}

// fax is a carrier of 1,700 Hz whose phase is turned 2,400 times a second, as
// ITU-T V.27ter and V.29 do.
func fax(n, rateHz int) []int16 {
	r := random(3)
	symbol, phase := -1, 0.0
	return sampled(n, rateHz, func(t float64) float64 {
		if s := int(t * 2400); s != symbol {
			symbol = s
			phase += math.Pi / 4 * math.Floor(4*(r.next()+1))
		}
		return 3000 * math.Sin(2*math.Pi*1700*t+phase)
	})
}

// clicks are a few samples, loud, twice a second.
func clicks(n, rateHz int) []int16 {
	r := random(4)
	return sampled(n, rateHz, func(t float64) float64 {
		if math.Mod(t, 0.5) < 0.002 {
			return 8000 * r.next()
		}
		return 3 * r.next()
	})
}

// music is chords in four-four time with a beat under them.
func music(n, rateHz int) []int16 {
	chords := [][]float64{{262, 330, 392}, {220, 262, 330}, {175, 220, 262}, {196, 247, 294}}
	r := random(5)
	return sampled(n, rateHz, func(t float64) float64 {
		const beat = 0.5
		within := math.Mod(t, beat)
		chord := chords[int(t/(4*beat))%len(chords)]
		v := 0.0
		for k, f := range chord {
			since := math.Mod(t, beat*float64(1+k)) // each voice strikes in its own time
			for harmonic := 1.0; harmonic <= 4; harmonic++ {
				v += 1200 / harmonic * math.Exp(-2*since) * math.Sin(2*math.Pi*f*harmonic*t)
			}
		}
		return v + 1500*math.Exp(-40*within)*r.next() + 3*r.next()
	})
}

func sampled(n, rateHz int, at func(t float64) float64) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(min(max(at(float64(i)/float64(rateHz)), math.MinInt16), math.MaxInt16))
	}
	return pcm
}

// random is Marsaglia's xorshift32.
type randomness uint32

func random(seed uint32) *randomness {
	r := randomness(seed * 2654435769)
	return &r
}

// next is even between -1 and 1.
func (r *randomness) next() float64 {
	*r ^= *r << 13
	*r ^= *r >> 17
	*r ^= *r << 5
	return float64(int32(*r)) / (1 << 31)
}
