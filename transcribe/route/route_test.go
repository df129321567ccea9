package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const call = `
0.2 2.1 callee final good morning this is the security department
2.2 3.8 callee final what code i have no code
5.0 6.0 callee partial four
5.0 7.5 callee partial four seven one
5.0 8.5 callee final four seven one nine
9.0 10.0 callee final thank you and good bye
`

func speaker(text string) *script.Engine {
	return script.NewGrowing(func(string) (script.Transcript, error) { return script.Parse(strings.NewReader(text)) }, 2)
}

// mortal is an engine whose sessions die of a frame that reaches a media time.
type mortal struct {
	transcribe.Engine
	at  time.Duration
	err error
}

func (e *mortal) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	s, err := e.Engine.Open(ctx, opt)
	if err != nil {
		return nil, err
	}
	d := &dying{s, e, false}
	if p, ok := s.(transcribe.Pauser); ok {
		return &dyingPauser{d, p}, nil
	}
	return d, nil
}

type dyingPauser struct {
	*dying
	transcribe.Pauser
}

type dying struct {
	transcribe.Session
	e    *mortal
	dead bool
}

func (s *dying) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if s.dead {
		return nil, transcribe.ErrClosed
	}
	if f.End() > s.e.at {
		s.dead = true
		_ = s.Close()
		return nil, s.e.err
	}
	return s.Session.Write(ctx, f)
}

func config(rules ...Rule) Config {
	cfg := DefaultConfig()
	cfg.Rules = rules
	return cfg
}

