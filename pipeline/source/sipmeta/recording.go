package sipmeta

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// Recording metadata beyond these bounds is refused whole: what a session
// recording client sends is some kilobytes with two to a dozen participants.
const (
	maxRecording = 256 << 10
	maxDepth     = 32
	maxElements  = 4096
	maxObjects   = 128 // participants, and streams
	maxText      = 1024
)

// ErrMetadata is wrapped by the errors of [ParseRecording].
var ErrMetadata = errors.New("recording metadata")

// Recording is what recording metadata says of the call that is recorded.
type Recording struct {
	Partial      bool   // an update: what it does not name has not changed
	Session      string // id of the communication session
	SIPSession   string // RFC 7989 session id
	Participants []Participant
	Streams      []Stream
}

// Participant is one party.
type Participant struct {
	ID   string
	AOR  string // as it came: a URI with whatever parameters
	Name string
	Send []string // ids of the streams with this party's voice
	// Calling is whether an extension says that this party placed the call;
	// nil where none says so.
	Calling *bool
	// Left is set where the party is no longer in the session.
	Left bool
}

// Stream is one m= line of the recording session, by its a=label.
type Stream struct{ ID, Label string }

// ParseRecording reads an application/rs-metadata+xml document: RFC 7865, and
// the drafts and habits that came before it. Elements count by their local
// name, in any namespace, order and case; what is not known is passed over. A
// document type declaration is refused, so no entity is ever expanded.
func ParseRecording(doc []byte) (*Recording, error) {
	if len(doc) > maxRecording {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrMetadata, len(doc), maxRecording)
	}
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimSpace(doc)))
	d.Strict = false
	d.CharsetReader = charset
	p := recordingParser{rec: &Recording{}}
	for {
		token, err := d.RawToken()
		switch {
		case errors.Is(err, io.EOF):
			return p.end()
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
		}
		if err := p.token(token); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
		}
	}
}

// charset lets the single-byte encodings through that gateways declare and
// hardly use: names in them lose their accents, nothing else.
func charset(label string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252", "":
		return in, nil
	}
	return nil, fmt.Errorf("character set %q is not supported", label)
}

// recordingParser walks the document with a stack of local names.
type recordingParser struct {
	rec      *Recording
	stack    []element
	text     strings.Builder
	elements int
}

type element struct {
	name string
	id   string // of the participant or stream that it is or is about
}

func (p *recordingParser) token(token xml.Token) error {
	switch t := token.(type) {
	case xml.Directive:
		return errors.New("a document type declaration is not allowed")
	case xml.StartElement:
		return p.open(t)
	case xml.CharData:
		if p.text.Len()+len(t) <= maxText {
			p.text.Write(t)
		}
	case xml.EndElement:
		if len(p.stack) == 0 || p.stack[len(p.stack)-1].name != local(t.Name) {
			return fmt.Errorf("</%s> closes nothing", clip(t.Name.Local))
		}
		p.close()
	}
	return nil
}

func (p *recordingParser) end() (*Recording, error) {
	if p.elements == 0 {
		return nil, fmt.Errorf("%w: no XML elements", ErrMetadata)
	}
	if len(p.stack) > 0 {
		return nil, fmt.Errorf("%w: ends inside <%s>", ErrMetadata, clip(p.stack[len(p.stack)-1].name))
	}
	return p.rec, nil
}

func (p *recordingParser) open(t xml.StartElement) error {
	p.elements++
	if p.elements > maxElements {
		return fmt.Errorf("more than %d elements", maxElements)
	}
	if len(p.stack) >= maxDepth {
		return fmt.Errorf("elements nested deeper than %d", maxDepth)
	}
	p.text.Reset()
	e := element{name: local(t.Name)}
	if len(p.stack) > 0 {
		e.id = p.stack[len(p.stack)-1].id
	}
	switch e.name {
	case "session":
		if id := attribute(t, "session_id", "id"); id != "" && p.rec.Session == "" {
			p.rec.Session = id
		}
	case "participant":
		e.id = attribute(t, "participant_id", "id")
		if _, err := p.participant(e.id); err != nil {
			return err
		}
	case "participantstreamassoc", "participantsessionassoc":
		e.id = attribute(t, "participant_id", "participant", "id")
	case "stream":
		e.id = attribute(t, "stream_id", "id")
		if err := p.stream(e.id, attribute(t, "label")); err != nil {
			return err
		}
	case "nameid":
		if who := p.find(e.id); who != nil && who.AOR == "" {
			who.AOR = attribute(t, "aor")
		}
	}
	p.stack = append(p.stack, e)
	return nil
}

