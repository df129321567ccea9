package siprecsrc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/pipeline/source/sdp"
	"github.com/callwarden/callwarden/pipeline/source/sipmeta"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// line is one m= line of a call, in the order of its session description.
type line struct {
	stream *media.Stream // nil where the line is refused or not used
	label  string
	leg    audio.Leg
	key    string        // the a=crypto line that was taken
	crypto *media.Crypto // and our own
}

// choice is what would be heard of an offered line; err is why it would not.
type choice struct {
	cfg    media.StreamConfig
	key    string
	crypto *media.Crypto
	err    error
}

var errThird = errors.New("a call has two sides: more streams are not heard")

// negotiate takes an offer, with the call's lock held: streams are added,
// changed and removed, and the answer is made. Where nothing of it can be
// heard it returns why, and nothing has changed.
func (c *call) negotiate(offer *sdp.Session, recording *sipmeta.Recording) error {
	if recording != nil {
		c.recording = c.recording.Merge(recording)
	}
	if c.answer != nil && offer.Version != "" && offer.Version == c.offered && len(offer.Media) == len(c.answer.Lines) {
		return nil // the same again: RFC 3264 section 8
	}
	choices := c.choose(offer)
	used := slices.ContainsFunc(offer.Media, func(m sdp.Media) bool { return m.Port != 0 })
	heard := slices.ContainsFunc(choices, func(ch choice) bool { return ch.err == nil })
	if !heard && (used || c.answer == nil) {
		return choices[0].err
	}
	answer := &sdp.Answer{Address: c.mediaAddress, Version: 1, Session: rand.Uint64() >> 1}
	if c.answer != nil {
		answer.Session, answer.Version = c.answer.Session, c.answer.Version+1
	}
	var refused error
	for i := range offer.Media {
		if c.unheard.Load() {
			answer.Lines = append(answer.Lines, c.inactive(&offer.Media[i], choices[i]))
			continue
		}
		l, err := c.apply(i, &offer.Media[i], choices[i])
		if err != nil && (refused == nil || errors.Is(err, source.ErrBusy)) {
			refused = err
		}
		answer.Lines = append(answer.Lines, l)
	}
	if c.answer == nil && !slices.ContainsFunc(c.lines, func(l line) bool { return l.stream != nil }) {
		return refused // no port was free for any
	}
	c.answer, c.offered = answer, offer.Version
	c.body = answer.Marshal()
	return nil
}

// choose decides on each line without touching any.
func (c *call) choose(offer *sdp.Session) []choice {
	legs := c.place(offer)
	choices := make([]choice, len(offer.Media))
	for i := range offer.Media {
		m := &offer.Media[i]
		formats, err := m.Choose()
		if err == nil && legs[i] < 0 {
			err = errThird
		}
		if err != nil {
			choices[i].err = err
			continue
		}
		choices[i].cfg = media.StreamConfig{
			Leg: audio.Leg(legs[i]), Formats: formats,
			Remote: c.from(m), Reports: m.Reports(), Mux: m.Mux, Held: m.Held(),
		}
		choices[i].err = c.keys(i, m, &choices[i])
	}
	return choices
}

// from is where the media of a line may come from.
func (c *call) from(m *sdp.Media) netip.AddrPort {
	remote := m.Remote()
	if c.s.cfg.MediaFrom == "any" || !remote.IsValid() {
		return netip.AddrPort{}
	}
	// Many send from another port than they receive at.
	return netip.AddrPortFrom(remote.Addr(), 0)
}

// keys takes the first a=crypto line that can be used.
func (c *call) keys(i int, m *sdp.Media, ch *choice) error {
	var refused error
	for _, text := range m.Crypto {
		theirs, err := media.ParseCrypto(text)
		if err != nil {
			refused = err
			continue
		}
		ch.key, ch.cfg.Receive = text, &theirs
		if i < len(c.lines) && c.lines[i].key == text && c.lines[i].crypto != nil {
			ch.crypto = c.lines[i].crypto
		} else {
			ours, err := media.NewCrypto(theirs.Tag, theirs.Suite)
			if err != nil {
				return err
			}
			ch.crypto = &ours
		}
		ch.cfg.Send = ch.crypto
		return nil
	}
	if strings.Contains(strings.ToUpper(m.Proto), "SAVP") {
		return refused
	}
	return nil // encryption was offered, not asked for
}

