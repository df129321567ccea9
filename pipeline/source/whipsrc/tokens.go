package whipsrc

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/announce"
)

const (
	minToken  = 16      // bytes
	maxTokens = 1 << 20 // bytes of the file
)

// token lets its bearer publish for a tenant.
type token struct {
	digest  [sha256.Size]byte
	tenant  string
	expires time.Time // zero for never
}

// tokens are those of a file, which is read again when it changes.
type tokens struct {
	path string // empty: there are none, and only this machine comes in

	mu    sync.Mutex
	all   []token
	stamp fs.FileInfo // of what was read
}

// openTokens reads the file; an empty path is a door for this machine only.
func openTokens(path string) (*tokens, error) {
	t := &tokens{path: path}
	if path == "" {
		return t, nil
	}
	return t, t.read()
}

// read replaces what is known by what the file says. After an error nothing has
// changed.
func (t *tokens) read() error {
	stamp, err := os.Stat(t.path)
	if err != nil {
		return fmt.Errorf("reading bearer tokens: %w", err)
	}
	if stamp.Size() > maxTokens {
		return fmt.Errorf("bearer tokens in %s: %d bytes, limit %d", t.path, stamp.Size(), maxTokens)
	}
	text, err := os.ReadFile(t.path)
	if err != nil {
		return fmt.Errorf("reading bearer tokens: %w", err)
	}
	all, err := parseTokens(text)
	if err != nil {
		return fmt.Errorf("bearer tokens in %s: %w", t.path, err)
	}
	t.all, t.stamp = all, stamp
	return nil
}

// parseTokens reads a line for each token: TENANT TOKEN [EXPIRES]. Lines that
// are empty or begin with # count for nothing. Its errors name the line and never
// what is in it.
func parseTokens(text []byte) ([]token, error) {
	var all []token
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		switch {
		case len(f) < 2 || len(f) > 3:
			return nil, fmt.Errorf("line %d: must be TENANT TOKEN, and when it expires", n)
		case !announce.IsToken(f[0]):
			return nil, fmt.Errorf("line %d: the tenant must be 1 to 128 letters, digits, - or _", n)
		case len(f[1]) < minToken:
			return nil, fmt.Errorf("line %d: a token of %d bytes must have at least %d", n, len(f[1]), minToken)
		}
		k := token{digest: sha256.Sum256([]byte(f[1])), tenant: f[0]}
		if len(f) == 3 {
			var err error
			if k.expires, err = time.Parse(time.RFC3339, f[2]); err != nil {
				return nil, fmt.Errorf("line %d: %q must be a time such as 2027-01-31T00:00:00Z", n, f[2])
			}
		}
		all = append(all, k)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("there is none, and nobody could publish")
	}
	return all, nil
}

// fresh are the tokens of the moment. A file that has gone or is wrong leaves
// what was known, and is told.
func (t *tokens) fresh() (all []token, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, err := os.Stat(t.path)
	if err == nil && (!now.ModTime().Equal(t.stamp.ModTime()) || now.Size() != t.stamp.Size()) {
		if err = t.read(); err != nil {
			t.stamp = now // told once
		} else {
			return t.all, nil
		}
	} else {
		err = nil // a file that is being replaced is there again soon
	}
	return t.all, err
}

var (
	errNoToken  = errors.New("the bearer token is missing or wrong")
	errExpired  = errors.New("the bearer token has expired")
	errStranger = errors.New("without a tokens_file in the configuration only this machine may publish")
)

// tenant is whom the bearer of r's token publishes for; empty where there are no
// tokens and he may choose. wrong is a fault of the file, to be logged.
func (t *tokens) tenant(r *http.Request) (tenant string, wrong, err error) {
	if t.path == "" {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !from.Addr().Unmap().IsLoopback() {
			return "", nil, errStranger
		}
		return "", nil, nil
	}
	all, wrong := t.fresh()
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	digest := sha256.Sum256([]byte(strings.TrimSpace(shown)))
	var found *token
	for i := range all { // all of them: how long it takes tells nothing
		if subtle.ConstantTimeCompare(digest[:], all[i].digest[:]) == 1 {
			found = &all[i]
		}
	}
	switch {
	case found == nil || !strings.EqualFold(scheme, "Bearer"):
		return "", wrong, errNoToken
	case !found.expires.IsZero() && time.Now().After(found.expires):
		return "", wrong, errExpired
	}
	return found.tenant, wrong, nil
}
