package listen

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// gather is the speech that is prepared and decoded at a time. Recognisers
	// look at no less, and 100 turns a second of every leg would cost more than
	// the hearing.
	gather = 100 * time.Millisecond

	// maxPad is how much silence is heard after a leg falls quiet without
	// sending any: enough for every endpoint rule, then the recogniser is left
	// alone.
	maxPad = 2 * time.Second

	// preRoll and hangOver are what is heard around speech where everything is
	// transcribed. By hangOver every rule by which a recogniser ends an utterance
	// has fired, so that it keeps what it knows of the speaker: with half a second
	// less word error rates were 60 % instead of 52, with this they are those of no
	// gate.
	preRoll  = 300 * time.Millisecond
	hangOver = 2000 * time.Millisecond

	// silentAfter is when a closed gate can let nothing through any more that
	// lies in the padding of a session that has to hear silence.
	silentAfter = 3 * time.Second

	// readBack is how long a leg is expected to read out digits after an ask,
	// and after the last digit.
	readBack = 30 * time.Second
)

// leg hears one side of a call. What Hear does belongs to one goroutine; the
// transcriber of the call reads the ring and owns open.
type leg struct {
	call  *Call
	leg   audio.Leg
	front *audio.FrontEnd // nil for engines that take audio as it came

	open *ear // the open vocabulary; nil while a leg is only screened

	gate     *audio.Gate // nil for engines that take audio as it came
	speaking bool        // the gate is open

	// Listening fully, the last frame was of rate and ended at end; padded is the
	// silence made up since.
	end    time.Duration
	rate   int
	padded time.Duration

	// What follows is for screening. Hear owns it but for what mu guards.
	quietAt  time.Duration // when the gate closed
	silenced bool          // the mark for that was set
	waiting  audio.Frame   // voiced audio that is not gather long yet
	screen   *ear          // nil when listening fully
	digits   *ear          // nil unless digits are expected
	heard    int           // chunk of the ring that screen hears next
	answered int           // and digits
	scratch  chunk

	mu       sync.Mutex
	ring     ring
	asked    time.Duration // when the other leg asked, for digits to begin there; negative for never
	expected time.Duration // until when digits are expected

	// The transcriber's.
	opened int // chunk that open hears next
	began  int // chunk that it began with
	woken  time.Time
	copied chunk

	utterances atomic.Int32
}

func newLeg(c *Call, side audio.Leg) (*leg, error) {
	l := c.l
	g := &leg{call: c, leg: side, asked: -1}
	if info := l.engine.Info(); !info.Raw || c.mode != Full {
		var err error
		if g.front, err = audio.NewFrontEnd(audio.FrontEndConfig{RateHz: info.RateHz}); err != nil {
			return nil, fmt.Errorf("opening front end: %w", err)
		}
	}
	if c.mode == Full {
		if g.front != nil {
			g.gate = audio.NewGate(audio.GateConfig{PreRoll: preRoll, HangOver: hangOver}, audio.NewLoudVoice())
		}
		g.open = l.newEar(c.options(side), transcribe.Openly, &g.utterances)
		return g, nil
	}
	g.gate = audio.NewGate(audio.DefaultGateConfig(), l.cfg.voice())
	opt := c.closed(side, c.phrases)
	opt.Thrifty = true
	g.screen = l.newEar(opt, transcribe.Screened, &g.utterances)
	return g, nil
}

// hear takes the leg's next frame; one without samples says that nothing came
// until its Start. arrived is when it came in, zero in a recording.
func (g *leg) hear(ctx context.Context, f audio.Frame, arrived time.Time) ([]transcribe.Segment, error) {
	if g.screen != nil {
		return g.screened(ctx, f, arrived)
	}
	if g.gate != nil {
		voiced, speaking := g.gate.Process(f)
		if err := g.open.begin(ctx, g.call.job(arrived, false), f.Start); err != nil && !errors.Is(err, transcribe.ErrAway) {
			g.speaking = speaking
			return nil, err
		}
		if g.open.pauses() {
			return g.spoken(ctx, f, voiced, speaking, arrived)
		}
	}
	if len(f.PCM) == 0 {
		return g.pass(ctx, f.Start, arrived)
	}
	g.end, g.rate, g.padded = f.End(), f.Rate, 0
	return g.write(ctx, f, arrived)
}

