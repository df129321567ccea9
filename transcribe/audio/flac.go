package audio

import (
	"bufio"
	"errors"
	"io"

	"github.com/mewkiz/flac"
)

// flacSamples decodes FLAC frame by frame.
type flacSamples struct {
	stream   *flac.Stream
	channels int
	bits     int
	block    []int16 // interleaved, of the FLAC frame being handed out
	at       int
	decoded  uint64 // samples a channel
	err      error  // sticky: how it ended
}

func openFLAC(r *bufio.Reader) (*flacSamples, error) {
	stream, err := flacStream(r)
	if err != nil {
		return nil, cutShort(err, "the end of its FLAC header")
	}
	info := stream.Info
	if err := checkShape(int64(info.SampleRate), int(info.NChannels)); err != nil {
		return nil, err
	}
	if info.BitsPerSample < 4 || info.BitsPerSample > 32 {
		return nil, formatErrorf("FLAC of %d bits is not supported", info.BitsPerSample)
	}
	return &flacSamples{stream: stream, channels: int(info.NChannels), bits: int(info.BitsPerSample)}, nil
}

// flacStream keeps a panic of the decoder over damaged bytes from taking every
// other call of the process with it.
func flacStream(r *bufio.Reader) (stream *flac.Stream, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = formatErrorf("its FLAC header is damaged: %v", p)
		}
	}()
	stream, err = flac.New(r)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, formatErrorf("its FLAC header is damaged: %v", err)
	}
	return stream, err
}

func (s *flacSamples) read(dst []int16) (int, error) {
	n := 0
	for n < len(dst) {
		if s.at == len(s.block) {
			if s.err == nil {
				s.err = s.next()
			}
			if s.err != nil {
				break
			}
			continue
		}
		c := copy(dst[n:], s.block[s.at:])
		n, s.at = n+c, s.at+c
	}
	if n == 0 {
		return 0, s.err
	}
	return n, nil
}

// next decodes one FLAC frame into block.
func (s *flacSamples) next() (err error) {
	defer func() { // see flacStream
		if p := recover(); p != nil {
			err = formatErrorf("its FLAC data is damaged: %v", p)
		}
	}()
	s.block, s.at = s.block[:0], 0
	declared := s.stream.Info.NSamples // 0 where unknown
	if declared > 0 && s.decoded >= declared {
		return io.EOF // what follows is some other program's tag
	}
	frame, err := s.stream.ParseNext()
	switch {
	case errors.Is(err, io.EOF) && declared > 0:
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case err != nil:
		return formatErrorf("its FLAC data is damaged: %v", err)
	case len(frame.Subframes) != s.channels:
		return formatErrorf("its FLAC data changes from %d to %d channels", s.channels, len(frame.Subframes))
	case frame.SampleRate != 0 && frame.SampleRate != s.stream.Info.SampleRate:
		return formatErrorf("its FLAC data changes from %d to %d Hz", s.stream.Info.SampleRate, frame.SampleRate)
	}
	s.decoded += uint64(len(frame.Subframes[0].Samples))
	bits := s.bits
	if frame.BitsPerSample != 0 {
		bits = int(frame.BitsPerSample)
	}
	for i := range frame.Subframes[0].Samples {
		for _, sub := range frame.Subframes {
			v := sub.Samples[i]
			if bits > 16 {
				v >>= bits - 16
			} else {
				v <<= 16 - bits
			}
			s.block = append(s.block, int16(v))
		}
	}
	return nil
}
