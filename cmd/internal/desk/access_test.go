package desk

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

func TestEachRoleMayDoWhatItMay(t *testing.T) {
	s := startSite(t, withTokens(t))
	c := s.call("c1")
	c.start()
	c.end(time.Second)
	c.kept()
	for _, try := range []struct {
		method, path, body string
		needs              role
	}{
		{"GET", "/api/me", "", viewer},
		{"GET", "/api/calls/default/c1", "", viewer},
		{"GET", "/api/calls/default/c1/segments", "", viewer},
		{"GET", "/api/history", "", viewer},
		{"GET", "/api/history/days", "", viewer},
		{"GET", "/api/history/day/2026-11-22", "", viewer},
		{"GET", "/api/calls/default/c1/export.json", "", analyst},
		{"GET", "/api/calls/default/c1/export.txt", "", analyst},
		{"POST", "/api/calls/default/c1/actions", `{"action":"scam"}`, analyst},
		{"GET", "/api/history/export.json", "", analyst},
		{"GET", "/api/history/export.csv", "", analyst},
		{"GET", "/api/audit", "", admin},
		{"POST", "/api/history/delete", `{"number":"+15550123456","dry":true}`, admin},
		{"DELETE", "/api/history/calls/default/c1", "", admin},
	} {
		for token, has := range map[string]role{"": nobody, viewsToken: viewer, annasToken: analyst, adminToken: admin} {
			var how []asking
			if token != "" {
				how = append(how, withToken(token))
			}
			var refused struct{ Code string }
			var any json.RawMessage
			var text string
			status := s.ask(try.method, try.path, try.body, &text, how...)
			_ = json.Unmarshal([]byte(text), &any)
			_ = json.Unmarshal(any, &refused)
			switch {
			case has == nobody && (status != http.StatusUnauthorized || refused.Code != "sign_in"):
				t.Errorf("%s %s by nobody: %d %s", try.method, try.path, status, text)
			case has != nobody && has < try.needs && (status != http.StatusForbidden || refused.Code != "role"):
				t.Errorf("%s %s by %s: %d %s", try.method, try.path, has, status, text)
			case has >= try.needs && status >= 300:
				t.Errorf("%s %s by %s: %d %s", try.method, try.path, has, status, text)
			}
		}
	}
}

func TestCallsOfOtherTenantsAreNotThere(t *testing.T) {
	s := startSite(t, withTokens(t))
	c := s.call("c1")
	c.start()
	c.find("f", 7, warning, time.Second)
	gone := s.call("gone")
	gone.start()
	gone.end(time.Second)
	gone.kept()
	c.seen()
	other := withToken(otherToken) // admin of another tenant
	for _, try := range [][3]string{
		{"GET", "/api/calls/default/c1", ""},
		{"GET", "/api/calls/default/gone", ""},
		{"GET", "/api/calls/default/c1/live", ""},
		{"GET", "/api/calls/default/c1/segments", ""},
		{"GET", "/api/calls/default/c1/export.json", ""},
		{"GET", "/api/calls/default/gone/export.txt", ""},
		{"POST", "/api/calls/default/c1/actions", `{"action":"scam"}`},
		{"POST", "/api/calls/default/c1/prompt", `{"prompt":"customer"}`},
		{"DELETE", "/api/history/calls/default/gone", ""},
	} {
		s.want(http.StatusNotFound, try[0], try[1], try[2], nil, other)
	}
	var found struct{ Calls []board.Row }
	s.want(http.StatusOK, "GET", "/api/history", "", &found, other)
	if len(found.Calls) != 0 {
		t.Errorf("found %+v", found.Calls)
	}
	var text string
	s.want(http.StatusOK, "GET", "/api/history/export.csv", "", &text, other)
	if strings.Contains(text, "gone") {
		t.Errorf("exported %s", text)
	}
	s.want(http.StatusOK, "GET", "/api/audit", "", &text, other)
	if strings.Contains(text, `"tenant":"default"`) && strings.Contains(text, `"who":"anna"`) {
		t.Errorf("the audit log says %s", text)
	}
	stream := s.stream("/api/live", other)
	var first struct {
		Calls  []board.Row
		Status status
	}
	if err := json.Unmarshal(stream.next("snapshot").data, &first); err != nil {
		t.Fatal(err)
	}
	if len(first.Calls) != 0 || first.Status.Alerts.Hour != 0 {
		t.Errorf("the overview has %+v", first)
	}
}

