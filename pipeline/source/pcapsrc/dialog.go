package pcapsrc

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/pipeline/source/sdp"
	"github.com/callwarden/callwarden/pipeline/source/sipmeta"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Bounds of what SIP can make us hold.
const (
	maxDialogs   = 100_000
	maxEndpoints = 64 // of one dialog
)

// dialog is one SIP call: who, and where its media goes.
type dialog struct {
	callID     string
	caller     string // tag of the side that sent the first INVITE
	began      time.Duration
	ended      time.Duration // of the BYE; notEnded before
	attributes map[string]string
	hints      sipmeta.Hints
	endpoints  []*endpoint
	recording  *sipmeta.Recording // of a SIPREC session
	labels     []string           // of its m= lines
}

const notEnded time.Duration = 1<<63 - 1

// endpoint is where one side takes one stream.
type endpoint struct {
	dialog  *dialog
	addr    netip.AddrPort
	side    audio.Leg // that takes what comes here
	line    int       // m= line
	from    time.Duration
	formats []media.Format
	refused []error // formats that cannot be heard
	crypto  []string
	dtls    bool
}

// dialogs follows the SIP of a capture.
type dialogs struct {
	store     *sipmeta.Store
	byID      map[string]*dialog
	all       []*dialog
	endpoints map[netip.AddrPort][]*endpoint // in the order in which they were told
	over      func(addr netip.AddrPort)      // told of the addresses of a call that ends
	left      int                            // dialogs for which there was no room
}

func newDialogs(over func(netip.AddrPort)) (*dialogs, error) {
	store, err := sipmeta.OpenStore(sipmeta.DefaultStoreConfig())
	if err != nil {
		return nil, err
	}
	return &dialogs{store: store, byID: make(map[string]*dialog), endpoints: make(map[netip.AddrPort][]*endpoint), over: over}, nil
}

// message takes one SIP message; at is when it was captured, and when by the
// calendar.
func (ds *dialogs) message(m *message, at time.Duration) {
	id := m.first("call-id")
	if id == "" || len(id) > 512 {
		return
	}
	d := ds.byID[id]
	if d != nil && m.request && m.method == "INVITE" && d.ended != notEnded && tag(m.first("to")) == "" {
		d = nil // some use a Call-ID again
	}
	if d == nil {
		if d = ds.begin(m, id, at); d == nil {
			return
		}
	}
	switch m.method {
	case "BYE":
		if m.request {
			ds.end(d, at)
		}
		return
	case "INVITE", "ACK", "PRACK", "UPDATE":
	default:
		return
	}
	if !m.request && m.status >= 300 {
		if m.method == "INVITE" && len(d.endpoints) > 0 && m.status != 401 && m.status != 407 && tag(m.first("from")) == d.caller && !d.answered() {
			ds.end(d, at)
		}
		return
	}
	side := audio.Callee
	if m.request == (tag(m.first("from")) == d.caller) {
		side = audio.Caller
	}
	description, metadata := m.parts()
	if metadata != nil {
		d.metadata(metadata)
	}
	if description != nil {
		ds.describe(d, side, description, at)
	}
}

// begin makes a dialog of a message that says who calls whom. A capture may
// begin in the middle of a call.
func (ds *dialogs) begin(m *message, id string, at time.Duration) *dialog {
	switch m.method {
	case "INVITE", "ACK", "UPDATE", "PRACK":
	default:
		return nil
	}
	if len(ds.all) >= maxDialogs {
		ds.left++
		return nil
	}
	d := &dialog{callID: id, caller: tag(m.first("from")), began: at, ended: notEnded}
	d.attributes = ds.store.Attributes(m.header, time.Unix(0, int64(at)))
	for _, who := range []struct{ header, number, name string }{
		{"from", sipmeta.From, sipmeta.FromName},
		{"to", sipmeta.To, sipmeta.ToName},
	} {
		name, uri := sipmeta.Address(m.first(who.header))
		set(d.attributes, who.number, sipmeta.Number(uri))
		set(d.attributes, who.name, sipmeta.Name(name))
	}
	d.hints = sipmeta.Hints{From: d.attributes[sipmeta.From], To: d.attributes[sipmeta.To]}
	sipmeta.Compare(d.attributes)
	ds.byID[id] = d
	ds.all = append(ds.all, d)
	return d
}

func set(attributes map[string]string, key, value string) {
	if value != "" {
		attributes[key] = value
	}
}

// answered reports whether both sides have said where they take media.
func (d *dialog) answered() bool {
	return slices.ContainsFunc(d.endpoints, func(e *endpoint) bool { return e.side == audio.Callee })
}

