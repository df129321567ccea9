package siprecsrc

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/pipeline/source/sdp"
)

const (
	methods  = "INVITE, ACK, BYE, CANCEL, UPDATE, OPTIONS, INFO"
	accepted = "application/sdp, application/rs-metadata+xml, multipart/mixed"
)

// extensions are the option tags that a request may require. 100rel asks for
// provisional responses to be acknowledged, and we send none that could be.
var extensions = []string{"siprec", "timer", "100rel"}

// refusal is a final answer that is not 200.
type refusal struct {
	code    int
	reason  string
	headers []sip.Header
}

func refuse(code int, reason string, headers ...sip.Header) *refusal {
	return &refusal{code, reason, headers}
}

// warning says in a Warning header what the reason phrase has no room for, RFC
// 3261 section 20.43.
func warning(code int, text string) sip.Header {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '"', r == '\\':
			return '\''
		case r < ' ' || r > '~':
			return -1
		}
		return r
	}, text)
	return sip.NewHeader("Warning", strconv.Itoa(code)+` callwarden "`+text[:min(len(text), 256)]+`"`)
}

// respond answers req in the name of the dialog with this local tag; empty for
// none.
func respond(req *sip.Request, tx sip.ServerTransaction, tag string, no *refusal, body []byte) error {
	return tx.Respond(response(req, tag, no, body))
}

func response(req *sip.Request, tag string, r *refusal, body []byte) *sip.Response {
	if to := req.To(); to != nil && tag != "" && tagOf(to.Params) == "" {
		// The request is the transaction's: it must not change.
		req = req.Clone()
		req.To().Params.Add("tag", tag)
	}
	res := sip.NewResponseFromRequest(req, r.code, r.reason, body)
	for _, h := range r.headers {
		res.AppendHeader(h)
	}
	res.AppendHeader(sip.NewHeader("Server", "callwarden"))
	return res
}

// turnAway answers a request that nothing comes of.
func (s *Source) turnAway(req *sip.Request, tx sip.ServerTransaction, no *refusal) {
	if err := respond(req, tx, "", no, nil); err != nil {
		s.log.Debug("answering a SIP request", "source", Name, "err", err)
	}
}

func tagOf(p sip.HeaderParams) string {
	tag, _ := p.Get("tag")
	return tag
}

// compact are the short names (RFC 3261 section 7.3.3) of headers that the
// stack leaves as they are.
var compact = map[string]string{
	"Supported": "k", "Session-Expires": "x", "Identity": "y", "Content-Encoding": "e", "Subject": "s",
}

// headers are the values of a header, by its name or its compact form.
func headers(msg sip.Message, name string) []string {
	var list []sip.Header
	switch m := msg.(type) {
	case *sip.Request:
		list = m.Headers()
	case *sip.Response:
		list = m.Headers()
	}
	var all []string
	for _, h := range list {
		if got := h.Name(); strings.EqualFold(got, name) || strings.EqualFold(got, compact[name]) {
			all = append(all, h.Value())
		}
	}
	return all
}

// tokens are the values of a header that is a list of words.
func tokens(msg sip.Message, name string) []string {
	var all []string
	for _, value := range headers(msg, name) {
		for one := range strings.SplitSeq(value, ",") {
			if one = strings.TrimSpace(one); one != "" {
				all = append(all, one)
			}
		}
	}
	return all
}

func supports(msg sip.Message, option string) bool {
	return slices.ContainsFunc(slices.Concat(tokens(msg, "Supported"), tokens(msg, "Require")), func(t string) bool {
		return strings.EqualFold(t, option)
	})
}

// check looks at what every request must have before anything is done for it.
func check(req *sip.Request) *refusal {
	switch {
	case req.From() == nil, req.To() == nil, req.CallID() == nil, req.CSeq() == nil:
		return refuse(400, "Missing From, To, Call-ID Or CSeq")
	case tagOf(req.From().Params) == "":
		return refuse(400, "Missing From Tag")
	case !strings.EqualFold(string(req.CSeq().MethodName), string(req.Method)):
		return refuse(400, "CSeq Is Of Another Method")
	case !strings.EqualFold(req.SipVersion, "SIP/2.0"):
		return refuse(505, "Version Not Supported")
	}
	var unknown []string
	for _, option := range tokens(req, "Require") {
		if !slices.ContainsFunc(extensions, func(e string) bool { return strings.EqualFold(e, option) }) {
			unknown = append(unknown, option)
		}
	}
	if unknown != nil {
		return refuse(420, "Bad Extension", sip.NewHeader("Unsupported", strings.Join(unknown, ", ")))
	}
	for _, coding := range tokens(req, "Content-Encoding") {
		if !strings.EqualFold(coding, "identity") {
			return refuse(415, "Unsupported Media Type", sip.NewHeader("Accept-Encoding", "identity"))
		}
	}
	return nil
}

// contentOf reads the body of a request.
func (s *Source) contentOf(req *sip.Request) (content, *refusal) {
	if len(req.Body()) > s.cfg.BodyBytes {
		return content{}, refuse(413, "Request Entity Too Large")
	}
	kind := ""
	if h := req.ContentType(); h != nil {
		kind = h.Value()
	}
	c, err := parseBody(kind, req.Body())
	switch {
	case errors.Is(err, errType):
		return c, refuse(415, "Unsupported Media Type", sip.NewHeader("Accept", accepted))
	case err != nil:
		return c, refuse(400, "Bad Body", warning(399, err.Error()))
	}
	return c, nil
}

// busyFor answers a handler's or our own want of room, and other faults.
func (s *Source) busyFor(err error) *refusal {
	switch {
	case !errors.Is(err, source.ErrBusy):
		return refuse(500, "Server Internal Error")
	case s.cfg.Busy == 486:
		return refuse(486, "Busy Here")
	}
	return refuse(503, "Service Unavailable", retryAfter(s.cfg.RetryAfter))
}

// notHeard answers an offer of which nothing can be heard, by name.
func (s *Source) notHeard(err error) *refusal {
	switch {
	case errors.Is(err, source.ErrBusy):
		return s.busyFor(err)
	case errors.Is(err, media.ErrCodec):
		return refuse(488, "Not Acceptable Here", warning(305, err.Error()))
	case errors.Is(err, sdp.ErrRefused), errors.Is(err, media.ErrCrypto), errors.Is(err, errThird):
		return refuse(488, "Not Acceptable Here", warning(304, err.Error()))
	}
	return refuse(500, "Server Internal Error")
}
