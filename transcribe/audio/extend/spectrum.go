package extend

import "math"

const (
	hop    = 128     // 8 ms
	window = 2 * hop // 16 ms
	// Bins is how many frequencies a frame has, 62.5 Hz apart, from 0 to 8 kHz.
	Bins  = hop + 1
	binHz = float64(RateHz) / window
)

// Power is the power spectrum of a frame. White noise of a standard deviation
// of s is s² in every bin.
type Power [Bins]float32

// fourier has the constants of a real transform of window samples, made of a
// complex one of half the length (Press et al., Numerical Recipes, 12.3).
type fourier struct {
	swap   [hop]uint8
	root   [hop / 2]complex64 // exp(-2πik/hop)
	half   [hop]complex64     // exp(-2πik/window)
	taper  [window]float32    // sine: its square overlaps to one
	phasor [256]complex64     // unit circle
}

var fft = newFourier()

func newFourier() *fourier {
	f := &fourier{}
	for i := range f.swap {
		r := 0
		for bit := 1; bit < hop; bit <<= 1 {
			r <<= 1
			if i&bit != 0 {
				r |= 1
			}
		}
		f.swap[i] = uint8(r)
	}
	for k := range f.root {
		f.root[k] = unit(-float64(k) / hop)
	}
	for k := range f.half {
		f.half[k] = unit(-float64(k) / window)
	}
	for i := range f.taper {
		f.taper[i] = float32(math.Sin(math.Pi * (float64(i) + 0.5) / window))
	}
	for i := range f.phasor {
		f.phasor[i] = unit(float64(i) / 256)
	}
	return f
}

// unit is the point after that many turns around the unit circle.
func unit(turns float64) complex64 {
	s, c := math.Sincos(2 * math.Pi * turns)
	return complex(float32(c), float32(s))
}

// transform is the complex transform of z, in place.
func (f *fourier) transform(z *[hop]complex64) {
	for i, j := range f.swap {
		if i < int(j) {
			z[i], z[j] = z[j], z[i]
		}
	}
	for size := 1; size < hop; size *= 2 {
		step := hop / 2 / size
		for at := 0; at < hop; at += 2 * size {
			a, b := z[at:at+size:at+size], z[at+size:at+2*size:at+2*size]
			b = b[:len(a)]
			for k := range a {
				w, v := f.root[k*step&(hop/2-1)], b[k]
				re := real(w)*real(v) - imag(w)*imag(v)
				im := real(w)*imag(v) + imag(w)*real(v)
				u := a[k]
				a[k] = complex(real(u)+re, imag(u)+im)
				b[k] = complex(real(u)-re, imag(u)-im)
			}
		}
	}
}

// power is the spectrum of the frame that first and second make up.
func (f *fourier) power(p *Power, first, second *[hop]float32) {
	var z [hop]complex64
	for i := range hop / 2 {
		z[i] = complex(first[2*i]*f.taper[2*i], first[2*i+1]*f.taper[2*i+1])
		z[hop/2+i] = complex(second[2*i]*f.taper[hop+2*i], second[2*i+1]*f.taper[hop+2*i+1])
	}
	f.transform(&z)
	const norm = 1.0 / hop // the taper's energy
	dc, top := real(z[0])+imag(z[0]), real(z[0])-imag(z[0])
	p[0], p[hop] = dc*dc*norm, top*top*norm
	for k := 1; k < hop; k++ {
		a, b := z[k], z[hop-k]
		// Even and odd samples' spectra.
		er, ei := (real(a)+real(b))/2, (imag(a)-imag(b))/2
		or, oi := (imag(a)+imag(b))/2, (real(b)-real(a))/2
		w := f.half[k]
		re := er + real(w)*or - imag(w)*oi
		im := ei + real(w)*oi + imag(w)*or
		p[k] = (re*re + im*im) * norm
	}
}

// samples is the inverse transform of the half spectrum s, tapered.
func (f *fourier) samples(first, second *[hop]float32, s *[Bins]complex64) {
	var z [hop]complex64
	for k := range hop {
		a, b := s[k], s[hop-k]
		er, ei := real(a)+real(b), imag(a)-imag(b)
		dr, di := real(a)-real(b), imag(a)+imag(b)
		w := f.half[k]
		or := dr*real(w) + di*imag(w)
		oi := di*real(w) - dr*imag(w)
		// z = even + i·odd, conjugated to use the forward transform.
		z[k] = complex(er-oi, -(ei + or))
	}
	f.transform(&z)
	const norm = 1.0 / window
	for i := range hop / 2 {
		first[2*i] = real(z[i]) * norm * f.taper[2*i]
		first[2*i+1] = -imag(z[i]) * norm * f.taper[2*i+1]
		second[2*i] = real(z[hop/2+i]) * norm * f.taper[hop+2*i]
		second[2*i+1] = -imag(z[hop/2+i]) * norm * f.taper[hop+2*i+1]
	}
}

// Powers are the spectra of the frames of x, each hop samples after the last.
// The first frame's first half is silence.
func Powers(x []float32) []Power {
	out := make([]Power, 0, len(x)/hop)
	var before, block [hop]float32
	for len(x) >= hop {
		copy(block[:], x)
		x = x[hop:]
		out = append(out, Power{})
		fft.power(&out[len(out)-1], &before, &block)
		before = block
	}
	return out
}
