package service

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/certs"
)

const (
	// maxMessage is what gRPC takes by itself: a configuration with ten
	// thousand phrases is 300 KB, a second of audio 32 KB.
	maxMessage = 4 << 20
	// streamWindow is how much of a stream may wait to be heard: four seconds
	// of 16 kHz. A fixed one: it does not grow with what a client sends.
	streamWindow = 128 << 10
	connWindow   = 8 << 20
	// A connection that says nothing for so long is asked whether it is there.
	askAfter, askWait = 20 * time.Second, 10 * time.Second

	// lastWords is how long the last answers may take to be read at the end.
	lastWords = time.Second

	minRateHz, maxRateHz = 8000, 48000
)

// Service hears the streams of its clients with one engine, which the caller
// opened and closes after Serve has returned. It is a [prometheus.Collector] of
// its figures.
type Service struct {
	callwardenv1.UnimplementedTranscribeServiceServer

	cfg    Config
	engine transcribe.Engine
	info   transcribe.Info
	log    *slog.Logger
	token  string
	certs  *certs.Store // nil without TLS
	door   door
	// slots are held while a native engine decodes: one a core. nil where it
	// holds no thread. Those who wait are served in the order in which they
	// came, and nobody has more than one step of a second under way.
	slots   chan struct{}
	working sync.WaitGroup // streams
	metrics *metrics
	limits  limits
}

// limits are how long a stream may take; tests have less patience.
type limits struct {
	config time.Duration // until the configuration comes
	answer time.Duration // until an answer is read
}

var (
	_ callwardenv1.TranscribeServiceServer = (*Service)(nil)
	_ prometheus.Collector                 = (*Service)(nil)
)

// New returns a Service of engine.
func New(cfg Config, engine transcribe.Engine, log *slog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, engine: engine, info: engine.Info(), log: log, metrics: newMetrics(),
		door:   door{capacity: cfg.Streams, empty: make(chan struct{}), began: time.Now()},
		limits: limits{config: 10 * time.Second, answer: 30 * time.Second},
	}
	s.metrics.streams = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "callwarden_transcriber_streams", Help: "Legs that are being heard.",
	}, func() float64 { n, _, _ := s.door.load(); return float64(n) })
	if s.info.Native {
		s.slots = make(chan struct{}, runtime.GOMAXPROCS(0))
	}
	var err error
	if s.token, err = cfg.token(); err != nil {
		return nil, err
	}
	if cfg.TLS.Cert != "" {
		if s.certs, err = certs.Open(cfg.TLS, log); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Serve answers on lis, which it closes, until ctx ends: then it takes no more
// streams, lets those that are open go on for Config.Grace, and returns when
// all have ended.
func (s *Service) Serve(ctx context.Context, lis net.Listener) error {
	g, alive := s.server()
	ended := make(chan struct{}) // closed when the server has ended after ctx
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		s.drain(g, alive)
	})
	s.log.Info("transcriber listens", "address", lis.Addr().String(), "backend", s.info.Backend, "model", s.info.Model,
		"tls", s.certs != nil, "token", s.token != "", "streams", s.cfg.Streams)
	err := g.Serve(lis)
	if stop() { // it ended by itself
		g.Stop()
	} else {
		<-ended
	}
	s.working.Wait()
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

