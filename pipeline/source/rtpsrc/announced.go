package rtpsrc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Request asks for the ports of one call.
type Request struct {
	announce.Call
	Legs []RequestLeg `json:"legs"` // one or two, each another
}

// RequestLeg is one stream of the call.
type RequestLeg struct {
	Leg     announce.Leg `json:"leg"`
	Formats []string     `json:"formats,omitempty"` // as of [StaticLeg]
	Remote  string       `json:"remote,omitempty"`  // as of [StaticLeg]
	// SRTP is how the stream is encrypted, in the words of a=crypto (RFC 4568):
	// "1 AES_CM_128_HMAC_SHA1_80 inline:…". Empty where it is not.
	SRTP string `json:"srtp,omitempty"`
}

// Answer says where a call is heard.
type Answer struct {
	Call   string `json:"call"`
	Tenant string `json:"tenant"`
	// State is "waiting" until media comes, then "hearing"; "exempt" is a call
	// that is none of ours to hear, for which there are no ports.
	State string      `json:"state"`
	Legs  []AnswerLeg `json:"legs,omitempty"`
	// Packets came, of which Strange were from another address than the
	// expected one and not heard.
	Packets uint64 `json:"packets"`
	Strange uint64 `json:"strange"`
}

// AnswerLeg is one stream: RTP goes to Address, RTCP to the port after it.
type AnswerLeg struct {
	Leg     announce.Leg `json:"leg"`
	Address string       `json:"address"`
}

// announced is a call that was asked for.
type announced struct {
	Request
	id, tenant string
	session    *media.Session
	legs       []audio.Leg
	ports      []int
	admitted   chan struct{} // closed by the handler, when it listens
	over       chan struct{} // closed by hear, after err is set
	err        error
}

// path of the HTTP API.
const path = "/v1/rtp/calls"

// Handler is the HTTP API by which calls get their ports, for a server's root:
//
//	POST   /v1/rtp/calls         a [Request]: 201 and an [Answer] with the ports
//	GET    /v1/rtp/calls/{call}  an [Answer], or 404 when the call is over
//	DELETE /v1/rtp/calls/{call}  ends the call: 204 or 404
//
// POST answers 503 with Retry-After where there is no room, 409 for a call id
// that is in use, and 200 without ports for a call that is not to be heard.
// Errors are JSON with the field error.
func (s *Source) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+path, s.post)
	mux.HandleFunc("GET "+path+"/{call}", s.get)
	mux.HandleFunc("DELETE "+path+"/{call}", s.remove)
	return s.door.Guard(mux)
}

var (
	errTaken   = errors.New("a call with this id is heard already")
	errUnknown = errors.New("no such call is announced, or it is over")
	errAway    = errors.New("no calls are taken at the moment")
)

func (s *Source) post(w http.ResponseWriter, r *http.Request) {
	var req Request
	if !announce.Decode(w, r, &req) {
		return
	}
	streams, err := req.streams()
	if err != nil {
		announce.Refuse(w, http.StatusBadRequest, err)
		return
	}
	a, err := s.place(req, streams)
	if err != nil {
		refuse(w, err)
		return
	}
	select {
	case s.intake <- a:
	case <-time.After(time.Second): // nobody serves
		s.forget(a)
		refuse(w, errAway)
		return
	}
	select {
	case <-a.admitted:
	case <-a.over:
	case <-r.Context().Done(): // nobody will ever send to these ports
		a.session.End(errors.New("whoever announced the call went away"))
		return
	}
	select {
	case <-a.admitted:
	default:
		if a.err != nil {
			refuse(w, a.err)
			return
		}
		announce.Answer(w, http.StatusOK, Answer{Call: a.id, Tenant: a.tenant, State: "exempt"})
		return
	}
	w.Header().Set("Location", path+"/"+a.id)
	announce.Answer(w, http.StatusCreated, s.answer(a, r))
}

// refuse answers with why there is no call.
func refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errTaken):
		announce.Refuse(w, http.StatusConflict, err)
	case errors.Is(err, source.ErrBusy), errors.Is(err, errAway), errors.Is(err, context.Canceled):
		w.Header().Set("Retry-After", "10")
		announce.Refuse(w, http.StatusServiceUnavailable, err)
	default:
		announce.Refuse(w, http.StatusInternalServerError, err)
	}
}

