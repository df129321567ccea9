package desk

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

// Config is what the desk needs beside a NATS server.
type Config struct {
	// TokensFile lets people in who have a token: a line for each,
	// "TOKEN USER ROLE TENANT[,TENANT…]", see readTokens. It is read again when
	// it changes. Without it, and without proxy networks, the desk is open to
	// this machine and closed to all others.
	TokensFile string `yaml:"tokens_file"`
	// Session is how long somebody who has signed in stays so.
	Session time.Duration `yaml:"session"`
	Proxy   ProxyConfig   `yaml:"proxy"`

	// Since is how far back the stream is read at the start: what was going on
	// then is known again.
	Since time.Duration `yaml:"since"`
	// Keep, Quiet, Segments and Calls are those of board.Config.
	Keep     time.Duration `yaml:"keep"`
	Quiet    time.Duration `yaml:"quiet"`
	Segments int           `yaml:"segments"`
	Calls    int           `yaml:"calls"`

	// Dir keeps the history of calls and the audit log; empty for neither.
	Dir string `yaml:"dir"`
	// NumberKeyFile is that of the calls, so that they are found by numbers that
	// are masked in events; empty for number.key in Dir, which is made where
	// there is none.
	NumberKeyFile string `yaml:"number_key_file"`
	// Days is how long a call is kept in the history.
	Days int `yaml:"days"`
}

// ProxyConfig is a reverse proxy that has people sign in and says who they are
// in headers. It must take these headers out of what comes from outside.
type ProxyConfig struct {
	// Networks are where the proxy's requests come from; empty for no proxy.
	Networks []string `yaml:"networks"`
	User     string   `yaml:"user"`    // header with the name of the user
	Role     string   `yaml:"role"`    // header with viewer, analyst or admin
	Tenants  string   `yaml:"tenants"` // header with tenants, comma separated; * is all
	// DefaultRole and DefaultTenants count where the proxy does not send the
	// header; empty lets nobody in without.
	DefaultRole    string `yaml:"default_role"`
	DefaultTenants string `yaml:"default_tenants"`
}

// DefaultConfig is a desk for the people on this machine.
func DefaultConfig() Config {
	b := board.DefaultConfig()
	return Config{
		Session: 12 * time.Hour,
		Proxy:   ProxyConfig{Networks: []string{}, User: "X-Remote-User", Role: "X-Remote-Role", Tenants: "X-Remote-Tenants"},
		Since:   6 * time.Hour,
		Keep:    b.Keep, Quiet: b.Quiet, Segments: b.Segments, Calls: b.Calls,
		Dir:  "callwarden-desk",
		Days: 30,
	}
}

func (c Config) board() board.Config {
	return board.Config{Keep: c.Keep, Quiet: c.Quiet, Segments: c.Segments, Calls: c.Calls}
}

// Validate says what is wrong with c, each fault as "key: value rule". It opens
// no file.
func (c Config) Validate() error {
	errs := []error{c.board().Validate(), c.Proxy.validate()}
	if c.Session < time.Minute {
		errs = append(errs, fmt.Errorf("session: %v must be at least 1m", c.Session))
	}
	if c.Since < 0 {
		errs = append(errs, fmt.Errorf("since: %v must be at least 0s", c.Since))
	}
	if c.Days < 1 {
		errs = append(errs, fmt.Errorf("days: %d must be at least 1", c.Days))
	}
	return errors.Join(errs...)
}

func (c ProxyConfig) validate() error {
	var errs []error
	for _, n := range c.Networks {
		if _, err := parseNetwork(n); err != nil {
			errs = append(errs, fmt.Errorf("proxy.networks: %q must be a network such as 192.0.2.0/24, or an address", n))
		}
	}
	if len(c.Networks) > 0 && c.User == "" {
		errs = append(errs, errors.New("proxy.user: must name the header with the user"))
	}
	if c.DefaultRole != "" && parseRole(c.DefaultRole) == nobody {
		errs = append(errs, fmt.Errorf("proxy.default_role: %q must be viewer, analyst, admin or empty", c.DefaultRole))
	}
	return errors.Join(errs...)
}

func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

const numberKeyFile = "number.key"

// NumberKey is the file of the key that stands behind the ids of numbers, and
// whether it is to be made where there is none; empty for no key.
func (c Config) NumberKey() (file string, own bool) {
	if c.NumberKeyFile != "" || c.Dir == "" {
		return c.NumberKeyFile, false
	}
	return filepath.Join(c.Dir, numberKeyFile), true
}