func (p *recordingParser) close() {
	e := p.stack[len(p.stack)-1]
	p.stack = p.stack[:len(p.stack)-1]
	text := strings.TrimSpace(p.text.String())
	p.text.Reset()
	if text == "" {
		return
	}
	switch e.name {
	case "datamode":
		p.rec.Partial = strings.EqualFold(text, "partial")
	case "sipsessionid":
		p.rec.SIPSession = text
	case "label":
		if i := slices.IndexFunc(p.rec.Streams, func(s Stream) bool { return s.ID == e.id }); i >= 0 && p.rec.Streams[i].Label == "" {
			p.rec.Streams[i].Label = text
		}
	default:
		p.about(e, text)
	}
}

// about takes what is said of a participant.
func (p *recordingParser) about(e element, text string) {
	inside := func(name string) bool {
		return slices.ContainsFunc(p.stack, func(s element) bool { return s.name == name })
	}
	switch e.name {
	case "send":
		// An association may come before its participant.
		if who, err := p.participant(e.id); err == nil && e.id != "" && len(who.Send) < maxObjects {
			who.Send = append(who.Send, text)
		}
		return
	case "disassociatetime":
		if inside("participantsessionassoc") {
			if who := p.find(e.id); who != nil {
				who.Left = true
			}
		}
		return
	}
	who := p.find(e.id)
	if who == nil {
		return
	}
	switch e.name {
	case "name":
		if who.Name == "" {
			who.Name = Name(text)
		}
	case "aor":
		if who.AOR == "" {
			who.AOR = text
		}
	case "callingparty": // an extension of Oracle's border controllers
		calling := strings.EqualFold(text, "true")
		who.Calling = &calling
	}
}

// participant is the one of that id, made where there is none yet.
func (p *recordingParser) participant(id string) (*Participant, error) {
	if who := p.find(id); who != nil && id != "" {
		return who, nil
	}
	if len(p.rec.Participants) >= maxObjects {
		return nil, fmt.Errorf("more than %d participants", maxObjects)
	}
	p.rec.Participants = append(p.rec.Participants, Participant{ID: id})
	return &p.rec.Participants[len(p.rec.Participants)-1], nil
}

// find is the last participant of that id, so that parties without ids do not
// run together.
func (p *recordingParser) find(id string) *Participant {
	for i := len(p.rec.Participants) - 1; i >= 0; i-- {
		if p.rec.Participants[i].ID == id {
			return &p.rec.Participants[i]
		}
	}
	return nil
}

func (p *recordingParser) stream(id, label string) error {
	if len(p.rec.Streams) >= maxObjects {
		return fmt.Errorf("more than %d streams", maxObjects)
	}
	p.rec.Streams = append(p.rec.Streams, Stream{ID: id, Label: label})
	return nil
}

// local is a name without namespace, case, hyphens and underscores.
func local(n xml.Name) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' {
			return -1
		}
		return unicode.ToLower(r)
	}, n.Local)
}

func attribute(t xml.StartElement, names ...string) string {
	for _, name := range names {
		for _, a := range t.Attr {
			if strings.EqualFold(a.Name.Local, name) && a.Name.Space != "xml" {
				return a.Value
			}
		}
	}
	return ""
}

func clip(s string) string {
	if len(s) > 32 {
		return s[:32] + "…"
	}
	return s
}

// Merge is r after the update next: whole where next is complete, else with
// what next names in place of what was said of it before.
func (r *Recording) Merge(next *Recording) *Recording {
	if r == nil || !next.Partial {
		return next
	}
	m := *r
	m.Participants, m.Streams = slices.Clone(r.Participants), slices.Clone(r.Streams)
	if next.Session != "" {
		m.Session = next.Session
	}
	if next.SIPSession != "" {
		m.SIPSession = next.SIPSession
	}
	for _, who := range next.Participants {
		i := slices.IndexFunc(m.Participants, func(p Participant) bool { return p.ID == who.ID })
		switch {
		case i >= 0:
			m.Participants[i] = m.Participants[i].with(who)
		case len(m.Participants) < maxObjects:
			m.Participants = append(m.Participants, who)
		}
	}
	for _, s := range next.Streams {
		i := slices.IndexFunc(m.Streams, func(old Stream) bool { return old.ID == s.ID })
		switch {
		case i >= 0:
			m.Streams[i] = s
		case len(m.Streams) < maxObjects:
			m.Streams = append(m.Streams, s)
		}
	}
	return &m
}

