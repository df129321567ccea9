package remote

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// slack is how far a frame may overlap what was heard, for the sake of senders
// that round.
const slack = time.Millisecond

// singles is how many items are sent one by one after one of which a stream
// broke, to know which it was.
const singles = 20

// moment is how long a leg that has lost its stream is not yet called deaf
// where another can be had.
const moment = 300 * time.Millisecond

// session is one leg. While it is attached the goroutine that writes talks to
// the peer; while it is away a goroutine of its own looks for another, and lets
// that catch up, and whoever writes only puts audio into the ring.
type session struct {
	e      *Engine
	opt    transcribe.Options
	cfg    *callwardenv1.TranscribeConfig
	rateHz int
	gather int // bytes
	name   string
	pauses bool

	// Of the goroutine that writes.
	ended   error // why only Close may follow
	begun   bool
	end     time.Duration // of the audio that was written
	pending item          // of it, what is not worth sending yet

	mu   sync.Mutex
	ring ring
	sent int // number of the item that is sent next
	// reached is the end of the audio that was sent.
	reached time.Duration
	moves   bool // its peer is about to end
	// attached is whether it ever was.
	attached bool
	told     told
	// While it is attached there is a stream. While it is away there is none,
	// and away says why; regained is closed when another hears the ring again,
	// and behind is true while it does. recovered is closed when that is over:
	// then there is a stream, or dead says why there will be none.
	stream    *stream
	away      error
	dead      error
	behind    bool
	regained  chan struct{}
	recovered chan struct{}
	giveUp    context.CancelFunc
	found     []transcribe.Segment // while away; for the next Write
	unheard   []string
	// The item that was under way when streams broke, in a row: audio that
	// breaks the recogniser must not break it for ever.
	strikeAt, strikes int
	gone              int // the item after the one that was left out last; -1 for none
}

// pausing is a session whose recogniser knows pauses.
type pausing struct{ *session }

var (
	_ transcribe.Session       = (*session)(nil)
	_ transcribe.PhraseSession = (*session)(nil)
	_ transcribe.Pender        = (*session)(nil)
	_ transcribe.Trailer       = (*session)(nil)
	_ transcribe.Pauser        = (*pausing)(nil)
)

func newSession(e *Engine, opt transcribe.Options, rateHz int) *session {
	valid := func(all []string) []string {
		out := make([]string, len(all))
		for i, s := range all {
			out[i] = strings.ToValidUTF8(s, "\uFFFD")
		}
		return out
	}
	return &session{
		e: e, opt: opt, rateHz: rateHz, name: e.cfg.name(),
		gather: 2 * int(e.cfg.Gather*time.Duration(rateHz)/time.Second),
		ring:   ring{rateHz: rateHz, limit: e.cfg.Ring},
		told:   told{leg: opt.Leg, current: -1},
		cfg: &callwardenv1.TranscribeConfig{
			RateHz: int32(rateHz), Encoding: callwardenv1.AudioEncoding_AUDIO_ENCODING_LINEAR16,
			Language: strings.ToValidUTF8(opt.Language, "\uFFFD"), Call: strings.ToValidUTF8(opt.Call, "\uFFFD"),
			Tenant: strings.ToValidUTF8(opt.Tenant, "\uFFFD"), Leg: callwardenv1.Leg(opt.Leg),
			Phrases: valid(opt.Phrases), Hints: valid(opt.Hints), Thrifty: opt.Thrifty,
			PartialResults: true, Words: true, Live: opt.Live,
		},
		strikeAt: -1, gone: -1,
	}
}

// begin attaches the session for the first time.
func (s *session) begin(ctx context.Context) error {
	// A leg that is away from its beginning may pause: a recogniser that knows
	// no pauses then hears none.
	s.pauses = true
	p, err := s.e.pick(nil)
	if err == nil {
		st, failed := openStream(ctx, p, s.cfg, s.e.cfg.Answer)
		if failed == nil {
			s.attach(st)
			s.pauses = st.opened.Pauses
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if dead := s.blame(p, failed); dead != nil {
			return dead
		}
		err = fmt.Errorf("%s: %w", p.addr, plain(failed))
	}
	s.recover(err)
	if s.opt.Live {
		return nil
	}
	if err := s.wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pauses = s.stream.opened.Pauses
	return nil
}

// attach makes st the session's stream; mu is held, or nobody knows of s yet.
func (s *session) attach(st *stream) {
	s.stream, s.away, s.behind, s.attached = st, nil, false, true
	s.unheard = st.opened.Unheard
}

// blame notes what a stream to p broke of, so that it is not the next to be
// tried, and returns what the session dies of, if it does.
func (s *session) blame(p *peer, err error) error {
	dead := final(err)
	var bad *nonsense
	switch {
	case errors.As(err, &bad):
		s.e.log.Error("transcriber answers nonsense", "backend", s.name, "address", p.addr, "err", err)
		p.leave(nonsenseRest, err)
	case dead == nil:
		p.leave(retryAfter(err), plain(err))
	}
	return dead
}

// Unheard lists the words of the phrases that the model does not know.
func (s *session) Unheard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.unheard)
}

