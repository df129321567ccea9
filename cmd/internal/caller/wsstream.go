package caller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/twiliosrc"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	socketQueue = 500 // messages that may wait for a peer that does not read: 5 s of both tracks
	// startsWithin is how long a connection may take.
	startsWithin = 10 * time.Second
)

// wsStream is the telephone network's end of the ways that send a call's audio
// in small messages over a WebSocket: media streams and forks.
type wsStream struct {
	cfg    Config
	watch  *Progress
	to     *url.URL
	client *http.Client
	pacer  *pacer
	speech speech
	print  sync.Mutex

	packets, unsent, spoilt, events, prompts atomic.Uint64
}

// speech is what one of these protocols says.
type speech interface {
	// lengths is how many packets of 20 ms recording n has.
	length(n int) int
	// open begins call n, which its network calls id: the first messages, and
	// what the URL is to have in its query.
	open(n int, id string) (first []wsMessage, query url.Values)
	// packets are the messages of packet k, where at is that of the recording.
	packets(n int, id string, k, at int) []wsMessage
	// hear takes what came back. The answer is sent after it was played.
	hear(kind websocket.MessageType, data []byte) (h heardBack)
	// bye ends the call; nil where the protocol has no message for that.
	bye(id string) []byte
	codec() string
}

type wsMessage struct {
	kind websocket.MessageType
	data []byte
}

// heardBack is what a message of the peer holds.
type heardBack struct {
	event  json.RawMessage // told about the call
	prompt string          // that a prompt has come whole, and its name
	sound  time.Duration   // of a prompt
	answer []byte          // once all sound before was played
}

func (c Config) validateStream() error {
	u, err := url.Parse(c.To)
	if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" {
		return fmt.Errorf("--to: %q must be ws://HOST:PORT/PATH, or wss", c.To)
	}
	for _, p := range c.Params {
		if name, _, ok := strings.Cut(p, "="); !ok || name == "" {
			return fmt.Errorf("--param: %q must be NAME=VALUE", p)
		}
	}
	if c.Jitter < 0 || c.Jitter > 10*time.Second {
		return fmt.Errorf("--jitter: %v must be 0s to 10s", c.Jitter)
	}
	if c.Way == Fork {
		return c.validateFork()
	}
	return c.validateTwilio()
}

func newStreamWay(cfg Config, recs []*Recording, watch *Progress) (*wsStream, error) {
	to, err := url.Parse(cfg.To)
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	s := &wsStream{cfg: cfg, watch: watch, to: to, pacer: &pacer{flush: func() {}}}
	if s.client, err = cfg.webSocketClient(); err != nil {
		return nil, err
	}
	if cfg.Way == Fork {
		s.speech, err = newForkSpeech(cfg, recs)
	} else {
		s.speech, err = newTwilioSpeech(cfg, recs)
	}
	return s, err
}

// params are those of --param, with who calls whom.
func (c Config) params() map[string]string {
	all := map[string]string{"from": c.From, "to": c.Number}
	if c.FromName != "" {
		all["from_name"] = c.FromName
	}
	if c.NumberName != "" {
		all["to_name"] = c.NumberName
	}
	if c.Speak != "" {
		all["speak"] = c.Speak
	}
	for _, p := range c.Params {
		name, value, _ := strings.Cut(p, "=")
		all[name] = value
	}
	return all
}

// run implements way.
func (s *wsStream) run(ctx context.Context) error {
	s.pacer.run(ctx)
	return nil
}

