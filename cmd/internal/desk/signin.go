package desk

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

const cookieName = "callwarden_desk"

// fault is an answer that refuses.
type fault struct {
	status int
	code   string
	text   string
	extra  map[string]any
}

func (f *fault) Error() string { return f.text }

func refuse(status int, code, format string, args ...any) *fault {
	return &fault{status: status, code: code, text: fmt.Sprintf(format, args...)}
}

var (
	errSignIn   = refuse(http.StatusUnauthorized, "sign_in", "sign in first")
	errNotFound = refuse(http.StatusNotFound, "not_found", "there is no such call")
)

// door decides who comes in, and how.
type door struct {
	cfg    Config
	tokens *tokens        // nil without a tokens file
	proxy  []netip.Prefix // who may say who somebody is
	tries  tries
}

// way is how people sign in.
func (d *door) way() string {
	switch {
	case len(d.proxy) > 0 && d.tokens == nil:
		return "proxy"
	case d.tokens != nil:
		return "token"
	}
	return "open"
}

// who says who asks, or why they are refused.
func (d *door) who(r *http.Request, now time.Time) (*user, error) {
	if err := sameSite(r, d.host(r)); err != nil {
		return nil, err
	}
	if d.fromProxy(r) && r.Header.Get(d.cfg.Proxy.User) != "" {
		return d.proxied(r)
	}
	if d.tokens != nil {
		if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			return d.bearer(r, bearer, now)
		}
		if c, err := r.Cookie(cookieName); err == nil {
			if u := d.tokens.resume(c.Value, now); u != nil {
				return u, nil
			}
		}
		return nil, errSignIn
	}
	if len(d.proxy) > 0 {
		return nil, refuse(http.StatusUnauthorized, "sign_in", "the proxy in front of the desk does not say who you are")
	}
	return d.local(r)
}

func (d *door) bearer(r *http.Request, token string, now time.Time) (*user, error) {
	id, err := parseToken(token)
	if err != nil || strings.HasPrefix(token, "sha256:") {
		id = tokenID{}
	}
	if wait := d.tries.wait(peer(r), now); wait > 0 {
		return nil, tooMany(wait)
	}
	u := d.tokens.of(id)
	if u == nil {
		d.tries.failed(peer(r), now)
		return nil, refuse(http.StatusUnauthorized, "sign_in", "this token is not known")
	}
	return u, nil
}

func tooMany(wait time.Duration) *fault {
	f := refuse(http.StatusTooManyRequests, "rate", "too many tries; wait %d seconds", int(wait.Seconds())+1)
	f.extra = map[string]any{"retry_s": int(wait.Seconds()) + 1}
	return f
}

func (d *door) proxied(r *http.Request) (*user, error) {
	p := d.cfg.Proxy
	header := func(name, instead string) string {
		if name != "" {
			if v := r.Header.Get(name); v != "" {
				return v
			}
		}
		return instead
	}
	u := &user{
		name: strings.TrimSpace(r.Header.Get(p.User)), role: parseRole(header(p.Role, p.DefaultRole)),
		tenants: splitTenants(header(p.Tenants, p.DefaultTenants)),
	}
	switch {
	case !plainName(u.name):
		return nil, refuse(http.StatusForbidden, "role", "the proxy's name for you is none")
	case u.role == nobody:
		return nil, refuse(http.StatusForbidden, "role", "the proxy gives you no role of the desk")
	case len(u.tenants) == 0:
		return nil, refuse(http.StatusForbidden, "tenant", "the proxy gives you no tenant")
	}
	return u, nil
}

// local lets in who is on this machine, where nobody has to sign in. A page
// from elsewhere that a browser on this machine shows is not: its host is
// another, also where its name leads here.
func (d *door) local(r *http.Request) (*user, error) {
	if a := peer(r); !a.IsLoopback() {
		return nil, refuse(http.StatusForbidden, "sign_in",
			"the desk is open to the machine it runs on only; set desk.tokens_file or desk.proxy in callwarden.yml to let others in")
	}
	if !localHost(r.Host) {
		return nil, refuse(http.StatusForbidden, "sign_in",
			"the desk was asked for by a name that is not this machine's; set desk.tokens_file or desk.proxy in callwarden.yml")
	}
	return &user{name: "local", role: admin, tenants: []string{"*"}}, nil
}

func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// peer is the address that a request came from.
func peer(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

func (d *door) fromProxy(r *http.Request) bool {
	a := peer(r)
	for _, n := range d.proxy {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// host is the name that the browser asked for.
func (d *door) host(r *http.Request) string {
	if h := r.Header.Get("X-Forwarded-Host"); h != "" && d.fromProxy(r) {
		return strings.TrimSpace(strings.Split(h, ",")[0])
	}
	return r.Host
}

// secure says whether the browser's connection is encrypted.
func (d *door) secure(r *http.Request) bool {
	return r.TLS != nil || d.fromProxy(r) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// sameSite refuses what a page of another site asks for.
func sameSite(r *http.Request, host string) error {
	foreign := refuse(http.StatusForbidden, "csrf", "this was asked for by a page of another site")
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return foreign
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, host) {
			return foreign
		}
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodDelete {
		return nil // a form of another site can send neither DELETE nor read an answer
	}
	// Nor can it send JSON without asking first.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "csrf", "Content-Type must be application/json")
	}
	return nil
}

const bodyMost = 64 << 10 // bytes of a request

// decode reads the JSON of a request.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyMost))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return refuse(http.StatusRequestEntityTooLarge, "bad", "more than %d bytes", bodyMost)
	case err != nil:
		return refuse(http.StatusBadRequest, "bad", "the body is not the JSON that is wanted")
	}
	return nil
}

// tries holds back who guesses tokens: after triesFree failures within a
// minute an address waits, and after triesAll all do.
type tries struct {
	mu     sync.Mutex
	byAddr map[netip.Addr][]time.Time
	all    []time.Time
}

const (
	triesFree = 10
	triesAll  = 200
	triesFor  = time.Minute
)

// wait is how long who comes from a has to wait; 0 is not at all.
func (t *tries) wait(a netip.Addr, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := recent(t.byAddr[a], now)
	t.all = recent(t.all, now)
	switch {
	case len(own) >= triesFree:
		return own[len(own)-triesFree].Add(triesFor).Sub(now)
	case len(t.all) >= triesAll:
		return t.all[len(t.all)-triesAll].Add(triesFor).Sub(now)
	}
	return 0
}

func (t *tries) failed(a netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byAddr == nil {
		t.byAddr = make(map[netip.Addr][]time.Time)
	}
	for b, at := range t.byAddr {
		if at = recent(at, now); len(at) == 0 {
			delete(t.byAddr, b)
		} else {
			t.byAddr[b] = at
		}
	}
	t.byAddr[a] = append(t.byAddr[a], now)
	t.all = append(t.all, now)
}

func recent(at []time.Time, now time.Time) []time.Time {
	for len(at) > 0 && now.Sub(at[0]) >= triesFor {
		at = at[1:]
	}
	return at
}

// watch is closed when somebody who was let in may not be any more.
func (d *door) watch() <-chan struct{} {
	if d.tokens == nil {
		return nil
	}
	return d.tokens.watch()
}
