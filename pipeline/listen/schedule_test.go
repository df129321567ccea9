package listen

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// The oldest audio goes first, and a call with findings before those without
// that are not much older.
func TestTurnsGoByAgeAndFindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler(1)
		now := time.Now()
		ago := func(d time.Duration) time.Time { return now.Add(-d) }
		jobs := []struct {
			name string
			job
		}{
			{"recording", job{}},
			{"fresh", job{due: ago(0)}},
			{"old", job{due: ago(300 * time.Millisecond)}},
			{"fresh with findings", job{due: ago(0), first: true}},
			{"old with findings", job{due: ago(100 * time.Millisecond), first: true}},
			{"very old", job{due: ago(findingsFirst + time.Second)}},
		}
		var got []string
		var group sync.WaitGroup
		if err := s.acquire(t.Context(), job{}); err != nil { // the only slot is taken
			t.Fatal(err)
		}
		for _, j := range jobs {
			group.Go(func() {
				err := s.run(t.Context(), j.job, func() { got = append(got, j.name) })
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		s.release(job{})
		group.Wait()
		want := []string{"very old", "old with findings", "fresh with findings", "old", "fresh", "recording"}
		if !slices.Equal(got, want) {
			t.Errorf("turns were %q, want %q", got, want)
		}
	})
}

func TestWaiterThatGivesUpHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler(1)
		if err := s.acquire(t.Context(), job{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				if err := s.acquire(ctx, job{due: time.Now()}); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want %v", err, context.Canceled)
				}
			})
		}
		synctest.Wait()
		cancel()
		group.Wait()
		s.release(job{})
		if s.running != 0 || len(s.queue) != 0 {
			t.Errorf("%d slots taken and %d waiting after all have gone", s.running, len(s.queue))
		}
		if err := s.run(t.Context(), job{}, func() {}); err != nil {
			t.Error(err)
		}
	})
}

// crowd is a machine with one core on which each step takes a while, and live
// calls that speak without pause.
type crowd struct {
	t *testing.T
	l *Listener
	// cost is what it takes to decode 100 ms of a leg in each way.
	open, screen time.Duration
	group        sync.WaitGroup
}

func newCrowd(t *testing.T, screen, open time.Duration) *crowd {
	c := &crowd{t: t, screen: screen, open: open}
	l, err := New(c, Config{
		Mode: Screening, Screens: func() Screen { return lists{} }, Voice: func() audio.Voice { return sounding{} },
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l.sched = newScheduler(1)
	c.l = l
	return c
}

func (c *crowd) Info() transcribe.Info {
	return (&transcribetest.Faulty{Native: true, Phrases: true}).Info()
}
func (c *crowd) Close() error { return nil }

func (c *crowd) Open(_ context.Context, opt transcribe.Options) (transcribe.Session, error) {
	cost, text := c.screen, "arrest warrant"
	if len(opt.Phrases) == 0 {
		cost, text = c.open, "so many words"
	}
	return (&transcribetest.Faulty{Write: func(_, n int, f audio.Frame) ([]transcribe.Segment, error) {
		<-time.After(cost)
		if n == 10 { // after a second
			return []transcribe.Segment{{Leg: f.Leg, Final: true, Start: f.Start, End: f.End(), Text: text}}, nil
		}
		return nil, nil
	}}).Open(context.Background(), opt)
}

// talk has a call of one leg speak for so long.
func (c *crowd) talk(id string, d time.Duration, findings bool) error {
	call, err := c.l.Begin(Subject{ID: id, Legs: []audio.Leg{audio.Caller}, Live: true})
	if err != nil {
		return err
	}
	queue := make(chan audio.Frame, 10000)
	began := time.Now()
	over := make(chan struct{})
	var legs, rest sync.WaitGroup
	rest.Go(func() {
		for at := time.Duration(0); at < d; at += gather {
			<-time.After(time.Until(began.Add(at + gather)))
			queue <- audio.Frame{Leg: audio.Caller, Start: at, Rate: 8000, PCM: slices.Repeat([]int16{1000, -1000}, 400)}
		}
		close(queue)
	})
	var mu sync.Mutex // judges one at a time
	judge := func(segs []transcribe.Segment, at time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		call.Weigh(segs, at)
		if findings && len(segs) > 0 {
			call.Raise()
		}
	}
	legs.Go(func() {
		for f := range queue {
			segs, err := call.Hear(context.Background(), f, began.Add(f.End()))
			if err != nil {
				c.t.Error(err)
			}
			judge(segs, f.End())
		}
	})
	rest.Go(func() {
		for {
			select {
			case <-call.Work():
			case <-over:
				return
			}
			for more := true; more; {
				var segs []transcribe.Segment
				if segs, more, err = call.Transcribe(context.Background()); err != nil {
					c.t.Error(err)
				}
				judge(segs, 0)
			}
		}
	})
	legs.Wait()
	close(over)
	rest.Wait()
	return call.Close()
}

// A machine that holds the screening of its calls and not the transcribing:
// calls without findings lose it, those with findings keep it, and nobody is
// refused for good.
func TestOverloadTakesTheOpenVocabularyFromCallsWithoutFindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3*time.Millisecond, 20*time.Millisecond) // 6 calls: 0.18 and 1.2 cores
		for i := range 6 {
			c.group.Go(func() {
				if err := c.talk(string(rune('a'+i)), 40*time.Second, i < 2); err != nil {
					t.Error(err)
				}
			})
		}
		<-time.After(35 * time.Second)
		s := c.l.Stats()
		if s.Sheds == 0 {
			t.Errorf("nothing was shed: %+v", s)
		}
		if s.LagP50 > lateAfter {
			t.Errorf("the lag is %v in the median in spite of shedding", s.LagP50)
		}
		c.l.mu.Lock()
		for call := range c.l.calls {
			if state := call.State(); (call.id == "a" || call.id == "b") && !state.Transcribing {
				t.Errorf("call %s has findings and lost the open vocabulary", call.id)
			}
		}
		c.l.mu.Unlock()
		c.group.Wait()
	})
}

// A machine that does not even hold the screening refuses new calls, and takes
// them again when there is room.
func TestOverloadRefusesNewCallsUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 12*time.Millisecond, 12*time.Millisecond)
		for i := range 10 { // 1.2 cores
			c.group.Go(func() {
				if err := c.talk(string(rune('a'+i)), 20*time.Second, false); err != nil {
					t.Error(err)
				}
			})
		}
		<-time.After(15 * time.Second)
		if err := c.talk("late", time.Second, false); !errors.Is(err, ErrFull) {
			t.Errorf("a full machine answered a new call with %v", err)
		}
		if s := c.l.Stats(); !s.Full || s.Refused != 1 {
			t.Errorf("stats say %+v", s)
		}
		c.group.Wait()
		// The calls have ended; what refuses must find out without any traffic.
		<-time.After(10 * time.Second)
		if err := c.talk("later", 5*time.Second, false); err != nil {
			t.Errorf("an empty machine answered a new call with %v", err)
		}
	})
}

// One decode that never returns must not go unnoticed by those who call next.
func TestStalledMachineRefusesNewCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, time.Minute, time.Minute)
		for i := range 2 {
			c.group.Go(func() {
				if err := c.talk(string(rune('a'+i)), 5*time.Second, false); err != nil {
					t.Error(err)
				}
			})
		}
		<-time.After(4 * time.Second)
		if err := c.talk("late", time.Second, false); !errors.Is(err, ErrFull) {
			t.Errorf("a stalled machine answered a new call with %v", err)
		}
		c.group.Wait()
	})
}
