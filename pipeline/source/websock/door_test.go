package websock

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	secretA = "the secret of bank a"
	secretB = "the secret of bank b"
)

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDoorAdmitsByNetworkOriginAndProof(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	tokens := []Token{
		{File: secretFile(t, secretA), Tenant: "bank-a"},
		{File: secretFile(t, secretB), Expires: now},
		{File: secretFile(t, "a secret of anybody"), Expires: now.Add(time.Second)},
	}
	signed := func(r *http.Request, asked *url.URL) (string, bool, error) {
		switch r.Header.Get("X-Signature") {
		case "":
			return "", false, nil
		case asked.String():
			return "bank-s", true, nil
		}
		return "", false, errors.New("the signature is wrong")
	}
	for _, c := range []struct {
		name   string
		cfg    Config
		guard  Guard
		from   string
		url    string
		header []string
		status int // 0: admitted
		tenant string
	}{
		{name: "this machine", from: "127.0.0.1:1"},
		{name: "this machine over IPv6", from: "[::1]:1"},
		{name: "elsewhere", from: "192.0.2.1:1", status: 401},
		{name: "elsewhere through a proxy of this machine", from: "127.0.0.1:1", header: []string{"X-Forwarded-For: 192.0.2.1"}, status: 401},
		{name: "a proxy that hides it", from: "127.0.0.1:1", header: []string{"Forwarded: for=hidden"}, status: 401},
		{name: "allowed network", cfg: Config{Allow: []string{"192.0.2.0/24"}}, from: "192.0.2.1:1"},
		{name: "other network", cfg: Config{Allow: []string{"192.0.2.0/24"}}, from: "198.51.100.1:1", status: 403},
		{
			name: "allowed network behind a known proxy", cfg: Config{Allow: []string{"192.0.2.0/24"}, Proxies: []string{"127.0.0.0/8"}},
			from: "127.0.0.1:1", header: []string{"X-Forwarded-For: 203.0.113.7, 192.0.2.1"},
		},
		{
			name: "forged hop before the proxy's", cfg: Config{Allow: []string{"192.0.2.0/24"}, Proxies: []string{"127.0.0.0/8"}},
			from: "127.0.0.1:1", header: []string{"X-Forwarded-For: 192.0.2.1, 203.0.113.7"}, status: 403,
		},
		{name: "bearer", cfg: Config{Tokens: tokens}, from: "192.0.2.1:1", header: []string{"Authorization: bearer " + secretA}, tenant: "bank-a"},
		{name: "basic", cfg: Config{Tokens: tokens}, from: "192.0.2.1:1", header: []string{"Authorization: Basic a2V5OnRoZSBzZWNyZXQgb2YgYmFuayBh"}, tenant: "bank-a"},
		{name: "in the query", cfg: Config{Tokens: tokens}, from: "192.0.2.1:1", url: "/v1/x?token=" + url.QueryEscape(secretA), tenant: "bank-a"},
		{name: "in the path", cfg: Config{Tokens: tokens}, from: "192.0.2.1:1", url: "/v1/x/" + url.PathEscape(secretA), tenant: "bank-a"},
		{name: "wrong", cfg: Config{Tokens: tokens}, from: "127.0.0.1:1", header: []string{"Authorization: Bearer " + secretA + "!"}, status: 401},
		{name: "none", cfg: Config{Tokens: tokens}, from: "127.0.0.1:1", status: 401},
		{name: "expired", cfg: Config{Tokens: tokens}, from: "127.0.0.1:1", header: []string{"Authorization: Bearer " + secretB}, status: 401},
		{name: "not yet expired", cfg: Config{Tokens: tokens}, from: "127.0.0.1:1", header: []string{"Authorization: Bearer a secret of anybody"}},
		{name: "page of our own", from: "127.0.0.1:1", header: []string{"Origin: http://example.com"}},
		{name: "page of others", from: "127.0.0.1:1", header: []string{"Origin: https://evil.example"}, status: 403},
		{name: "page without a name", from: "127.0.0.1:1", header: []string{"Origin: null"}, status: 403},
		{name: "allowed page", cfg: Config{Origins: []string{"*.bank.example"}}, from: "127.0.0.1:1", header: []string{"Origin: https://desk.BANK.example"}},
		{name: "allowed page of another scheme", cfg: Config{Origins: []string{"https://desk.bank.example"}}, from: "127.0.0.1:1", header: []string{"Origin: http://desk.bank.example"}, status: 403},
		{name: "signed", guard: signed, from: "192.0.2.1:1", url: "/v1/x?a=1", header: []string{"X-Signature: ws://example.com/v1/x?a=1"}, tenant: "bank-s"},
		{name: "signed wrongly", guard: signed, from: "127.0.0.1:1", header: []string{"X-Signature: ws://example.com/v1/y"}, status: 401},
		{name: "not signed, on this machine", guard: signed, from: "127.0.0.1:1", status: 401},
		{name: "token in place of a signature", cfg: Config{Tokens: tokens}, guard: signed, from: "192.0.2.1:1", header: []string{"Authorization: Bearer " + secretA}, tenant: "bank-a"},
		{
			name: "signed for the proxy's address", cfg: Config{Proxies: []string{"10.0.0.0/8"}}, guard: signed, from: "10.1.2.3:1", url: "/v1/x",
			header: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: calls.example", "X-Signature: wss://calls.example/v1/x"}, tenant: "bank-s",
		},
		{
			name: "headers of a proxy that is none", guard: signed, from: "10.1.2.3:1", url: "/v1/x",
			header: []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: calls.example", "X-Signature: wss://calls.example/v1/x"}, status: 401,
		},
		{
			name: "signed for the public address", cfg: Config{PublicURL: "wss://calls.example/in"}, guard: signed, from: "192.0.2.1:1", url: "/v1/x",
			header: []string{"X-Signature: wss://calls.example/in/v1/x"}, tenant: "bank-s",
		},
	} {
		d, err := newDoor("x", c.cfg, c.guard)
		if err != nil {
			t.Fatal(err)
		}
		if c.url == "" {
			c.url = "/v1/x/"
		}
		r := httptest.NewRequest(http.MethodGet, c.url, nil)
		r.RemoteAddr = c.from
		for _, h := range c.header {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Add(name, value)
		}
		p, err := d.admit(r, now)
		var refused *refusal
		switch {
		case c.status == 0 && err != nil:
			t.Errorf("%s: refused: %v", c.name, err)
		case c.status != 0 && !errors.As(err, &refused):
			t.Errorf("%s: admitted", c.name)
		case c.status != 0 && refused.status != c.status:
			t.Errorf("%s: status %d (%v), want %d", c.name, refused.status, err, c.status)
		case p.tenant != c.tenant:
			t.Errorf("%s: tenant %q, want %q", c.name, p.tenant, c.tenant)
		}
	}
}

