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
	swap [hop]uint8
	// stages[size/2] has exp(-πik/size) for a stage that joins pieces of size.
	stages [hop/4 + 1][]complex64
	half   [hop]complex64  // exp(-2πik/window)
	taper  [window]float32 // sine: its square overlaps to one
	phasor [256]complex64  // unit circle
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
	for size := 2; size <= hop/2; size *= 2 {
		for k := range size {
			f.stages[size/2] = append(f.stages[size/2], unit(-float64(k)/float64(2*size)))
		}
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

// complexes are hop complex numbers, in bit-reversed order before transform and
// in order after it.
type complexes struct{ re, im [hop]float32 }

// transform is the complex transform of z in place: stages of radix 2, two by
// two, and a last one. It takes half the time of single stages of complex64.
//
//go:norace
func (f *fourier) transform(z *complexes) {
	re, im := z.re[:], z.im[:]
	for len(re) >= 4 {
		r, i := (*[4]float32)(re), (*[4]float32)(im)
		ar, ai, br, bi := r[0]+r[1], i[0]+i[1], r[0]-r[1], i[0]-i[1]
		cr, ci, dr, di := r[2]+r[3], i[2]+i[3], r[2]-r[3], i[2]-i[3]
		r[0], i[0], r[2], i[2] = ar+cr, ai+ci, ar-cr, ai-ci
		r[1], i[1], r[3], i[3] = br+di, bi-dr, br-di, bi+dr
		re, im = re[4:], im[4:]
	}
	for size := 4; size < hop/2; size *= 4 {
		root1, root2 := f.stages[size/2][:size], f.stages[size][:size]
		for at := 0; at < hop; at += 4 * size {
			re, im := z.re[at:at+4*size], z.im[at:at+4*size]
			r0, r1, r2, r3 := re[:size], re[size:][:size], re[2*size:][:size], re[3*size:][:size]
			i0, i1, i2, i3 := im[:size], im[size:][:size], im[2*size:][:size], im[3*size:][:size]
			for k, w := range root1 {
				wr, wi := real(w), imag(w)
				tr, ti := r1[k]*wr-i1[k]*wi, r1[k]*wi+i1[k]*wr
				ur, ui := r3[k]*wr-i3[k]*wi, r3[k]*wi+i3[k]*wr
				ar, ai, br, bi := r0[k]+tr, i0[k]+ti, r0[k]-tr, i0[k]-ti
				cr, ci, dr, di := r2[k]+ur, i2[k]+ui, r2[k]-ur, i2[k]-ui
				wr, wi = real(root2[k]), imag(root2[k])
				cr, ci = cr*wr-ci*wi, cr*wi+ci*wr
				dr, di = dr*wr-di*wi, dr*wi+di*wr
				r0[k], i0[k], r2[k], i2[k] = ar+cr, ai+ci, ar-cr, ai-ci
				r1[k], i1[k], r3[k], i3[k] = br+di, bi-dr, br-di, bi+dr
			}
		}
	}
	r0, r1, i0, i1 := z.re[:hop/2], z.re[hop/2:], z.im[:hop/2], z.im[hop/2:]
	for k, w := range f.stages[hop/4][:hop/2] {
		tr, ti := r1[k]*real(w)-i1[k]*imag(w), r1[k]*imag(w)+i1[k]*real(w)
		r0[k], i0[k], r1[k], i1[k] = r0[k]+tr, i0[k]+ti, r0[k]-tr, i0[k]-ti
	}
}

// spectrum is that of the frame that first and second make up, and its power.
//
//go:norace
func (f *fourier) spectrum(s *[Bins]complex64, p *Power, first, second *[hop]float32) {
	var z complexes
	for i := range hop / 2 {
		j, k := f.swap[i]&(hop-1), f.swap[hop/2+i]&(hop-1)
		z.re[j], z.im[j] = first[2*i]*f.taper[2*i], first[2*i+1]*f.taper[2*i+1]
		z.re[k], z.im[k] = second[2*i]*f.taper[hop+2*i], second[2*i+1]*f.taper[hop+2*i+1]
	}
	f.transform(&z)
	const norm = 1.0 / hop // the taper's energy
	dc, top := z.re[0]+z.im[0], z.re[0]-z.im[0]
	p[0], p[hop] = dc*dc*norm, top*top*norm
	s[0], s[hop] = complex(dc, 0), complex(top, 0)
	for k := 1; k <= hop/2; k++ {
		ar, ai, br, bi := z.re[k], z.im[k], z.re[hop-k], z.im[hop-k]
		// Even and odd samples' spectra.
		er, ei := (ar+br)/2, (ai-bi)/2
		or, oi := (ai+bi)/2, (br-ar)/2
		w := f.half[k]
		tr, ti := real(w)*or-imag(w)*oi, real(w)*oi+imag(w)*or
		p[k] = ((er+tr)*(er+tr) + (ei+ti)*(ei+ti)) * norm
		p[hop-k] = ((er-tr)*(er-tr) + (ei-ti)*(ei-ti)) * norm
		s[k], s[hop-k] = complex(er+tr, ei+ti), complex(er-tr, ti-ei)
	}
}

// samples is the inverse transform of the half spectrum s, tapered.
//
//go:norace
func (f *fourier) samples(first, second *[hop]float32, s *[Bins]complex64) {
	var z complexes
	for k := range hop {
		a, b := s[k], s[hop-k]
		er, ei := real(a)+real(b), imag(a)-imag(b)
		dr, di := real(a)-real(b), imag(a)+imag(b)
		w := f.half[k]
		or := dr*real(w) + di*imag(w)
		oi := di*real(w) - dr*imag(w)
		// even + i·odd, conjugated to use the forward transform.
		j := f.swap[k] & (hop - 1)
		z.re[j], z.im[j] = er-oi, -(ei + or)
	}
	f.transform(&z)
	const norm = 1.0 / window
	for i := range hop / 2 {
		first[2*i] = z.re[i] * norm * f.taper[2*i]
		first[2*i+1] = -z.im[i] * norm * f.taper[2*i+1]
		second[2*i] = z.re[hop/2+i] * norm * f.taper[hop+2*i]
		second[2*i+1] = -z.im[hop/2+i] * norm * f.taper[hop+2*i+1]
	}
}

// Powers are the spectra of the frames of x, each hop samples after the last.
// The first frame's first half is silence.
func Powers(x []float32) []Power {
	out := make([]Power, 0, len(x)/hop)
	var before, block [hop]float32
	var s [Bins]complex64
	for len(x) >= hop {
		copy(block[:], x)
		x = x[hop:]
		out = append(out, Power{})
		fft.spectrum(&s, &out[len(out)-1], &before, &block)
		before = block
	}
	return out
}