// place implements way.
func (s *wsStream) place(ctx context.Context, n int) outcome {
	id := announce.NewID("call")
	c := &wsCall{s: s, n: n, id: id, out: make(chan wsMessage, socketQueue), flushed: make(chan struct{}), over: make(chan string, 1)}
	c.from, c.count = s.cfg.packets(n, s.speech.length(n))
	first, query := s.speech.open(n, id)
	begin := time.Now()
	if err := c.connect(ctx, query); err != nil {
		return failed(err)
	}
	o := outcome{answered: true, setup: time.Since(begin)}
	s.watch.Up.Add(1)
	defer s.watch.Up.Add(-1)
	var working sync.WaitGroup
	defer working.Wait()
	defer func() { _ = c.ws.CloseNow() }()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	for _, m := range first {
		c.out <- m // there is room
	}
	working.Go(func() { c.read(life) })
	working.Go(func() { c.write(life) })
	connected := time.Now()
	o.end = c.play(ctx)
	o.seconds = time.Since(connected).Seconds()
	if o.end != "" && time.Since(connected) < refusedWithin {
		return outcome{refusal: o.end}
	}
	if o.end == "" && !s.cfg.DropBye {
		c.hangUp()
	}
	return o
}

// count implements way.
func (s *wsStream) count(r *Results) {
	r.Codec = s.speech.codec()
	r.Packets, r.Unsent, r.Spoilt = s.packets.Load(), s.unsent.Load(), s.spoilt.Load()
	r.Events, r.Prompts = s.events.Load(), s.prompts.Load()
	r.Behind = float64(s.pacer.lateness().Microseconds()) / 1000
}

// close implements way.
func (s *wsStream) close() error {
	s.client.CloseIdleConnections()
	return nil
}

// wsCall is one call.
type wsCall struct {
	s     *wsStream
	n     int
	id    string
	ws    *websocket.Conn
	from  int // packet of the recording that it begins with
	count int // packets to send

	out     chan wsMessage // the pacer's goroutine sends, then hangUp one without data; write takes
	flushed chan struct{}  // closed by write after that
	over    chan string    // why the peer ended the call; read sends one value

	// Of the pacer's goroutine.
	held    []heldMessage
	stalled int // packet at which what is held by --jitter goes on
	backlog []wsMessage

	mu      sync.Mutex
	playing time.Time // until when prompts that came are played
	answers []dueAnswer
}

type heldMessage struct {
	wsMessage
	due int
}

type dueAnswer struct {
	at   time.Time
	data []byte
}

func (c *wsCall) connect(ctx context.Context, query url.Values) error {
	ctx, cancel := context.WithTimeout(ctx, startsWithin)
	defer cancel()
	u, cfg := *c.s.to, c.s.cfg
	if len(query) > 0 {
		all := u.Query()
		for name, values := range query {
			if !all.Has(name) {
				all[name] = values
			}
		}
		u.RawQuery = all.Encode()
	}
	h := make(http.Header)
	if cfg.Token != "" {
		h.Set("Authorization", "Bearer "+cfg.Token)
	}
	if cfg.AuthToken != "" {
		h.Set("X-Twilio-Signature", twiliosrc.Signature([]byte(cfg.AuthToken), u.String()))
	}
	var protocols []string
	if cfg.Way == Fork {
		protocols = []string{"audio.jambonz.org"}
	}
	ws, err := dialSocket(ctx, &u, &websocket.DialOptions{HTTPClient: c.s.client, HTTPHeader: h, Subprotocols: protocols})
	if err != nil {
		return err
	}
	ws.SetReadLimit(4 << 20) // a prompt in one message
	c.ws = ws
	return nil
}

// play sends the call to its end, until ctx ends, or until the peer ends it,
// and returns why it did.
func (c *wsCall) play(ctx context.Context) (end string) {
	playing := c.s.pacer.add(c)
	defer c.s.pacer.stop(playing...)
	select {
	case <-playing[0].done:
	case <-ctx.Done():
	case end = <-c.over:
	}
	return end
}

