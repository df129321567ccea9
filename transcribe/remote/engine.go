package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/certs"
)

// Engine hears with the recognisers at its addresses.
type Engine struct {
	cfg   Config
	log   *slog.Logger
	peers []*peer

	stop     context.CancelFunc // of the watches
	watching sync.WaitGroup

	mu     sync.Mutex
	closed bool
	info   transcribe.Info
	known  bool
	vocab  bool
	news   chan struct{} // closed, and replaced, when a peer has changed
	words  map[string]bool
}

var (
	_ transcribe.Engine     = (*Engine)(nil)
	_ transcribe.Vocabulary = (*Engine)(nil)
)

func (c Config) name() string {
	if c.Name == "" {
		return "remote"
	}
	return c.Name
}

// New connects to the addresses and returns as soon as one answers. If none
// does for Config.Connect the error says what each of them said.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	return Connect(context.Background(), cfg, log)
}

// Connect is New for those who may stop waiting: ctx bounds the call.
func Connect(ctx context.Context, cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	transport, err := cfg.transport(log)
	if err != nil {
		return nil, err
	}
	options, err := cfg.dialOptions()
	if err != nil {
		return nil, err
	}
	watch, stop := context.WithCancel(context.Background())
	e := &Engine{cfg: cfg, log: log, stop: stop, news: make(chan struct{}), words: make(map[string]bool)}
	for _, a := range cfg.Addresses {
		conn, err := grpc.NewClient(target(a), append(options[:len(options):len(options)], grpc.WithTransportCredentials(transport(a)))...)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("address %s: %w", a, err), e.Close())
		}
		e.peers = append(e.peers, &peer{e: e, addr: a, conn: conn, client: callwardenv1.NewTranscribeServiceClient(conn)})
	}
	for _, p := range e.peers {
		e.watching.Go(func() { p.watch(watch) }) // ends with Close, which waits for it
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Connect)
	defer cancel()
	if err := e.await(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("no transcriber answers: %w", err), e.Close())
	}
	for _, p := range e.peers {
		if _, usable, why := p.state(time.Now()); !usable {
			log.Warn("transcriber is not there", "backend", cfg.name(), "address", p.addr, "err", why)
		}
	}
	return e, nil
}

// transport is how the connection to an address is secured: its certificate
// must be for Config.ServerName, or for the host of the address.
func (c Config) transport(log *slog.Logger) (func(addr string) credentials.TransportCredentials, error) {
	if !c.secure() {
		return func(string) credentials.TransportCredentials { return insecure.NewCredentials() }, nil
	}
	store, err := certs.Open(c.TLS, log)
	if err != nil {
		return nil, err
	}
	return func(addr string) credentials.TransportCredentials {
		name := c.ServerName
		if host, _, err := net.SplitHostPort(addr); err == nil && name == "" {
			name = host
		}
		return credentials.NewTLS(withProtocol(store.Client(name)))
	}, nil
}

func (c Config) dialOptions() ([]grpc.DialOption, error) {
	options := []grpc.DialOption{
		grpc.WithUserAgent("callwarden"),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		// An address that is away is tried twice a second: a leg is deaf
		// meanwhile.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 3 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(4 << 20)),
	}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	return options, nil
}

func withProtocol(cfg *tls.Config) *tls.Config {
	cfg.NextProtos = []string{"h2"}
	return cfg
}

// bearer is a token. Config.Validate has seen to it that nobody can listen.
type bearer string

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials].
func (b bearer) RequireTransportSecurity() bool { return false }

// Info is what the first recogniser that answered can do.
func (e *Engine) Info() transcribe.Info {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.info
}

// agree takes the capabilities of the first peer, and an error for those of
// others that are not like it: a leg may move from one to the other.
func (e *Engine) agree(addr string, caps *callwardenv1.GetCapabilitiesResponse) error {
	info := infoOf(e.cfg.name(), caps)
	if info.RateHz < 1000 || info.RateHz > 192_000 {
		return fmt.Errorf("%s answers nonsense: its model wants %d Hz", addr, info.RateHz)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.known {
		e.info, e.known, e.vocab = info, true, caps.Vocabulary
		return nil
	}
	if info.RateHz != e.info.RateHz || info.Phrases != e.info.Phrases || info.Language != e.info.Language {
		return fmt.Errorf("model %s at %s (%d Hz, language %q, phrase lists %v) is not like %s (%d Hz, language %q, phrase lists %v)",
			info.Model, addr, info.RateHz, info.Language, info.Phrases, e.info.Model, e.info.RateHz, e.info.Language, e.info.Phrases)
	}
	return nil
}

// tell wakes those who wait for a peer.
func (e *Engine) tell() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.news)
	e.news = make(chan struct{})
}

