package twiliosrc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// piecesOf says what a lane made of messages: the number that each message's
// samples had, how much was made up, and where the clock jumped.
func piecesOf(frames []audio.Frame) string {
	var b strings.Builder
	var end time.Duration
	for _, f := range frames {
		if f.Start > end {
			fmt.Fprintf(&b, "jump %v; ", f.Start-end)
		}
		if f.Lost > 0 {
			fmt.Fprintf(&b, "lost %v; ", f.Lost)
		}
		for i := 0; i < len(f.PCM); i += 160 {
			if v := f.PCM[i]; v != 0 {
				fmt.Fprintf(&b, "%d ", v)
			}
		}
		end = f.End()
	}
	return strings.TrimRight(b.String(), "; ")
}

func TestLaneOrdersAndMarksLoss(t *testing.T) {
	type msg struct {
		n, chunk int           // what it says, and its chunk; 0 for none
		stamp    time.Duration // below 0 for none
		at       time.Duration // when it comes
	}
	// seq is message n in its place: 20 ms each from 1.
	seq := func(n int) msg {
		return msg{n, n, time.Duration(n-1) * 20 * ms, time.Duration(n) * 20 * ms}
	}
	all := func(ns ...int) (m []msg) {
		at := time.Duration(0)
		for _, n := range ns {
			at += 20 * ms
			one := seq(n)
			one.at = at
			m = append(m, one)
		}
		return m
	}
	for _, c := range []struct {
		name               string
		messages           []msg
		want               string
		lost, late, double uint64
	}{
		{"in order", all(1, 2, 3, 4), "1 2 3 4", 0, 0, 0},
		{"exchanged", all(1, 3, 2, 4), "1 2 3 4", 0, 0, 0},
		{"the first comes second", all(2, 1, 3), "1 2 3", 0, 0, 0},
		{"in reverse", all(1, 6, 5, 4, 3, 2, 7), "1 2 3 4 5 6 7", 0, 0, 0},
		{"twice", all(1, 2, 2, 3), "1 2 3", 0, 0, 1},
		{"twice while waiting", all(1, 3, 3, 2, 4), "1 2 3 4", 0, 0, 1},
		{"one lost", append(all(1, 2, 3, 4, 5, 6, 8, 9), seq(40)), "", 0, 0, 0}, // see below
		{"going back", all(1, 2, 3, 1, 4), "1 2 3 4", 0, 1, 0},
		{"not numbered", []msg{{1, 0, 0, 20 * ms}, {2, 0, 20 * ms, 40 * ms}, {3, 0, 40 * ms, 60 * ms}}, "1 2 3", 0, 0, 0},
		{"neither numbered nor stamped", []msg{{1, 0, -1, 20 * ms}, {2, 0, -1, 40 * ms}, {3, 0, -1, 2 * time.Second}}, "1 2 jump 1.94s; 3", 0, 0, 0},
		{"numbered and not stamped", []msg{{1, 1, -1, 20 * ms}, {3, 3, -1, 40 * ms}, {2, 2, -1, 60 * ms}, {4, 4, -1, 80 * ms}}, "1 3 4", 0, 1, 0},
		{"silence is no loss", []msg{seq(1), seq(2), {3, 3, 5 * time.Second, 5020 * ms}, {4, 4, 5020 * ms, 5300 * ms}}, "1 2 jump 4.96s; 3 4", 0, 0, 0},
		{"stamps that jitter", []msg{{1, 1, 3 * ms, 20 * ms}, {2, 2, 19 * ms, 40 * ms}, {3, 3, 47 * ms, 60 * ms}, {4, 4, 61 * ms, 80 * ms}}, "1 2 3 4", 0, 0, 0},
		{"stamps in samples are not looked at", []msg{{1, 1, 0, 20 * ms}, {2, 2, 1600 * ms, 40 * ms}, {3, 3, 3200 * ms, 60 * ms}}, "1 2 3", 0, 0, 0},
		{"stamps of years", []msg{{1, 1, 1700000000000 * ms, 20 * ms}, {2, 2, 1700000000020 * ms, 40 * ms}}, "1 2", 0, 0, 0},
	} {
		if c.name == "one lost" {
			c.messages, c.want, c.lost = nil, "1 2 3 lost 20ms; 4 5 7 8 9 10 11 12 13 14 15 16 17 18 19", 1
			for n := 1; n < 20; n++ {
				if n != 6 {
					c.messages = append(c.messages, seq(n))
				}
			}
		}
		var count websock.Counters
		l := &lane{Track: websock.Track{Leg: audio.Caller}, decoder: decoder{format: format{linear, 8000}}, window: 200 * ms, count: &count, base: &base{}}
		l.order.decided = true
		var frames []audio.Frame
		for _, m := range c.messages {
			pcm := make([]int16, 160)
			for i := range pcm {
				pcm[i] = int16(m.n)
			}
			in := media{payload: []byte(b64(little(pcm)))}
			if m.chunk > 0 {
				in.chunk = numbered(m.chunk)
			}
			if m.stamp >= 0 {
				in.stamp = numbered(int(m.stamp / ms))
			}
			if err := l.take(in, m.at); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			frames = append(frames, l.Take()...)
		}
		l.end()
		frames = append(frames, l.Take()...)
		if got := strings.ReplaceAll(piecesOf(frames), " ;", ";"); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if st := count.Stats(); st.Lost != c.lost || st.Late != c.late || st.Duplicate != c.double {
			t.Errorf("%s: lost %d, late %d, twice %d", c.name, st.Lost, st.Late, st.Duplicate)
		}
	}
}

