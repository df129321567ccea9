// Package remote hears with the recognisers of other processes and other
// machines, over callwarden.v1.TranscribeService.
//
// A leg has one stream to one of them. When that breaks, another is opened,
// where there is one, and hears again what was not settled: the leg is deaf
// until it has caught up, and then nothing of it is lost and nothing said
// twice.
package remote

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/callwarden/callwarden/transcribe/certs"
)

// Config says where recognisers are and how patient to be with them.
type Config struct {
	// Addresses are host:port or unix:PATH. All must have models of the same
	// language and rate, and take phrase lists or not.
	Addresses []string `yaml:"addresses"`
	// Secure asks for TLS. It is implied by any of TLS.
	Secure bool        `yaml:"secure"`
	TLS    certs.Files `yaml:"tls"`
	// ServerName is what their certificates are for; empty means the address.
	ServerName string `yaml:"server_name"`
	TokenFile  string `yaml:"token_file"` // holds what is sent as "authorization: Bearer"

	// Connect is how long New waits for the first of them.
	Connect time.Duration `yaml:"connect"`
	// Answer is how long one step may take to be heard, before the stream
	// counts as broken.
	Answer time.Duration `yaml:"answer"`
	// Patience is how long a recording waits for a recogniser that is away,
	// and the last words of a live call.
	Patience time.Duration `yaml:"patience"`
	// Ring is how much audio of a leg is kept to be heard again: the longest
	// utterance, or time away, of which nothing is lost.
	Ring time.Duration `yaml:"ring"`
	// Gather is the audio that is sent at a time. Recognisers look at no less.
	Gather time.Duration `yaml:"gather"`

	Name string `yaml:"-"` // of the backend; "remote" where it is empty
}

// DefaultConfig is Config with everything but the addresses.
func DefaultConfig() Config {
	return Config{
		Connect:  10 * time.Second,
		Answer:   10 * time.Second,
		Patience: 30 * time.Second,
		Ring:     30 * time.Second,
		Gather:   100 * time.Millisecond,
	}
}

// Validate says which key is wrong, what it holds and what it must hold.
func (c Config) Validate() error {
	if len(c.Addresses) == 0 {
		return errors.New("addresses: none is given; it must be a list of host:port or unix:PATH")
	}
	for i, a := range c.Addresses {
		if err := validAddress(a); err != nil {
			return fmt.Errorf("addresses[%d]: %w", i, err)
		}
		if c.TokenFile != "" && !c.secure() && !local(a) {
			return fmt.Errorf("token_file: %s must not get a token without TLS: set secure", a)
		}
	}
	if err := c.TLS.Validate(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	for _, d := range []struct {
		key         string
		value       time.Duration
		least, most time.Duration
	}{
		{"connect", c.Connect, 0, 10 * time.Minute},
		{"answer", c.Answer, 100 * time.Millisecond, 10 * time.Minute},
		{"patience", c.Patience, 0, time.Hour},
		{"ring", c.Ring, time.Second, 10 * time.Minute},
		{"gather", c.Gather, 10 * time.Millisecond, time.Second},
	} {
		if d.value < d.least || d.value > d.most {
			return fmt.Errorf("%s: %v must be from %v to %v", d.key, d.value, d.least, d.most)
		}
	}
	return nil
}

func (c Config) secure() bool { return c.Secure || !c.TLS.None() }

func (c Config) token() (string, error) {
	if c.TokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	token := string(bytes.TrimSpace(data))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("token_file: %s must hold one word of printable ASCII", c.TokenFile)
	}
	return token, nil
}

func validAddress(a string) error {
	if path, ok := strings.CutPrefix(a, "unix:"); ok {
		if path == "" {
			return fmt.Errorf("%q must name a path after \"unix:\"", a)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("%q must be host:port or unix:PATH", a)
	}
	return nil
}

// local reports whether what is sent to the address stays on this machine.
func local(a string) bool {
	if strings.HasPrefix(a, "unix:") {
		return true
	}
	host, _, _ := net.SplitHostPort(a) // it was valid
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// target is what gRPC calls the address. Nothing is resolved to several
// addresses behind our back: choosing between them is ours.
func target(a string) string {
	if strings.HasPrefix(a, "unix:") {
		return a
	}
	return "passthrough:///" + a
}
