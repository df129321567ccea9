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
	want := hear(t, cfg, speech(200))
	rapid.Check(t, func(r *rapid.T) {
		all := speech(200)
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
		{-100, true, time.Hour, 200 * ms}, // leaves out whole packets
		{100, false, 20 * time.Minute, 140 * ms},
		{3000, true, 5 * time.Minute, 130 * ms},
		{3000, false, 5 * time.Minute, driftForced + 40*ms},
		{-3000, true, 5 * time.Minute, 200 * ms},
		// Early, and nothing may be cut off until it is too much.
		{-5000, false, 5 * time.Minute, time.Second + packet},
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
	if len(frames) < 9 || len(frames) > 20 {
		t.Errorf("%d marks in ten seconds", len(frames))
	}
	if last := frames[len(frames)-1]; len(last.PCM) != 0 || last.Start < 8500*ms || last.Start > 9500*ms {
		t.Errorf("the last mark is at %v with %d samples", last.Start, len(last.PCM))
	}
}

func TestTrackBoundsAStreamThatIsTooFast(t *testing.T) {
	p := speech(1000)
	for i := range p {
		p[i].at = 100*ms + time.Duration(i)*ms // 20 s in one
	}
	got := hear(t, DefaultTrackConfig(audio.Caller), p)
	if limit := p[999].at + time.Second + 20*ms; got.end > limit {
		t.Errorf("heard up to %v, limit %v", got.end, limit)
	}
	if got.stats.Early < 500 {
		t.Errorf("counted %+v", got.stats)
	}
}
