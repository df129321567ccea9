package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callwarden/callwarden/detectors"

	"github.com/callwarden/callwarden/pipeline/listen"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/textsrc"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// lists is a closed list of which everything that is heard is reason to
// transcribe.
type lists struct{}

func (lists) Phrases() []string                         { return []string{"read me the code"} }
func (lists) Digits() []string                          { return []string{"one two"} }
func (lists) Scorer() listen.Scorer                     { return lists{} }
func (lists) Hear(transcribe.Segment) detectors.Verdict { return detectors.Wake }

// always takes everything for speech.
type always struct{}

func (always) Start(rateHz int) int { return rateHz / 50 }
func (always) Speech([]int16) bool  { return true }

// closed lets a scripted recogniser take phrase lists: against one it hears
// the asks alone, and digits not at all.
type closed struct{ *script.Engine }

func (c closed) Info() transcribe.Info {
	info := c.Engine.Info()
	info.Phrases = true
	return info
}

func (c closed) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	phrases := opt.Phrases
	opt.Phrases = nil
	s, err := c.Engine.Open(ctx, opt)
	return &closedSession{s, phrases}, err
}

type closedSession struct {
	transcribe.Session
	phrases []string
}

func (s *closedSession) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	segs, err := s.Session.Write(ctx, f)
	if len(s.phrases) == 0 {
		return segs, err
	}
	return slices.DeleteFunc(segs, func(seg transcribe.Segment) bool { return !strings.Contains(seg.Text, s.phrases[0]) }), err
}

func newScreening(t *testing.T, cfg Config, e transcribe.Engine, out *memory) *Pipeline {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l, err := listen.New(e, listen.Config{
		Mode: listen.Screening, Screens: func() listen.Screen { return lists{} }, Voice: func() audio.Voice { return always{} },
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(cfg, l, judge(t), out, log)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestScreenedRecordingGivesByteEqualEvents(t *testing.T) {
	tr := transcript(t, fraud)
	engine := closed{script.NewGrowing(func(string) (script.Transcript, error) { return tr, nil }, 3)}
	var first []byte
	for i := range 5 {
		var out memory
		cfg := DefaultConfig()
		cfg.Hypotheses = true
		if err := newScreening(t, cfg, engine, &out).Listen(context.Background(), recorded(tr.Duration()+time.Second)); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if !bytes.Equal(first, out.lines.Bytes()) {
				t.Fatalf("run %d differs from the first", i)
			}
			continue
		}
		first = bytes.Clone(out.lines.Bytes())
		if e := out.ended(t); e.Level != callwardenv1.Level_LEVEL_CRITICAL || !e.Complete {
			t.Errorf("the fraud ended as %v", e)
		}
		var ways []string
		for _, s := range of[*callwardenv1.CallStatus](&out) {
			ways = append(ways, s.Listen)
		}
		if !slices.Equal(ways, []string{listen.Screening, listen.Full}) {
			t.Errorf("listened %v, want the screen and then all", ways)
		}
		at := time.Duration(0)
		for _, ev := range out.events {
			if ev.At < at {
				t.Errorf("%s is told at %v, after %v", ev.Type, ev.At, at)
			}
			at = ev.At
		}
	}
}

func TestWayOfListeningThatCannotBeIsSaid(t *testing.T) {
	var out memory
	call := recorded(time.Second)
	if err := newScreening(t, DefaultConfig(), &transcribetest.Faulty{Write: quietly}, &out).Listen(context.Background(), call); err != nil {
		t.Fatal(err)
	}
	started, status := of[*callwardenv1.CallStarted](&out)[0], of[*callwardenv1.CallStatus](&out)[0]
	if started.Listen != listen.Full || !strings.Contains(status.Reason, "takes no phrase lists") {
		t.Errorf("started listening %q, because %q", started.Listen, status.Reason)
	}
}

func quietly(int, int, audio.Frame) ([]transcribe.Segment, error) { return nil, nil }

// A recogniser that stalls makes its call deaf within five seconds, and
// hearing again once it goes on.
func TestStalledBackendIsSaidAndItsReturn(t *testing.T) {
	for _, mode := range []string{listen.Full, listen.Screening} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &transcribetest.Faulty{Phrases: true}
				began := time.Now()
				e.Write = func(_, _ int, _ audio.Frame) ([]transcribe.Segment, error) {
					if passed := time.Since(began); passed > 10*time.Second && passed < 30*time.Second {
						<-time.After(30*time.Second - passed)
					}
					return nil, nil
				}
				var out memory
				p := newPipeline(t, DefaultConfig(), e, &out)
				if mode == listen.Screening {
					p = newScreening(t, DefaultConfig(), e, &out)
				}
				told := map[callwardenv1.Hearing]time.Duration{}
				p.sink = watched{&out, func(s *callwardenv1.CallStatus) {
					if s.Hearing != callwardenv1.Hearing_HEARING_DEAF {
						told[s.Hearing] = time.Since(began)
					} else if told[s.Hearing] == 0 {
						told[s.Hearing] = time.Since(began)
					}
				}}
				call := &source.Call{
					ID: "live", Tenant: "default", Source: "test", Legs: []audio.Leg{audio.Caller},
					Live: true, Audio: &live{frames: 2000},
				}
				if err := p.Listen(context.Background(), call); err != nil {
					t.Fatal(err)
				}
				if at := told[callwardenv1.Hearing_HEARING_DEAF]; at < 10*time.Second || at > 15*time.Second {
					t.Errorf("stalled at 10s, deaf at %v", at)
				}
				// Audio was lost meanwhile, so the call is heard and not whole.
				if at := told[callwardenv1.Hearing_HEARING_DEGRADED]; at < 30*time.Second || at > 32*time.Second {
					t.Errorf("went on at 30s, hearing again at %v", at)
				}
			})
		})
	}
}

