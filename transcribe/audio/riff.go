package audio

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrFormat marks a recording that cannot be heard whatever one tries again:
// not an audio file, an encoding or a shape that is not supported, no sound in
// it. The message says which rule it breaks and, where there is one, what to
// type.
var ErrFormat = errors.New("recording cannot be heard")

// formatError is a message that is ErrFormat without saying so.
type formatError string

func (e formatError) Error() string        { return string(e) }
func (e formatError) Is(target error) bool { return target == ErrFormat }

func formatErrorf(format string, args ...any) error {
	return formatError(fmt.Sprintf(format, args...))
}

// Bounds on what a recording may be.
const (
	minRateHz = 8000
	maxRateHz = 48000
)

// wavHeader is what stands before the samples of a WAV file.
type wavHeader struct {
	codec    wavCodec
	rateHz   int
	channels int
	// sampleBytes is the room that one sample of one channel takes.
	sampleBytes int
	// dataBytes is the declared size of the data chunk, -1 where the header
	// was written before the size was known.
	dataBytes int64
	// headerBytes is how many bytes stand before the first sample.
	headerBytes int64
	warnings    []string
}

// wavCodec is the fmt chunk's wFormatTag.
type wavCodec uint16

const (
	wavPCM        wavCodec = 0x0001
	wavFloat      wavCodec = 0x0003
	wavALaw       wavCodec = 0x0006
	wavMuLaw      wavCodec = 0x0007
	wavExtensible wavCodec = 0xfffe // the real tag is in the sub-format GUID
)

// String names the codecs that people meet, supported or not.
func (c wavCodec) String() string {
	switch c {
	case wavPCM:
		return "PCM"
	case wavFloat:
		return "float"
	case wavALaw:
		return "A-law"
	case wavMuLaw:
		return "µ-law"
	case 0x0002:
		return "Microsoft ADPCM"
	case 0x0010:
		return "OKI ADPCM"
	case 0x0011:
		return "IMA ADPCM"
	case 0x0014, 0x0040, 0x0045, 0x0064:
		return "G.726 ADPCM"
	case 0x0022:
		return "TrueSpeech"
	case 0x0031:
		return "GSM 6.10"
	case 0x0042, 0x0111:
		return "G.723.1"
	case 0x0050:
		return "MPEG audio"
	case 0x0055:
		return "MP3"
	case 0x0065, 0x028f:
		return "G.722"
	case 0x0083, 0x0133:
		return "G.729"
	case 0x00ff, 0x1600:
		return "AAC"
	case 0x0161:
		return "Windows Media Audio"
	case 0x704f:
		return "Opus"
	case 0xa109:
		return "Speex"
	}
	return fmt.Sprintf("codec 0x%04x", uint16(c))
}

// maxChunksBeforeData stops a file of nothing but empty chunks.
const maxChunksBeforeData = 10_000

// readWAVHeader reads r up to the first sample. It allocates nothing that a
// length in the file decides. size is the length of the whole input, -1 where
// it is unknown.
func readWAVHeader(r *bufio.Reader, size int64) (wavHeader, error) {
	h := wavHeader{}
	var riff [12]byte
	if _, err := io.ReadFull(r, riff[:]); err != nil {
		return h, cutShort(err, "its first 12 bytes")
	}
	h.headerBytes = 12
	riffBytes := int64(binary.LittleEndian.Uint32(riff[4:]))
	big := string(riff[:4]) == "RF64" || string(riff[:4]) == "BW64"
	bigDataBytes := int64(-1)
	haveFmt := false

	for range maxChunksBeforeData {
		var chunk [8]byte
		if _, err := io.ReadFull(r, chunk[:]); err != nil {
			if haveFmt {
				return h, cutShort(err, "a data chunk")
			}
			return h, cutShort(err, "a fmt chunk")
		}
		h.headerBytes += 8
		id, n := string(chunk[:4]), int64(binary.LittleEndian.Uint32(chunk[4:]))

		switch id {
		case "ds64": // EBU Tech 3306: the 64-bit sizes of an RF64 file
			var ds64 [24]byte
			if n < int64(len(ds64)) {
				return h, formatErrorf("its ds64 chunk is %d bytes, at least 24 are needed", n)
			}
			if _, err := io.ReadFull(r, ds64[:]); err != nil {
				return h, cutShort(err, "its ds64 chunk")
			}
			bigDataBytes = int64(min(binary.LittleEndian.Uint64(ds64[8:]), 1<<62))
			if err := skip(r, n-int64(len(ds64))+n&1); err != nil {
				return h, cutShort(err, "its ds64 chunk")
			}
			h.headerBytes += n + n&1

		case "fmt ":
			if err := h.readFmt(r, n); err != nil {
				return h, err
			}
			h.headerBytes += n + n&1
			haveFmt = true

		case "data":
			if !haveFmt {
				return h, formatErrorf("its data chunk comes before any fmt chunk, so its encoding is unknown")
			}
			h.dataBytes = n
			if big && n == 0xffffffff {
				h.dataBytes = bigDataBytes
			}
			h.resolveStreamed(riffBytes, size)
			return h, nil

		default:
			if err := skip(r, n+n&1); err != nil {
				return h, cutShort(err, fmt.Sprintf("the end of its %q chunk of %d bytes, before any sound", id, n))
			}
			h.headerBytes += n + n&1
		}
	}
	return h, formatErrorf("its first %d chunks hold no sound", maxChunksBeforeData)
}