// place says which leg each line is, -1 for a line that has none. A line keeps
// the leg that it has.
func (c *call) place(offer *sdp.Session) []int {
	var active []int
	var labels []string
	for i := range offer.Media {
		if _, err := offer.Media[i].Choose(); err == nil {
			active, labels = append(active, i), append(labels, offer.Media[i].Label)
		}
	}
	recording := c.recording
	if recording == nil {
		recording = &sipmeta.Recording{}
	}
	sides := recording.Sides(labels, c.hints)
	if c.legs == nil {
		c.legs, c.sides = c.legsOf(sides), sides
	}
	legs := slices.Repeat([]int{-1}, len(offer.Media))
	speaks := make(map[audio.Leg]bool) // legs with a line that is not held
	take := func(i int, leg audio.Leg) {
		legs[i] = int(leg)
		speaks[leg] = speaks[leg] || !offer.Media[i].Held()
	}
	var fresh []int // indexes into active
	for n, i := range active {
		if i < len(c.lines) && c.lines[i].stream != nil && c.lines[i].label == offer.Media[i].Label {
			take(i, c.lines[i].leg)
		} else {
			fresh = append(fresh, n)
		}
	}
	for _, n := range fresh {
		i, want := active[n], sides.Legs[n]
		if !slices.Contains(c.legs, want) || speaks[want] && !offer.Media[i].Held() {
			free := slices.IndexFunc(c.legs, func(l audio.Leg) bool { return !speaks[l] })
			if free < 0 {
				continue
			}
			want = c.legs[free]
		}
		take(i, want)
	}
	return legs
}

// legsOf are the legs that a call has for as long as it lasts.
func (c *call) legsOf(sides sipmeta.Sides) []audio.Leg {
	switch {
	case len(sides.Legs) > 1:
	case c.recording == nil && !c.siprec:
		leg, err := audio.ParseLeg(c.s.cfg.Plain)
		if err != nil { // refused before it comes here
			leg = audio.Unknown
		}
		return []audio.Leg{leg}
	case len(sides.Legs) == 1 && sides.Legs[0] == audio.Unknown && c.recording != nil && len(c.recording.Participants) > 1:
		return []audio.Leg{audio.Unknown} // both in one stream
	}
	return []audio.Leg{audio.Caller, audio.Callee}
}

// apply makes a line what was chosen.
func (c *call) apply(i int, m *sdp.Media, ch choice) (sdp.Line, error) {
	for len(c.lines) <= i {
		c.lines = append(c.lines, line{})
	}
	l := &c.lines[i]
	err := ch.err
	switch {
	case err != nil:
	case l.stream != nil:
		err = l.stream.Change(ch.cfg)
	default:
		l.stream, err = c.session.Add(ch.cfg)
	}
	if err != nil {
		if l.stream != nil {
			if gone := l.stream.Remove(); gone != nil {
				c.log.Warn("closing a media port", "call", c.id, "err", gone)
			}
		}
		*l = line{}
		if m.Port != 0 {
			err = fmt.Errorf("line %d: %w", i+1, err)
		}
		return sdp.Line{Offer: m}, err
	}
	l.label, l.leg, l.key, l.crypto = m.Label, ch.cfg.Leg, ch.key, ch.crypto
	answer := sdp.Line{
		Offer: m, Port: l.stream.Port(), Formats: ch.cfg.Formats, Direction: sdp.Reply(m), Mux: m.Mux,
	}
	if ch.crypto != nil {
		answer.Crypto = ch.crypto.Line()
	}
	return answer, nil
}

// discard is the port that stands for no port where 0 would refuse the line,
// RFC 863.
const discard = 9

// inactive is the answer to a line of a call that is not to be heard.
func (c *call) inactive(m *sdp.Media, ch choice) sdp.Line {
	l := sdp.Line{Offer: m, Formats: ch.cfg.Formats, Direction: sdp.Inactive, Mux: m.Mux}
	if ch.err == nil {
		l.Port = discard
	}
	if ch.crypto != nil {
		l.Crypto = ch.crypto.Line()
	}
	return l
}

// unhear turns the answer into that of a call that is not to be heard: all that
// was taken is inactive.
func (c *call) unhear() {
	for i := range c.answer.Lines {
		l := &c.answer.Lines[i]
		if l.Port != 0 {
			l.Port, l.Direction = discard, sdp.Inactive
		}
	}
	c.body = c.answer.Marshal()
}
