package audiohooksrc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// errOver is a normal end.
var errOver = io.EOF

// framesMost is how many frames may wait for whoever hears the call: 30 s of
// two legs, above all that a client may be ahead. When full the connection is
// not read from, and TCP holds the client back.
const framesMost = 1000

// call is one that is heard, through one connection after another.
type call struct {
	id, tenant string
	key        [2]string
	legs       []audio.Leg
	description
	source *Source
	began  time.Time

	mu       sync.Mutex
	through  *connection   // nil while there is none
	waiting  *time.Timer   // for another connection
	last     bool          // there will be none
	frames   []audio.Frame // from head on
	head     int
	ended    bool
	err      error         // why, once ended
	news     chan struct{} // something to read, or the end; cap 1
	room     chan struct{} // something was read; cap 1
	over     chan struct{} // closed when nobody hears the call any more
	warnings []string
	begin    time.Duration // media time at which the session of now began
	reached  time.Duration // media time that the session before came to
	language string
}

// description is what an open says of a call.
type description struct {
	conversation string
	legs         []audio.Leg
	external     audio.Leg
	attributes   map[string]string
	language     string
}

func newCall(s *Source, tenant, session string, d description, through *connection) *call {
	return &call{
		// The conversation may be monitored more than once, as when it is handed
		// to another agent; its id is what the contact centre looks for.
		id:     strings.ToLower(d.conversation + "-" + session[:8]),
		tenant: tenant, key: [2]string{tenant, session}, legs: d.legs, description: d,
		source: s, began: time.Now(), through: through,
		news: make(chan struct{}, 1), room: make(chan struct{}, 1), over: make(chan struct{}),
		language: d.language,
	}
}

// call is what the handler gets.
func (c *call) call(admitted func()) *source.Call {
	return &source.Call{
		ID: c.id, Tenant: c.tenant, Source: Name, Legs: c.legs, Attributes: c.attributes,
		Began: c.began, Live: true, Audio: c, Language: c.description.language,
		Admitted: admitted, Peer: c, Warnings: c.told,
	}
}

// ReadFrame is an [audio.Reader]'s.
func (c *call) ReadFrame(ctx context.Context) (audio.Frame, error) {
	for {
		c.mu.Lock()
		if c.head < len(c.frames) {
			f := c.frames[c.head]
			c.frames[c.head] = audio.Frame{}
			if c.head++; c.head == len(c.frames) {
				c.frames, c.head = c.frames[:0], 0
			}
			c.mu.Unlock()
			signal(c.room)
			return f, nil
		}
		if c.ended {
			err := c.err
			c.mu.Unlock()
			return audio.Frame{}, err
		}
		c.mu.Unlock()
		select {
		case <-c.news:
		case <-ctx.Done():
			return audio.Frame{}, ctx.Err()
		}
	}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// hear queues frames that came through a connection. It waits while there is no
// room.
func (c *call) hear(through *connection, frames []audio.Frame) {
	for len(frames) > 0 {
		c.mu.Lock()
		if c.through != through || c.ended {
			c.mu.Unlock()
			return
		}
		if len(c.frames)-c.head < framesMost {
			c.frames = append(c.frames, frames...)
			frames = nil
		}
		c.mu.Unlock()
		signal(c.news)
		if frames != nil {
			select {
			case <-c.room:
			case <-c.over:
				return
			}
		}
	}
}

// join goes on with the call in another connection, where it waits for one that
// has the same legs. It returns the media time at which that begins.
func (c *call) join(through *connection, legs []audio.Leg) (from time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.through != nil || c.ended || c.waiting == nil || len(legs) != len(c.legs) {
		return 0, false
	}
	c.waiting.Stop()
	c.waiting = nil
	c.through = through
	c.begin = max(time.Since(c.began), c.reached)
	c.warnings = append(c.warnings, fmt.Sprintf("the connection was lost, and taken up again at %v", c.begin.Round(time.Second)))
	return c.begin, true
}

// close ends the call, whose last events may still be told through the
// connection.
func (c *call) close(through *connection, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.through == through {
		c.warn(through)
		c.endLocked(err)
	}
}

// leave ends a connection's part in the call, and the call unless the client
// may come again. A second time it does nothing.
func (c *call) leave(through *connection, end ended) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.through != through {
		return
	}
	c.through = nil
	c.warn(through)
	if end.again && !c.last && !c.ended && c.source.cfg.ReconnectWait > 0 {
		c.waiting = time.AfterFunc(c.source.cfg.ReconnectWait, func() { c.end(end.err) })
		return
	}
	c.endLocked(end.err)
}

