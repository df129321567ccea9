package media

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// BenchmarkTrack is a packet of 20 ms from the wire to a frame.
func BenchmarkTrack(b *testing.B) {
	for _, f := range []struct {
		Format
		bytes int
	}{
		{Format{PayloadType: 0, Encoding: "PCMU", ClockHz: 8000, Channels: 1}, 160},
		{Format{PayloadType: 8, Encoding: "PCMA", ClockHz: 8000, Channels: 1}, 160},
		{Format{PayloadType: 9, Encoding: "G722", ClockHz: 8000, Channels: 1}, 160},
		{Format{PayloadType: 96, Encoding: "L16", ClockHz: 16000, Channels: 1}, 640},
	} {
		for _, lossEvery := range []int{0, 20} {
			b.Run(fmt.Sprintf("%s/loss=%d", f.Encoding, lossEvery), func(b *testing.B) {
				cfg := DefaultTrackConfig(audio.Caller)
				cfg.Formats = []Format{f.Format}
				tr, err := NewTrack(cfg)
				if err != nil {
					b.Fatal(err)
				}
				packet := make([]byte, rtpHeader+f.bytes)
				packet[0], packet[1] = 0x80, f.PayloadType
				for i := range packet[rtpHeader:] {
					packet[rtpHeader+i] = byte(i * 7)
				}
				var frames []audio.Frame
				i := uint32(0)
				b.ReportAllocs()
				for b.Loop() {
					i++
					if lossEvery > 0 && int(i)%lossEvery == 0 {
						continue
					}
					binary.BigEndian.PutUint16(packet[2:], uint16(i))
					binary.BigEndian.PutUint32(packet[4:], i*uint32(f.ClockHz/50))
					frames = tr.Push(frames[:0], packet, time.Duration(i)*20*ms)
				}
			})
		}
	}
}

// BenchmarkSession is a look at the two legs of a call, for each of which three
// packets came; that they are sent is not counted. The kernel takes them in on
// the sender's time here, as it does on a network card's interrupts elsewhere.
func BenchmarkSession(b *testing.B) {
	for _, loss := range []bool{false, true} {
		b.Run(fmt.Sprintf("loss=%v", loss), func(b *testing.B) {
			s := newSession(b)
			s.cfg.Poll = 60 * ms
			peers := make([]*sender, 2)
			for i, leg := range []audio.Leg{audio.Caller, audio.Callee} {
				peers[i] = dial(b, addStream(b, s, StreamConfig{Leg: leg}), uint32(i))
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				b.StopTimer()
				for _, p := range peers {
					for range 3 {
						p.next(b)
						if n++; loss && n%20 == 0 {
							p.SequenceNumber++
							p.Timestamp += 160
						}
					}
				}
				s.began = s.began.Add(-40 * ms) // or the audio is ahead of its time
				b.StartTimer()
				if _, err := s.round(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(6*b.N), "ns/packet")
			if c := s.Stats(); c.Packets < uint64(6*b.N)*9/10 {
				b.Fatalf("counted %+v of %d packets", c, 6*b.N)
			}
		})
	}
}

// BenchmarkSessionMemory is what a call of two legs costs before its frames are
// heard, ports and all.
func BenchmarkSessionMemory(b *testing.B) {
	ports := loopback(b, 4000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var all []*Session
	for range 200 {
		s := ports.NewSession(slog.New(slog.DiscardHandler))
		for i, leg := range []audio.Leg{audio.Caller, audio.Callee} {
			p := dial(b, addStream(b, s, StreamConfig{Leg: leg}), uint32(i))
			p.next(b)
			p.SequenceNumber++ // the next one waits
			p.next(b)
			p.Close()
		}
		if _, err := s.round(); err != nil {
			b.Fatal(err)
		}
		all = append(all, s)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		runtime.KeepAlive(all)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(all)), "B/call")
	for _, s := range all {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
