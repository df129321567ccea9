package grpcsrc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"

	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/certs"
)

const (
	// maxMessage is what gRPC takes by itself: 44 s of 48 kHz.
	maxMessage = 4 << 20
	// maxHeaders is far above a token; gRPC itself takes 16 MB of strangers.
	maxHeaders = 32 << 10
	// streamWindow is how much of a call may wait to be taken: four seconds of
	// two legs of 8 kHz. A fixed one: it does not grow with what a client sends.
	streamWindow = 128 << 10
	connWindow   = 8 << 20
	// A connection that says nothing for so long is asked whether it is there.
	askAfter, askWait = 20 * time.Second, 10 * time.Second
	// lastWords is how long the last answers may take to be read at the end.
	lastWords = time.Second
)

// limits are how long a client may take; tests have less patience.
type limits struct {
	open time.Duration // until it says what the call is
	read time.Duration // until it reads what it is told
	look time.Duration // between looks at whether a watcher's token is still good
}

func defaultLimits() limits {
	return limits{open: 10 * time.Second, read: 30 * time.Second, look: 5 * time.Second}
}

// Source answers clients while it serves. It has its address from the time it
// is made.
type Source struct {
	callwardenv1.UnimplementedCallServiceServer

	cfg      Config
	log      *slog.Logger
	listener net.Listener
	certs    *certs.Store // nil without TLS
	grants   *grants      // nil without tokens
	limits   limits
	count    counters
	door     door
	working  sync.WaitGroup // goroutines of streams

	serving context.Context // of Serve; set before the first client is answered
	handle  source.Handler  // likewise
}

var (
	_ source.Source                  = (*Source)(nil)
	_ source.Counted                 = (*Source)(nil)
	_ callwardenv1.CallServiceServer = (*Source)(nil)
)

// counters are added to by all streams.
type counters struct {
	calls, legs      atomic.Int64
	begun, refused   atomic.Uint64
	packets, bytes   atomic.Uint64
	strange          atomic.Uint64
	malformed, apart atomic.Uint64
	told, untold     atomic.Uint64
}

// New listens at cfg.Listen. Who does not Serve has to Close.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, log: log, limits: defaultLimits()}
	s.door = door{most: cfg.Calls, watchersMost: cfg.Watchers, live: make(map[[2]string]bool), empty: make(chan struct{}), unwatched: make(chan struct{}), over: make(chan struct{})}
	var err error
	if cfg.TLS.Cert != "" {
		if s.certs, err = certs.Open(cfg.TLS, log); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
	}
	if cfg.ClientsFile != "" {
		if s.grants, err = openGrants(cfg.ClientsFile, log); err != nil {
			return nil, fmt.Errorf("clients_file: %w", err)
		}
	}
	if s.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return s, nil
}

// Addr is where clients are answered.
func (s *Source) Addr() net.Addr { return s.listener.Addr() }

// Close gives back the address. After Serve it does nothing.
func (s *Source) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Stats counts a run of audio as a packet.
func (s *Source) Stats() source.Stats {
	c := &s.count
	return source.Stats{
		Calls: int(c.calls.Load()), Legs: int(c.legs.Load()),
		Begun: c.begun.Load(), Refused: c.refused.Load(),
		Packets: c.packets.Load(), Bytes: c.bytes.Load(),
		Stranger: c.strange.Load(), Malformed: c.malformed.Load(), Unplaced: c.apart.Load(),
		Told: c.told.Load(), Untold: c.untold.Load(),
	}
}

// Serve answers until ctx ends: then it takes no more calls and watchers, and
// returns when its calls are over. Those who watch are told of the calls of
// other ways in until these are over too.
func (s *Source) Serve(ctx context.Context, handle source.Handler) error {
	s.serving, s.handle = ctx, handle
	g, alive := s.server()
	ended := make(chan struct{}) // closed when the server has ended after ctx
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		s.drain(g, alive)
	})
	err := g.Serve(s.listener)
	if stop() { // it ended by itself
		s.door.close()
		s.door.end()
		g.Stop()
	} else {
		<-ended
	}
	s.working.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("answering at %s: %w", s.Addr(), err)
}

