package vosk

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

var thrifty = transcribe.Options{
	Phrases: []string{"do not tell anyone", "please … the verification code", "buy gift cards"},
	Thrifty: true,
}

// said hears pcm at a time of a fresh session, in frames of random sizes, and
// pauses at its end.
func said(t *testing.T, s transcribe.Session, at time.Duration, pcm []int16, seed uint64) []transcribe.Segment {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	var out []transcribe.Segment
	for n := 0; n < len(pcm); {
		size := min(len(pcm)-n, 1+random.IntN(rate))
		out = append(out, hear(t, s, at+audio.Span(n, rate), pcm[n:n+size])...)
		n += size
	}
	segs, err := s.(transcribe.Pauser).Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return append(out, segs...)
}

func TestBurstOfARecordingIsTheSameWhateverWasHeardBeside(t *testing.T) {
	engine := newEngine(t, installed(t))
	pcm := speech(t)
	first := open(t, engine, thrifty)
	defer first.Close()
	want := said(t, first, 0, pcm, 1)
	if len(want) == 0 {
		t.Fatal("nothing was heard")
	}
	live := thrifty
	live.Live = true
	other := open(t, engine, live)
	defer other.Close()
	for seed := range uint64(3) {
		said(t, other, time.Duration(seed)*time.Hour, pcm[seed*5000:], seed)
		s := open(t, engine, thrifty)
		got := said(t, s, 0, pcm, 2+seed)
		s.Close()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("heard %v\nwant %v", got, want)
		}
	}
}

func TestBurstsOfLiveLegsShareRecognisers(t *testing.T) {
	engine := newEngine(t, installed(t))
	live := thrifty
	live.Live = true
	pcm := speech(t)
	var legs []transcribe.Session
	for range 8 {
		legs = append(legs, open(t, engine, live))
	}
	for i, s := range legs {
		var text []string
		for _, seg := range said(t, s, time.Duration(i)*time.Minute, pcm, uint64(i)) {
			if !seg.Final || seg.Start < time.Duration(i)*time.Minute || seg.End > time.Duration(i)*time.Minute+audio.Span(len(pcm), rate) {
				t.Errorf("leg %d: segment %+v is not final or outside of what was heard", i, seg)
			}
			text = append(text, seg.Text)
		}
		if all := strings.Join(text, " "); !strings.Contains(all, "verification code") {
			t.Errorf("leg %d heard %q", i, all)
		}
	}
	idle := 0
	for _, l := range engine.thrifty.lists.known {
		idle += len(l.idle)
	}
	if idle != 1 { // one after the other they need no more
		t.Errorf("%d recognisers for %d legs, want 1", idle, len(legs))
	}
	for _, s := range legs {
		s.Close()
		s.Close() // does nothing
	}
	if err := engine.Close(); err != nil {
		t.Error(err)
	}
}

func TestBurstDoesNotWaitForTheEndOfALongSpeech(t *testing.T) {
	engine := newEngine(t, installed(t))
	s := open(t, engine, thrifty)
	defer s.Close()
	pcm := speech(t)
	for len(pcm) < 15*rate {
		pcm = append(pcm, pcm...)
	}
	var early []transcribe.Segment
	for n := 0; n+rate/10 <= len(pcm); n += rate / 10 {
		for _, seg := range hear(t, s, audio.Span(n, rate), pcm[n:n+rate/10]) {
			early = append(early, seg)
			if late := audio.Span(n+rate/10, rate) - seg.Start; late > mostGathered+time.Second {
				t.Errorf("%q is told %v after it began", seg.Text, late)
			}
		}
	}
	if len(early) == 0 {
		t.Error("nothing is told before the end")
	}
	for i := 1; i < len(early); i++ {
		if early[i].Utterance <= early[i-1].Utterance || early[i].Start < early[i-1].End {
			t.Errorf("%+v after %+v", early[i], early[i-1])
		}
	}
}

func TestListsAreForgottenWithTheirRecognisers(t *testing.T) {
	engine := newEngine(t, installed(t))
	pcm := speech(t)[:2*rate]
	for i := range 3 * rememberedLists {
		opt := transcribe.Options{Phrases: []string{"do not tell anyone", strings.Repeat("please ", i+1)}, Thrifty: true, Live: true}
		s := open(t, engine, opt)
		said(t, s, 0, pcm, 1)
		s.Close()
	}
	known := engine.thrifty.lists.known
	if len(known) > rememberedLists {
		t.Errorf("%d lists are known, want %d", len(known), rememberedLists)
	}
	for _, l := range known {
		if len(l.idle) > runtime.GOMAXPROCS(0) || l.sessions != 0 {
			t.Errorf("a list has %d recognisers and %d sessions", len(l.idle), l.sessions)
		}
	}
}
