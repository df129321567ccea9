package webhooksink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/callwarden/callwarden/pipeline/sink"
)

// Sink posts events. Those of one call come to an endpoint in order and one at a
// time; what could not be delivered is sent again with the same id.
type Sink struct {
	endpoints []*endpoint
}

var _ sink.Sink = (*Sink)(nil)

// New reads the files that cfg names and starts to deliver; Close ends it. Its
// errors name the key.
func New(cfg Config, log *slog.Logger) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Sink{}
	for i, e := range cfg.Endpoints {
		to, err := newEndpoint(cfg, e, log)
		if err != nil {
			return nil, fmt.Errorf("endpoints[%d].%w", i, err)
		}
		s.endpoints = append(s.endpoints, to)
	}
	for _, e := range s.endpoints {
		e.start()
	}
	return s, nil
}

// ErrClosed is what Publish returns after Close.
var ErrClosed = errors.New("webhook sink is closed")

// Publish takes ev for the endpoints that want it. It does not wait: where an
// endpoint has no room the event is lost to it, which is counted and warned of,
// and no error.
func (s *Sink) Publish(_ context.Context, ev sink.Event) error {
	var body []byte
	for _, e := range s.endpoints {
		if !e.wants(ev) {
			continue
		}
		if body == nil {
			var err error
			if body, err = ev.CloudEvent(); err != nil {
				return err
			}
		}
		if err := e.take(ev, body); err != nil {
			return err
		}
	}
	return nil
}

// Close refuses new events and waits until those taken are delivered, or until
// ctx ends. Its error says how many each endpoint did not get, and why.
func (s *Sink) Close(ctx context.Context) error {
	errs := make([]error, len(s.endpoints))
	var closing sync.WaitGroup // one that is away does not take the time of another
	for i, e := range s.endpoints {
		closing.Go(func() { errs[i] = e.close(ctx) })
	}
	closing.Wait()
	return errors.Join(errs...)
}

// Stats are the accounts of one endpoint. Taken is the sum of Delivered, Failed
// and Pending; what was Dropped was not taken.
type Stats struct {
	Endpoint  string
	Taken     uint64
	Delivered uint64
	Failed    uint64 // refused by the server, or given up
	Dropped   uint64 // for want of room, or because the server wants no more
	Pending   int
	Attempts  uint64
	Away      bool // the last attempt failed
}

// Stats are those of all endpoints.
func (s *Sink) Stats() []Stats {
	all := make([]Stats, len(s.endpoints))
	for i, e := range s.endpoints {
		all[i] = e.stats()
	}
	return all
}
