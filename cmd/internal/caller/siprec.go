package caller

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"mime/multipart"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pion/sdp/v3"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// offer is the SDP that offers each leg's audio to a recorder (RFC 7866 7.1),
// or the one leg of a plain call.
func (m *media) offer(keys [][]byte) []byte {
	family := "IP4"
	if m.local.Is6() {
		family = "IP6"
	}
	profile := "RTP/AVP"
	if m.cfg.SRTP {
		profile = "RTP/SAVP"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "v=0\r\no=callwarden %d 1 IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n",
		time.Now().Unix(), family, m.local, family, m.local)
	for i, l := range m.lanes {
		fmt.Fprintf(&b, "m=audio %d %s %d\r\na=rtpmap:%s\r\na=ptime:20\r\na=sendonly\r\n",
			l.port(), profile, m.codec.payload, m.codec.rtpmap())
		if !m.cfg.NoRecord {
			fmt.Fprintf(&b, "a=label:%d\r\n", i+1)
		}
		if m.cfg.SRTP {
			fmt.Fprintf(&b, "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:%s\r\n", base64.StdEncoding.EncodeToString(keys[i]))
		}
	}
	return b.Bytes()
}

// answered reads from an SDP answer where the legs go; a leg that is refused
// has no valid address.
func (m *media) answered(body []byte, keys [][]byte) ([]ear, error) {
	var answer sdp.SessionDescription
	if err := answer.Unmarshal(body); err != nil {
		return nil, fmt.Errorf("reading the answer's SDP: %w", err)
	}
	if len(answer.MediaDescriptions) != len(m.lanes) {
		return nil, fmt.Errorf("the answer's SDP has %d m-lines, the offer %d", len(answer.MediaDescriptions), len(m.lanes))
	}
	ears := make([]ear, len(m.lanes))
	for i, d := range answer.MediaDescriptions {
		e, err := m.answeredLine(&answer, d)
		if err != nil {
			return nil, fmt.Errorf("m-line %d of the answer: %w", i+1, err)
		}
		if m.cfg.SRTP {
			e.key = keys[i]
		}
		ears[i] = e
	}
	return ears, nil
}

func (m *media) answeredLine(answer *sdp.SessionDescription, d *sdp.MediaDescription) (ear, error) {
	port := d.MediaName.Port.Value
	if port == 0 {
		return ear{}, nil
	}
	if !slices.Contains(d.MediaName.Formats, strconv.Itoa(int(m.codec.payload))) {
		return ear{}, fmt.Errorf("%s is not among the formats %v", m.codec.name, d.MediaName.Formats)
	}
	if _, ok := d.Attribute("crypto"); m.cfg.SRTP && !ok {
		return ear{}, fmt.Errorf("no a=crypto: SRTP is not taken")
	}
	c := d.ConnectionInformation
	if c == nil {
		c = answer.ConnectionInformation
	}
	if c == nil || c.Address == nil {
		return ear{}, fmt.Errorf("no c= line")
	}
	ip, err := netip.ParseAddr(c.Address.Address)
	if err != nil {
		return ear{}, fmt.Errorf("c=: %q is no IP address", c.Address.Address)
	}
	e := ear{rtp: netip.AddrPortFrom(ip, uint16(port)), rtcp: netip.AddrPortFrom(ip, uint16(port+1))}
	if _, mux := d.Attribute("rtcp-mux"); mux { // RFC 5761
		e.rtcp = e.rtp
	} else if v, ok := d.Attribute("rtcp"); ok { // RFC 3605
		if p, err := strconv.ParseUint(strings.Fields(v + " ")[0], 10, 16); err == nil {
			e.rtcp = netip.AddrPortFrom(ip, uint16(p))
		}
	}
	return e, nil
}