// spoken has the speech in f transcribed, and ends the utterance with it.
func (g *leg) spoken(ctx context.Context, f audio.Frame, voiced []audio.Frame, speaking bool, arrived time.Time) ([]transcribe.Segment, error) {
	closed := g.speaking && !speaking
	g.speaking = speaking
	var all []transcribe.Segment
	var last error
	for _, v := range voiced {
		g.end, g.rate, g.padded = v.End(), v.Rate, 0
		segs, err := g.write(ctx, v, arrived)
		all, last = append(all, segs...), err
		if err != nil && !errors.Is(err, transcribe.ErrAway) {
			return all, err
		}
	}
	switch {
	case closed:
		segs, err := g.rest(ctx, arrived)
		return append(all, segs...), err
	case len(voiced) > 0:
		return all, last
	case speaking && len(f.PCM) == 0:
		return g.pass(ctx, f.Start, arrived)
	}
	return g.open.look(ctx, g.call.job(arrived, false))
}

// rest has transcribed what the front end holds of an utterance, and ends it.
func (g *leg) rest(ctx context.Context, arrived time.Time) ([]transcribe.Segment, error) {
	j := g.call.job(arrived, true)
	all, err := g.flush(ctx, j)
	if err != nil {
		return all, err
	}
	segs, err := g.open.take(ctx, j, chunk{Frame: audio.Frame{Start: g.open.end}, mark: quiet})
	return append(all, segs...), err
}

// flush has transcribed what the front end holds.
func (g *leg) flush(ctx context.Context, j job) (all []transcribe.Segment, err error) {
	if g.front == nil {
		return nil, nil
	}
	for _, wide := range g.front.Flush() {
		segs, err := g.open.hear(ctx, j, wide)
		all = append(all, segs...)
		if err != nil && !errors.Is(err, transcribe.ErrAway) {
			return all, err
		}
	}
	return all, nil
}

// keyed is what was pressed on the keypad by the end of f, as words: digits
// are themselves.
func (g *leg) keyed(f audio.Frame) transcribe.Segment {
	seg := transcribe.Segment{
		Leg: g.leg, Utterance: int(g.utterances.Add(1)) - 1, Final: true,
		Start: f.Start, End: f.End(), Heard: transcribe.Keyed,
	}
	names := make([]string, 0, len(f.Keys))
	for _, key := range f.Keys {
		name := string(key)
		switch key {
		case '*':
			name = "star"
		case '#':
			name = "pound" // "#" is what a masked digit looks like
		}
		names = append(names, name)
		seg.Words = append(seg.Words, transcribe.Word{Text: name, Start: f.Start, End: f.End(), Confidence: 1})
	}
	seg.Text = strings.Join(names, " ")
	return seg
}

// pass hears made-up silence until the media time to, as far as it is of use.
func (g *leg) pass(ctx context.Context, to time.Duration, arrived time.Time) ([]transcribe.Segment, error) {
	pad := min(to-g.end, maxPad-g.padded)
	if pad <= 0 || g.rate == 0 {
		return g.open.look(ctx, g.call.job(arrived, false))
	}
	silence := audio.Frame{Leg: g.leg, Start: g.end, Rate: g.rate, PCM: make([]int16, int(pad*time.Duration(g.rate)/time.Second))}
	g.end += pad
	g.padded += pad
	return g.write(ctx, silence, arrived)
}

// write prepares f and has it transcribed.
func (g *leg) write(ctx context.Context, f audio.Frame, arrived time.Time) ([]transcribe.Segment, error) {
	if g.front == nil {
		return g.open.hear(ctx, g.call.job(arrived, true), f)
	}
	frames, err := g.front.Process(f)
	if err != nil {
		return nil, fmt.Errorf("preparing audio: %w", err)
	}
	var all []transcribe.Segment
	for _, wide := range frames {
		segs, failed := g.open.hear(ctx, g.call.job(arrived, true), wide)
		all = append(all, segs...)
		err = failed
		if err != nil && !errors.Is(err, transcribe.ErrAway) {
			return all, err
		}
	}
	return all, err
}

