package media

import (
	"fmt"
	"net/netip"
	"time"
)

// Config is how live audio is received. Sources may share one.
type Config struct {
	Bind string `yaml:"bind"` // the address that RTP is received on
	// Advertise is the address that peers are told to send to; empty for Bind.
	Advertise string     `yaml:"advertise"`
	Ports     PortsRange `yaml:"ports"`
	// Timeout ends a call of which nothing came for so long, unless it is held.
	Timeout time.Duration `yaml:"timeout"`
	// Window is how long a missing packet is waited for.
	Window time.Duration `yaml:"window"`
	// Poll is how often what came is read. The kernel keeps it until then, with
	// the time at which it came. Shorter costs more, longer answers later.
	Poll time.Duration `yaml:"poll"`
	// Reports is how often a peer that wants receiver reports gets one.
	Reports time.Duration `yaml:"reports"`
}

// PortsRange is the UDP ports for media. RTP takes even ones, RTCP the odd ones
// after them.
type PortsRange struct {
	Min int `yaml:"min"`
	Max int `yaml:"max"`
}

// DefaultConfig holds some 2,500 calls of two legs.
func DefaultConfig() Config {
	return Config{
		Bind:    "0.0.0.0",
		Ports:   PortsRange{Min: 20000, Max: 29999},
		Timeout: time.Minute,
		Window:  200 * time.Millisecond,
		Poll:    60 * time.Millisecond,
		Reports: 5 * time.Second, // RFC 3550 section 6.2
	}
}

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	if a, err := netip.ParseAddr(c.Bind); err != nil || a.Zone() != "" {
		return fmt.Errorf("bind: %q must be an IP address", c.Bind)
	}
	if c.Advertise != "" {
		if a, err := netip.ParseAddr(c.Advertise); err != nil || a.IsUnspecified() {
			return fmt.Errorf("advertise: %q must be an IP address that peers can reach", c.Advertise)
		}
	}
	if err := c.Ports.validate(); err != nil {
		return err
	}
	for _, d := range []struct {
		key            string
		value, low, hi time.Duration
	}{
		{"timeout", c.Timeout, time.Second, 24 * time.Hour},
		{"window", c.Window, 0, time.Second},
		{"poll", c.Poll, 5 * time.Millisecond, 500 * time.Millisecond},
		{"reports", c.Reports, time.Second, time.Minute},
	} {
		if d.value < d.low || d.value > d.hi {
			return fmt.Errorf("%s: %v must be from %v to %v", d.key, d.value, d.low, d.hi)
		}
	}
	return nil
}

func (r PortsRange) validate() error {
	switch {
	case r.Min < 1024 || r.Min > 65534:
		return fmt.Errorf("ports.min: %d must be from 1024 to 65534", r.Min)
	case r.Max > 65535:
		return fmt.Errorf("ports.max: %d must be at most 65535", r.Max)
	case r.pairs() < 1:
		return fmt.Errorf("ports.max: %d must leave an even port and the one after it from ports.min %d", r.Max, r.Min)
	}
	return nil
}

// first is the first even port, pairs how many pairs there are.
func (r PortsRange) first() int { return r.Min + r.Min%2 }
func (r PortsRange) pairs() int { return max(0, (r.Max-r.first()+1)/2) }
