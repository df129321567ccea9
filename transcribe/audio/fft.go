package audio

import (
	"math"
	"math/bits"
)

// spectrum takes power spectra of blocks of n real samples under a Hann
// window. Its tables and its work space are used by one goroutine at a time.
type spectrum struct {
	n        int
	window   []float32
	cos, sin []float32 // of 2πk/n, k to n/2
	reversed []uint16  // bit-reversed indices of the half-length transform
	re, im   []float32
}

// newSpectrum is for blocks of n samples, a power of two from 8 to 65536.
func newSpectrum(n int) *spectrum {
	h := n / 2
	s := &spectrum{
		n: n, window: make([]float32, n), cos: make([]float32, h), sin: make([]float32, h),
		reversed: make([]uint16, h), re: make([]float32, h), im: make([]float32, h),
	}
	// The window's mean square is 1, so that power sums to that of the samples.
	norm := math.Sqrt(8.0 / 3)
	for i := range s.window {
		s.window[i] = float32(norm * (0.5 - 0.5*math.Cos(2*math.Pi*(float64(i)+0.5)/float64(n))))
	}
	for k := range h {
		sin, cos := math.Sincos(2 * math.Pi * float64(k) / float64(n))
		s.cos[k], s.sin[k] = float32(cos), float32(sin)
		s.reversed[k] = bits.Reverse16(uint16(k)) >> (17 - bits.Len(uint(h)))
	}
	return s
}

// power writes to dst[k], k from 0 to n/2, what x has at k·rate/n: its mean
// square between the neighbouring half bins. x holds n samples and dst n/2+1.
//
// Even and odd samples go as real and imaginary part through one complex
// transform of half the length (Press et al., Numerical Recipes, 12.3).
//
//go:norace
func (s *spectrum) power(dst, x []float32) {
	h := s.n / 2
	re, im := s.re[:h], s.im[:h]
	for i, at := range s.reversed {
		re[at], im[at] = x[2*i]*s.window[2*i], x[2*i+1]*s.window[2*i+1]
	}
	for size := 2; size <= h; size *= 2 {
		half, stride := size/2, s.n/size
		for k := range half {
			c, w := s.cos[k*stride], -s.sin[k*stride]
			for a := k; a < h; a += size {
				b := a + half
				tr, ti := re[b]*c-im[b]*w, re[b]*w+im[b]*c
				re[b], im[b] = re[a]-tr, im[a]-ti
				re[a], im[a] = re[a]+tr, im[a]+ti
			}
		}
	}
	scale := 1 / (float32(s.n) * float32(s.n))
	dst[0] = (re[0] + im[0]) * (re[0] + im[0]) * scale
	dst[h] = (re[0] - im[0]) * (re[0] - im[0]) * scale
	for k := 1; k < h; k++ {
		er, ei := (re[k]+re[h-k])/2, (im[k]-im[h-k])/2
		or, oi := (im[k]+im[h-k])/2, (re[h-k]-re[k])/2
		c, w := s.cos[k], -s.sin[k]
		r, i := er+or*c-oi*w, ei+or*w+oi*c
		dst[k] = 2 * (r*r + i*i) * scale
	}
}