func (s *Service) server() (*grpc.Server, *health.Server) {
	options := []grpc.ServerOption{
		grpc.WaitForHandlers(true), // Serve leaves no session behind
		grpc.MaxRecvMsgSize(maxMessage),
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
	callwardenv1.RegisterTranscribeServiceServer(g, s)
	alive := health.NewServer()
	alive.SetServingStatus(callwardenv1.TranscribeService_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(g, alive)
	reflection.Register(g)
	return g, alive
}

// drain ends g when its streams have ended, or after the grace time.
func (s *Service) drain(g *grpc.Server, alive *health.Server) {
	alive.Shutdown()
	empty := s.door.close()
	s.log.Info("transcriber takes no more streams", "grace", s.cfg.Grace)
	timer := time.NewTimer(s.cfg.Grace)
	defer timer.Stop()
	select {
	case <-empty:
	case <-timer.C:
		if streams, _, _ := s.door.load(); streams > 0 {
			s.log.Warn("streams are cut off", "streams", streams)
		}
		g.Stop()
		return
	}
	// Their last answers are on the way yet.
	stop := time.AfterFunc(lastWords, g.Stop)
	defer stop.Stop()
	g.GracefulStop()
}

// GetCapabilities says what the engine can do and how busy the server is.
func (s *Service) GetCapabilities(context.Context, *callwardenv1.GetCapabilitiesRequest) (*callwardenv1.GetCapabilitiesResponse, error) {
	streams, full, draining := s.door.load()
	_, vocabulary := s.engine.(transcribe.Vocabulary)
	answer := &callwardenv1.GetCapabilitiesResponse{
		Backend: s.info.Backend, Model: s.info.Model,
		RateHz: int32(s.info.RateHz), MinRateHz: minRateHz, MaxRateHz: maxRateHz,
		Phrases: s.info.Phrases, Hints: s.info.Hints, Vocabulary: vocabulary,
		Capacity: int32(s.cfg.Streams), Streams: int32(streams), Full: full, Draining: draining,
		Version: s.cfg.Version,
	}
	if s.info.Language != "" {
		answer.Languages = []string{s.info.Language}
	}
	return answer, nil
}

// LookUpWords asks the engine about words.
func (s *Service) LookUpWords(ctx context.Context, req *callwardenv1.LookUpWordsRequest) (*callwardenv1.LookUpWordsResponse, error) {
	v, ok := s.engine.(transcribe.Vocabulary)
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "%s does not tell which words it knows", s.info.Backend)
	}
	answer := &callwardenv1.LookUpWordsResponse{}
	for _, w := range req.Words {
		if ctx.Err() != nil {
			return nil, refused(ctx.Err())
		}
		if !v.Knows(w) {
			answer.Unknown = append(answer.Unknown, w)
		}
	}
	return answer, nil
}

func (s *Service) checkUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.check(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (s *Service) checkStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := s.check(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return next(srv, stream)
}

// check looks for the token. Whether the server is well is told to everybody:
// what asks for that seldom has a token.
func (s *Service) check(ctx context.Context, method string) error {
	if s.token == "" || strings.HasPrefix(method, "/grpc.health.v1.Health/") {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1 {
			return nil
		}
	}
	s.metrics.refused.WithLabelValues(reasonTokenRefused).Inc()
	return refusal(codes.Unauthenticated, reasonTokenRefused, 0, "the request does not carry this server's token")
}

// turn calls fn when it is its turn to decode.
func (s *Service) turn(ctx context.Context, fn func()) error {
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fn()
	return nil
}

// watchedHandshakes tells of clients that do not get through: their own error
// says little of what the server minds.
type watchedHandshakes struct {
	credentials.TransportCredentials
	s *Service
}

// ServerHandshake implements [credentials.TransportCredentials].
func (w *watchedHandshakes) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := w.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		w.s.metrics.handshakes.Inc()
		w.s.log.Warn("TLS handshake refused", "peer", conn.RemoteAddr().String(), "err", err)
	}
	return secured, info, err
}

// Clone implements [credentials.TransportCredentials].
func (w *watchedHandshakes) Clone() credentials.TransportCredentials {
	return &watchedHandshakes{w.TransportCredentials.Clone(), w.s}
}

// decode turns samples on the wire into PCM; ok is false where they end within
// one.
func decode(encoding callwardenv1.AudioEncoding, samples []byte) (pcm []int16, ok bool) {
	switch encoding {
	case callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMU:
		return audio.MuLaw.Decode(make([]int16, 0, len(samples)), samples), true
	case callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA:
		return audio.ALaw.Decode(make([]int16, 0, len(samples)), samples), true
	}
	if len(samples)%2 != 0 {
		return nil, false
	}
	pcm = make([]int16, len(samples)/2)
	for i := range pcm {
		pcm[i] = int16(uint16(samples[2*i]) | uint16(samples[2*i+1])<<8)
	}
	return pcm, true
}
