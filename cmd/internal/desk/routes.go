package desk

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/board"
	"github.com/callwarden/callwarden/cmd/internal/desk/web"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
)

// Handler answers for the page and its API. It is to be mounted at the root.
func (d *Desk) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { d.file(w, r, "index.html") })
	mux.HandleFunc("GET /web/{name...}", func(w http.ResponseWriter, r *http.Request) { d.file(w, r, r.PathValue("name")) })
	mux.HandleFunc("POST /api/signin", d.answer(nobody, d.signIn))
	mux.HandleFunc("POST /api/signout", d.answer(nobody, d.signOut))
	for pattern, route := range map[string]struct {
		needs role
		do    answerer
	}{
		"GET /api/me":                              {viewer, d.me},
		"GET /api/live":                            {viewer, d.live},
		"GET /api/calls/{tenant}/{id}":             {viewer, d.call},
		"GET /api/calls/{tenant}/{id}/live":        {viewer, d.callLive},
		"GET /api/calls/{tenant}/{id}/segments":    {viewer, d.segments},
		"GET /api/calls/{tenant}/{id}/export.json": {analyst, d.exportCall},
		"GET /api/calls/{tenant}/{id}/export.txt":  {analyst, d.evidence},
		"POST /api/calls/{tenant}/{id}/actions":    {analyst, d.act},
		"POST /api/calls/{tenant}/{id}/prompt":     {analyst, d.prompt},
		"GET /api/history":                         {viewer, d.search},
		"GET /api/history/days":                    {viewer, d.days},
		"GET /api/history/day/{day}":               {viewer, d.day},
		"GET /api/history/export.json":             {analyst, d.exportJSON},
		"GET /api/history/export.csv":              {analyst, d.exportCSV},
		"POST /api/history/delete":                 {admin, d.deleteByNumber},
		"DELETE /api/history/calls/{tenant}/{id}":  {admin, d.deleteCall},
		"GET /api/audit":                           {admin, d.auditLog},
	} {
		mux.HandleFunc(pattern, d.answer(route.needs, route.do))
	}
	return mux
}

// answerer answers a request of u. What it returns is told as JSON, unless it
// has begun to answer.
type answerer func(w http.ResponseWriter, r *http.Request, u *user) error

// answer lets in who may do this; where needs is nobody, everybody.
func (d *Desk) answer(needs role, do answerer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		guard(w)
		w.Header().Set("Cache-Control", "no-store")
		var u *user
		err := sameSite(r, d.door.host(r))
		if err == nil && needs != nobody {
			u, err = d.door.who(r, d.now())
			if err == nil && u.role < needs {
				err = refuse(http.StatusForbidden, "role", "this needs the role %s, and yours is %s", needs, u.role)
				d.note(r, u, entry{What: "refused", Detail: r.Method + " " + r.Pattern})
			}
		}
		if err == nil {
			err = do(w, r, u)
		}
		if err != nil {
			d.tell(w, err)
		}
	}
}

// guard sets what protects the page and those who look at it.
func guard(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", web.Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), usb=()")
}

func (d *Desk) tell(w http.ResponseWriter, err error) {
	var f *fault
	switch {
	case errors.As(err, &f):
	case errors.Is(err, errDamaged), errors.Is(err, errClosed):
		f = refuse(http.StatusServiceUnavailable, "busy", "the history cannot be read at the moment; try again")
		d.log.Warn("the desk cannot answer", "err", err)
	default:
		f = refuse(http.StatusInternalServerError, "busy", "the desk could not do this; its log says why")
		d.log.Error("the desk cannot answer", "err", err)
	}
	body := map[string]any{"error": f.text, "code": f.code}
	if f.code == "sign_in" {
		body["signin"] = d.door.way()
	}
	maps.Copy(body, f.extra)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(body) // the browser may be gone
}

// zipFrom is the size from which deflating an answer pays.
const zipFrom = 1400 // bytes: what fits one packet is no faster

// send answers with v as JSON.
func (d *Desk) send(w http.ResponseWriter, r *http.Request, status int, v any) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if len(b) < zipFrom || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.WriteHeader(status)
		_, _ = w.Write(b) // the browser may be gone
		return nil
	}
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	_, _ = zip.Write(b)
	_ = zip.Close()
	return nil
}

// file is one of the page's, ready to be sent.
type file struct {
	kind, tag  string
	plain, zip []byte
}

func readFiles() (map[string]file, error) {
	files := make(map[string]file)
	err := fs.WalkDir(web.Files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(web.Files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		f := file{kind: mime.TypeByExtension(path.Ext(name)), tag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, plain: b}
		if kind := kinds[path.Ext(name)]; kind != "" {
			f.kind = kind // whatever the machine's own table says
		}
		var z bytes.Buffer
		w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		if z.Len() < len(b) {
			f.zip = z.Bytes()
		}
		files[name] = f
		return nil
	})
	return files, err
}

