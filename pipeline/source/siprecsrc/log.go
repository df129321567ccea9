package siprecsrc

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// stackLog takes what the SIP stack has to say. It says whole messages with
// the numbers in them, so nothing of it is written anywhere: what it could not
// read is counted.
type stackLog struct{ malformed *atomic.Uint64 }

var _ slog.Handler = stackLog{}

func (stackLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (l stackLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "failed to parse" {
		l.malformed.Add(1)
	}
	return nil
}

func (l stackLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l stackLog) WithGroup(string) slog.Handler      { return l }
