package load

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// probe is a sink that notes when events were published.
type probe struct {
	mu    sync.Mutex
	calls map[string]*played // running ones, by id
	seen  Seen
}

// played is one call that is being played.
type played struct {
	began   time.Time
	fraud   bool
	known   map[string]bool // findings that were published
	alerted bool
}

// Seen is what was published in some time.
type Seen struct {
	Ended, Incomplete int
	Frauds, Alerted   int // ended ones, and those of them with a warning
	FalseAlarms       int // ended ordinary calls with a warning
	Dropped           time.Duration
	// Delays are from the end of a finding's words to its first event, Alerts
	// from the beginning of a fraud to its first warning.
	Delays, Alerts []time.Duration
}

var _ sink.Sink = (*probe)(nil)

func newProbe() *probe { return &probe{calls: make(map[string]*played)} }

func (p *probe) begin(call string, began time.Time, fraud bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[call] = &played{began: began, fraud: fraud, known: make(map[string]bool)}
}

// end forgets the call; whole says that it was played to its end.
func (p *probe) end(call string, whole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls[call]
	delete(p.calls, call)
	if c == nil || !whole {
		return
	}
	p.seen.Ended++
	switch {
	case c.fraud && c.alerted:
		p.seen.Frauds++
		p.seen.Alerted++
	case c.fraud:
		p.seen.Frauds++
	case c.alerted:
		p.seen.FalseAlarms++
	}
}

// Publish implements [sink.Sink].
func (p *probe) Publish(_ context.Context, ev sink.Event) error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls[ev.Call]
	if c == nil {
		return nil
	}
	switch data := ev.Data.(type) {
	case *callwardenv1.RiskFinding:
		if f := data.Finding; !c.known[f.Id] {
			c.known[f.Id] = true
			p.seen.Delays = append(p.seen.Delays, now.Sub(c.began.Add(f.End.AsDuration())))
		}
	case *callwardenv1.RiskLevel:
		if data.Level >= callwardenv1.Level_LEVEL_WARNING && !c.alerted {
			c.alerted = true
			if c.fraud {
				p.seen.Alerts = append(p.seen.Alerts, now.Sub(c.began))
			}
		}
	case *callwardenv1.CallEnded:
		for _, l := range data.Legs {
			p.seen.Dropped += l.Dropped.AsDuration()
		}
		if !data.Complete && data.Reason != "cancelled" {
			p.seen.Incomplete++
		}
	}
	return nil
}

// Close implements [sink.Sink].
func (p *probe) Close(context.Context) error { return nil }

// take returns what was seen since the last take.
func (p *probe) take() Seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen
	p.seen = Seen{}
	return s
}

// quantile is the q-th of ds, 0 where there are none; ds is sorted.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[min(len(ds)-1, int(q*float64(len(ds))))]
}