// screened lets the speech in f into the ring and has it heard against the
// closed lists.
func (g *leg) screened(ctx context.Context, f audio.Frame, arrived time.Time) ([]transcribe.Segment, error) {
	voiced, speaking := g.gate.Process(f)
	for _, v := range voiced {
		if err := g.collect(v, arrived); err != nil {
			return nil, err
		}
	}
	switch now := max(f.Start, f.End()); {
	case speaking:
		g.silenced = false
	case g.speaking:
		if err := g.fallQuiet(now, arrived); err != nil {
			return nil, err
		}
	case !g.silenced && g.quietAt > 0 && now-g.quietAt >= silentAfter:
		g.mark(silent, now, arrived)
		g.silenced = true
	}
	g.speaking = speaking
	return g.catchUp(ctx, f.End())
}

// collect gathers voiced audio until it is worth a turn.
func (g *leg) collect(v audio.Frame, arrived time.Time) error {
	w := &g.waiting
	if len(w.PCM) > 0 && (v.Rate != w.Rate || v.Start-w.End() > time.Millisecond) {
		if err := g.prepare(arrived); err != nil {
			return err
		}
	}
	if len(w.PCM) == 0 {
		w.Leg, w.Start, w.Rate = g.leg, v.Start, v.Rate
	}
	pcm := v.PCM
	size := int(gather * time.Duration(v.Rate) / time.Second)
	for len(w.PCM)+len(pcm) >= size {
		n := size - len(w.PCM)
		w.PCM, pcm = append(w.PCM, pcm[:n]...), pcm[n:]
		if err := g.prepare(arrived); err != nil {
			return err
		}
	}
	w.PCM = append(w.PCM, pcm...)
	return nil
}

// prepare sends what was gathered through the front end into the ring.
func (g *leg) prepare(arrived time.Time) error {
	w := &g.waiting
	frames, err := g.front.Process(*w)
	w.Start, w.PCM = w.End(), w.PCM[:0]
	if err != nil {
		return fmt.Errorf("preparing audio: %w", err)
	}
	g.push(frames, arrived)
	return nil
}

func (g *leg) push(frames []audio.Frame, arrived time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range frames {
		g.ring.push(chunk{Frame: f, due: arrived})
	}
}

// mark sets a mark behind the speech in the ring.
func (g *leg) mark(m mark, at time.Duration, arrived time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ring.push(chunk{Frame: audio.Frame{Leg: g.leg, Start: at, Rate: g.call.l.engine.Info().RateHz}, mark: m, due: arrived})
}

// fallQuiet ends a stretch of speech.
func (g *leg) fallQuiet(now time.Duration, arrived time.Time) error {
	if len(g.waiting.PCM) > 0 {
		if err := g.prepare(arrived); err != nil {
			return err
		}
	}
	g.push(g.front.Flush(), arrived)
	g.mark(quiet, now, arrived)
	g.quietAt, g.silenced = now, false
	return nil
}

// catchUp has the closed lists hear what is new in the ring, up to the media
// time now.
func (g *leg) catchUp(ctx context.Context, now time.Duration) ([]transcribe.Segment, error) {
	segs, err := g.follow(ctx, g.screen, &g.heard)
	if ctx.Err() != nil {
		return segs, err
	}
	more, failed := g.readBack(ctx, now)
	// Without digits a leg is still heard: they are not why it would be deaf.
	if failed != nil && err == nil {
		g.call.l.log.Debug("digits are not heard", "call", g.call.id, "leg", g.leg.String(), "err", failed)
	}
	return append(segs, more...), err
}

// follow has an ear of Hear's hear the ring from chunk *at on.
func (g *leg) follow(ctx context.Context, e *ear, at *int) ([]transcribe.Segment, error) {
	var all []transcribe.Segment
	var last error
	for {
		g.mu.Lock()
		next, ok := g.ring.read(*at, &g.scratch)
		g.mu.Unlock()
		if !ok && last == nil {
			segs, err := e.look(ctx, g.call.job(time.Time{}, false))
			return append(all, segs...), err
		}
		if !ok {
			return all, last
		}
		*at = next
		segs, err := e.take(ctx, g.call.job(g.scratch.due, next > e.from), g.scratch)
		all = append(all, segs...)
		if ctx.Err() != nil {
			return all, err
		}
		last = err
	}
}

