package whipsrc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pion/webrtc/v4"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/join"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Path is where publications are posted; a publication is below it.
const Path = "/v1/whip"

const (
	typeSDP      = "application/sdp"
	typeFragment = "application/trickle-ice-sdpfrag"
)

// Handler is the WHIP endpoint (RFC 9725), for a server's root:
//
//	POST    /v1/whip            an SDP offer: 201 with the answer, Location and ETag
//	OPTIONS /v1/whip            what is taken; CORS preflight
//	PATCH   /v1/whip/{session}  more candidates: 204; or an ICE restart: 200
//	DELETE  /v1/whip/{session}  ends the publication: 200
//
// Errors are problem details (RFC 9457): 400 for what cannot be read, 401 and
// 403 for who may not, 406 and 422 for offers that cannot be taken, 404, 405,
// 412, 413, 415, 428, and 503 with Retry-After for want of room.
func (s *Source) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, endpoint := range []string{Path, Path + "/{$}"} {
		mux.HandleFunc("POST "+endpoint, s.post)
		mux.HandleFunc("OPTIONS "+endpoint, s.options)
		mux.HandleFunc(endpoint, s.wrongMethod("OPTIONS, POST"))
	}
	mux.HandleFunc("PATCH "+Path+"/{session}", s.patch)
	mux.HandleFunc("DELETE "+Path+"/{session}", s.remove)
	mux.HandleFunc("OPTIONS "+Path+"/{session}", s.options)
	mux.HandleFunc(Path+"/{session}", s.wrongMethod("DELETE, OPTIONS, PATCH"))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if no := s.origin(w, r); no != nil {
			s.refuse(w, r, no)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// origin gives pages of other sites their CORS headers, or refuses them. Pages
// of this server, and who is no page, need none.
func (s *Source) origin(w http.ResponseWriter, r *http.Request) *refusal {
	from := r.Header.Get("Origin")
	if from == "" {
		return nil
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	if u, err := url.Parse(from); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	if !slices.Contains(s.cfg.Origins, from) && !slices.Contains(s.cfg.Origins, "*") {
		return refuse(http.StatusForbidden, "pages of this origin may not publish: it is none of the configuration's origins")
	}
	h.Set("Access-Control-Allow-Origin", from)
	h.Set("Access-Control-Expose-Headers", "Location, ETag, Link, Retry-After")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "POST, PATCH, DELETE, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, "+aboutHeader)
		h.Set("Access-Control-Max-Age", "600")
	}
	return nil
}

// options says what is taken, RFC 9725 section 4.2, and to those who may publish
// the servers by which they reach us: a page wants them before it makes its
// offer. A preflight of CORS never shows its token, and gets no more than an
// answer.
func (s *Source) options(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if preflight := r.Header.Get("Access-Control-Request-Method") != ""; !preflight {
		_, no := s.enter(r)
		if no != nil && r.Header.Get("Authorization") != "" {
			s.refuse(w, r, no)
			return
		}
		if no == nil && len(s.links) > 0 {
			h["Link"] = s.links
		}
	}
	if r.PathValue("session") == "" {
		h.Set("Accept-Post", typeSDP)
		h.Set("Allow", "OPTIONS, POST")
	} else {
		h.Set("Accept-Patch", typeFragment)
		h.Set("Allow", "DELETE, OPTIONS, PATCH")
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Source) wrongMethod(allow string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		s.refuse(w, r, refuse(http.StatusMethodNotAllowed, "%.10s is not of WHIP here: use %s", r.Method, allow))
	}
}

// post takes a publication.
func (s *Source) post(w http.ResponseWriter, r *http.Request) {
	tenant, no := s.enter(r)
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	body, no := read(w, r, typeSDP, maxOffer)
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	p, answer, no := s.publish(r, tenant, body)
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	h := w.Header()
	h.Set("Content-Type", typeSDP)
	h.Set("Location", Path+"/"+p.id)
	h.Set("ETag", p.etag)
	h.Set("Cache-Control", "no-store")
	if len(s.links) > 0 {
		h["Link"] = s.links
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer) // who has gone does not connect
	p.expect(s.cfg.ConnectTimeout)
}