func newRoute(t *testing.T, cfg Config, engines map[string]transcribe.Engine) *Engine {
	t.Helper()
	e, err := New(cfg, engines, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// A route keeps the contract whatever it is made of, with sessions that die in
// the middle of a word and go on elsewhere too.
func TestConformance(t *testing.T) {
	crashed := errors.New("crashed")
	for name, engines := range map[string]map[string]transcribe.Engine{
		"plain":            {"a": speaker(call), "b": speaker(call), "c": speaker(call)},
		"dies in a pause":  {"a": &mortal{speaker(call), 4500 * time.Millisecond, crashed}, "b": speaker(call), "c": speaker(call)},
		"dies in mid word": {"a": &mortal{speaker(call), 6300 * time.Millisecond, crashed}, "b": speaker(call), "c": &mortal{speaker(call), time.Second, crashed}},
		"dies at once":     {"a": &mortal{speaker(call), 0, crashed}, "b": speaker(call), "c": speaker(call)},
	} {
		t.Run(name, func(t *testing.T) {
			transcribetest.Run(t, func(t *testing.T) transcribetest.Subject {
				cfg := config(Rule{Backend: "a", Fallback: "b", Shadow: "c"})
				// The suite opens sessions one after the other, and each is to
				// begin with the backend that dies.
				cfg.RetryFirst, cfg.RetryMost = time.Nanosecond, time.Nanosecond
				e, err := New(cfg, engines, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				rate := 8000
				if name == "dies in a pause" { // at a rate that the backends do not want
					rate = 16000
				}
				return transcribetest.Subject{Engine: e, Scripted: true, Call: "c1", RateHz: rate, Speech: make([]int16, rate*21/2)}
			})
		})
	}
}

// told drives a session in frames of 100 ms and writes its final segments.
// After each frame it calls wait, where there is one.
func told(t *testing.T, s transcribe.Session, length time.Duration, wait ...func()) []string {
	t.Helper()
	var out []string
	take := func(segments []transcribe.Segment, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, seg := range segments {
			if seg.Final {
				out = append(out, fmt.Sprintf("%d %s", seg.Utterance, seg.Text))
			}
		}
	}
	for at := time.Duration(0); at < length; at += 100 * time.Millisecond {
		take(s.Write(t.Context(), audio.Frame{Leg: audio.Callee, Start: at, Rate: 8000, PCM: make([]int16, 800)}))
		for _, fn := range wait {
			fn()
		}
	}
	take(s.Finish(t.Context()))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return out
}

func TestFallbackGoesOnWithoutLosingOrDoublingAWord(t *testing.T) {
	want := []string{
		"0 good morning this is the security department", "1 what code i have no code",
		"2 four seven one nine", "3 thank you and good bye",
	}
	for at := time.Duration(0); at < 11*time.Second; at += 300 * time.Millisecond {
		primary := &mortal{speaker(call), at, errors.New("crashed")}
		e := newRoute(t, config(Rule{Backend: "a", Fallback: "b"}), map[string]transcribe.Engine{"a": primary, "b": speaker(call)})
		s, err := e.Open(t.Context(), transcribe.Options{Call: "c1", Leg: audio.Callee})
		if err != nil {
			t.Fatal(err)
		}
		if got := told(t, s, 10500*time.Millisecond); !slices.Equal(got, want) {
			t.Errorf("dies at %v: told\n%q\nwant\n%q", at, got, want)
		}
		stats := e.Stats().Backends
		if died := int64(1); at < 10500*time.Millisecond && (stats[0].Failures != died || stats[1].Takeovers != died) {
			t.Errorf("dies at %v: stats are %+v", at, stats)
		}
	}
}

// What was shown and is not heard again by whoever takes over is taken back.
func TestHypothesisThatTheFallbackDoesNotShareIsTakenBack(t *testing.T) {
	e := newRoute(t, config(Rule{Backend: "a", Fallback: "b"}), map[string]transcribe.Engine{
		"a": &mortal{speaker(call), 7 * time.Second, errors.New("crashed")},
		"b": speaker("0.2 2.1 callee final good morning this is the security department\n"),
	})
	s, err := e.Open(t.Context(), transcribe.Options{Call: "c1", Leg: audio.Callee})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"0 good morning this is the security department", "1 what code i have no code", "2 "}
	if got := told(t, s, 10500*time.Millisecond); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestRulesDecideByLanguageTenantAndLeg(t *testing.T) {
	names := []string{"french", "acme", "callers", "rest"}
	engines := map[string]transcribe.Engine{}
	asked := ""
	for _, name := range names {
		engines[name] = &transcribetest.Faulty{Opening: func(int, transcribe.Options) error { asked = name; return nil }}
	}
	e := newRoute(t, config(
		Rule{Language: []string{"fr"}, Backend: "french"},
		Rule{Tenant: []string{"acme", "apex"}, Language: []string{"en-GB", "en-IE"}, Backend: "acme"},
		Rule{Leg: []string{"caller", "unknown"}, Backend: "callers"},
		Rule{Tenant: []string{"apex"}, Backend: "rest"},
	), engines)
	for _, c := range []struct {
		opt  transcribe.Options
		want string
	}{
		{transcribe.Options{Language: "fr-CA", Tenant: "acme", Leg: audio.Caller}, "french"},
		{transcribe.Options{Language: "FR", Tenant: "acme"}, "french"},
		{transcribe.Options{Language: "frr", Leg: audio.Caller}, "callers"},
		{transcribe.Options{Language: "en-GB", Tenant: "apex"}, "acme"},
		{transcribe.Options{Language: "en", Tenant: "apex", Leg: audio.Callee}, "rest"},
		{transcribe.Options{Tenant: "acme", Leg: audio.Unknown}, "callers"},
		{transcribe.Options{Tenant: "acme", Leg: audio.Callee}, ""},
	} {
		asked = ""
		s, err := e.Open(t.Context(), c.opt)
		switch {
		case c.want == "":
			if !errors.Is(err, transcribe.ErrOption) {
				t.Errorf("%+v: %v, want ErrOption", c.opt, err)
			}
			continue
		case err != nil:
			t.Fatal(err)
		}
		if asked != c.want {
			t.Errorf("%+v: heard by %s, want %s", c.opt, asked, c.want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBackendThatIsAwayIsTriedAgainAfterABackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		var tries []time.Duration
		began := time.Now()
		primary := &transcribetest.Faulty{Opening: func(int, transcribe.Options) error {
			tries = append(tries, time.Since(began))
			if down {
				return errors.New("refused")
			}
			return nil
		}}
		e, err := New(config(Rule{Backend: "a", Fallback: "b"}), map[string]transcribe.Engine{"a": primary, "b": &transcribetest.Faulty{}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		open := func() {
			s, err := e.Open(t.Context(), transcribe.Options{Leg: audio.Caller})
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
		}
		for time.Since(began) < 20*time.Second {
			open()
			<-time.After(100 * time.Millisecond)
		}
		want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}
		if !slices.Equal(tries, want) {
			t.Errorf("tried at %v, want %v", tries, want)
		}
		if b := e.Stats().Backends; !b[0].Away || b[1].Away || b[1].Takeovers != 200 {
			t.Errorf("stats are %+v", b)
		}
		down = false
		<-time.After(time.Minute)
		tries = nil
		open()
		open()
		if b := e.Stats().Backends[0]; len(tries) != 2 || b.Away || b.Sessions != 2 {
			t.Errorf("well again: tried at %v, stats are %+v", tries, b)
		}
	})
}

// Sessions that die together count as one failure for the back-off, or fifty
// calls at once would keep a backend away for a minute.
func TestSessionsThatDieTogetherAreOneFailure(t *testing.T) {
	b := &backend{first: time.Second, most: time.Minute}
	now := time.Now()
	for range 50 {
		b.failed(now)
	}
	if b.take(now.Add(999*time.Millisecond)) || !b.take(now.Add(time.Second)) || b.failures.Load() != 50 {
		t.Errorf("delay is %v after %d failures", b.delay, b.failures.Load())
	}
}

// slow is an engine whose sessions do not answer from a media time on.
type slow struct {
	transcribe.Engine
	at time.Duration
}

func (e *slow) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	s, err := e.Engine.Open(ctx, opt)
	return &stalling{s, e.at}, err
}

type stalling struct {
	transcribe.Session
	at time.Duration
}

func (s *stalling) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if f.End() > s.at {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Session.Write(ctx, f)
}

func TestBackendThatDoesNotAnswerLosesALiveLeg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := New(config(Rule{Backend: "a", Fallback: "b"}),
			map[string]transcribe.Engine{"a": &slow{speaker(call), 3 * time.Second}, "b": speaker(call)}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		s, err := e.Open(t.Context(), transcribe.Options{Call: "c1", Leg: audio.Callee, Live: true})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if got := told(t, s, 10500*time.Millisecond); len(got) != 4 {
			t.Errorf("told %q, want four lines", got)
		}
		if took := time.Since(began); took != e.cfg.Patience {
			t.Errorf("waited %v, want %v", took, e.cfg.Patience)
		}
	})
}

// absent is an engine whose sessions say that they are away, for so long, from
// a media time on, and keep what they get.
type absent struct {
	transcribe.Engine
	at, long time.Duration
}

func (e *absent) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	s, err := e.Engine.Open(ctx, opt)
	return &leaving{Session: s, e: e}, err
}

type leaving struct {
	transcribe.Session
	e    *absent
	left time.Time
	kept []audio.Frame
}

func (s *leaving) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if f.End() > s.e.at && s.left.IsZero() {
		s.left = time.Now()
	}
	s.kept = append(s.kept, f)
	if !s.left.IsZero() && time.Since(s.left) < s.e.long {
		return nil, fmt.Errorf("restarting: %w", transcribe.ErrAway)
	}
	var all []transcribe.Segment
	for _, f := range s.kept {
		segments, err := s.Session.Write(ctx, f)
		if err != nil {
			return all, err
		}
		all = append(all, segments...)
	}
	s.kept = nil
	return all, nil
}

