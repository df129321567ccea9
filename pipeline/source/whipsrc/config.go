package whipsrc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/announce"
)

// Config says where browsers reach the server and who may.
type Config struct {
	// Listen is an HTTP address of its own, for those who want WHIP apart from
	// the address at which Handler is mounted; empty for none.
	Listen string    `yaml:"listen"`
	TLS    TLSConfig `yaml:"tls"` // of Listen
	// TokensFile holds a line for each bearer token: TENANT TOKEN, and the RFC
	// 3339 time at which it expires where it does. It is read again when it
	// changes. Without it only this machine may publish.
	TokensFile string `yaml:"tokens_file"`
	// Origins are the sites, such as https://bank.example, whose pages may
	// publish beside the server's own; * is any.
	Origins []string `yaml:"origins"`
	Tenant  string   `yaml:"tenant"` // of publications without a token
	// Publications is how many may be up at once; more are answered 503.
	Publications int           `yaml:"publications"`
	RetryAfter   time.Duration `yaml:"retry_after"` // told with 503

	// UDP is the address and the one port of all media. Where it is no address of
	// an interface, such as 0.0.0.0, every interface has the port.
	UDP string `yaml:"udp"`
	TCP string `yaml:"tcp"` // address of media over TCP, for networks without UDP; empty for none
	// Advertise are the addresses that browsers are told in place of ours, where
	// the router translates them one to one.
	Advertise  []string `yaml:"advertise"`
	Interfaces []string `yaml:"interfaces"` // those that are used; empty for all
	Networks   []string `yaml:"networks"`   // those whose addresses are used; empty for all
	Lite       bool     `yaml:"lite"`       // ICE lite: only answers, for a public address
	// ICEServers are told to browsers. The server itself needs none.
	ICEServers []ICEServer `yaml:"ice_servers"`

	ConnectTimeout time.Duration `yaml:"connect_timeout"` // for ICE and DTLS after the answer
	MediaTimeout   time.Duration `yaml:"media_timeout"`   // without audio, a publication has ended
	// JoinWait is how long the first leg of a call waits for the second; after it
	// the call is heard with one leg, and says so.
	JoinWait time.Duration `yaml:"join_wait"`
	Window   time.Duration `yaml:"window"` // how long a missing packet is waited for
}

// TLSConfig is the server's certificate, both files PEM.
type TLSConfig struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// ICEServer is a STUN or TURN server for browsers, RFC 9725 section 4.6.
type ICEServer struct {
	URL      string `yaml:"url"` // such as turn:turn.example.net:3478?transport=udp
	Username string `yaml:"username"`
	// CredentialFile holds the password; white space around it does not count.
	CredentialFile string `yaml:"credential_file"`
}

// DefaultConfig takes media on one port of every interface, and publications
// from this machine only.
func DefaultConfig() Config {
	return Config{
		Tenant: "default", Publications: 1000, RetryAfter: 10 * time.Second,
		UDP:            "0.0.0.0:8189",
		ConnectTimeout: 15 * time.Second, MediaTimeout: time.Minute,
		JoinWait: 5 * time.Second, Window: 200 * time.Millisecond,
	}
}

// maxJoinWait is what a leg's queue has room for.
const maxJoinWait = 10 * time.Second

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			fault("listen: %q must be an address and port, such as 127.0.0.1:8443, or empty", c.Listen)
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		fault("tls: cert %q and key %q must both be given, or neither", c.TLS.Cert, c.TLS.Key)
	}
	if c.TLS.Cert != "" && c.Listen == "" {
		fault("tls.cert: %q is of no use without listen", c.TLS.Cert)
	}
	for i, o := range c.Origins {
		if !isOrigin(o) {
			fault("origins[%d]: %q must be * or a site without a path, such as https://bank.example", i, o)
		}
	}
	if !announce.IsToken(c.Tenant) {
		fault("tenant: %q must be 1 to 128 letters, digits, - or _", c.Tenant)
	}
	if c.Publications < 1 {
		fault("publications: %d must be at least 1", c.Publications)
	}
	if _, err := netip.ParseAddrPort(c.UDP); err != nil {
		fault("udp: %q must be an IP address and port, such as 0.0.0.0:8189", c.UDP)
	}
	if c.TCP != "" {
		if _, err := netip.ParseAddrPort(c.TCP); err != nil {
			fault("tcp: %q must be an IP address and port, such as 0.0.0.0:8189, or empty", c.TCP)
		}
	}
	for i, a := range c.Advertise {
		if ip, err := netip.ParseAddr(a); err != nil || ip.IsUnspecified() {
			fault("advertise[%d]: %q must be an IP address that browsers can reach", i, a)
		}
	}
	if _, err := c.networks(); err != nil {
		errs = append(errs, err)
	}
	for i, s := range c.ICEServers {
		if err := s.validate(); err != nil {
			errs = append(errs, fmt.Errorf("ice_servers[%d].%w", i, err))
		}
	}
	for _, d := range []struct {
		key            string
		value, low, hi time.Duration
	}{
		{"retry_after", c.RetryAfter, time.Second, time.Hour},
		{"connect_timeout", c.ConnectTimeout, time.Second, time.Minute},
		{"media_timeout", c.MediaTimeout, time.Second, 24 * time.Hour},
		{"join_wait", c.JoinWait, 0, maxJoinWait},
		{"window", c.Window, 0, time.Second},
	} {
		if d.value < d.low || d.value > d.hi {
			fault("%s: %v must be from %v to %v", d.key, d.value, d.low, d.hi)
		}
	}
	return errors.Join(errs...)
}

// isOrigin reports whether s is what browsers send as Origin, RFC 6454 section
// 6.2, or stands for all of them.
func isOrigin(s string) bool {
	if s == "*" {
		return true
	}
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && s == u.Scheme+"://"+u.Host
}

func (c Config) networks() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for i, s := range c.Networks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("networks[%d]: %q must be a network, such as 192.0.2.0/24", i, s)
		}
		all = append(all, p)
	}
	return all, nil
}

func (s ICEServer) validate() error {
	scheme, rest, _ := strings.Cut(s.URL, ":")
	secret := scheme == "turn" || scheme == "turns"
	switch {
	case !secret && scheme != "stun" && scheme != "stuns", rest == "", strings.ContainsAny(s.URL, "<>\"\r\n "):
		return fmt.Errorf("url: %q must be stun:HOST:PORT or turn:HOST:PORT", s.URL)
	case secret && (s.Username == "" || s.CredentialFile == ""):
		return errors.New("username: a turn server must have one, and a credential_file")
	case strings.ContainsAny(s.Username, "\"\\\r\n"):
		return fmt.Errorf("username: %q must have no quotes", s.Username)
	}
	return nil
}
