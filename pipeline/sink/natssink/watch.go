package natssink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/callwarden/callwarden/pipeline/sink"
)

// WatchConfig says which events to follow.
type WatchConfig struct {
	Connection  `yaml:",inline"`
	Tenant      string `yaml:"tenant"`      // only this tenant's; empty is all
	Call        string `yaml:"call"`        // only this call's; empty is all
	Transcripts bool   `yaml:"transcripts"` // also transcript segments, where they are published
	Levels      bool   `yaml:"levels"`      // also how loud the legs are, where that is published
	Machines    bool   `yaml:"machines"`    // also what machines say of themselves; for Follow

	// Since begins with what the stream has kept of this last time; All begins
	// with all it has. Without either only new events come, and the server
	// needs no JetStream.
	Since  time.Duration `yaml:"since"`
	All    bool          `yaml:"all"`
	Stream string        `yaml:"stream"`
}

// DefaultWatchConfig follows everything new.
func DefaultWatchConfig() WatchConfig {
	return WatchConfig{
		Connection:  Connection{Name: "callwarden-watch"},
		Transcripts: true,
		Stream:      DefaultConfig().Stream,
	}
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c WatchConfig) Validate() error {
	errs := []error{c.Connection.Validate()}
	for key, name := range map[string]string{"tenant": c.Tenant, "call": c.Call, "stream": c.Stream} {
		if name == "" && key != "stream" {
			continue
		}
		if err := checkToken(name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q must be a name: %w", key, name, err))
		}
	}
	if c.Since < 0 {
		errs = append(errs, fmt.Errorf("since: %v must be at least 0", c.Since))
	}
	return errors.Join(errs...)
}

// subject is that of a kind of event, narrowed to the tenant and call wanted.
func (c WatchConfig) subject(kind string) string {
	either := func(name string) string {
		if name == "" {
			return "*"
		}
		return name
	}
	return subjectRoot + kind + "." + either(c.Tenant) + "." + either(c.Call)
}

// WatchStats is what Watch saw.
type WatchStats struct {
	Events  int // handled
	Foreign int // passed over: no events of ours
	Missed  int // lost because handle was too slow
}

// Watch calls handle for every event, one at a time, until ctx ends (the error
// is nil then), handle returns an error, or the server refuses us. Messages
// that are no events are counted, warned about at most once a second, and
// passed over.
//
// With history, risk and call events come from the stream alone: first what it
// has kept, then what it gets, in its order, without gap or double, also
// across a lost connection. Without history, everything comes as it is
// published, also what a stream would drop as a double; events that are
// published while the connection is away are missed. So are transcripts and levels,
// in either case.
func Watch(ctx context.Context, cfg WatchConfig, log *slog.Logger, handle func(sink.Event) error) (WatchStats, error) {
	cfg.Machines = false
	return Follow(ctx, cfg, log, func(error) {}, func(d Delivery) error { return handle(d.Event) })
}

// Delivery is what Follow has read.
type Delivery struct {
	Event sink.Event
	// Stored is when the stream took the event, by the clock of this machine;
	// zero where none did.
	Stored time.Time
	// Behind is how many events the stream has after this one.
	Behind uint64
	// Machine, where not nil, is in place of an event.
	Machine *Machine
}

// errAnew says that the stream is another one than that which was read.
var errAnew = errors.New("the stream was made anew")

// Follow is Watch for those who show what they see: it tells more of each
// event, and calls state with nil when it follows the server, and with an error
// when it does not any more. state is called by other goroutines than handle,
// and never after Follow has returned.
//
// It returns an error also where the stream has been made anew, as by a server
// that was started with another folder: what came meanwhile is read by
// following again.
func Follow(ctx context.Context, cfg WatchConfig, log *slog.Logger, state func(error), handle func(Delivery) error) (WatchStats, error) {
	var seen WatchStats
	if err := cfg.Validate(); err != nil {
		return seen, err
	}
	opts, err := cfg.options()
	if err != nil {
		return seen, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	gone := make(chan struct{})
	back := make(chan struct{}, 1) // sent by the client's callback, never closed
	nc, err := cfg.connect(ctx, append(opts,
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				stop(fmt.Errorf("watching %s: %w", cfg.target(), err))
				return
			}
			log.Warn("nats connection", "err", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("nats connection lost", "server", cfg.target(), "err", err)
				state(fmt.Errorf("connection to %s lost: %w", cfg.target(), err))
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			log.Info("nats connection is back", "server", cfg.target())
			select {
			case back <- struct{}{}:
			default:
			}
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(gone) }),
	), log, state)
	if err != nil {
		return seen, notOurEnd(ctx, err)
	}
	defer func() {
		nc.Close()
		<-gone
	}()
	msgs := make(chan received) // sent by the client's callbacks, which end with ctx or nc; never closed
	follow, err := cfg.follow(ctx, nc, msgs, stop)
	if err != nil {
		return seen, notOurEnd(ctx, fmt.Errorf("watching %s: %w", cfg.target(), err))
	}
	state(nil)
	end := func(err error) (WatchStats, error) {
		seen.Missed = follow.end()
		return seen, err
	}
	var warned time.Time
	for {
		select {
		case <-ctx.Done():
			return end(notOurEnd(ctx, ctx.Err()))
		case <-back:
			if err := follow.same(ctx); err != nil {
				if errors.Is(err, errAnew) {
					return end(fmt.Errorf("watching %s: %w", cfg.target(), err))
				}
				log.Warn("nats stream cannot be looked at", "err", err)
			}
			state(nil)
		case m := <-msgs:
			if strings.HasPrefix(m.subject, commandRoot) {
				continue // somebody asks for something
			}
			d, err := m.delivery()
			if err != nil {
				seen.Foreign++
				if now := time.Now(); now.Sub(warned) >= time.Second {
					warned = now
					log.Warn("nats message passed over", "err", err)
				}
				continue
			}
			follow.latest = max(follow.latest, m.sequence)
			if d.Event.Type == sink.TranscriptSegment && !cfg.Transcripts || d.Event.Type == sink.CallLevels && !cfg.Levels {
				continue
			}
			seen.Events++
			if err := handle(d); err != nil {
				return end(err)
			}
		}
	}
}