// warn notes, once, what was wrong with a session that is over. It is called
// by the goroutine of the connection.
func (c *call) warn(through *connection) {
	if through.noted {
		return
	}
	through.noted = true
	s := through.session
	c.reached = s.clock.told
	if s.clock.paused {
		s.pauses += time.Since(s.began) - s.clock.since
	}
	if s.pauses >= time.Second {
		c.warnings = append(c.warnings, fmt.Sprintf("the contact centre paused the call: %v were not heard", s.pauses.Round(time.Second)))
	}
	if s.lost > 0 {
		c.warnings = append(c.warnings, fmt.Sprintf("the contact centre did not send %v of the call", s.lost.Round(100*time.Millisecond)))
	}
	if s.language != "" && s.language != c.language {
		c.warnings = append(c.warnings, fmt.Sprintf("the language of the call became %s", s.language))
	}
}

func (c *call) told() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.warnings
}

func (c *call) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(err)
}

func (c *call) endLocked(err error) {
	if c.ended {
		return
	}
	c.ended, c.err = true, err
	signal(c.news)
}

// abandon ends the call if it waits for a client: none will be let in any more.
func (c *call) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
	if c.waiting != nil && c.waiting.Stop() {
		c.endLocked(errOver)
	}
}

// finish is called when nobody hears the call any more: the client is asked to
// close its session.
func (c *call) finish(reason, info string) {
	c.mu.Lock()
	if c.waiting != nil {
		c.waiting.Stop()
	}
	c.endLocked(errOver)
	through := c.through
	c.mu.Unlock()
	close(c.over)
	if through != nil {
		through.session.leave(reason, info)
		through.hurry()
	}
}

// wait waits until nobody hears the call any more.
func (c *call) wait(most time.Duration) {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-c.over:
	case <-t.C:
	}
}

// Tell is a [source.Peer]'s.
func (c *call) Tell(ev sink.Event) {
	c.mu.Lock()
	through, from := c.through, c.begin
	language := c.language
	c.mu.Unlock()
	entities := entitiesOf(ev, c.channel, language, from)
	if len(entities) == 0 {
		return
	}
	count := &c.source.server.Count
	if through != nil && through.session.tell(entities) {
		count.Told.Add(1)
	} else {
		count.Untold.Add(1)
	}
}

// channel is the channel of a leg.
func (c *call) channel(l callwardenv1.Leg) string {
	side := map[callwardenv1.Leg]audio.Leg{
		callwardenv1.Leg_LEG_CALLER: audio.Caller, callwardenv1.Leg_LEG_CALLEE: audio.Callee,
	}[l]
	if side == c.external {
		return external
	}
	return internal
}

// describe is what an open says of the call.
func describe(p *openParameters, m media, usual string) description {
	d := description{conversation: p.Conversation, attributes: custom(p.Custom)}
	d.external, _ = audio.ParseLeg(usual) // was validated
	switch d.attributes["direction"] {
	case "inbound":
		d.external = audio.Caller
	case "outbound":
		d.external = audio.Callee
	default:
		d.attributes["direction"] = map[audio.Leg]string{audio.Caller: "inbound", audio.Callee: "outbound"}[d.external]
	}
	for _, channel := range m.Channels {
		leg := d.external
		if channel == internal {
			leg = d.external.Other()
		}
		d.legs = append(d.legs, leg)
	}
	for name, value := range map[string]string{
		"from": number(p.Participant.ANI), "from_name": p.Participant.ANIName, "to": number(p.Participant.DNIS),
		"codec": m.Format, "conversation": p.Conversation, "organization": p.Organization, "participant": p.Participant.ID,
	} {
		if value = clean(value); value != "" {
			d.attributes[name] = value
		}
	}
	if isLanguage(p.Language) {
		d.language = p.Language
		d.attributes["language"] = p.Language
	}
	return d
}

const (
	maxAttributes = 32
	maxAttribute  = 256 // bytes
)

var attribute = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// custom are the members of customConfig that can be attributes of a call.
func custom(raw json.RawMessage) map[string]string {
	attributes := make(map[string]string)
	var members map[string]any
	if json.Unmarshal(raw, &members) != nil {
		return attributes
	}
	for name, value := range members {
		if !attribute.MatchString(name) || len(attributes) == maxAttributes {
			continue
		}
		switch v := value.(type) {
		case string:
			attributes[name] = clean(v)
		case bool:
			attributes[name] = strconv.FormatBool(v)
		case float64:
			attributes[name] = strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
	return attributes
}

// number is the number of an ani or dnis, which may be a URI.
func number(s string) string {
	if n, ok := strings.CutPrefix(s, "tel:"); ok {
		n, _, _ = strings.Cut(n, ";")
		return n
	}
	if n, ok := strings.CutPrefix(s, "sip:"); ok {
		n, _, _ = strings.Cut(n, "@")
		return n
	}
	return s
}

// clean leaves out what a text of ours may not have.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if len(s) > maxAttribute {
		s = strings.ToValidUTF8(s[:maxAttribute], "")
	}
	return s
}

// continued are the sessions that a client says it goes on with.
func (o *openParameters) continued() []string {
	var ids []string
	for _, s := range o.Continued {
		ids = append(ids, s.ID)
	}
	return ids
}