func (s *session) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	switch {
	case f.Rate != s.rateHz:
		return nil, fmt.Errorf("%w: rate %d Hz, the session has %d", transcribe.ErrFrame, f.Rate, s.rateHz)
	case f.Start < 0 || f.Start > math.MaxInt64/2:
		return nil, fmt.Errorf("%w: it starts at %v", transcribe.ErrFrame, f.Start)
	case len(f.PCM) > 0 && s.begun && f.Start < s.end-slack:
		return nil, fmt.Errorf("%w: it starts %v before the end of the one before", transcribe.ErrFrame, s.end-f.Start)
	}
	s.gatherUp(f)
	return s.push(ctx)
}

// gatherUp cuts and joins frames to what is sent at a time.
func (s *session) gatherUp(f audio.Frame) {
	if len(f.PCM) == 0 {
		return
	}
	if s.begun && f.Start-s.end > s.ring.sample()/2 {
		s.close() // a gap: what came before it stands for itself
	}
	p := &s.pending
	if len(p.data) == 0 {
		p.start = f.Start
	}
	s.begun, s.end = true, max(s.end, f.End())
	pcm := f.PCM
	for len(pcm) > 0 {
		if p.data == nil {
			p.data = make([]byte, 0, s.gather)
		}
		n := min(len(pcm), (s.gather-len(p.data))/2)
		for _, v := range pcm[:n] {
			p.data = append(p.data, byte(v), byte(uint16(v)>>8))
		}
		if pcm = pcm[n:]; len(p.data) == s.gather {
			next := s.ring.end(*p)
			s.close()
			p.start = next
		}
	}
}

// close puts what was gathered into the ring.
func (s *session) close() {
	if len(s.pending.data) == 0 {
		return
	}
	s.mu.Lock()
	s.ring.push(s.pending)
	s.mu.Unlock()
	s.pending = item{}
}

// push has the ring heard, or says that the session is away.
func (s *session) push(ctx context.Context) (segments []transcribe.Segment, err error) {
	for {
		s.mu.Lock()
		segments = append(segments, s.found...)
		s.found = nil
		st, away, dead, behind := s.stream, s.away, s.dead, s.behind
		var msg item
		count := 0
		if st != nil {
			msg, count = s.ring.take(s.sent, s.until())
		}
		s.mu.Unlock()
		switch {
		case dead != nil:
			return segments, s.die(dead)
		case st == nil && s.opt.Live && behind:
			return segments, nil
		case st == nil && s.opt.Live:
			return segments, fmt.Errorf("%w: %w", transcribe.ErrAway, away)
		case st == nil:
			if err := s.wait(ctx); err != nil {
				return segments, s.die(err)
			}
			continue
		case count == 0:
			if err := s.move(ctx, st); err != nil {
				return segments, s.die(err)
			}
			return segments, nil
		}
		more, err := s.step(ctx, st, msg, count, false)
		segments = append(segments, more...)
		if err == nil {
			continue
		}
		if err := s.broken(ctx, st, err); err != nil {
			return segments, s.die(err)
		}
	}
}

// step sends one message and takes its answer.
func (s *session) step(ctx context.Context, st *stream, msg item, count int, again bool) ([]transcribe.Segment, error) {
	answer, err := st.exchange(ctx, msg.message(again))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.strike(count)
		return nil, err
	}
	s.sent = max(s.sent, s.ring.first) + count
	if s.strikes > 0 && s.sent > s.strikeAt+singles {
		s.strikes, s.strikeAt = 0, -1
	}
	if len(msg.data) > 0 {
		end := s.ring.end(msg)
		s.reached = max(s.reached, end)
		if off := answer.Heard.AsDuration() - end; off < -slack || off > slack {
			return nil, &nonsense{st.peer.addr, fmt.Sprintf("it was sent audio until %v and has heard until %v", end, answer.Heard.AsDuration())}
		}
	}
	return s.accept(st, answer, msg.pause)
}