type received struct {
	subject string
	header  nats.Header
	data    []byte

	stored           time.Time // what follows is of a message from the stream
	sequence, behind uint64
}

func (m received) delivery() (Delivery, error) {
	if isMachine(m.subject) {
		machine, err := decodeMachine(m.data)
		return Delivery{Machine: machine}, err
	}
	ev, err := Decode(m.subject, m.header, m.data)
	return Delivery{Event: ev, Stored: m.stored, Behind: m.behind}, err
}

// following is what goes on for one Follow.
type following struct {
	subs   []*nats.Subscription
	stream jetstream.Stream // nil without history
	born   time.Time        // of the stream
	latest uint64           // sequence in the stream that was read
	stop   func()
}

// end stops what goes on and says how many messages the client had to drop.
func (f *following) end() (dropped int) {
	f.stop()
	for _, sub := range f.subs {
		if n, err := sub.Dropped(); err == nil {
			dropped += n
		}
	}
	return dropped
}

// same is nil while the stream is the one that is read. The server goes on
// after a number that another stream has not reached yet, and says nothing.
func (f *following) same(ctx context.Context) error {
	if f.stream == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	info, err := f.stream.Info(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return errAnew
	case err != nil:
		return err
	case !info.Created.Equal(f.born), info.State.LastSeq < f.latest:
		return errAnew
	}
	return nil
}

// follow has the wanted messages sent to msgs until what it returns is ended.
func (c WatchConfig) follow(ctx context.Context, nc *nats.Conn, msgs chan<- received, stop context.CancelCauseFunc) (*following, error) {
	pass := func(m received) {
		select {
		case msgs <- m:
		case <-ctx.Done():
		}
	}
	f := &following{stop: func() {}}
	history := c.All || c.Since > 0
	subjects := []string{c.subject("*")} // one subscription for all kinds keeps the order of a call's events
	if history {
		subjects = subjects[:0]
		if c.Transcripts {
			subjects = append(subjects, c.subject("transcript"))
		}
		if c.Levels {
			subjects = append(subjects, c.subject("levels"))
		}
	}
	if c.Machines {
		subjects = append(subjects, machineRoot+"*")
	}
	for _, subject := range subjects {
		sub, err := nc.Subscribe(subject, func(m *nats.Msg) { pass(received{subject: m.Subject, header: m.Header, data: m.Data}) })
		if err != nil {
			return nil, err
		}
		f.subs = append(f.subs, sub)
	}
	if !history {
		flushing, cancel := context.WithTimeout(ctx, connectTimeout) // which the client insists on
		defer cancel()
		return f, nc.FlushWithContext(flushing)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	unreadable := func(err error) error { return fmt.Errorf("reading stream %q: %w", c.Stream, err) }
	if f.stream, err = js.Stream(ctx, c.Stream); err != nil {
		return nil, unreadable(err)
	}
	f.born = f.stream.CachedInfo().Created
	var ahead time.Duration // this machine's clock, of the server's
	if now := f.stream.CachedInfo().TimeStamp; !now.IsZero() {
		ahead = time.Since(now)
	}
	oc := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{c.subject("risk"), c.subject("call")},
		DeliverPolicy:  jetstream.DeliverAllPolicy,
	}
	if !c.All {
		from := time.Now().Add(-c.Since - ahead)
		oc.DeliverPolicy, oc.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	consumer, err := f.stream.OrderedConsumer(ctx, oc)
	if err != nil {
		return nil, unreadable(err)
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		r := received{subject: m.Subject(), header: m.Headers(), data: m.Data()}
		if meta, err := m.Metadata(); err == nil {
			r.stored, r.sequence, r.behind = meta.Timestamp.Add(ahead), meta.Sequence.Stream, meta.NumPending
		}
		pass(r)
	}, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stop(unreadable(err))
		}
	}))
	if err != nil {
		return nil, unreadable(err)
	}
	f.stop = func() {
		stop(context.Canceled) // frees callbacks that wait in pass
		consuming.Stop()
		<-consuming.Closed()
	}
	return f, nil
}
