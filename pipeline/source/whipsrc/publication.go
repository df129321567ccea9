package whipsrc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/join"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// Frames that wait to be read, of 60 ms, longer than a call waits for its
	// second leg. Beyond it what comes is dropped and counted.
	maxReady = 500

	// How long a publication that has ended keeps its connection for the last
	// words about its call, at most, and then for them to be sent.
	lastWords = 5 * time.Second
	flushTime = 500 * time.Millisecond

	mostPacket = 1500 // bytes

	// The first packets of a publication wait in the library until its track is
	// read, which takes seconds where hundreds connect at once; then they come
	// together, and are no less heard for that.
	maxLead = 15 * time.Second

	// What a peer may open: pages have a track or two, and a source may change.
	maxSources, maxChannels = 16, 16
)

// publication is one WebRTC connection: one leg of a call, or two.
type publication struct {
	src    *Source
	id     string
	tenant string
	about  *publish
	codec  string    // that the peer prefers of those that can be heard
	began  time.Time // zero of its clock
	conn   *webrtc.PeerConnection
	events *channel // nil where the offer has no data channel
	mouth  *mouth   // nil where nothing can be said into the call
	wake   chan struct{}
	// sources and channels are how many tracks and data channels the peer opened.
	sources, channels atomic.Int32
	// released is closed by who leads the call when nothing more will be told.
	released chan struct{}
	ended    chan struct{} // closed when it is over: nothing more is heard of it
	gone     chan struct{} // closed when the peer is not there any more

	signal sync.Mutex // one PATCH at a time
	offer  string
	etag   string
	heard  int // candidates

	mu       sync.Mutex
	legs     []*leg
	ready    []audio.Frame
	dropped  uint64
	media    time.Duration // when it came last
	reached  bool          // a way to the peer was found
	up       bool          // has been connected
	over     bool
	reason   error // why; nil for a hang-up
	flushed  bool
	left     bool // gone is closed
	deadline *time.Timer
}

// leg is one voice of a publication.
type leg struct {
	voice
	track *media.Track
	heard time.Duration
}

// errHangUp ends a publication as its peer wants it.
var errHangUp = io.EOF

// newPublication makes what is to be heard of an offer; it is not connected yet.
func (s *Source) newPublication(tenant string, about *publish, o *offer) (*publication, *refusal) {
	voices, err := o.voices(about)
	if err != nil {
		return nil, &refusal{http.StatusUnprocessableEntity, err}
	}
	p := &publication{
		src: s, id: newSecret(), tenant: tenant, about: about, began: time.Now(), offer: o.text, etag: newETag(),
		wake: make(chan struct{}, 1), released: make(chan struct{}), ended: make(chan struct{}), gone: make(chan struct{}),
	}
	for _, f := range o.audio[0].formats {
		if f.Kind() == media.Audio {
			p.codec = f.Encoding
			break
		}
	}
	for _, v := range voices {
		cfg := media.DefaultTrackConfig(v.leg)
		cfg.Formats, cfg.Channel, cfg.Window = o.audio[v.section].formats, v.channel, s.cfg.Window
		cfg.MaxLead = maxLead
		track, err := media.NewTrack(cfg)
		if err != nil {
			return nil, &refusal{http.StatusNotAcceptable, err}
		}
		p.legs = append(p.legs, &leg{voice: v, track: track})
	}
	return p, nil
}

// answer makes the connection and returns the SDP answer, with all of our
// candidates.
func (p *publication) answer(ctx context.Context, o *offer) (string, *refusal) {
	var err error
	if p.conn, err = p.src.api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return "", &refusal{http.StatusInternalServerError, fmt.Errorf("making a connection: %w", err)}
	}
	p.conn.OnTrack(func(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		if p.sources.Add(1) > maxSources {
			p.end(errors.New("too many sources of audio"))
			return
		}
		go drain(receiver) // ends with the connection
		p.hear(track, p.sectionOf(receiver, o))
	})
	p.conn.OnConnectionStateChange(p.state)
	p.conn.OnICEConnectionStateChange(func(now webrtc.ICEConnectionState) {
		if now == webrtc.ICEConnectionStateConnected {
			p.mu.Lock()
			p.reached = true
			p.mu.Unlock()
		}
	})
	if o.channel {
		p.events = newChannel(p)
		p.conn.OnDataChannel(func(data *webrtc.DataChannel) {
			if p.channels.Add(1) > maxChannels {
				p.end(errors.New("too many data channels"))
				return
			}
			p.events.offered(data)
		})
	}
	if err := p.conn.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.text}); err != nil {
		return "", refuse(http.StatusBadRequest, "the offer cannot be taken: %w", err)
	}
	if err := p.speak(o); err != nil {
		return "", refuse(http.StatusUnprocessableEntity, "the offer's audio cannot be answered: %w", err)
	}
	return p.describe(ctx)
}

