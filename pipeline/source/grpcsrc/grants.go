package grpcsrc

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/callwarden/callwarden/pipeline/source/announce"
)

// Rights that a token may have, by the method.
const (
	mayStream  = "stream"
	mayWatch   = "watch"
	mayVerdict = "verdict"
)

// grant is what a token allows.
type grant struct {
	Name    string    `yaml:"name"`    // who it was given to: in logs and in verdicts
	Token   string    `yaml:"token"`   // at least 16 characters
	Tenants []string  `yaml:"tenants"` // whose calls; "*" alone for all
	May     []string  `yaml:"may"`     // stream, watch, verdict; empty: all of them
	Expires time.Time `yaml:"expires"` // zero: never
}

// everything is the grant of those who need no token.
var everything = grant{Tenants: []string{"*"}}

func (g *grant) all() bool { return len(g.Tenants) == 1 && g.Tenants[0] == "*" }

func (g *grant) tenant(name string) bool { return g.all() || slices.Contains(g.Tenants, name) }

func (g *grant) right(name string) bool { return len(g.May) == 0 || slices.Contains(g.May, name) }

func (g *grant) validate() error {
	switch {
	case !announce.IsToken(g.Name):
		return fmt.Errorf("name: %.140q must be 1 to 128 letters, digits, - or _", g.Name)
	case len(g.Token) < minToken || strings.ContainsFunc(g.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("token: the one of %s must be at least %d letters, digits and signs without spaces", g.Name, minToken)
	case len(g.Tenants) == 0:
		return fmt.Errorf(`tenants: %s has none; give their names, or "*" alone for all`, g.Name)
	}
	for _, t := range g.Tenants {
		if !announce.IsToken(t) && !g.all() {
			return fmt.Errorf(`tenants: %.140q of %s must be 1 to 128 letters, digits, - or _, or "*" alone`, t, g.Name)
		}
	}
	for _, m := range g.May {
		if m != mayStream && m != mayWatch && m != mayVerdict {
			return fmt.Errorf("may: %.140q of %s must be %s, %s or %s", m, g.Name, mayStream, mayWatch, mayVerdict)
		}
	}
	return nil
}

const (
	minToken   = 16
	maxFile    = 1 << 20 // bytes of a file of tokens: some ten thousand
	lookEvery  = time.Second
	grantsMost = 10_000
)

// parseGrants reads a file of tokens. What it returns is by the SHA-256 of the
// token, which is what is compared: so long as tokens are not guessed, how long
// a look-up takes tells nothing of them.
func parseGrants(data []byte) (map[[sha256.Size]byte]*grant, error) {
	var list []grant
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		// The message of the parser may quote a token.
		return nil, errors.New("it must be a YAML list of entries with name, token, tenants, may and expires")
	}
	if len(list) == 0 || len(list) > grantsMost {
		return nil, fmt.Errorf("it has %d tokens, it must have from 1 to %d", len(list), grantsMost)
	}
	all := make(map[[sha256.Size]byte]*grant, len(list))
	for i := range list {
		g := &list[i]
		if err := g.validate(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		digest := sha256.Sum256([]byte(g.Token))
		if other := all[digest]; other != nil {
			return nil, fmt.Errorf("entry %d: token: %s and %s have the same", i+1, other.Name, g.Name)
		}
		g.Token = ""
		all[digest] = g
	}
	return all, nil
}

// grants is the file of tokens, read again when it changes.
type grants struct {
	file string
	log  *slog.Logger

	mu     sync.Mutex
	looked time.Time
	size   int64
	mod    time.Time
	all    map[[sha256.Size]byte]*grant
}

func openGrants(file string, log *slog.Logger) (*grants, error) {
	g := &grants{file: file, log: log, looked: time.Now()}
	g.size, g.mod = g.stamp()
	var err error
	if g.all, err = g.read(); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *grants) stamp() (size int64, mod time.Time) {
	info, err := os.Stat(g.file)
	if err != nil {
		return -1, time.Time{}
	}
	return info.Size(), info.ModTime()
}

func (g *grants) read() (map[[sha256.Size]byte]*grant, error) {
	f, err := os.Open(g.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: %d bytes are the most", g.file, maxFile)
	}
	all, err := parseGrants(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.file, err)
	}
	return all, nil
}

// find is what the token allows; nil where it is unknown or has expired. A
// file that cannot be read leaves what was read before, and is told of once.
func (g *grants) find(token string) *grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if now.Sub(g.looked) >= lookEvery {
		g.looked = now
		if size, mod := g.stamp(); size != g.size || !mod.Equal(g.mod) {
			g.size, g.mod = size, mod
			if all, err := g.read(); err != nil {
				g.log.Error("the tokens have changed and cannot be read: the ones before stay", "source", Name, "err", err)
			} else {
				g.all = all
				g.log.Info("tokens read again", "source", Name, "tokens", len(all))
			}
		}
	}
	found := g.all[sha256.Sum256([]byte(token))]
	if found == nil || !found.Expires.IsZero() && now.After(found.Expires) {
		return nil
	}
	return found
}
