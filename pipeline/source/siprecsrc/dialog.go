package siprecsrc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

var noDialog = &refusal{code: 481, reason: "Call/Transaction Does Not Exist"}

// dialogOf finds the call of a request within one.
func (s *Source) dialogOf(req *sip.Request) (*call, *refusal) {
	if no := check(req); no != nil {
		return nil, no
	}
	id := dialogID{string(*req.CallID()), tagOf(req.To().Params), tagOf(req.From().Params)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[id]; c != nil {
		return c, nil
	}
	return nil, noDialog
}

func (s *Source) onAck(req *sip.Request, _ sip.ServerTransaction) {
	c, no := s.dialogOf(req)
	if no != nil {
		return // nothing answers an ACK
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if acked, ok := c.acks[req.CSeq().SeqNo]; ok {
		delete(c.acks, req.CSeq().SeqNo)
		close(acked)
	}
}

func (s *Source) onBye(req *sip.Request, tx sip.ServerTransaction) {
	c, no := s.dialogOf(req)
	if no == nil {
		no = refuse(200, "OK")
		c.byPeer()
	}
	s.turnAway(req, tx, no)
}

// onInfo says yes to what it has no use for: keypad digits come as media.
func (s *Source) onInfo(req *sip.Request, tx sip.ServerTransaction) {
	_, no := s.dialogOf(req)
	if no == nil {
		no = refuse(200, "OK")
	}
	s.turnAway(req, tx, no)
}

// onCancel answers one that came too late or for nothing: the stack has
// answered the others.
func (s *Source) onCancel(req *sip.Request, tx sip.ServerTransaction) {
	s.turnAway(req, tx, noDialog)
}

// onOptions says what we can do, and by 503 that we take no more calls.
func (s *Source) onOptions(req *sip.Request, tx sip.ServerTransaction) {
	no := check(req)
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	switch {
	case no != nil:
	case !open:
		no = refuse(503, "Service Unavailable", retryAfter(s.cfg.RetryAfter))
	default:
		no = refuse(200, "OK", sip.NewHeader("Allow", methods), sip.NewHeader("Accept", accepted),
			sip.NewHeader("Supported", "siprec, timer"))
	}
	s.turnAway(req, tx, no)
}

func (s *Source) onOther(req *sip.Request, tx sip.ServerTransaction) {
	s.turnAway(req, tx, refuse(405, "Method Not Allowed", sip.NewHeader("Allow", methods)))
}

// hangUp tells the peer that the call is over, and why where that is not our
// own affair.
func (c *call) hangUp(why error) {
	text := "the recorder ends the call"
	for _, reason := range []error{errNoAck, errExpired, errTooLong, errListener} {
		if errors.Is(why, reason) {
			text = reason.Error()
		}
	}
	if why != nil && strings.Contains(why.Error(), "no media for") {
		text = "no media"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*c.s.t1) // whoever ended the call waits for us
	defer cancel()
	reason := sip.NewHeader("Reason", fmt.Sprintf("SIP;cause=200;text=%q", text))
	if _, err := c.request(ctx, sip.BYE, nil, reason); err != nil {
		c.log.Info("a BYE was not answered", "call", c.id, "err", err)
	}
}

// request sends a request within the dialog and returns its final response.
func (c *call) request(ctx context.Context, method sip.RequestMethod, body []byte, extra ...sip.Header) (*sip.Response, error) {
	var lost error
	for _, to := range c.destinations() {
		req := c.newRequest(method, body, extra)
		req.SetDestination(to)
		res, err := c.s.client.Do(ctx, req, asItIs)
		if err == nil {
			if method == sip.INVITE && res.IsSuccess() {
				c.acknowledge(req, res)
			}
			return res, nil
		}
		lost = err
	}
	return nil, lost
}

// asItIs keeps the stack from completing a request.
func asItIs(*sipgo.Client, *sip.Request) error { return nil }

func (c *call) newRequest(method sip.RequestMethod, body []byte, extra []sip.Header) *sip.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ourSeq++
	req := sip.NewRequest(method, c.target)
	req.SetTransport(c.invite.Transport())
	via := &sip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: c.invite.Transport(),
		Host: c.s.reached(c.local).Addr().String(), Port: int(c.s.reached(c.local).Port()),
	}
	via.Params.Add("branch", sip.GenerateBranch())
	via.Params.Add("rport", "")
	req.AppendHeader(via)
	for _, h := range c.invite.GetHeaders("Record-Route") {
		req.AppendHeader(sip.NewHeader("Route", h.Value()))
	}
	from, to := c.invite.To().AsFrom(), c.invite.From().AsTo()
	from.Params = from.Params.Clone()
	from.Params.Add("tag", c.dialog.local)
	hops := sip.MaxForwardsHeader(70)
	id := *c.invite.CallID()
	req.AppendHeader(&from)
	req.AppendHeader(&to)
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: c.ourSeq, MethodName: method})
	req.AppendHeader(&hops)
	req.AppendHeader(sip.NewHeader("User-Agent", "callwarden"))
	if method != sip.BYE {
		req.AppendHeader(c.contact(req))
		req.AppendHeader(sip.NewHeader("Supported", "siprec, timer"))
	}
	for _, h := range extra {
		req.AppendHeader(h)
	}
	if body != nil {
		req.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	}
	req.SetBody(body)
	c.fromSocket(req)
	return req
}

// fromSocket has a datagram leave from the port that its peer knows.
func (c *call) fromSocket(req *sip.Request) {
	if !sip.IsReliable(req.Transport()) && c.socket.IsValid() {
		req.Laddr = sip.Addr{IP: net.IP(c.socket.Addr().AsSlice()), Port: int(c.socket.Port())}
	}
}

// acknowledge sends the ACK of a 2xx, which is no part of its transaction.
func (c *call) acknowledge(invite *sip.Request, res *sip.Response) {
	ack := c.newRequest(sip.ACK, nil, nil)
	ack.CSeq().SeqNo = invite.CSeq().SeqNo
	ack.SetDestination(invite.Destination())
	if contact := res.Contact(); contact != nil {
		ack.Recipient = contact.Address
	}
	if err := c.s.client.WriteRequest(ack, asItIs); err != nil {
		c.log.Debug("acknowledging an INVITE", "call", c.id, "err", err)
	}
}

// destinations are where a request within the dialog goes, in the order in
// which they are tried: a connection that is there is used (RFC 5923); else
// the route, or the peer's Contact; a host name is not looked up where it is
// known where the INVITE came from.
func (c *call) destinations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	came := c.invite.Source()
	to := &c.target
	if route := c.invite.RecordRoute(); route != nil {
		to = &route.Address
	}
	port := to.Port
	if port == 0 {
		port = sip.DefaultPort(c.invite.Transport())
	}
	next := net.JoinHostPort(strings.Trim(to.Host, "[]"), strconv.Itoa(port))
	at, err := netip.ParseAddrPort(next)
	switch {
	case err != nil || at.Addr().IsUnspecified():
		return []string{came}
	case sip.IsReliable(c.invite.Transport()) && came != next:
		return []string{came, next}
	}
	return []string{next}
}