// readBack hears digits while they are expected.
func (g *leg) readBack(ctx context.Context, now time.Duration) ([]transcribe.Segment, error) {
	g.mu.Lock()
	asked, expected := g.asked, g.expected
	g.asked = -1
	if g.digits == nil && asked >= 0 {
		g.answered = g.ring.since(asked)
		g.digits = g.call.l.newEar(g.call.closed(g.leg, g.call.digits), transcribe.AsNumbers, &g.utterances)
		g.digits.from = g.ring.next()
	}
	g.mu.Unlock()
	if g.digits == nil {
		return nil, nil
	}
	segs, err := g.follow(ctx, g.digits, &g.answered)
	for _, s := range segs {
		if len(spoken.Runs(strings.Fields(s.Text), nil)) > 0 {
			expected = max(expected, s.End+readBack)
		}
	}
	g.mu.Lock()
	g.expected = max(g.expected, expected)
	over := now > g.expected && (!g.speaking || now > g.expected+readBack)
	g.mu.Unlock()
	if !over || ctx.Err() != nil {
		return segs, err
	}
	more, failed := g.digits.finish(ctx, g.call.job(time.Time{}, false))
	g.digits = nil
	return append(segs, more...), errors.Join(err, failed)
}

// expect has digits heard from the media time at on.
func (g *leg) expect(at time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked, g.expected = at, max(g.expected, at+readBack)
}

// finish hears the rest and returns the last words of all but the open
// vocabulary while screening.
func (g *leg) finish(ctx context.Context) ([]transcribe.Segment, error) {
	if g.screen == nil {
		j := g.call.job(time.Time{}, false)
		segs, err := g.flush(ctx, j)
		if err != nil {
			return append(segs, g.open.settle()...), err
		}
		more, err := g.open.finish(ctx, j)
		return append(segs, more...), err
	}
	if err := g.fallQuiet(max(g.waiting.End(), g.quietAt), time.Time{}); err != nil {
		return nil, err
	}
	segs, err := g.catchUp(ctx, 0)
	more, failed := g.screen.finish(ctx, g.call.job(time.Time{}, false))
	segs, err = append(segs, more...), errors.Join(err, failed)
	if g.digits != nil {
		more, failed := g.digits.finish(ctx, g.call.job(time.Time{}, false))
		segs, err = append(segs, more...), errors.Join(err, failed)
		g.digits = nil
	}
	return segs, err
}

// behind is the media time of what open has not heard yet.
func (g *leg) behind() (at time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ring.peek(g.opened)
}

// wake begins to transcribe the leg, from as far back as the ring reaches and
// it was not transcribed before.
func (g *leg) wake(now time.Time) {
	g.open = g.call.l.newEar(g.call.options(g.leg), transcribe.Openly, &g.utterances)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = max(g.opened, g.ring.first)
	g.open.from = g.ring.next()
	g.began, g.woken = g.opened, now
}

// sleep ends transcribing.
func (g *leg) sleep(ctx context.Context) ([]transcribe.Segment, error) {
	segs, err := g.open.finish(ctx, g.call.job(time.Time{}, false))
	g.open = nil
	return segs, err
}

// transcribe has the open vocabulary hear its next chunk.
func (g *leg) transcribe(ctx context.Context) ([]transcribe.Segment, error) {
	g.mu.Lock()
	n := g.opened
	next, ok := g.ring.read(n, &g.copied)
	g.mu.Unlock()
	if !ok {
		return nil, nil
	}
	g.opened = next
	j := g.call.job(g.copied.due, true)
	if n < g.open.from && !j.due.IsZero() {
		// What is caught up on must not hold up what is being said: it takes
		// its turns at the pace below.
		done := time.Duration(next-g.began) * gather
		j.due, j.timely = g.woken.Add(done/catchUpSpeed), false
	}
	return g.open.take(ctx, j, g.copied)
}

// catchUpSpeed is how many times faster than it was said the ring claims to be
// transcribed on a machine that is full; one with room goes as fast as it goes.
const catchUpSpeed = 4

// close frees what the leg holds.
func (g *leg) close() error {
	var errs []error
	for _, e := range slices.DeleteFunc([]*ear{g.open, g.screen, g.digits}, func(e *ear) bool { return e == nil }) {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}
