package grpcsrc

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source/announce"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

const (
	noteMost = 2000 // bytes
	whoMost  = 128  // bytes
	// A verdict waits so long for the ways out.
	publishWithin = 5 * time.Second
)

// verdicts are what clients may say of a call.
var verdicts = []callwardenv1.Action{
	callwardenv1.Action_ACTION_SCAM, callwardenv1.Action_ACTION_NOT_SCAM,
	callwardenv1.Action_ACTION_ACKNOWLEDGED, callwardenv1.Action_ACTION_NOTE,
}

// Verdict publishes what a person makes of a call.
func (s *Source) Verdict(ctx context.Context, req *callwardenv1.VerdictRequest) (*callwardenv1.VerdictResponse, error) {
	if s.cfg.Publish == nil {
		return nil, status.Error(codes.Unimplemented, "nobody would hear of a verdict here")
	}
	ev, err := s.verdict(ctx, req)
	if err != nil {
		return nil, s.refused(ctx, err)
	}
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	if err := s.cfg.Publish(ctx, ev); err != nil {
		s.log.Error("a verdict was not published", "source", Name, "call", ev.Call, "err", err)
		return nil, refuse(notPublished, "the verdict was not published everywhere: say it again with the same request")
	}
	return &callwardenv1.VerdictResponse{Id: ev.ID}, nil
}

// verdict is the event of req, if who asks may say that.
func (s *Source) verdict(ctx context.Context, req *callwardenv1.VerdictRequest) (ev sink.Event, err error) {
	if t := req.GetTenant(); t != "" && !announce.IsToken(t) {
		return ev, refuse(optionRefused, "tenant: %.140q must be 1 to 128 letters, digits, - or _", t)
	}
	g, tenant, err := s.may(ctx, mayVerdict, req.GetTenant())
	if err != nil {
		return ev, err
	}
	switch {
	case !announce.IsToken(req.GetCall()):
		return ev, refuse(optionRefused, "call: %.140q must be 1 to 128 letters, digits, - or _", req.GetCall())
	case !slices.Contains(verdicts, req.GetAction()):
		return ev, refuse(optionRefused, "action: %v must be ACTION_SCAM, ACTION_NOT_SCAM, ACTION_ACKNOWLEDGED or ACTION_NOTE", req.GetAction())
	case len(req.GetNote()) > noteMost || !isNote(req.GetNote()):
		return ev, refuse(optionRefused, "note: it must be text of at most %d bytes", noteMost)
	case req.GetAction() == callwardenv1.Action_ACTION_NOTE && req.GetNote() == "" && req.GetUndoes() == "":
		return ev, refuse(optionRefused, "note: there is none")
	case len(req.GetWho()) > whoMost:
		return ev, refuse(optionRefused, "who: %d bytes must be at most %d", len(req.GetWho()), whoMost)
	case req.GetUndoes() != "" && !announce.IsToken(req.GetUndoes()):
		return ev, refuse(optionRefused, "undoes: %.140q must be the id of an event", req.GetUndoes())
	}
	for field, text := range map[string]string{"who": req.GetWho(), "request": req.GetRequest()} {
		if err := checkText(field, text); err != nil {
			return ev, err
		}
	}
	same := req.GetRequest()
	if same == "" {
		same = rand.Text()
	}
	now := time.Now()
	return sink.Event{
		ID:   sink.EventID(tenant, req.GetCall(), sink.CallAction, "verdict", g.Name, same),
		Type: sink.CallAction, Tenant: tenant, Call: req.GetCall(), Source: "callwarden/" + Name, Time: now,
		Data: &callwardenv1.CallAction{
			Context: &callwardenv1.CallContext{Tenant: tenant, Call: req.GetCall(), Source: Name},
			When:    timestamppb.New(now), Who: whoSays(g, req.GetWho()), Action: req.GetAction(),
			Note: spoken.Mask(req.GetNote()), Undoes: req.GetUndoes(),
		},
	}, nil
}

// whoSays is the token's name and the person's, as far as they are known.
func whoSays(g *grant, person string) string {
	switch {
	case g.Name == "":
		return person
	case person == "":
		return g.Name
	}
	return g.Name + "/" + person
}

// isNote reports whether s is text, of several lines perhaps.
func isNote(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' })
}
