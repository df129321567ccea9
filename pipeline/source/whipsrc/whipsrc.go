// Package whipsrc takes live calls in from browsers and whatever else publishes
// WebRTC by WHIP (RFC 9725): one HTTP request with an SDP offer, then encrypted
// audio. A publication is one leg of a call, or both of its legs; two
// publications that name the same call are heard together. Events go back by a
// data channel, prompts by the audio track where it is offered both ways.
package whipsrc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/join"
)

// Name is the way in that calls and events carry.
const Name = "whip"

const (
	// The port of all media: 300 calls bring 15,000 packets a second, and the
	// reader may be kept from them for some tens of milliseconds.
	socketBuffer = 4 << 20 // bytes

	reportEvery = 5 * time.Second // RTCP receiver reports

	maxMessage = 64 << 10 // bytes that a page may send by its data channel at a time; none is asked for

	httpTimeout = 15 * time.Second // of the server at Config.Listen
)

// pulse is how a peer that is not heard any more is given up.
type pulse struct {
	disconnected, lost time.Duration // without a sign of it, and then again
	beat               time.Duration // how often ours are sent
}

// usual is within what RFC 7675 allows, 30 s. In between a peer may restart ICE,
// as when a laptop changes networks.
func usual() pulse {
	return pulse{disconnected: 5 * time.Second, lost: 15 * time.Second, beat: 2 * time.Second}
}

// Source takes publications while it serves.
type Source struct {
	cfg      Config
	log      *slog.Logger
	tokens   *tokens
	links    []string // Link headers
	api      *webrtc.API
	mux      []io.Closer // the ports
	media    net.Addr
	listener net.Listener // nil without Config.Listen
	secure   *tls.Config

	calls join.Table[*publication]
	count counters
	told  limiter

	mu           sync.Mutex
	ctx          context.Context // of Serve; nil while none serves
	handle       source.Handler
	group        sync.WaitGroup // calls and connections; added to under mu
	publications map[string]*publication

	serving chan struct{} // closed once publications are taken
}

var (
	_ source.Source  = (*Source)(nil)
	_ source.Counted = (*Source)(nil)
)

// New takes the ports. Who does not Serve has to Close.
func New(cfg Config, log *slog.Logger) (*Source, error) { return newSource(cfg, usual(), log) }

func newSource(cfg Config, alive pulse, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, log: log, publications: make(map[string]*publication), serving: make(chan struct{})}
	var err error
	if s.tokens, err = openTokens(cfg.TokensFile); err != nil {
		return nil, fmt.Errorf("tokens_file: %w", err)
	}
	if s.links, err = links(cfg.ICEServers); err != nil {
		return nil, err
	}
	if err = s.open(alive); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open takes the addresses and makes the WebRTC engine on them.
func (s *Source) open(alive pulse) error {
	// The library's own words are for its makers: they are of peers' addresses
	// and of packets.
	quiet := &logging.DefaultLoggerFactory{Writer: io.Discard}
	var set webrtc.SettingEngine
	set.LoggerFactory = quiet
	if err := s.openUDP(&set, quiet); err != nil {
		return fmt.Errorf("udp: %w", err)
	}
	if s.cfg.TCP != "" {
		if err := s.openTCP(&set, quiet); err != nil {
			return fmt.Errorf("tcp: %w", err)
		}
	}
	if err := s.openHTTP(); err != nil {
		return err
	}
	if len(s.cfg.Advertise) > 0 {
		if err := set.SetICEAddressRewriteRules(webrtc.ICEAddressRewriteRule{
			External: s.cfg.Advertise, AsCandidateType: webrtc.ICECandidateTypeHost, Mode: webrtc.ICEAddressRewriteReplace,
		}); err != nil {
			return fmt.Errorf("advertise: %w", err)
		}
	}
	set.SetLite(s.cfg.Lite)
	set.SetIncludeLoopbackCandidate(true)
	// Names that browsers hide their addresses behind are not looked up: their
	// own checks tell where they are.
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	set.SetICETimeouts(alive.disconnected, alive.lost, alive.beat)
	set.SetFireOnTrackBeforeFirstRTP(true)
	set.SetSCTPMaxMessageSize(maxMessage)
	set.SetDTLSConnectContextMaker(func() (context.Context, func()) {
		return context.WithTimeout(context.Background(), s.cfg.ConnectTimeout)
	})
	engine, chain, err := engines()
	if err != nil {
		return err
	}
	s.api = webrtc.NewAPI(webrtc.WithSettingEngine(set), webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(chain))
	return nil
}

