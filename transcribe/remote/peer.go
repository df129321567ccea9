package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
)

const (
	// A peer is asked this often how it is, and is lost when it has not
	// answered twice.
	pollEvery = time.Second
	pollWait  = 3 * time.Second
	// A peer that answers nonsense is left alone for so long.
	nonsenseRest = 10 * time.Second
)

// peer is one address.
type peer struct {
	e      *Engine
	addr   string
	conn   *grpc.ClientConn
	client callwardenv1.TranscribeServiceClient

	mu    sync.Mutex
	up    bool
	why   error // why it is not up, or not to be used
	caps  *callwardenv1.GetCapabilitiesResponse
	own   int             // streams of ours
	then  int             // streams of ours when caps were told
	rest  time.Time       // until when it is left alone
	tired error           // why
	epoch context.Context // ends when the peer is lost: the streams on it with it
	end   context.CancelFunc
}

// watch keeps an eye on the peer until ctx ends.
func (p *peer) watch(ctx context.Context) {
	missed := 0
	for ctx.Err() == nil {
		state := p.conn.GetState()
		if state == connectivity.Idle {
			p.conn.Connect()
		}
		caps, err := p.ask(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			missed = 0
			p.found(caps)
		case status.Code(err) == codes.DeadlineExceeded && missed == 0:
			missed++ // once may be a hiccup
			continue
		default:
			missed = 0
			p.lose(err)
		}
		p.rested(ctx)
	}
}

// rested waits for the next look: some time, or less if the connection changes.
func (p *peer) rested(ctx context.Context) {
	wait := pollEvery
	state := p.conn.GetState()
	if state != connectivity.Ready {
		wait = pollEvery / 10 // it tells by itself; this is for what it does not tell
	}
	timed, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	p.conn.WaitForStateChange(timed, state)
}

func (p *peer) ask(ctx context.Context) (*callwardenv1.GetCapabilitiesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	return p.client.GetCapabilities(ctx, &callwardenv1.GetCapabilitiesRequest{})
}

// found notes what the peer says of itself.
func (p *peer) found(caps *callwardenv1.GetCapabilitiesResponse) {
	err := p.e.agree(p.addr, caps)
	p.mu.Lock()
	was, before := p.up, p.why
	p.caps, p.then, p.up, p.why = caps, p.own, err == nil, err
	if p.up && p.epoch == nil {
		p.epoch, p.end = context.WithCancel(context.Background()) // not of one call: lose ends it
	}
	p.mu.Unlock()
	switch {
	case err == nil && !was:
		p.e.log.Info("transcriber is there", "backend", p.e.cfg.name(), "address", p.addr, "model", caps.Model)
	case err != nil && (before == nil || before.Error() != err.Error()):
		p.e.log.Error("transcriber cannot be used", "backend", p.e.cfg.name(), "address", p.addr, "err", err)
	}
	p.e.tell()
}

// lose says that the peer is gone. Its streams end now, whether the connection
// knows of it or not.
func (p *peer) lose(err error) {
	p.mu.Lock()
	was := p.up
	p.up, p.why = false, plain(err)
	if p.end != nil {
		p.end()
		p.epoch, p.end = nil, nil
	}
	p.mu.Unlock()
	if was {
		p.e.log.Warn("transcriber is away", "backend", p.e.cfg.name(), "address", p.addr, "err", plain(err))
	}
	p.e.tell()
}

// state is how good a choice the peer is: the least load is the best.
func (p *peer) state(now time.Time) (load float64, usable bool, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.up && p.why == nil:
		return 0, false, errors.New("it has not answered yet")
	case !p.up:
		return 0, false, p.why
	case p.caps.Draining:
		return 0, false, errors.New("it is about to end")
	case now.Before(p.rest):
		return 0, false, p.tired
	}
	streams := max(0, int(p.caps.Streams)-p.then) + p.own
	return float64(streams) / float64(max(1, p.caps.Capacity)), true, nil
}

// there is why the peer cannot be used at all, nil if it can; being full does
// not count.
func (p *peer) there() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.up && p.caps.Draining:
		return errors.New("it is about to end")
	case !p.up && p.why == nil:
		return errors.New("it has not answered yet")
	case !p.up:
		return p.why
	}
	return nil
}

// leave leaves the peer alone for a while.
func (p *peer) leave(d time.Duration, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest, p.tired = time.Now().Add(d), why
}

// take begins a stream on the peer; the caller gives it back.
func (p *peer) take() (epoch context.Context, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch == nil {
		return nil, false
	}
	p.own++
	return p.epoch, true
}

func (p *peer) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own--
}

// plain is a gRPC error as somebody would say it.
func plain(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	what := s.Message()
	if inner, ok := strings.CutPrefix(what, `connection error: desc = "`); ok {
		what = strings.TrimPrefix(strings.TrimSuffix(inner, `"`), "transport: ")
	}
	return fmt.Errorf("%s (%s)", what, s.Code())
}

// infoOf is what an engine at the other end can do.
func infoOf(name string, caps *callwardenv1.GetCapabilitiesResponse) transcribe.Info {
	info := transcribe.Info{Backend: name, Model: caps.Model, RateHz: int(caps.RateHz), Phrases: caps.Phrases, Hints: caps.Hints}
	if len(caps.Languages) > 0 {
		info.Language = caps.Languages[0]
	}
	return info
}
