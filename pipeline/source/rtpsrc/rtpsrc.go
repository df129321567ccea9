// Package rtpsrc takes live calls in from RTP that comes without signalling,
// as from a mirrored port: to ports of the configuration, or to ports that are
// asked for over HTTP, call by call.
package rtpsrc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Name is the way in that calls and events carry.
const Name = "rtp"

// retryAfter is how long a static port for whose call there was no room waits
// until it asks again, while media goes on.
const retryAfter = 10 * time.Second

// Source holds the static ports from the time it is made, and hears them and
// announced calls while it serves.
type Source struct {
	cfg    Config
	log    *slog.Logger
	ports  *media.Ports
	door   *announce.Door
	static []*line
	intake chan *announced // whoever announces sends, Serve receives

	mu    sync.Mutex
	calls map[string]*announced  // of the moment, by id
	live  map[*media.Session]int // legs of the calls of the moment
	count source.Stats           // of what is over
}

var (
	_ source.Source  = (*Source)(nil)
	_ source.Counted = (*Source)(nil)
)

// line is a static call.
type line struct {
	Static
	legs    []audio.Leg
	session *media.Session
}

// New opens the static ports. Who does not Serve has to Close.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ports, err := media.NewPorts(cfg.Media)
	if err != nil {
		return nil, fmt.Errorf("media: %w", err)
	}
	door, err := announce.OpenDoor(cfg.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("token_file: %w", err)
	}
	s := &Source{
		cfg: cfg, log: log, ports: ports, door: door,
		intake: make(chan *announced),
		calls:  make(map[string]*announced), live: make(map[*media.Session]int),
	}
	for i, static := range cfg.Static {
		l, err := s.openLine(static)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("static[%d]: %w", i, err), s.Close())
		}
		s.static = append(s.static, l)
	}
	return s, nil
}

func (s *Source) openLine(static Static) (*line, error) {
	l := &line{Static: static, session: s.ports.NewSession(s.log)}
	for _, leg := range static.Legs {
		cfg, err := leg.stream()
		if err == nil {
			_, err = l.session.AddAt(cfg, leg.Port)
		}
		if err != nil {
			return nil, errors.Join(err, l.session.Close())
		}
		l.legs = append(l.legs, cfg.Leg)
	}
	return l, nil
}

// stream is what the media core is told of l, which is valid.
func (l StaticLeg) stream() (cfg media.StreamConfig, err error) {
	if cfg.Leg, err = audio.ParseLeg(l.Leg); err != nil {
		return cfg, err
	}
	if cfg.Formats, err = formats(l.Formats); err != nil {
		return cfg, err
	}
	cfg.Remote, err = remote(l.Remote)
	cfg.ByeEnds = true // beside the timeout nothing else does
	return cfg, err
}

// Addrs are the static ports.
func (s *Source) Addrs() []net.Addr {
	var all []net.Addr
	bind := net.ParseIP(s.cfg.Media.Bind)
	for _, l := range s.static {
		for _, leg := range l.Static.Legs {
			all = append(all, &net.UDPAddr{IP: bind, Port: leg.Port})
		}
	}
	return all
}

// Close gives the static ports back. After Serve it does nothing.
func (s *Source) Close() error {
	var errs []error
	for _, l := range s.static {
		errs = append(errs, l.session.Close())
	}
	return errors.Join(errs...)
}

// Stats counts what came to static ports between calls too.
func (s *Source) Stats() source.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.count
	for session, legs := range s.live {
		all.Calls++
		all.Legs += legs
		all.Add(session.Stats())
	}
	for _, l := range s.static {
		if _, counted := s.live[l.session]; !counted {
			all.Add(l.session.Stats())
		}
	}
	return all
}

// Serve hears calls until ctx ends, and returns when those that had begun are
// over.
func (s *Source) Serve(ctx context.Context, handle source.Handler) error {
	var group sync.WaitGroup
	for _, l := range s.static {
		group.Go(func() { s.attend(ctx, l, handle) })
	}
	for ctx.Err() == nil {
		select {
		case a := <-s.intake:
			group.Go(func() { s.hear(ctx, a, handle) })
		case <-ctx.Done():
		}
	}
	group.Wait()
	return errors.Join(ctx.Err(), s.Close())
}

// attend hears one call after another on static ports.
func (s *Source) attend(ctx context.Context, l *line, handle source.Handler) {
	for {
		if err := l.session.Await(ctx); err != nil {
			if ctx.Err() == nil { // the ports are gone: a person must act
				s.log.Error("static ports are not heard any more", "source", Name, "call", l.Name, "err", err)
			}
			return
		}
		if !s.attendOne(ctx, l, handle) {
			return
		}
	}
}

// attendOne hears a call that has begun and reports whether to wait for the
// next.
func (s *Source) attendOne(ctx context.Context, l *line, handle source.Handler) bool {
	admitted := false
	call := &source.Call{
		ID: announce.NewID(l.Name), Tenant: l.Tenant, Source: Name,
		Legs: l.legs, Attributes: map[string]string{"line": l.Name}, Began: l.session.Began(), Live: true,
		Audio: l.session, Admitted: func() { admitted = true },
	}
	if call.Tenant == "" {
		call.Tenant = s.cfg.Tenant
	}
	known := announce.Call{Direction: l.Direction, Trunk: l.Trunk}
	known.Describe(call.Attributes)

	s.begin(l.session, len(l.legs))
	err := handle(ctx, call)
	s.end(l.session, err)
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, source.ErrBusy):
		return source.Pause(ctx, retryAfter)
	case err == nil && !admitted:
		return swallow(ctx, l.session) // it is none of ours to hear, as long as it lasts
	case err != nil:
		s.log.Warn("call not heard to its end", "source", Name, "call", call.ID, "err", err)
		return source.Pause(ctx, time.Second)
	}
	return true
}

// swallow hears nothing of a call until it is over, and reports whether ctx
// still goes on.
func swallow(ctx context.Context, session *media.Session) bool {
	for {
		if _, err := session.ReadFrame(ctx); err != nil {
			return ctx.Err() == nil
		}
	}
}

// begin and end count a call.
func (s *Source) begin(session *media.Session, legs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.Begun++
	s.live[session] = legs
}

func (s *Source) end(session *media.Session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, session)
	if errors.Is(err, source.ErrBusy) {
		s.count.Refused++
	}
}