var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// file sends one of the page's files. They say nothing of any call, and need
// nobody to be signed in.
func (d *Desk) file(w http.ResponseWriter, r *http.Request, name string) {
	guard(w)
	f, ok := d.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", f.kind)
	h.Set("Vary", "Accept-Encoding")
	tag := f.tag
	body := f.plain
	if f.zip != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		tag = strings.TrimSuffix(tag, `"`) + `-z"`
		body = f.zip
	}
	h.Set("ETag", tag)
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the browser may be gone
}

// note writes into the audit log.
func (d *Desk) note(r *http.Request, u *user, e entry) {
	if d.audit != nil {
		d.audit.write(d.entry(r, u, e))
	}
}

// look writes that somebody looks at a call.
func (d *Desk) look(r *http.Request, u *user, key board.Key) {
	if d.audit != nil {
		d.audit.look(d.entry(r, u, entry{What: "looked", Tenant: key.Tenant, Call: key.Call}))
	}
}

func (d *Desk) entry(r *http.Request, u *user, e entry) entry {
	e.When, e.From = d.millis(), peer(r).String()
	if u != nil {
		e.Who = u.name
	}
	return e
}

type me struct {
	User    string       `json:"user"`
	Role    string       `json:"role"`
	Tenants []string     `json:"tenants"`
	SignIn  string       `json:"signin"`
	Version string       `json:"version,omitempty"`
	Keep    int          `json:"keep_s"`
	Days    int          `json:"days"`
	History bool         `json:"history"`
	Notices []string     `json:"notices,omitempty"`
	Now     board.Millis `json:"now"`
}

func (d *Desk) meOf(u *user) me {
	m := me{
		User: u.name, Role: u.role.String(), Tenants: u.tenants, SignIn: d.door.way(), Version: d.from.Version,
		Keep: int(d.cfg.Keep.Seconds()), Days: d.cfg.Days, History: d.store != nil, Now: d.millis(),
	}
	if d.store != nil {
		m.Notices = d.store.notes()
	}
	return m
}

func (d *Desk) me(w http.ResponseWriter, r *http.Request, u *user) error {
	return d.send(w, r, http.StatusOK, d.meOf(u))
}

func (d *Desk) signIn(w http.ResponseWriter, r *http.Request, _ *user) error {
	var in struct {
		Token string `json:"token"`
	}
	if err := decode(w, r, &in); err != nil {
		return err
	}
	if d.door.tokens == nil {
		return refuse(http.StatusNotFound, "not_found", "nobody signs in here with a token")
	}
	u, err := d.door.bearer(r, strings.TrimSpace(in.Token), d.now())
	if err != nil {
		d.note(r, nil, entry{What: "sign-in refused"})
		return err
	}
	d.note(r, u, entry{What: "signed in"})
	http.SetCookie(w, d.cookie(r, d.door.tokens.session(u.token, d.now().Add(d.cfg.Session)), int(d.cfg.Session.Seconds())))
	return d.send(w, r, http.StatusOK, d.meOf(u))
}

func (d *Desk) cookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: d.door.secure(r), SameSite: http.SameSiteStrictMode,
	}
}