// cookieOf signs in and returns the cookie.
func (s *site) cookieOf(token string) string {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.http.URL+"/api/signin", strings.NewReader(`{"token":"`+token+`"}`))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || len(res.Cookies()) != 1 {
		s.t.Fatalf("signing in: %s", res.Status)
	}
	c := res.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.MaxAge <= 0 {
		s.t.Errorf("cookie is %+v", c)
	}
	return c.Name + "=" + c.Value
}

func TestWhoSignsInStaysSoUntilTheySignOut(t *testing.T) {
	s := startSite(t, withTokens(t))
	cookie := withHeader("Cookie", s.cookieOf(annasToken))
	var who me
	s.want(http.StatusOK, "GET", "/api/me", "", &who, cookie)
	if who.User != "anna" || who.Role != "analyst" || who.SignIn != "token" {
		t.Errorf("me is %+v", who)
	}
	s.want(http.StatusNoContent, "POST", "/api/signout", `{}`, new(string), cookie)
	s.want(http.StatusUnauthorized, "GET", "/api/me", "", nil, cookie)
}

func TestForgedOrOldSessionIsNobody(t *testing.T) {
	s := startSite(t, withTokens(t))
	good := s.cookieOf(annasToken)
	u := s.desk.door.tokens.of(mustToken(t, annasToken))
	old := cookieName + "=" + s.desk.door.tokens.session(u.token, time.Now().Add(-time.Second))
	bent := good[:len(good)-3] + "AAA"
	for _, c := range []string{old, bent, cookieName + "=", cookieName + "=x", cookieName + "=" + strings.Repeat("A", 200)} {
		s.want(http.StatusUnauthorized, "GET", "/api/me", "", nil, withHeader("Cookie", c))
	}
}

