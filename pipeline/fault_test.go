package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/textsrc"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/route"
	"github.com/callwarden/callwarden/transcribe/script"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// A call whose transcribing stalls or fails is screened all the same: it says
// within five seconds that it is no more than that, and when it is over.
func TestTranscribingThatStallsOrFailsIsSaidAndItsReturn(t *testing.T) {
	for name, fault := range map[string]func(until time.Duration) error{
		"stalls": func(left time.Duration) error { <-time.After(left); return nil },
		"fails":  func(time.Duration) error { return errors.New("connection lost") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var open [20]atomic.Bool // sessions of the open vocabulary
				e := &transcribetest.Faulty{Phrases: true}
				e.Opening = func(n int, opt transcribe.Options) error {
					open[n].Store(len(opt.Phrases) == 0)
					return nil
				}
				e.Write = func(session, n int, f audio.Frame) ([]transcribe.Segment, error) {
					passed := time.Since(began)
					switch {
					case open[session].Load() && passed > 5*time.Second && passed < 20*time.Second:
						return nil, fault(20*time.Second - passed)
					case !open[session].Load() && n == 20: // reason to transcribe
						return []transcribe.Segment{{Leg: f.Leg, Final: true, Start: f.Start, End: f.End(), Text: "read me the code"}}, nil
					}
					return nil, nil
				}
				told := map[string]time.Duration{}
				var out memory
				p := newScreening(t, DefaultConfig(), e, &out)
				p.sink = watched{&out, func(s *callwardenv1.CallStatus) {
					what := s.Hearing.String()
					if strings.HasPrefix(s.Reason, "screened only: ") {
						what = "screened only"
					}
					told[what] = time.Since(began)
				}}
				call := &source.Call{
					ID: "live", Tenant: "default", Source: "test", Legs: []audio.Leg{audio.Caller}, Live: true, Audio: &live{frames: 1500},
				}
				if err := p.Listen(context.Background(), call); err != nil {
					t.Fatal(err)
				}
				if at := told["screened only"]; at < 5*time.Second || at > 10*time.Second {
					t.Errorf("broke at 5s, said at %v: %v", at, told)
				}
				if at := told[callwardenv1.Hearing_HEARING_LISTENING.String()]; at < 20*time.Second || at > 25*time.Second {
					t.Errorf("went on at 20s, said at %v: %v", at, told)
				}
				if _, deaf := told[callwardenv1.Hearing_HEARING_DEAF.String()]; deaf {
					t.Errorf("the leg was screened, and said to be deaf: %v", told)
				}
			})
		})
	}
}

// hanging is a recogniser over a network that answers nobody from a moment on.
type hanging struct {
	transcribe.Engine
	from time.Time
}

func (h *hanging) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if !time.Now().Before(h.from) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s, err := h.Engine.Open(ctx, opt)
	return &hangingSession{s, h}, err
}

type hangingSession struct {
	transcribe.Session
	h *hanging
}

func (s *hangingSession) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if !time.Now().Before(s.h.from) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Session.Write(ctx, f)
}

// A call behind a route with a fallback is heard to its end, whenever the
// backend stops answering: nothing of it is deaf, and no finding is lost.
func TestCallWithAFallbackIsHeardWhole(t *testing.T) {
	tr := transcript(t, fraud)
	for after := time.Duration(0); after < tr.Duration(); after += 3 * time.Second {
		synctest.Test(t, func(t *testing.T) {
			speak := func() *script.Engine {
				return script.NewGrowing(func(string) (script.Transcript, error) { return tr, nil }, 3)
			}
			cfg := route.DefaultConfig()
			cfg.Rules = []route.Rule{{Backend: "far", Fallback: "near"}}
			engine, err := route.New(cfg, map[string]transcribe.Engine{"far": &hanging{speak(), time.Now().Add(after)}, "near": speak()}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			var out memory
			call := recorded(0)
			call.Live = true
			call.Audio = &inTime{textsrc.Silence(tr.Duration()+time.Second, call.Legs...), time.Now()}
			if err := newPipeline(t, DefaultConfig(), engine, &out).Listen(context.Background(), call); err != nil {
				t.Fatal(err)
			}
			if err := engine.Close(); err != nil {
				t.Error(err)
			}
			if e := out.ended(t); e.Level != callwardenv1.Level_LEVEL_CRITICAL || !e.Complete {
				t.Errorf("the backend hangs after %v: the fraud ended as %v", after, e)
			}
			for _, s := range of[*callwardenv1.CallStatus](&out) {
				if s.Hearing == callwardenv1.Hearing_HEARING_DEAF {
					t.Errorf("the backend hangs after %v: deaf at %v, %s", after, s.At.AsDuration(), s.Reason)
				}
			}
			if n := len(of[*callwardenv1.TranscriptSegment](&out)); n == 0 {
				t.Error("no words were told")
			}
			finals := map[string]int{}
			for _, s := range of[*callwardenv1.TranscriptSegment](&out) {
				if s.Final {
					finals[s.Leg.String()+" "+s.Text]++
				}
			}
			for text, n := range finals {
				if n > 1 {
					t.Errorf("the backend hangs after %v: %q was told %d times", after, text, n)
				}
			}
			if len(finals) != len(tr.Lines) {
				t.Errorf("the backend hangs after %v: %d utterances were told, want %d", after, len(finals), len(tr.Lines))
			}
		})
	}
}