// packet implements paced.
func (c *wsCall) packet(k int) (more bool) {
	last := k+1 >= c.count
	cfg := c.s.cfg
	if cfg.Jitter > 0 && k >= c.stalled && rand.Float64() < heldBack {
		c.stalled = k + 1 + rand.IntN(int(cfg.Jitter/packetTime)+1)
	}
	for _, m := range c.s.speech.packets(c.n, c.id, k, c.from+k) {
		switch {
		case cfg.Loss > 0 && rand.Float64() < cfg.Loss:
			c.s.spoilt.Add(1)
		case cfg.Reorder > 0 && !last && rand.Float64() < heldBack:
			c.held = append(c.held, heldMessage{m, k + 1 + rand.IntN(cfg.Reorder)})
		default:
			c.backlog = append(c.backlog, m)
		}
	}
	c.held = slices.DeleteFunc(c.held, func(h heldMessage) bool {
		due := h.due <= k || last
		if due {
			c.backlog = append(c.backlog, h.wsMessage)
		}
		return due
	})
	if k >= c.stalled || last {
		for _, m := range c.backlog {
			c.send(m)
		}
		c.backlog = c.backlog[:0]
	}
	if k%50 == 0 { // a second
		c.answer(time.Now())
	}
	return !last
}

// send queues a message. A peer that does not take its audio loses it message
// by message: waiting for it would delay all other calls.
func (c *wsCall) send(m wsMessage) {
	select {
	case c.out <- m:
	default:
		c.s.unsent.Add(1)
	}
}

// answer sends what is due of the answers.
func (c *wsCall) answer(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.answers) > 0 && !now.Before(c.answers[0].at) {
		c.send(wsMessage{websocket.MessageText, c.answers[0].data})
		c.answers = c.answers[1:]
	}
}

// write sends until ctx ends.
func (c *wsCall) write(ctx context.Context) {
	for {
		select {
		case m := <-c.out:
			if m.data == nil {
				close(c.flushed)
				return
			}
			if err := c.ws.Write(ctx, m.kind, m.data); err != nil {
				c.s.unsent.Add(1)
				return
			}
			c.s.packets.Add(1)
		case <-ctx.Done():
			return
		}
	}
}

// hangUp says so, after what is on its way. It is the last word.
func (c *wsCall) hangUp() {
	t := time.NewTimer(hangUpWithin)
	defer t.Stop()
	last := []wsMessage{{}}
	if bye := c.s.speech.bye(c.id); bye != nil {
		last = []wsMessage{{websocket.MessageText, bye}, {}}
	}
	for _, m := range last {
		select {
		case c.out <- m:
		case <-t.C:
			return
		}
	}
	select {
	case <-c.flushed:
		_ = c.ws.Close(websocket.StatusNormalClosure, "") // whether the peer agrees is all one
	case <-t.C:
	}
}

// read takes what the peer sends until it ends the call, and says how.
func (c *wsCall) read(ctx context.Context) {
	for {
		kind, data, err := c.ws.Read(ctx)
		if err != nil {
			var closed websocket.CloseError
			end := "connection closed"
			if errors.As(err, &closed) {
				end = strings.TrimSpace(fmt.Sprintf("closed with %d %s", closed.Code, closed.Reason))
			}
			c.over <- end
			return
		}
		c.hear(c.s.speech.hear(kind, data))
	}
}

// hear counts and prints what came back.
func (c *wsCall) hear(h heardBack) {
	c.mu.Lock()
	if now := time.Now(); c.playing.Before(now) {
		c.playing = now
	}
	c.playing = c.playing.Add(h.sound)
	if h.answer != nil {
		c.answers = append(c.answers, dueAnswer{c.playing, h.answer})
	}
	c.mu.Unlock()
	if h.event != nil {
		c.s.events.Add(1)
		c.s.show(h.event)
	}
	if h.prompt != "" {
		c.s.prompts.Add(1)
		line, err := json.Marshal(map[string]string{"call": c.id, "prompt": h.prompt})
		if err == nil {
			c.s.show(line)
		}
	}
}

// show prints a line.
func (s *wsStream) show(line []byte) {
	if s.cfg.Events == nil {
		return
	}
	s.print.Lock()
	defer s.print.Unlock()
	_, _ = s.cfg.Events.Write(append(slices.Clone(line), '\n')) // to a terminal or a pipe; a broken one shows elsewhere
}

// silence has the samples of the silent leg be none.
func silence(side Side, silent audio.Leg) []int16 {
	if silent != audio.Unknown && side.Leg == silent {
		return make([]int16, len(side.PCM))
	}
	return side.PCM
}
