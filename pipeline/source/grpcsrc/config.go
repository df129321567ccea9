// Package grpcsrc takes live calls in by callwarden.v1.CallService, and tells
// whoever watches there what is found in the calls of all ways in.
package grpcsrc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/fansink"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/transcribe/certs"
)

// Name is the way in that calls and events carry.
const Name = "grpc"

// Config says where clients are answered, and which.
type Config struct {
	Listen string `yaml:"listen"` // TCP address
	// TLS asks for client certificates where its CA is set. Without Cert there
	// is no TLS.
	TLS certs.Files `yaml:"tls"`
	// ClientsFile has the tokens: who may do what for which tenant, see
	// docs/callservice.md.
	// Without it and without client certificates only this machine may call.
	ClientsFile string `yaml:"clients_file"`
	Tenant      string `yaml:"tenant"`   // of calls that say none
	Calls       int    `yaml:"calls"`    // at once; more are refused
	Watchers    int    `yaml:"watchers"` // at once; more are refused
	// MediaTimeout ends a call of which nothing comes for so long.
	MediaTimeout time.Duration `yaml:"media_timeout"`

	// Events are what Watch tells; nil: there is no Watch.
	Events *fansink.Sink `yaml:"-"`
	// Publish takes verdicts, as [sink.Sink] does; nil: there is no Verdict.
	Publish func(ctx context.Context, ev sink.Event) error `yaml:"-"`
}

// DefaultConfig answers this machine only.
func DefaultConfig() Config {
	return Config{Listen: "127.0.0.1:8082", Tenant: "default", Calls: 1000, Watchers: 100, MediaTimeout: time.Minute}
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		fault("listen: %q must be an address and port, such as 127.0.0.1:8082", c.Listen)
	}
	if err := c.TLS.Validate(); err != nil {
		fault("tls.%w", err)
	} else if c.TLS.CA != "" && c.TLS.Cert == "" {
		fault("tls.cert: it must be set where tls.ca is")
	}
	if !announce.IsToken(c.Tenant) {
		fault("tenant: %q must be 1 to 128 letters, digits, - or _", c.Tenant)
	}
	for _, n := range []struct {
		key   string
		value int
	}{{"calls", c.Calls}, {"watchers", c.Watchers}} {
		if n.value < 1 || n.value > 100_000 {
			fault("%s: %d must be from 1 to 100000", n.key, n.value)
		}
	}
	if c.MediaTimeout < time.Second {
		fault("media_timeout: %v must be at least 1s", c.MediaTimeout)
	}
	return errors.Join(errs...)
}
