// Package websock is what ways in over WebSockets (RFC 6455) have in common:
// whom they let in and as whose tenant, the connections, and the audio of a
// call as it comes out of one.
package websock

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/announce"
)

// Config is the part of a way in's configuration that all of them have. It is
// inlined in theirs.
type Config struct {
	// Listen is a TCP address of the way in's own, beside the HTTP server that
	// mounts its Handler; empty for none.
	Listen string `yaml:"listen"`
	TLS    TLS    `yaml:"tls"` // of Listen
	// PublicURL is how peers reach the way in, where something between changes
	// that: ws or wss, host, and what stands before the path.
	PublicURL string `yaml:"public_url"`
	// Allow are the networks, in CIDR form, that may connect. Empty allows all
	// that prove who they are, and this machine.
	Allow []string `yaml:"allow"`
	// Proxies are the networks of reverse proxies, whose X-Forwarded-For,
	// -Proto and -Host are believed.
	Proxies []string `yaml:"proxies"`
	// Origins are the web pages that may connect, as host or scheme://host with
	// * for any part of it. Programs send no origin.
	Origins []string `yaml:"origins"`
	// Tokens let in whoever shows one of them.
	Tokens []Token `yaml:"tokens"`
	Tenant string  `yaml:"tenant"` // of calls that neither token nor peer gives another

	Connections  int           `yaml:"connections"`   // at once; more are answered 503
	HelloTimeout time.Duration `yaml:"hello_timeout"` // for what begins the call
	MediaTimeout time.Duration `yaml:"media_timeout"` // without audio, the call has ended
}

// TLS names PEM files; both or none.
type TLS struct {
	Certificate string `yaml:"certificate"` // with its chain
	Key         string `yaml:"key"`
}

// Token is a secret that peers show: as bearer token, as password, as last
// part of the path or as ?token=.
type Token struct {
	File string `yaml:"file"` // holds it
	// Tenant is whose calls its bearer may send; empty for any.
	Tenant  string    `yaml:"tenant"`
	Expires time.Time `yaml:"expires"` // zero for never
}

// DefaultConfig takes connections through the HTTP server only, from this
// machine only.
func DefaultConfig() Config {
	return Config{Tenant: "default", Connections: 2000, HelloTimeout: 5 * time.Second, MediaTimeout: time.Minute}
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			fault("listen: %q must be an address and port, such as 0.0.0.0:8443", c.Listen)
		}
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		fault("tls: certificate and key must both be set, or neither")
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" || u.RawQuery != "" {
			fault("public_url: %q must be like wss://calls.example.com", c.PublicURL)
		}
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"allow", c.Allow}, {"proxies", c.Proxies}} {
		if _, err := networks(list.key, list.names); err != nil {
			errs = append(errs, err)
		}
	}
	for i, o := range c.Origins {
		if _, err := path.Match(o, ""); err != nil || o == "" {
			fault("origins[%d]: %q must be a host, or like https://*.example.com", i, o)
		}
	}
	for i, t := range c.Tokens {
		if t.File == "" {
			fault("tokens[%d].file: must name the file that holds the token", i)
		}
		if t.Tenant != "" && !announce.IsToken(t.Tenant) {
			fault("tokens[%d].tenant: %q must be 1 to 128 letters, digits, - or _", i, t.Tenant)
		}
	}
	if !announce.IsToken(c.Tenant) {
		fault("tenant: %q must be 1 to 128 letters, digits, - or _", c.Tenant)
	}
	if c.Connections < 1 {
		fault("connections: %d must be at least 1", c.Connections)
	}
	if c.HelloTimeout <= 0 {
		fault("hello_timeout: %v must be above 0", c.HelloTimeout)
	}
	if c.MediaTimeout <= 0 {
		fault("media_timeout: %v must be above 0", c.MediaTimeout)
	}
	return errors.Join(errs...)
}

func networks(key string, names []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for i, s := range names {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %q must be a network, such as 192.0.2.0/24", key, i, s)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

func contains(all []netip.Prefix, a netip.Addr) bool {
	for _, p := range all {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// listen takes the address of c's own, if it has one.
func (c Config) listen() (net.Listener, error) {
	if c.Listen == "" {
		return nil, nil
	}
	var certs []tls.Certificate
	if c.TLS.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		certs = append(certs, pair)
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if certs != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: certs, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
	}
	return l, nil
}

// originHost is the host of a page, and the page's scheme and host.
func originHost(origin string) (host, full string) {
	u, err := url.Parse(origin)
	if err != nil {
		return "", ""
	}
	return strings.ToLower(u.Host), strings.ToLower(u.Scheme + "://" + u.Host)
}