// A recogniser that dies and comes back is heard again.
func TestBackendThatDiesAndReturnsIsHeardAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &transcribetest.Faulty{Phrases: true}
		began := time.Now()
		e.Write = func(_, _ int, _ audio.Frame) ([]transcribe.Segment, error) {
			if passed := time.Since(began); passed > 10*time.Second && passed < 30*time.Second {
				return nil, errors.New("connection lost")
			}
			return nil, nil
		}
		var out memory
		call := &source.Call{
			ID: "live", Tenant: "default", Source: "test", Legs: []audio.Leg{audio.Caller},
			Live: true, Audio: &live{frames: 2000},
		}
		if err := newScreening(t, DefaultConfig(), e, &out).Listen(context.Background(), call); err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, s := range of[*callwardenv1.CallStatus](&out) {
			said = append(said, s.Hearing.String()+" "+s.At.AsDuration().Round(time.Second).String())
		}
		want := []string{"HEARING_LISTENING 0s", "HEARING_DEAF 10s", "HEARING_LISTENING 30s"}
		if len(said) != 3 || said[0] != want[0] || said[1] != want[1] || !strings.HasPrefix(said[2], "HEARING_LISTENING 3") {
			t.Errorf("said %v, want about %v", said, want)
		}
	})
}

// A session that is away for a while is not replaced: it catches up with what
// it missed, its leg is deaf until then, and in the end all was heard.
func TestSessionThatIsAwayIsDeafAndCatchesUp(t *testing.T) {
	for _, mode := range []string{listen.Full, listen.Screening} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &transcribetest.Faulty{Phrases: true}
				began := time.Now()
				missed := 0
				e.Write = func(_, _ int, f audio.Frame) ([]transcribe.Segment, error) {
					if passed := time.Since(began); passed > 10*time.Second && passed < 12*time.Second {
						missed++
						return nil, fmt.Errorf("%w: restarting", transcribe.ErrAway)
					}
					if missed == 0 || mode == listen.Screening { // where words would wake the open vocabulary
						return nil, nil
					}
					missed = 0
					return []transcribe.Segment{{Leg: f.Leg, Utterance: 0, Final: true, Start: 10 * time.Second, End: 11 * time.Second, Text: "said meanwhile"}}, nil
				}
				var out memory
				p := newPipeline(t, DefaultConfig(), e, &out)
				if mode == listen.Screening {
					p = newScreening(t, DefaultConfig(), e, &out)
				}
				call := &source.Call{
					ID: "live", Tenant: "default", Source: "test", Legs: []audio.Leg{audio.Caller},
					Live: true, Audio: &live{frames: 1000},
				}
				if err := p.Listen(context.Background(), call); err != nil {
					t.Fatal(err)
				}
				var said []string
				for _, s := range of[*callwardenv1.CallStatus](&out) {
					said = append(said, s.Hearing.String()+" "+s.At.AsDuration().Round(time.Second).String())
					if l := s.Legs[0]; s.Hearing == callwardenv1.Hearing_HEARING_DEAF && l.Reason != "recogniser is away: restarting" {
						t.Errorf("deaf because of %q", l.Reason)
					}
				}
				if want := []string{"HEARING_LISTENING 0s", "HEARING_DEAF 10s", "HEARING_LISTENING 12s"}; !slices.Equal(said, want) {
					t.Errorf("said %v, want %v", said, want)
				}
				if n := e.Opened.Load(); n != 1 {
					t.Errorf("opened %d sessions", n)
				}
				if !out.ended(t).Complete {
					t.Error("the call was heard whole, and said not to be")
				}
				if n := len(of[*callwardenv1.TranscriptSegment](&out)); mode == listen.Full && n != 1 {
					t.Errorf("%d segments of what was missed, want 1", n)
				}
			})
		})
	}
}

// watched tells of each status as it is published.
type watched struct {
	*memory
	status func(*callwardenv1.CallStatus)
}

