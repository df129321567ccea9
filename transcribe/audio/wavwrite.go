package audio

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// WAVEncoding is how [WriteWAV] stores a sample.
type WAVEncoding uint8

// The encodings that calls are stored in.
const (
	WAVPCM16 WAVEncoding = iota
	WAVMuLaw
	WAVALaw
)

// layout is the encoding's tag and bytes a sample.
func (e WAVEncoding) layout() (wavCodec, int) {
	switch e {
	case WAVMuLaw:
		return wavMuLaw, 1
	case WAVALaw:
		return wavALaw, 1
	}
	return wavPCM, 2
}

// WriteWAV writes a whole WAV file to w. Each channel is one leg's samples; a
// shorter one is filled up with silence. One channel is mono; of two, the
// first is left.
func WriteWAV(w io.Writer, enc WAVEncoding, rateHz int, channels ...[]int16) error {
	if len(channels) == 0 || len(channels) > 2 {
		return fmt.Errorf("writing WAV: %d channels, 1 or 2 are possible", len(channels))
	}
	codec, sampleBytes := enc.layout()
	n := 0
	for _, c := range channels {
		n = max(n, len(c))
	}
	if int64(n)*int64(len(channels)*sampleBytes) > math.MaxUint32-64 {
		return fmt.Errorf("writing WAV: %d samples do not fit into 4 GB", n)
	}
	out := appendWAVHeader(nil, codec, sampleBytes, rateHz, len(channels), n)
	// Blocks, not the whole file: a day of audio is written in constant memory.
	const block = 4096
	mixed := make([]int16, 0, block*len(channels))
	for at := 0; at < n; at += block {
		mixed = mixed[:0]
		for i := at; i < min(at+block, n); i++ {
			for _, c := range channels {
				var v int16
				if i < len(c) {
					v = c[i]
				}
				mixed = append(mixed, v)
			}
		}
		out = enc.append(out, mixed)
		if _, err := w.Write(out); err != nil {
			return fmt.Errorf("writing WAV: %w", err)
		}
		out = out[:0]
	}
	if n*len(channels)*sampleBytes%2 == 1 {
		out = append(out, 0)
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("writing WAV: %w", err)
	}
	return nil
}

func (e WAVEncoding) append(dst []byte, pcm []int16) []byte {
	switch e {
	case WAVMuLaw:
		return MuLaw.Encode(dst, pcm)
	case WAVALaw:
		return ALaw.Encode(dst, pcm)
	}
	for _, v := range pcm {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(v))
	}
	return dst
}

// appendWAVHeader appends the header of a file with n samples a channel, up to
// the first sample.
func appendWAVHeader(dst []byte, codec wavCodec, sampleBytes, rateHz, channels, n int) []byte {
	block := channels * sampleBytes
	fmtBytes, factBytes := 16, 0
	if codec != wavPCM { // cbSize and a fact chunk are required
		fmtBytes, factBytes = 18, 12
	}
	data := n * block
	le := binary.LittleEndian
	dst = append(dst, "RIFF"...)
	dst = le.AppendUint32(dst, uint32(4+8+fmtBytes+factBytes+8+data+data%2))
	dst = append(dst, "WAVEfmt "...)
	dst = le.AppendUint32(dst, uint32(fmtBytes))
	dst = le.AppendUint16(dst, uint16(codec))
	dst = le.AppendUint16(dst, uint16(channels))
	dst = le.AppendUint32(dst, uint32(rateHz))
	dst = le.AppendUint32(dst, uint32(rateHz*block))
	dst = le.AppendUint16(dst, uint16(block))
	dst = le.AppendUint16(dst, uint16(8*sampleBytes))
	if codec != wavPCM {
		dst = le.AppendUint16(dst, 0)
		dst = append(dst, "fact"...)
		dst = le.AppendUint32(dst, 4)
		dst = le.AppendUint32(dst, uint32(n))
	}
	dst = append(dst, "data"...)
	return le.AppendUint32(dst, uint32(data))
}
