// Package sipstack sets what the SIP library lets be set for the whole process
// only, and closes its stacks. Whoever uses the library imports it.
package sipstack

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"

	"github.com/callwarden/callwarden/pipeline/source"
)

// LongestDatagram is that of UDP over IPv4, without headers.
const LongestDatagram = 65_507

// The settings are made before anything of the library can run: a constructor
// would make them while another of its users reads them.
//
// The library refuses to send datagrams of more than 1,300 bytes, as RFC 3261
// section 18.1.1 says. But a response has to go the way that its request came
// (section 18.2.2), however many proxies it names; and an INVITE with recording
// metadata is longer, which the field sends in fragments. It also tells the
// process's log whole messages, numbers and all, where it is given no other.
//
//nolint:gochecknoinits // see above
func init() {
	sip.UDPMTUSize = LongestDatagram + 200 // it takes 200 off
	sip.SetDefaultLogger(slog.New(slog.DiscardHandler))
}

// Close ends a stack whose listeners are closed. A message that was on its way
// just then finds no connection and opens one that nobody would close: so the
// stack is closed until nothing can be on its way any more.
func Close(ua *sipgo.UserAgent) error {
	err := ua.Close()
	for range 5 {
		source.Pause(context.Background(), 10*time.Millisecond)
		err = errors.Join(err, ua.Close())
	}
	return err
}