func TestTenantIsTheTokensUnlessThatIsForAny(t *testing.T) {
	d := &door{tenant: "default"}
	for _, c := range []struct{ bound, said, want string }{
		{"", "", "default"},
		{"bank-a", "", "bank-a"},
		{"", "bank-b", "bank-b"},
		{"bank-a", "bank-a", "bank-a"},
		{"bank-a", "bank-b", ""},
		{"", "a.b", ""},
	} {
		got, err := d.tenantOf(c.bound, c.said)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("bound %q, said %q: %q, %v; want %q", c.bound, c.said, got, err, c.want)
		}
	}
}

func TestValidateNamesKeyValueAndRule(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`listen: "8080" must be an address`:        func(c *Config) { c.Listen = "8080" },
		"tls: certificate and key must both":       func(c *Config) { c.TLS.Key = "key.pem" },
		`public_url: "https://a" must be like`:     func(c *Config) { c.PublicURL = "https://a" },
		`allow[0]: "10.0.0.1" must be a network`:   func(c *Config) { c.Allow = []string{"10.0.0.1"} },
		`proxies[1]: "x" must be a network`:        func(c *Config) { c.Proxies = []string{"10.0.0.0/8", "x"} },
		`origins[0]: "[" must be a host`:           func(c *Config) { c.Origins = []string{"["} },
		"tokens[0].file: must name the file":       func(c *Config) { c.Tokens = []Token{{}} },
		`tokens[0].tenant: "a b" must be 1 to 128`: func(c *Config) { c.Tokens = []Token{{File: "f", Tenant: "a b"}} },
		`tenant: "" must be 1 to 128`:              func(c *Config) { c.Tenant = "" },
		"connections: 0 must be at least 1":        func(c *Config) { c.Connections = 0 },
		"hello_timeout: 0s must be above 0":        func(c *Config) { c.HelloTimeout = 0 },
		"media_timeout: -1s must be above 0":       func(c *Config) { c.MediaTimeout = -time.Second },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v does not begin with %q", err, want)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
}

func TestSecretsThatAreGuessedAreRefused(t *testing.T) {
	for text, ok := range map[string]bool{"": false, "short": false, strings.Repeat("x", 16): true, strings.Repeat("x", 5000): false} {
		if _, err := Secret(secretFile(t, text)); (err == nil) != ok {
			t.Errorf("secret of %d bytes: error %v", len(text), err)
		}
	}
}