func (e *Engine) heardOf() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.news
}

// await waits until a peer can be used. Its error says why none can.
func (e *Engine) await(ctx context.Context) error {
	for {
		news := e.heardOf()
		if _, err := e.pick(nil); err == nil || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(pollEvery / 10) // rests end without news
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// pick is the usable peer with the least load, not the one to avoid if there is
// another.
func (e *Engine) pick(avoid *peer) (*peer, error) {
	var best *peer
	var least float64
	var whys []string
	now := time.Now()
	for _, p := range e.peers {
		load, usable, why := p.state(now)
		if !usable {
			whys = append(whys, p.addr+": "+why.Error())
			continue
		}
		if best == nil || best == avoid || load < least && p != avoid {
			best, least = p, load
		}
	}
	if best == nil {
		return nil, errors.New(strings.Join(whys, "; "))
	}
	return best, nil
}

// Ready is why no leg could be heard now, nil if one could. That all recognisers
// are full does not count: it passes by itself.
func (e *Engine) Ready() error {
	var whys []string
	for _, p := range e.peers {
		err := p.there()
		if err == nil {
			return nil
		}
		whys = append(whys, p.addr+": "+err.Error())
	}
	return errors.New(strings.Join(whys, "; "))
}

// Open begins a leg. Where no recogniser can be had, a live leg is away from
// its beginning, and a recorded one waits for Config.Patience.
func (e *Engine) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	closed, info := e.closed, e.info
	e.mu.Unlock()
	switch {
	case closed:
		return nil, fmt.Errorf("%s engine: %w", e.cfg.name(), transcribe.ErrClosed)
	case opt.RateHz != 0 && opt.RateHz != info.RateHz:
		return nil, fmt.Errorf("%w: rate %d Hz, the model wants %d", transcribe.ErrOption, opt.RateHz, info.RateHz)
	case len(opt.Phrases) > 0 && !info.Phrases:
		return nil, fmt.Errorf("%w: phrases, the model takes none", transcribe.ErrOption)
	}
	s := newSession(e, opt, info.RateHz)
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.pauses {
		return &pausing{s}, nil
	}
	return s, nil
}

// Knows asks a recogniser about word, once. Where none can be asked, or none
// tells, every word is known: that is for the one that hears it to judge.
func (e *Engine) Knows(word string) bool {
	word = strings.ToValidUTF8(strings.ToLower(word), "\uFFFD")
	e.mu.Lock()
	known, asked := e.words[word]
	vocab := e.vocab && !e.closed
	e.mu.Unlock()
	if asked || !vocab {
		return asked && known || !asked
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.Answer)
	defer cancel()
	for e.await(ctx) == nil {
		p, err := e.pick(nil)
		if err != nil {
			continue
		}
		answer, err := p.client.LookUpWords(ctx, &callwardenv1.LookUpWordsRequest{Words: []string{word}})
		if err == nil {
			known = len(answer.Unknown) == 0
			e.mu.Lock()
			e.words[word] = known
			e.mu.Unlock()
			return known
		}
		if ctx.Err() != nil {
			break
		}
		p.leave(pollEvery, plain(err))
	}
	e.log.Warn("no transcriber says whether it knows a word: taking it to be known", "backend", e.cfg.name())
	return true
}

// Close ends the connections. All sessions are closed before.
func (e *Engine) Close() error {
	e.mu.Lock()
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	e.stop()
	e.watching.Wait()
	var errs []error
	for _, p := range e.peers {
		p.mu.Lock()
		if p.end != nil {
			p.end()
		}
		p.mu.Unlock()
		errs = append(errs, p.conn.Close())
	}
	return errors.Join(errs...)
}
