package say

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func prompt(id string, rate int, d time.Duration, value int16) source.Prompt {
	pcm := make([]int16, int(d.Seconds()*float64(rate)))
	for i := range pcm {
		pcm[i] = value
	}
	return source.Prompt{ID: id, Rate: rate, PCM: pcm}
}

// heard keeps what is sent and when.
type heard struct {
	began time.Time
	at    []time.Duration
	pcm   []int16
	fail  error
	slow  time.Duration
}

func (h *heard) send(pcm []int16) error {
	if h.fail != nil {
		return h.fail
	}
	h.at = append(h.at, time.Since(h.began))
	h.pcm = append(h.pcm, pcm...)
	if h.slow > 0 {
		<-time.After(h.slow) // on the bubble's clock: a peer that reads slowly
	}
	return nil
}

// run runs q on the bubble's clock; what it returns ends it and gives its error.
func run(ctx context.Context, q *Queue, rate int, h *heard) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	h.began = time.Now()
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx, rate, h.send) }()
	return func() error { cancel(); return <-done }
}

func TestPromptsAreSaidOneAfterTheOtherAtThePaceOfSpeech(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(2)
		var h heard
		end := run(t.Context(), q, 8000, &h)
		if err := q.Play(prompt("a", 8000, 50*time.Millisecond, 5)); err != nil {
			t.Fatal(err)
		}
		if err := q.Play(prompt("b", 8000, 40*time.Millisecond, 7)); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if !q.Idle() {
			t.Error("not idle after all was said")
		}
		want := []time.Duration{0, 20, 40, 60, 80}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(h.at, want) {
			t.Errorf("sent at %v, want %v", h.at, want)
		}
		wantPCM := slices.Concat(slices.Repeat([]int16{5}, 400), make([]int16, 80), slices.Repeat([]int16{7}, 320))
		if !slices.Equal(h.pcm, wantPCM) {
			t.Errorf("%d samples differ from the prompts' %d", len(h.pcm), len(wantPCM))
		}
		if err := end(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestFullQueueRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(2)
		var h heard
		end := run(t.Context(), q, 8000, &h)
		second := prompt("s", 8000, time.Second, 1)
		for i, want := range []error{nil, nil, source.ErrNoRoom} {
			if err := q.Play(second); !errors.Is(err, want) {
				t.Errorf("prompt %d: %v, want %v", i, err, want)
			}
			synctest.Wait()
		}
		<-time.After(time.Second + Tick)
		synctest.Wait()
		if err := q.Play(second); err != nil {
			t.Errorf("with room again: %v", err)
		}
		if err := end(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		if err := q.Play(second); !errors.Is(err, ErrOver) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestBrokenPeerEndsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, broken := NewQueue(1), errors.New("broken pipe")
		h := heard{fail: broken}
		end := run(t.Context(), q, 8000, &h)
		if err := q.Play(prompt("a", 8000, time.Second, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := q.Play(prompt("a", 8000, time.Second, 1)); !errors.Is(err, broken) {
			t.Errorf("Play after it broke: %v", err)
		}
		if err := end(); !errors.Is(err, broken) {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestSlowPeerIsNotFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(1)
		h := heard{slow: 150 * time.Millisecond}
		end := run(t.Context(), q, 8000, &h)
		if err := q.Play(prompt("a", 8000, 200*time.Millisecond, 1)); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		for i := 1; i < len(h.at); i++ {
			if h.at[i]-h.at[i-1] < h.slow {
				t.Errorf("pieces %v apart", h.at[i]-h.at[i-1])
			}
		}
		if len(h.at) != 10 {
			t.Errorf("%d pieces", len(h.at))
		}
		if err := end(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestPromptIsBroughtToTheRateOfTheProtocol(t *testing.T) {
	for _, rate := range []int{8000, 16000, 24000, 48000} {
		synctest.Test(t, func(t *testing.T) {
			q := NewQueue(1)
			var h heard
			end := run(t.Context(), q, rate, &h)
			p := source.Prompt{ID: "tone", Rate: 16000, PCM: make([]int16, 16000)}
			for i := range p.PCM {
				p.PCM[i] = int16(10000 * math.Sin(2*math.Pi*440*float64(i)/16000))
			}
			kept := slices.Clone(p.PCM)
			if err := q.Play(p); err != nil {
				t.Fatal(err)
			}
			<-time.After(2 * time.Second)
			synctest.Wait()
			if err := end(); !errors.Is(err, context.Canceled) {
				t.Errorf("Run returned %v", err)
			}
			if len(h.pcm) != rate {
				t.Fatalf("%d Hz: %d samples for a second", rate, len(h.pcm))
			}
			for i := rate / 10; i < rate*9/10; i++ {
				want := 10000 * math.Sin(2*math.Pi*440*float64(i)/float64(rate))
				if math.Abs(want-float64(h.pcm[i])) > 30 {
					t.Fatalf("%d Hz: sample %d is %d, want %.0f", rate, i, h.pcm[i], want)
				}
			}
			if !slices.Equal(p.PCM, kept) {
				t.Error("the prompt itself was changed")
			}
		})
	}
}

func TestPromptWithoutSoundIsRefused(t *testing.T) {
	q := NewQueue(1)
	for _, p := range []source.Prompt{{}, {Rate: 8000}, {Rate: 7999, PCM: []int16{1}}, {Rate: 48001, PCM: []int16{1}}} {
		if err := q.Play(p); err == nil || errors.Is(err, source.ErrNoRoom) {
			t.Errorf("%d Hz, %d samples: %v", p.Rate, len(p.PCM), err)
		}
	}
}
