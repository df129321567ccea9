package pipeline

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// sides is a live call of two legs in real time, in frames of 20 ms. What a
// leg has at a time is said by heard; a leg that has nothing is told the time
// once a second.
type sides struct {
	length time.Duration
	heard  func(leg audio.Leg, at time.Duration) (comes bool, lost time.Duration)
	at     time.Duration
	ready  []audio.Frame
}

func (s *sides) ReadFrame(ctx context.Context) (audio.Frame, error) {
	for len(s.ready) == 0 {
		if s.at == s.length {
			return audio.Frame{}, io.EOF
		}
		t := time.NewTimer(20 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return audio.Frame{}, ctx.Err()
		}
		for _, leg := range []audio.Leg{audio.Caller, audio.Callee} {
			f := audio.Frame{Leg: leg, Start: s.at, Rate: 8000}
			comes, lost := s.heard(leg, s.at)
			switch {
			case comes:
				f.PCM, f.Lost = make([]int16, 160), lost
			case s.at%time.Second != 0:
				continue
			}
			s.ready = append(s.ready, f)
		}
		s.at += 20 * time.Millisecond
	}
	f := s.ready[0]
	s.ready = s.ready[1:]
	return f, nil
}

// told is what the status events of a live call say, without repetition: the
// call's hearing, then that of its legs with their reasons.
func told(t *testing.T, reader audio.Reader, e transcribe.Engine) (all []string, end *callwardenv1.CallEnded) {
	t.Helper()
	var out memory
	call := &source.Call{
		ID: "live", Tenant: "default", Source: "test", Legs: []audio.Leg{audio.Caller, audio.Callee}, Live: true, Audio: reader,
	}
	if err := newPipeline(t, DefaultConfig(), e, &out).Listen(context.Background(), call); err != nil {
		t.Fatal(err)
	}
	name := func(h callwardenv1.Hearing) string {
		return strings.ToLower(strings.TrimPrefix(h.String(), "HEARING_"))
	}
	for _, s := range of[*callwardenv1.CallStatus](&out) {
		text := name(s.Hearing)
		for _, l := range s.Legs {
			text += "; " + name(l.Hearing)
			if l.Reason != "" {
				text += ", " + l.Reason
			}
		}
		text = fmt.Sprintf("%ds %s", s.At.AsDuration().Round(time.Second)/time.Second, text)
		if len(all) == 0 || all[len(all)-1] != text {
			all = append(all, text)
		}
	}
	return all, out.ended(t)
}

func deafToAll() *transcribetest.Faulty {
	e := &transcribetest.Faulty{}
	e.Write = func(int, int, audio.Frame) ([]transcribe.Segment, error) { return nil, nil }
	return e
}

func TestSilentLegIsSaidFromTheStartAndUntilAudioComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, end := told(t, &sides{length: 30 * time.Second, heard: func(leg audio.Leg, at time.Duration) (bool, time.Duration) {
			return leg == audio.Caller || at >= 10*time.Second && at < 14*time.Second || at >= 25*time.Second, 0
		}}, deafToAll())
		want := []string{
			"0s listening; listening; listening",
			"5s degraded; listening; degraded, no audio from the callee so far",
			"10s listening; listening; listening",
			"19s degraded; listening; degraded, no audio from the callee since 0:14",
			"25s listening; listening; listening",
		}
		if !slices.Equal(got, want) {
			t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if !end.Complete {
			t.Errorf("all audio was heard: %v", end)
		}
	})
}

func TestCallWithoutMediaIsDeaf(t *testing.T) {
	for name, reader := range map[string]func() audio.Reader{
		"only the time comes": func() audio.Reader {
			return &sides{length: 12 * time.Second, heard: func(audio.Leg, time.Duration) (bool, time.Duration) { return false, 0 }}
		},
		"nothing comes": func() audio.Reader { return nothing(12 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, end := told(t, reader(), deafToAll())
				last := got[len(got)-1]
				if !strings.HasSuffix(last, "deaf; degraded, no audio from the caller so far; degraded, no audio from the callee so far") {
					t.Errorf("told %q", got)
				}
				if end.Complete || len(got) > 3 {
					t.Errorf("complete %v, told %q", end.Complete, got)
				}
			})
		})
	}
}

