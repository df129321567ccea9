package grpcsrc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// step is a run of so many ms, that starts at start ms (below 0: not told) and
// comes at at ms; or with mark, nothing until then.
type step struct {
	start, long, at int
	lost            int
	mark            bool
}

func TestRunsArePutOnTheClock(t *testing.T) {
	for name, c := range map[string]struct {
		steps []step
		want  string // frames as start+length, ms; () are marks
		err   string
	}{
		"one after another":           {[]step{{-1, 20, 20, 0, false}, {-1, 20, 40, 0, false}, {-1, 20, 60, 0, false}}, "0+60", ""},
		"first comes late":            {[]step{{-1, 20, 520, 0, false}, {-1, 20, 540, 0, false}}, "500+40", ""},
		"jitter is not a gap":         {[]step{{-1, 20, 20, 0, false}, {-1, 20, 300, 0, false}, {-1, 20, 301, 0, false}}, "0+60", ""},
		"a pause is":                  {[]step{{-1, 20, 20, 0, false}, {-1, 20, 1020, 0, false}}, "0+20 1000+20", ""},
		"told starts":                 {[]step{{0, 20, 500, 0, false}, {20, 20, 500, 0, false}, {100, 20, 510, 0, false}}, "0+40 100+20", ""},
		"another clock":               {[]step{{0, 20, 20, 0, false}, {17, 20, 40, 0, false}, {45, 20, 60, 0, false}}, "0+60", ""},
		"overlap":                     {[]step{{0, 200, 200, 0, false}, {50, 20, 210, 0, false}}, "0+60 60+60 120+60 180+20", "overlaps"},
		"too far ahead":               {[]step{{61_000, 20, 20, 0, false}}, "", "starts at 1m1s"},
		"a minute ahead":              {[]step{{60_000, 20, 20, 0, false}}, "60000+20", ""},
		"a long one is cut":           {[]step{{0, 150, 150, 0, false}}, "0+60 60+60 120+30", ""},
		"losses are where they were":  {[]step{{0, 150, 150, 100, false}}, "0+60-60 60+60-40 120+30", ""},
		"more lost than there is":     {[]step{{0, 20, 20, 100, false}}, "0+20-20", ""},
		"marks":                       {[]step{{-1, 20, 20, 0, false}, {at: 1000, mark: true}, {at: 2000, mark: true}, {-1, 20, 3000, 0, false}}, "0+20 (500) (1500) 2980+20", ""},
		"audio just before a mark":    {[]step{{-1, 20, 20, 0, false}, {at: 400, mark: true}, {-1, 20, 420, 0, false}}, "0+20 20+20", ""},
		"late after a mark is heard":  {[]step{{0, 20, 20, 0, false}, {at: 3000, mark: true}, {20, 20, 3010, 0, false}, {40, 20, 3011, 0, false}}, "0+20 (2500) 2500+40", ""},
		"and a pause makes up for it": {[]step{{0, 20, 20, 0, false}, {at: 3000, mark: true}, {20, 20, 3010, 0, false}, {4000, 20, 4020, 0, false}}, "0+20 (2500) 2500+20 4000+20", ""},
		"nothing is still there":      {[]step{{-1, 0, 20, 0, false}, {0, 0, 20, 0, false}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tr := &track{leg: audio.Caller, rateHz: 8000}
			said := ""
			for _, s := range c.steps {
				at := time.Duration(s.at) * ms
				if s.mark {
					tr.mark(at)
					continue
				}
				start := time.Duration(s.start) * ms
				if err := tr.sound(start, make([]int16, 8*s.long), time.Duration(s.lost)*ms, at); err != nil {
					said = err.Error()
				}
			}
			tr.flush()
			var got []string
			for _, f := range tr.take() {
				text := fmt.Sprintf("%d+%d", f.Start/ms, audio.Span(len(f.PCM), f.Rate)/ms)
				if len(f.PCM) == 0 {
					text = fmt.Sprintf("(%d)", f.Start/ms)
				}
				if f.Lost > 0 {
					text += fmt.Sprintf("-%d", f.Lost/ms)
				}
				got = append(got, text)
			}
			if all := strings.Join(got, " "); all != c.want || (c.err == "") != (said == "") || !strings.Contains(said, c.err) {
				t.Errorf("got %q, %q; want %q, %q", all, said, c.want, c.err)
			}
		})
	}
}

// pumped is what is heard of messages that come at once.
func pumped(t *testing.T, open *callwardenv1.CallOpen, say ...*callwardenv1.StreamRequest) (frames []audio.Frame, end error) {
	t.Helper()
	o, err := parseOpen(open)
	if err != nil {
		t.Fatal(err)
	}
	c := newConversation(o, time.Minute, &counters{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.pump(&callwardenv1.StreamRequest{Open: open}, func() (*callwardenv1.StreamRequest, error) {
			if len(say) == 0 {
				return nil, io.EOF
			}
			req := say[0]
			say = say[1:]
			return req, nil
		})
	}()
	defer func() { close(c.quit); <-done }()
	for {
		f, err := c.ReadFrame(t.Context())
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
}

func TestSenderFasterThanSpeechIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var say []*callwardenv1.StreamRequest
		for range 20 {
			say = append(say, sounds(callerLeg, make([]byte, 16000)...)) // a second each
		}
		frames, err := pumped(t, &callwardenv1.CallOpen{RateHz: 8000}, say...)
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 14*time.Second || took > 16*time.Second {
			t.Errorf("20 s of audio took %v, want 5 s less", took)
		}
		n := 0
		for _, f := range frames {
			n += len(f.PCM)
		}
		if n != 20*8000 {
			t.Errorf("%d samples were heard", n)
		}
	})
}

func TestLegThatSendsNothingIsToldTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := &callwardenv1.CallOpen{RateHz: 8000}
		o, err := parseOpen(open)
		if err != nil {
			t.Fatal(err)
		}
		c := newConversation(o, 10*time.Second, &counters{})
		hold := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.pump(&callwardenv1.StreamRequest{Open: open}, func() (*callwardenv1.StreamRequest, error) { <-hold; return nil, io.EOF })
		}()
		marks := map[audio.Leg]int{}
		for {
			f, err := c.ReadFrame(t.Context())
			if err != nil {
				if err.Error() != "nothing came for 10s" {
					t.Error(err)
				}
				break
			}
			if len(f.PCM) > 0 {
				t.Errorf("frame %+v", f)
			}
			marks[f.Leg]++
		}
		if marks[audio.Caller] < 8 || marks[audio.Callee] != marks[audio.Caller] {
			t.Errorf("marks %v", marks)
		}
		close(hold)
		close(c.quit)
		<-done
	})
}

func TestPromptsThatNobodyReadsHaveNoRoom(t *testing.T) {
	o, err := parseOpen(&callwardenv1.CallOpen{RateHz: 8000, Wants: &callwardenv1.CallWants{Prompts: true}})
	if err != nil {
		t.Fatal(err)
	}
	p := player{newPeer(o, &counters{}, quiet())}
	for i := range promptsMost + 1 {
		err = p.Play(prompt())
		if (err != nil) != (i == promptsMost) {
			t.Errorf("prompt %d: %v", i, err)
		}
	}
	p.close()
	if err := p.Play(prompt()); err == nil {
		t.Error("something is said into a call that is over")
	}
	p.Tell(sink.Event{Type: sink.RiskLevel, Data: &callwardenv1.RiskLevel{}})
	if n := p.count.untold.Load(); n != 1 {
		t.Errorf("%d untold", n)
	}
}

// Whatever messages come, the frames of a leg are in order and do not overlap,
// what is made up is no more than there is, nothing is far ahead of the clock,
// and the call ends.
func FuzzMessages(f *testing.F) {
	seed := func(rate int32, all ...*callwardenv1.StreamRequest) {
		var b bytes.Buffer
		for _, m := range all {
			data, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			b.WriteByte(byte(len(data)))
			b.Write(data)
		}
		f.Add(rate, b.Bytes())
	}
	at := func(d time.Duration, n int) *callwardenv1.StreamRequest {
		return &callwardenv1.StreamRequest{Audio: []*callwardenv1.CallAudio{{Leg: calleeLeg, Start: durationpb.New(d), Samples: make([]byte, n), Lost: durationpb.New(ms)}}}
	}
	seed(8000, sounds(callerLeg, make([]byte, 100)...), hangsUp())
	seed(8000, at(0, 40), at(time.Second, 40), at(time.Second, 40), at(2*time.Second, 0))
	seed(16000, at(time.Minute, 40), sounds(calleeLeg, 1, 2, 3, 4), at(0, 20))
	seed(11025, &callwardenv1.StreamRequest{Keys: []*callwardenv1.CallKeys{{Leg: callerLeg, Keys: "12#"}}, HangUp: &callwardenv1.CallHangUp{Reason: "x"}})
	seed(48000, sounds(nobodyLeg, 1, 2), opens(&callwardenv1.CallOpen{}))
	f.Fuzz(func(t *testing.T, rate int32, data []byte) {
		if _, err := parseOpen(&callwardenv1.CallOpen{RateHz: rate}); err != nil {
			return
		}
		var say []*callwardenv1.StreamRequest
		for len(data) > 0 && len(say) < 50 {
			n := min(int(data[0]), len(data)-1)
			m := &callwardenv1.StreamRequest{}
			if proto.Unmarshal(data[1:1+n], m) == nil {
				say = append(say, m)
			}
			data = data[1+n:]
		}
		synctest.Test(t, func(t *testing.T) {
			frames, err := pumped(t, &callwardenv1.CallOpen{RateHz: rate}, say...)
			if err == nil {
				t.Fatal("it does not end")
			}
			end := map[audio.Leg]time.Duration{}
			for _, f := range frames {
				if f.Start < end[f.Leg] || f.Lost < 0 || f.Lost > f.End()-f.Start || f.Rate != int(rate) || f.End() > farAhead+10*time.Minute {
					t.Fatalf("frame %v+%v, lost %v, at %d Hz, after %v", f.Start, f.End()-f.Start, f.Lost, f.Rate, end[f.Leg])
				}
				end[f.Leg] = f.End()
			}
		})
	})
}

func prompt() source.Prompt { return source.Prompt{ID: "a", Rate: 8000, PCM: make([]int16, 800)} }
