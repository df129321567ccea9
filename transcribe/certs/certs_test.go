package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// issue writes a certificate that signs itself, valid for 127.0.0.1.
func issue(t *testing.T, files Files, serial int64, ends time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: ends,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func inDir(t *testing.T) Files {
	dir := t.TempDir()
	return Files{Cert: filepath.Join(dir, "c.pem"), Key: filepath.Join(dir, "k.pem")}
}

// shown is the serial number of the certificate that a server shows now.
func shown(t *testing.T, s *Store) int64 {
	t.Helper()
	s.mu.Lock()
	s.looked = time.Time{} // a second has passed
	s.mu.Unlock()
	cfg, err := s.Server("h2").GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cfg.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.SerialNumber.Int64()
}

func TestRenewedCertificateIsShownAndHalfOfOneIsNot(t *testing.T) {
	files := inDir(t)
	issue(t, files, 1, time.Now().Add(time.Hour*24*90))
	var log bytes.Buffer
	s, err := Open(files, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if n := shown(t, s); n != 1 || log.Len() > 0 {
		t.Fatalf("serial %d; log %s", n, log.String())
	}
	key, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	issue(t, files, 2, time.Now().Add(time.Hour))
	whole, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files.Key, key, 0o600); err != nil { // only the certificate is new yet
		t.Fatal(err)
	}
	if n := shown(t, s); n != 1 || !strings.Contains(log.String(), "the ones before stay") {
		t.Errorf("with a key of another certificate serial %d; log %s", n, log.String())
	}
	if err := os.WriteFile(files.Key, append(whole, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := shown(t, s); n != 2 || !strings.Contains(log.String(), "about to expire") {
		t.Errorf("with both serial %d; log %s", n, log.String())
	}
}

func TestExpiredCertificateIsTold(t *testing.T) {
	files := inDir(t)
	issue(t, files, 1, time.Now().Add(-time.Minute))
	var log bytes.Buffer
	if _, err := Open(files, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "has expired") {
		t.Errorf("log %s", log.String())
	}
}

// What crypto/tls would do with RootCAs is done here, and must be no less.
func TestClientTrustsOnlyItsRootsAndTheRightName(t *testing.T) {
	server, stranger := inDir(t), inDir(t)
	issue(t, server, 1, time.Now().Add(time.Hour))
	issue(t, stranger, 2, time.Now().Add(time.Hour))
	expired := inDir(t)
	issue(t, expired, 3, time.Now().Add(-time.Minute))
	for name, c := range map[string]struct {
		shows Files
		roots string
		name  string
		says  string // empty: all is well
	}{
		"its own":         {server, server.Cert, "127.0.0.1", ""},
		"a stranger":      {stranger, server.Cert, "127.0.0.1", "unknown authority"},
		"another name":    {server, server.Cert, "bank.example", "bank.example"},
		"another address": {server, server.Cert, "192.0.2.1", "192.0.2.1"},
		"no name":         {server, server.Cert, "", "not known"},
		"expired":         {expired, expired.Cert, "127.0.0.1", "expired"},
		"the system's":    {server, "", "127.0.0.1", "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			log := slog.New(slog.DiscardHandler)
			there, err := Open(c.shows, log)
			if err != nil {
				t.Fatal(err)
			}
			here, err := Open(Files{CA: c.roots}, log)
			if err != nil {
				t.Fatal(err)
			}
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			served := make(chan error, 1)
			go func() { served <- tls.Server(a, there.Server("h2")).Handshake() }()
			err = tls.Client(b, here.Client(c.name)).Handshake()
			a.Close()
			<-served //nolint:errcheck // the client's says more
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

func TestFilesThatCannotBeReadAreNamed(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, files := range map[string]Files{
		"reading root certificates: open /nonexistent": {CA: "/nonexistent"},
		"holds no certificate in PEM":                  {CA: empty},
		"reading certificate /nonexistent":             {Cert: "/nonexistent", Key: empty},
		`cert: "a" and key: ""`:                        {Cert: "a"},
	} {
		if _, err := Open(files, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
