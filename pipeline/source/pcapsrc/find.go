package pcapsrc

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// legStreams are the streams of one leg, one after the other.
type legStreams struct {
	leg     audio.Leg
	streams []voice
}

// voice is one stream with what is needed to hear it.
type voice struct {
	*segment
	formats []media.Format
	crypto  *media.Crypto // nil where it is not encrypted
}

// finder makes calls of what a scanner found.
type finder struct {
	*scanner
	opt     Options
	remarks []string
	silent  int // SIP calls without media
}

// find returns the calls in the order in which their media began.
func (f *finder) find() []*Call {
	var loose []*segment
	byDialog := make(map[*dialog][]*segment)
	for _, fl := range f.order {
		for _, s := range fl.segments {
			if f.match(s) {
				byDialog[s.end.dialog] = append(byDialog[s.end.dialog], s)
			} else if s.isStream() {
				loose = append(loose, s)
			}
		}
	}
	loose = f.matchPorts(loose, byDialog)
	var calls []*Call
	for _, d := range f.dialogs.all {
		if len(byDialog[d]) == 0 {
			f.silent++
			continue
		}
		calls = append(calls, f.signalled(d, byDialog[d]))
	}
	calls = append(calls, f.pairs(loose)...)
	slices.SortStableFunc(calls, func(a, b *Call) int { return cmp.Compare(a.first(), b.first()) })
	f.name(calls)
	f.warn(calls)
	return calls
}

// name gives the calls their tokens.
func (f *finder) name(calls []*Call) {
	if len(calls) == 1 {
		return
	}
	used := make(map[string]int)
	for _, c := range calls {
		token := "rtp"
		if c.dialog != nil {
			token = c.dialog.token()
		}
		used[token]++
		c.Token = token
		if n := used[token]; n > 1 || c.dialog == nil {
			c.Token = fmt.Sprintf("%s-%d", token, n)
		}
	}
}

// warn tells the calls that were not heard to their end.
func (f *finder) warn(calls []*Call) {
	if !f.cut && f.broken == nil {
		return
	}
	told := false
	for _, c := range calls {
		hungUp := c.dialog != nil && c.dialog.ended != notEnded
		if hungUp || f.clock.last-c.last() > 2*time.Second {
			continue
		}
		told = true
		what := "the capture ends within a packet: the call was heard until there"
		if f.broken != nil {
			what = "the capture cannot be read any further: the call was heard until there"
		}
		c.warnings = append(c.warnings, what)
	}
	if !told && f.cut {
		f.remarks = append(f.remarks, "the capture ends within a packet")
	}
}

// why is the end of a sentence that says that there are no calls.
func (f *finder) why(remarks []string) string {
	var all []string
	if f.silent > 0 {
		all = append(all, fmt.Sprintf("SIP of %d calls without media", f.silent))
	}
	if f.cut {
		all = append(all, "it ends within a packet")
	}
	if all = append(all, remarks...); len(all) == 0 {
		return ""
	}
	return ": " + strings.Join(slices.Compact(all), "; ")
}

// first and last are when media of the call came.
func (c *Call) first() time.Duration {
	first := notEnded
	for _, l := range c.legs {
		for _, s := range l.streams {
			first = min(first, s.first)
		}
	}
	return first
}

func (c *Call) last() time.Duration {
	last := time.Duration(0)
	for _, l := range c.legs {
		for _, s := range l.streams {
			last = max(last, s.last)
		}
	}
	return last
}

// soonAfter is how long after the first packet SIP may speak of a stream: the
// answer is often behind the media.
const soonAfter = 10 * time.Second

// match finds the side of a SIP call that s goes to or comes from.
func (f *finder) match(s *segment) bool {
	if e := s.among(f.dialogs.endpoints[s.dst]); e != nil {
		s.end = e
	} else if e := s.among(f.dialogs.endpoints[s.src]); e != nil {
		s.end, s.outgoing = e, true
	}
	return s.end != nil
}

// among returns the end that s belongs to by its time: of several the one that
// was told last before s began, else the first after it.
func (s *segment) among(ends []*endpoint) *endpoint {
	var best *endpoint
	for _, e := range ends {
		if e.from > s.last+soonAfter || e.dialog.ended != notEnded && e.dialog.ended+2*afterBye < s.first {
			continue
		}
		if best == nil || e.from <= s.first+afterBye {
			best = e
		}
	}
	return best
}

