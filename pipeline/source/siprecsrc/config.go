package siprecsrc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/pipeline/source/sipmeta"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Config is how SIP calls are taken.
type Config struct {
	// Listen are the addresses, such as udp://0.0.0.0:5060, tcp://… and tls://….
	Listen []string `yaml:"listen"`
	// Allow are the networks, in CIDR form, that may call. Empty allows all.
	Allow []string `yaml:"allow"`
	// Contact is the address, or address:port, that peers are told to send
	// later requests to; empty for the one that they reached.
	Contact string       `yaml:"contact"`
	TLS     TLS          `yaml:"tls"`
	Media   media.Config `yaml:"media"`
	// MediaFrom is "offer" where media must come from the address that the
	// session description names, or "any" where the first packet decides, as
	// for peers behind address translation.
	MediaFrom string `yaml:"media_from"`

	// Calls is how many there may be at once; more get the Busy answer.
	Calls int `yaml:"calls"`
	// Busy is 503, after which a client may try another recorder, or 486.
	Busy int `yaml:"busy"`
	// RetryAfter is told with 503.
	RetryAfter time.Duration `yaml:"retry_after"`
	// InvitesPerSecond is answered with 503 above it, RequestsPerSecond not at
	// all: what floods us is not remembered.
	InvitesPerSecond  int `yaml:"invites_per_second"`
	RequestsPerSecond int `yaml:"requests_per_second"`
	// Connections is how many of TCP and TLS there may be; more are closed.
	Connections int `yaml:"connections"`
	// BodyBytes is the longest body; longer ones are answered 413.
	BodyBytes int `yaml:"body_bytes"`
	// SessionMin is the shortest session timer (RFC 4028) that is agreed to.
	SessionMin time.Duration `yaml:"session_min"`
	// CallMost ends a call that nobody ends.
	CallMost time.Duration `yaml:"call_most"`

	// Plain says whose voice a call of one line without recording metadata is:
	// unknown, caller or callee; "refuse" takes no such calls.
	Plain string `yaml:"plain"`
	// CalleeFirst says that metadata which does not say who called names the
	// called party first.
	CalleeFirst bool `yaml:"callee_first"`

	Tenant string `yaml:"tenant"` // of calls that no trunk gives another
	// Trunks name where calls come from; the first that fits counts.
	Trunks []Trunk `yaml:"trunks"`
	// Headers are call attributes that headers of the INVITE say, by attribute:
	// consent: X-Consent.
	Headers map[string]string `yaml:"headers"`
	// Identity is how signatures of callers are verified.
	Identity sipmeta.StoreConfig `yaml:"identity"`
}

// TLS is our certificate, for tls:// addresses.
type TLS struct {
	Certificate string `yaml:"certificate"` // PEM file, with its chain
	Key         string `yaml:"key"`         // PEM file
	// ClientCA is a PEM file: where given, only clients with a certificate of
	// these authorities are let in.
	ClientCA string `yaml:"client_ca"`
}

// Trunk fits a call when all of its conditions do; one that is empty fits all.
type Trunk struct {
	Name   string   `yaml:"name"`   // the call's trunk attribute
	Tenant string   `yaml:"tenant"` // empty for that of the source
	Peers  []string `yaml:"peers"`  // networks, in CIDR form
	User   string   `yaml:"user"`   // of the request URI
	Header string   `yaml:"header"` // such as "X-Trunk: east"
}

// DefaultConfig listens on this machine only.
func DefaultConfig() Config {
	return Config{
		Listen:            []string{"udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"},
		Media:             media.DefaultConfig(),
		MediaFrom:         "offer",
		Calls:             1000,
		Busy:              503,
		RetryAfter:        10 * time.Second,
		InvitesPerSecond:  200,
		RequestsPerSecond: 1000,
		Connections:       256,
		BodyBytes:         256 << 10,
		SessionMin:        90 * time.Second, // RFC 4028 section 5
		CallMost:          12 * time.Hour,
		Plain:             audio.Unknown.String(),
		Tenant:            "default",
		Identity:          sipmeta.DefaultStoreConfig(),
	}
}