// publish begins what an offer describes, and returns the answer once somebody
// listens.
func (s *Source) publish(r *http.Request, tenant string, body []byte) (*publication, string, *refusal) {
	about, err := parsePublish(r)
	if err != nil {
		return nil, "", &refusal{http.StatusBadRequest, err}
	}
	switch {
	case tenant == "":
		tenant = s.cfg.Tenant
		if about.Tenant != "" {
			tenant = about.Tenant
		}
	case about.Tenant != "" && about.Tenant != tenant:
		return nil, "", refuse(http.StatusForbidden, "tenant: the bearer token is of another tenant")
	}
	o, no := parseOffer(body)
	if no != nil {
		return nil, "", no
	}
	p, no := s.newPublication(tenant, about, o)
	if no != nil {
		return nil, "", no
	}
	handle, no := s.room(p)
	if no != nil {
		return nil, "", no
	}
	answer, no := p.answer(r.Context(), o)
	if no != nil {
		s.forget(p)
		if p.conn != nil {
			close(p.released)
			p.close()
		}
		s.group.Done()
		return nil, "", no
	}
	return p, answer, s.begin(r.Context(), p, handle)
}

// room takes a publication in, and one into the group for its connection.
func (s *Source) room(p *publication) (source.Handler, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.handle == nil || s.ctx.Err() != nil:
		return nil, refuse(http.StatusServiceUnavailable, "no calls are taken at the moment")
	case len(s.publications) >= s.cfg.Publications:
		s.count.refused.Add(1)
		return nil, refuse(http.StatusServiceUnavailable, "there are %d publications, as many as are taken", s.cfg.Publications)
	}
	s.publications[p.id] = p
	s.group.Add(1)
	return s.handle, nil
}

// forget takes a publication out; what it counted stays.
func (s *Source) forget(p *publication) {
	s.mu.Lock()
	_, known := s.publications[p.id]
	delete(s.publications, p.id)
	s.mu.Unlock()
	if known {
		s.count.mu.Lock()
		s.count.gone.Add(p.stats())
		s.count.mu.Unlock()
	}
}

// begin has the publication heard, in a call of its own or in one that waits for
// it, and closes it when it has ended. A call that is complete is refused here
// where nobody listens, or where who asked has gone.
func (s *Source) begin(asking context.Context, p *publication, handle source.Handler) *refusal {
	s.mu.Lock()
	ctx := s.ctx
	s.mu.Unlock()
	go func() { // of the group, which Serve waits for
		defer s.group.Done()
		<-p.ended
		s.forget(p)
		p.close()
	}()
	at := join.Place{Tenant: p.tenant, Call: p.about.Call.Call, Leg: p.legs[0].leg, Two: p.about.two() && len(p.legs) == 1}
	if at.Call == "" {
		at.Call = announce.NewID(Name)
	}
	j, leads := s.calls.Join(at, p)
	if !leads {
		return nil
	}
	if at.Call != j.ID() {
		s.log.Warn("publication came too late for its call, or twice: heard by itself", "source", Name, "call", j.ID())
	}
	admitted, done := make(chan struct{}), make(chan error, 1)
	tell := sync.OnceFunc(func() { close(admitted) })
	s.mu.Lock()
	s.group.Add(1) // p's own keeps it from being empty
	s.mu.Unlock()
	go func() {
		defer s.group.Done()
		done <- s.lead(ctx, j, handle, tell)
	}()
	if at.Two && at.Leg != audio.Unknown && at.Call == j.ID() {
		return nil // the other page may take seconds: a refusal ends the connection
	}
	select {
	case <-admitted:
		return nil
	case <-asking.Done():
		p.end(nil)
		return &refusal{http.StatusServiceUnavailable, asking.Err()}
	case err := <-done:
		select {
		case <-admitted:
			return nil // and over already
		default:
		}
		if errors.Is(err, source.ErrBusy) {
			return refuse(http.StatusServiceUnavailable, "there is no room for another call")
		}
		if err != nil {
			return refuse(http.StatusServiceUnavailable, "the call cannot be listened to")
		}
		return refuse(http.StatusForbidden, "this call is not listened to")
	}
}

// patch takes candidates, or restarts ICE, RFC 9725 section 4.3.
func (s *Source) patch(w http.ResponseWriter, r *http.Request) {
	p, no := s.session(r)
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	body, no := read(w, r, typeFragment, maxFragment)
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	f, err := parseFragment(body)
	if err != nil {
		s.refuse(w, r, &refusal{http.StatusBadRequest, err})
		return
	}
	restarted, no := p.trickle(r, f)
	switch {
	case no != nil:
		s.refuse(w, r, no)
	case restarted == "":
		w.WriteHeader(http.StatusNoContent)
	default:
		h := w.Header()
		h.Set("Content-Type", typeFragment)
		h.Set("ETag", p.etagNow())
		h.Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, restarted)
	}
}

