package siprecsrc

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/sipmeta"
)

// admitWithin is how long the handler may take to say whether it listens: less
// than the SIP timers of those who wait.
const admitWithin = 5 * time.Second

// onInvite takes a call, or changes one. It runs until the answer is
// acknowledged.
func (s *Source) onInvite(req *sip.Request, tx sip.ServerTransaction) {
	if no := check(req); no != nil {
		s.turnAway(req, tx, no)
		return
	}
	if tagOf(req.To().Params) != "" {
		s.onReinvite(req, tx)
		return
	}
	cancelled := make(chan struct{}) // closed by the first CANCEL, which the stack answers
	first := sync.OnceFunc(func() { close(cancelled) })
	if !tx.OnCancel(func(*sip.Request) { first() }) {
		return // cancelled already
	}
	c, no := s.reserve(req)
	if no != nil {
		s.turnAway(req, tx, no)
		return
	}
	if no := c.prepare(req, tx); no != nil {
		c.release()
		s.turnAway(req, tx, no)
		return
	}
	go c.run(c.describe()) // reserve has counted it among those that Serve waits for
	timeout := time.NewTimer(admitWithin)
	defer timeout.Stop()
	select {
	case <-c.admitted:
	case no := <-c.refused:
		s.turnAway(req, tx, no)
		return
	case <-cancelled:
		c.finish(errCancelled)
		return
	case <-tx.Done(): // its connection is gone
		c.finish(errCancelled)
		return
	case <-timeout.C:
		c.finish(errSlow)
		s.turnAway(req, tx, s.busyFor(source.ErrBusy))
		return
	}
	c.accept(req, tx)
}

// reserve gives a new call its place.
func (s *Source) reserve(req *sip.Request) (*call, *refusal) {
	c := &call{
		s: s, log: s.log, invite: req,
		admitted: make(chan struct{}), refused: make(chan *refusal, 1), over: make(chan struct{}),
		acks:   make(map[uint32]chan struct{}),
		ourSeq: 1,
	}
	c.dialog = dialogID{string(*req.CallID()), sip.GenerateTagN(16), tagOf(req.From().Params)}
	c.first = firstID{c.dialog.callID, c.dialog.remote, req.CSeq().SeqNo}
	c.id = callID(c.dialog)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.open:
		return nil, refuse(503, "Service Unavailable", retryAfter(s.cfg.RetryAfter))
	case s.firsts[c.first] != nil:
		return nil, refuse(482, "Loop Detected") // the same call by another way
	case len(s.firsts) >= s.cfg.Calls:
		s.stats.Refused++
		return nil, s.busyFor(source.ErrBusy)
	}
	s.firsts[c.first] = c
	s.running.Add(1)
	return c, nil
}

// release undoes reserve for a call that nobody was told of.
func (c *call) release() {
	if c.session != nil {
		if err := c.session.Close(); err != nil {
			c.log.Warn("closing media ports", "call", c.id, "err", err)
		}
	}
	c.s.mu.Lock()
	delete(c.s.firsts, c.first)
	c.s.stats.Refused++
	c.s.mu.Unlock()
	c.s.running.Done()
}

