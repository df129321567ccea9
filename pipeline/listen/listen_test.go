package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// caller is one leg of a call that is listened to.
type caller struct{ *Call }

func (c caller) Hear(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	return c.Call.Hear(ctx, f, time.Time{})
}

func open(t *testing.T, e transcribe.Engine) caller {
	t.Helper()
	l, err := New(e, DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Begin(Subject{ID: "call", Legs: []audio.Leg{audio.Caller}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return caller{c}
}

func frame(n int) audio.Frame {
	return audio.Frame{Leg: audio.Caller, Start: time.Duration(n) * 100 * time.Millisecond, Rate: 8000, PCM: make([]int16, 800)}
}

// What a dead session had understood stays, and the next one's utterances are
// new ones.
func TestReopenedSessionLosesNoWordsAndCountsOn(t *testing.T) {
	e := &transcribetest.Faulty{}
	e.Write = func(session, n int, f audio.Frame) ([]transcribe.Segment, error) {
		if session == 1 && n == 3 {
			return nil, errors.New("crashed")
		}
		return []transcribe.Segment{{Leg: f.Leg, Utterance: 0, Text: "read me", End: f.End()}}, nil
	}
	g := open(t, e)
	var all []transcribe.Segment
	for i := range 6 {
		segs, err := g.Hear(context.Background(), frame(i))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, segs...)
	}
	if e.Opened.Load() != 2 {
		t.Fatalf("opened %d sessions, want 2", e.Opened.Load())
	}
	var settled bool
	for _, s := range all {
		switch {
		case s.Final:
			settled = true
			if s.Utterance != 0 || s.Text != "read me" {
				t.Errorf("settled as %+v", s)
			}
		case settled && s.Utterance != 1:
			t.Errorf("after the reopening utterance %d, want 1", s.Utterance)
		}
	}
	if !settled {
		t.Error("the unfinished words were lost with the session")
	}
}

func TestSecondFailureIsTheCallers(t *testing.T) {
	e := &transcribetest.Faulty{}
	crash := errors.New("crashed")
	e.Write = func(int, int, audio.Frame) ([]transcribe.Segment, error) { return nil, crash }
	g := open(t, e)
	var err error
	for i := 0; i < 10 && err == nil; i++ {
		_, err = g.Hear(context.Background(), frame(i))
	}
	if !errors.Is(err, crash) || !strings.Contains(err.Error(), "again") {
		t.Errorf("got %v, want the second crash", err)
	}
}

// A leg that sends nothing hears just enough silence for its last words to
// become final.
func TestTimeThatPassesEndsTheUtteranceButIsNotDecoded(t *testing.T) {
	e := &transcribetest.Faulty{}
	var heard time.Duration
	e.Write = func(_, _ int, f audio.Frame) ([]transcribe.Segment, error) {
		heard += f.End() - f.Start
		return nil, nil
	}
	g := open(t, e)
	if _, err := g.Hear(context.Background(), frame(0)); err != nil {
		t.Fatal(err)
	}
	for s := 1; s <= 3600; s++ {
		mark := audio.Frame{Leg: audio.Caller, Start: time.Duration(s) * time.Second, Rate: 8000}
		if _, err := g.Hear(context.Background(), mark); err != nil {
			t.Fatal(err)
		}
	}
	if heard < time.Second || heard > maxPad+time.Second {
		t.Errorf("an hour of nothing had %v decoded, want about %v", heard, maxPad)
	}
}

// A hypothesis that more audio does not change is said again, once, so that who
// waits for words to settle need not wait for the end of the utterance.
func TestHypothesisThatStandsIsSaidAgainOnce(t *testing.T) {
	e := &transcribetest.Faulty{}
	e.Write = func(_, n int, f audio.Frame) ([]transcribe.Segment, error) {
		said := map[int]transcribe.Segment{2: {Text: "the"}, 3: {Text: "the code"}, 9: {Text: "the code", Final: true}}
		seg, ok := said[n]
		if !ok {
			return nil, nil
		}
		seg.Leg, seg.End = audio.Caller, f.End()
		return []transcribe.Segment{seg}, nil
	}
	g := open(t, e)
	var got []string
	for n := range 14 {
		segs, err := g.Hear(context.Background(), frame(n))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range segs {
			got = append(got, fmt.Sprintf("%s stands=%v final=%v", s.Text, s.Stands, s.Final))
		}
	}
	want := []string{"the stands=false final=false", "the code stands=false final=false", "the code stands=true final=false", "the code stands=false final=true"}
	if !slices.Equal(got, want) {
		t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// pending hears a word that its recogniser says when the leg is silent already.
type pending struct {
	transcribe.Engine
	transcribe.Session
	come bool // it has said it
	told bool // and it was told of
}

func (p *pending) Open(context.Context, transcribe.Options) (transcribe.Session, error) {
	return p, nil
}
func (p *pending) Pending() bool { return p.come && !p.told }
func (p *pending) Close() error  { return nil }
func (p *pending) Write(_ context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if !p.Pending() {
		return nil, nil
	}
	p.told = true
	return []transcribe.Segment{{Leg: audio.Caller, Final: true, Text: "code", End: f.Start}}, nil
}

func TestWordsThatComeLateAreToldWhileTheLegIsSilent(t *testing.T) {
	p := &pending{Engine: &transcribetest.Faulty{}}
	g := open(t, p)
	silence := func(second int) (segs []transcribe.Segment) {
		mark := audio.Frame{Leg: audio.Caller, Start: time.Duration(second) * time.Second, Rate: 8000}
		segs, err := g.Hear(context.Background(), mark)
		if err != nil {
			t.Fatal(err)
		}
		return segs
	}
	if _, err := g.Hear(context.Background(), frame(0)); err != nil {
		t.Fatal(err)
	}
	for second := 1; second < 10; second++ { // past all silence that is made up
		if segs := silence(second); len(segs) > 0 {
			t.Fatalf("heard %v of nothing", segs)
		}
	}
	p.come = true
	if segs := silence(10); len(segs) != 1 || segs[0].Text != "code" {
		t.Errorf("%+v, want the late word", segs)
	}
}

func TestOnlyOneNativeDecodePerCore(t *testing.T) {
	e := &transcribetest.Faulty{Native: true}
	var running, most atomic.Int32
	e.Write = func(int, int, audio.Frame) ([]transcribe.Segment, error) {
		n := running.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		runtime.Gosched()
		running.Add(-1)
		return nil, nil
	}
	l, err := New(e, DefaultConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			g, err := l.Begin(Subject{ID: "call", Legs: []audio.Leg{audio.Caller}})
			if err != nil {
				t.Error(err)
				return
			}
			defer g.Close()
			for i := range 20 {
				if _, err := g.Hear(context.Background(), frame(i), time.Time{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, limit := int(most.Load()), runtime.GOMAXPROCS(0); got > limit || got < 1 {
		t.Errorf("%d decodes at once on %d cores", got, limit)
	}
}

func TestWordsAreHeardAtTheirTimeOnTheMediaClock(t *testing.T) {
	tr, err := script.Parse(strings.NewReader("1.0 2.0 caller final read me the code"))
	if err != nil {
		t.Fatal(err)
	}
	g := open(t, script.New(func(string) (script.Transcript, error) { return tr, nil }))
	for i := range 40 {
		segs, err := g.Hear(context.Background(), frame(i))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range segs {
			if s.Start != time.Second || s.End != 2*time.Second || s.Leg != audio.Caller {
				t.Errorf("heard %+v", s)
			}
			if at := frame(i).End(); at < 2*time.Second || at > 2200*time.Millisecond {
				t.Errorf("heard at %v, said until 2s", at)
			}
			return
		}
	}
	t.Error("nothing was heard")
}

func TestConfigNamesKeyAndRule(t *testing.T) {
	if _, err := New(&transcribetest.Faulty{}, Config{Mode: "half"}, nil); err == nil || !strings.Contains(err.Error(), `listen.mode: "half"`) {
		t.Errorf("error %v does not name the key", err)
	}
}

// Hints are for the open vocabulary; whose call it is, for all sessions.
func TestSessionsAreToldWhoseCallItIsAndWhatToExpect(t *testing.T) {
	for _, mode := range []string{Full, Screening} {
		var asked []transcribe.Options
		e := &transcribetest.Faulty{
			Phrases: true,
			Opening: func(_ int, opt transcribe.Options) error { asked = append(asked, opt); return nil },
			Write:   func(int, int, audio.Frame) ([]transcribe.Segment, error) { return nil, nil },
		}
		l, err := New(e, Config{
			Mode: mode, Screens: func() Screen { return lists{} }, Voice: func() audio.Voice { return sounding{} },
			Hints: func() []string { return []string{"any desk", "zelle"} },
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Begin(Subject{ID: "call", Tenant: "acme", Language: "en-GB", Legs: []audio.Leg{audio.Caller}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			f := frame(i)
			f.PCM = slices.Repeat([]int16{1000, -1000}, 400)
			if _, err := c.Hear(t.Context(), f, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if len(asked) != 1 {
			t.Fatalf("%s: opened %d sessions, want 1", mode, len(asked))
		}
		got := asked[0]
		if got.Call != "call" || got.Tenant != "acme" || got.Language != "en-GB" || got.Leg != audio.Caller {
			t.Errorf("%s: opened for %+v", mode, got)
		}
		if hinted := len(got.Hints) == 2; hinted != (mode == Full) {
			t.Errorf("%s: hints are %q", mode, got.Hints)
		}
	}
}
