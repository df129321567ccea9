// Package audiosocketsrc takes live calls in from Asterisk and whatever else
// speaks AudioSocket, a protocol of messages over TCP. A socket is one leg;
// the numbers, and which two sockets are one call, are told over HTTP.
package audiosocketsrc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/join"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Name is the way in that calls and events carry.
const Name = "audiosocket"

// Config says where sockets are taken and how long things may take.
type Config struct {
	Listen string `yaml:"listen"` // TCP address
	// Allow are the networks, in CIDR form, that may connect. Empty allows all.
	Allow  []string `yaml:"allow"`
	Tenant string   `yaml:"tenant"` // of calls that are announced without one
	// Sockets is how many may be connected at once; more are hung up on.
	Sockets int `yaml:"sockets"`

	HelloTimeout time.Duration `yaml:"hello_timeout"` // for the UUID
	MediaTimeout time.Duration `yaml:"media_timeout"` // without audio, a leg has ended
	// AnnounceWait is how long a socket that nobody announced waits for it.
	AnnounceWait time.Duration `yaml:"announce_wait"`
	// JoinWait is how long the first leg of a call waits for the second;
	// after it the call is heard with one leg, and says so.
	JoinWait time.Duration `yaml:"join_wait"`

	// PromptTo is who hears what is spoken into a call of two sockets: callee,
	// caller or all. In a call of one it is the one.
	PromptTo string `yaml:"prompt_to"`

	AnnouncedMost int           `yaml:"announced_most"` // UUIDs
	AnnouncedFor  time.Duration `yaml:"announced_for"`  // a UUID is known
	// TokenFile holds the bearer token of the HTTP API. Without it only this
	// machine may announce.
	TokenFile string `yaml:"token_file"`
}

// DefaultConfig listens on the port that Asterisk's examples use, on this
// machine only.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:9092", Tenant: "default", Sockets: 2000,
		HelloTimeout: 5 * time.Second, MediaTimeout: time.Minute,
		AnnounceWait: time.Second, JoinWait: 2 * time.Second,
		PromptTo:      audio.Callee.String(), // who is called is who is warned
		AnnouncedMost: 10_000, AnnouncedFor: 10 * time.Minute,
	}
}

// maxJoinWait is what a socket's queue has room for.
const maxJoinWait = 3 * time.Second

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		fault("listen: %q must be an address and port, such as 127.0.0.1:9092", c.Listen)
	}
	if _, err := c.networks(); err != nil {
		errs = append(errs, err)
	}
	if !announce.IsToken(c.Tenant) {
		fault("tenant: %q must be 1 to 128 letters, digits, - or _", c.Tenant)
	}
	for _, n := range []struct {
		key   string
		value int
	}{{"sockets", c.Sockets}, {"announced_most", c.AnnouncedMost}} {
		if n.value < 1 {
			fault("%s: %d must be at least 1", n.key, n.value)
		}
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"hello_timeout", c.HelloTimeout},
		{"media_timeout", c.MediaTimeout},
		{"announced_for", c.AnnouncedFor},
	} {
		if d.value <= 0 {
			fault("%s: %v must be above 0", d.key, d.value)
		}
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"announce_wait", c.AnnounceWait}, {"join_wait", c.JoinWait}} {
		if d.value < 0 || d.value > maxJoinWait {
			fault("%s: %v must be 0s to %v", d.key, d.value, maxJoinWait)
		}
	}
	errs = append(errs, c.validatePromptTo())
	return errors.Join(errs...)
}

func (c Config) networks() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for i, s := range c.Allow {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("allow[%d]: %q must be a network, such as 192.0.2.0/24", i, s)
		}
		all = append(all, p)
	}
	return all, nil
}

// Source takes sockets from the time it is made and hears them while it
// serves.
type Source struct {
	cfg      Config
	log      *slog.Logger
	listener net.Listener
	allowed  []netip.Prefix
	door     *announce.Door
	register *register
	calls    join.Table[part]
	count    counters
}

var (
	_ source.Source  = (*Source)(nil)
	_ source.Counted = (*Source)(nil)
)

var errUnknown = errors.New("no such UUID is announced")

// New listens at cfg.Listen. Who does not Serve has to Close.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	allowed, err := cfg.networks()
	if err != nil {
		return nil, err
	}
	door, err := announce.OpenDoor(cfg.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("token_file: %w", err)
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &Source{
		cfg: cfg, log: log, listener: l, allowed: allowed, door: door,
		register: newRegister(cfg.AnnouncedMost, cfg.AnnouncedFor),
	}, nil
}

// Addr is where sockets are taken.
func (s *Source) Addr() net.Addr { return s.listener.Addr() }

// Close stops taking sockets. After Serve it does nothing.
func (s *Source) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Stats counts an audio message as a packet.
func (s *Source) Stats() source.Stats {
	return source.Stats{
		Calls: int(s.count.calls.Load()), Legs: int(s.count.legs.Load()),
		Begun: s.count.begun.Load(), Refused: s.count.refused.Load(),
		Packets: s.count.packets.Load(), Bytes: s.count.bytes.Load(),
		Stranger: s.count.strange.Load(), Malformed: s.count.malformed.Load(), Unplaced: s.count.unplaced.Load(),
	}
}