// describe answers the remote description that is set.
func (p *publication) describe(ctx context.Context) (string, *refusal) {
	said, err := p.conn.CreateAnswer(nil)
	if err != nil {
		return "", refuse(http.StatusUnprocessableEntity, "the offer cannot be answered: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(p.conn)
	if err := p.conn.SetLocalDescription(said); err != nil {
		return "", refuse(http.StatusUnprocessableEntity, "the offer cannot be answered: %w", err)
	}
	select {
	case <-gathered: // our own addresses: nobody is asked
	case <-ctx.Done():
		return "", &refusal{http.StatusServiceUnavailable, ctx.Err()}
	}
	return wish(p.conn.LocalDescription().SDP, p.about.stereo), nil
}

// What Opus senders are asked for (RFC 7587 section 6.1): nothing above what we
// hear, which halves the cost of decoding it, and as many bits for that as a
// browser spends on the full band.
const opusWish = "minptime=10;maxplaybackrate=16000;maxaveragebitrate=32000"

// wish puts what we want of Opus senders in an answer. Stereo is sent only where
// it is asked for (RFC 7587 section 7.1).
func wish(answer string, stereo bool) string {
	want := opusWish
	if stereo {
		want += ";stereo=1"
	}
	var b strings.Builder
	opus := "" // payload type in this section, with a space
	for line := range strings.Lines(answer) {
		if strings.HasPrefix(line, "m=") {
			opus = ""
		}
		if opus != "" && strings.HasPrefix(line, "a=fmtp:"+opus) {
			continue
		}
		b.WriteString(line)
		if v, ok := strings.CutPrefix(line, "a=rtpmap:"); ok {
			if pt, codec, _ := strings.Cut(v, " "); strings.HasPrefix(strings.ToLower(codec), "opus/") {
				opus = pt + " "
				b.WriteString("a=fmtp:" + opus + want + "\r\n")
			}
		}
	}
	return b.String()
}

// sectionOf is the m= line with audio that a receiver is of.
func (p *publication) sectionOf(receiver *webrtc.RTPReceiver, o *offer) int {
	for _, t := range p.conn.GetTransceivers() {
		if t.Receiver() != receiver || t.Mid() == "" {
			continue
		}
		for i, s := range o.audio {
			if s.mid == t.Mid() {
				return i
			}
		}
	}
	return 0 // of a description without identification: there is one
}

// hear takes the packets of a track until the connection is closed.
func (p *publication) hear(track *webrtc.TrackRemote, section int) {
	packet := make([]byte, mostPacket)
	for {
		// An error beside a packet is of its payload type, which we judge
		// ourselves.
		n, _, err := track.Read(packet)
		if n == 0 && err != nil {
			return
		}
		p.push(packet[:n], section)
	}
}

// drain reads a track's RTCP: the library times its reports by the peer's, which
// it sees only while somebody reads them.
func drain(receiver *webrtc.RTPReceiver) {
	packet := make([]byte, mostPacket)
	for {
		if _, _, err := receiver.Read(packet); err != nil {
			return
		}
	}
}

// push hears one packet.
func (p *publication) push(packet []byte, section int) {
	at := time.Since(p.began)
	p.mu.Lock()
	before := len(p.ready)
	for _, l := range p.legs {
		if l.section == section && !p.over {
			p.ready = l.track.Push(p.ready, packet, at)
			l.heard = at
		}
	}
	p.media = at
	p.bound()
	more := len(p.ready) > before
	p.mu.Unlock()
	if more {
		p.rouse()
	}
}

// bound drops what nobody reads.
func (p *publication) bound() {
	if over := len(p.ready) - maxReady; over > 0 {
		p.dropped += uint64(over)
		p.ready = append(p.ready[:0], p.ready[over:]...)
	}
}

// rouse has the reader look.
func (p *publication) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// steady is how long ago a leg's last packet may be for it to make its frames by
// itself.
const steady = 100 * time.Millisecond

// take moves what is ready to out; where due, legs that nothing comes of are
// told the time. ended says that this was the last, and why.
func (p *publication) take(out []audio.Frame, due bool) (frames []audio.Frame, ended bool, reason error) {
	at := time.Since(p.began)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over && !p.flushed:
		p.flushed = true
		for _, l := range p.legs {
			p.ready = l.track.Flush(p.ready)
		}
	case due && !p.over:
		for _, l := range p.legs {
			if at-l.heard >= steady {
				p.ready = l.track.Advance(p.ready, at)
			}
		}
		if p.up && at-p.media >= p.src.cfg.MediaTimeout {
			p.stop(fmt.Errorf("no media for %v", p.src.cfg.MediaTimeout))
		}
	}
	out = append(out, p.ready...)
	p.ready = p.ready[:0]
	return out, p.over && p.flushed, p.reason
}

// state follows the connection.
func (p *publication) state(now webrtc.PeerConnectionState) {
	switch now {
	case webrtc.PeerConnectionStateConnected:
		p.mu.Lock()
		if !p.up {
			p.up, p.media = true, time.Since(p.began)
			if p.deadline != nil {
				p.deadline.Stop()
			}
		}
		p.mu.Unlock()
		if p.events != nil {
			p.events.connected()
		}
	case webrtc.PeerConnectionStateFailed:
		p.lose(cmp.Or(p.neverUp(), errors.New("the connection was lost")))
	case webrtc.PeerConnectionStateClosed:
		p.lose(p.neverUp())
	}
}

// neverUp is why the connection did not come about, nil if it did. A handshake
// that fails closes it from either side.
func (p *publication) neverUp() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.up:
		return nil
	case p.reached:
		return errors.New("the DTLS handshake failed")
	}
	return errors.New("no connection came about")
}

