package audio

// G711 is one of the two companding laws of ITU-T Recommendation G.711. Both
// carry one sample in a byte; telephony runs them at 8 kHz.
type G711 uint8

const (
	MuLaw G711 = iota // North America, Japan; RTP payload type 0
	ALaw              // everywhere else; RTP payload type 8
)

// Decode appends the 16-bit samples that src encodes to dst.
func (g G711) Decode(dst []int16, src []byte) []int16 {
	table := &muLawPCM
	if g == ALaw {
		table = &aLawPCM
	}
	for _, b := range src {
		dst = append(dst, table[b])
	}
	return dst
}

// Encode appends the G.711 bytes of pcm to dst. It quantises as the reference
// software of ITU-T G.191 does.
func (g G711) Encode(dst []byte, pcm []int16) []byte {
	encode := muLawByte
	if g == ALaw {
		encode = aLawByte
	}
	for _, v := range pcm {
		dst = append(dst, encode(v))
	}
	return dst
}

// What each byte means, scaled to 16 bits: µ-law has 14 significant bits,
// A-law 13.
var (
	muLawPCM = expand(muLawSample)
	aLawPCM  = expand(aLawSample)
)

func expand(sample func(byte) int16) (table [256]int16) {
	for b := range table {
		table[b] = sample(byte(b))
	}
	return table
}

// muLawSample is G.711 table 2: the byte is sent inverted; below the sign are
// three bits of segment and four of step.
func muLawSample(b byte) int16 {
	b = ^b
	const bias = 33 // in 14-bit units; makes every segment a power of two
	magnitude := (int(b&0x0f)<<1+bias)<<(b>>4&7) - bias
	if b&0x80 != 0 {
		magnitude = -magnitude
	}
	return int16(magnitude << 2)
}

// muLawByte quantises to the step of G.711 table 2 that v lies in.
func muLawByte(v int16) byte {
	const bias, limit = 33, 0x1fff
	magnitude, sign := int(v)>>2, byte(0)
	if v < 0 {
		magnitude, sign = int(^v)>>2, 0x80
	}
	magnitude = min(magnitude+bias, limit)
	segment := 0
	for magnitude>>(segment+6) != 0 {
		segment++
	}
	return ^(sign | byte(segment)<<4 | byte(magnitude>>(segment+1)&0x0f))
}

// aLawSample is G.711 table 1: even bits are sent inverted; the two lowest
// segments have the same step.
func aLawSample(b byte) int16 {
	b ^= 0x55
	magnitude := int(b&0x0f)<<1 + 1
	if segment := b >> 4 & 7; segment > 0 {
		magnitude = (magnitude + 32) << (segment - 1)
	}
	if b&0x80 == 0 {
		magnitude = -magnitude
	}
	return int16(magnitude << 3)
}

// aLawByte quantises to the step of G.711 table 1 that v lies in.
func aLawByte(v int16) byte {
	magnitude, sign := int(v)>>4, byte(0x80)
	if v < 0 {
		magnitude, sign = int(^v)>>4, 0
	}
	segment := 0
	for magnitude > 31 {
		magnitude >>= 1
		segment++
	}
	if magnitude > 15 {
		magnitude -= 16
		segment++
	}
	return (sign | byte(segment)<<4 | byte(magnitude)) ^ 0x55
}
