package whipsrc

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/say"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Channel is the label of the data channel that events go by: CloudEvents as
// JSON, one a text message.
const Channel = "callwarden"

const (
	// Events that wait for the channel to open: those of a call's first seconds.
	maxUnsent = 256
	// Bytes that wait for the peer to take them. A page that does not read holds
	// back no more than this; the events after it are gone, and counted.
	maxBuffered = 512 << 10
	// A page that has not opened the channel itself after so long gets one.
	openAfter = time.Second

	maxPrompts = 2 // waiting to be said; a third is one too many
)

// channel brings events to one publication's page.
type channel struct {
	p *publication

	mu      sync.Mutex
	over    bool
	open    bool
	data    *webrtc.DataChannel // nil until there is one
	opening *time.Timer
	waiting [][]byte
}

func newChannel(p *publication) *channel { return &channel{p: p} }

// offered takes the channel that the page has opened, if it is ours.
func (c *channel) offered(data *webrtc.DataChannel) {
	if data.Label() != Channel {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adopt(data)
}

// adopt is called with the lock held.
func (c *channel) adopt(data *webrtc.DataChannel) {
	if c.data != nil || c.over {
		return
	}
	c.data = data
	if c.opening != nil {
		c.opening.Stop()
	}
	data.OnOpen(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open = true
		for _, text := range c.waiting {
			c.send(text)
		}
		c.waiting = nil
	})
}

// connected opens the channel ourselves where the page does not.
func (c *channel) connected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.data != nil || c.opening != nil || c.over {
		return
	}
	c.opening = time.AfterFunc(openAfter, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.data != nil || c.over {
			return
		}
		if data, err := c.p.conn.CreateDataChannel(Channel, nil); err == nil { // else the connection has ended
			c.adopt(data)
		}
	})
}

// tell sends text, or keeps it until the channel is open. It does not wait.
func (c *channel) tell(text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over || !c.open && len(c.waiting) >= maxUnsent:
		c.p.src.count.untold.Add(1)
	case !c.open:
		c.waiting = append(c.waiting, text)
	default:
		c.send(text)
	}
}

// send is called with the lock held. The library queues and does not wait.
func (c *channel) send(text []byte) {
	if c.data.BufferedAmount()+uint64(len(text)) > maxBuffered || c.data.SendText(string(text)) != nil {
		c.p.src.count.untold.Add(1)
		return
	}
	c.p.src.count.told.Add(1)
}

// flush waits until the page has what was sent, it is gone, or the time is over.
func (c *channel) flush(gone <-chan struct{}, within time.Duration) {
	c.mu.Lock()
	data := c.data
	open := c.open
	c.mu.Unlock()
	if !open || data.BufferedAmount() == 0 {
		return
	}
	t := time.NewTimer(within)
	defer t.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for data.BufferedAmount() > 0 {
		select {
		case <-look.C:
		case <-gone:
			return
		case <-t.C:
			return
		}
	}
}

// close counts what was never sent.
func (c *channel) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.opening != nil {
		c.opening.Stop()
	}
	c.p.src.count.untold.Add(uint64(len(c.waiting)))
	c.waiting = nil
}

// mouth says prompts into one publication.
type mouth struct {
	queue *say.Queue
	stop  context.CancelFunc
	done  chan struct{} // closed when nothing is said any more
}

// speak adds a track for prompts to the first audio that is offered both ways in
// a codec that we can write.
func (p *publication) speak(o *offer) error {
	mime := ""
	for _, s := range o.audio {
		if mime = s.spoken; mime != "" {
			break
		}
	}
	if mime == "" {
		return nil
	}
	track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: mime, ClockRate: 8000}, "prompt", "callwarden")
	if err != nil {
		return err
	}
	if _, err := p.conn.AddTrack(track); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.mouth = &mouth{queue: say.NewQueue(maxPrompts), stop: cancel, done: make(chan struct{})}
	rate, encode := encoder(mime)
	go func() { // ends with close, which waits for it
		defer close(p.mouth.done)
		_ = p.mouth.queue.Run(ctx, rate, func(pcm []int16) error {
			return track.WriteSample(media.Sample{Data: encode(pcm), Duration: say.Tick})
		}) // Play tells why
	}()
	return nil
}

func (m *mouth) close() {
	m.stop()
	<-m.done
}

// encoder writes a codec.
func encoder(mime string) (rateHz int, encode func(pcm []int16) []byte) {
	switch mime {
	case mimeG722:
		var e audio.G722Encoder
		return 16000, func(pcm []int16) []byte { return e.Encode(nil, pcm) }
	case mimePCMA:
		return 8000, func(pcm []int16) []byte { return audio.ALaw.Encode(nil, pcm) }
	}
	return 8000, func(pcm []int16) []byte { return audio.MuLaw.Encode(nil, pcm) }
}

// peer is the pages of a call.
type peer struct {
	src   *Source
	pages []*channel
}

// speaker is a peer into whose call something can be said.
type speaker struct {
	peer
	mouths []*mouth
}

var (
	_ source.Peer   = (*peer)(nil)
	_ source.Player = (*speaker)(nil)
)

// peerOf is the way back to the publications of a call; nil where there is none.
func peerOf(parts []*publication) source.Peer {
	to := peer{}
	var mouths []*mouth
	for _, p := range parts {
		to.src = p.src
		if p.events != nil {
			to.pages = append(to.pages, p.events)
		}
		if p.mouth != nil {
			mouths = append(mouths, p.mouth)
		}
	}
	switch {
	case len(mouths) > 0:
		return &speaker{to, mouths}
	case len(to.pages) > 0:
		return &to
	}
	return nil
}

// Tell is a [source.Peer]'s: all pages of the call hear the same.
func (p *peer) Tell(ev sink.Event) {
	if len(p.pages) == 0 {
		return
	}
	text, err := ev.CloudEvent()
	if err != nil {
		p.src.count.untold.Add(uint64(len(p.pages)))
		p.src.log.Error("an event cannot be written", "source", Name, "call", ev.Call, "event", ev.Type, "err", err)
		return
	}
	for _, c := range p.pages {
		c.tell(text)
	}
}

// Play is a [source.Player]'s: everybody who can hear it does.
func (s *speaker) Play(p source.Prompt) error {
	var errs []error
	for _, m := range s.mouths {
		if err := m.queue.Play(p); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) < len(s.mouths) {
		return nil // somebody hears it
	}
	return errors.Join(errs...)
}
