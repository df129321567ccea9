package grpcsrc

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/say"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// passingMost may wait for a client that is slow to read before what is worth
	// something only at the moment is missed, and eventsMost before anything is:
	// a level, or the end, still has room.
	passingMost = 256
	eventsMost  = 512
	// promptsMost may wait to be sent.
	promptsMost = 4
	// promptLongest is the longest that one message has room for: at 48 kHz two
	// bytes a sample are 2.9 MB.
	promptLongest = 30 * time.Second
)

// peer is the way back of one call. It is a [source.Peer].
type peer struct {
	open  opening
	id    string
	count *counters
	log   *slog.Logger

	woke chan struct{} // holds one when there may be something to send; say sends

	mu      sync.Mutex
	waiting []*callwardenv1.StreamResponse
	prompts int // of those
	warned  bool
	closed  bool // nothing more is said
	over    bool // and nothing more is sent
}

// player is the peer of a client that plays what it is sent.
type player struct{ *peer }

var (
	_ source.Peer   = (*peer)(nil)
	_ source.Player = player{}
)

func newPeer(open opening, count *counters, log *slog.Logger) *peer {
	return &peer{open: open, count: count, log: log, woke: make(chan struct{}, 1)}
}

// source is p as a handler sees it.
func (p *peer) source() source.Peer {
	if p.open.wants.GetPrompts() {
		return player{p}
	}
	return p
}

// opened is said first.
func (p *peer) opened(call *source.Call) {
	p.say(&callwardenv1.StreamResponse{Response: &callwardenv1.StreamResponse_Opened{
		Opened: &callwardenv1.CallOpened{Id: call.ID, Tenant: call.Tenant},
	}}, eventsMost)
}

// Tell implements [source.Peer].
func (p *peer) Tell(ev sink.Event) {
	if !p.wanted(ev) {
		return
	}
	out := onWire(ev)
	if out == nil {
		return
	}
	most := eventsMost
	if ev.Type.Passing() {
		most = passingMost
	}
	if !p.say(&callwardenv1.StreamResponse{Response: &callwardenv1.StreamResponse_Event{Event: out}}, most) {
		p.count.untold.Add(1)
	}
}

func (p *peer) wanted(ev sink.Event) bool {
	w := p.open.wants
	switch d := ev.Data.(type) {
	case *callwardenv1.TranscriptSegment:
		return w.GetHypotheses() || w.GetTranscripts() && d.GetFinal()
	case *callwardenv1.CallLevels:
		return w.GetLevels()
	}
	return true
}

// say queues a response where fewer than most wait, and reports whether it did.
// Where it did not, the client is told in that place.
func (p *peer) say(r *callwardenv1.StreamResponse, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.waiting)
	switch {
	case p.closed || p.over:
		return false
	case n < most:
		p.waiting = append(p.waiting, r)
		signal(p.woke)
		return true
	}
	if m := p.waiting[n-1].GetMissed(); m != nil {
		m.Events++
	} else {
		p.waiting = append(p.waiting, &callwardenv1.StreamResponse{Response: &callwardenv1.StreamResponse_Missed{Missed: &callwardenv1.CallMissed{Events: 1}}})
	}
	if !p.warned {
		p.warned = true
		p.log.Warn("the client reads too slowly: it is not told every event", "source", Name, "call", p.id)
	}
	return false
}

// Play implements [source.Player].
func (p player) Play(prompt source.Prompt) error {
	if n := audio.Span(len(prompt.PCM), prompt.Rate); n > promptLongest {
		return fmt.Errorf("the prompt lasts %v, %v is the most for one message", n.Round(time.Second), promptLongest)
	}
	pcm, err := resampled(prompt.PCM, prompt.Rate, p.open.rateHz)
	if err != nil {
		return fmt.Errorf("prompt %q: %w", prompt.ID, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed || p.over:
		return say.ErrOver
	case p.prompts >= promptsMost:
		return source.ErrNoRoom
	}
	p.prompts++
	p.waiting = append(p.waiting, &callwardenv1.StreamResponse{Response: &callwardenv1.StreamResponse_Prompt{Prompt: &callwardenv1.CallPrompt{
		Id: prompt.ID, Text: prompt.Text, Samples: encode(p.open.encoding, pcm),
	}}})
	signal(p.woke)
	return nil
}

// close says that nothing more will be said: what waits is sent yet.
func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	signal(p.woke)
}

// next is what to send next, nil where nothing waits; over reports that nothing
// will.
func (p *peer) next() (r *callwardenv1.StreamResponse, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(p.waiting) > 0:
		r = p.waiting[0]
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		if r.GetPrompt() != nil {
			p.prompts--
		}
	case p.closed:
		p.over = true
		return nil, true
	default:
		p.waiting = nil
	}
	return r, false
}

// send sends what is said until close, or the first error, which is that the
// client is gone.
func (p *peer) send(send func(*callwardenv1.StreamResponse) error) {
	for {
		r, over := p.next()
		if over {
			return
		}
		if r == nil {
			<-p.woke
			continue
		}
		if err := send(r); err != nil {
			p.abandon(r)
			return
		}
		if r.GetEvent() != nil {
			p.count.told.Add(1)
		}
	}
}

// abandon counts what was not sent.
func (p *peer) abandon(failed *callwardenv1.StreamResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for _, r := range append(p.waiting, failed) {
		if r.GetEvent() != nil {
			p.count.untold.Add(1)
		}
	}
	p.waiting = nil
}

// resampled is pcm at another rate.
func resampled(pcm []int16, from, to int) ([]int16, error) {
	if from == to {
		return pcm, nil
	}
	r, err := audio.NewResampler(from, to)
	if err != nil {
		return nil, err
	}
	in := make([]float32, len(pcm))
	for i, v := range pcm {
		in[i] = float32(v)
	}
	out := r.Flush(r.Process(nil, in))
	pcm = make([]int16, len(out))
	for i, v := range out {
		pcm[i] = int16(min(max(v, -32768), 32767))
	}
	return pcm, nil
}
