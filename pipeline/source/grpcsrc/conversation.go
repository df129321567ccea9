package grpcsrc

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// framesMost is how many frames wait to be read: of 60 ms and two legs, 2 s.
	// When full, gRPC's flow control holds the client back.
	framesMost = 64

	// Audio further than this ahead of the clock waits: whoever sends a
	// recording as fast as it goes is held back to the speed of speech.
	maxAhead = 5 * time.Second

	// A leg that sends nothing is told the time about this often.
	markEvery = time.Second
)

// errGone ends a call whose client did not end it.
var errGone = errors.New("the client is gone")

// hungUp ends a call as its client says.
type hungUp struct{ why string }

func (h *hungUp) Error() string { return "the client says: " + h.why }

// conversation is the audio of one call: pump puts frames in, ReadFrame takes
// them out.
type conversation struct {
	began   time.Time
	open    opening
	timeout time.Duration
	count   *counters

	quit chan struct{} // closed when nobody reads frames any more
	came chan struct{} // holds one when there may be something to read; pump sends
	room chan struct{} // holds one when there may be room; ReadFrame sends

	mu     sync.Mutex
	tracks []*track
	ready  []audio.Frame
	heard  time.Duration // when the last message was taken
	marked time.Duration // when the legs were marked last
	// putting holds from when frames leave their tracks until they are ready.
	// The client may be held back meanwhile: that nothing comes is ours.
	putting bool
	end     error // why no more comes; nil while it may
}

func newConversation(open opening, timeout time.Duration, count *counters) *conversation {
	c := &conversation{
		began: time.Now(), open: open, timeout: timeout, count: count,
		quit: make(chan struct{}), came: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	for _, leg := range open.legs {
		c.tracks = append(c.tracks, &track{leg: leg, rateHz: open.rateHz})
	}
	return c
}

// pump takes messages until the client ends the call, is gone, or sends what is
// none. first is the message that opened the call.
func (c *conversation) pump(first *callwardenv1.StreamRequest, recv func() (*callwardenv1.StreamRequest, error)) {
	err := c.take(first)
	for err == nil {
		var req *callwardenv1.StreamRequest
		if req, err = recv(); err != nil {
			err = endOf(err)
			break
		}
		if req.GetOpen() != nil {
			err = refuse(openExpected, "a stream has one open, at its beginning")
			break
		}
		err = c.take(req)
	}
	c.mu.Lock()
	for _, t := range c.tracks {
		t.flush()
	}
	last := c.collect()
	c.mu.Unlock()
	if c.put(last) {
		c.mu.Lock()
		c.end = err
		c.mu.Unlock()
		signal(c.came)
	}
}

// endOf is why a call ended whose messages did.
func endOf(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case status.Code(err) == codes.ResourceExhausted:
		return refuse(tooLong, "a message is longer than %d bytes", maxMessage)
	}
	return errGone
}

// take takes what one message holds.
func (c *conversation) take(req *callwardenv1.StreamRequest) error {
	at := time.Since(c.began)
	c.mu.Lock()
	err := c.message(req, at)
	frames := c.collect()
	c.mu.Unlock()
	if !c.put(frames) {
		return errGone
	}
	return err
}