// accept takes an answer; mu is held.
func (s *session) accept(st *stream, answer *callwardenv1.TranscribeResponse, paused bool) ([]transcribe.Segment, error) {
	segments, err := s.told.take(answer.Segments, s.reached)
	if err != nil {
		return segments, &nonsense{st.peer.addr, err.Error()}
	}
	settled := min(answer.Settled.AsDuration(), s.reached)
	if paused {
		segments = append(segments, s.told.settle()...)
	} else if o := s.told.orphan; o != nil && settled >= o.End {
		segments = append(segments, s.told.settle()...)
	}
	if settled > 0 {
		s.ring.settle(settled, s.sent)
	}
	if answer.Draining {
		st.peer.leave(2*pollEvery, errors.New("it is about to end"))
		s.moves = true
	}
	return segments, nil
}

// move goes from a peer that is about to end to another, between two
// utterances, so that nobody notices. Where that cannot be it stays.
func (s *session) move(ctx context.Context, st *stream) error {
	s.mu.Lock()
	now := s.moves && s.told.shown == nil
	s.moves = false // the next answer says so again
	s.mu.Unlock()
	if !now {
		return nil
	}
	p, err := s.e.pick(st.peer)
	if err != nil || p == st.peer {
		return nil
	}
	next, err := openStream(ctx, p, s.cfg, s.e.cfg.Answer)
	if err != nil {
		_ = s.blame(p, err)
		return ctx.Err()
	}
	st.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attach(next)
	s.sent = s.ring.first // what is not settled is sent with the next audio
	s.told.orphaned()
	return nil
}

// until is the item before which a message must end, so that it is known of
// which item a stream breaks; mu is held.
func (s *session) until() int {
	at := max(s.sent, s.ring.first)
	switch {
	case s.strikes == 0:
		return math.MaxInt
	case at < s.strikeAt:
		return s.strikeAt
	}
	return at + 1
}

// suspect waits before an item is sent that was under way when streams broke,
// each session for another time: then the one whose audio it is breaks them
// again, and the others have gone past theirs.
func (s *session) suspect(ctx context.Context) {
	s.mu.Lock()
	wait := s.strikes >= 2 && max(s.sent, s.ring.first) == s.strikeAt
	s.mu.Unlock()
	if !wait {
		return
	}
	timer := time.NewTimer(rand.N(time.Second))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// strike notes which item was under way when a stream broke; mu is held. What
// has broken three is left out, and what follows it as soon as it breaks one:
// a word is longer than an item.
func (s *session) strike(count int) {
	at := max(s.sent, s.ring.first)
	if at == s.strikeAt {
		s.strikes++
	} else {
		s.strikeAt, s.strikes = at, 1
	}
	if count > 1 || s.strikes < 3 && s.gone != at {
		return
	}
	gone := s.ring.cut(at)
	s.gone, s.strikeAt, s.strikes = at+1, at+1, 1
	s.e.log.Error("audio that breaks recognisers is left out", "backend", s.name, "call", s.opt.Call, "leg", s.opt.Leg.String(), "dur", gone)
}

// struck is how many streams in a row broke at the same item.
func (s *session) struck() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strikes
}

// broken takes leave of a stream. Its error is what the session dies of;
// otherwise it is away.
func (s *session) broken(ctx context.Context, st *stream, err error) error {
	s.mu.Lock()
	s.stream = nil
	s.mu.Unlock()
	st.close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// A stream that broke while nothing was said tells nothing of the peer of
	// the moment, which may be another process by now.
	if s.struck() > 1 || status.Code(err) != codes.Unavailable {
		if dead := s.blame(st.peer, err); dead != nil {
			return dead
		}
	}
	s.recover(fmt.Errorf("%s: %w", st.peer.addr, plain(err)))
	if _, err := s.e.pick(nil); err == nil && s.opt.Live {
		s.regain(ctx)
	}
	return nil
}

// regain gives another stream a moment: a leg that was quiet when its own broke
// learns of that long after, and is not said to be deaf if it need not be.
func (s *session) regain(ctx context.Context) {
	s.mu.Lock()
	regained := s.regained
	s.mu.Unlock()
	timer := time.NewTimer(moment)
	defer timer.Stop()
	select {
	case <-regained:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Behind is what the ring holds that no stream has heard.
func (s *session) Behind() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.behind {
		return 0
	}
	return s.ring.after(s.sent)
}

// Pending reports whether the ring is being heard again, or was.
func (s *session) Pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behind || len(s.found) > 0
}

