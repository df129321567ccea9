package siprecsrc

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/emiago/sipgo/sip"
)

// What the SIP stack lets be set for the whole process only is set before
// anything of it can run: a constructor would set it while another of its
// users reads it.
//
// Answers may be longer than it would send over UDP: a response has to go the
// way that its request came (RFC 3261 section 18.2.2), however many proxies it
// names. And it tells the process's log of its connections, with addresses.
//
//nolint:gochecknoinits // see above
func init() {
	const longestDatagram = 65_507
	sip.UDPMTUSize = longestDatagram + 200 // it takes 200 off
	sip.SetDefaultLogger(slog.New(slog.DiscardHandler))
}

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
