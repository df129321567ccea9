package sipmeta

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Verdict is what is known of a signature.
type Verdict string

// A signature that could not be looked at is Unverified: nothing speaks for it
// and nothing against it. A Verified one says who signed, not that the caller
// means well.
const (
	Verified   Verdict = "yes"
	Failed     Verdict = "no"
	Unverified Verdict = "unverified"
)

// StoreConfig says where the certificates of those who sign calls are. They
// are files: nothing is ever fetched while a call comes in.
type StoreConfig struct {
	// Certificates is a folder of PEM files, each a signer's certificate and
	// whatever chain belongs to it. The file that is named like the last part
	// of the token's x5u URL is tried first. Empty: signatures are not looked
	// at.
	Certificates string `yaml:"certificates"`
	// Roots is a PEM file of the authorities that signers must descend from;
	// empty trusts every certificate in the folder.
	Roots string `yaml:"roots"`
	// MaxAge is how long before the call a signature may be from; 0 does not
	// look at it.
	MaxAge time.Duration `yaml:"max_age"`
}

// DefaultStoreConfig looks at no signatures.
func DefaultStoreConfig() StoreConfig {
	return StoreConfig{MaxAge: time.Minute} // RFC 8224 section 4.1
}

// Validate says which key is wrong and what it must be.
func (c StoreConfig) Validate() error {
	switch {
	case c.MaxAge < 0:
		return fmt.Errorf("max_age: %v must be at least 0s", c.MaxAge)
	case c.Roots != "" && c.Certificates == "":
		return fmt.Errorf("roots: %q needs certificates, the folder of the signers", c.Roots)
	}
	return nil
}

// Store knows the certificates of signers. It may be used from any goroutine.
type Store struct {
	cfg     StoreConfig
	signers []signer
	roots   *x509.CertPool // nil trusts the folder
}

type signer struct {
	file  string // base name
	cert  *x509.Certificate
	chain *x509.CertPool
}

const maxSigners = 1024

// OpenStore reads the certificates. Without a folder the store verifies
// nothing. An error names the file.
func OpenStore(cfg StoreConfig) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	if cfg.Certificates == "" {
		return s, nil
	}
	files, err := os.ReadDir(cfg.Certificates)
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	for _, f := range files {
		if f.IsDir() || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		if len(s.signers) >= maxSigners {
			return nil, fmt.Errorf("certificates: %s has more than %d files", cfg.Certificates, maxSigners)
		}
		one, err := readSigner(filepath.Join(cfg.Certificates, f.Name()))
		if err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
		s.signers = append(s.signers, one)
	}
	if cfg.Roots != "" {
		b, err := os.ReadFile(cfg.Roots)
		if err != nil {
			return nil, fmt.Errorf("roots: %w", err)
		}
		s.roots = x509.NewCertPool()
		if !s.roots.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("roots: %s holds no PEM certificate", cfg.Roots)
		}
	}
	return s, nil
}

func readSigner(file string) (signer, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return signer{}, err
	}
	s := signer{file: filepath.Base(file), chain: x509.NewCertPool()}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return signer{}, fmt.Errorf("%s: %w", file, err)
		}
		if s.cert == nil {
			s.cert = cert
		} else {
			s.chain.AddCert(cert)
		}
	}
	if s.cert == nil {
		return signer{}, fmt.Errorf("%s holds no PEM certificate", file)
	}
	if _, ok := s.cert.PublicKey.(*ecdsa.PublicKey); !ok {
		return signer{}, fmt.Errorf("%s: the key is no ECDSA key, which ES256 needs", file)
	}
	return s, nil
}

// Result is what [Store.Verify] found. Why is empty for a verified signature,
// and Signer is the subject of its certificate.
type Result struct {
	Verdict     Verdict
	Why, Signer string
}

// Verify looks at the signature of p, at its time against now, and at the
// certificate of its signer. Who was called by whom is for the caller to
// compare.
func (s *Store) Verify(p *PASSporT, now time.Time) Result {
	switch {
	case s == nil || len(s.signers) == 0:
		return Result{Unverified, "no certificates are configured", ""}
	case !strings.EqualFold(p.Alg, "ES256"):
		return Result{Unverified, "signed with another algorithm than ES256", ""}
	}
	by, err := s.signer(p)
	if err != nil {
		return Result{Failed, err.Error(), ""}
	}
	if by == nil {
		return Result{Unverified, "the signer's certificate is not in the store", ""}
	}
	name := Name(by.cert.Subject.CommonName)
	if s.roots != nil {
		_, err := by.cert.Verify(x509.VerifyOptions{
			Roots: s.roots, Intermediates: by.chain, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err != nil {
			return Result{Failed, "the signer's certificate is not trusted", name}
		}
	} else if now.Before(by.cert.NotBefore) || now.After(by.cert.NotAfter) {
		return Result{Failed, "the signer's certificate is out of date", name}
	}
	if age := now.Sub(p.IssuedAt); s.cfg.MaxAge > 0 && (age > s.cfg.MaxAge || age < -s.cfg.MaxAge) {
		return Result{Failed, "signed at another time", name}
	}
	return Result{Verified, "", name}
}

var errSignature = errors.New("the signature is not of the signer's certificate")

// signer is whose key made the signature, nil where nobody's in the store did.
// Where the store has the very certificate that the token names, another is
// not tried.
func (s *Store) signer(p *PASSporT) (*signer, error) {
	named := path.Base(p.CertURL)
	for i := range s.signers {
		if s.signers[i].file == named {
			if !s.signers[i].made(p) {
				return nil, errSignature
			}
			return &s.signers[i], nil
		}
	}
	for i := range s.signers {
		if s.signers[i].made(p) {
			return &s.signers[i], nil
		}
	}
	return nil, nil
}

// made reports whether the signature is by s's key (RFC 7518 section 3.4).
func (s *signer) made(p *PASSporT) bool {
	key := s.cert.PublicKey.(*ecdsa.PublicKey)
	if key.Curve != elliptic.P256() || len(p.signature) != 64 {
		return false
	}
	sum := sha256.Sum256([]byte(p.signed))
	r, v := new(big.Int).SetBytes(p.signature[:32]), new(big.Int).SetBytes(p.signature[32:])
	return ecdsa.Verify(key, sum[:], r, v)
}