var (
	tenantName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	attributeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	headerName    = regexp.MustCompile(`^[A-Za-z0-9_.!%*+'~-]{1,64}$`)
)

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Listen) == 0 {
		fault("listen: must name an address, such as udp://0.0.0.0:5060")
	}
	for i, l := range c.Listen {
		network, _, err := address(l)
		if err != nil {
			fault("listen[%d]: %q %w", i, l, err)
		}
		if network == "tls" && (c.TLS.Certificate == "" || c.TLS.Key == "") {
			fault("tls.certificate: must be given, and tls.key, for listen[%d] %q", i, l)
		}
	}
	if _, err := prefixes(c.Allow); err != nil {
		fault("allow%w", err)
	}
	if c.Contact != "" {
		if _, err := contact(c.Contact); err != nil {
			fault("contact: %q must be an address or address:port that peers can reach", c.Contact)
		}
	}
	if err := c.Media.Validate(); err != nil {
		fault("media.%w", err)
	}
	if c.MediaFrom != "offer" && c.MediaFrom != "any" {
		fault("media_from: %q must be offer or any", c.MediaFrom)
	}
	if c.Busy != 503 && c.Busy != 486 {
		fault("busy: %d must be 503 or 486", c.Busy)
	}
	for _, n := range []struct {
		key            string
		value, low, hi int
	}{
		{"calls", c.Calls, 1, 100_000},
		{"invites_per_second", c.InvitesPerSecond, 1, 100_000},
		{"requests_per_second", c.RequestsPerSecond, 1, 1_000_000},
		{"connections", c.Connections, 1, 65_536},
		{"body_bytes", c.BodyBytes, 4096, 4 << 20},
	} {
		if n.value < n.low || n.value > n.hi {
			fault("%s: %d must be from %d to %d", n.key, n.value, n.low, n.hi)
		}
	}
	for _, d := range []struct {
		key            string
		value, low, hi time.Duration
	}{
		{"retry_after", c.RetryAfter, time.Second, time.Hour},
		{"session_min", c.SessionMin, 90 * time.Second, 24 * time.Hour},
		{"call_most", c.CallMost, time.Minute, 7 * 24 * time.Hour},
	} {
		if d.value < d.low || d.value > d.hi {
			fault("%s: %v must be from %v to %v", d.key, d.value, d.low, d.hi)
		}
	}
	if _, err := audio.ParseLeg(c.Plain); err != nil && c.Plain != "refuse" || c.Plain == "" {
		fault("plain: %q must be unknown, caller, callee or refuse", c.Plain)
	}
	if !tenantName.MatchString(c.Tenant) {
		fault("tenant: %q must be 1 to 128 letters, digits, - or _", c.Tenant)
	}
	for i, t := range c.Trunks {
		t.validate(func(format string, args ...any) { fault("trunks[%d]."+format, append([]any{i}, args...)...) })
	}
	for attribute, header := range c.Headers {
		if !attributeName.MatchString(attribute) {
			fault("headers: %q must be an attribute of a-z, 0-9 and _", attribute)
		}
		if !headerName.MatchString(header) {
			fault("headers.%s: %q must be the name of a header", attribute, header)
		}
	}
	if err := c.Identity.Validate(); err != nil {
		fault("identity.%w", err)
	}
	return errors.Join(errs...)
}

func (t Trunk) validate(fault func(string, ...any)) {
	if t.Name == "" && t.Tenant == "" {
		fault("name: must not be empty where there is no tenant: the trunk would say nothing")
	}
	if t.Tenant != "" && !tenantName.MatchString(t.Tenant) {
		fault("tenant: %q must be 1 to 128 letters, digits, - or _", t.Tenant)
	}
	if _, err := prefixes(t.Peers); err != nil {
		fault("peers%w", err)
	}
	if t.Header != "" {
		if name, _, ok := strings.Cut(t.Header, ":"); !ok || !headerName.MatchString(name) {
			fault("header: %q must be NAME: VALUE, such as \"X-Trunk: east\"", t.Header)
		}
	}
}

// address reads udp://HOST:PORT.
func address(s string) (network, hostPort string, err error) {
	u, err := url.Parse(s)
	if err == nil && u.Host != "" && u.Path == "" {
		_, _, err = net.SplitHostPort(u.Host)
	}
	switch {
	case err != nil || u.Host == "" || u.Path != "":
		return "", "", errors.New("must be NETWORK://ADDRESS:PORT")
	case u.Scheme != "udp" && u.Scheme != "tcp" && u.Scheme != "tls":
		return "", "", errors.New("must begin with udp://, tcp:// or tls://")
	}
	return u.Scheme, u.Host, nil
}

func prefixes(list []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %q must be a network, such as 192.0.2.0/24", i, s)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// contact reads ADDRESS or ADDRESS:PORT; port 0 for none.
func contact(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil && !a.IsUnspecified() {
		return netip.AddrPortFrom(a, 0), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err == nil && ap.Addr().IsUnspecified() {
		err = errors.New("unspecified")
	}
	return ap, err
}

// fits reports whether a list of networks holds a; an empty one holds all.
func fits(list []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return len(list) == 0
}