// The recording metadata of RFC 7865, as far as a call of two parties needs it.
type (
	recording struct {
		XMLName      xml.Name      `xml:"urn:ietf:params:xml:ns:recording:1 recording"`
		DataMode     string        `xml:"datamode"`
		Session      session       `xml:"session"`
		Participants []participant `xml:"participant"`
		Streams      []xmlStream   `xml:"stream"`
		SessionAssoc assoc         `xml:"sessionrecordingassoc"`
		PartySession []partyAssoc  `xml:"participantsessionassoc"`
		PartyStream  []partyStream `xml:"participantstreamassoc"`
	}
	session struct {
		ID    string `xml:"session_id,attr"`
		SIPID string `xml:"sipSessionID,omitempty"`
		Start string `xml:"start-time"`
	}
	participant struct {
		ID   string `xml:"participant_id,attr"`
		Name nameID `xml:"nameID"`
	}
	nameID struct {
		AOR  string `xml:"aor,attr"`
		Name string `xml:"name,omitempty"`
	}
	xmlStream struct {
		ID      string `xml:"stream_id,attr"`
		Session string `xml:"session_id,attr"`
		Label   string `xml:"label"`
	}
	assoc struct {
		Session   string `xml:"session_id,attr"`
		Associate string `xml:"associate-time"`
	}
	partyAssoc struct {
		Party     string `xml:"participant_id,attr"`
		Session   string `xml:"session_id,attr"`
		Associate string `xml:"associate-time"`
	}
	partyStream struct {
		Party string   `xml:"participant_id,attr"`
		Send  []string `xml:"send"`
		Recv  []string `xml:"recv"`
	}
)

// metadata tells who speaks on which leg.
func metadata(rec *Recording, p parties, began time.Time) []byte {
	id := func() string {
		u := uuid.New()
		return base64.StdEncoding.EncodeToString(u[:])
	}
	at := began.UTC().Format("2006-01-02T15:04:05.000Z")
	r := recording{DataMode: "complete", Session: session{ID: id(), Start: at}}
	r.SessionAssoc = assoc{r.Session.ID, at}
	people := []participant{
		{ID: id(), Name: nameID{AOR: p.from, Name: p.fromName}},
		{ID: id(), Name: nameID{AOR: p.to, Name: p.toName}},
	}
	if len(rec.Legs) == 1 && rec.Legs[0].Leg == audio.Callee {
		slices.Reverse(people)
	}
	r.Participants = people
	for i := range rec.Legs {
		r.Streams = append(r.Streams, xmlStream{ID: id(), Session: r.Session.ID, Label: strconv.Itoa(i + 1)})
	}
	for i, who := range people {
		r.PartySession = append(r.PartySession, partyAssoc{who.ID, r.Session.ID, at})
		ps := partyStream{Party: who.ID}
		for k, s := range r.Streams {
			if k == i {
				ps.Send = append(ps.Send, s.ID)
			} else {
				ps.Recv = append(ps.Recv, s.ID)
			}
		}
		r.PartyStream = append(r.PartyStream, ps)
	}
	data, err := xml.MarshalIndent(r, "", "  ")
	if err != nil {
		panic(err) // only strings are in it
	}
	return append([]byte(xml.Header), data...)
}

// parties are who calls and who is called, as SIP addresses.
type parties struct {
	from, fromName, to, toName string
}

// parties of call n: numbers that end in 0000 to 9999 would be enough for a
// test, but people look for their own number, so all calls have the same.
func (c Config) parties(host netip.Addr) parties {
	aor := func(number string) string {
		if strings.Contains(number, "@") {
			return "sip:" + strings.TrimPrefix(number, "sip:")
		}
		return "sip:" + number + "@" + sipHost(host)
	}
	return parties{aor(c.From), c.FromName, aor(c.Number), c.NumberName}
}

// sipHost is ip as a SIP URI has it.
func sipHost(ip netip.Addr) string {
	return strings.TrimSuffix(net.JoinHostPort(ip.String(), ""), ":")
}

// siprecBody is the INVITE's body and the type of its content (RFC 7866 9.1).
func siprecBody(offer, metadata []byte) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part := func(content []byte, header ...string) {
		h := textproto.MIMEHeader{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		p, _ := w.CreatePart(h) // a buffer takes everything
		_, _ = p.Write(content)
	}
	part(offer, "Content-Type", "application/sdp")
	part(metadata, "Content-Type", "application/rs-metadata+xml", "Content-Disposition", "recording-session")
	_ = w.Close()
	return b.Bytes(), "multipart/mixed;boundary=" + w.Boundary()
}
