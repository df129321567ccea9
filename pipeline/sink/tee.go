package sink

import (
	"context"
	"errors"
)

// Tee publishes every event to all of sinks, in their order. A sink that
// refuses an event does not keep it from the others: Publish tries all and
// joins their errors, so after an error some sinks may have the event. Each
// may wait until ctx ends; one that does holds up those after it, so put
// files and terminals before what depends on a network. Close closes all,
// one after the other, and joins their errors.
func Tee(sinks ...Sink) Sink { return tee(sinks) }

type tee []Sink

func (t tee) Publish(ctx context.Context, ev Event) error {
	var errs []error
	for _, s := range t {
		errs = append(errs, s.Publish(ctx, ev))
	}
	return errors.Join(errs...)
}

func (t tee) Close(ctx context.Context) error {
	var errs []error
	for _, s := range t {
		errs = append(errs, s.Close(ctx))
	}
	return errors.Join(errs...)
}