// streams checks req. Its error names the field.
func (req *Request) streams() ([]media.StreamConfig, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if len(req.Legs) < 1 || len(req.Legs) > 2 {
		return nil, fmt.Errorf("legs: %d must be 1 or 2", len(req.Legs))
	}
	if len(req.Legs) == 2 && req.Legs[0].Leg == req.Legs[1].Leg {
		return nil, fmt.Errorf("legs[1].leg: %s must not be that of another leg", audio.Leg(req.Legs[1].Leg))
	}
	var all []media.StreamConfig
	for i, l := range req.Legs {
		cfg := media.StreamConfig{Leg: audio.Leg(l.Leg)}
		var err error
		if cfg.Formats, err = formats(l.Formats); err != nil {
			return nil, fmt.Errorf("legs[%d].formats: %w", i, err)
		}
		if cfg.Remote, err = remote(l.Remote); err != nil {
			return nil, fmt.Errorf("legs[%d].remote: %w", i, err)
		}
		if l.SRTP != "" {
			crypto, err := media.ParseCrypto(l.SRTP)
			if err != nil {
				return nil, fmt.Errorf("legs[%d].srtp: %w", i, err)
			}
			cfg.Receive = &crypto
		}
		all = append(all, cfg)
	}
	return all, nil
}

// place opens the ports of a call and keeps its id. An error wraps errTaken or
// source.ErrBusy, or is the machine's.
func (s *Source) place(req Request, streams []media.StreamConfig) (*announced, error) {
	a := &announced{
		Request: req, id: req.Call.Call, tenant: req.Tenant, session: s.ports.NewSession(s.log),
		admitted: make(chan struct{}), over: make(chan struct{}),
	}
	if a.id == "" {
		a.id = announce.NewID(Name)
	}
	if a.tenant == "" {
		a.tenant = s.cfg.Tenant
	}
	if err := s.keep(a); err != nil {
		return nil, err
	}
	for _, cfg := range streams {
		st, err := a.session.Add(cfg)
		if err != nil {
			s.forget(a)
			return nil, err
		}
		a.legs = append(a.legs, cfg.Leg)
		a.ports = append(a.ports, st.Port())
	}
	return a, nil
}

func (s *Source) keep(a *announced) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[a.id] != nil {
		return errTaken
	}
	if len(s.calls) >= s.cfg.Calls {
		s.count.Refused++
		return fmt.Errorf("%w: %d calls are announced", source.ErrBusy, len(s.calls))
	}
	s.calls[a.id] = a
	return nil
}

// forget ends a and gives its ports back.
func (s *Source) forget(a *announced) {
	err := a.session.Close()
	s.mu.Lock()
	s.count.Add(a.session.Stats())
	delete(s.calls, a.id)
	s.mu.Unlock()
	if err != nil {
		s.log.Warn("ports were not closed", "source", Name, "call", a.id, "err", err)
	}
}

// hear runs handle once for a.
func (s *Source) hear(ctx context.Context, a *announced, handle source.Handler) {
	defer close(a.over)
	defer s.forget(a)
	call := &source.Call{
		ID: a.id, Tenant: a.tenant, Source: Name,
		Legs: a.legs, Attributes: make(map[string]string), Began: a.session.Began(), Live: true,
		Audio: a.session, Admitted: sync.OnceFunc(func() { close(a.admitted) }),
	}
	a.Describe(call.Attributes)
	s.begin(a.session, len(a.legs))
	a.err = handle(ctx, call)
	s.end(a.session, a.err)
	if a.err != nil && !errors.Is(a.err, source.ErrBusy) && !errors.Is(a.err, context.Canceled) {
		s.log.Warn("call not heard to its end", "source", Name, "call", a.id, "err", a.err)
	}
}

// answer is what is known of a.
func (s *Source) answer(a *announced, r *http.Request) Answer {
	stats := a.session.Stats()
	out := Answer{Call: a.id, Tenant: a.tenant, State: "waiting", Packets: stats.Packets, Strange: stats.Stranger}
	if stats.Packets > 0 {
		out.State = "hearing"
	}
	address := s.ports.Address()
	if address.IsUnspecified() {
		address = reached(r, address)
	}
	for i, leg := range a.legs {
		out.Legs = append(out.Legs, AnswerLeg{announce.Leg(leg), netip.AddrPortFrom(address, uint16(a.ports[i])).String()})
	}
	return out
}

// reached is the address at which r reached us, for want of one in the
// configuration; it is also where RTP can come.
func reached(r *http.Request, otherwise netip.Addr) netip.Addr {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ String() string })
	if !ok {
		return otherwise
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return otherwise
	}
	return at.Addr().Unmap()
}

// named is the call of the path; where there is none, the answer has been
// given.
func (s *Source) named(w http.ResponseWriter, r *http.Request) *announced {
	s.mu.Lock()
	a := s.calls[r.PathValue("call")]
	s.mu.Unlock()
	if a == nil {
		announce.Refuse(w, http.StatusNotFound, errUnknown)
	}
	return a
}

func (s *Source) get(w http.ResponseWriter, r *http.Request) {
	if a := s.named(w, r); a != nil {
		announce.Answer(w, http.StatusOK, s.answer(a, r))
	}
}

func (s *Source) remove(w http.ResponseWriter, r *http.Request) {
	if a := s.named(w, r); a != nil {
		a.session.End(nil)
		w.WriteHeader(http.StatusNoContent)
	}
}