// recover looks for another stream, and lets it catch up, in the background.
func (s *session) recover(why error) {
	ctx, giveUp := context.WithCancel(context.Background()) // ends with Close
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away, s.giveUp, s.recovered, s.regained = why, giveUp, make(chan struct{}), make(chan struct{})
	again := s.regained
	regain := sync.OnceFunc(func() { close(again) })
	go func(recovered chan struct{}) { // Close waits for it
		defer close(recovered)
		defer giveUp()
		for ctx.Err() == nil && !s.reattach(ctx, regain) {
		}
	}(s.recovered)
}

// reattach tries once, and reports whether it is over. It calls regained once
// the ring is heard again.
func (s *session) reattach(ctx context.Context, regained func()) (over bool) {
	p, err := s.e.pick(nil)
	if err != nil {
		s.setAway(err)
		_ = s.e.await(ctx) // its error is ctx's, and the caller looks at that
		return false
	}
	resumed := proto.CloneOf(s.cfg)
	resumed.Resumed = s.wasHeard()
	st, err := openStream(ctx, p, resumed, s.e.cfg.Answer)
	if err == nil {
		s.mu.Lock()
		s.sent, s.behind = s.ring.first, true
		s.told.orphaned()
		s.mu.Unlock()
		regained()
		if err = s.catchUp(ctx, st); err == nil {
			return true
		}
		st.close()
	}
	if ctx.Err() != nil {
		return false
	}
	dead := s.blame(p, err)
	s.setAway(fmt.Errorf("%s: %w", p.addr, plain(err)))
	if dead != nil {
		s.mu.Lock()
		s.dead = dead
		s.mu.Unlock()
	}
	return dead != nil
}

// wasHeard reports whether the session has had a stream.
func (s *session) wasHeard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attached
}

func (s *session) setAway(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away, s.behind = why, false
}

// catchUp has st hear the ring to its end and makes it the session's stream.
func (s *session) catchUp(ctx context.Context, st *stream) error {
	for {
		s.mu.Lock()
		msg, count := s.ring.take(s.sent, s.until())
		if count == 0 {
			s.attach(st)
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		s.suspect(ctx)
		segments, err := s.step(ctx, st, msg, count, true)
		s.mu.Lock()
		s.found = append(s.found, segments...)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// wait waits for the session to be back, for as long as patience lasts.
func (s *session) wait(ctx context.Context) error {
	s.mu.Lock()
	recovered := s.recovered
	s.mu.Unlock()
	timer := time.NewTimer(s.e.cfg.Patience)
	defer timer.Stop()
	select {
	case <-recovered:
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("no transcriber for %v: %w", s.e.cfg.Patience, s.away)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// Pause makes final what was heard so far.
func (p *pausing) Pause(ctx context.Context) ([]transcribe.Segment, error) {
	s := p.session
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	if s.begun {
		s.close()
		s.mu.Lock()
		s.ring.push(item{start: s.end, pause: true})
		s.mu.Unlock()
	}
	return s.push(ctx)
}

// Finish ends the audio. It waits for a recogniser that is away for as long as
// patience lasts.
func (s *session) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if err := ctx.Err(); err != nil {
		return nil, s.die(err)
	}
	s.close()
	s.opt.Live = false // the last words are waited for
	var all []transcribe.Segment
	for {
		segments, err := s.push(ctx)
		all = append(all, segments...)
		if err != nil {
			return all, err
		}
		s.mu.Lock()
		st := s.stream
		s.mu.Unlock()
		answer, err := st.finish(ctx)
		if err == nil {
			s.mu.Lock()
			segments, err = s.accept(st, answer, true)
			s.mu.Unlock()
			all = append(all, segments...)
		}
		if err == nil {
			s.ended = fmt.Errorf("%s session: %w", s.name, transcribe.ErrClosed)
			return all, nil
		}
		if err := s.broken(ctx, st, err); err != nil {
			return all, s.die(err)
		}
	}
}

// die makes err the session's end.
func (s *session) die(err error) error {
	s.ended = fmt.Errorf("%s session: %w", s.name, err)
	return s.ended
}

// Close ends the stream, or the search for one.
func (s *session) Close() error {
	s.mu.Lock()
	giveUp, recovered := s.giveUp, s.recovered
	s.mu.Unlock()
	if giveUp != nil {
		giveUp()
		<-recovered
	}
	s.mu.Lock()
	st := s.stream
	s.stream, s.ring.items = nil, nil
	s.mu.Unlock()
	if st != nil {
		st.close()
	}
	s.ended = fmt.Errorf("%s session: %w", s.name, transcribe.ErrClosed)
	return nil
}
