package transcribetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Remembered hears with another engine, but the same audio in the same frames
// only once: what that engine said to it is said again. It stands behind the
// servers of tests, which hear the same speech in dozens of sessions. The
// engine must give the same answers to the same audio.
type Remembered struct {
	transcribe.Engine
	mu   sync.Mutex
	said map[[32]byte]answer
}

type answer struct {
	segments []transcribe.Segment
	err      error
}

// NewRemembered returns an engine that hears with e and closes it.
func NewRemembered(e transcribe.Engine) *Remembered {
	return &Remembered{Engine: e, said: make(map[[32]byte]answer)}
}

// Open opens a session; the engine's own session only when it hears something
// new.
func (r *Remembered) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &rememberedSession{r: r, opt: opt}
	s.state = sha256.Sum256(fmt.Appendf(nil, "%v %v %q %q", opt.Leg, opt.RateHz, opt.Language, opt.Phrases))
	if len(opt.Phrases) > 0 { // whether they can be heard is said at once
		return r.Engine.Open(ctx, opt)
	}
	return s, nil
}

type rememberedSession struct {
	r      *Remembered
	opt    transcribe.Options
	state  [32]byte // of all that was heard
	heard  []audio.Frame
	caught int                // of heard, by sess
	sess   transcribe.Session // nil until something new is heard
}

func (s *rememberedSession) Write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	h := sha256.New()
	h.Write(s.state[:])
	_ = binary.Write(h, binary.LittleEndian, []int64{int64(f.Start), int64(f.Rate)})
	_ = binary.Write(h, binary.LittleEndian, f.PCM)
	h.Sum(s.state[:0])
	f.PCM = slices.Clone(f.PCM)
	s.heard = append(s.heard, f)
	return s.ask(ctx, func() ([]transcribe.Segment, error) {
		s.caught++
		return s.sess.Write(ctx, f)
	}, len(s.heard)-1)
}

func (s *rememberedSession) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	s.state = sha256.Sum256(append(s.state[:], "finish"...))
	return s.ask(ctx, func() ([]transcribe.Segment, error) { return s.sess.Finish(ctx) }, len(s.heard))
}

// ask returns what was said before in this state; else the session catches up
// on the first n frames and is asked.
func (s *rememberedSession) ask(ctx context.Context, say func() ([]transcribe.Segment, error), n int) ([]transcribe.Segment, error) {
	s.r.mu.Lock()
	a, ok := s.r.said[s.state]
	s.r.mu.Unlock()
	if ok || ctx.Err() != nil {
		return slices.Clone(a.segments), a.err
	}
	if s.sess == nil {
		sess, err := s.r.Engine.Open(ctx, s.opt)
		if err != nil {
			return nil, err
		}
		s.sess = sess
	}
	for ; s.caught < n; s.caught++ {
		if _, err := s.sess.Write(ctx, s.heard[s.caught]); err != nil {
			return nil, err
		}
	}
	a.segments, a.err = say()
	s.r.mu.Lock()
	s.r.said[s.state] = a
	s.r.mu.Unlock()
	return slices.Clone(a.segments), a.err
}

func (s *rememberedSession) Close() error {
	if s.sess == nil {
		return nil
	}
	return s.sess.Close()
}
