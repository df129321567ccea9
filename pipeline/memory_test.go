package pipeline

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMemoryIsBackAfterAThousandCalls(t *testing.T) {
	synctest.Test(t, memoryIsBack) // on a clock of its own no machine is too slow for them
}

func memoryIsBack(t *testing.T) {
	p := unheard(t)
	talk := callerOf(t)
	wave := func(n int) {
		var all sync.WaitGroup
		began := time.Now()
		for i := range 100 {
			all.Go(func() {
				if err := p.Listen(context.Background(), &source.Call{
					ID: fmt.Sprintf("%d-%d", n, i), Tenant: "default", Source: "test", Live: true, Legs: []audio.Leg{audio.Caller, audio.Callee},
					Audio: &paced{frame: 100 * time.Millisecond, length: 100 * time.Millisecond, began: began, talk: talk},
				}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	wave(0)
	wave(1)
	before := inUse()
	for n := range 10 {
		wave(2 + n)
	}
	// Stacks and timers that are kept for the next goroutines vary by this much.
	const slack = 512 << 10
	if after := inUse(); after > before+before/10+slack {
		t.Errorf("%d KiB are in use after 1,000 calls, %d before", after>>10, before>>10)
	}
}
