// Package peer is what recognisers on other machines have in common: their
// addresses, whom to trust, and which of several to ask.
package peer

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Address is where a server listens.
type Address struct {
	Scheme string
	Host   string // with port
	Path   string // "" or from the slash on
}

// String is the address as a person writes it, with its scheme.
func (a Address) String() string { return a.Scheme + "://" + a.Host + a.Path }

// ParseAddress reads SCHEME://HOST:PORT/PATH. The scheme is one of schemes;
// the first where s has none. A port is needed.
func ParseAddress(s string, schemes ...string) (Address, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = schemes[0], s
	}
	host, path, slash := strings.Cut(rest, "/")
	if slash {
		path = "/" + path
	}
	a := Address{scheme, host, path}
	if !slices.Contains(schemes, scheme) {
		return a, fmt.Errorf("%q must begin with %s://", s, strings.Join(schemes, ":// or "))
	}
	if colon := strings.LastIndexByte(host, ':'); colon <= 0 || colon == len(host)-1 || strings.ContainsAny(rest, "@ ?#") {
		return a, fmt.Errorf("%q must have a host and a port, and no user or query", s)
	}
	return a, nil
}

// TLS trusts the authorities in the PEM file ca; those of the system where it
// is empty.
func TLS(ca string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: %s has no certificate in PEM", ca)
	}
	return cfg, nil
}

// Set is some servers that can stand in for one another. Its methods may be
// called from any goroutine.
type Set struct {
	what  string
	names []string

	mu   sync.Mutex
	down []time.Time // until when each is asked after the others
}

// downFor is how long a server that failed is asked after all others.
const downFor = 10 * time.Second

// NewSet returns the servers called names. In errors each is the what at its
// name.
func NewSet(what string, names ...string) *Set {
	return &Set{what: what, names: names, down: make([]time.Time, len(names))}
}

// Try calls open with the number of one server after the other until it
// succeeds, those that failed lately last. Each has limit. The error names all
// servers and what was wrong with them; it is ctx's where that has ended.
func (s *Set) Try(ctx context.Context, limit time.Duration, open func(ctx context.Context, i int) error) error {
	var errs []error
	for _, i := range s.order(time.Now()) {
		opening, cancel := context.WithTimeout(ctx, limit)
		err := open(opening, i)
		cancel()
		if err == nil {
			s.mark(i, time.Time{})
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.mark(i, time.Now().Add(downFor))
		errs = append(errs, fmt.Errorf("%s %s: %w", s.what, s.names[i], err))
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

func (s *Set) order(now time.Time) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	order := make([]int, len(s.names))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(max(0, s.down[a].Sub(now)), max(0, s.down[b].Sub(now)))
	})
	return order
}

func (s *Set) mark(i int, down time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[i] = down
}

// ReadSecret reads a token or key from the first line of a file.
func ReadSecret(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSpace(line)
	if line == "" || len(line) > 8192 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: its first line must be a key of printable ASCII", path)
	}
	return line, nil
}
