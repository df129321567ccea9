package natssink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("nats connection is back", "server", cfg.target()) }),
		nats.ClosedHandler(func(*nats.Conn) { close(gone) }),
	), log, func(error) {})
	if err != nil {
		return seen, notOurEnd(ctx, err)
	}
	defer func() {
		nc.Close()
		<-gone
	}()
	msgs := make(chan received) // sent by the client's callbacks, which end with ctx or nc; never closed
	end, err := cfg.follow(ctx, nc, msgs, stop)
	if err != nil {
		return seen, notOurEnd(ctx, fmt.Errorf("watching %s: %w", cfg.target(), err))
	}
	var warned time.Time
	for {
		select {
		case <-ctx.Done():
			seen.Missed = end()
			return seen, notOurEnd(ctx, ctx.Err())
		case m := <-msgs:
			ev, err := Decode(m.subject, m.header, m.data)
			if err != nil {
				seen.Foreign++
				if now := time.Now(); now.Sub(warned) >= time.Second {
					warned = now
					log.Warn("nats message passed over", "err", err)
				}
				continue
			}
			if ev.Type == sink.TranscriptSegment && !cfg.Transcripts || ev.Type == sink.CallLevels && !cfg.Levels {
				continue
			}
			seen.Events++
			if err := handle(ev); err != nil {
				seen.Missed = end()
				return seen, err
			}
		}
	}
}

type received struct {
	subject string
	header  nats.Header
	data    []byte
}

// follow has the wanted messages sent to msgs. end stops that and says how
// many messages the client had to drop.
func (c WatchConfig) follow(ctx context.Context, nc *nats.Conn, msgs chan<- received, stop context.CancelCauseFunc) (end func() int, err error) {
	pass := func(m received) {
		select {
		case msgs <- m:
		case <-ctx.Done():
		}
	}
	history := c.All || c.Since > 0
	kinds := []string{"*"} // one subscription for all kinds keeps the order of a call's events
	if history {
		kinds = kinds[:0]
		if c.Transcripts {
			kinds = append(kinds, "transcript")
		}
		if c.Levels {
			kinds = append(kinds, "levels")
		}
	}
	var subs []*nats.Subscription
	for _, kind := range kinds {
		sub, err := nc.Subscribe(c.subject(kind), func(m *nats.Msg) { pass(received{m.Subject, m.Header, m.Data}) })
		if err != nil {
			return nil, err
		}
		subs = append(subs, sub)
	}
	end = func() (dropped int) {
		for _, sub := range subs {
			if n, err := sub.Dropped(); err == nil {
				dropped += n
			}
		}
		return dropped
	}
	if !history {
		return end, nc.FlushWithContext(ctx)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	oc := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{c.subject("risk"), c.subject("call")},
		DeliverPolicy:  jetstream.DeliverAllPolicy,
	}
	if !c.All {
		from := time.Now().Add(-c.Since)
		oc.DeliverPolicy, oc.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	}
	consumer, err := js.OrderedConsumer(ctx, c.Stream, oc)
	if err != nil {
		return nil, fmt.Errorf("reading stream %q: %w", c.Stream, err)
	}
	following, err := consumer.Consume(func(m jetstream.Msg) {
		pass(received{m.Subject(), m.Headers(), m.Data()})
	}, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stop(fmt.Errorf("reading stream %q: %w", c.Stream, err))
		}
	}))
	if err != nil {
		return nil, fmt.Errorf("reading stream %q: %w", c.Stream, err)
	}
	dropped := end
	return func() int {
		stop(context.Canceled) // frees callbacks that wait in pass
		following.Stop()
		<-following.Closed()
		return dropped()
	}, nil
}
