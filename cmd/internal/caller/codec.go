package caller

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// packetTime is how much audio a packet carries, as nearly all telephones do.
const packetTime = 20 * time.Millisecond

// codec is one way to send audio in RTP.
type codec struct {
	name    string
	payload uint8 // RTP payload type: RFC 3551 table 4, or dynamic
	clockHz int   // of RTP timestamps
	rateHz  int   // of the audio
	encode  func(pcm []int16) []byte
	// packet is how many bytes stand for packetTime.
	packet int
}

// Codecs are the names that [Config.Codec] may have.
func Codecs() []string { return []string{"PCMU", "PCMA", "G722", "L16"} }

// codecFor is the named codec for a recording of rateHz.
func codecFor(name string, rateHz int) (codec, error) {
	i := slices.IndexFunc(Codecs(), func(c string) bool { return strings.EqualFold(c, name) })
	if i < 0 {
		return codec{}, fmt.Errorf("--codec: %q is none of %s", name, strings.Join(Codecs(), ", "))
	}
	switch Codecs()[i] {
	case "PCMA":
		return codec{name: "PCMA", payload: 8, clockHz: 8000, rateHz: 8000, packet: 160, encode: g711(audio.ALaw)}, nil
	case "G722": // its clock says 8 kHz for 16 (RFC 3551 4.5.2)
		return codec{name: "G722", payload: 9, clockHz: 8000, rateHz: 16000, packet: 160, encode: g722}, nil
	case "L16": // RFC 3551 4.5.11: big-endian; 8 and 16 kHz have no number of their own
		rate := 8000
		if rateHz >= 16000 {
			rate = 16000
		}
		return codec{name: "L16", payload: 96, clockHz: rate, rateHz: rate, packet: rate / 50 * 2, encode: linear}, nil
	}
	return codec{name: "PCMU", payload: 0, clockHz: 8000, rateHz: 8000, packet: 160, encode: g711(audio.MuLaw)}, nil
}

func g711(law audio.G711) func([]int16) []byte {
	return func(pcm []int16) []byte { return law.Encode(make([]byte, 0, len(pcm)), pcm) }
}

func g722(pcm []int16) []byte {
	var e audio.G722Encoder
	return e.Encode(make([]byte, 0, len(pcm)/2), pcm)
}

func linear(pcm []int16) []byte {
	out := make([]byte, 0, 2*len(pcm))
	for _, v := range pcm {
		out = binary.BigEndian.AppendUint16(out, uint16(v))
	}
	return out
}

// tick is how much an RTP timestamp grows from packet to packet.
func (c codec) tick() uint32 { return uint32(c.clockHz / 50) }

// rtpmap is the attribute's value (RFC 8866 6.6).
func (c codec) rtpmap() string { return fmt.Sprintf("%d %s/%d", c.payload, c.name, c.clockHz) }

// packets are the payloads that carry a side of a recording; the last one is
// filled up with silence.
func (c codec) packets(pcm []int16, rateHz int) ([][]byte, error) {
	pcm, err := resampled(pcm, rateHz, c.rateHz)
	if err != nil {
		return nil, err
	}
	each := c.rateHz / 50
	if rest := len(pcm) % each; rest != 0 {
		pcm = append(slices.Clone(pcm), make([]int16, each-rest)...)
	}
	return slices.Collect(slices.Chunk(c.encode(pcm), c.packet)), nil
}

// resampled is pcm at another rate.
func resampled(pcm []int16, from, to int) ([]int16, error) {
	if from == to {
		return pcm, nil
	}
	r, err := audio.NewResampler(from, to)
	if err != nil {
		return nil, err
	}
	in := make([]float32, len(pcm))
	for i, v := range pcm {
		in[i] = float32(v)
	}
	out := r.Flush(r.Process(nil, in))
	pcm = make([]int16, len(out))
	for i, v := range out {
		pcm[i] = int16(min(max(v, -32768), 32767))
	}
	return pcm, nil
}