// readFmt reads a fmt chunk of n bytes.
func (h *wavHeader) readFmt(r *bufio.Reader, n int64) error {
	var b [40]byte // the extensible form; the plain one is 16 or 18
	if n < 16 {
		return formatErrorf("its fmt chunk is %d bytes, at least 16 are needed", n)
	}
	have := b[:min(n, int64(len(b)))]
	if _, err := io.ReadFull(r, have); err != nil {
		return cutShort(err, "its fmt chunk")
	}
	if err := skip(r, n-int64(len(have))+n&1); err != nil {
		return cutShort(err, "its fmt chunk")
	}
	h.codec = wavCodec(binary.LittleEndian.Uint16(b[0:]))
	h.channels = int(binary.LittleEndian.Uint16(b[2:]))
	rate := binary.LittleEndian.Uint32(b[4:])
	blockBytes := int(binary.LittleEndian.Uint16(b[12:]))
	bits := int(binary.LittleEndian.Uint16(b[14:]))
	if h.codec == wavExtensible {
		if len(have) < len(b) {
			return formatErrorf("its extensible fmt chunk is %d bytes, 40 are needed", n)
		}
		// KSDATAFORMAT_SUBTYPE_…: the old tag, then a fixed tail.
		if string(b[26:40]) != "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71" {
			return formatErrorf("sub-format %x is not supported", b[24:40])
		}
		h.codec = wavCodec(binary.LittleEndian.Uint16(b[24:]))
	}
	if err := checkShape(int64(rate), h.channels); err != nil {
		return err
	}
	h.rateHz = int(rate)

	// The container is what block alignment says; bits may be fewer (20 in
	// 24, 24 in 32), in its upper part.
	h.sampleBytes = (bits + 7) / 8
	if blockBytes%h.channels == 0 && blockBytes/h.channels > h.sampleBytes {
		h.sampleBytes = blockBytes / h.channels
	}
	ok := false
	switch h.codec {
	case wavPCM:
		ok = h.sampleBytes >= 1 && h.sampleBytes <= 4
	case wavFloat:
		ok = h.sampleBytes == 4 || h.sampleBytes == 8
	case wavALaw, wavMuLaw:
		ok = h.sampleBytes == 1
	default:
		return formatErrorf("%v in WAV is not supported; convert it, for example with: ffmpeg -i IN.wav -c:a pcm_s16le OUT.wav", h.codec)
	}
	if !ok {
		return formatErrorf("%v of %d bits (%d bytes a sample) is not supported; convert it, for example with: ffmpeg -i IN.wav -c:a pcm_s16le OUT.wav", h.codec, bits, h.sampleBytes)
	}
	return nil
}

// resolveStreamed decides whether the data chunk's size was left open by a
// writer that could not go back, and clears it if so.
func (h *wavHeader) resolveStreamed(riffBytes, size int64) {
	riffEnd := riffBytes + 8
	switch h.dataBytes {
	case 0xffffffff, 0x7fffffff, 0x7ffff000: // ffmpeg; others; sox
		if size >= 0 && size-h.headerBytes >= h.dataBytes {
			return // a real file of that size
		}
	case 0:
		// A true empty recording has a RIFF size that fits what is there.
		closed := riffBytes != 0 && riffBytes != 0xffffffff && riffEnd > h.headerBytes
		exact := riffEnd == h.headerBytes && size == h.headerBytes
		if closed || exact {
			return
		}
	case -1, 1 << 62:
	default:
		return
	}
	h.dataBytes = -1
	h.warnings = append(h.warnings, "the header does not say how long the recording is; it was read to the end of the file")
}

// checkShape refuses rates and channel counts that no call has.
func checkShape(rateHz int64, channels int) error {
	switch {
	case channels == 0:
		return formatErrorf("its header says 0 channels")
	case channels > 2:
		return formatErrorf("%d channels: 3 or more channels are not supported; keep the two of the call, for example with: ffmpeg -i IN -af 'pan=stereo|c0=c0|c1=c1' OUT.wav", channels)
	case rateHz < minRateHz || rateHz > maxRateHz:
		return formatErrorf("%d Hz: rates from %d to %d Hz are supported; resample it, for example with: ffmpeg -i IN -ar 16000 OUT.wav", rateHz, minRateHz, maxRateHz)
	}
	return nil
}

func cutShort(err error, before string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return formatErrorf("it ends before %s", before)
	}
	return err
}

// skip reads n bytes away.
func skip(r *bufio.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, r, n)
	return err
}
