package audiohooksrc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Config says who may connect and how their calls are understood.
type Config struct {
	WebSocket websock.Config `yaml:",inline"`
	// Keys are the API keys that clients show. Without keys or tokens only this
	// machine may connect.
	Keys []Key `yaml:"keys"`
	// External is which party the channel named external is, where the call
	// does not say: caller where customers call the contact centre.
	External string `yaml:"external"`
	// Languages are told to clients that ask which are understood.
	Languages []string `yaml:"languages"`
	// ReconnectWait is how long a call whose connection was lost waits for the
	// client to take it up again.
	ReconnectWait time.Duration `yaml:"reconnect_wait"`
}

// Key is an API key and what whoever shows it may do.
type Key struct {
	File string `yaml:"file"` // holds the API key
	// SecretFile holds the client secret in base64. With it requests must be
	// signed; without it the key alone is enough.
	SecretFile   string `yaml:"secret_file"`
	Tenant       string `yaml:"tenant"`       // of the calls; empty for that of the section
	Organization string `yaml:"organization"` // only that of this id; empty for any
}

// DefaultConfig takes connections from this machine only.
func DefaultConfig() Config {
	c := Config{WebSocket: websock.DefaultConfig(), External: audio.Caller.String(), ReconnectWait: 5 * time.Second}
	return c
}

const maxReconnectWait = time.Minute

var languages = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$`)

// isLanguage reports whether s looks like a tag of BCP 47.
func isLanguage(s string) bool { return len(s) <= 35 && languages.MatchString(s) }

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	errs := []error{c.WebSocket.Validate()}
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, k := range c.Keys {
		if k.File == "" {
			fault("keys[%d].file: must name the file that holds the API key", i)
		}
		if k.Tenant != "" && !announce.IsToken(k.Tenant) {
			fault("keys[%d].tenant: %q must be 1 to 128 letters, digits, - or _", i, k.Tenant)
		}
		if k.Organization != "" && !isUUID(k.Organization) {
			fault("keys[%d].organization: %q must be a UUID", i, k.Organization)
		}
	}
	if c.External != audio.Caller.String() && c.External != audio.Callee.String() {
		fault("external: %q must be caller or callee", c.External)
	}
	for i, l := range c.Languages {
		if !isLanguage(l) {
			fault("languages[%d]: %q must be a language such as en-US", i, l)
		}
	}
	if c.ReconnectWait < 0 || c.ReconnectWait > maxReconnectWait {
		fault("reconnect_wait: %v must be 0s to %v", c.ReconnectWait, maxReconnectWait)
	}
	return errors.Join(errs...)
}

// key is a Key with what its files hold.
type key struct {
	Key
	name   string
	secret []byte // nil: requests need not be signed
}

const minSecret = 16 // bytes

func (c Config) keys() ([]key, error) {
	var all []key
	for i, k := range c.Keys {
		name, err := websock.Secret(k.File)
		if err != nil {
			return nil, fmt.Errorf("keys[%d].file: %w", i, err)
		}
		own := key{Key: k, name: string(name)}
		if k.SecretFile != "" {
			text, err := websock.Secret(k.SecretFile)
			if err != nil {
				return nil, fmt.Errorf("keys[%d].secret_file: %w", i, err)
			}
			if own.secret, err = base64.StdEncoding.DecodeString(string(text)); err != nil || len(own.secret) < minSecret {
				return nil, fmt.Errorf("keys[%d].secret_file: %s must hold at least %d bytes in base64", i, k.SecretFile, minSecret)
			}
		}
		all = append(all, own)
	}
	return all, nil
}