// lose ends the publication because the peer is not there any more.
func (p *publication) lose(reason error) {
	p.mu.Lock()
	if !p.left {
		p.left = true
		close(p.gone)
	}
	p.mu.Unlock()
	p.end(reason)
}

// expect gives the connection its time to come about.
func (p *publication) expect(within time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up || p.over {
		return
	}
	p.deadline = time.AfterFunc(within, func() {
		p.mu.Lock()
		up := p.up
		p.mu.Unlock()
		if !up {
			p.lose(fmt.Errorf("no connection within %v", within))
		}
	})
}

// end ends the publication: what came until now is heard, then its call ends
// for reason, or as a hang-up where it is nil. Only the first end counts.
func (p *publication) end(reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop(reason)
}

// stop is called with the lock held.
func (p *publication) stop(reason error) {
	if p.over {
		return
	}
	p.over, p.reason = true, reason
	close(p.ended)
	if p.deadline != nil {
		p.deadline.Stop()
	}
	p.rouse()
}

// close waits for the end of the publication and of what is to be told, and
// closes the connection. It returns when nothing of it is left.
func (p *publication) close() {
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-p.released:
		if p.events != nil {
			p.events.flush(p.gone, flushTime)
		}
	case <-p.gone:
	case <-t.C:
	}
	if p.events != nil {
		p.events.close()
	}
	if p.mouth != nil {
		p.mouth.close()
	}
	// Its error says that it was closed already, in parts.
	_ = p.conn.GracefulClose()
	p.mu.Lock()
	if p.deadline != nil {
		p.deadline.Stop()
	}
	p.mu.Unlock()
}

// stats are those of the packets so far.
func (p *publication) stats() source.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all source.Stats
	seen := -1
	for _, l := range p.legs {
		if l.section == seen {
			continue // the other channel of the same packets
		}
		seen = l.section
		t := l.track.Stats()
		all.Add(source.Stats{
			Packets: t.Packets, Bytes: t.Bytes, Lost: t.Lost, Late: t.Late, Duplicate: t.Duplicate,
			Malformed: t.Malformed + t.Unsupported, Stranger: t.Foreign, Unplaced: t.Early,
		})
	}
	all.Unplaced += p.dropped
	return all
}

// readEvery is how often legs that nothing comes of are looked at.
const readEvery = 200 * time.Millisecond

// conversation is the audio of the publications that make one call.
type conversation struct {
	began time.Time
	parts []part
	ready []audio.Frame
	tick  *time.Timer
	err   error // of the part that ended last
}

type part struct {
	*publication
	offset time.Duration // from the call's beginning to the publication's
	ended  bool
}

func newConversation(parts []*publication) *conversation {
	c := &conversation{began: parts[0].began}
	for _, p := range parts {
		if p.began.Before(c.began) {
			c.began = p.began
		}
	}
	for _, p := range parts {
		c.parts = append(c.parts, part{publication: p, offset: p.began.Sub(c.began)})
	}
	return c
}

var _ audio.Reader = (*conversation)(nil)

