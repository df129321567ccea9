package audio

import (
	"bytes"
	"context"
	"fmt"
	"testing"
)

// BenchmarkChain is what surrounds the recogniser on the way in: decode a
// recording, keep its envelope, and make its legs what the model wants. An
// operation is a second of a two-leg call.
func BenchmarkChain(b *testing.B) {
	for _, c := range []struct {
		enc    WAVEncoding
		rateHz int
	}{{WAVMuLaw, 8000}, {WAVPCM16, 8000}, {WAVPCM16, 16000}, {WAVPCM16, 44100}} {
		codec, _ := c.enc.layout()
		b.Run(fmt.Sprintf("%v/%dHz", codec, c.rateHz), func(b *testing.B) {
			const seconds = 20
			pcm := talk(seconds*c.rateHz, c.rateHz, 2000)
			var wav bytes.Buffer
			if err := WriteWAV(&wav, c.enc, c.rateHz, pcm, pcm); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += seconds {
				f, err := NewFile(bytes.NewReader(wav.Bytes()), "call.wav", int64(wav.Len()), FileOptions{})
				if err != nil {
					b.Fatal(err)
				}
				e := NewEnvelope(f, DefaultFileFrame, 4000)
				legs := [Callee + 1]*FrontEnd{Caller: newFrontEnd(b, FrontEndConfig{RateHz: 16000}), Callee: newFrontEnd(b, FrontEndConfig{RateHz: 16000})}
				for {
					frame, err := e.ReadFrame(context.Background())
					if err != nil {
						break
					}
					if _, err := legs[frame.Leg].Process(frame); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkFrontEnd is one second of one leg.
func BenchmarkFrontEnd(b *testing.B) {
	for _, in := range []int{8000, 16000, 48000} {
		b.Run(fmt.Sprintf("%dHz", in), func(b *testing.B) {
			e := newFrontEnd(b, FrontEndConfig{RateHz: 16000})
			pcm := talk(in/50, in, 2000)
			at := 0
			b.ReportAllocs()
			for b.Loop() {
				for range 50 {
					if _, err := e.Process(Frame{Start: Span(at, in), Rate: in, PCM: pcm}); err != nil {
						b.Fatal(err)
					}
					at += len(pcm)
				}
			}
		})
	}
}
