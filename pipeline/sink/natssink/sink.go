// Package natssink publishes events to NATS as CloudEvents, reads them back
// for those who follow a server live, and runs the NATS server that is
// embedded in this process where there is no other. The client path is the
// same for both.
package natssink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
)

const subjectRoot = "callwarden.v1."

// Config is what the sink needs.
type Config struct {
	Connection `yaml:",inline"`

	// Levels also publishes how loud the legs are, for the live desk; not kept
	// either.
	Levels bool `yaml:"levels"`
	// Transcripts also publishes transcript segments. They are not kept in
	// the stream: who follows live gets them.
	Transcripts bool `yaml:"transcripts"`

	// Stream is the JetStream stream that keeps risk and call events.
	Stream string `yaml:"stream"`
	// ManageStream creates the stream where it is missing and brings its
	// limits up to date, unless an operator has configured it otherwise. Off,
	// the sink needs no right on the JetStream API.
	ManageStream bool          `yaml:"manage_stream"`
	MaxAge       time.Duration `yaml:"max_age"`   // events are kept so long; 0 is for ever
	MaxBytes     int64         `yaml:"max_bytes"` // the oldest go when the stream is larger; 0 is no limit
	Replicas     int           `yaml:"replicas"`  // in a cluster
	// Dedup is how long an event id is remembered. What is published twice
	// within it is stored once.
	Dedup time.Duration `yaml:"dedup"`

	// The outbox holds what the server has not confirmed. When it is full,
	// Publish waits.
	OutboxEvents int           `yaml:"outbox_events"`
	OutboxBytes  int           `yaml:"outbox_bytes"`
	AckWait      time.Duration `yaml:"ack_wait"` // an event not confirmed in this time is sent again
}

// DefaultConfig is all but the server to connect to.
func DefaultConfig() Config {
	return Config{
		Connection:   Connection{Name: "callwarden"},
		Stream:       "CALLWARDEN",
		ManageStream: true,
		MaxAge:       7 * 24 * time.Hour,
		MaxBytes:     256 << 20, // the server sets it aside; a million events, about
		Replicas:     1,
		// Longer than a server's restart, so that events sent before it and
		// again after it are stored once; an id costs the server some 100
		// bytes.
		Dedup:        10 * time.Minute,
		OutboxEvents: 100_000, // an hour of 100 calls with an event each 4 s
		OutboxBytes:  64 << 20,
		AckWait:      5 * time.Second,
	}
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	errs := []error{c.Connection.Validate()}
	if err := checkToken(c.Stream); err != nil {
		errs = append(errs, fmt.Errorf("stream: %q must be a name: %w", c.Stream, err))
	}
	least := func(key string, value, bound any, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %v must be at least %v", key, value, bound))
		}
	}
	least("max_bytes", c.MaxBytes, 0, c.MaxBytes >= 0)
	least("replicas", c.Replicas, 1, c.Replicas >= 1)
	least("dedup", c.Dedup, time.Second, c.Dedup >= time.Second)
	least("outbox_events", c.OutboxEvents, 1, c.OutboxEvents >= 1)
	least("outbox_bytes", c.OutboxBytes, 1, c.OutboxBytes >= 1)
	least("ack_wait", c.AckWait, 100*time.Millisecond, c.AckWait >= 100*time.Millisecond)
	if c.MaxAge != 0 && c.MaxAge < c.Dedup {
		errs = append(errs, fmt.Errorf("max_age: %v must be 0 or at least dedup, %v", c.MaxAge, c.Dedup))
	}
	return errors.Join(errs...)
}

// Stats are the accounts of a sink. Published is always the sum of the others.
type Stats struct {
	Published  int // taken by Publish
	Delivered  int // confirmed by the server, new to it
	Duplicates int // confirmed by the server, which had them already
	Pending    int // not confirmed yet
	Failed     int // refused by the server for good
}

// Sink publishes events. Those of one call arrive in the order in which they
// were published; an event that could not be confirmed is sent again with the
// same id, so the stream keeps it once, and a plain subscriber may see it
// twice. While the server is away events wait in the outbox and the sink
// reconnects for as long as it is open.
type Sink struct {
	cfg    Config
	log    *slog.Logger
	box    *outbox
	ready  chan struct{}      // closed by run when the stream stands
	cancel context.CancelFunc // ends run
	done   chan struct{}      // closed by run when it has ended
	once   sync.Once
	result error // of Close

	mu  sync.Mutex
	err error // the last passing trouble, nil when all is well
}