// Serve takes sockets until ctx ends, and returns when the calls that had
// begun are over.
func (s *Source) Serve(ctx context.Context, handle source.Handler) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	defer s.Close()
	room := make(chan struct{}, s.cfg.Sockets) // one for each socket
	for {
		conn, err := s.listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				hangUp(conn)
			}
			return ctx.Err()
		}
		if err != nil {
			if isShortage(err) {
				s.log.Warn("cannot take a socket", "source", Name, "err", err)
				if !source.Pause(ctx, time.Second) {
					return ctx.Err()
				}
				continue
			}
			return fmt.Errorf("taking sockets at %s: %w", s.Addr(), err)
		}
		if !s.allows(conn) {
			s.count.strange.Add(1)
			_ = conn.Close()
			continue
		}
		select {
		case room <- struct{}{}:
		default:
			s.count.unplaced.Add(1)
			hangUp(conn)
			continue
		}
		group.Go(func() {
			defer func() { <-room }()
			s.serve(ctx, newSocket(conn), handle)
		})
	}
}

// isShortage reports whether taking a socket may go better later.
func isShortage(err error) bool {
	for _, of := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

func (s *Source) allows(conn net.Conn) bool {
	if len(s.allowed) == 0 {
		return true
	}
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return false
	}
	for _, p := range s.allowed {
		if p.Contains(from.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// serve follows one socket to its end.
func (s *Source) serve(ctx context.Context, sock *socket, handle source.Handler) {
	stop := context.AfterFunc(ctx, func() { _ = sock.conn.Close() })
	uuid, err := sock.hello(s.cfg.HelloTimeout)
	stop()
	if err != nil {
		if ctx.Err() == nil {
			s.count.malformed.Add(1)
			s.log.Warn("socket refused", "source", Name, "err", err)
		}
		hangUp(sock.conn)
		return
	}
	var pumping sync.WaitGroup
	pumping.Go(func() { sock.pump(s.cfg.MediaTimeout, &s.count) })
	defer pumping.Wait()
	defer sock.close()

	a, known := s.register.wait(ctx, uuid, s.cfg.AnnounceWait)
	tenant, id := s.cfg.Tenant, uuid
	if a.Tenant != "" {
		tenant = a.Tenant
	}
	if a.Call.Call != "" {
		id = a.Call.Call
	}
	call, leads := s.calls.Join(join.Place{Tenant: tenant, Call: id, Leg: audio.Leg(a.Leg), Two: a.two()}, part{sock, a})
	if !leads {
		<-call.Over()
		return
	}
	defer call.Leave()
	if call.ID() != id {
		s.log.Warn("socket came too late for its call, or twice: heard by itself", "source", Name, "call", call.ID())
	}
	s.lead(ctx, call, tenant, known, handle)
}

// part is what brings a leg.
type part struct {
	*socket
	announced Announcement
}

// lead hears a call whose first socket is the caller's.
func (s *Source) lead(ctx context.Context, j *join.Call[part], tenant string, known bool, handle source.Handler) {
	sides, parts, alone := j.Gather(ctx, s.cfg.JoinWait)
	if ctx.Err() != nil {
		return
	}
	id := j.ID()
	attributes := make(map[string]string)
	sockets := make([]*socket, len(parts))
	for i, p := range parts {
		p.announced.Describe(attributes)
		sockets[i] = p.socket
	}
	first := j.First() // what it was announced with counts more
	first.announced.Describe(attributes)
	var warnings []string
	if alone {
		missing := audio.Leg(first.announced.Leg).Other().String()
		attributes["missing_leg"] = missing
		warnings = append(warnings, fmt.Sprintf("no socket of the %s came within %v: one leg was heard", missing, s.cfg.JoinWait))
		s.log.Warn("the second leg did not come", "source", Name, "call", id, "leg", missing)
	}
	if !known {
		warnings = append(warnings, "nobody announced this socket: its numbers and its leg are not known")
	}
	talk := newConversation(sides, sockets)
	speaker := newMouth(s.cfg.PromptTo, sides, sockets)
	call := &source.Call{
		ID: id, Tenant: tenant, Source: Name,
		Legs: sides, Attributes: attributes, Began: talk.began, Live: true,
		Audio: talk, Peer: speaker, Warnings: func() []string { return warnings },
	}
	s.count.begun.Add(1)
	s.count.calls.Add(1)
	s.count.legs.Add(int64(len(sides)))
	hush := speaker.speak()
	err := handle(ctx, call)
	hush()
	s.count.calls.Add(-1)
	s.count.legs.Add(-int64(len(sides)))
	switch {
	case errors.Is(err, source.ErrBusy):
		s.count.refused.Add(1)
	case err != nil && !errors.Is(err, context.Canceled):
		s.log.Warn("call not heard to its end", "source", Name, "call", id, "err", err)
	}
}