// message takes what one message holds, to the tracks; c.mu is held.
func (c *conversation) message(req *callwardenv1.StreamRequest, at time.Duration) error {
	for _, a := range req.GetAudio() {
		t := c.track(a.GetLeg())
		if t == nil {
			return refuse(audioRefused, "audio of %v, and the call has none of it", a.GetLeg())
		}
		start, lost := time.Duration(-1), time.Duration(0)
		if a.Start != nil {
			if start = a.Start.AsDuration(); a.Start.CheckValid() != nil || start < 0 {
				return refuse(audioRefused, "start: %v must not be below 0", start)
			}
		}
		if a.Lost != nil {
			if lost = a.Lost.AsDuration(); a.Lost.CheckValid() != nil || lost < 0 {
				return refuse(audioRefused, "lost: %v must not be below 0", lost)
			}
		}
		pcm, ok := decode(c.open.encoding, a.GetSamples())
		if !ok {
			return refuse(audioRefused, "samples: %d bytes end within a sample", len(a.GetSamples()))
		}
		c.count.packets.Add(1)
		c.count.bytes.Add(uint64(len(a.GetSamples())))
		if err := t.sound(start, pcm, lost, at); err != nil {
			return err
		}
	}
	for _, k := range req.GetKeys() {
		t := c.track(k.GetLeg())
		if t == nil {
			return refuse(audioRefused, "keys of %v, and the call has no such leg", k.GetLeg())
		}
		digits := strings.ToUpper(k.GetKeys())
		if len(digits) == 0 || len(digits) > maxKeys || strings.Trim(digits, "0123456789*#ABCD") != "" {
			return refuse(optionRefused, "keys: they must be 1 to %d of 0 to 9, *, #, A to D", maxKeys)
		}
		t.keys(digits)
	}
	if h := req.GetHangUp(); h != nil {
		if h.GetReason() == "" {
			return io.EOF
		}
		if err := checkText("hang_up.reason", h.GetReason()); err != nil {
			return err
		}
		return &hungUp{h.GetReason()}
	}
	return nil
}

func (c *conversation) track(leg callwardenv1.Leg) *track {
	for _, t := range c.tracks {
		if callwardenv1.Leg(t.leg) == leg {
			return t
		}
	}
	return nil
}

// collect returns the frames that the tracks have ready, by their time, for
// put; c.mu is held.
func (c *conversation) collect() (frames []audio.Frame) {
	for _, t := range c.tracks {
		frames = append(frames, t.take()...)
	}
	slices.SortStableFunc(frames, func(a, b audio.Frame) int { return cmp.Compare(a.Start, b.Start) })
	c.putting = true
	return frames
}

// put hands frames on, no faster than speech, and waits for room. It reports
// whether anybody reads them.
func (c *conversation) put(frames []audio.Frame) bool {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.putting, c.heard = false, time.Since(c.began)
	}()
	for _, f := range frames {
		if ahead := f.End() - time.Since(c.began); ahead > maxAhead && !c.rest(ahead-maxAhead) {
			return false
		}
		for !c.add(f) {
			select {
			case <-c.room:
			case <-c.quit:
				return false
			}
		}
		signal(c.came)
	}
	return true
}

// rest holds the client back for d.
func (c *conversation) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.quit:
		return false
	}
}

func (c *conversation) add(f audio.Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ready) >= framesMost {
		return false
	}
	c.ready = append(c.ready, f)
	return true
}

// ReadFrame is an [audio.Reader]'s.
func (c *conversation) ReadFrame(ctx context.Context) (audio.Frame, error) {
	var tick *time.Timer
	for {
		f, ok, wait, err := c.next()
		if ok || err != nil {
			return f, err
		}
		if tick == nil {
			tick = time.NewTimer(wait)
			defer tick.Stop()
		} else {
			tick.Reset(wait)
		}
		select {
		case <-c.came:
		case <-tick.C:
		case <-ctx.Done():
			return audio.Frame{}, ctx.Err()
		}
	}
}

// next is the next frame, if there is one, or how long at most to wait for it.
func (c *conversation) next() (f audio.Frame, ok bool, wait time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Since(c.began)
	if len(c.ready) == 0 && now-c.marked >= markEvery {
		c.marked = now
		c.mark(now)
	}
	switch {
	case len(c.ready) > 0:
		f = c.ready[0]
		c.ready[0] = audio.Frame{}
		if c.ready = c.ready[1:]; len(c.ready) == 0 {
			c.ready = nil
		}
		signal(c.room)
		return f, true, 0, nil
	case c.end != nil:
		return f, false, 0, c.end
	case now-c.heard >= c.timeout && !c.putting:
		return f, false, 0, refuse(noAudio, "nothing came for %v", c.timeout)
	}
	return f, false, min(markEvery, c.marked+markEvery-now), nil
}

// mark tells legs of which nothing came the time; c.mu is held.
func (c *conversation) mark(now time.Duration) {
	if c.end != nil || c.putting {
		return
	}
	for _, t := range c.tracks {
		t.mark(now)
		c.ready = append(c.ready, t.take()...)
	}
}

// signal tells whoever waits on c that it may go on.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
