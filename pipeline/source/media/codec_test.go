package media

import (
	"bytes"
	"encoding/base64"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// opusPackets reads packets that libopus 1.3 made: in silk a tone of 440 Hz (12
// kbit/s, 20 ms), in celt one of 440 Hz on the left and one of 1000 Hz on the
// right (48 kbit/s, 10 ms), in hybrid a synthetic voice that goes over to silk
// after nine packets (24 kbit/s, 20 ms).
func opusPackets(t testing.TB, name string) (all [][]byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/opus-" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		p, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(line)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func opusFormat() Format {
	return Format{PayloadType: 111, Encoding: "opus", ClockHz: 48000, Channels: 2}
}

// share is how much of the power of pcm lies at hz.
func share(pcm []int16, hz float64, rateHz int) float64 {
	var re, im, power float64
	for i, v := range pcm {
		phase := 2 * math.Pi * hz * float64(i) / float64(rateHz)
		re += float64(v) * math.Cos(phase)
		im += float64(v) * math.Sin(phase)
		power += float64(v) * float64(v)
	}
	return 2 * (re*re + im*im) / float64(len(pcm)) / power
}

func TestOpusIsHeardInAllItsModes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		samples int // of a packet
		tones   []float64
	}{
		{"silk", 320, []float64{440}},
		{"celt", 160, []float64{440, 1000}},
		{"hybrid", 320, nil},
	} {
		c, err := newCodec(opusFormat(), Mixed)
		if err != nil {
			t.Fatal(err)
		}
		var pcm []int16
		for i, p := range opusPackets(t, tt.name) {
			before := len(pcm)
			if pcm, err = c.decode(pcm, p); err != nil {
				t.Fatalf("%s: packet %d: %v", tt.name, i, err)
			}
			if n := len(pcm) - before; n != tt.samples {
				t.Errorf("%s: packet %d is %d samples", tt.name, i, n)
			}
		}
		settled := pcm[len(pcm)/2:]
		all := 0.0
		for _, hz := range tt.tones {
			s := share(settled, hz, wideHz)
			if s < 0.8/float64(len(tt.tones)) {
				t.Errorf("%s: %.0f %% of the power is at %v Hz", tt.name, 100*s, hz)
			}
			all += s
		}
		if len(tt.tones) > 0 && all < 0.9 {
			t.Errorf("%s: %.0f %% of the power is in the tones", tt.name, 100*all)
		}
		if tt.name == "hybrid" {
			// As loud as libopus itself makes it.
			if level := rms(pcm); math.Abs(level/1285-1) > 0.01 {
				t.Errorf("the voice is at %.0f, want 1285", level)
			}
		}
	}
}

func rms(pcm []int16) float64 {
	sum := 0.0
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(len(pcm)))
}

func TestOpusLossesAreMadeUp(t *testing.T) {
	cfg := DefaultTrackConfig(audio.Caller)
	cfg.Formats = []Format{opusFormat()}
	tr, err := NewTrack(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var frames []audio.Frame
	for i, payload := range opusPackets(t, "silk") {
		if i == 12 || i == 13 {
			continue
		}
		if i == 18 {
			payload = []byte{0xff} // cannot be decoded
		}
		p := sent{
			Header:  rtp.Header{PayloadType: 111, SequenceNumber: uint16(i), Timestamp: uint32(960 * i)},
			payload: payload, at: time.Duration(i) * 20 * ms,
		}
		frames = tr.Push(frames, p.bytes(t), p.at)
	}
	frames = tr.Flush(frames)
	checkFrames(t, cfg, frames)
	var lost, span time.Duration
	for _, f := range frames {
		lost += f.Lost
		span += f.End() - f.Start
	}
	if lost != 60*ms || span != 500*ms || tr.Stats().Lost != 2 || tr.Stats().Malformed != 1 {
		t.Errorf("%v of %v lost, counted %+v", lost, span, tr.Stats())
	}
}

// Whatever comes, an Opus packet is an error or at most 120 ms, and the decoder
// goes on.
func FuzzOpus(f *testing.F) {
	for _, name := range []string{"silk", "celt", "hybrid"} {
		for _, p := range opusPackets(f, name)[:4] {
			f.Add(p, p)
		}
	}
	f.Add([]byte{0xff}, []byte{})
	f.Add([]byte{0x7b, 0xc1, 0xff, 0xff}, []byte{0x03})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		c, err := newCodec(opusFormat(), Mixed)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range [][]byte{first, second} {
			pcm, err := c.decode([]int16{1}, p)
			if pcm[0] != 1 || len(pcm) > 1+maxOpus || err != nil && len(pcm) != 1 {
				t.Fatalf("%x is %d samples, %v", p, len(pcm)-1, err)
			}
		}
	})
}

func TestOneChannelOfAStereoStreamIsHeard(t *testing.T) {
	for _, tt := range []struct {
		channel Channel
		own     float64
		other   float64
	}{{Left, 440, 1000}, {Right, 1000, 440}} {
		c, err := newCodec(opusFormat(), tt.channel)
		if err != nil {
			t.Fatal(err)
		}
		var pcm []int16
		for _, p := range opusPackets(t, "celt") {
			if pcm, err = c.decode(pcm, p); err != nil {
				t.Fatal(err)
			}
		}
		settled := pcm[len(pcm)/2:]
		if own, other := share(settled, tt.own, wideHz), share(settled, tt.other, wideHz); own < 0.8 || other > 0.05 {
			t.Errorf("channel %d: %.2f of the power at %v Hz, %.2f at %v Hz", tt.channel, own, tt.own, other, tt.other)
		}
	}
	c, err := newCodec(Format{PayloadType: 96, Encoding: "L16", ClockHz: 8000, Channels: 2}, Right)
	if err != nil {
		t.Fatal(err)
	}
	if pcm, err := c.decode(nil, []byte{0, 1, 0, 2, 0, 3, 0, 4}); err != nil || len(pcm) != 2 || pcm[0] != 2 || pcm[1] != 4 {
		t.Errorf("the right channel is %v, %v", pcm, err)
	}
}

// A sender of one channel has both legs say the same.
func TestMonoStreamIsTheSameOnBothChannels(t *testing.T) {
	var both [2][]int16
	for i, channel := range []Channel{Left, Right} {
		c, err := newCodec(opusFormat(), channel)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range opusPackets(t, "silk") {
			if both[i], err = c.decode(both[i], p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !slices.Equal(both[0], both[1]) || len(both[0]) == 0 {
		t.Error("the channels differ")
	}
}