func mustToken(t *testing.T, token string) tokenID {
	t.Helper()
	id, err := parseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestSessionOutlivesTheProcess(t *testing.T) {
	change := withTokens(t)
	dir := t.TempDir()
	both := func(c *Config) { change(c); c.Dir = dir }
	s := startSite(t, both)
	cookie := s.cookieOf(annasToken)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s.begin(both)
	s.want(http.StatusOK, "GET", "/api/me", "", nil, withHeader("Cookie", cookie))
}

func TestTokenThatIsRevokedEndsItsStreamsAtOnce(t *testing.T) {
	var file string
	change := withTokens(t)
	s := startSite(t, func(c *Config) { change(c); file = c.TokensFile })
	c := s.call("c1")
	c.start()
	c.seen()
	cookie := withHeader("Cookie", s.cookieOf(annasToken))
	overview, view := s.stream("/api/live", cookie), s.stream("/api/calls/default/c1/live", cookie)
	bens := s.stream("/api/live", withToken(bensToken))
	overview.next("snapshot")
	view.next("snapshot")
	bens.next("snapshot")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(tokenLines, annasToken, "# ")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []*streaming{overview, view} {
		var why bye
		if err := json.Unmarshal(cut.next("bye").data, &why); err != nil || why.Code != "sign_in" {
			t.Errorf("bye is %+v, %v", why, err)
		}
		if _, open := <-cut.events; open {
			t.Error("the stream goes on after its bye")
		}
	}
	s.want(http.StatusUnauthorized, "GET", "/api/me", "", nil, cookie)
	c.find("f", 7, warning, time.Second)
	bens.next("delta") // his goes on
}

func TestRoleThatIsTakenAwayEndsTheStream(t *testing.T) {
	var file string
	change := withTokens(t)
	s := startSite(t, func(c *Config) { change(c); file = c.TokensFile })
	stream := s.stream("/api/live", withToken(bensToken))
	stream.next("snapshot")
	if err := os.WriteFile(file, []byte(strings.Replace(tokenLines, "ben analyst *", "ben viewer other-bank", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	stream.next("bye")
}

func TestTokensFileThatCannotBeReadAnyMoreChangesNothing(t *testing.T) {
	var file string
	change := withTokens(t)
	s := startSite(t, func(c *Config) { change(c); file = c.TokensFile })
	for _, broken := range []string{"too short a line", "short anna viewer *", annasToken + " anna king *"} {
		if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the fault to be found", func() bool { return s.desk.door.tokens.wrong() != nil })
		s.want(http.StatusOK, "GET", "/api/me", "", nil, withToken(annasToken))
		if err := s.desk.door.tokens.wrong(); strings.Contains(err.Error(), annasToken) {
			t.Errorf("the error shows a token: %v", err)
		}
	}
	if err := os.WriteFile(file, []byte(tokenLines), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file to be read", func() bool { return s.desk.door.tokens.wrong() == nil })
}

func TestGuessingTokensIsHeldBack(t *testing.T) {
	s := startSite(t, withTokens(t))
	for i := range triesFree {
		s.want(http.StatusUnauthorized, "POST", "/api/signin", fmt.Sprintf(`{"token":"wrong-0123456789-%d"}`, i), nil)
	}
	var wait struct {
		Code  string
		Retry int `json:"retry_s"`
	}
	s.want(http.StatusTooManyRequests, "POST", "/api/signin", `{"token":"`+annasToken+`"}`, &wait)
	if wait.Code != "rate" || wait.Retry < 1 || wait.Retry > 61 {
		t.Errorf("answer is %+v", wait)
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	s := startSite(t, nil)
	c := s.call("c1")
	c.start()
	c.seen()
	const path = "/api/calls/default/c1/actions"
	for name, how := range map[string]asking{
		"another origin":    withHeader("Origin", "https://evil.example"),
		"no origin to tell": withHeader("Origin", "null"),
		"said by fetch":     withHeader("Sec-Fetch-Site", "cross-site"),
		"a form":            withHeader("Content-Type", "text/plain"),
	} {
		var refused struct{ Code string }
		if status := s.ask("POST", path, `{"action":"scam"}`, &refused, how); status < 400 || refused.Code != "csrf" {
			t.Errorf("%s: %d %s", name, status, refused.Code)
		}
	}
	own := strings.TrimPrefix(s.http.URL, "http://")
	s.want(http.StatusAccepted, "POST", path, `{"action":"scam"}`, nil, withHeader("Origin", "http://"+own), withHeader("Sec-Fetch-Site", "same-origin"))
	s.want(http.StatusForbidden, "GET", "/api/me", "", nil, withHeader("Sec-Fetch-Site", "cross-site"))
	// A name of somebody else that leads to this machine.
	s.want(http.StatusForbidden, "GET", "/api/me", "", nil, func(r *http.Request) { r.Host = "rebound.example:8080" })
	s.want(http.StatusOK, "GET", "/api/me", "", nil, func(r *http.Request) { r.Host = "localhost:8080" })
}

func TestOpenDeskIsOpenToThisMachineOnly(t *testing.T) {
	d := &door{cfg: DefaultConfig()}
	for addr, in := range map[string]bool{
		"127.0.0.1:1000": true, "[::1]:1000": true, "[::ffff:127.0.0.1]:1000": true,
		"192.0.2.1:1000": false, "[2001:db8::1]:1000": false, "": false,
	} {
		r, err := http.NewRequest(http.MethodGet, "http://localhost/api/me", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = addr
		u, err := d.who(r, time.Now())
		if (err == nil) != in {
			t.Errorf("from %q: %v", addr, err)
		}
		if in && (u.role != admin || !u.sees("any")) {
			t.Errorf("from %q: %+v", addr, u)
		}
	}
}

func TestProxySaysWhoSomebodyIs(t *testing.T) {
	s := startSite(t, func(c *Config) { c.Proxy.Networks = []string{"127.0.0.0/8"} })
	s.want(http.StatusUnauthorized, "GET", "/api/me", "", nil)
	s.want(http.StatusForbidden, "GET", "/api/me", "", nil, withHeader("X-Remote-User", "eve"))
	s.want(http.StatusForbidden, "GET", "/api/me", "", nil, withHeader("X-Remote-User", "eve"), withHeader("X-Remote-Role", "king"), withHeader("X-Remote-Tenants", "*"))
	var who me
	s.want(http.StatusOK, "GET", "/api/me", "", &who, withHeader("X-Remote-User", "eve"), withHeader("X-Remote-Role", "analyst"), withHeader("X-Remote-Tenants", "a, b"))
	if who.User != "eve" || who.Role != "analyst" || len(who.Tenants) != 2 || who.SignIn != "proxy" {
		t.Errorf("me is %+v", who)
	}
}

func TestHeadersOfOthersThanTheProxyCountForNothing(t *testing.T) {
	change := withTokens(t)
	s := startSite(t, func(c *Config) { change(c); c.Proxy.Networks = []string{"192.0.2.0/24"} })
	s.want(http.StatusUnauthorized, "GET", "/api/me", "", nil, withHeader("X-Remote-User", "eve"), withHeader("X-Remote-Role", "admin"), withHeader("X-Remote-Tenants", "*"))
	s.want(http.StatusOK, "GET", "/api/me", "", nil, withToken(annasToken), withHeader("X-Remote-User", "eve"), withHeader("X-Remote-Role", "admin"))
}

func TestAuditLogSaysWhoLookedAtWhichCall(t *testing.T) {
	s := startSite(t, withTokens(t))
	c := s.call("c1")
	c.start()
	c.seen()
	for range 3 { // one look
		s.want(http.StatusOK, "GET", "/api/calls/default/c1", "", nil, withToken(viewsToken))
	}
	s.want(http.StatusAccepted, "POST", "/api/calls/default/c1/actions", `{"action":"note","note":"a secret"}`, nil, withToken(annasToken))
	s.want(http.StatusForbidden, "GET", "/api/audit", "", nil, withToken(viewsToken))
	var log struct{ Entries []entry }
	s.want(http.StatusOK, "GET", "/api/audit", "", &log, withToken(adminToken))
	var did []string
	for _, e := range log.Entries {
		did = append(did, e.Who+" "+e.What+" "+e.Call)
		if e.From != "127.0.0.1" || e.When == 0 {
			t.Errorf("entry is %+v", e)
		}
	}
	if want := []string{"vera refused ", "anna note c1", "vera looked c1"}; strings.Join(did, "|") != strings.Join(want, "|") {
		t.Errorf("audit log is %q, want %q", did, want)
	}
	file, err := os.ReadFile(filepath.Join(s.desk.cfg.Dir, auditFile))
	if err != nil || strings.Contains(string(file), "secret") {
		t.Errorf("the file is %s, %v", file, err)
	}
	if info, err := os.Stat(filepath.Join(s.desk.cfg.Dir, auditFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
}

func TestTokenLinesAreChecked(t *testing.T) {
	good := strings.Repeat("a", 16)
	hash := "sha256:" + strings.Repeat("0", 64)
	for text, want := range map[string]string{
		good + " anna viewer a,b\n\n# nobody\n" + hash + " ben admin *": "",
		"short anna viewer *":                                  "line 1: the token must have at least 16",
		good + " anna viewer":                                  "line 1: has 3 fields",
		good + " anna king *":                                  `line 1: role "king"`,
		good + " anna viewer ,":                                "line 1: has no tenant",
		"# \n" + good + " \x07 viewer *":                       "line 2: the user's name",
		"sha256:00 anna viewer *":                              "line 1: sha256",
		"sha256:" + strings.Repeat("0", 66) + " anna viewer *": "line 1: sha256",
		good + " a viewer *\n" + good + " b viewer *":          "line 2: the token is there already",
	} {
		users, err := readTokens([]byte(text))
		switch {
		case want == "" && (err != nil || len(users) != 2):
			t.Errorf("%q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), good)):
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzReadTokens(f *testing.F) {
	f.Add([]byte(tokenLines))
	f.Add([]byte("sha256:" + strings.Repeat("0", 64) + " ben admin *"))
	f.Add([]byte("# \n\n x y z"))
	f.Add([]byte("sha256:" + strings.Repeat("0", 66) + " 0 viewer *"))
	f.Fuzz(func(t *testing.T, data []byte) {
		users, err := readTokens(data)
		if err != nil && users != nil {
			t.Fatal("users of a file that is none")
		}
		for id, u := range users {
			if u.role == nobody || len(u.tenants) == 0 || !plainName(u.name) || u.token != id {
				t.Fatalf("let in is %+v", u)
			}
		}
	})
}
