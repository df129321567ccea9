// Package trypage is the page at /try/: somebody talks into a microphone, or
// plays a recording, and sees what callwarden hears, finds and advises. The
// audio goes in by WHIP and the events come back over the same connection's
// data channel, so the page is also an example of how a page of one's own does
// it. Nothing of it is built, and nothing comes from elsewhere.
//
//	GET /try/              the page; its modules and style are beside it
//	GET /try/about.json    [About], and the recordings that there are
//	GET /try/calls/NAME    a recording, WAV
package trypage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/callwarden/callwarden/testdata"
)

//go:embed web
var web embed.FS

// Path is where the page is.
const Path = "/try/"

// About is what the page has to know of the service that it belongs to.
type About struct {
	// WHIP says whether calls come in by WHIP; else the page says which key to
	// set.
	WHIP bool `json:"whip"`
	// Listen is how calls are listened to unless they ask for another way: full
	// or screen.
	Listen string `json:"listen"`
	// The lowest score of each level.
	Notice   float64 `json:"notice"`
	Warning  float64 `json:"warning"`
	Critical float64 `json:"critical"`
}

// recording is a call of our own that the page can play.
type recording struct {
	Name  string `json:"name"` // below calls/
	Title string `json:"title"`
	file  string
}

var recordings = [...]recording{
	{"fraud-code.wav", "Fraud: the “security department” wants the code", "calls/fraud-code.wav"},
	{"fraud-giftcards.wav", "Fraud: a debt to be paid in gift cards", "calls/fraud-giftcards.wav"},
	{"fraud-remote.wav", "Fraud: a “technician” wants into the computer", "calls/fraud-remote.wav"},
	{"boiler.wav", "Honest: the boiler is to be serviced", "ordinary/boiler.wav"},
	{"table.wav", "Honest: a table is booked", "ordinary/table.wav"},
}

// policy lets the page load what is beside it and nothing else, and be shown
// in no other page: what is spoken into a microphone is at stake.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is an answer that never changes.
type file struct {
	name, contentType, etag string
	data                    []byte
}

// Handler serves the page and what belongs to it below [Path].
func Handler(about About) http.Handler {
	files, err := collect(about)
	if err != nil {
		panic(fmt.Sprintf("the page %s is not in the program: %v", Path, err)) // it was built without it
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Permissions-Policy", "microphone=(self), camera=(), geolocation=()")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		f, ok := files[strings.TrimPrefix(r.URL.Path, Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "this page is only read", http.StatusMethodNotAllowed)
			return
		}
		h.Set("Content-Type", f.contentType)
		h.Set("Cache-Control", "no-cache") // ask each time whether it is still this one
		h.Set("ETag", f.etag)
		http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.data))
	})
}

// contentTypes of what is embedded; those of the system may differ.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".json": "application/json",
	".wav":  "audio/wav",
}

// collect has every file by its path below Path.
func collect(about About) (map[string]file, error) {
	files := make(map[string]file)
	add := func(name string, data []byte) {
		sum := sha256.Sum256(data)
		files[name] = file{
			name: path.Base(name), contentType: contentTypes[path.Ext(name)], data: data,
			etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
		}
	}
	entries, err := fs.ReadDir(web, "web")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := fs.ReadFile(web, "web/"+e.Name())
		if err != nil {
			return nil, err
		}
		add(e.Name(), data)
	}
	files[""] = files["index.html"]
	for _, r := range recordings {
		data, err := fs.ReadFile(testdata.Calls, r.file)
		if err != nil {
			return nil, err
		}
		add("calls/"+r.Name, data)
	}
	data, err := json.Marshal(struct {
		About
		Recordings []recording `json:"recordings"`
	}{about, recordings[:]})
	if err != nil {
		return nil, err
	}
	add("about.json", data)
	return files, nil
}