// A backend that is back soon keeps its legs; one that is not loses them, and
// says so only where nobody takes over.
func TestBackendThatIsAwayKeepsItsLegsForAWhile(t *testing.T) {
	for _, c := range []struct {
		long     time.Duration
		fallback string
		takeover int64
		told     bool
	}{
		{time.Second, "b", 0, false},
		{5 * time.Second, "b", 1, false},
		{time.Second, "", 0, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			e, err := New(config(Rule{Backend: "a", Fallback: c.fallback}),
				map[string]transcribe.Engine{"a": &absent{speaker(call), 3 * time.Second, c.long}, "b": speaker(call)}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			s, err := e.Open(t.Context(), transcribe.Options{Call: "c1", Leg: audio.Callee, Live: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var got []string
			away := false
			for at := time.Duration(0); at < 10500*time.Millisecond; at += 100 * time.Millisecond {
				segments, err := s.Write(t.Context(), audio.Frame{Leg: audio.Callee, Start: at, Rate: 8000, PCM: make([]int16, 800)})
				away = away || errors.Is(err, transcribe.ErrAway)
				if err != nil && !errors.Is(err, transcribe.ErrAway) {
					t.Fatal(err)
				}
				for _, seg := range segments {
					if seg.Final {
						got = append(got, seg.Text)
					}
				}
				<-time.After(100 * time.Millisecond)
			}
			if len(got) != 4 || away != c.told {
				t.Errorf("away for %v with fallback %q: told %q, and that it is away: %v", c.long, c.fallback, got, away)
			}
			for _, b := range e.Stats().Backends {
				if b.Name == "b" && b.Takeovers != c.takeover {
					t.Errorf("away for %v: %d takeovers, want %d", c.long, b.Takeovers, c.takeover)
				}
			}
		})
	}
}

// When both backends die the error is the session's own: what one said of
// itself must not be taken for it.
func TestSessionThatNobodyHearsIsDead(t *testing.T) {
	for _, of := range []error{transcribe.ErrFrame, transcribe.ErrAway, errors.New("crashed")} {
		e := newRoute(t, config(Rule{Backend: "a", Fallback: "b"}), map[string]transcribe.Engine{
			"a": &mortal{speaker(call), time.Second, errors.New("crashed")},
			"b": &mortal{speaker(call), 900 * time.Millisecond, fmt.Errorf("no: %w", of)},
		})
		s, err := e.Open(t.Context(), transcribe.Options{Call: "c1", Leg: audio.Callee})
		if err != nil {
			t.Fatal(err)
		}
		for at := time.Duration(0); err == nil && at < 3*time.Second; at += 100 * time.Millisecond {
			_, err = s.Write(t.Context(), audio.Frame{Start: at, Rate: 8000, PCM: make([]int16, 800)})
		}
		if errors.Is(of, transcribe.ErrAway) { // it took over and is away itself
			err = nil
		} else if err == nil || errors.Is(err, of) {
			t.Errorf("the second died of %v: error is %v", of, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "a: crashed") || !strings.Contains(err.Error(), "b: ")) {
			t.Errorf("the error names not both: %v", err)
		}
		if err := s.Close(); err != nil && !errors.Is(err, transcribe.ErrClosed) {
			t.Error(err)
		}
	}
}

func TestRingKeepsWhatIsNotFinal(t *testing.T) {
	r := ring{limit: time.Second}
	frame := func(at, long time.Duration) audio.Frame {
		return audio.Frame{Start: at, Rate: 8000, PCM: make([]int16, int(long*8000/time.Second))}
	}
	const ms = time.Millisecond
	for at := time.Duration(0); at < 1500*ms; at += 100 * ms {
		r.push(frame(at, 100*ms))
	}
	if len(r.frames) != 10 || r.held != time.Second || r.frames[0].Start != 500*ms {
		t.Errorf("a full ring holds %v from %v in %d frames", r.held, r.frames[0].Start, len(r.frames))
	}
	r.settle(1230 * ms)
	if len(r.frames) != 3 || r.held != 270*ms || r.frames[0].Start != 1230*ms || len(r.frames[0].PCM) != 560 {
		t.Errorf("settled in mid frame it holds %v from %v in %d frames", r.held, r.frames[0].Start, len(r.frames))
	}
	r.settle(1100 * ms) // time does not go back
	if r.held != 270*ms {
		t.Errorf("it holds %v", r.held)
	}
	r.push(frame(1500*ms, 5*time.Second))
	if len(r.frames) != 1 || r.held != 5*time.Second {
		t.Errorf("a long frame is held for %v in %d frames", r.held, len(r.frames))
	}
	r.settle(time.Hour)
	if len(r.frames) != 0 || r.held != 0 {
		t.Errorf("all settled, it holds %v", r.held)
	}
}

func TestValidateNamesKeyValueAndRule(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"rules: must have one or more":                           func(c *Config) { c.Rules = nil },
		"rules[0].backend: must name a backend":                  func(c *Config) { c.Rules[0].Backend = "" },
		`rules[0].fallback: "a" must be another backend`:         func(c *Config) { c.Rules[0].Fallback = "a" },
		`rules[0].shadow: "a" must be another backend`:           func(c *Config) { c.Rules[0].Shadow = "a" },
		`rules[0].leg: "both" must be caller, callee or unknown`: func(c *Config) { c.Rules[0].Leg = []string{"both"} },
		"rules[0].shadow_share: 1.5 must be 0 to 1":              func(c *Config) { c.Rules[0].ShadowShare = 1.5 },
		"patience: 0s must be above 0":                           func(c *Config) { c.Patience = 0 },
		"ring: -1s must be above 0":                              func(c *Config) { c.Ring = -time.Second },
		"shadow_parallel: 0 must be at least 1":                  func(c *Config) { c.ShadowParallel = 0 },
		"retry_most: 1ms must be at least retry_first, 1s":       func(c *Config) { c.RetryMost = time.Millisecond },
		"shadow_queue: 0s must be above 0":                       func(c *Config) { c.ShadowQueue = 0 },
	} {
		cfg := config(Rule{Backend: "a"})
		change(&cfg)
		if err := cfg.Validate(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := config(Rule{Backend: "a", Fallback: "b", Shadow: "b", Leg: []string{"caller"}}).Validate(); err != nil {
		t.Error(err)
	}
	_, err := New(config(Rule{Backend: "a", Fallback: "x"}), map[string]transcribe.Engine{"b": speaker(call), "a": speaker(call)}, slog.New(slog.DiscardHandler))
	if want := `rules: "x" must be one of the backends: a, b`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestInfoIsTheLeastOfThoseThatHear(t *testing.T) {
	e := newRoute(t, config(Rule{Backend: "a", Fallback: "b", Shadow: "c"}), map[string]transcribe.Engine{
		"a": &transcribetest.Faulty{Phrases: true}, "b": &transcribetest.Faulty{Phrases: true, Native: true}, "c": speaker(call),
	})
	want := transcribe.Info{Backend: "route", Model: "a:faulty+b:faulty", RateHz: 8000, Phrases: true, Native: true}
	if got := e.Info(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	e = newRoute(t, config(Rule{Leg: []string{"caller"}, Backend: "a"}, Rule{Backend: "c"}), map[string]transcribe.Engine{
		"a": &transcribetest.Faulty{Phrases: true}, "c": speaker(call),
	})
	if e.Info().Phrases {
		t.Error("one that takes no phrase lists is among them, and the route takes some")
	}
}