var _ sink.Sink = (*Sink)(nil)

// New starts a sink. It does not wait for the server, see Ready; its errors
// are faults of the configuration and of the files that it names.
func New(cfg Config, log *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sink{
		cfg: cfg, log: log,
		box:   newOutbox(cfg.OutboxEvents, cfg.OutboxBytes),
		ready: make(chan struct{}), cancel: cancel, done: make(chan struct{}),
	}
	go func() { // Close waits for it
		defer close(s.done)
		if err := s.run(ctx, opts); err != nil {
			s.box.fail(err)
			s.log.Error("nats sink gives up", "err", err)
		}
	}()
	return s, nil
}

// Ready waits until the server is reached and the stream stands. After an
// error other than that of ctx nothing will ever be delivered.
func (s *Sink) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-s.done:
		if _, _, broken := s.box.account(); broken != nil {
			return broken
		}
		return ErrClosed
	case <-ctx.Done():
		if err := s.trouble(); err != nil {
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		}
		return fmt.Errorf("waiting for %s: %w", s.cfg.target(), ctx.Err())
	}
}

// Publish takes ev into the outbox. It waits for room until ctx ends. It
// refuses an event whose tenant or call is no subject token (ErrName), any
// after Close (ErrClosed), and any after the server refused us altogether.
// Transcripts and levels are passed over where the configuration leaves them out.
func (s *Sink) Publish(ctx context.Context, ev sink.Event) error {
	if ev.Type == sink.TranscriptSegment && !s.cfg.Transcripts || ev.Type == sink.CallLevels && !s.cfg.Levels {
		return nil
	}
	subject, err := subjectOf(ev)
	if err != nil {
		return fmt.Errorf("publishing %s: %w", ev.Type, err)
	}
	payload, err := ev.JSON()
	if err != nil {
		return err
	}
	l := &letter{
		lane: ev.Tenant + "." + ev.Call, subject: subject, header: headersOf(ev), payload: payload,
		size:   len(payload) + len(subject) + letterOverhead,
		stored: !ev.Type.Passing(),
	}
	if err := s.box.put(ctx, l); err != nil {
		return fmt.Errorf("publishing %s: %w", ev.Type, err)
	}
	return nil
}

const letterOverhead = 512 // bytes: headers and bookkeeping, about

// Close refuses new events and waits until the server has confirmed those
// taken, or until ctx ends. Its error says how many were not delivered, and
// why. A second Close returns the same.
func (s *Sink) Close(ctx context.Context) error {
	s.once.Do(func() {
		s.box.shut()
		select {
		case <-s.box.settled:
		case <-ctx.Done():
		}
		s.cancel()
		<-s.done
		s.result = s.verdict(ctx)
	})
	return s.result
}

func (s *Sink) verdict(ctx context.Context) error {
	st, refusal, broken := s.box.account()
	var errs []error
	if st.Pending > 0 {
		why := broken
		if why == nil {
			if why = s.trouble(); why == nil {
				why = errors.New("not confirmed in time")
			}
			if ctx.Err() != nil {
				why = fmt.Errorf("%w (%w)", why, ctx.Err())
			}
		}
		errs = append(errs, fmt.Errorf("%d of %d events not delivered to %s: %w", st.Pending, st.Published, s.cfg.target(), why))
	} else if broken != nil {
		errs = append(errs, broken)
	}
	if st.Failed > 0 {
		errs = append(errs, fmt.Errorf("%d of %d events refused by %s, the first: %w", st.Failed, st.Published, s.cfg.target(), refusal))
	}
	return errors.Join(errs...)
}

// Stats are the accounts so far.
func (s *Sink) Stats() Stats {
	st, _, _ := s.box.account()
	return st
}

// Err is what is wrong now: why nothing can be delivered at all, else the
// first event that was refused, else why the server is not reached; nil when
// all is well.
func (s *Sink) Err() error {
	_, refusal, broken := s.box.account()
	switch {
	case broken != nil:
		return broken
	case refusal != nil:
		return refusal
	}
	return s.trouble()
}

// Up is why events cannot be delivered at the moment, nil if they can. What
// the server has refused does not count.
func (s *Sink) Up() error {
	if _, _, broken := s.box.account(); broken != nil {
		return broken
	}
	if err := s.trouble(); err != nil {
		return err
	}
	select {
	case <-s.ready:
		return nil
	default:
		return fmt.Errorf("%s is not reached yet", s.cfg.target())
	}
}

func (s *Sink) trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Sink) setTrouble(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
}