func (p Participant) with(next Participant) Participant {
	if next.AOR != "" {
		p.AOR = next.AOR
	}
	if next.Name != "" {
		p.Name = next.Name
	}
	if next.Send != nil {
		p.Send = next.Send
	}
	if next.Calling != nil {
		p.Calling = next.Calling
	}
	p.Left = next.Left
	return p
}

// Party is a side of the call.
type Party struct{ Number, Name string }

// Sides is who is on which m= line.
type Sides struct {
	Legs           []audio.Leg // of each label asked for
	Caller, Callee Party
}

// Hints help where the metadata does not say who placed the call.
type Hints struct {
	// From and To are the numbers of the recording session's own From and To.
	// Some clients copy the call's into them.
	From, To string
	// CalleeFirst says that the client names the called party first.
	CalleeFirst bool
}

// Sides finds out which of the m= lines with these labels, in the order of the
// session description, is the caller's voice and which the callee's. A line
// that carries more than one party is of an unknown leg. An empty label is a
// line without one. What the metadata leaves open goes by order.
func (r *Recording) Sides(labels []string, hints Hints) Sides {
	senders := make([][]int, len(labels)) // indexes of participants
	for i, label := range labels {
		senders[i] = r.sendersOf(label)
	}
	r.placeRest(senders)
	roles := r.roles(hints)

	s := Sides{Legs: make([]audio.Leg, len(labels))}
	for i, from := range senders {
		switch {
		case len(from) == 1:
			s.Legs[i] = roles[from[0]]
		case len(from) == 0 && len(labels) > 1:
			s.Legs[i] = byOrder(i, hints)
		}
	}
	if len(labels) == 2 && s.Legs[0] == s.Legs[1] {
		s.Legs[1] = s.Legs[0].Other()
	}
	for i, who := range r.Participants {
		party := Party{Number: Number(who.AOR), Name: who.Name}
		switch {
		case roles[i] == audio.Caller && s.Caller == (Party{}):
			s.Caller = party
		case roles[i] == audio.Callee && s.Callee == (Party{}):
			s.Callee = party
		}
	}
	return s
}

func byOrder(i int, hints Hints) audio.Leg {
	leg := audio.Callee
	if i == 0 {
		leg = audio.Caller
	}
	if hints.CalleeFirst {
		leg = leg.Other()
	}
	return leg
}

// sendersOf is who speaks on the line with that label: by the stream of that
// label, or where stream objects are missing, by an association with the label
// itself.
func (r *Recording) sendersOf(label string) (who []int) {
	if label == "" {
		return nil
	}
	ids := []string{}
	for _, s := range r.Streams {
		if s.Label == label && s.ID != "" {
			ids = append(ids, s.ID)
		}
	}
	if len(ids) == 0 {
		ids = append(ids, label)
	}
	for i, p := range r.Participants {
		if !p.Left && slices.ContainsFunc(p.Send, func(s string) bool { return slices.Contains(ids, s) }) {
			who = append(who, i)
		}
	}
	return who
}

// placeRest gives lines without senders to participants without lines, in
// order. A lone line with several silent participants is a mix of them.
func (r *Recording) placeRest(senders [][]int) {
	var idle []int
	for i, p := range r.Participants {
		if !p.Left && !slices.ContainsFunc(senders, func(s []int) bool { return slices.Contains(s, i) }) {
			idle = append(idle, i)
		}
	}
	if len(senders) == 1 && len(senders[0]) == 0 {
		senders[0] = idle
		return
	}
	for i := range senders {
		if len(senders[i]) == 0 && len(idle) > 0 {
			senders[i], idle = idle[:1], idle[1:]
		}
	}
}

// roles says of each participant whether caller or callee: by an extension, by
// the numbers of the recording session, by the order in which they come.
func (r *Recording) roles(hints Hints) []audio.Leg {
	roles := make([]audio.Leg, len(r.Participants))
	for i, p := range r.Participants {
		number := Number(p.AOR)
		switch {
		case p.Calling != nil && *p.Calling:
			roles[i] = audio.Caller
		case p.Calling != nil:
			roles[i] = audio.Callee
		case number != "" && number == hints.From && number != hints.To:
			roles[i] = audio.Caller
		case number != "" && number == hints.To && number != hints.From:
			roles[i] = audio.Callee
		}
	}
	if known := slices.IndexFunc(roles, func(l audio.Leg) bool { return l != audio.Unknown }); known >= 0 {
		for i := range roles {
			if roles[i] == audio.Unknown {
				roles[i] = roles[known].Other()
			}
		}
		return roles
	}
	for i := range roles {
		roles[i] = byOrder(i, hints)
	}
	return roles
}
