package media

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// fuzzFormats are all kinds of payload.
func fuzzFormats() []Format {
	return []Format{
		{PayloadType: 0, Encoding: "PCMU", ClockHz: 8000},
		{PayloadType: 8, Encoding: "PCMA", ClockHz: 8000},
		{PayloadType: 9, Encoding: "G722", ClockHz: 8000},
		{PayloadType: 13, Encoding: "CN", ClockHz: 8000},
		{PayloadType: 96, Encoding: "opus", ClockHz: 48000, Channels: 2},
		{PayloadType: 97, Encoding: "L16", ClockHz: 44100, Channels: 2},
		{PayloadType: 101, Encoding: "telephone-event", ClockHz: 8000},
	}
}

// script is packets and the times between them as the fuzzer writes them: a
// step is how long nothing comes, in ms, how much the step moves the sequence
// and the clock on, the type, and the payload.
func script(steps ...step) (b []byte) {
	for _, s := range steps {
		b = append(b, s.later, byte(s.sequence), byte(s.sequence>>8))
		b = binary.LittleEndian.AppendUint32(b, uint32(s.clock))
		b = append(b, s.flags, byte(len(s.payload)))
		b = append(b, s.payload...)
	}
	return b
}

type step struct {
	later    uint8 // ms; 255 stands for a minute
	sequence int16
	clock    int32
	flags    uint8 // 3 bits of type, marker, another source, malformed header, advance, long payload
	payload  []byte
}

// next takes a step off the script.
func next(b []byte) (s step, rest []byte) {
	if len(b) < 9 {
		return step{}, nil
	}
	s.later = b[0]
	s.sequence = int16(uint16(b[1]) | uint16(b[2])<<8)
	s.clock = int32(binary.LittleEndian.Uint32(b[3:]))
	s.flags = b[7]
	n := min(int(b[8]), len(b)-9)
	return step{s.later, s.sequence, s.clock, s.flags, b[9 : 9+n]}, b[9+n:]
}

// Whatever comes, frames are in order and without overlap, nothing is heard that
// is more than the lead and one packet ahead of the time, what was made up is
// not more than there is, and the counts add up.
func FuzzTrack(f *testing.F) {
	voice := make([]byte, 160)
	f.Add([]byte{})
	f.Add(script(step{20, 1, 160, 0, voice}, step{20, 1, 160, 0, voice}, step{20, 3, 480, 0, voice}, step{250, 1, 160, 0, voice}))
	f.Add(script(step{20, 1, 160, 0, voice}, step{20, -1, -160, 8, voice}, step{255, 1, 1 << 30, 0, voice}, step{20, 1, 160, 0, voice}))
	f.Add(script(step{20, 1, 160, 0, voice}, step{20, 1, 160, 3, []byte{40}}, step{255, 0, 0, 64, nil}, step{20, 1, 480000, 8, voice}))
	f.Add(script(step{20, 1, 0, 6, []byte{5, 0, 0, 80}}, step{20, 1, 0, 6, []byte{5, 0x80, 1, 0}}, step{20, 1, 800, 6, []byte{11, 0, 0, 80}}))
	f.Add(script(step{20, 1, 960, 4, []byte{0x78, 1, 2, 3}}, step{20, 1, 960, 4, []byte{0xff}}, step{20, 1, 960, 5, voice}))
	f.Add(script(step{20, 1, 160, 16, voice}, step{20, 1, 160, 0, voice}, step{20, 1, 160, 16, voice}, step{20, 1, 160, 16, voice}, step{20, 1, 160, 32, voice}))
	types := []uint8{0, 8, 9, 13, 96, 97, 101, 77}
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg := DefaultTrackConfig(audio.Caller)
		cfg.Formats = fuzzFormats()
		tr, err := NewTrack(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var (
			at     time.Duration
			seq    uint16
			clock  uint32
			all    []audio.Frame
			pushed uint64
			keys   int
			packet [rtpHeader + 255*8]byte
		)
		for len(b) > 0 {
			var s step
			s, b = next(b)
			if s.later == 255 {
				at += time.Minute
			} else {
				at += time.Duration(s.later) * ms
			}
			seq, clock = seq+uint16(s.sequence), clock+uint32(s.clock)
			if s.flags&64 != 0 {
				all = tr.Advance(all, at)
			}
			packet[0], packet[1] = 0x80, types[s.flags&7]|s.flags&8<<4
			if s.flags&32 != 0 && len(s.payload) > 0 {
				packet[0] = s.payload[0]
			}
			binary.BigEndian.PutUint16(packet[2:], seq)
			binary.BigEndian.PutUint32(packet[4:], clock)
			packet[8] = s.flags & 16
			n := rtpHeader + copy(packet[rtpHeader:], s.payload)
			if s.flags&128 != 0 {
				n = rtpHeader + 8*len(s.payload)
			}
			before := len(all)
			all = tr.Push(all, packet[:n], at)
			pushed++
			for _, f := range all[before:] {
				keys += len(f.Keys)
				// The longest packet is G.711 of as many bytes as there may be.
				if limit := at + cfg.MaxLead + 255*8*time.Second/8000; f.End() > limit {
					t.Fatalf("heard up to %v at %v", f.End(), at)
				}
			}
		}
		all = tr.Flush(all)
		checkFrames(t, cfg, all)
		c := tr.Stats()
		if seen := c.Packets + c.Late + c.Duplicate + c.Malformed + c.Unsupported + c.Foreign; seen > pushed+c.Malformed {
			t.Fatalf("%d packets are counted as %+v", pushed, c)
		}
		if keys > int(pushed) {
			t.Fatalf("%d packets are %d keys", pushed, keys)
		}
	})
}

// A packet that is read lies within the datagram, whatever its lengths say.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0x8f, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1})
	f.Add([]byte{0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0xff, 0xff})
	f.Add([]byte{0xa0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 200})
	f.Add([]byte{0xa0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err == nil && (len(p.payload) > len(b)-rtpHeader || p.payloadType > 127) {
			t.Fatalf("%x is %+v", b, p)
		}
	})
}