const (
	mimePCMU = webrtc.MimeTypePCMU
	mimePCMA = webrtc.MimeTypePCMA
	mimeG722 = webrtc.MimeTypeG722
)

// engines are what is negotiated, and what is done with packets: receiver
// reports, and nothing for video's sake.
func engines() (*webrtc.MediaEngine, *interceptor.Registry, error) {
	engine := &webrtc.MediaEngine{}
	for _, c := range []struct {
		pt       webrtc.PayloadType
		mime     string
		clock    uint32
		channels uint16
	}{
		// Payload types are those of the offer; these only differ.
		{111, webrtc.MimeTypeOpus, 48000, 2},
		{9, mimeG722, 8000, 0},
		{0, mimePCMU, 8000, 0},
		{8, mimePCMA, 8000, 0},
		{13, "audio/CN", 8000, 0},
		{110, "audio/telephone-event", 48000, 0},
		{126, "audio/telephone-event", 8000, 0},
	} {
		if err := engine.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: c.mime, ClockRate: c.clock, Channels: c.channels},
			PayloadType:        c.pt,
		}, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, nil, err
		}
	}
	chain := &interceptor.Registry{}
	reports, err := report.NewReceiverInterceptor(report.ReceiverInterval(reportEvery))
	if err != nil {
		return nil, nil, err
	}
	chain.Add(reports)
	return engine, chain, nil
}

// openUDP takes the port of all media.
func (s *Source) openUDP(set *webrtc.SettingEngine, quiet logging.LoggerFactory) error {
	at, err := netip.ParseAddrPort(s.cfg.UDP)
	if err != nil {
		return err
	}
	networks, err := s.cfg.networks()
	if err != nil {
		return err
	}
	keepInterface := func(name string) bool { return keeps(s.cfg.Interfaces, name) }
	keepIP := func(ip net.IP) bool {
		a, ok := netip.AddrFromSlice(ip)
		return ok && within(networks, a.Unmap())
	}
	set.SetInterfaceFilter(keepInterface)
	set.SetIPFilter(keepIP)
	kinds := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if s.cfg.TCP != "" {
		kinds = append(kinds, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	}
	set.SetNetworkTypes(kinds)
	if !at.Addr().IsUnspecified() {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		_ = conn.SetReadBuffer(socketBuffer) // best effort: the system's limit may be lower
		mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: quiet.NewLogger("ice")})
		s.media = conn.LocalAddr()
		s.mux = append(s.mux, mux, conn)
		set.SetICEUDPMux(mux)
		return nil
	}
	types := []ice.NetworkType{ice.NetworkTypeUDP4}
	if at.Addr().Is6() {
		types = append(types, ice.NetworkTypeUDP6)
	}
	mux, err := ice.NewMultiUDPMuxFromPort(int(at.Port()),
		ice.UDPMuxFromPortWithNetworks(types...), ice.UDPMuxFromPortWithLoopback(),
		ice.UDPMuxFromPortWithInterfaceFilter(keepInterface), ice.UDPMuxFromPortWithIPFilter(keepIP),
		ice.UDPMuxFromPortWithReadBufferSize(socketBuffer), ice.UDPMuxFromPortWithLogger(quiet.NewLogger("ice")))
	if err != nil {
		return err
	}
	all := mux.GetListenAddresses()
	if len(all) == 0 {
		return errors.Join(errors.New("no interface has an address that interfaces and networks allow"), mux.Close())
	}
	s.media = net.UDPAddrFromAddrPort(at)
	s.mux = append(s.mux, mux)
	set.SetICEUDPMux(mux)
	return nil
}

