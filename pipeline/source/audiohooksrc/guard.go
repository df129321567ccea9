package audiohooksrc

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Headers of the request that opens a connection.
const (
	headerKey          = "X-Api-Key"
	headerOrganization = "Audiohook-Organization-Id"
	headerSession      = "Audiohook-Session-Id"
	headerCorrelation  = "Audiohook-Correlation-Id"
)

// guard lets in who shows an API key of ours and, where the key has a secret,
// has signed the request with it.
type guard struct {
	keys []key
	now  func() time.Time

	mu    sync.Mutex
	spent map[[sha256.Size]byte]time.Time // nonces, until when they are remembered
}

var (
	errKey          = errors.New("the API key is missing or wrong")
	errKeyID        = errors.New("the signature is by another key than X-API-KEY")
	errOrganization = errors.New("the API key is not for this organization")
	errSpent        = errors.New("the signature was used before")
	errCrowded      = errors.New("too many signed requests at once")
)

func newGuard(keys []key) *guard {
	return &guard{keys: keys, now: time.Now, spent: make(map[[sha256.Size]byte]time.Time)}
}

// check is a [websock.Guard].
func (g *guard) check(r *http.Request, asked *url.URL) (tenant string, proven bool, err error) {
	shown := r.Header.Get(headerKey)
	if shown == "" {
		return "", false, nil // a token may do
	}
	k := g.find(shown)
	if k == nil {
		return "", false, errKey
	}
	if k.Organization != "" && k.Organization != r.Header.Get(headerOrganization) {
		return "", false, errOrganization
	}
	if k.secret != nil {
		if err := g.signed(r, asked, k); err != nil {
			return "", false, err
		}
	}
	return k.Tenant, true, nil
}

// find looks at all keys, however early one fits.
func (g *guard) find(shown string) (found *key) {
	digest := sha256.Sum256([]byte(shown))
	for i := range g.keys {
		own := sha256.Sum256([]byte(g.keys[i].name))
		if subtle.ConstantTimeCompare(digest[:], own[:]) == 1 {
			found = &g.keys[i]
		}
	}
	return found
}

func (g *guard) signed(r *http.Request, asked *url.URL, k *key) error {
	s, err := parseSignature(r.Header)
	if err != nil {
		return err
	}
	if s.keyID != k.name {
		return errKeyID
	}
	now := g.now()
	if err := s.current(now); err != nil {
		return err
	}
	if err := s.verify(r, k.secret, asked); err != nil {
		return err
	}
	return g.spend(k.name, s.nonce, now)
}

const maxNonces = 20_000 // those of 1,500 connections a second

// spend takes a nonce that nobody may use again while its signature is good.
func (g *guard) spend(key, nonce string, now time.Time) error {
	id := sha256.Sum256([]byte(key + " " + nonce))
	g.mu.Lock()
	defer g.mu.Unlock()
	if until, ok := g.spent[id]; ok && now.Before(until) {
		return errSpent
	}
	if len(g.spent) >= maxNonces {
		for id, until := range g.spent {
			if !now.Before(until) {
				delete(g.spent, id)
			}
		}
		if len(g.spent) >= maxNonces {
			return errCrowded
		}
	}
	g.spent[id] = now.Add(maxAge + 2*maxSkew)
	return nil
}
