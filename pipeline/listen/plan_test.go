package listen

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// threeWays is a recogniser that hears a transcript for each way of listening,
// and tells what it was opened for.
type threeWays struct {
	open, screen, digits *script.Engine
	opened               func(opt transcribe.Options)
}

// script of one way, or none.
func speaks(t *testing.T, lines string) *script.Engine {
	t.Helper()
	tr, err := script.Parse(strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	return script.New(func(string) (script.Transcript, error) { return tr, nil })
}

func (e *threeWays) Info() transcribe.Info {
	return transcribe.Info{Backend: "three", Model: "ways", RateHz: 8000, Phrases: true}
}

func (e *threeWays) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if e.opened != nil {
		e.opened(opt)
	}
	way := e.open
	switch {
	case slices.Equal(opt.Phrases, lists{}.Phrases()):
		way = e.screen
	case slices.Equal(opt.Phrases, lists{}.Digits()):
		way = e.digits
	}
	opt.Phrases = nil
	sess, err := way.Open(ctx, opt)
	return &late{Session: sess, from: -1}, err
}

// late does not hear what was said before its first frame.
type late struct {
	transcribe.Session
	from time.Duration
}

func (l *late) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if l.from < 0 {
		l.from = f.Start
	}
	segs, err := l.Session.Write(ctx, f)
	return slices.DeleteFunc(segs, func(s transcribe.Segment) bool { return s.End <= l.from }), err
}

func (e *threeWays) Close() error { return nil }

// lists wakes a call at the words "arrest warrant" and takes all else for a
// hint.
type lists struct{}

func (lists) Phrases() []string { return []string{"arrest warrant"} }
func (lists) Digits() []string  { return []string{"one", "two"} }
func (lists) Scorer() Scorer    { return lists{} }

func (lists) Hear(s transcribe.Segment) detectors.Verdict {
	if strings.Contains(s.Text, "arrest warrant") {
		return detectors.Wake
	}
	return detectors.Hint
}

// sounding takes every sample that is not zero for speech.
type sounding struct{}

func (sounding) Start(rateHz int) int { return rateHz / 50 }

func (sounding) Speech(window []int16) bool {
	return slices.ContainsFunc(window, func(v int16) bool { return v != 0 })
}

// sound is when the legs of a call make a noise.
type sound struct {
	leg      audio.Leg
	from, to float64 // seconds
}

// recorded is a call in which only the sounds are heard, followed frame by
// frame as a recording is.
type recorded struct {
	t      *testing.T
	c      *Call
	at     time.Duration
	sounds []sound
	heard  []transcribe.Segment
	found  func(transcribe.Segment) []detectors.Finding
}

