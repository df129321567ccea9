package rtpsrc

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Config says which ports take calls.
type Config struct {
	Tenant string `yaml:"tenant"` // of calls that say none
	// Calls is how many announced calls there may be at once.
	Calls int          `yaml:"calls"`
	Media media.Config `yaml:"media"` // the ports of announced calls, and the timeouts of all
	// TokenFile holds the bearer token of the HTTP API. Without it only this
	// machine may announce.
	TokenFile string `yaml:"token_file"`
	// Static ports are open all the time: a call begins when media comes and
	// ends when none comes any more, again and again.
	Static []Static `yaml:"static"`
}

// Static is one call at a time, on ports that do not change.
type Static struct {
	Name      string      `yaml:"name"` // call ids begin with it
	Tenant    string      `yaml:"tenant"`
	Direction string      `yaml:"direction"` // inbound or outbound; may be empty
	Trunk     string      `yaml:"trunk"`
	Legs      []StaticLeg `yaml:"legs"`
}

// StaticLeg is one stream of a static call.
type StaticLeg struct {
	Leg  string `yaml:"leg"`  // caller, callee or unknown
	Port int    `yaml:"port"` // RTCP comes to the one after it
	// Formats are payload types as in a=rtpmap, such as "96 opus/48000/2".
	// Those of RFC 3551 that can be heard, and 101 telephone-event, need none.
	Formats []string `yaml:"formats"`
	// Remote is the only address that is heard, with or without a port. Empty:
	// who is heard first.
	Remote string `yaml:"remote"`
}

// DefaultConfig has no static ports and takes 1,000 announced calls.
func DefaultConfig() Config {
	return Config{Tenant: "default", Calls: 1000, Media: media.DefaultConfig()}
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !announce.IsToken(c.Tenant) {
		fault("tenant: %q must be 1 to 128 letters, digits, - or _", c.Tenant)
	}
	if c.Calls < 0 {
		fault("calls: %d must be 0 or above", c.Calls)
	}
	for _, err := range apart(c.Media.Validate()) {
		fault("media.%w", err)
	}
	ports := make(map[int]string) // taken, and by what
	names := make(map[string]bool)
	for i, s := range c.Static {
		key := fmt.Sprintf("static[%d]", i)
		if !announce.IsToken(s.Name) || len(s.Name) > maxName {
			fault("%s.name: %q must be 1 to %d letters, digits, - or _", key, s.Name, maxName)
		} else if names[s.Name] {
			fault("%s.name: %q must not be that of another", key, s.Name)
		}
		names[s.Name] = true
		if s.Tenant != "" && !announce.IsToken(s.Tenant) {
			fault("%s.tenant: %q must be 1 to 128 letters, digits, - or _", key, s.Tenant)
		}
		if s.Direction != "" && s.Direction != "inbound" && s.Direction != "outbound" {
			fault("%s.direction: %q must be inbound or outbound", key, s.Direction)
		}
		if len(s.Legs) < 1 || len(s.Legs) > 2 {
			fault("%s.legs: %d must be 1 or 2", key, len(s.Legs))
		}
		var sides []audio.Leg
		for j, l := range s.Legs {
			key := fmt.Sprintf("%s.legs[%d]", key, j)
			leg, err := audio.ParseLeg(l.Leg)
			if err != nil {
				fault("%s.leg: %w", key, err)
			} else if slices.Contains(sides, leg) {
				fault("%s.leg: %s must not be that of another leg", key, leg)
			}
			sides = append(sides, leg)
			if l.Port < 1 || l.Port > 65534 {
				fault("%s.port: %d must be from 1 to 65534", key, l.Port)
			}
			for p := l.Port; p <= l.Port+1; p++ {
				if other, ok := ports[p]; ok {
					fault("%s.port: %d, with RTCP on the port after it, must not be those of %s", key, l.Port, other)
					break
				}
			}
			ports[l.Port], ports[l.Port+1] = key, key
			if _, err := formats(l.Formats); err != nil {
				fault("%s.formats: %w", key, err)
			}
			if _, err := remote(l.Remote); err != nil {
				fault("%s.remote: %w", key, err)
			}
		}
	}
	return errors.Join(errs...)
}

// maxName leaves room for the rest of a call id.
const maxName = 64

// apart takes joined errors apart.
func apart(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

const (
	maxFormats = 32
	digitsType = 101 // what nearly everybody uses for RFC 4733 events
)

// formats are the payload types that may come: those that need no description,
// and lines such as "96 opus/48000/2", which count more. A line's error names
// what is wrong with it.
func formats(lines []string) ([]media.Format, error) {
	if len(lines) > maxFormats {
		return nil, fmt.Errorf("%d must be at most %d", len(lines), maxFormats)
	}
	all := media.StaticFormats()
	all = append(all, media.Format{PayloadType: digitsType, Encoding: "telephone-event", ClockHz: 8000, Channels: 1})
	seen := make(map[uint8]bool)
	for _, line := range lines {
		number, rtpmap, ok := strings.Cut(strings.TrimSpace(line), " ")
		payloadType, err := strconv.Atoi(number)
		if !ok || err != nil {
			return nil, fmt.Errorf("%.80q must be a payload type and its format, such as \"96 opus/48000/2\"", line)
		}
		f, err := media.ParseFormat(payloadType, rtpmap)
		if err != nil {
			return nil, err
		}
		if err := f.Check(); err != nil {
			return nil, err
		}
		if seen[f.PayloadType] {
			return nil, fmt.Errorf("payload type %d must not be there twice", f.PayloadType)
		}
		seen[f.PayloadType] = true
		all = slices.DeleteFunc(all, func(old media.Format) bool { return old.PayloadType == f.PayloadType })
		all = append(all, f)
	}
	return all, nil
}

// remote reads an address with or without a port; empty is the zero value.
func remote(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Addr().Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%.80q must be an address, such as 192.0.2.1 or 192.0.2.1:4000", s)
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}
