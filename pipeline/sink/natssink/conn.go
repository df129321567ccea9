package natssink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	connectTimeout = 2 * time.Second  // for one dial and handshake
	pingInterval   = 10 * time.Second // a dead peer is noticed after three of them
	backOffFirst   = 100 * time.Millisecond
	backOffMost    = 5 * time.Second
)

// Connection says how a NATS server is reached. The zero value of a field
// leaves it out.
type Connection struct {
	// URL is one server or several, comma separated:
	// nats://[user:password@]host[:port]. The scheme tls:// demands TLS.
	URL string `yaml:"url"`
	// Server, in place of URL, is the server embedded in this process.
	Server *Server `yaml:"-"`
	Name   string  `yaml:"name"`  // shown by the server's connection list
	Creds  string  `yaml:"creds"` // file with a user JWT and its nkey seed
	NKey   string  `yaml:"nkey"`  // file with an nkey seed
	CA     string  `yaml:"ca"`    // file with the certificates (PEM) that the server's must come from
	Cert   string  `yaml:"cert"`  // file with this client's certificate (PEM)
	Key    string  `yaml:"key"`   // file with the key of Cert (PEM)
}

// Validate says what is wrong with c, each fault as "key: value rule". It
// opens no file.
func (c Connection) Validate() error {
	var errs []error
	if c.Server == nil && c.URL == "" {
		errs = append(errs, errors.New("url: must not be empty"))
	}
	if c.Server != nil && c.URL != "" {
		errs = append(errs, errors.New("url: must be empty with an embedded server"))
	}
	if c.URL != "" {
		for one := range strings.SplitSeq(c.URL, ",") {
			if err := validateURL(strings.TrimSpace(one)); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if c.Creds != "" && c.NKey != "" {
		errs = append(errs, errors.New("creds: must be empty when nkey is given"))
	}
	if (c.Cert == "") != (c.Key == "") {
		errs = append(errs, errors.New("cert: must be given together with key"))
	}
	return errors.Join(errs...)
}

// validateURL never repeats what it refuses: there may be a password in it.
func validateURL(s string) error {
	u, err := url.Parse(s)
	if err != nil && !strings.Contains(s, "://") {
		u, err = url.Parse("nats://" + s) // a bare host:port, which nats.go takes too
	}
	if err != nil {
		return errors.New("url: is no URL, want nats://host:4222")
	}
	if u.Host == "" && !strings.Contains(s, "://") {
		u, _ = url.Parse("nats://" + s)
	}
	if u == nil || u.Host == "" {
		return errors.New("url: has no host, want nats://host:4222")
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
		return nil
	}
	return fmt.Errorf("url: scheme %q must be nats, tls, ws or wss", u.Scheme)
}

// target names the server in messages, without its password.
func (c Connection) target() string {
	if c.Server != nil {
		return "the embedded NATS server"
	}
	var names []string
	for one := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" { // a bare host:port; may not hide a password
			_, one, _ = cutLast(strings.TrimSpace(one), "@")
			names = append(names, one)
			continue
		}
		u.User = nil
		names = append(names, u.String())
	}
	return strings.Join(names, ",")
}

// cutLast splits s at the last sep; without one, all of s is after it.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// options are those of nats.go. Files that cannot be read are errors here, so
// that a wrong path is told at the start and not retried.
func (c Connection) options() ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name(c.Name),
		nats.Timeout(connectTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(backOff),
		// Credentials may be rotated while we run: keep trying.
		nats.IgnoreAuthErrorAbort(),
		// What cannot be sent now stays in our outbox, where it is counted.
		nats.ReconnectBufSize(-1),
	}
	if c.Server != nil {
		return append(opts, nats.InProcessServer(c.Server.nats)), nil
	}
	for key, file := range map[string]string{"creds": c.Creds, "nkey": c.NKey, "ca": c.CA, "cert": c.Cert, "key": c.Key} {
		if file == "" {
			continue
		}
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		f.Close()
	}
	if c.Creds != "" {
		opts = append(opts, nats.UserCredentials(c.Creds))
	}
	if c.NKey != "" {
		o, err := nats.NkeyOptionFromSeed(c.NKey)
		if err != nil {
			return nil, fmt.Errorf("nkey: %s: %w", c.NKey, err)
		}
		opts = append(opts, o)
	}
	if c.CA != "" {
		opts = append(opts, nats.RootCAs(c.CA))
	}
	if c.Cert != "" {
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		opts = append(opts, nats.ClientCert(c.Cert, c.Key))
	}
	return opts, nil
}

// connect dials until it succeeds, ctx ends or the server says something that
// trying again does not change. It warns once, and once more when the reason
// changes. tell is given every error.
func (c Connection) connect(ctx context.Context, opts []nats.Option, log *slog.Logger, tell func(error)) (*nats.Conn, error) {
	target := c.URL
	if c.Server == nil {
		opts = append(opts, nats.SetCustomDialer(dialer{ctx}))
	}
	var last string
	for attempt := 1; ; attempt++ {
		nc, err := nats.Connect(target, opts...)
		if err == nil {
			return nc, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		err = fmt.Errorf("connecting to %s: %w", c.target(), err)
		if permanent(err) {
			return nil, err
		}
		tell(err)
		if err.Error() != last {
			last = err.Error()
			log.Warn("nats server away, trying again", "server", c.target(), "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(backOff(attempt)):
		}
	}
}

// dialer gives up with its ctx, so that Close need not wait for a dial.
type dialer struct{ ctx context.Context }

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: connectTimeout}).DialContext(d.ctx, network, address)
}

// permanent says whether trying to connect again is useless.
func permanent(err error) bool {
	for _, e := range []error{
		nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
		nats.ErrSecureConnRequired, nats.ErrSecureConnWanted, nats.ErrNkeysNotSupported,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var badCert *tls.CertificateVerificationError
	return errors.As(err, &badCert)
}

// backOff is how long to wait before the attempt after the n-th: doubling from
// backOffFirst to backOffMost, half of it by chance, so that many clients of a
// server that comes back do not all knock at once.
func backOff(n int) time.Duration {
	d := backOffMost
	if n < 7 { // 100 ms << 6 is past backOffMost
		d = min(backOffFirst<<max(n-1, 0), backOffMost)
	}
	return d/2 + rand.N(d/2+1)
}
