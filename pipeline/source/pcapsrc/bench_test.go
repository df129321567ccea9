package pcapsrc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

// trunkCapture is calls side by side, of so much speech each.
func trunkCapture(calls int, d time.Duration) []byte {
	pcm := speech(int(d.Seconds()*8000), 1)
	var all [][]sent
	for i := range calls {
		a, b := fmt.Sprintf("192.0.2.1:%d", 10_000+2*i), fmt.Sprintf("198.51.100.2:%d", 20_000+2*i)
		c := plainCall()
		c.id, c.byeAt = fmt.Sprintf("call-%d", i), d+time.Second
		c.offer, c.answer = describe(a, "0"), describe(b, "0")
		all = append(all, c.messages(), talk(100*ms, a, b, uint32(2*i), pcm), talk(100*ms, b, a, uint32(2*i+1), pcm))
	}
	return capture(plainEthernet, 65535, all...)
}

// BenchmarkScan says how long a packet takes to be looked at, and how much
// memory the calls that were found keep of it.
func BenchmarkScan(b *testing.B) {
	const calls, seconds = 20, 30
	file := trunkCapture(calls, seconds*time.Second)
	b.SetBytes(int64(len(file)))
	kept := 0
	for b.Loop() {
		c, err := open(context.Background(), "x", bytes.NewReader(file), int64(len(file)), Options{})
		if err != nil || len(c.Calls()) != calls {
			b.Fatal(len(c.Calls()), err)
		}
		kept = 0
		for _, call := range c.Calls() {
			for _, l := range call.legs {
				for _, s := range l.streams {
					kept += len(s.index.buf)
				}
			}
		}
	}
	packets := calls * seconds * 50 * 2
	b.ReportMetric(float64(kept)/float64(packets), "kept-B/packet")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*packets), "ns/packet")
}

// BenchmarkHear says how long a packet takes from the capture to a frame.
func BenchmarkHear(b *testing.B) {
	const calls, seconds = 20, 30
	file := trunkCapture(calls, seconds*time.Second)
	c, err := open(context.Background(), "x", bytes.NewReader(file), int64(len(file)), Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, call := range c.Calls() {
			r, err := call.read(bytes.NewReader(file))
			if err != nil {
				b.Fatal(err)
			}
			for {
				if _, err := r.ReadFrame(context.Background()); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*calls*seconds*50*2), "ns/packet")
}