func (d *Desk) signOut(w http.ResponseWriter, r *http.Request, _ *user) error {
	if c, err := r.Cookie(cookieName); err == nil && d.door.tokens != nil {
		if u := d.door.tokens.resume(c.Value, d.now()); u != nil {
			d.door.tokens.end(c.Value, d.now(), d.cfg.Session)
			d.note(r, u, entry{What: "signed out"})
		}
	}
	http.SetCookie(w, d.cookie(r, "", -1))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// key is the call that a request names, where u may see it. That there is a
// call of another tenant is not told.
func (d *Desk) key(r *http.Request, u *user) (board.Key, error) {
	key := board.Key{Tenant: r.PathValue("tenant"), Call: r.PathValue("id")}
	if !u.sees(key.Tenant) {
		d.note(r, u, entry{What: "refused", Tenant: key.Tenant, Call: key.Call})
		return key, errNotFound
	}
	return key, nil
}

// wholeCall is a call as it is sent.
type wholeCall struct {
	Now board.Millis `json:"now"`
	board.Call
	History bool `json:"history"` // it has left the board
}

func (d *Desk) call(w http.ResponseWriter, r *http.Request, u *user) error {
	key, err := d.key(r, u)
	if err != nil {
		return err
	}
	c, history, err := d.whole(key)
	if err != nil {
		return err
	}
	d.look(r, u, key)
	if n := len(c.Segments) - segmentsPage; history && n > 0 {
		c.Segments, c.Earlier = c.Segments[n:], n
	}
	return d.send(w, r, http.StatusOK, wholeCall{d.millis(), c, history})
}

const (
	segmentsPage = 500
	segmentsMost = 5000 // at once
)

func (d *Desk) segments(w http.ResponseWriter, r *http.Request, u *user) error {
	key, err := d.key(r, u)
	if err != nil {
		return err
	}
	before, err := count(r, "before", 1<<40, 1<<40)
	if err != nil {
		return err
	}
	limit, err := count(r, "limit", segmentsPage, segmentsMost)
	if err != nil {
		return err
	}
	var out struct {
		Segments []board.Segment `json:"segments"`
		Earlier  int             `json:"earlier"`
	}
	var ok bool
	if out.Segments, out.Earlier, ok = d.board.Segments(key, before, limit); !ok {
		c, _, err := d.whole(key)
		if err != nil {
			return err
		}
		to := 0
		for to < len(c.Segments) && c.Segments[to].N < before {
			to++
		}
		from := max(to-limit, 0)
		out.Segments, out.Earlier = c.Segments[from:to], from
	}
	d.look(r, u, key)
	return d.send(w, r, http.StatusOK, out)
}

// count is a number that a request's query says, from 0 to most.
func count(r *http.Request, name string, otherwise, most int) (int, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most {
		return 0, refuse(http.StatusBadRequest, "bad", "%s: must be a number from 0 to %d", name, most)
	}
	return n, nil
}

// noteMost bounds what somebody writes about a call.
const noteMost = 4000 // bytes

// act tells everybody what u did about a call.
func (d *Desk) act(w http.ResponseWriter, r *http.Request, u *user) error {
	key, err := d.key(r, u)
	if err != nil {
		return err
	}
	var in struct {
		Action string `json:"action"`
		Note   string `json:"note"`
		Undoes string `json:"undoes"`
	}
	if err := decode(w, r, &in); err != nil {
		return err
	}
	action, ok := board.ActionOf(in.Action)
	in.Note = strings.TrimSpace(in.Note)
	switch {
	case !ok || in.Action == "prompt_played":
		return refuse(http.StatusBadRequest, "bad", "action: %q is none that can be told", in.Action)
	case len(in.Note) > noteMost:
		return refuse(http.StatusBadRequest, "bad", "note: %d bytes must be at most %d", len(in.Note), noteMost)
	case in.Action == "note" && in.Note == "" && in.Undoes == "":
		return refuse(http.StatusBadRequest, "bad", "note: must not be empty")
	}
	c, _, err := d.whole(key)
	if err != nil {
		return err
	}
	if in.Undoes != "" && !undoable(c.Actions, in.Undoes, in.Action) {
		return refuse(http.StatusConflict, "bad", "there is no such action to take back, or somebody has taken it back already")
	}
	ev := board.Act{Key: key, Source: c.Row.Source, Who: u.name, Action: action, Note: in.Note, Undoes: in.Undoes, When: d.now()}.Event()
	if err := d.publish(r, ev); err != nil {
		return err
	}
	what := in.Action
	if in.Undoes != "" {
		what = "undone: " + what
	}
	d.note(r, u, entry{What: what, Tenant: key.Tenant, Call: key.Call})
	return d.send(w, r, http.StatusAccepted, map[string]string{"id": ev.ID})
}

func undoable(actions []board.Action, id, action string) bool {
	for _, a := range actions {
		if a.ID == id {
			return a.Action == action && a.Undone == 0
		}
	}
	return false
}

// prompt has something said into a call.
func (d *Desk) prompt(w http.ResponseWriter, r *http.Request, u *user) error {
	key, err := d.key(r, u)
	if err != nil {
		return err
	}
	var in struct {
		Prompt string `json:"prompt"`
	}
	if err := decode(w, r, &in); err != nil {
		return err
	}
	if in.Prompt == "" || len(in.Prompt) > 64 {
		return refuse(http.StatusBadRequest, "bad", "prompt: must be the name of one")
	}
	row := d.board.Row(key)
	switch {
	case row == nil:
		return errNotFound
	case row.State != board.Live:
		return refuse(http.StatusConflict, "bad", "the call is over")
	}
	d.note(r, u, entry{What: "prompt asked for", Tenant: key.Tenant, Call: key.Call, Detail: in.Prompt})
	var no natssink.Refusal
	switch err := natssink.Send(r.Context(), d.from.Connection, key.Tenant, key.Call, natssink.Command{Play: in.Prompt, Who: u.name}); {
	case errors.As(err, &no):
		return refuse(http.StatusConflict, "bad", "%s", string(no))
	case errors.Is(err, natssink.ErrNoAnswer):
		return refuse(http.StatusGatewayTimeout, "busy", "nobody answers for this call")
	case err != nil:
		return refuse(http.StatusServiceUnavailable, "nats_away", "the event server is away: %v", err)
	}
	return d.send(w, r, http.StatusOK, map[string]bool{"ok": true})
}

// publishWithin is how long what somebody does may take to be taken.
const publishWithin = 3 * time.Second

func (d *Desk) publish(r *http.Request, ev sink.Event) error {
	d.mu.Lock()
	out, state := d.out, d.nats
	d.mu.Unlock()
	if out == nil || state.state == "away" {
		return refuse(http.StatusServiceUnavailable, "nats_away", "the event server is away: %s; try again when it is back", state.why)
	}
	ctx, cancel := context.WithTimeout(r.Context(), publishWithin)
	defer cancel()
	if err := out.Publish(ctx, ev); err != nil {
		return fmt.Errorf("telling what was done: %w", err)
	}
	return nil
}