func (s *Source) server() (*grpc.Server, *health.Server) {
	options := []grpc.ServerOption{
		grpc.WaitForHandlers(true), // Serve leaves no call behind
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: askAfter, Timeout: askWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.checkUnary),
		grpc.StreamInterceptor(s.checkStream),
	}
	if s.certs != nil {
		options = append(options, grpc.Creds(&watchedHandshakes{credentials.NewTLS(s.certs.Server("h2")), s}))
	}
	g := grpc.NewServer(options...)
	callwardenv1.RegisterCallServiceServer(g, s)
	alive := health.NewServer()
	alive.SetServingStatus(callwardenv1.CallService_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(g, alive)
	reflection.Register(g)
	return g, alive
}

// drain ends g when its calls are over: how long they may take is up to their
// handler.
func (s *Source) drain(g *grpc.Server, alive *health.Server) {
	alive.Shutdown()
	<-s.door.close()
	if s.cfg.Events != nil {
		select {
		case <-s.cfg.Events.Idle():
		case <-s.door.unwatched:
		}
	}
	s.door.end()
	// Last answers are on the way yet.
	stop := time.AfterFunc(lastWords, g.Stop)
	defer stop.Stop()
	g.GracefulStop()
}

func (s *Source) checkUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.check(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (s *Source) checkStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := s.check(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, stream)
}

// check lets in who has a token, or needs none. Whether the server is well is
// told to everybody: what asks for that seldom has a token.
func (s *Source) check(ctx context.Context, method string) error {
	if strings.HasPrefix(method, "/grpc.health.v1.Health/") {
		return nil
	}
	_, err := s.who(ctx)
	if err != nil {
		s.count.strange.Add(1)
		s.log.Warn("client refused", "source", Name, "peer", addressOf(ctx), "err", err)
	}
	return err
}

// who is what the one who calls may do.
func (s *Source) who(ctx context.Context) (*grant, error) {
	if s.grants == nil {
		if s.cfg.TLS.CA == "" && !isLocal(ctx) {
			return nil, refuse(tokenRefused, "without a clients_file or tls.ca in the configuration only this machine may call")
		}
		return &everything, nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		if strings.EqualFold(scheme, "Bearer") {
			if g := s.grants.find(strings.TrimSpace(token)); g != nil {
				return g, nil
			}
		}
	}
	return nil, refuse(tokenRefused, "the request has no token that is known here and has not expired")
}

// may is who calls, if they have the right, and the tenant that they mean by
// what they say: their own where that is nothing, else the default.
func (s *Source) may(ctx context.Context, right, says string) (g *grant, tenant string, err error) {
	if g, err = s.who(ctx); err != nil {
		return nil, "", err
	}
	if !g.right(right) {
		return nil, "", refuse(rightRefused, "the token is not for %s", right)
	}
	switch {
	case says != "":
		tenant = says
	case !g.all() && len(g.Tenants) == 1:
		tenant = g.Tenants[0]
	default:
		tenant = s.cfg.Tenant
	}
	if !g.tenant(tenant) {
		return nil, "", refuse(tenantRefused, "the token is not for tenant %.140q", tenant)
	}
	return g, tenant, nil
}

func addressOf(ctx context.Context) string {
	if p, ok := grpcpeer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

func isLocal(ctx context.Context) bool {
	from, err := netip.ParseAddrPort(addressOf(ctx))
	return err == nil && from.Addr().Unmap().IsLoopback()
}

// watchedHandshakes tells of clients that do not get through: their own error
// says little of what the server minds.
type watchedHandshakes struct {
	credentials.TransportCredentials
	s *Source
}

// ServerHandshake implements [credentials.TransportCredentials].
func (w *watchedHandshakes) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := w.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		w.s.count.strange.Add(1)
		w.s.log.Warn("TLS handshake refused", "source", Name, "peer", conn.RemoteAddr().String(), "err", err)
	}
	return secured, info, err
}

// Clone implements [credentials.TransportCredentials].
func (w *watchedHandshakes) Clone() credentials.TransportCredentials {
	return &watchedHandshakes{w.TransportCredentials.Clone(), w.s}
}