// prepare reads the INVITE and opens what it takes to hear the call.
func (c *call) prepare(req *sip.Request, tx sip.ServerTransaction) *refusal {
	s := c.s
	contact := req.Contact()
	if contact == nil {
		return refuse(400, "Missing Contact")
	}
	switch strings.ToLower(req.Recipient.Scheme) {
	case "sip", "sips", "tel", "":
	default:
		return refuse(416, "Unsupported URI Scheme")
	}
	body, no := s.contentOf(req)
	if no != nil {
		return no
	}
	if body.offer == nil {
		return refuse(488, "Not Acceptable Here", warning(399, "an INVITE to a recorder has to offer media"))
	}
	c.siprec = body.recording != nil || body.unread != nil || supportsSiprec(req)
	if !c.siprec && s.cfg.Plain == "refuse" {
		return refuse(403, "Forbidden", warning(399, "only recording sessions are taken"))
	}
	timer, no := s.agree(req)
	if no != nil {
		return no
	}
	c.arm(timer)
	c.target, c.theirSeq = contact.Address, req.CSeq().SeqNo
	if st, ok := tx.(*sip.ServerTx); ok && st.Connection() != nil {
		c.socket = addrPort(st.Connection().LocalAddr())
	}
	c.local = s.local(req, tx)
	if c.mediaAddress = s.ports.Address(); c.mediaAddress.IsUnspecified() {
		c.mediaAddress = c.local.Addr()
	}
	c.hints = sipmeta.Hints{
		From: partyOf(req, "From").Number, To: partyOf(req, "To").Number, CalleeFirst: s.cfg.CalleeFirst,
	}
	if body.unread != nil {
		c.log.Warn("recording metadata cannot be read: the call's sides go by order", "call", c.id, "err", body.unread)
	}
	session := s.ports.NewSession(s.log)
	s.mu.Lock() // Stats looks at it
	c.session = session
	s.mu.Unlock()
	if err := c.negotiate(body.offer, body.recording); err != nil {
		if !errors.Is(err, source.ErrBusy) {
			c.log.Info("a call that cannot be heard was refused", "source", Name, "err", err)
		}
		return s.notHeard(err)
	}
	return nil
}

func supportsSiprec(req *sip.Request) bool {
	for _, option := range tokens(req, "Require") {
		if strings.EqualFold(option, "siprec") {
			return true
		}
	}
	contact := req.Contact()
	return contact != nil && contact.Params.Has("+sip.src") // RFC 7866 section 6.1.1
}

// accept answers the first INVITE and waits for its ACK.
func (c *call) accept(req *sip.Request, tx sip.ServerTransaction) {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		c.s.turnAway(req, tx, c.s.busyFor(source.ErrBusy))
		return
	}
	if c.unheard.Load() {
		c.unhear()
	}
	c.answered.Store(true)
	body := c.body
	ok, acked := c.ok(req, body), c.awaitAck(req)
	s := c.s
	s.mu.Lock() // inside of the call's lock: run may not forget the call before it is known
	s.calls[c.dialog] = c
	if !c.unheard.Load() {
		s.stats.Begun++
	}
	closed := !s.open
	s.mu.Unlock()
	c.mu.Unlock()
	c.send(req, tx, ok, body, acked)
	if closed && c.unheard.Load() {
		c.finish(nil) // nobody else would end it
	}
}

// ok is the answer to an INVITE or UPDATE with this body, with the call's lock
// held.
func (c *call) ok(req *sip.Request, body []byte) *refusal {
	r := refuse(200, "OK", c.contact(req), sip.NewHeader("Allow", methods), sip.NewHeader("Supported", "siprec, timer"))
	if h := c.refresh.header(); h != nil {
		r.headers = append(r.headers, h)
		if c.refresh.theirs {
			r.headers = append(r.headers, sip.NewHeader("Require", "timer")) // RFC 4028 section 9
		}
	}
	if len(body) > 0 {
		r.headers = append(r.headers, sip.NewHeader("Content-Type", "application/sdp"))
	}
	return r
}

// contact is where we are reached, as a recording server (RFC 7866 section
// 6.2).
func (c *call) contact(req *sip.Request) sip.Header {
	at := c.s.reached(c.local)
	h := &sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: "callwarden", Host: at.Addr().String(), Port: int(at.Port())}}
	if transport := sip.NetworkToLower(req.Transport()); transport != "udp" {
		h.Address.UriParams.Add("transport", transport)
	}
	if c.siprec {
		h.Params.Add("+sip.srs", "")
	}
	return h
}

// awaitAck is closed by the ACK of req; with the call's lock held.
func (c *call) awaitAck(req *sip.Request) chan struct{} {
	acked := make(chan struct{})
	c.acks[req.CSeq().SeqNo] = acked
	return acked
}