// matchPorts finds the calls of streams whose addresses were translated on
// their way: by the port, where only one call of the time has it. It returns
// the streams that are left.
func (f *finder) matchPorts(loose []*segment, byDialog map[*dialog][]*segment) []*segment {
	if len(loose) == 0 || len(f.dialogs.all) == 0 {
		return loose
	}
	byPort := make(map[uint16][]*endpoint)
	for _, d := range f.dialogs.all {
		if len(byDialog[d]) < 2 {
			for _, e := range d.endpoints {
				byPort[e.addr.Port()] = append(byPort[e.addr.Port()], e)
			}
		}
	}
	return slices.DeleteFunc(loose, func(s *segment) bool {
		for _, end := range []netip.AddrPort{s.dst, s.src} {
			ends := slices.DeleteFunc(slices.Clone(byPort[end.Port()]), func(e *endpoint) bool { return s.among([]*endpoint{e}) == nil })
			if len(ends) == 0 || slices.ContainsFunc(ends, func(e *endpoint) bool { return e.dialog != ends[0].dialog }) {
				continue
			}
			s.end, s.outgoing = ends[0], end == s.src
			byDialog[s.end.dialog] = append(byDialog[s.end.dialog], s)
			return true
		}
		return false
	})
}

// signalled makes a call of the streams that SIP speaks of.
func (f *finder) signalled(d *dialog, segments []*segment) *Call {
	c := &Call{dialog: d, Attributes: make(map[string]string)}
	d.describeCall(c.Attributes)
	sides := d.sides()
	// The same voice may have been captured before and after a relay: of two
	// streams at a time the one with more packets counts.
	slices.SortStableFunc(segments, func(a, b *segment) int { return cmp.Compare(b.packets, a.packets) })
	for _, s := range segments {
		leg := s.end.speaker(sides, s.outgoing)
		heard, err := f.hearable(s)
		if err != nil {
			if c.deaf == nil {
				c.deaf = err
			}
			c.warnings = append(c.warnings, fmt.Sprintf("a stream of the %s was not heard: %v", leg, err))
			continue
		}
		c.add(leg, heard)
	}
	f.finish(c)
	return c
}

// add adds a stream, unless another of the leg was sent at the same time.
func (c *Call) add(leg audio.Leg, s voice) {
	i := slices.IndexFunc(c.legs, func(l legStreams) bool { return l.leg == leg })
	if i < 0 {
		i = len(c.legs)
		c.legs = append(c.legs, legStreams{leg: leg})
	}
	for _, o := range c.legs[i].streams {
		if s.overlap(o.segment) > time.Second {
			return
		}
	}
	c.legs[i].streams = append(c.legs[i].streams, s)
}

// finish fills in what follows from the streams.
func (f *finder) finish(c *Call) {
	if len(c.legs) == 0 {
		return
	}
	c.deaf = nil
	slices.SortFunc(c.legs, func(a, b legStreams) int { return cmp.Compare(order(a.leg), order(b.leg)) })
	codecs := make(map[string]bool)
	cut, packets := 0, 0
	for _, l := range c.legs {
		c.Legs = append(c.Legs, l.leg)
		slices.SortFunc(l.streams, func(a, b voice) int { return cmp.Compare(a.first, b.first) })
		for _, s := range l.streams {
			cut += s.cut
			packets += s.packets
			for _, t := range s.types {
				if format, ok := formatOf(s.formats, t.payloadType); ok && format.Kind() == media.Audio {
					codecs[format.String()] = true
				}
			}
			if s.byClock(s.formats) {
				c.warnings = append(c.warnings, fmt.Sprintf("the capture has not the time for what the %s says: its packets were placed by their own clock", l.leg))
			}
		}
	}
	c.Attributes["codec"] = strings.Join(slices.Sorted(maps.Keys(codecs)), ", ")
	if cut > 0 {
		c.warnings = append(c.warnings, fmt.Sprintf("%d of %d packets were captured without their end, and heard without it", cut, packets))
	}
	first := c.first()
	c.Duration = c.last() - first
	for _, l := range c.legs {
		for _, s := range l.streams {
			if s.first == first && s.began != noTime {
				c.Began = time.Unix(0, int64(s.began)).UTC()
			}
		}
	}
}

// order puts the caller first.
func order(l audio.Leg) int {
	if l == audio.Unknown {
		return 3
	}
	return int(l)
}

// hearable returns what is needed to hear a stream that SIP speaks of.
func (f *finder) hearable(s *segment) (voice, error) {
	e := s.end
	if e.dtls {
		return voice{}, errors.New("it is encrypted, with keys that were exchanged by DTLS")
	}
	heard := voice{segment: s}
	var refused []error
	sender := e
	lists := [][]media.Format{e.formats}
	refused = append(refused, e.refused...)
	for _, o := range e.dialog.endpoints {
		if o.side == e.side || o.line != e.line {
			continue
		}
		if !s.outgoing {
			sender = o
			lists = append(lists, o.formats)
		} else { // payload types are those of the side that takes them
			lists = append([][]media.Format{o.formats}, lists...)
		}
		refused = append(refused, o.refused...)
	}
	heard.formats = merge(append(lists, f.opt.Formats, fallback())...)
	if line, secure := sender.sends(); secure {
		crypto, err := media.ParseCrypto(line)
		if err != nil {
			return voice{}, err
		}
		heard.crypto = &crypto
	}
	if heard.audible() {
		return heard, nil
	}
	if len(refused) > 0 {
		return voice{}, refused[0]
	}
	return voice{}, heard.undescribed()
}

