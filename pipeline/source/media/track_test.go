package media

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"pgregory.net/rapid"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const ms = time.Millisecond

// sent is one packet as the peer sends it, and when it comes.
type sent struct {
	rtp.Header
	payload []byte
	at      time.Duration
}

func (s sent) bytes(t testing.TB) []byte {
	t.Helper()
	s.Version = 2
	b, err := (&rtp.Packet{Header: s.Header, Payload: s.payload}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// speech is n packets of 20 ms of PCMU, whose sequence wraps in the middle. Each
// has a voice of its own, so that none can be mistaken for another.
func speech(n int) []sent {
	all := make([]sent, n)
	for i := range all {
		pcm := make([]int16, 160)
		for j := range pcm {
			pcm[j] = int16(6000*math.Sin(2*math.Pi*float64(170+i)*float64(j)/8000)) + int16(i)
		}
		all[i] = sent{
			Header: rtp.Header{
				SequenceNumber: uint16(65536 - n/2 + i),
				Timestamp:      uint32(1<<32 - 160*(n/2) + 160*i),
				SSRC:           7,
			},
			payload: audio.MuLaw.Encode(nil, pcm),
			at:      100*ms + time.Duration(i)*20*ms,
		}
	}
	return all
}

// heard is what a track made of packets.
type heard struct {
	frames []audio.Frame
	pcm    []int16 // at its place on the media clock, at the rate of the first frame
	made   []bool  // by sample: there was audio
	lost   time.Duration
	keys   string
	stats  TrackStats
	end    time.Duration
}

// hear runs packets through a track that is told the time every 20 ms, and
// checks what must be true of all that comes out.
func hear(t testing.TB, cfg TrackConfig, packets []sent) heard {
	t.Helper()
	tr, err := NewTrack(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var h heard
	tick := time.Duration(0)
	for _, p := range packets {
		for ; tick < p.at; tick += 20 * ms {
			h.frames = tr.Advance(h.frames, tick)
		}
		h.frames = tr.Push(h.frames, p.bytes(t), p.at)
	}
	for last := tick + 500*ms; tick < last; tick += 20 * ms {
		h.frames = tr.Advance(h.frames, tick)
	}
	h.frames = tr.Flush(h.frames)
	h.stats, h.end = tr.Stats(), tr.End()
	checkFrames(t, cfg, h.frames)
	for _, f := range h.frames {
		h.lost += f.Lost
		h.keys += f.Keys
		if f.Rate != 8000 || len(f.PCM) == 0 {
			continue
		}
		at := int((f.Start*8000 + time.Second/2) / time.Second)
		for len(h.pcm) < at+len(f.PCM) {
			h.pcm, h.made = append(h.pcm, 0), append(h.made, false)
		}
		copy(h.pcm[at:], f.PCM)
		for i := range f.PCM {
			h.made[at+i] = true
		}
	}
	return h
}

// checkFrames holds frames to what [audio.Reader] promises.
func checkFrames(t testing.TB, cfg TrackConfig, frames []audio.Frame) {
	t.Helper()
	end := cfg.After
	for i, f := range frames {
		if f.Leg != cfg.Leg || f.Start < end || f.Rate < minRateHz || f.Rate > maxRateHz {
			t.Fatalf("frame %d of leg %v begins at %v after %v, rate %d", i, f.Leg, f.Start, end, f.Rate)
		}
		end = f.End()
		if f.Lost < 0 || f.Lost > end-f.Start+time.Microsecond {
			t.Fatalf("frame %d of %v has %v lost", i, end-f.Start, f.Lost)
		}
	}
}

// spoken is how much audio there was.
func (h heard) spoken() time.Duration {
	n := 0
	for _, made := range h.made {
		if made {
			n++
		}
	}
	return audio.Span(n, 8000)
}

// gaps lists the stretches without audio between the first and the last.
func (h heard) gaps() (all []string) {
	first := slices.Index(h.made, true)
	for i := first; i >= 0 && i < len(h.made); {
		n := slices.Index(h.made[i:], false)
		if n < 0 {
			break
		}
		m := slices.Index(h.made[i+n:], true)
		if m < 0 {
			break
		}
		all = append(all, fmt.Sprintf("%v-%v", audio.Span(i+n, 8000), audio.Span(i+n+m, 8000)))
		i += n + m
	}
	return all
}

func withoutWindow(leg audio.Leg) TrackConfig {
	cfg := DefaultTrackConfig(leg)
	cfg.Formats = append(StaticFormats(),
		Format{PayloadType: 101, Encoding: "telephone-event", ClockHz: 8000, Channels: 1},
		Format{PayloadType: 96, Encoding: "L16", ClockHz: 16000, Channels: 1},
		Format{PayloadType: 97, Encoding: "L16", ClockHz: 8000, Channels: 1})
	return cfg
}

// The table says what happens to thirty packets of speech on their way, and what
// must be heard of them.
func TestTrackHearsWhatCame(t *testing.T) {
	cfg := withoutWindow(audio.Caller)
	for _, tt := range []struct {
		name   string
		way    func(p []sent) []sent
		spoken time.Duration // audio, made up or not
		lost   time.Duration
		gaps   string
		same   bool // each sample that came is where it belongs
		stats  TrackStats
	}{
		{
			name: "nothing happens", way: func(p []sent) []sent { return p },
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30},
		},
		{
			name:   "one packet is lost",
			way:    func(p []sent) []sent { return slices.Delete(p, 10, 11) },
			spoken: 600 * ms, lost: 20 * ms, stats: TrackStats{Packets: 29, Lost: 1},
		},
		{
			name:   "five packets are lost",
			way:    func(p []sent) []sent { return slices.Delete(p, 10, 15) },
			spoken: 600 * ms, lost: 100 * ms, stats: TrackStats{Packets: 25, Lost: 5},
		},
		{
			name: "two swap places",
			way: func(p []sent) []sent {
				p[10], p[11] = p[11], p[10]
				p[10].at, p[11].at = p[11].at, p[10].at
				return p
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30},
		},
		{
			name: "one is late, but in time",
			way: func(p []sent) []sent {
				late := p[10]
				late.at = p[17].at
				return slices.Insert(slices.Delete(p, 10, 11), 17, late)
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30},
		},
		{
			name: "one is too late",
			way: func(p []sent) []sent {
				late := p[10]
				late.at = p[25].at
				return slices.Insert(slices.Delete(p, 10, 11), 25, late)
			},
			spoken: 600 * ms, lost: 20 * ms, stats: TrackStats{Packets: 29, Lost: 1, Late: 1},
		},
		{
			name: "all come twice",
			way: func(p []sent) (all []sent) {
				for _, s := range p {
					all = append(all, s, s)
				}
				return all
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30, Duplicate: 30},
		},
		{
			name: "the peer is silent for two seconds and says so",
			way: func(p []sent) []sent {
				for i := range p[15:] {
					p[15+i].Timestamp += 16000
					p[15+i].at += 2000 * ms
				}
				p[15].Marker = true
				return p
			},
			spoken: 600 * ms, gaps: "400ms-2.4s", stats: TrackStats{Packets: 30},
		},
		{
			name: "the peer is silent, and its clock stands still meanwhile",
			way: func(p []sent) []sent {
				for i := range p[15:] {
					p[15+i].at += 10 * time.Second
				}
				return p
			},
			spoken: 600 * ms, gaps: "400ms-10.4s", stats: TrackStats{Packets: 30, Changes: 1},
		},
		{
			name: "its clock jumps by hours",
			way: func(p []sent) []sent {
				for i := range p[15:] {
					p[15+i].Timestamp += 1 << 30
				}
				return p
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30, Changes: 1},
		},
		{
			name: "its clock jumps back by hours",
			way: func(p []sent) []sent {
				for i := range p[15:] {
					p[15+i].Timestamp -= 1 << 30
				}
				return p
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30, Changes: 1},
		},
		{
			name: "its sequence begins anew",
			way: func(p []sent) []sent {
				for i := range p[15:] {
					p[15+i].SequenceNumber += 20000
				}
				return p
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30, Changes: 1},
		},
		{
			name: "its source changes with everything",
			way: func(p []sent) []sent {
				for i := range p[15:] {
					p[15+i].SequenceNumber += 20000
					p[15+i].Timestamp += 123456789
					p[15+i].SSRC = 8
				}
				return p
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30, Changes: 1},
		},
		{
			name: "a stray packet of another source comes",
			way: func(p []sent) []sent {
				stray := p[10]
				stray.SSRC = 99
				return slices.Insert(p, 11, stray)
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30},
		},
		{
			name: "two sources speak at once",
			way: func(p []sent) (all []sent) {
				for _, s := range p {
					other := s
					other.SSRC = 99
					all = append(all, s, other)
				}
				return all
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30, Foreign: 0},
		},
		{
			name: "some are of a type that nobody told of",
			way: func(p []sent) []sent {
				for i := 10; i < 12; i++ {
					p[i].PayloadType = 120
				}
				return p
			},
			spoken: 560 * ms, gaps: "300ms-340ms", stats: TrackStats{Packets: 28, Unsupported: 2},
		},
		{
			name: "the first half never came: the call was tapped late",
			way: func(p []sent) []sent {
				return p[15:]
			},
			spoken: 300 * ms, same: true, stats: TrackStats{Packets: 15},
		},
		{
			name: "it comes in lumps of 200 ms",
			way: func(p []sent) []sent {
				for i := range p {
					p[i].at = p[i/10*10+min(9, len(p)-1-i/10*10)].at
				}
				return p
			},
			spoken: 600 * ms, stats: TrackStats{Packets: 30},
		},
		{
			name: "the network stands still for two seconds and then brings all",
			way: func(p []sent) []sent {
				for i := range p[10:] {
					p[10+i].at = max(p[10+i].at, 2300*ms)
				}
				return p
			},
			spoken: 600 * ms, gaps: "300ms-1.3s", stats: TrackStats{Packets: 30},
		},
		{
			name: "it comes ten times as fast as it should",
			way: func(p []sent) []sent {
				for i := range p {
					p[i].at = 100*ms + time.Duration(i)*2*ms
				}
				return p
			},
			spoken: 600 * ms, same: true, stats: TrackStats{Packets: 30},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plain := hear(t, cfg, speech(30))
			got := hear(t, cfg, tt.way(speech(30)))
			got.stats.Bytes = 0
			if got.stats != tt.stats {
				t.Errorf("counted %+v, want %+v", got.stats, tt.stats)
			}
			if s := got.spoken(); s != tt.spoken {
				t.Errorf("%v of audio, want %v", s, tt.spoken)
			}
			if got.lost != tt.lost {
				t.Errorf("%v lost, want %v", got.lost, tt.lost)
			}
			if gaps := strings.Join(got.gaps(), " "); gaps != tt.gaps {
				t.Errorf("gaps %q, want %q", gaps, tt.gaps)
			}
			for i, made := range got.made {
				if tt.same && made && got.pcm[i] != plain.pcm[i] {
					t.Fatalf("sample %d (%v) is %d, want %d", i, audio.Span(i, 8000), got.pcm[i], plain.pcm[i])
				}
			}
		})
	}
}

func TestTrackDoesNotCareAboutOrderWithinTheWindow(t *testing.T) {
	cfg := withoutWindow(audio.Caller)
	want := hear(t, cfg, speech(60))
	rapid.Check(t, func(r *rapid.T) {
		p := speech(60)
		for i := range p {
			p[i].at += time.Duration(rapid.IntRange(0, 170).Draw(r, "delay")) * ms
		}
		p[0].at = 100 * ms // decides where the stream is on the clock
		slices.SortStableFunc(p, func(a, b sent) int { return int(a.at - b.at) })
		if got := hear(t, cfg, p); !slices.Equal(got.pcm, want.pcm) || got.lost != 0 || got.stats != want.stats {
			r.Fatalf("another order is heard otherwise: %+v, %v", got.stats, got.gaps())
		}
	})
}

func TestTrackHearsFivePercentLossReorderedByTen(t *testing.T) {
	cfg := withoutWindow(audio.Caller)
	want := hear(t, cfg, speech(120))
	rapid.Check(t, func(r *rapid.T) {
		all := speech(120)
		var p []sent
		lost := 0
		for i, s := range all {
			if i > 0 && i < len(all)-1 && rapid.IntRange(0, 19).Draw(r, "lost") == 0 {
				lost++
				continue
			}
			if i > 0 {
				s.at += time.Duration(rapid.IntRange(0, 9).Draw(r, "places")) * 20 * ms
			}
			p = append(p, s)
		}
		slices.SortStableFunc(p, func(a, b sent) int { return int(a.at - b.at) })
		got := hear(t, cfg, p)
		if got.stats.Lost != uint64(lost) || got.lost != time.Duration(lost)*20*ms || got.spoken() != want.spoken() || len(got.gaps()) > 0 {
			r.Fatalf("%d lost: %+v, %v made up, %v heard, gaps %v", lost, got.stats, got.lost, got.spoken(), got.gaps())
		}
	})
}

func TestTrackDoesNotCareAboutDuplicates(t *testing.T) {
	cfg := withoutWindow(audio.Caller)
	want := hear(t, cfg, speech(60))
	rapid.Check(t, func(r *rapid.T) {
		p := speech(60)
		for _, i := range rapid.SliceOf(rapid.IntRange(0, 59)).Draw(r, "again") {
			again := p[i]
			again.at += time.Duration(rapid.IntRange(0, 900).Draw(r, "later")) * ms
			p = append(p, again)
		}
		slices.SortStableFunc(p, func(a, b sent) int { return int(a.at - b.at) })
		if got := hear(t, cfg, p); !slices.Equal(got.pcm, want.pcm) || got.lost != 0 || got.stats.Packets != 60 {
			r.Fatalf("heard otherwise: %+v", got.stats)
		}
	})
}

// Crystals differ by up to 100 ppm, which is 360 ms in an hour; more in less
// time is to show the bounds. Someone speaks all the time, or pauses.
func TestTrackFollowsTheSendersClockForAnHour(t *testing.T) {
	const packet = 100 * ms
	loud := audio.MuLaw.Encode(nil, tone(800, 8000))
	silent := audio.MuLaw.Encode(nil, make([]int16, 800))
	for _, tt := range []struct {
		ppm    int
		pauses bool
		length time.Duration
		off    time.Duration // at most
	}{
		{100, true, time.Hour, 100 * ms},
		{-300, true, 20 * time.Minute, 200 * ms}, // leaves out whole packets
		{200, false, 10 * time.Minute, 140 * ms},
		{3000, true, 5 * time.Minute, 130 * ms},
		{3000, false, 5 * time.Minute, driftForced + 40*ms},
		{-3000, true, 5 * time.Minute, 200 * ms},
		// Early, and nothing may be cut off until it is too much.
		{-15000, false, 5 * time.Minute, 3*time.Second + packet},
	} {
		tr, err := NewTrack(DefaultTrackConfig(audio.Caller))
		if err != nil {
			t.Fatal(err)
		}
		var frames []audio.Frame
		var worst time.Duration
		s := sent{Header: rtp.Header{Version: 2}}
		for i := range int(tt.length / packet) {
			at := time.Duration(i) * packet
			at += at * time.Duration(tt.ppm) / 1e6
			s.SequenceNumber, s.Timestamp = uint16(i), uint32(800*i)
			s.payload = loud
			if tt.pauses && i%100 > 80 {
				s.payload = silent
			}
			frames = tr.Push(frames[:0], s.bytes(t), at)
			if off := tr.End() - at - packet; off < -worst || off > worst {
				worst = max(off, -off)
			}
		}
		if worst > tt.off || worst < tt.off/4 {
			t.Errorf("%d ppm, pauses %v: up to %v off, want %v", tt.ppm, tt.pauses, worst, tt.off)
		}
	}
}

func TestTrackTellsTheTimeWhereNothingComes(t *testing.T) {
	tr, err := NewTrack(DefaultTrackConfig(audio.Callee))
	if err != nil {
		t.Fatal(err)
	}
	var frames []audio.Frame
	for at := time.Duration(0); at <= 10*time.Second; at += 60 * ms {
		frames = tr.Advance(frames, at)
	}
	if len(frames) < 8 || len(frames) > 10 {
		t.Errorf("%d marks in ten seconds", len(frames))
	}
	if last := frames[len(frames)-1]; len(last.PCM) != 0 || last.Start < 8*time.Second || last.Start > 9500*ms {
		t.Errorf("the last mark is at %v with %d samples", last.Start, len(last.PCM))
	}
}

func TestTrackBoundsAStreamThatIsTooFast(t *testing.T) {
	p := speech(1000)
	for i := range p {
		p[i].at = 100*ms + time.Duration(i)*ms // 20 s in one
	}
	got := hear(t, DefaultTrackConfig(audio.Caller), p)
	if limit := p[999].at + 3*time.Second + 20*ms; got.end > limit {
		t.Errorf("heard up to %v, limit %v", got.end, limit)
	}
	if got.stats.Early < 500 {
		t.Errorf("counted %+v", got.stats)
	}
}

// keys is what pressing keys sends: each for 100 ms, told every 50 ms, and its
// end three times, RFC 4733 section 2.5.1.
func keys(after sent, codes ...uint8) (all []sent) {
	at := after.at
	seq, ts := after.SequenceNumber, after.Timestamp+160
	for _, code := range codes {
		for i, duration := range []uint16{400, 800, 800, 800} {
			s := sent{Header: rtp.Header{PayloadType: 101, SSRC: after.SSRC, Timestamp: ts, Marker: i == 0}}
			if i < 2 {
				at += 50 * ms
			}
			seq++
			s.SequenceNumber, s.at = seq, at
			end := byte(0)
			if i > 0 {
				end = 0x80
			}
			s.payload = []byte{code, end | 10, byte(duration >> 8), byte(duration)}
			all = append(all, s)
		}
		at += 100 * ms
		ts += 1600
	}
	return all
}

func TestTrackHearsKeys(t *testing.T) {
	cfg := withoutWindow(audio.Callee)
	talk := speech(5)
	for _, tt := range []struct {
		name  string
		codes []uint8
		way   func([]sent) []sent
		want  string
	}{
		{name: "all keys", codes: []uint8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, want: "0123456789*#ABCD"},
		{name: "one key twice", codes: []uint8{5, 5}, want: "55"},
		{name: "a hook flash", codes: []uint8{16, 5}, want: "5"},
		{name: "the ends are lost", codes: []uint8{1, 2, 3}, want: "123", way: func(p []sent) (all []sent) {
			for i, s := range p {
				if i%4 == 0 {
					all = append(all, s)
				}
			}
			return all
		}},
		{name: "only an end comes", codes: []uint8{1, 2, 3}, want: "123", way: func(p []sent) (all []sent) {
			for i, s := range p {
				if i%4 == 3 {
					all = append(all, s)
				}
			}
			return all
		}},
		{name: "all comes twice", codes: []uint8{1, 1, 2}, want: "112", way: func(p []sent) (all []sent) {
			for _, s := range p {
				all = append(all, s, s)
			}
			return all
		}},
		{name: "an end comes again after the next key", codes: []uint8{1, 2}, want: "12", way: func(p []sent) []sent {
			p[3].at = p[5].at
			return append(append(slices.Clone(p[:3]), p[4], p[3]), p[5:]...)
		}},
		{name: "a payload too short", codes: []uint8{1, 2}, want: "2", way: func(p []sent) []sent {
			for i := range 4 {
				p[i].payload = p[i].payload[:3]
			}
			return p
		}},
		{name: "held for twelve seconds", codes: []uint8{9}, want: "9", way: func(p []sent) (all []sent) {
			s := p[0]
			for length := 400; length <= 12*8000; length += 400 {
				s.at += 50 * ms
				of, end := min(length, 0xffff), byte(0)
				if length > 0xffff { // the second segment
					s.Timestamp = p[0].Timestamp + 0xffff
					of = length - 0xffff
				}
				if length == 12*8000 {
					end = 0x80
				}
				s.payload = []byte{9, end, byte(of >> 8), byte(of)}
				all = append(all, s)
				s.SequenceNumber++
				s.Marker = false
			}
			return all
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := keys(talk[4], tt.codes...)
			if tt.way != nil {
				p = tt.way(p)
			}
			if got := hear(t, cfg, append(slices.Clone(talk), p...)); got.keys != tt.want {
				t.Errorf("heard %q, want %q", got.keys, tt.want)
			}
		})
	}
}

func TestTrackMakesComfortNoiseForAWhile(t *testing.T) {
	p := speech(30)
	for i := range p[10:] {
		p[10+i].at += 5 * time.Second
		p[10+i].Timestamp += 5 * 8000
		p[10+i].SequenceNumber++
	}
	p[10].Marker = true
	noise := p[9]
	noise.PayloadType, noise.payload = 13, []byte{60}
	noise.SequenceNumber++
	noise.Timestamp += 160
	noise.at += 20 * ms
	got := hear(t, DefaultTrackConfig(audio.Caller), slices.Insert(p, 10, noise))
	if gaps := strings.Join(got.gaps(), " "); gaps != "2.3s-5.3s" {
		t.Errorf("gaps %q, want 2 s of noise and then silence", gaps)
	}
	if got.lost != 0 || got.stats.Packets != 31 {
		t.Errorf("%v lost, counted %+v", got.lost, got.stats)
	}
	sum := 0.0
	for _, v := range got.pcm[4000:16000] {
		sum += float64(v) * float64(v)
	}
	if level := 10 * math.Log10(sum/12000/32768/32768); math.Abs(level+60) > 1 {
		t.Errorf("noise of %.1f dB, want -60", level)
	}
}

func TestTrackFollowsTypesInMidStream(t *testing.T) {
	var coder audio.G722Encoder
	var p []sent
	s := sent{Header: rtp.Header{SSRC: 3}, at: 0}
	for i := range 40 {
		s.SequenceNumber++
		s.at += 20 * ms
		switch {
		case i < 10:
			s.PayloadType, s.payload = 0, audio.MuLaw.Encode(nil, tone(160, 8000))
		case i < 20:
			s.PayloadType, s.payload = 9, coder.Encode(nil, tone(320, 16000))
		case i < 30:
			s.PayloadType, s.payload = 8, audio.ALaw.Encode(nil, tone(160, 8000))
		default:
			s.PayloadType, s.payload = 96, make([]byte, 640)
		}
		p = append(p, s)
		s.Timestamp += 160
		if i >= 30 {
			s.Timestamp += 160 // its clock is twice as fast
		}
	}
	got := hear(t, withoutWindow(audio.Caller), p)
	var spans []string
	for _, f := range got.frames {
		if len(f.PCM) > 0 {
			text := fmt.Sprintf("%d Hz", f.Rate)
			if len(spans) == 0 || spans[len(spans)-1] != text {
				spans = append(spans, text)
			}
		}
	}
	if all := strings.Join(spans, ", "); all != "8000 Hz, 16000 Hz, 8000 Hz, 16000 Hz" {
		t.Errorf("heard at %s", all)
	}
	total := time.Duration(0)
	for _, f := range got.frames {
		total += f.End() - f.Start
	}
	if total != 800*ms || got.lost != 0 {
		t.Errorf("heard %v with %v lost, want 800ms", total, got.lost)
	}
}

func TestTrackBelievesTimesWhereTheClockIsDoubled(t *testing.T) {
	var coder audio.G722Encoder
	var p []sent
	for i := range 100 {
		p = append(p, sent{
			Header:  rtp.Header{PayloadType: 9, SequenceNumber: uint16(i), Timestamp: uint32(320 * i)},
			payload: coder.Encode(nil, tone(320, 16000)), at: time.Duration(i) * 20 * ms,
		})
	}
	got := hear(t, DefaultTrackConfig(audio.Caller), p)
	span := time.Duration(0)
	for _, f := range got.frames {
		span += f.End() - f.Start
	}
	if span != 2*time.Second || got.stats.Changes != 1 || got.end > 2300*ms {
		t.Errorf("heard %v up to %v, counted %+v", span, got.end, got.stats)
	}
}

// Compared with silence in its place, what is made up must be much nearer to
// what was lost, as long as a voice goes on.
func TestLossesAreMadeUpOfWhatWasHeard(t *testing.T) {
	voice := make([]int16, 8000)
	for i := range voice { // 120 Hz with overtones
		for h := 1; h <= 6; h++ {
			voice[i] += int16(3000 / h * int(math.Round(1000*math.Sin(2*math.Pi*120*float64(h*i)/8000))) / 1000)
		}
	}
	var p []sent
	for i := range 50 {
		p = append(p, sent{
			Header:  rtp.Header{SequenceNumber: uint16(i), Timestamp: uint32(160 * i), PayloadType: 97},
			payload: l16(voice[160*i : 160*i+160]), at: time.Duration(i) * 20 * ms,
		})
	}
	cfg := withoutWindow(audio.Caller)
	whole := hear(t, cfg, slices.Clone(p))
	got := hear(t, cfg, slices.Delete(slices.Clone(p), 25, 26))
	var signal, noise float64
	for i := 25 * 160; i < 26*160; i++ {
		want := float64(whole.pcm[i])
		signal += want * want
		noise += (float64(got.pcm[i]) - want) * (float64(got.pcm[i]) - want)
	}
	if snr := 10 * math.Log10(signal/noise); snr < 6 {
		t.Errorf("one packet is made up at %.1f dB, want 6", snr)
	}
	// A long loss fades to silence.
	got = hear(t, cfg, slices.Delete(slices.Clone(p), 25, 35))
	for i := 25*160 + 8*fadedMs; i < 35*160; i++ {
		if got.pcm[i] != 0 {
			t.Fatalf("sample %d of a long loss is %d", i, got.pcm[i])
		}
	}
	if got.lost != 200*ms {
		t.Errorf("%v lost", got.lost)
	}
}

// l16 is pcm as RTP carries it.
func l16(pcm []int16) (b []byte) {
	for _, v := range pcm {
		b = append(b, byte(uint16(v)>>8), byte(v))
	}
	return b
}

func TestFormatsAreRefusedByName(t *testing.T) {
	for _, tt := range []struct {
		rtpmap string
		want   string // of the error; "" for none
		rateHz int
	}{
		{"PCMU/8000", "", 8000},
		{"pcma/8000/1", "", 8000},
		{"PCMU/16000", "", 16000},
		{"G722/8000", "", 16000},
		{"opus/48000/2", "", 16000},
		{"L16/44100/2", "", 44100},
		{"L16/8000", "", 8000},
		{"telephone-event/8000", "", 0},
		{"telephone-event/48000", "", 0},
		{"CN/8000", "", 0},
		{"G729/8000", "G729 is not supported: send PCMU, PCMA, G722, opus or L16", 0},
		{"AMR-WB/16000", "AMR-WB is not supported", 0},
		{"L16/96000", "L16/96000 is not supported", 0},
		{"L16/8000/6", "L16/8000/6 is not supported", 0},
		{"opus/8000", "opus/8000 is not supported", 0},
		{"PCMU", "must be ENCODING/CLOCK", 0},
		{"PCMU/x", `clock "x"`, 0},
		{"PCMU/8000/0", `channels "0"`, 0},
	} {
		f, err := ParseFormat(96, tt.rtpmap)
		if err == nil {
			err = f.Check()
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.rtpmap, err, tt.want)
		}
		if err == nil && f.RateHz() != tt.rateHz {
			t.Errorf("%s is heard at %d Hz, want %d", tt.rtpmap, f.RateHz(), tt.rateHz)
		}
	}
	if f, ok := Static(18); !ok || f.Encoding != "G729" || f.Check() == nil {
		t.Errorf("payload type 18 is %v", f)
	}
	if _, ok := Static(34); ok {
		t.Error("payload type 34 is audio")
	}
}
