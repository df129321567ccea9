package audio

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"

	goaudio "github.com/go-audio/audio"
	"github.com/go-audio/wav"
)

// samples is a decoder: read fills dst with interleaved samples, whole
// multiples of the channel count, and returns io.EOF only with none. An
// io.ErrUnexpectedEOF, also only with none, says that the recording is cut
// short.
type samples interface {
	read(dst []int16) (int, error)
}

// openWAV reads the header of a WAV file and returns what decodes its samples.
func openWAV(r *bufio.Reader, size int64) (samples, wavHeader, error) {
	h, err := readWAVHeader(r, size)
	if err != nil {
		return nil, h, err
	}
	data := &wavData{r: r, blockBytes: h.channels * h.sampleBytes, left: h.dataBytes, open: h.dataBytes < 0}
	switch h.codec {
	case wavALaw:
		return &byteSamples{data: data, sampleBytes: 1, decode: ALaw.Decode}, h, nil
	case wavMuLaw:
		return &byteSamples{data: data, sampleBytes: 1, decode: MuLaw.Decode}, h, nil
	case wavFloat:
		decode := decodeFloat32
		if h.sampleBytes == 8 {
			decode = decodeFloat64
		}
		return &byteSamples{data: data, sampleBytes: h.sampleBytes, decode: decode}, h, nil
	}
	s, err := newPCMSamples(data, h)
	return s, h, err
}

// wavData is the data chunk. A read fills p as far as there are bytes and ends
// on a whole sample of every channel; the rest of a cut sample is dropped.
type wavData struct {
	r          *bufio.Reader
	blockBytes int
	left       int64 // bytes to come; meaningless where open
	open       bool  // the size is unknown: up to the end of r
	err        error // sticky: how it ended
}

func (d *wavData) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	p = p[:len(p)/d.blockBytes*d.blockBytes]
	if !d.open {
		p = p[:min(int64(len(p)), d.left/int64(d.blockBytes)*int64(d.blockBytes))]
	}
	if len(p) == 0 {
		d.err = io.EOF
		return 0, io.EOF
	}
	n, err := io.ReadFull(d.r, p)
	d.left -= int64(n)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		d.err = io.EOF
		if !d.open {
			d.err = io.ErrUnexpectedEOF
		}
	default:
		d.err = err
	}
	if n = n / d.blockBytes * d.blockBytes; n == 0 {
		return 0, d.err
	}
	return n, nil
}

// pcmSamples decodes integer PCM through go-audio/wav. That decoder sees a plain
// header of our making, so that nothing odd in the real one reaches it, and
// then the data chunk's bytes, whose length may pass 4 GB.
type pcmSamples struct {
	data *wavData
	dec  *wav.Decoder
	buf  goaudio.IntBuffer
	bits int
}

func newPCMSamples(data *wavData, h wavHeader) (*pcmSamples, error) {
	header := appendWAVHeader(nil, wavPCM, h.sampleBytes, h.rateHz, h.channels, 0)
	dec := wav.NewDecoder(bytes.NewReader(header))
	if err := dec.FwdToPCM(); err != nil {
		return nil, err
	}
	if err := dec.Err(); err != nil {
		return nil, err
	}
	dec.PCMChunk.R = data
	return &pcmSamples{data: data, dec: dec, bits: 8 * h.sampleBytes}, nil
}

func (w *pcmSamples) read(dst []int16) (int, error) {
	if cap(w.buf.Data) < len(dst) {
		w.buf.Data = make([]int, len(dst))
	}
	w.buf.Data = w.buf.Data[:len(dst)]
	n, err := w.dec.PCMBuffer(&w.buf)
	if err != nil && n == 0 {
		return 0, err
	}
	if n == 0 { // go-audio swallows io.EOF
		return 0, w.data.err
	}
	switch w.bits {
	case 8:
		for i, v := range w.buf.Data[:n] {
			dst[i] = int16((v - 128) << 8)
		}
	case 16:
		for i, v := range w.buf.Data[:n] {
			dst[i] = int16(v)
		}
	default:
		for i, v := range w.buf.Data[:n] {
			dst[i] = int16(v >> (w.bits - 16))
		}
	}
	return n, nil
}

// byteSamples decodes what go-audio/wav hands out raw: G.711 and float.
type byteSamples struct {
	data        *wavData
	sampleBytes int
	decode      func(dst []int16, src []byte) []int16
	buf         []byte
}

func (w *byteSamples) read(dst []int16) (int, error) {
	if need := len(dst) * w.sampleBytes; cap(w.buf) < need {
		w.buf = make([]byte, need)
	}
	n, err := w.data.Read(w.buf[:len(dst)*w.sampleBytes])
	if n == 0 {
		return 0, err
	}
	return len(w.decode(dst[:0], w.buf[:n])), nil
}

func decodeFloat32(dst []int16, src []byte) []int16 {
	for ; len(src) >= 4; src = src[4:] {
		dst = append(dst, pcm16(float64(math.Float32frombits(binary.LittleEndian.Uint32(src)))*32768))
	}
	return dst
}

func decodeFloat64(dst []int16, src []byte) []int16 {
	for ; len(src) >= 8; src = src[8:] {
		dst = append(dst, pcm16(math.Float64frombits(binary.LittleEndian.Uint64(src))*32768))
	}
	return dst
}

// pcm16 rounds v to the nearest sample and clips it; not-a-number is silence.
func pcm16(v float64) int16 {
	switch {
	case v >= math.MaxInt16:
		return math.MaxInt16
	case v <= math.MinInt16:
		return math.MinInt16
	case v != v:
		return 0
	}
	return int16(math.RoundToEven(v))
}