// send sends a 200 to an INVITE until it is acknowledged, RFC 3261 section
// 13.3.1.4. Without an ACK the call ends.
func (c *call) send(req *sip.Request, tx sip.ServerTransaction, ok *refusal, body []byte, acked chan struct{}) {
	res := response(req, c.dialog.local, ok, body)
	deadline := time.NewTimer(64 * c.s.t1)
	defer deadline.Stop()
	defer func() {
		c.mu.Lock()
		if c.acks[req.CSeq().SeqNo] == acked {
			delete(c.acks, req.CSeq().SeqNo)
		}
		c.mu.Unlock()
	}()
	for wait := c.s.t1; ; wait = min(2*wait, c.s.t2) {
		err := tx.Respond(res)
		if errors.Is(tx.Err(), sip.ErrTransactionCanceled) {
			// The stack has answered 487 a moment before: there is no dialog,
			// or it is as it was.
			if req == c.invite {
				c.cancelled()
			}
			return
		}
		if err != nil {
			c.finish(errNoAck) // its connection is gone
			return
		}
		again := time.NewTimer(wait)
		select {
		case <-acked:
		case <-tx.Acks(): // by who takes it for a part of the transaction
		case <-c.over:
		case <-deadline.C:
			c.finish(errNoAck)
		case <-again.C:
			continue
		}
		again.Stop()
		return
	}
}

// onReinvite changes a call.
func (s *Source) onReinvite(req *sip.Request, tx sip.ServerTransaction) {
	c, no := s.dialogOf(req)
	if no != nil {
		s.turnAway(req, tx, no)
		return
	}
	c.mu.Lock()
	if c.asking {
		c.mu.Unlock()
		s.turnAway(req, tx, refuse(491, "Request Pending")) // RFC 3261 section 14.2
		return
	}
	if _, no := c.update(req); no != nil {
		c.mu.Unlock()
		s.turnAway(req, tx, no)
		return
	}
	// Who changes the call has had the answer before: its ACK may be behind.
	for seq, acked := range c.acks {
		delete(c.acks, seq)
		close(acked)
	}
	// Without an offer of theirs the answer offers what there is.
	body := c.body
	ok, acked := c.ok(req, body), c.awaitAck(req)
	c.mu.Unlock()
	c.send(req, tx, ok, body, acked)
}

// onUpdate changes a call, or only its timer (RFC 3311).
func (s *Source) onUpdate(req *sip.Request, tx sip.ServerTransaction) {
	c, no := s.dialogOf(req)
	if no != nil {
		s.turnAway(req, tx, no)
		return
	}
	c.mu.Lock()
	offered, no := c.update(req)
	var body []byte
	if offered {
		body = c.body
	}
	if no == nil {
		no = c.ok(req, body)
	}
	c.mu.Unlock()
	if err := respond(req, tx, c.dialog.local, no, body); err != nil {
		c.log.Debug("answering an UPDATE", "call", c.id, "err", err)
	}
}

// update takes a re-INVITE or UPDATE, with the call's lock held. Where it is
// refused nothing has changed.
func (c *call) update(req *sip.Request) (offered bool, no *refusal) {
	switch {
	case c.dead:
		return false, noDialog
	case req.CSeq().SeqNo < c.theirSeq:
		return false, refuse(500, "CSeq Is Out Of Order")
	}
	body, no := c.s.contentOf(req)
	if no != nil {
		return false, no
	}
	timer, no := c.s.agree(req)
	if no != nil {
		return false, no
	}
	if body.unread != nil {
		c.log.Warn("recording metadata cannot be read: what was said before counts", "call", c.id, "err", body.unread)
	}
	switch {
	case body.offer != nil:
		if err := c.negotiate(body.offer, body.recording); err != nil {
			return false, c.s.notHeard(err)
		}
	case body.recording != nil:
		c.recording = c.recording.Merge(body.recording)
	}
	if contact := req.Contact(); contact != nil {
		c.target = contact.Address
	}
	c.theirSeq = req.CSeq().SeqNo
	c.arm(timer)
	return body.offer != nil, nil
}