// keeps reports whether name is wanted; an empty list wants all.
func keeps(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return len(names) == 0
}

// within reports whether a is in one of the networks; an empty list has all.
func within(networks []netip.Prefix, a netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(a) {
			return true
		}
	}
	return len(networks) == 0
}

// openTCP takes the port of media over TCP, RFC 6544.
func (s *Source) openTCP(set *webrtc.SettingEngine, quiet logging.LoggerFactory) error {
	l, err := net.Listen("tcp", s.cfg.TCP)
	if err != nil {
		return err
	}
	const queue = 64 // packets of one connection, over a second
	mux := ice.NewTCPMuxDefault(ice.TCPMuxParams{Listener: l, Logger: quiet.NewLogger("ice"), ReadBufferSize: queue})
	s.mux = append(s.mux, mux)
	set.SetICETCPMux(mux)
	return nil
}

// openHTTP takes the HTTP address of our own, where there is one.
func (s *Source) openHTTP() error {
	if s.cfg.Listen == "" {
		return nil
	}
	if s.cfg.TLS.Cert != "" {
		pair, err := tls.LoadX509KeyPair(s.cfg.TLS.Cert, s.cfg.TLS.Key)
		if err != nil {
			return fmt.Errorf("tls: %w", err)
		}
		s.secure = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.listener = l
	return nil
}

// Addrs are the HTTP address of our own, where there is one, and that of media.
func (s *Source) Addrs() []net.Addr {
	var all []net.Addr
	if s.listener != nil {
		all = append(all, s.listener.Addr())
	}
	return append(all, s.media)
}

// Close gives the addresses back. After Serve it does nothing.
func (s *Source) Close() error {
	var errs []error
	for _, m := range s.mux {
		if err := m.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.mux = nil
	if s.listener != nil {
		if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Serve takes publications until ctx ends, and returns when the calls that had
// begun are over. It is called once.
func (s *Source) Serve(ctx context.Context, handle source.Handler) error {
	s.mu.Lock()
	s.ctx, s.handle = ctx, handle
	s.mu.Unlock()
	close(s.serving)
	var serving sync.WaitGroup
	failed := make(chan error, 1) // the HTTP server sends once, if it ends by itself
	var server *http.Server
	if s.listener != nil {
		server = &http.Server{
			Handler:           s.Handler(),
			ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		l := s.listener
		if s.secure != nil {
			l = tls.NewListener(l, s.secure)
		}
		serving.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("taking requests at %s: %w", s.listener.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-failed:
		s.endAll(err) // Serve is to return, and their handles with it
	}
	s.mu.Lock()
	s.handle = nil // from now on nothing is added to the group but by calls
	s.mu.Unlock()
	s.group.Wait()
	if server != nil {
		_ = server.Close() // its connections are those of clients that are told nothing more
		serving.Wait()
	}
	return errors.Join(err, s.Close())
}

func (s *Source) endAll(why error) {
	s.mu.Lock()
	all := make([]*publication, 0, len(s.publications))
	for _, p := range s.publications {
		all = append(all, p)
	}
	s.mu.Unlock()
	for _, p := range all {
		p.end(why)
	}
}

// links are the Link headers that tell browsers their STUN and TURN servers,
// RFC 9725 section 4.6.
func links(servers []ICEServer) ([]string, error) {
	var all []string
	for i, server := range servers {
		link := fmt.Sprintf(`<%s>; rel="ice-server"`, server.URL)
		if server.CredentialFile != "" {
			text, err := os.ReadFile(server.CredentialFile)
			if err != nil {
				return nil, fmt.Errorf("ice_servers[%d].credential_file: %w", i, err)
			}
			text = bytes.TrimSpace(text)
			if len(text) == 0 || len(text) > 512 || bytes.ContainsAny(text, "\"\\\r\n") {
				return nil, fmt.Errorf("ice_servers[%d].credential_file: must hold one line of 1 to 512 bytes without quotes", i)
			}
			link += fmt.Sprintf(`; username="%s"; credential="%s"; credential-type="password"`, server.Username, text)
		}
		all = append(all, link)
	}
	return all, nil
}
