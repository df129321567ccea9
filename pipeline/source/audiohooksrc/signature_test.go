package audiohooksrc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The example of the protocol's documentation.
const (
	publishedKey    = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
	publishedSecret = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="
	publishedInput  = `sig1=("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id" "audiohook-correlation-id" "x-api-key");keyid="SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";alg="hmac-sha256";created=1641013200;expires=3282026430`
	publishedSum    = `sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:`
)

func publishedRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/api/v1/voicebiometrics/ws", nil)
	r.Host = "audiohook.example.com"
	for name, value := range map[string]string{
		headerOrganization: "d7934305-0972-4844-938e-9060eef73d05", headerSession: "30b0e395-84d3-4570-ac13-9a62d8f514c0",
		headerCorrelation: "e160e428-53e2-487c-977d-96989bf5c99d", headerKey: publishedKey,
		"Signature-Input": publishedInput, "Signature": publishedSum,
	} {
		r.Header.Set(name, value)
	}
	return r
}

func askedOf(r *http.Request) *url.URL {
	return &url.URL{Scheme: "wss", Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery}
}

func publishedGuard(t *testing.T) *guard {
	t.Helper()
	secret, err := base64.StdEncoding.DecodeString(publishedSecret)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuard([]key{{Key: Key{Tenant: "bank"}, name: publishedKey, secret: secret}, {Key: Key{Tenant: "shop"}, name: "a key without a secret"}})
	g.now = func() time.Time { return time.Unix(1641013202, 0) }
	return g
}

func TestPublishedSignatureHolds(t *testing.T) {
	r := publishedRequest()
	tenant, proven, err := publishedGuard(t).check(r, askedOf(r))
	if tenant != "bank" || !proven || err != nil {
		t.Errorf("tenant %q, proven %v, %v", tenant, proven, err)
	}
	r.Host = "AUDIOHOOK.example.com:443" // is the same
	if _, _, err := publishedGuard(t).check(r, askedOf(r)); err != nil {
		t.Error(err)
	}
}

func TestSignaturesThatDoNotHoldAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *http.Request)
		want   string
	}{
		"another path":         {func(r *http.Request) { r.URL.Path = "/other" }, "not by the secret"},
		"another host":         {func(r *http.Request) { r.Host = "other.example.com" }, "not by the secret"},
		"a query":              {func(r *http.Request) { r.URL.RawQuery = "tenant=other" }, "not by the secret"},
		"another session":      {func(r *http.Request) { r.Header.Set(headerSession, otherSession) }, "not by the secret"},
		"another organization": {func(r *http.Request) { r.Header.Set(headerOrganization, sessionID) }, "not by the secret"},
		"no correlation":       {func(r *http.Request) { r.Header.Del(headerCorrelation) }, "a header that is not there"},
		"unsigned":             {func(r *http.Request) { r.Header.Del("Signature"); r.Header.Del("Signature-Input") }, "not signed"},
		"half signed":          {func(r *http.Request) { r.Header.Del("Signature") }, "LABEL=:BASE64:"},
		"a wrong key":          {func(r *http.Request) { r.Header.Set(headerKey, "x"+publishedKey) }, "API key is missing or wrong"},
		"somebody else's key":  {func(r *http.Request) { change(r, "keyid", `"else"`) }, "another key"},
		"fewer components": {func(r *http.Request) {
			r.Header.Set("Signature-Input", strings.Replace(publishedInput, ` "x-api-key"`, "", 1))
		}, "does not cover x-api-key"},
		"made earlier":    {func(r *http.Request) { change(r, "created", "1641013180") }, "too old"},
		"from the future": {func(r *http.Request) { change(r, "created", "1641013290") }, "from the future"},
		"expired":         {func(r *http.Request) { change(r, "expires", "1641013190") }, "expired"},
		"short nonce":     {func(r *http.Request) { change(r, "nonce", `"short"`) }, "nonce"},
		"other algorithm": {func(r *http.Request) { change(r, "alg", `"none"`) }, "hmac-sha256"},
		"a huge header":   {func(r *http.Request) { r.Header.Set("Signature-Input", strings.Repeat("a", 5000)) }, "more than 4096"},
		"no base64":       {func(r *http.Request) { r.Header.Set("Signature", "sig1=:%%:") }, "LABEL=:BASE64:"},
		"another label":   {func(r *http.Request) { r.Header.Set("Signature", "sig2=:AAAA:") }, "none of the label"},
	} {
		t.Run(name, func(t *testing.T) {
			r := publishedRequest()
			c.change(r)
			_, proven, err := publishedGuard(t).check(r, askedOf(r))
			if proven || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("proven %v, error %v, want %q", proven, err, c.want)
			}
		})
	}
}

// change sets a parameter of the request's Signature-Input.
func change(r *http.Request, name, value string) {
	text := r.Header.Get("Signature-Input")
	from := strings.Index(text, ";"+name+"=") + len(name) + 2
	end := strings.IndexByte(text[from:]+";", ';')
	r.Header.Set("Signature-Input", text[:from]+value+text[from+end:])
}

func TestSignatureIsGoodOnce(t *testing.T) {
	g := publishedGuard(t)
	r := publishedRequest()
	if _, _, err := g.check(r, askedOf(r)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.check(r, askedOf(r)); !errors.Is(err, errSpent) {
		t.Errorf("a second time: %v", err)
	}
}

func TestSpentNoncesAreForgottenAndBounded(t *testing.T) {
	g := newGuard(nil)
	now := time.Unix(1_700_000_000, 0)
	for i := range maxNonces {
		if err := g.spend("k", fmt.Sprint(i), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.spend("k", "one more", now); !errors.Is(err, errCrowded) {
		t.Errorf("one more than there is room for: %v", err)
	}
	if err := g.spend("k", "later", now.Add(time.Minute)); err != nil || len(g.spent) != 1 {
		t.Errorf("a minute later: %v, %d are remembered", err, len(g.spent))
	}
}

func TestKeysWithoutSecretNeedNoSignature(t *testing.T) {
	g := publishedGuard(t)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set(headerKey, "a key without a secret")
	if tenant, proven, err := g.check(r, askedOf(r)); tenant != "shop" || !proven || err != nil {
		t.Errorf("tenant %q, proven %v, %v", tenant, proven, err)
	}
	g.keys[1].Organization = sessionID
	if _, _, err := g.check(r, askedOf(r)); !errors.Is(err, errOrganization) {
		t.Errorf("another organization: %v", err)
	}
}

// sign signs r as a client does, by the draft and not by the code under test.
func sign(r *http.Request, host, key, secret, nonce string, created int64) {
	params := fmt.Sprintf(`("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id" "audiohook-correlation-id" "x-api-key");keyid="%s";nonce="%s";alg="hmac-sha256";created=%d;expires=%d`, key, nonce, created, created+30)
	base := fmt.Sprintf("\"@request-target\": %s\n\"@authority\": %s\n\"audiohook-organization-id\": %s\n\"audiohook-session-id\": %s\n\"audiohook-correlation-id\": %s\n\"x-api-key\": %s\n\"@signature-params\": %s",
		r.URL.RequestURI(), host, r.Header.Get(headerOrganization), r.Header.Get(headerSession), r.Header.Get(headerCorrelation), key, params)
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte(base))
	r.Header.Set(headerKey, key)
	r.Header.Set("Signature-Input", "sig1="+params)
	r.Header.Set("Signature", "sig1=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":")
}
