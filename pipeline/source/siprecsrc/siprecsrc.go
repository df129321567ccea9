// Package siprecsrc takes calls over SIP: as a session recording server
// (SIPREC, RFC 7866) to which border controllers send the two sides of a call
// with metadata about them, and from phones that simply call it. It only
// listens: it receives media, sends none, and writes nothing to disk.
package siprecsrc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/pipeline/source/sipmeta"
	"github.com/callwarden/callwarden/pipeline/source/sipstack"
)

// Name is what calls of this way in say of their source.
const Name = "siprec"

// Source has its addresses from the time it is made, and takes calls while it
// serves.
type Source struct {
	cfg       Config
	log       *slog.Logger
	contact   netip.AddrPort // that peers are told; the zero value for the one they reached
	trunks    []trunk
	store     *sipmeta.Store
	ports     *media.Ports
	guard     *guard
	ua        *sipgo.UserAgent
	server    *sipgo.Server
	client    *sipgo.Client
	listeners []listener
	t1, t2    time.Duration // RFC 3261 section 17.1.1.1

	running sync.WaitGroup // calls, and what they still say; added to under mu

	mu     sync.Mutex
	open   bool // calls are taken
	handle func(*source.Call) error
	calls  map[dialogID]*call
	firsts map[firstID]*call // by what made them
	stats  source.Stats      // of calls that are over, and those that never were
}

// listener is one address.
type listener struct {
	network string
	addr    netip.AddrPort
	udp     *datagrams
	stream  net.Listener
}

var (
	_ source.Source  = (*Source)(nil)
	_ source.Counted = (*Source)(nil)
)

// New opens the addresses of cfg. An error names the key and what is wrong
// with it.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Source{
		cfg: cfg, log: log, t1: sip.T1, t2: sip.T2,
		calls: make(map[dialogID]*call), firsts: make(map[firstID]*call),
		guard: &guard{
			cfg:     cfg,
			invites: bucket{rate: float64(cfg.InvitesPerSecond)},
			request: bucket{rate: float64(cfg.RequestsPerSecond)},
		},
	}
	var err error
	if s.guard.allow, err = prefixes(cfg.Allow); err != nil {
		return nil, fmt.Errorf("allow%w", err)
	}
	if cfg.Contact != "" {
		if s.contact, err = contact(cfg.Contact); err != nil {
			return nil, fmt.Errorf("contact: %w", err)
		}
	}
	if s.trunks, err = newTrunks(cfg.Trunks); err != nil {
		return nil, err
	}
	if s.store, err = sipmeta.OpenStore(cfg.Identity); err != nil {
		return nil, fmt.Errorf("identity.%w", err)
	}
	if s.ports, err = media.NewPorts(cfg.Media); err != nil {
		return nil, fmt.Errorf("media.%w", err)
	}
	if err := s.stack(); err != nil {
		return nil, err
	}
	if err := s.bind(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// stack makes the SIP stack, which listens to nothing yet.
func (s *Source) stack() error {
	quiet := slog.New(stackLog{&s.guard.malformed})
	parser := sip.NewParser()
	parser.MaxMessageLength = maxHead + s.cfg.BodyBytes + 4
	var err error
	s.ua, err = sipgo.NewUA(
		sipgo.WithUserAgent("callwarden"),
		sipgo.WithUserAgentParser(parser),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(
			sip.WithTransactionLayerLogger(quiet),
			sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {}),
		),
	)
	if err != nil {
		return fmt.Errorf("making the SIP stack: %w", err)
	}
	if s.server, err = sipgo.NewServer(s.ua, sipgo.WithServerLogger(quiet)); err != nil {
		return fmt.Errorf("making the SIP stack: %w", err)
	}
	if s.client, err = sipgo.NewClient(s.ua, sipgo.WithClientLogger(quiet)); err != nil {
		return fmt.Errorf("making the SIP stack: %w", err)
	}
	s.server.OnInvite(s.onInvite)
	s.server.OnAck(s.onAck)
	s.server.OnBye(s.onBye)
	s.server.OnUpdate(s.onUpdate)
	s.server.OnOptions(s.onOptions)
	s.server.OnCancel(s.onCancel)
	s.server.OnInfo(s.onInfo)
	s.server.OnNoRoute(s.onOther)
	return nil
}

// bind opens the addresses.
func (s *Source) bind() error {
	var certificate *tls.Config
	for i, text := range s.cfg.Listen {
		fail := func(err error) error { return fmt.Errorf("listen[%d]: %q: %w", i, text, err) }
		network, hostPort, err := address(text)
		if err != nil {
			return fail(err)
		}
		if network == "udp" {
			conn, err := net.ListenPacket("udp", hostPort)
			if err != nil {
				return fail(err)
			}
			s.listeners = append(s.listeners, listener{
				network: network, addr: addrPort(conn.LocalAddr()), udp: &datagrams{PacketConn: conn, guard: s.guard},
			})
			continue
		}
		if network == "tls" && certificate == nil {
			if certificate, err = s.cfg.TLS.load(); err != nil {
				return err
			}
		}
		l, err := net.Listen("tcp", hostPort)
		if err != nil {
			return fail(err)
		}
		stream := net.Listener(&door{Listener: l, guard: s.guard})
		if network == "tls" {
			stream = tls.NewListener(stream, certificate)
		}
		s.listeners = append(s.listeners, listener{
			network: network, addr: addrPort(l.Addr()), stream: &framer{Listener: stream, guard: s.guard},
		})
	}
	return nil
}

func (t TLS) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls.certificate: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if t.ClientCA == "" {
		return c, nil
	}
	b, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("tls.client_ca: %w", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("tls.client_ca: %s holds no PEM certificate", t.ClientCA)
	}
	return c, nil
}