// end says that no more media belongs to d.
func (ds *dialogs) end(d *dialog, at time.Duration) {
	if d.ended != notEnded {
		return
	}
	d.ended = at
	for _, e := range d.endpoints {
		ds.over(e.addr)
	}
}

// describe takes where side wants its media.
func (ds *dialogs) describe(d *dialog, side audio.Leg, description []byte, at time.Duration) {
	s, err := sdp.Parse(description)
	if err != nil {
		return
	}
	if side == audio.Caller && len(d.labels) < len(s.Media) {
		for _, m := range s.Media[len(d.labels):] {
			d.labels = append(d.labels, m.Label)
		}
	}
	for i := range s.Media {
		m := &s.Media[i]
		addr := m.Remote()
		if m.Kind != "audio" || m.Port == 0 || !addr.IsValid() {
			continue
		}
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		ds.endpoint(d, endpoint{dialog: d, addr: addr, side: side, line: i, from: at}, m)
	}
}

// endpoint adds e to d, or what is new of it to the one that is there.
func (ds *dialogs) endpoint(d *dialog, e endpoint, m *sdp.Media) {
	i := slices.IndexFunc(d.endpoints, func(o *endpoint) bool { return o.addr == e.addr && o.side == e.side && o.line == e.line })
	if i < 0 {
		if len(d.endpoints) == maxEndpoints {
			return
		}
		if others := ds.endpoints[e.addr]; len(others) > 0 && others[len(others)-1].dialog != d {
			ds.over(e.addr) // whose call was before, its BYE is missing
		}
		i = len(d.endpoints)
		d.endpoints = append(d.endpoints, &e)
		ds.endpoints[e.addr] = append(ds.endpoints[e.addr], &e)
	}
	known := d.endpoints[i]
	for _, f := range m.Formats {
		same := func(o media.Format) bool { return o.PayloadType == f.PayloadType }
		switch err := f.Check(); {
		case err != nil:
			if len(known.refused) < maxParts {
				known.refused = append(known.refused, err)
			}
		default:
			known.formats = append(slices.DeleteFunc(known.formats, same), f)
		}
	}
	if len(m.Crypto) > 0 {
		known.crypto = m.Crypto
	}
	known.dtls = m.DTLS
}

// metadata takes what a SIPREC client says of the call that is recorded.
func (d *dialog) metadata(doc []byte) {
	next, err := sipmeta.ParseRecording(doc)
	if err != nil {
		return
	}
	if d.recording == nil {
		d.recording = next
		return
	}
	d.recording = d.recording.Merge(next)
}

// speaker is whose voice comes to e, or goes out from there.
func (e *endpoint) speaker(sides sipmeta.Sides, outgoing bool) audio.Leg {
	switch {
	case e.dialog.recording != nil && e.line < len(sides.Legs):
		return sides.Legs[e.line]
	case outgoing:
		return e.side
	}
	return e.side.Other()
}

// sides are those of a SIPREC session, zero for other calls.
func (d *dialog) sides() sipmeta.Sides {
	if d.recording == nil {
		return sipmeta.Sides{}
	}
	return d.recording.Sides(d.labels, d.hints)
}

// describeCall writes what is known of the call into attributes.
func (d *dialog) describeCall(attributes map[string]string) {
	if d.recording == nil {
		for key, value := range d.attributes {
			attributes[key] = value
		}
		return
	}
	sides := d.sides()
	set(attributes, sipmeta.From, sides.Caller.Number)
	set(attributes, sipmeta.FromName, sides.Caller.Name)
	set(attributes, sipmeta.To, sides.Callee.Number)
	set(attributes, sipmeta.ToName, sides.Callee.Name)
	set(attributes, "session", d.recording.Session)
}

// token stands for the Call-ID where ids of calls are made of it: as
// "printf %s CALL-ID | sha256sum" begins.
func (d *dialog) token() string {
	sum := sha256.Sum256([]byte(d.callID))
	return "sip-" + hex.EncodeToString(sum[:6])
}

// sends is the encryption of what the side at e sends, and whether there is
// any: of the lines that it offered the one that the other side took.
func (e *endpoint) sends() (line string, secure bool) {
	if len(e.crypto) == 0 {
		return "", false
	}
	chosen := e.crypto[0]
	for _, o := range e.dialog.endpoints {
		if o.side == e.side || o.line != e.line || len(o.crypto) == 0 {
			continue
		}
		for _, c := range e.crypto {
			if len(o.crypto) < len(e.crypto) && cryptoTag(c) == cryptoTag(o.crypto[0]) {
				chosen = c
			}
		}
	}
	return chosen, true
}

// cryptoTag is the number of an a=crypto line, by which it is chosen.
func cryptoTag(line string) string {
	tag, _, _ := strings.Cut(line, " ")
	return tag
}