func numbered(n int) count { return count{int64(n), true} }

func TestLaneBeginsAnewWhereStampsDo(t *testing.T) {
	var count websock.Counters
	l := &lane{Track: websock.Track{Leg: audio.Caller}, decoder: decoder{format: format{muLaw, 8000}}, window: 200 * ms, count: &count, base: &base{}}
	at := time.Duration(0)
	heard := 0
	for _, from := range []int{0, 0} { // twice the same numbers
		for n := from; n < from+100; n++ {
			at += 20 * ms
			if err := l.take(media{payload: []byte(b64(make([]byte, 160))), chunk: numbered(n + 1), stamp: numbered(20 * n)}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.end()
	for _, f := range l.Take() {
		heard += len(f.PCM)
	}
	if most := 200 * 160; heard < most-backwards*160 {
		t.Errorf("%d samples of %d were heard: the second begin was taken for the past", heard, most)
	}
}

func TestLaneTellsAudioThatIsNotWhatItIsSaidToBe(t *testing.T) {
	var count websock.Counters
	l := &lane{decoder: decoder{format: format{linear, 8000}}, window: 200 * ms, count: &count, base: &base{}}
	var err error
	for n := 0; n < 100 && err == nil; n++ { // 48 kHz stereo
		err = l.take(media{payload: []byte(b64(make([]byte, 48000/50*4))), stamp: numbered(20 * n)}, time.Duration(n+1)*20*ms)
	}
	var fault *websock.Fault
	if !errors.As(err, &fault) || fault.Status != websock.Invalid || !strings.Contains(fault.Why, "8000 Hz comes 1") {
		t.Errorf("%v", err)
	}
}

func TestByteOrderIsFoundBySpeech(t *testing.T) {
	loud, quiet := sine(400, 8000, 1600), sine(400, 8000, 1600)
	for i := range quiet {
		quiet[i] /= 200
	}
	for _, c := range []struct {
		name string
		pcm  []int16
		big  bool
	}{{"loud", loud, false}, {"loud", loud, true}, {"quiet", quiet, false}, {"quiet", quiet, true}} {
		d := decoder{format: format{linear, 8000}}
		payload := little(c.pcm)
		if c.big {
			payload = big(c.pcm)
		}
		var got []int16
		for i := 0; i < len(payload); i += 320 {
			got = d.decode(got, payload[i:i+320])
		}
		if !same(got, c.pcm, 0) {
			t.Errorf("%s, high byte first %v: heard other samples", c.name, c.big)
		}
	}
}

func TestEncodingsAreKnownByAllTheirNames(t *testing.T) {
	for _, c := range []struct {
		encoding       string
		rate, channels int
		want           string // "" for an error
	}{
		{"", 0, 0, "PCMU/8000"},
		{"audio/x-mulaw", 8000, 1, "PCMU/8000"},
		{"PCMU", 8000, 1, "PCMU/8000"},
		{"audio/x-alaw", 8000, 1, "PCMA/8000"},
		{"PCMA/8000", 0, 0, "PCMA/8000"},
		{"audio/x-l16", 16000, 1, "L16/16000"},
		{"audio/L16;rate=16000", 0, 1, "L16/16000"},
		{"L16@24000h", 0, 1, "L16/24000"},
		{"raw/slin", 8000, 0, "L16/8000"},
		{"base64", 8000, 0, "L16/8000"},
		{"G722", 8000, 1, "G722/16000"},
		{"OPUS", 16000, 1, ""},
		{"AMR-WB", 16000, 1, ""},
		{"PCMU", 8000, 2, ""},
		{"L16", 192000, 1, ""},
		{"L16", 4000, 1, ""},
	} {
		f, err := parseFormat(c.encoding, c.rate, c.channels)
		if c.want == "" && err == nil || c.want != "" && (err != nil || f.String() != c.want) {
			t.Errorf("%s %d Hz, %d channels: %v, %v; want %q", c.encoding, c.rate, c.channels, f, err, c.want)
		}
	}
}
