package siprecsrc

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/pipeline/source/sdp"
	"github.com/callwarden/callwarden/pipeline/source/sipmeta"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// dialogID is what requests of a call have in common, RFC 3261 section 12.
type dialogID struct{ callID, local, remote string }

// firstID is what makes an INVITE the same though it comes another way, RFC
// 3261 section 8.2.2.2.
type firstID struct {
	callID, tag string
	seq         uint32
}

// call is one dialog and its media. It is there from its INVITE until its
// handler has returned and its BYE is answered.
type call struct {
	s      *Source
	log    *slog.Logger
	id     string
	first  firstID
	dialog dialogID

	// Set before the call is known to others.
	invite       *sip.Request
	local        netip.AddrPort // as the peer sees us
	socket       netip.AddrPort // that the INVITE came to
	mediaAddress netip.Addr
	session      *media.Session
	siprec       bool
	hints        sipmeta.Hints

	answered atomic.Bool   // there is a dialog
	unheard  atomic.Bool   // and nobody listens to it
	admitted chan struct{} // closed by the handler
	admit    sync.Once
	refused  chan *refusal // run sends one where the handler refused
	over     chan struct{} // closed by finish
	finished sync.Once
	gone     bool // the peer knows that the call is over; under mu

	mu        sync.Mutex
	dead      bool // the handler has returned
	target    sip.Uri
	theirSeq  uint32
	ourSeq    uint32
	recording *sipmeta.Recording
	legs      []audio.Leg
	sides     sipmeta.Sides
	lines     []line
	offered   string // version of the last offer
	answer    *sdp.Answer
	body      []byte                   // and as it was sent
	acks      map[uint32]chan struct{} // closed by the ACK of that number
	asking    bool                     // an INVITE of ours is not answered yet
	refresh   refresh
}

// Ends of a call that are no hang-up. Their texts are end reasons.
var (
	errCancelled = errors.New("cancelled before it was answered")
	errSlow      = errors.New("not admitted in time")
	errNoAck     = errors.New("the answer was never acknowledged")
	errExpired   = errors.New("the session timer ran out")
	errTooLong   = errors.New("longer than calls may last")
)

// callID makes a call id of the Call-ID: readable, legal in a NATS subject, and
// with our own tag in it unique however often the Call-ID is used.
func callID(d dialogID) string {
	sum := sha256.Sum256([]byte(d.callID + "\x00" + d.remote + "\x00" + d.local))
	suffix := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, d.callID)
	return name[:min(len(name), 64)] + "-" + suffix
}

// finish ends the call: reason is told as its end, nil for a hang-up. Only the
// first counts.
func (c *call) finish(reason error) {
	c.finished.Do(func() {
		c.session.End(reason)
		close(c.over)
	})
}

// byPeer is finish by the peer, who needs no BYE.
func (c *call) byPeer() {
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	c.finish(nil)
}

// cancelled is finish by a CANCEL that came just as the call was answered.
func (c *call) cancelled() {
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	c.finish(errCancelled)
}

// run gives the call to the handler and sees it to its end.
func (c *call) run(heard *source.Call) {
	defer c.s.running.Done()
	most := time.AfterFunc(c.s.cfg.CallMost, func() { c.finish(errTooLong) })
	defer most.Stop()
	err := c.s.handle(heard)
	select {
	case <-c.admitted:
		c.finish(err)
		c.tell(err)
	default:
		if err != nil {
			c.bury()
			c.refused <- c.s.busyFor(err)
			if !errors.Is(err, source.ErrBusy) {
				c.tell(err)
			}
			return
		}
		c.unheard.Store(true)
		if err := c.session.Close(); err != nil {
			c.log.Warn("closing media ports", "call", c.id, "err", err)
		}
		c.admit.Do(func() { close(c.admitted) })
		<-c.over
	}
	c.mu.Lock()
	c.dead = true
	c.arm(refresh{})
	bye := c.answered.Load() && !c.gone
	c.mu.Unlock()
	c.forget()
	if bye {
		c.hangUp(err)
	}
}

// tell logs why a call ended, where that is worth it.
func (c *call) tell(err error) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return
	}
	c.log.Warn("a call ended before its time", "call", c.id, "err", err)
}

// bury ends a call that was never answered.
func (c *call) bury() {
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	c.s.mu.Lock()
	c.s.stats.Refused++
	c.s.mu.Unlock()
	c.finish(source.ErrBusy)
	c.forget()
}

// forget gives the call's ports and its place back.
func (c *call) forget() {
	if err := c.session.Close(); err != nil {
		c.log.Warn("closing media ports", "call", c.id, "err", err)
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.stats.Add(c.session.Stats())
	delete(c.s.calls, c.dialog)
	delete(c.s.firsts, c.first)
}

// describe makes the call as the pipeline knows it.
func (c *call) describe() *source.Call {
	trunk, tenant := c.s.trunkOf(c.invite)
	attributes := c.s.store.Attributes(func(name string) []string { return headers(c.invite, name) }, c.session.Began())
	set := func(key, value string) {
		if value != "" {
			attributes[key] = value
		}
	}
	from, to := c.sides.Caller, c.sides.Callee
	if !c.siprec {
		from, to = partyOf(c.invite, "From"), partyOf(c.invite, "To")
	}
	set(sipmeta.From, from.Number)
	set(sipmeta.FromName, from.Name)
	set(sipmeta.To, to.Number)
	set(sipmeta.ToName, to.Name)
	set("trunk", trunk)
	set("codec", sdp.Codecs(c.answer.Lines))
	for attribute, header := range c.s.cfg.Headers {
		if values := headers(c.invite, header); len(values) > 0 {
			set(attribute, sipmeta.Name(values[0]))
		}
	}
	sipmeta.Compare(attributes)
	return &source.Call{
		ID: c.id, Tenant: tenant, Source: Name, Legs: c.legs, Attributes: attributes,
		Began: c.session.Began(), Live: true, Audio: c.session,
		Admitted: func() { c.admit.Do(func() { close(c.admitted) }) },
	}
}

func partyOf(req *sip.Request, header string) sipmeta.Party {
	for _, value := range headers(req, header) {
		name, uri := sipmeta.Address(value)
		return sipmeta.Party{Number: sipmeta.Number(uri), Name: name}
	}
	return sipmeta.Party{}
}