// nothing is a call of which nothing comes until it is hung up.
type nothing time.Duration

func (n nothing) ReadFrame(ctx context.Context) (audio.Frame, error) {
	select {
	case <-time.After(time.Duration(n)):
		return audio.Frame{}, io.EOF
	case <-ctx.Done():
		return audio.Frame{}, ctx.Err()
	}
}

func TestLossesAreSummedAndSaidWhileTheyLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, end := told(t, &sides{length: 40 * time.Second, heard: func(leg audio.Leg, at time.Duration) (bool, time.Duration) {
			// One frame in ten for ten seconds, and a rare one before that.
			bad := leg == audio.Callee && (at >= 10*time.Second && at < 20*time.Second && at%(200*time.Millisecond) == 0 || at == 3*time.Second)
			if bad {
				return true, 20 * time.Millisecond
			}
			return true, 0
		}}, deafToAll())
		if len(got) != 3 || !strings.HasSuffix(got[1], "degraded; listening; degraded, over 5 % of the audio of the last 10 s was lost on its way") ||
			!strings.HasSuffix(got[2], "listening; listening; listening") {
			t.Errorf("told\n%s", strings.Join(got, "\n"))
		}
		if lost := end.Legs[1].Lost.AsDuration(); lost != 1020*time.Millisecond {
			t.Errorf("lost %v, want 1.02s", lost)
		}
		if end.Legs[0].Lost != nil {
			t.Errorf("the other leg lost %v", end.Legs[0].Lost)
		}
	})
}

func TestStalledRecogniserIsDeafWithinFiveSecondsAndHearsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &transcribetest.Faulty{}
		e.Write = func(session, n int, _ audio.Frame) ([]transcribe.Segment, error) {
			if n == 250 { // 5 s into the call
				<-time.After(8 * time.Second)
			}
			return nil, nil
		}
		got, _ := told(t, &sides{length: 25 * time.Second, heard: func(audio.Leg, time.Duration) (bool, time.Duration) { return true, 0 }}, e)
		deaf := slices.IndexFunc(got, func(s string) bool { return strings.Contains(s, "s deaf; deaf, the recogniser does not answer; deaf") })
		if deaf < 0 || !strings.HasPrefix(got[deaf], "5s ") {
			t.Fatalf("told\n%s", strings.Join(got, "\n"))
		}
		if last := got[len(got)-1]; strings.Contains(last, "deaf") {
			t.Errorf("it hears again, told\n%s", strings.Join(got, "\n"))
		}
	})
}

func TestQueueDropsWholeBacklogButKeepsKeys(t *testing.T) {
	q := newQueue(10) // 200 ms
	now := time.Now()
	frame := func(i int, keys string) audio.Frame {
		return audio.Frame{Start: time.Duration(i) * 60 * time.Millisecond, Rate: 8000, PCM: make([]int16, 480), Keys: keys}
	}
	for i, keys := range []string{"4", "", "7", "", "2"} {
		if idle := q.put(frame(i, keys), now); idle != (i == 0) {
			t.Errorf("frame %d: idle %v", i, idle)
		}
	}
	a, ok := q.take()
	if !ok || a.Keys != "472" || a.Start != 240*time.Millisecond {
		t.Errorf("took %v, keys %q", a.Start, a.Keys)
	}
	if _, ok := q.take(); ok {
		t.Error("more is left than the latest frame")
	}
	if !q.put(frame(9, ""), now) {
		t.Error("nobody takes, and nobody is told")
	}
	if d := q.droppedSoFar(); d != 240*time.Millisecond {
		t.Errorf("dropped %v, want 240ms", d)
	}
}