// fallback are the formats that need no description, and what nearly everybody
// means by 101.
func fallback() []media.Format {
	return append(media.StaticFormats(), media.Format{PayloadType: 101, Encoding: "telephone-event", ClockHz: 8000, Channels: 1})
}

// merge puts lists together; the first that has a payload type says what it is.
func merge(lists ...[]media.Format) []media.Format {
	var all []media.Format
	for _, list := range lists {
		for _, f := range list {
			if _, ok := formatOf(all, f.PayloadType); !ok && f.Check() == nil {
				all = append(all, f)
			}
		}
	}
	return all
}

func formatOf(formats []media.Format, payloadType uint8) (media.Format, bool) {
	for _, f := range formats {
		if f.PayloadType == payloadType {
			return f, true
		}
	}
	return media.Format{}, false
}

// audible reports whether most of s is audio that can be heard.
func (s *voice) audible() bool {
	audible, silent := 0, 0
	for _, t := range s.types {
		switch f, ok := formatOf(s.formats, t.payloadType); {
		case !ok:
			silent += t.packets
		case f.Kind() == media.Audio:
			audible += t.packets
		}
	}
	return audible > 0 && audible >= silent
}

// undescribed names the payload types that nobody describes.
func (s *voice) undescribed() error {
	var names []string
	example := 96
	for _, t := range s.types {
		if _, ok := formatOf(s.formats, t.payloadType); ok {
			continue
		}
		if static, ok := media.Static(t.payloadType); ok {
			return static.Check()
		}
		names = append(names, fmt.Sprint(t.payloadType))
		example = int(t.payloadType)
	}
	if len(names) == 0 {
		return errors.New("there is no audio in it")
	}
	return fmt.Errorf("payload type %s is not described in the capture: say what it is, such as --map %d=opus/48000/2", strings.Join(names, ", "), example)
}

// pairs makes calls of streams that no SIP speaks of: two that go to and fro
// are one.
func (f *finder) pairs(loose []*segment) []*Call {
	slices.SortStableFunc(loose, func(a, b *segment) int { return cmp.Compare(a.first, b.first) })
	formats := merge(f.opt.Formats, fallback())
	unheard := make(map[string]int)
	loose = slices.DeleteFunc(loose, func(s *segment) bool {
		heard := voice{segment: s, formats: formats}
		if heard.audible() {
			return false
		}
		unheard[heard.undescribed().Error()]++
		return true
	})
	for _, why := range slices.Sorted(maps.Keys(unheard)) {
		f.remarks = append(f.remarks, fmt.Sprintf("%d streams were not heard: %s", unheard[why], why))
	}
	var calls []*Call
	for _, s := range loose {
		if s.taken {
			continue
		}
		s.taken = true
		c := &Call{Attributes: make(map[string]string)}
		other := s.partner(loose)
		switch {
		case other == nil:
			c.add(audio.Unknown, voice{segment: s, formats: formats})
		default:
			other.taken = true
			first, second := audio.Caller, audio.Callee
			if f.opt.CalleeFirst {
				first, second = second, first
			}
			c.add(first, voice{segment: s, formats: formats})
			c.add(second, voice{segment: other, formats: formats})
		}
		f.finish(c)
		calls = append(calls, c)
	}
	return calls
}

// partner returns the stream that goes the other way: between the same ports,
// or else the only one between the same machines.
func (s *segment) partner(all []*segment) *segment {
	var back, near []*segment
	for _, o := range all {
		if o.taken || o.src.Addr() != s.dst.Addr() || o.dst.Addr() != s.src.Addr() || o == s {
			continue
		}
		overlap := s.overlap(o)
		if o.src == s.dst && o.dst == s.src && overlap >= 0 {
			back = append(back, o)
		} else if overlap > 0 && 2*overlap >= min(s.last-s.first, o.last-o.first) {
			near = append(near, o)
		}
	}
	if len(back) > 0 {
		return slices.MaxFunc(back, func(a, b *segment) int { return cmp.Compare(s.overlap(a), s.overlap(b)) })
	}
	if len(near) == 1 && s.alone(all) {
		return near[0]
	}
	return nil
}

// alone reports whether no other stream goes the same way at the same time.
func (s *segment) alone(all []*segment) bool {
	return !slices.ContainsFunc(all, func(o *segment) bool {
		return o != s && o.src.Addr() == s.src.Addr() && o.dst.Addr() == s.dst.Addr() && s.overlap(o) > 0
	})
}
