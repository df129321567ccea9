// Package certs keeps TLS certificates that live in files: they are read again
// when the files change, so that a renewal needs no restart.
package certs

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Files are where certificates are, in PEM.
type Files struct {
	Cert string `yaml:"cert"` // own certificate, with those between it and its root
	Key  string `yaml:"key"`
	// CA are the roots that the other side's certificate must come from. A
	// server asks for client certificates only where it is set; a client takes
	// the system's roots where it is not.
	CA string `yaml:"ca"`
}

// None reports whether no file is named.
func (f Files) None() bool { return f == Files{} }

// Validate says which key is wrong and what it must be.
func (f Files) Validate() error {
	if (f.Cert == "") != (f.Key == "") {
		return fmt.Errorf("cert: %q and key: %q must both be files, or both be empty", f.Cert, f.Key)
	}
	return nil
}

const (
	// The files are looked at with a handshake, not more often than this.
	lookEvery = time.Second
	// A certificate that is about to end is told of this early, and this often.
	soon      = 14 * 24 * time.Hour
	tellEvery = time.Hour
)

// Store is what was read of the files. Its methods, and the configurations
// that it returns, may be used from any goroutine.
type Store struct {
	files Files
	log   *slog.Logger

	mu     sync.Mutex
	looked time.Time
	told   time.Time // of an end that is near
	seen   [3]stamp  // of the files that were read, or could not be
	cert   *tls.Certificate
	roots  *x509.CertPool // nil: the system's, or no client certificates
}

// stamp tells one version of a file from another.
type stamp struct {
	size int64
	mod  time.Time
}

// Open reads the files.
func Open(files Files, log *slog.Logger) (*Store, error) {
	if err := files.Validate(); err != nil {
		return nil, err
	}
	s := &Store{files: files, log: log, looked: time.Now()}
	s.seen = s.stamps()
	var err error
	if s.cert, s.roots, err = files.read(); err != nil {
		return nil, err
	}
	s.tell(time.Now())
	return s, nil
}

func (f Files) read() (cert *tls.Certificate, roots *x509.CertPool, err error) {
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("reading certificate %s with key %s: %w", f.Cert, f.Key, err)
		}
		cert = &pair
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, nil, fmt.Errorf("reading root certificates: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("reading root certificates: %s holds no certificate in PEM", f.CA)
		}
	}
	return cert, roots, nil
}

func (s *Store) stamps() (all [3]stamp) {
	for i, name := range []string{s.files.Cert, s.files.Key, s.files.CA} {
		if info, err := os.Stat(name); err == nil {
			all[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return all
}

// current is what the files say now. Files that cannot be read leave what was
// read before, and are told of once: halfway through a renewal certificate and
// key may not belong together.
func (s *Store) current() (*tls.Certificate, *x509.CertPool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.looked) < lookEvery {
		return s.cert, s.roots
	}
	s.looked = now
	if stamps := s.stamps(); stamps != s.seen {
		s.seen = stamps
		cert, roots, err := s.files.read()
		if err != nil {
			s.log.Error("certificates have changed and cannot be read: the ones before stay", "err", err)
		} else {
			s.cert, s.roots, s.told = cert, roots, time.Time{}
			s.log.Info("certificates read again")
		}
	}
	s.tell(now)
	return s.cert, s.roots
}

// tell tells of a certificate that has ended or is about to.
func (s *Store) tell(now time.Time) {
	if s.cert == nil || s.cert.Leaf == nil || now.Sub(s.told) < tellEvery {
		return
	}
	switch left := s.cert.Leaf.NotAfter.Sub(now); {
	case left <= 0:
		s.told = now
		s.log.Error("the certificate has expired: nobody will accept it", "file", s.files.Cert, "expired", s.cert.Leaf.NotAfter)
	case left < soon:
		s.told = now
		s.log.Warn("the certificate is about to expire", "file", s.files.Cert, "expires", s.cert.Leaf.NotAfter)
	}
}

// Server is the configuration of a server that speaks the protocols. It needs
// Files.Cert.
func (s *Store) Server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cert, roots := s.current()
			if cert == nil {
				return nil, errors.New("there is no certificate to show")
			}
			cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{*cert}}
			if roots != nil {
				cfg.ClientCAs, cfg.ClientAuth = roots, tls.RequireAndVerifyClientCert
			}
			return cfg, nil
		},
	}
}

// Client is the configuration of a client. name is what the server's
// certificate must be for: a host name or an IP address. Empty means the host
// name that is dialled; an address is not known here then, and every
// certificate is refused.
func (s *Store) Client(name string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: name,
		// Roots may change, which RootCAs cannot: what is skipped here is done
		// in VerifyConnection.
		InsecureSkipVerify: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			_, roots := s.current()
			// A connection to an address has no name of its own (RFC 6066,
			// section 3), and without one Verify would take any certificate.
			name := cmp.Or(c.ServerName, name)
			if name == "" {
				return errors.New("what the server's certificate must be for is not known")
			}
			opts := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
			if len(c.PeerCertificates) == 0 {
				return errors.New("the server shows no certificate")
			}
			for _, between := range c.PeerCertificates[1:] {
				opts.Intermediates.AddCert(between)
			}
			_, err := c.PeerCertificates[0].Verify(opts)
			return err
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert, _ := s.current(); cert != nil {
				return cert, nil
			}
			return &tls.Certificate{}, nil // none: the server says what it thinks of that
		},
	}
}
