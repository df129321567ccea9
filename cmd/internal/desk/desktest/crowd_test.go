//go:build e2e

package desktest_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/desk/desktest"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// crowd is many calls at once.
type crowd struct {
	s     *station
	calls []*desktest.Call
	next  int
	round int
}

var crowdTactics = []string{"otp_request", "remote_access_request", "gift_card_request", "urgency", "secrecy", "impersonation", "lure_account"}

// crowd begins n calls: one in 30 is critical, others less or nothing, as where
// suspicious calls are tapped.
func (s *station) crowd(n int) *crowd {
	s.t.Helper()
	c := &crowd{s: s}
	ctx := s.t.Context()
	for i := range n {
		call := s.call(fmt.Sprintf("crowd-%03d", i), time.Duration(10+i)*time.Second, "from", fmt.Sprintf("+1 415 ##%04d", i), "to", "+44 161 ### ##11")
		s.must(call.Hear(ctx, callwardenv1.Hearing_HEARING_LISTENING, ""))
		switch {
		case i%30 == 0:
			s.must(call.Score(ctx, crowdTactics[i%7], 14))
		case i%10 == 0:
			s.must(call.Score(ctx, crowdTactics[i%7], 8))
		case i%3 == 0:
			s.must(call.Score(ctx, crowdTactics[i%7], 2))
		}
		c.calls = append(c.calls, call)
	}
	return c
}

// event tells one event of the next call, and returns the call's index and its
// new score as the page shows it: one that it did not have before.
func (c *crowd) event(ctx context.Context) (i int, score string, err error) {
	i = c.next
	if c.next++; c.next == len(c.calls) {
		c.next = 0
		c.round++
	}
	base := 2.0
	switch {
	case i%30 == 0:
		base = 14
	case i%10 == 0:
		base = 7
	}
	// Up and down within the level, in steps of a tenth.
	v := base + float64(c.round%36+1)/10
	return i, fmt.Sprint(math.Round(10*v) / 10), c.calls[i].Score(ctx, crowdTactics[i%7], v)
}

// stir tells so many events a second until stop is called.
func (c *crowd) stir(perSecond int) (stop func()) {
	ctx, cancel := context.WithCancel(c.s.t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, _, err := c.event(ctx); err != nil && ctx.Err() == nil {
					c.s.t.Error(err)
					return
				}
			}
		}
	})
	return sync.OnceFunc(func() { cancel(); group.Wait() })
}

func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
