package audio

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"testing"
)

// noiseBytes are n bytes of every value, the same at each run.
func noiseBytes(n int) []byte {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// sweep is a second at 16 kHz that rises from 50 Hz to nearly 8 kHz.
func sweep() []int16 {
	pcm := make([]int16, 16000)
	for i := range pcm {
		at := float64(i) / 16000
		pcm[i] = int16(math.Round(9000 * math.Sin(2*math.Pi*(50*at+3900*at*at))))
	}
	return pcm
}

func checksum(pcm []int16) uint32 {
	var b []byte
	for _, v := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return crc32.ChecksumIEEE(b)
}

// The checksums are those of what ffmpeg 5.1 makes of the same input.
func TestG722IsBitExact(t *testing.T) {
	var d G722Decoder
	if got := checksum(d.Decode(nil, noiseBytes(8000))); got != 0x9c908027 {
		t.Errorf("noise decodes to %#x", got)
	}
	var e G722Encoder
	if got := crc32.ChecksumIEEE(e.Encode(nil, sweep())); got != 0xd4467dae {
		t.Errorf("a sweep encodes to %#x", got)
	}
}

func TestG722DoesNotCareHowInputIsCut(t *testing.T) {
	var whole, cut G722Encoder
	pcm := sweep()
	want := whole.Encode(nil, pcm)
	var got []byte
	for size := 1; len(pcm) > 0; size = size%7 + 1 {
		n := min(size, len(pcm))
		got = cut.Encode(got, pcm[:n])
		pcm = pcm[n:]
	}
	if !slices.Equal(got, want) {
		t.Error("encoding in pieces differs")
	}
	var d1, d2 G722Decoder
	if !slices.Equal(d1.Decode(nil, want), d2.Decode(d2.Decode(nil, want[:33]), want[33:])) {
		t.Error("decoding in pieces differs")
	}
}

// The filters delay by 22 samples there and back.
func TestG722KeepsSpeechBand(t *testing.T) {
	const delay = 22
	for _, hz := range []float64{150, 440, 1000, 3000, 5000, 6500} {
		pcm := make([]int16, 8000)
		for i := range pcm {
			pcm[i] = int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/16000))
		}
		var e G722Encoder
		var d G722Decoder
		out := d.Decode(nil, e.Encode(nil, pcm))
		var signal, noise float64
		for i := 1000; i < len(pcm); i++ {
			want := float64(pcm[i-delay])
			signal += want * want
			noise += (float64(out[i]) - want) * (float64(out[i]) - want)
		}
		if snr := 10 * math.Log10(signal/noise); snr < 15 {
			t.Errorf("%v Hz comes back at %.1f dB, want 15", hz, snr)
		}
	}
}

func TestG722DecodesWithoutAllocating(t *testing.T) {
	var d G722Decoder
	var e G722Encoder
	src, dst, back := noiseBytes(160), make([]int16, 0, 320), make([]byte, 0, 160)
	if n := testing.AllocsPerRun(100, func() {
		dst = d.Decode(dst[:0], src)
		back = e.Encode(back[:0], dst)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzG722(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0xff, 0x3f, 0xc0})
	f.Add(noiseBytes(64))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d G722Decoder
		pcm := d.Decode(nil, b)
		if len(pcm) != 2*len(b) {
			t.Fatalf("%d bytes decode to %d samples", len(b), len(pcm))
		}
		var e G722Encoder
		if again := e.Encode(nil, pcm); len(again) != len(b) {
			t.Fatalf("%d samples encode to %d bytes", len(pcm), len(again))
		}
	})
}

func BenchmarkG722Decode(b *testing.B) {
	var d G722Decoder
	src, dst := noiseBytes(8000), make([]int16, 0, 16000)
	for b.Loop() {
		dst = d.Decode(dst[:0], src)
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/s") // per second of audio
}
