package websock

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/announce"
)

// Guard is a protocol's own proof of who a peer is, such as a signature. asked
// is the URL that the peer asked for, proxies taken into account. It reports
// whether there was a proof at all, and for whose calls it is good, empty for
// any; an error is a proof that does not hold. Without one, tokens count.
type Guard func(r *http.Request, asked *url.URL) (tenant string, proven bool, err error)

// refusal is why a request is not let in.
type refusal struct {
	status int
	why    string
}

func (e *refusal) Error() string { return e.why }

// door decides who comes in.
type door struct {
	name           string
	public         *url.URL // nil: as the request says
	allow, proxies []netip.Prefix
	origins        []string
	tokens         []token
	guard          Guard
	tenant         string
}

type token struct {
	digest  [sha256.Size]byte
	tenant  string
	expires time.Time
}

const (
	minToken = 16 // bytes
	maxToken = 4096
)

func newDoor(name string, cfg Config, guard Guard) (*door, error) {
	d := &door{name: name, guard: guard, tenant: cfg.Tenant}
	var err error
	if d.allow, err = networks("allow", cfg.Allow); err != nil {
		return nil, err
	}
	if d.proxies, err = networks("proxies", cfg.Proxies); err != nil {
		return nil, err
	}
	for _, o := range cfg.Origins {
		d.origins = append(d.origins, strings.ToLower(o))
	}
	if cfg.PublicURL != "" {
		if d.public, err = url.Parse(cfg.PublicURL); err != nil {
			return nil, fmt.Errorf("public_url: %w", err)
		}
	}
	for i, t := range cfg.Tokens {
		text, err := Secret(t.File)
		if err != nil {
			return nil, fmt.Errorf("tokens[%d].file: %w", i, err)
		}
		d.tokens = append(d.tokens, token{sha256.Sum256(text), t.Tenant, t.Expires})
	}
	return d, nil
}

// Secret reads a secret from a file; white space around it does not count.
func Secret(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading secret: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return nil, fmt.Errorf("reading secret: %w", err)
	}
	text = bytes.TrimSpace(text)
	if len(text) < minToken || len(text) > maxToken {
		return nil, fmt.Errorf("secret in %s: %d bytes must be %d to %d", file, len(text), minToken, maxToken)
	}
	return text, nil
}

// pass is what a connection that was let in may do.
type pass struct {
	tenant string // whose calls; empty for any
	asked  *url.URL
}

// admit lets a request in, or says as *refusal why not.
func (d *door) admit(r *http.Request, now time.Time) (pass, error) {
	from, forwarded := d.client(r)
	if len(d.allow) > 0 && !contains(d.allow, from) {
		return pass{}, &refusal{http.StatusForbidden, "the network is not allowed"}
	}
	asked := d.asked(r)
	if !d.welcomes(r, asked) {
		return pass{}, &refusal{http.StatusForbidden, "the origin is not allowed"}
	}
	if d.guard != nil {
		tenant, proven, err := d.guard(r, asked)
		if err != nil {
			return pass{}, &refusal{http.StatusUnauthorized, err.Error()}
		}
		if proven {
			return pass{tenant, asked}, nil
		}
	}
	tenant, err := d.token(r, now)
	switch {
	case err == nil:
		return pass{tenant, asked}, nil
	case len(d.tokens) > 0, d.guard != nil:
		return pass{}, &refusal{http.StatusUnauthorized, err.Error()}
	case len(d.allow) > 0, from.IsLoopback() && !forwarded:
		return pass{"", asked}, nil
	}
	return pass{}, &refusal{http.StatusUnauthorized, "without tokens or allowed networks in the configuration only this machine may connect"}
}

// client is the address that a request comes from, and whether a proxy that is
// not known to us has sent it on: then it is not from this machine, whatever
// the address says.
func (d *door) client(r *http.Request) (from netip.Addr, forwarded bool) {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	from = at.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := strings.TrimSpace(hops[i])
		if hop == "" {
			continue
		}
		if !contains(d.proxies, from) {
			return from, true
		}
		if from, err = netip.ParseAddr(hop); err != nil {
			return netip.Addr{}, true
		}
		from = from.Unmap()
	}
	return from, r.Header.Get("Forwarded") != ""
}

// asked is the URL that the peer asked for.
func (d *door) asked(r *http.Request) *url.URL {
	u := &url.URL{Scheme: "ws", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	if r.TLS != nil {
		u.Scheme = "wss"
	}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && contains(d.proxies, at.Addr().Unmap()) {
		switch strings.ToLower(r.Header.Get("X-Forwarded-Proto")) {
		case "https", "wss":
			u.Scheme = "wss"
		}
		if host := r.Header.Get("X-Forwarded-Host"); host != "" {
			u.Host = host
		}
	}
	if d.public != nil {
		u.Scheme, u.Host = d.public.Scheme, d.public.Host
		prefix := strings.TrimSuffix(d.public.Path, "/")
		u.Path, u.RawPath = prefix+u.Path, ""
	}
	return u
}

// welcomes says whether the web page that a request comes from may connect. A
// request without origin is no web page's (RFC 6454).
func (d *door) welcomes(r *http.Request, asked *url.URL) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	host, full := originHost(origin)
	if host == "" {
		return false
	}
	if host == strings.ToLower(asked.Host) || host == strings.ToLower(r.Host) {
		return true
	}
	for _, o := range d.origins {
		name := host
		if strings.Contains(o, "://") {
			name = full
		}
		if ok, _ := path.Match(o, name); ok {
			return true
		}
	}
	return false
}

var (
	errNoToken    = errors.New("the token is missing or wrong")
	errOldToken   = errors.New("the token has expired")
	errNotTenants = errors.New("the token is of another tenant")
)

// token looks for one of ours in a request.
func (d *door) token(r *http.Request, now time.Time) (tenant string, err error) {
	err = errNoToken
	for _, shown := range d.shown(r) {
		digest := sha256.Sum256([]byte(shown))
		for _, t := range d.tokens {
			if subtle.ConstantTimeCompare(digest[:], t.digest[:]) != 1 {
				continue
			}
			if !t.expires.IsZero() && !now.Before(t.expires) {
				err = errOldToken
				continue
			}
			return t.tenant, nil
		}
	}
	return "", err
}

// shown are the tokens that a request may be showing.
func (d *door) shown(r *http.Request) []string {
	var all []string
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		all = append(all, strings.TrimSpace(credentials))
	}
	if _, password, ok := r.BasicAuth(); ok {
		all = append(all, password)
	}
	if t := r.URL.Query().Get("token"); t != "" {
		all = append(all, t)
	}
	rest := strings.Trim(strings.TrimPrefix(r.URL.Path, "/v1/"+d.name), "/")
	if last := rest[strings.LastIndexByte(rest, '/')+1:]; last != "" {
		all = append(all, last)
	}
	return all
}

// tenantOf is whose the call is of which a peer says that it is said's, empty
// where it does not say.
func (d *door) tenantOf(bound, said string) (string, error) {
	switch {
	case said != "" && !announce.IsToken(said):
		return "", fmt.Errorf("tenant: %.140q must be 1 to 128 letters, digits, - or _", said)
	case bound != "" && said != "" && said != bound:
		return "", errNotTenants
	case bound != "":
		return bound, nil
	case said != "":
		return said, nil
	}
	return d.tenant, nil
}