// Addrs are the addresses, of the networks udp, tcp and tls, in the order of
// the configuration.
func (s *Source) Addrs() []net.Addr {
	var all []net.Addr
	for _, l := range s.listeners {
		all = append(all, l)
	}
	return all
}

func (l listener) Network() string { return l.network }
func (l listener) String() string  { return l.addr.String() }

// Close gives the addresses back. A source that serves is closed by the end of
// Serve.
func (s *Source) Close() error {
	return errors.Join(s.unbind(), sipstack.Close(s.ua))
}

// unbind closes the addresses. The stack is closed after them: what it is
// given once it is, it opens a socket of its own for.
func (s *Source) unbind() error {
	var err error
	for _, l := range s.listeners {
		var e error
		if l.udp != nil {
			e = l.udp.Close()
		} else {
			e = l.stream.Close()
		}
		if !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Serve takes calls; see [source.Source]. It is called once.
func (s *Source) Serve(ctx context.Context, handle source.Handler) error {
	s.mu.Lock()
	s.open, s.handle = true, func(c *source.Call) error { return handle(ctx, c) }
	s.mu.Unlock()

	var reading sync.WaitGroup
	failed := make(chan error, len(s.listeners)) // each listener sends at most one
	for _, l := range s.listeners {
		reading.Go(func() {
			if err := s.listen(l); err != nil {
				failed <- fmt.Errorf("listening at %s://%s: %w", l.network, l.addr, err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		s.endAll(errListener)
	}
	s.mu.Lock()
	s.open = false
	s.mu.Unlock()
	s.letGo()
	s.running.Wait()
	err = errors.Join(err, s.unbind())
	reading.Wait()
	return errors.Join(err, sipstack.Close(s.ua))
}

var errListener = errors.New("the SIP listener failed")

func (s *Source) listen(l listener) error {
	if l.udp == nil {
		serve := s.server.ServeTCP
		if l.network == "tls" {
			serve = s.server.ServeTLS
		}
		if err := serve(l.stream); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
	for {
		if err := s.server.ServeUDP(l.udp); err != nil {
			return err
		}
		if l.udp.closed.Load() { // the stack says nothing of why it ended
			return nil
		}
	}
}

// endAll ends all calls for a reason.
func (s *Source) endAll(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		c.session.End(reason)
	}
}

// letGo ends the calls that nobody hears: nothing else would.
func (s *Source) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.unheard.Load() {
			c.finish(nil)
		}
	}
}

// Stats counts calls and their media; see [source.Stats]. Strangers and what
// is malformed are of SIP and of media.
func (s *Source) Stats() source.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.stats
	for _, c := range s.firsts {
		if c.session == nil {
			continue
		}
		all.Add(c.session.Stats())
		if c.answered.Load() && !c.unheard.Load() {
			all.Calls++
			all.Legs += len(c.legs)
		}
	}
	all.Refused += s.guard.refused.Load()
	all.Stranger += s.guard.stranger.Load()
	all.Malformed += s.guard.malformed.Load()
	all.Unplaced += s.guard.dropped.Load()
	return all
}

// local is our address as the peer of a request sees it: that of its
// connection, or the one that datagrams to it leave from.
func (s *Source) local(req *sip.Request, tx sip.ServerTransaction) netip.AddrPort {
	var at netip.AddrPort
	if st, ok := tx.(*sip.ServerTx); ok && st.Connection() != nil {
		at = addrPort(st.Connection().LocalAddr())
	}
	if at.Addr().IsUnspecified() {
		// No packet is sent: the kernel only looks for the way.
		if conn, err := net.Dial("udp", req.Source()); err == nil {
			at = netip.AddrPortFrom(addrPort(conn.LocalAddr()).Addr(), at.Port())
			_ = conn.Close()
		}
	}
	return at
}

// reached is where a peer sends later requests to.
func (s *Source) reached(local netip.AddrPort) netip.AddrPort {
	switch {
	case !s.contact.IsValid():
		return local
	case s.contact.Port() == 0:
		return netip.AddrPortFrom(s.contact.Addr(), local.Port())
	}
	return s.contact
}

// trunk is a Trunk made ready.
type trunk struct {
	Trunk
	peers []netip.Prefix
}

func newTrunks(list []Trunk) ([]trunk, error) {
	var all []trunk
	for i, t := range list {
		peers, err := prefixes(t.Peers)
		if err != nil {
			return nil, fmt.Errorf("trunks[%d].peers%w", i, err)
		}
		all = append(all, trunk{t, peers})
	}
	return all, nil
}

// trunkOf finds where a call comes from.
func (s *Source) trunkOf(req *sip.Request) (name, tenant string) {
	tenant = s.cfg.Tenant
	peer, err := netip.ParseAddrPort(req.Source())
	i := slices.IndexFunc(s.trunks, func(t trunk) bool {
		return (err == nil && fits(t.peers, peer.Addr()) || len(t.peers) == 0) &&
			(t.User == "" || t.User == req.Recipient.User) && t.says(req)
	})
	if i < 0 {
		return "", tenant
	}
	if t := s.trunks[i].Tenant; t != "" {
		tenant = t
	}
	return s.trunks[i].Name, tenant
}

// says reports whether the trunk's header, if any, is there.
func (t *trunk) says(req *sip.Request) bool {
	if t.Header == "" {
		return true
	}
	name, want, _ := strings.Cut(t.Header, ":")
	for _, value := range headers(req, name) {
		if strings.EqualFold(strings.TrimSpace(value), strings.TrimSpace(want)) {
			return true
		}
	}
	return false
}