func (w watched) Publish(ctx context.Context, ev sink.Event) error {
	if s, ok := ev.Data.(*callwardenv1.CallStatus); ok {
		w.status(s)
	}
	return w.memory.Publish(ctx, ev)
}

// When the machine is full a new call is told as not monitored, and its source
// gets the busy answer to give.
func TestRefusedCallIsToldAndAnsweredBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &transcribetest.Faulty{Phrases: true, Native: true}
		e.Write = func(int, int, audio.Frame) ([]transcribe.Segment, error) {
			<-time.After(time.Minute)
			return nil, nil
		}
		var out memory
		p := newScreening(t, DefaultConfig(), e, &out)
		calling := func(id string) *source.Call {
			return &source.Call{
				ID: id, Tenant: "default", Source: "test", Legs: []audio.Leg{audio.Caller}, Live: true, Audio: &live{frames: 500},
			}
		}
		var busy, admitted atomic.Int32
		done := make(chan error)
		for range 8 {
			call := calling("first")
			call.Admitted = func() { admitted.Add(1) }
			go func() { done <- p.Listen(context.Background(), call) }()
		}
		<-time.After(5 * time.Second)
		if n := admitted.Load(); n != 8 {
			t.Errorf("%d calls were admitted, want 8", n)
		}
		late := calling("late")
		late.Admitted = func() { t.Error("a refused call was admitted") }
		err := p.Listen(context.Background(), late)
		if errors.Is(err, source.ErrBusy) {
			busy.Add(1)
		} else {
			t.Errorf("a full machine answered %v", err)
		}
		for range 8 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		var said []string
		for _, ev := range out.events {
			if ev.Call != "late" {
				continue
			}
			said = append(said, string(ev.Type))
			switch d := ev.Data.(type) {
			case *callwardenv1.CallStatus:
				if d.Hearing != callwardenv1.Hearing_HEARING_NOT_MONITORED || d.Reason == "" {
					t.Errorf("status %v", d)
				}
			case *callwardenv1.CallEnded:
				if d.Complete {
					t.Error("a call that nobody listened to was heard to its end")
				}
			}
		}
		if want := []string{"callwarden.call.started.v1", "callwarden.call.status.v1", "callwarden.call.ended.v1"}; !slices.Equal(said, want) {
			t.Errorf("told %v, want %v", said, want)
		}
	})
}

// Words that are found in a live call are told while it goes on.
func TestLiveScreenedCallIsTranscribedBesideTheScreen(t *testing.T) {
	tr := transcript(t, fraud)
	engine := closed{script.NewGrowing(func(string) (script.Transcript, error) { return tr, nil }, 3)}
	synctest.Test(t, func(t *testing.T) {
		var out memory
		call := recorded(0)
		call.Live = true
		call.Audio = &inTime{textsrc.Silence(tr.Duration()+time.Second, call.Legs...), time.Now()}
		if err := newScreening(t, DefaultConfig(), engine, &out).Listen(context.Background(), call); err != nil {
			t.Fatal(err)
		}
		if e := out.ended(t); e.Level != callwardenv1.Level_LEVEL_CRITICAL || !e.Complete {
			t.Errorf("the fraud ended as %v", e)
		}
	})
}

// inTime hands frames out when they have been spoken.
type inTime struct {
	audio.Reader
	began time.Time
}

func (r *inTime) ReadFrame(ctx context.Context) (audio.Frame, error) {
	f, err := r.Reader.ReadFrame(ctx)
	if err != nil {
		return f, err
	}
	select {
	case <-time.After(time.Until(r.began.Add(f.End()))):
		return f, nil
	case <-ctx.Done():
		return audio.Frame{}, ctx.Err()
	}
}

// A leg that is heard late says how late, and when that is over.
func TestLagIsToldAndItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &transcribetest.Faulty{Phrases: true}
		e.Write = func(_, n int, _ audio.Frame) ([]transcribe.Segment, error) {
			if n == 20 {
				<-time.After(2 * time.Second)
			}
			return nil, nil
		}
		var out memory
		call := &source.Call{
			ID: "live", Tenant: "default", Source: "test", Legs: []audio.Leg{audio.Caller}, Live: true, Audio: &live{frames: 400},
		}
		if err := newScreening(t, DefaultConfig(), e, &out).Listen(context.Background(), call); err != nil {
			t.Fatal(err)
		}
		var lags []time.Duration
		for _, s := range of[*callwardenv1.CallStatus](&out) {
			lags = append(lags, s.Legs[0].Lag.AsDuration())
		}
		if len(lags) != 3 || lags[0] != 0 || lags[1] < time.Second || lags[1] > 3*time.Second || lags[2] != 0 {
			t.Errorf("told lags %v, want one of two seconds and its end", lags)
		}
		if e := out.ended(t); !e.Complete {
			t.Errorf("nothing was lost, and it ended %v", e)
		}
	})
}