// ReadFrame is an [audio.Reader]'s. The call is over when each part is.
func (c *conversation) ReadFrame(ctx context.Context) (audio.Frame, error) {
	due := false
	for {
		if len(c.ready) > 0 {
			f := c.ready[0]
			c.ready = c.ready[1:]
			return f, nil
		}
		if going := c.collect(due); len(c.ready) > 0 {
			due = false
			continue
		} else if !going {
			return audio.Frame{}, cmp.Or(c.err, errHangUp)
		}
		var wait error
		if due, wait = c.wait(ctx); wait != nil {
			return audio.Frame{}, wait
		}
	}
}

// collect takes what is ready, in the order of the media clock, and reports
// whether more may come.
func (c *conversation) collect(due bool) (going bool) {
	c.ready = c.ready[:0]
	for i := range c.parts {
		p := &c.parts[i]
		if p.ended {
			continue
		}
		from := len(c.ready)
		var reason error
		if c.ready, p.ended, reason = p.take(c.ready, due); p.ended {
			c.err = reason
		}
		going = going || !p.ended
		for k := from; k < len(c.ready); k++ {
			c.ready[k].Start += p.offset
		}
	}
	slices.SortStableFunc(c.ready, func(a, b audio.Frame) int { return cmp.Compare(a.End(), b.End()) })
	return going
}

// wait waits until there may be something; due says that it is time to look at
// all legs.
func (c *conversation) wait(ctx context.Context) (due bool, err error) {
	if c.tick == nil {
		c.tick = time.NewTimer(readEvery)
	} else {
		c.tick.Reset(readEvery)
	}
	first, second := c.parts[0].wake, chan struct{}(nil)
	if len(c.parts) > 1 {
		second = c.parts[1].wake
	}
	select {
	case <-first:
	case <-second:
	case <-c.tick.C:
		due = true
	case <-ctx.Done():
		return false, ctx.Err()
	}
	return due, nil
}

// lead hears a call whose first publication is the caller's. It calls admitted
// once the call is listened to, and returns why it was not heard to its end.
func (s *Source) lead(ctx context.Context, j *join.Call[*publication], handle source.Handler, admitted func()) error {
	defer j.Leave()
	sides, parts, missing := j.Gather(ctx, s.cfg.JoinWait)
	defer func() {
		for _, p := range parts {
			p.end(nil)
			close(p.released)
		}
	}()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(parts) == 1 {
		sides = parts[0].sides()
	}
	call := s.describe(j, parts, sides)
	var warnings []string
	if missing {
		lost := parts[0].legs[0].leg.Other().String()
		call.Attributes["missing_leg"] = lost
		warnings = append(warnings, fmt.Sprintf("no publication of the %s came within %v: one leg was heard", lost, s.cfg.JoinWait))
		s.log.Warn("the second leg did not come", "source", Name, "call", call.ID, "leg", lost)
	}
	call.Warnings = func() []string { return warnings }
	call.Admitted = admitted
	s.count.begun.Add(1)
	s.count.calls.Add(1)
	s.count.legs.Add(int64(len(sides)))
	err := handle(ctx, call)
	s.count.calls.Add(-1)
	s.count.legs.Add(-int64(len(sides)))
	switch {
	case errors.Is(err, source.ErrBusy):
		s.count.refused.Add(1)
	case err != nil && !errors.Is(err, context.Canceled):
		s.log.Warn("call not heard to its end", "source", Name, "call", call.ID, "err", err)
	}
	return err
}

// sides are the legs that a publication brings by itself.
func (p *publication) sides() []audio.Leg {
	all := make([]audio.Leg, len(p.legs))
	for i, l := range p.legs {
		all[i] = l.leg
	}
	return all
}

// describe is the call of these publications.
func (s *Source) describe(j *join.Call[*publication], parts []*publication, sides []audio.Leg) *source.Call {
	attributes := make(map[string]string)
	sound := newConversation(parts)
	call := &source.Call{
		ID: j.ID(), Tenant: parts[0].tenant, Source: Name, Legs: sides, Attributes: attributes,
		Began: sound.began, Live: true, Audio: sound,
	}
	first := j.First()
	for _, p := range slices.Backward(parts) {
		if p != first {
			p.about.Describe(attributes)
		}
		call.Language = cmp.Or(p.about.Language, call.Language)
		call.Listen = cmp.Or(p.about.Listen, call.Listen)
		call.Hypotheses = call.Hypotheses || p.about.Hypotheses
	}
	first.about.Describe(attributes) // who began it counts more
	attributes["codec"] = first.codec
	for _, p := range parts {
		if p.about.role != "" {
			attributes[p.legs[0].leg.String()+"_role"] = p.about.role
		}
	}
	call.Peer = peerOf(parts)
	return call
}