func screening(t *testing.T, e transcribe.Engine, sounds ...sound) *recorded {
	t.Helper()
	cfg := Config{Mode: Screening, Screens: func() Screen { return lists{} }, Voice: func() audio.Voice { return sounding{} }}
	l, err := New(e, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Begin(Subject{ID: "call", Legs: []audio.Leg{audio.Caller, audio.Callee}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &recorded{t: t, c: c, sounds: sounds}
}

const frameTime = 20 * time.Millisecond

// run hears the call up to so many seconds.
func (r *recorded) run(seconds float64) {
	r.t.Helper()
	for r.at.Seconds() < seconds {
		for _, side := range []audio.Leg{audio.Caller, audio.Callee} {
			f := audio.Frame{Leg: side, Start: r.at, Rate: 8000, PCM: make([]int16, 160)}
			for _, s := range r.sounds {
				if s.leg == side && s.from <= r.at.Seconds() && r.at.Seconds() < s.to {
					for i := range f.PCM {
						f.PCM[i] = int16(1000 - 2000*(i%2))
					}
				}
			}
			segs, err := r.c.Hear(context.Background(), f, time.Time{})
			r.judge(segs, err)
		}
		r.transcribe()
		r.at += frameTime
	}
}

func (r *recorded) transcribe() {
	r.t.Helper()
	for {
		segs, more, err := r.c.Transcribe(context.Background())
		r.judge(segs, err)
		if !more {
			return
		}
	}
}

func (r *recorded) judge(segs []transcribe.Segment, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
	r.c.Weigh(segs, r.at+frameTime)
	r.heard = append(r.heard, segs...)
	for _, s := range segs {
		if r.found == nil {
			continue
		}
		for _, f := range r.found(s) {
			r.c.Found(f)
		}
	}
}

// finish ends the call.
func (r *recorded) finish() {
	r.t.Helper()
	for _, side := range []audio.Leg{audio.Caller, audio.Callee} {
		segs, err := r.c.Finish(context.Background(), side)
		r.judge(segs, err)
	}
	r.c.End()
	r.transcribe()
	segs, err := r.c.Last(context.Background())
	r.judge(segs, err)
}

// texts are the final words that were heard in one way, as "leg: words".
func (r *recorded) texts(way transcribe.Heard) (all []string) {
	for _, s := range r.heard {
		if s.Final && s.Heard == way {
			all = append(all, s.Leg.String()+": "+s.Text)
		}
	}
	return all
}

func (r *recorded) expect(way transcribe.Heard, want ...string) {
	r.t.Helper()
	if got := r.texts(way); !slices.Equal(got, want) {
		r.t.Errorf("heard %s:\n%s\nwant:\n%s", way, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const story = `
  5.0  7.0 caller final this is an old story
 32.0 34.0 caller final this is officer johnson
 36.0 38.0 callee final what is it about
 40.0 42.0 caller final there is an arrest warrant
 43.0 44.0 callee final oh dear`

var storySounds = []sound{
	{audio.Caller, 5, 7}, {audio.Caller, 32, 34}, {audio.Callee, 36, 38}, {audio.Caller, 40, 42}, {audio.Callee, 43, 44},
}

func TestWakeTranscribesBothLegsFromTheRingOn(t *testing.T) {
	e := &threeWays{open: speaks(t, story), screen: speaks(t, "41.0 42.0 caller final arrest warrant"), digits: speaks(t, "")}
	r := screening(t, e, storySounds...)
	r.run(40)
	r.expect(transcribe.Openly)
	r.run(50)
	r.finish()
	r.expect(transcribe.Screened, "caller: arrest warrant")
	// In the order of the media clock, over both legs; what is older than the
	// ring is gone.
	r.expect(transcribe.Openly,
		"caller: this is officer johnson", "callee: what is it about", "caller: there is an arrest warrant", "callee: oh dear")
}

func TestUtterancesAreNumberedOverAllWaysOfALeg(t *testing.T) {
	e := &threeWays{open: speaks(t, story), screen: speaks(t, "41.0 42.0 caller final arrest warrant"), digits: speaks(t, "")}
	r := screening(t, e, storySounds...)
	r.run(50)
	r.finish()
	type key struct {
		leg audio.Leg
		n   int
	}
	of := map[key]transcribe.Heard{}
	latest := map[string]int{}
	for _, s := range r.heard {
		k := key{s.Leg, s.Utterance}
		if way, ok := of[k]; ok && way != s.Heard {
			t.Errorf("utterance %v is %v and %v", k, way, s.Heard)
		}
		of[k] = s.Heard
		way := fmt.Sprint(s.Leg, s.Heard)
		if s.Utterance < latest[way] {
			t.Errorf("%s goes back to utterance %d", way, s.Utterance)
		}
		latest[way] = s.Utterance
	}
}

func TestNothingIsTranscribedWithoutReason(t *testing.T) {
	e := &threeWays{open: speaks(t, story), screen: speaks(t, "32.0 34.0 caller final officer"), digits: speaks(t, "")}
	e.opened = func(opt transcribe.Options) {
		if len(opt.Phrases) == 0 {
			t.Error("the open vocabulary was used after a hint")
		}
	}
	r := screening(t, e, storySounds...)
	r.run(60)
	r.finish()
	r.expect(transcribe.Screened, "caller: officer")
}

// Two minutes after the last reason a call is screened again; what was
// transcribed before is not transcribed again when it wakes a second time.
func TestCallGoesBackToScreeningAndRepeatsNothing(t *testing.T) {
	screen := `
 10.0  11.0 caller final arrest warrant
140.0 141.0 caller final arrest warrant`
	open := `
 10.0  11.0 caller final first warrant
128.0 129.0 caller final still awake
135.0 136.0 caller final nobody listens
140.0 141.0 caller final second warrant`
	e := &threeWays{open: speaks(t, open), screen: speaks(t, screen), digits: speaks(t, "")}
	var transcribers int
	e.opened = func(opt transcribe.Options) {
		if len(opt.Phrases) == 0 {
			transcribers++
		}
	}
	r := screening(t, e, sound{audio.Caller, 10, 11}, sound{audio.Caller, 128, 129}, sound{audio.Caller, 135, 136}, sound{audio.Caller, 140, 141})
	r.run(20)
	if !r.c.State().Transcribing {
		t.Error("not transcribing after a hit")
	}
	r.run(134)
	if r.c.State().Transcribing {
		t.Error("still transcribing after two minutes of nothing")
	}
	r.run(150)
	r.finish()
	r.expect(transcribe.Openly, "caller: first warrant", "caller: still awake", "caller: nobody listens", "caller: second warrant")
	if transcribers != 2 {
		t.Errorf("opened %d sessions of the open vocabulary, want one for each time that the speaking leg was transcribed", transcribers)
	}
}

func TestFindingsKeepACallAwake(t *testing.T) {
	e := &threeWays{
		open:   speaks(t, "10.0 11.0 caller final arrest warrant\n100.0 101.0 caller final buy a card"),
		screen: speaks(t, "10.0 11.0 caller final arrest warrant"), digits: speaks(t, ""),
	}
	r := screening(t, e, sound{audio.Caller, 10, 11}, sound{audio.Caller, 100, 101})
	r.found = func(s transcribe.Segment) []detectors.Finding {
		if s.Heard != transcribe.Openly || !strings.Contains(s.Text, "card") {
			return nil
		}
		return []detectors.Finding{{ID: "1", Tactic: "gift_card_request", Stage: detectors.Ask, Leg: s.Leg, End: s.End, Weight: 5, State: detectors.Confirmed}}
	}
	r.run(200)
	if !r.c.State().Transcribing {
		t.Error("went back to screening in spite of a finding")
	}
	r.run(230)
	if r.c.State().Transcribing {
		t.Error("still transcribing two minutes after the last finding")
	}
}

func TestAskHasTheOtherLegHeardForDigits(t *testing.T) {
	ask := detectors.Finding{ID: "1", Tactic: "otp_request", Stage: detectors.Ask, Leg: audio.Caller, End: 10 * time.Second, Weight: 8, State: detectors.Provisional}
	for _, tt := range []struct {
		name string
		f    func(detectors.Finding) detectors.Finding
		want bool
	}{
		{"ask", func(f detectors.Finding) detectors.Finding { return f }, true},
		{"muted ask", func(f detectors.Finding) detectors.Finding { f.Muted = "protective"; return f }, false},
		{"retracted ask", func(f detectors.Finding) detectors.Finding { f.State = detectors.Retracted; return f }, false},
		{"story", func(f detectors.Finding) detectors.Finding {
			f.Tactic, f.Stage = "lure_legal", detectors.Lure
			return f
		}, false},
		{"answer", func(f detectors.Finding) detectors.Finding {
			f.Tactic, f.Stage = "otp_readback", detectors.Comply
			return f
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &threeWays{
				open: speaks(t, ""), screen: speaks(t, "9.0 10.0 caller final read me the code"),
				// The answer begins before the ask is known.
				digits: speaks(t, "10.1 12.0 callee final one two\n38.0 39.0 callee final two two\n60.0 61.0 callee final one one\n95.0 96.0 callee final two"),
			}
			r := screening(t, e, sound{audio.Caller, 9, 10}, sound{audio.Callee, 10.1, 12}, sound{audio.Callee, 38, 39},
				sound{audio.Callee, 60, 61}, sound{audio.Callee, 95, 96})
			r.found = func(s transcribe.Segment) []detectors.Finding {
				if s.Heard == transcribe.Screened {
					return []detectors.Finding{tt.f(ask)}
				}
				return nil
			}
			r.run(100)
			r.finish()
			var want []string
			if tt.want { // as long as digits come within half a minute of each other
				want = []string{"callee: one two", "callee: two two", "callee: one one"}
			}
			r.expect(transcribe.AsNumbers, want...)
		})
	}
}

func TestSilenceIsNotDecoded(t *testing.T) {
	e := &transcribetest.Faulty{Phrases: true}
	var decoded time.Duration
	e.Write = func(_, _ int, f audio.Frame) ([]transcribe.Segment, error) {
		decoded += f.End() - f.Start
		return nil, nil
	}
	r := screening(t, e, sound{audio.Caller, 60, 62}, sound{audio.Callee, 500, 501})
	r.run(600)
	r.finish()
	if decoded < 3*time.Second || decoded > 10*time.Second {
		t.Errorf("ten minutes with 3 s of speech had %v decoded", decoded)
	}
}

func TestEngineWithoutPhraseListsListensFullyAndSaysSo(t *testing.T) {
	cfg := Config{Mode: Screening, Screens: func() Screen { return lists{} }}
	l, err := New(&transcribetest.Faulty{}, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if l.Mode() != Full || !strings.Contains(l.Reason(), "faulty takes no phrase lists") {
		t.Errorf("mode %q because %q", l.Mode(), l.Reason())
	}
}

func TestDeafLegTriesAgainAndHears(t *testing.T) {
	e := &transcribetest.Faulty{Phrases: true}
	broken := true
	e.Write = func(_, _ int, f audio.Frame) ([]transcribe.Segment, error) {
		if broken {
			return nil, fmt.Errorf("connection lost")
		}
		return nil, nil
	}
	r := screening(t, e)
	frames := func(from, to time.Duration) (deaf, hears int) {
		for at := from; at < to; at += frameTime {
			pcm := slices.Repeat([]int16{1000, -1000}, 80)
			_, err := r.c.Hear(context.Background(), audio.Frame{Leg: audio.Caller, Start: at, Rate: 8000, PCM: pcm}, time.Time{})
			if err != nil {
				deaf++
			} else {
				hears++
			}
		}
		return deaf, hears
	}
	frames(0, time.Second)
	if _, hears := frames(time.Second, 10*time.Second); hears > 0 {
		t.Errorf("a leg whose recogniser is gone was said to hear %d frames", hears)
	}
	broken = false
	frames(10*time.Second, 10*time.Second+retryEvery+gather)
	if deaf, _ := frames(13*time.Second, 20*time.Second); deaf > 0 {
		t.Errorf("%d frames unheard after the recogniser has returned", deaf)
	}
}

// A call that gave way for want of room gets the open vocabulary back when its
// risk rises, and is transcribed from where it was left.
func TestRaisedCallGetsBackWhatItGaveWayWith(t *testing.T) {
	open := "10.0 11.0 caller final arrest warrant\n20.0 21.0 caller final while it gave way"
	e := &threeWays{open: speaks(t, open), screen: speaks(t, "10.0 11.0 caller final arrest warrant"), digits: speaks(t, "")}
	r := screening(t, e, sound{audio.Caller, 10, 11}, sound{audio.Caller, 20, 21})
	r.run(15)
	r.c.loseOpen()
	r.run(25)
	if s := r.c.State(); s.Transcribing || !s.Shed {
		t.Errorf("a call that gave way is in state %+v", s)
	}
	r.expect(transcribe.Openly, "caller: arrest warrant")
	r.c.Raise()
	r.run(30)
	if s := r.c.State(); !s.Transcribing || s.Shed {
		t.Errorf("a call whose risk has risen is in state %+v", s)
	}
	r.finish()
	r.expect(transcribe.Openly, "caller: arrest warrant", "caller: while it gave way")
}

func TestCallMayBeListenedToInItsOwnWay(t *testing.T) {
	for name, c := range map[string]struct {
		mode, asked, want string
		screens, phrases  bool
		reason            string
	}{
		"as all":                 {Full, "", Full, true, true, ""},
		"fully where others not": {Screening, Full, Full, true, true, ""},
		"screened alone":         {Full, Screening, Screening, true, true, ""},
		"without lists":          {Full, Screening, Full, false, true, "there are no lists"},
		"without phrase lists":   {Full, Screening, Full, true, false, "takes no phrase lists"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Mode: c.mode}
			if c.screens {
				cfg.Screens = func() Screen { return lists{} }
			}
			l, err := New(&transcribetest.Faulty{Phrases: c.phrases}, cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			call, err := l.Begin(Subject{ID: "c", Legs: []audio.Leg{audio.Caller}, Mode: c.asked})
			if err != nil {
				t.Fatal(err)
			}
			defer call.Close()
			if call.Mode() != c.want || !strings.Contains(call.Reason(), c.reason) || (c.reason == "") != (call.Reason() == "") {
				t.Errorf("listens %s, because %q", call.Mode(), call.Reason())
			}
			if transcribing := call.State().Transcribing; transcribing != (c.want == Full) {
				t.Errorf("transcribing %v", transcribing)
			}
		})
	}
}
