package trypage

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, path string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	r.Header = header
	Handler(About{WHIP: true, Listen: "screen", Notice: 1, Warning: 6, Critical: 12}).ServeHTTP(w, r)
	return w
}

func TestThePageLoadsNothingFromElsewhere(t *testing.T) {
	entries, err := fs.ReadDir(web, "web")
	if err != nil {
		t.Fatal(err)
	}
	refers := regexp.MustCompile(`(?i)(?:src|href|url|import|from|fetch)\s*[=(]?\s*["'(]?(?:https?:)?//[^"')\s]+`)
	inline := regexp.MustCompile(`(?i)<script(?:>| [^>]*[^>]>\s*\S[^<]*</script)|<style|\sstyle=|\son[a-z]+=`)
	for _, e := range entries {
		data, err := fs.ReadFile(web, "web/"+e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if found := refers.FindString(string(data)); found != "" {
			t.Errorf("%s refers to %s", e.Name(), found)
		}
		if found := inline.FindString(string(data)); found != "" && strings.HasSuffix(e.Name(), ".html") {
			t.Errorf("%s has script or style of its own, which the policy forbids: %s", e.Name(), found)
		}
	}
	for _, path := range []string{"/try/", "/try/main.js", "/try/calls/fraud-code.wav", "/try/none"} {
		policy := get(t, "GET", path, nil).Header().Get("Content-Security-Policy")
		for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, rule) {
				t.Errorf("%s: the policy %q lacks %q", path, policy, rule)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy %q allows what is unsafe", path, policy)
		}
	}
}

func TestThePageIsServedWithTypesAndTags(t *testing.T) {
	for path, want := range map[string]string{
		"/try/": "text/html; charset=utf-8", "/try/index.html": "text/html; charset=utf-8", "/try/try.css": "text/css; charset=utf-8",
		"/try/main.js": "text/javascript; charset=utf-8", "/try/icon.svg": "image/svg+xml",
		"/try/about.json": "application/json", "/try/calls/boiler.wav": "audio/wav",
	} {
		r := get(t, "GET", path, nil)
		if r.Code != http.StatusOK || r.Header().Get("Content-Type") != want {
			t.Errorf("%s: %d, %s; want %s", path, r.Code, r.Header().Get("Content-Type"), want)
		}
		again := get(t, "GET", path, http.Header{"If-None-Match": {r.Header().Get("ETag")}})
		if again.Code != http.StatusNotModified {
			t.Errorf("%s asked for again: %d", path, again.Code)
		}
	}
	for path, method := range map[string]string{"/try/../trypage.go": "GET", "/try/calls/": "GET", "/try/web/index.html": "GET"} {
		if r := get(t, method, path, nil); r.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, r.Code)
		}
	}
	if r := get(t, "POST", "/try/", nil); r.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", r.Code)
	}
}

func TestThePageKnowsTheServiceItBelongsTo(t *testing.T) {
	var got struct {
		About
		Recordings []recording `json:"recordings"`
	}
	if err := json.NewDecoder(get(t, "GET", "/try/about.json", nil).Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if !got.WHIP || got.Listen != "screen" || got.Warning != 6 || len(got.Recordings) != len(recordings) {
		t.Errorf("the page is told %+v", got)
	}
	for _, r := range got.Recordings {
		if answer := get(t, "GET", "/try/calls/"+r.Name, nil); answer.Code != http.StatusOK {
			t.Errorf("%s is named and not there: %d", r.Name, answer.Code)
		}
	}
}
