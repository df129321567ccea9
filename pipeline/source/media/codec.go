package media

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pion/opus"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// codec decodes one payload type of one stream.
type codec struct {
	Format
	kind   Kind
	rateHz int
	decode decode
}

// decode appends the mono samples of payload to dst. After an error dst is as
// it was, and the payload as good as lost.
type decode func(dst []int16, payload []byte) ([]int16, error)

func newCodec(f Format, of Channel) (*codec, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	c := &codec{Format: f, kind: f.Kind(), rateHz: f.RateHz()}
	if c.kind != Audio {
		return c, nil
	}
	switch {
	case f.Is("PCMU"):
		c.decode = decodeG711(audio.MuLaw)
	case f.Is("PCMA"):
		c.decode = decodeG711(audio.ALaw)
	case f.Is("L16"):
		c.decode = decodeL16(max(1, f.Channels), of)
	case f.Is("G722"):
		c.decode = decodeG722()
	case f.Is("opus"):
		return c, c.openOpus(of)
	}
	return c, nil
}

func decodeG711(law audio.G711) decode {
	return func(dst []int16, payload []byte) ([]int16, error) { return law.Decode(dst, payload), nil }
}

func decodeG722() decode {
	var d audio.G722Decoder
	return func(dst []int16, payload []byte) ([]int16, error) { return d.Decode(dst, payload), nil }
}

// decodeL16 reads 16-bit samples in network order, RFC 3551 section 4.5.11; two
// channels become one. Half a sample at the end is left out.
func decodeL16(channels int, of Channel) decode {
	if channels == 1 {
		return func(dst []int16, payload []byte) ([]int16, error) {
			for ; len(payload) >= 2; payload = payload[2:] {
				dst = append(dst, int16(binary.BigEndian.Uint16(payload)))
			}
			return dst, nil
		}
	}
	return func(dst []int16, payload []byte) ([]int16, error) {
		for ; len(payload) >= 4; payload = payload[4:] {
			left, right := int16(binary.BigEndian.Uint16(payload)), int16(binary.BigEndian.Uint16(payload[2:]))
			dst = append(dst, of.one(left, right))
		}
		return dst, nil
	}
}

// maxOpus is the longest that an Opus packet may last, RFC 6716 section 3.2.5:
// 120 ms.
const maxOpus = wideHz * 120 / 1000

// openOpus decodes to one channel at 16 kHz whatever is sent: both are the
// decoder's choice, RFC 7587 section 3. One of two channels is taken from both,
// which a sender of one has the same.
func (c *codec) openOpus(of Channel) error {
	channels := 1
	if of != Mixed {
		channels = 2
	}
	d, err := opus.NewDecoderWithOutput(wideHz, channels)
	if err != nil {
		return fmt.Errorf("opening opus: %w", err)
	}
	scratch := make([]int16, maxOpus*channels)
	c.decode = func(dst []int16, payload []byte) (out []int16, err error) {
		out = dst
		if len(payload) == 0 {
			return dst, nil
		}
		// The library is young, and what it reads is foreign: bytes of one call
		// must not end all the others.
		defer func() {
			if fault := recover(); fault != nil {
				err = errors.Join(fmt.Errorf("opus: the decoder failed: %v", fault), d.Init(wideHz, channels))
			}
		}()
		n, err := d.DecodeToInt16(payload, scratch)
		if err != nil {
			return dst, fmt.Errorf("opus: %w", err)
		}
		if of == Mixed {
			return append(dst, scratch[:n]...), nil
		}
		for i := range n {
			dst = append(dst, of.one(scratch[2*i], scratch[2*i+1]))
		}
		return dst, nil
	}
	return nil
}