func (p *publication) etagNow() string {
	p.signal.Lock()
	defer p.signal.Unlock()
	return p.etag
}

// trickle adds the candidates of f, after a restart where its credentials are
// new ones; then it returns our side of it.
func (p *publication) trickle(r *http.Request, f *fragment) (restarted string, no *refusal) {
	p.signal.Lock()
	defer p.signal.Unlock()
	match := r.Header.Get("If-Match")
	ufrag, pwd := credentials(p.offer)
	restart := f.ufrag != "" && (f.ufrag != ufrag || f.pwd != pwd)
	switch {
	case match == "":
		return "", refuse(http.StatusPreconditionRequired, "If-Match is missing: the ETag of the ICE session, or * to restart it")
	case match != "*" && match != p.etag:
		return "", refuse(http.StatusPreconditionFailed, "If-Match is not the ETag of the ICE session")
	case p.heard+len(f.candidates) > maxCandidates:
		return "", refuse(http.StatusUnprocessableEntity, "more than %d candidates in all", maxCandidates)
	}
	if restart {
		renewed := renew(p.offer, f)
		if err := p.conn.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: renewed}); err != nil {
			return "", refuse(http.StatusUnprocessableEntity, "ICE cannot be restarted: %w", err)
		}
		answer, no := p.describe(r.Context())
		if no != nil {
			return "", no
		}
		p.offer, p.etag, p.heard = renewed, newETag(), 0
		ufrag, restarted = f.ufrag, write(answer)
	}
	for _, c := range f.candidates {
		p.heard++
		// One that we cannot use is passed over, as section 4.3.2 wants it.
		if p.conn.AddICECandidate(c.init(ufrag)) != nil {
			p.src.count.malformed.Add(1)
		}
	}
	return restarted, nil
}

// remove ends a publication.
func (s *Source) remove(w http.ResponseWriter, r *http.Request) {
	p, no := s.session(r)
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	p.end(nil)
	s.forget(p)
	w.WriteHeader(http.StatusOK)
}

// session is the publication that r is about, if its bearer may.
func (s *Source) session(r *http.Request) (*publication, *refusal) {
	tenant, no := s.enter(r)
	if no != nil {
		return nil, no
	}
	s.mu.Lock()
	p := s.publications[r.PathValue("session")]
	s.mu.Unlock()
	switch {
	case p == nil:
		return nil, refuse(http.StatusNotFound, "there is no such publication, or no more")
	case tenant != "" && p.tenant != tenant:
		return nil, refuse(http.StatusForbidden, "the bearer token is of another tenant")
	}
	return p, nil
}

// enter is the tenant of r's bearer token; empty where there are no tokens.
func (s *Source) enter(r *http.Request) (tenant string, no *refusal) {
	tenant, wrong, err := s.tokens.tenant(r)
	if wrong != nil {
		s.log.Error("the tokens have changed and cannot be read: the old ones count", "source", Name, "err", wrong)
	}
	if err != nil {
		return "", &refusal{http.StatusUnauthorized, err}
	}
	return tenant, nil
}

// read is the body of r, which has to be of that type.
func read(w http.ResponseWriter, r *http.Request, kind string, limit int64) ([]byte, *refusal) {
	if got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || got != kind {
		return nil, refuse(http.StatusUnsupportedMediaType, "the body must have Content-Type %s", kind)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, refuse(http.StatusRequestEntityTooLarge, "the body must be at most %d bytes", limit)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "the body did not come: %w", err)
	}
	return body, nil
}

// refuse answers with the reason, counts it and logs it once.
func (s *Source) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	h := w.Header()
	switch no.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
		s.count.stranger.Add(1)
	case http.StatusForbidden:
		s.count.stranger.Add(1)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(int(s.cfg.RetryAfter.Seconds())))
	default:
		s.count.malformed.Add(1)
	}
	if ok, held := s.told.pass(); ok {
		s.log.Warn("request refused", "source", Name, "method", r.Method, "status", no.status, "err", no.why, "more", held)
	}
	body, err := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(no.status), no.status, no.Error()})
	if err != nil { // three plain fields: a wiring fault
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(no.status)
	_, _ = fmt.Fprintf(w, "%s\n", body) // the asker may have gone
}

// newSecret names a publication: who knows it may end it where no tokens are
// asked for.
func newSecret() string { return strings.ToLower(rand.Text()) }

// newETag is a strong entity tag, RFC 9110 section 8.8.3.
func newETag() string { return `"` + strings.ToLower(rand.Text()) + `"` }
