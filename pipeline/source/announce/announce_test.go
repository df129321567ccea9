package announce

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidateNamesFieldAndRule(t *testing.T) {
	many := make(map[string]string)
	for c := range maxAttributes + 1 {
		many[strings.Repeat("a", c+1)] = "x"
	}
	for _, c := range []struct {
		call Call
		want string // "" for none
	}{
		{Call{}, ""},
		{Call{Call: "a-b_C9", Tenant: "bank", From: "+1 555 0100", FromName: "Ünal", Direction: "inbound", Attributes: map[string]string{"queue": "fraud"}}, ""},
		{Call{Call: "a.b"}, `call: "a.b" must be`},
		{Call{Call: strings.Repeat("a", 129)}, "call: "},
		{Call{Tenant: "a b"}, `tenant: "a b" must be`},
		{Call{Tenant: "*"}, `tenant: "*" must be`},
		{Call{From: strings.Repeat("5", 257)}, "from: 257 bytes must be at most 256"},
		{Call{ToName: "a\nb"}, "to_name: must be text"},
		{Call{Trunk: "\xff"}, "trunk: must be text"},
		{Call{Direction: "up"}, `direction: "up" must be inbound or outbound`},
		{Call{Attributes: map[string]string{"A": "x"}}, `attributes: "A" must be`},
		{Call{Attributes: map[string]string{"a": "\x00"}}, "attributes.a: must be text"},
		{Call{Attributes: many}, "attributes: 33 must be at most 32"},
	} {
		err := c.call.Validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c.call, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%+v: error %v does not begin with %q", c.call, err, c.want)
		}
	}
}

func TestDescribePrefersFieldsToAttributes(t *testing.T) {
	yes := true
	c := Call{From: "100", Consent: &yes, Attributes: map[string]string{"from": "spoof", "queue": "7"}}
	got := map[string]string{"codec": "PCMU"}
	c.Describe(got)
	want := map[string]string{"from": "100", "consent": "true", "queue": "7", "codec": "PCMU"}
	if !maps.Equal(got, want) {
		t.Errorf("attributes %v, want %v", got, want)
	}
}

func TestNewIDsAreTokensAndDiffer(t *testing.T) {
	a, b := NewID("rtp"), NewID("rtp")
	if a == b || !IsToken(a) || !strings.HasPrefix(a, "rtp-") {
		t.Errorf("ids %q and %q", a, b)
	}
}

func TestDoorOpensToTokenOrThisMachine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("a secret of some length\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file, from, auth string
		want                   int
	}{
		{"right token", file, "192.0.2.1:1", "Bearer a secret of some length", 200},
		{"scheme in small letters", file, "192.0.2.1:1", "bearer a secret of some length", 200},
		{"wrong token", file, "127.0.0.1:1", "Bearer a secret of some lengtH", 401},
		{"prefix of the token", file, "127.0.0.1:1", "Bearer a secret", 401},
		{"no token", file, "127.0.0.1:1", "", 401},
		{"other scheme", file, "127.0.0.1:1", "Basic a secret of some length", 401},
		{"without token from here", "", "127.0.0.1:1", "", 200},
		{"without token from here over IPv6", "", "[::1]:1", "", 200},
		{"without token from elsewhere", "", "192.0.2.1:1", "", 401},
		{"without token from nowhere", "", "@", "", 401},
	} {
		door, err := OpenDoor(c.file)
		if err != nil {
			t.Fatal(err)
		}
		h := door.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.from
		r.Header.Set("Authorization", c.auth)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: status %d, want %d", c.name, w.Code, c.want)
		}
	}
}

func TestDoorRefusesTokensThatAreGuessed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for text, ok := range map[string]bool{"": false, "short": false, strings.Repeat("x", 16): true, strings.Repeat("x", 5000): false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDoor(file); (err == nil) != ok {
			t.Errorf("token of %d bytes: error %v", len(text), err)
		}
	}
	if _, err := OpenDoor(file + ".missing"); !os.IsNotExist(unwrap(err)) {
		t.Errorf("missing file: %v", err)
	}
}

func unwrap(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || os.IsNotExist(err) {
			return err
		}
		err = u.Unwrap()
	}
}

func TestDecodeRefusesWhatItDoesNotUnderstand(t *testing.T) {
	const isJSON = "application/json; charset=utf-8"
	for _, c := range []struct {
		name, kind, body string
		status           int // 0: decoded
		want             string
	}{
		{"good", isJSON, `{"from":"1","consent":false}`, 0, ""},
		{"no JSON type", "text/plain", `{}`, 415, "Content-Type"},
		{"form of a web page", "application/x-www-form-urlencoded", `{}`, 415, "Content-Type"},
		{"misspelt field", isJSON, `{"form":"1"}`, 400, `unknown field \"form\"`},
		{"wrong type", isJSON, `{"from":1}`, 400, "from"},
		{"two values", isJSON, `{}{}`, 400, "more than one"},
		{"cut off", isJSON, `{"from":`, 400, "body: "},
		{"empty", isJSON, ``, 400, "body: "},
		{"huge", isJSON, `{"from":"` + strings.Repeat("1", 100_000) + `"}`, 413, "65536"},
	} {
		r := httptest.NewRequest(http.MethodPut, "/", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		w := httptest.NewRecorder()
		var call Call
		ok := Decode(w, r, &call)
		if ok != (c.status == 0) || !ok && w.Code != c.status {
			t.Errorf("%s: decoded %v with status %d, want %d", c.name, ok, w.Code, c.status)
		}
		if body, _ := io.ReadAll(w.Result().Body); !strings.Contains(string(body), c.want) {
			t.Errorf("%s: answer %s does not say %s", c.name, body, c.want)
		}
	}
}
