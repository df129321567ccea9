package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// piece is the audio that is decoded in one turn at most: others wait for
	// it.
	piece = time.Second
	// latest is where a call's media clock ends: no call lasts a year.
	latest = 365 * 24 * time.Hour
)

// wire is the server's side of a stream.
type wire = grpc.BidiStreamingServer[callwardenv1.TranscribeRequest, callwardenv1.TranscribeResponse]

// Transcribe hears one leg.
func (s *Service) Transcribe(w wire) error {
	if err := s.door.enter(); err != nil {
		s.metrics.refused.WithLabelValues(reasonOf(err)).Inc()
		return err
	}
	st := &stream{s: s, wire: w, stuck: make(chan error, 1), ended: make(chan error, 1)}
	s.working.Add(1)
	go func() { // ends with the stream's context at the latest; Serve waits for it
		defer s.working.Done()
		st.ended <- st.run(w.Context())
	}()
	var err error
	select {
	case err = <-st.ended:
	case err = <-st.stuck: // it waits for the client, which nothing but the client ends
	}
	if closed := st.leave(); err == nil {
		err = closed
	}
	s.metrics.ended.WithLabelValues(reasonOf(err)).Inc()
	return err
}

// stream is one leg. Its methods belong to the goroutine of run, but for leave.
type stream struct {
	s *Service
	// mu is held by run, unless it waits for the client: then the stream may
	// be left behind.
	mu    sync.Mutex
	left  bool
	wire  wire
	stuck chan error // holds why the stream is to end although run has not; patience sends
	ended chan error // holds what run returned

	cfg     *callwardenv1.TranscribeConfig
	rateHz  int
	front   *audio.FrontEnd // nil where the audio is as the model wants it
	session transcribe.Session
	pauser  transcribe.Pauser  // nil where the session knows no pauses
	settler transcribe.Settler // nil where it does not tell
	begun   bool
	heard   time.Duration // end of the audio so far
	settled time.Duration // of sessions that do not tell
}

// errLeft ends what was left behind.
var errLeft = errors.New("the stream was given up")

// leave frees what the stream holds, whether or not run has ended.
func (st *stream) leave() (err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.left = true
	if st.session != nil {
		err = refused(st.session.Close())
	}
	st.s.door.leave()
	return err
}

// apart calls a method that waits for the client.
func (st *stream) apart(method func() error) error {
	st.mu.Unlock()
	err := method()
	st.mu.Lock()
	if st.left {
		return errLeft
	}
	return err
}

func (st *stream) recv() (req *callwardenv1.TranscribeRequest, err error) {
	err = st.apart(func() (failed error) {
		req, failed = st.wire.Recv()
		return failed
	})
	return req, err
}

// patience ends the stream if the returned function is not called in time.
func (st *stream) patience(limit time.Duration, why error) (enough func() bool) {
	return time.AfterFunc(limit, func() {
		select {
		case st.stuck <- why:
		default:
		}
	}).Stop
}

// run hears the stream to its end.
func (st *stream) run(ctx context.Context) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	opened, err := st.open(ctx)
	if err != nil {
		return err
	}
	if err := st.answer(&callwardenv1.TranscribeResponse{Opened: opened}, nil); err != nil {
		return err
	}
	for {
		req, err := st.recv()
		if errors.Is(err, io.EOF) {
			return st.finish(ctx)
		}
		if err != nil {
			return err
		}
		var segments []transcribe.Segment
		switch r := req.Request.(type) {
		case *callwardenv1.TranscribeRequest_Audio:
			segments, err = st.hear(ctx, r.Audio)
		case *callwardenv1.TranscribeRequest_Pause:
			segments, err = st.pause(ctx)
		case *callwardenv1.TranscribeRequest_Config:
			return refusal(codes.FailedPrecondition, reasonConfigExpected, 0, "a stream has one configuration, at its beginning")
		default:
			return refusal(codes.InvalidArgument, reasonAudioRefused, 0, "the message holds neither audio nor a pause")
		}
		if err != nil {
			return refused(err)
		}
		if err := st.answer(&callwardenv1.TranscribeResponse{}, segments); err != nil {
			return err
		}
	}
}

// open waits for the configuration and opens a session.
func (st *stream) open(ctx context.Context) (*callwardenv1.TranscribeOpened, error) {
	enough := st.patience(st.s.limits.config, refusal(codes.DeadlineExceeded, reasonConfigLate, 0,
		fmt.Sprintf("no configuration came within %v", st.s.limits.config)))
	req, err := st.recv()
	enough()
	if errors.Is(err, io.EOF) {
		return nil, refusal(codes.InvalidArgument, reasonConfigMissing, 0, "the stream ended before its configuration came")
	}
	if err != nil {
		return nil, err
	}
	if st.cfg = req.GetConfig(); st.cfg == nil {
		return nil, refusal(codes.FailedPrecondition, reasonConfigExpected, 0, "the first message must be the configuration")
	}
	if err := st.s.door.admit(st.cfg.Live && !st.cfg.Resumed); err != nil {
		return nil, err
	}
	opt, err := st.options()
	if err != nil {
		return nil, refused(err)
	}
	var failed error
	if err := st.s.turn(ctx, func() { st.session, failed = st.s.engine.Open(ctx, opt) }); err != nil {
		return nil, refused(err)
	}
	if failed != nil {
		return nil, refused(failed)
	}
	st.pauser, _ = st.session.(transcribe.Pauser)
	st.settler, _ = st.session.(transcribe.Settler)
	opened := &callwardenv1.TranscribeOpened{Pauses: st.pauser != nil}
	if p, ok := st.session.(transcribe.PhraseSession); ok {
		opened.Unheard = p.Unheard()
	}
	return opened, nil
}

func (st *stream) options() (opt transcribe.Options, err error) {
	c, model := st.cfg, st.s.info.RateHz
	if st.rateHz = int(c.RateHz); st.rateHz == 0 {
		st.rateHz = model
	}
	switch {
	case c.Encoding < 0 || c.Encoding > callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA:
		return opt, fmt.Errorf("%w: encoding %d", transcribe.ErrOption, c.Encoding)
	case c.Leg < 0 || c.Leg > callwardenv1.Leg_LEG_CALLEE:
		return opt, fmt.Errorf("%w: leg %d", transcribe.ErrOption, c.Leg)
	case st.rateHz != model && (st.rateHz < minRateHz || st.rateHz > maxRateHz):
		return opt, fmt.Errorf("%w: rate %d Hz, it must be from %d to %d Hz", transcribe.ErrOption, st.rateHz, minRateHz, maxRateHz)
	}
	if st.rateHz != model {
		if st.front, err = audio.NewFrontEnd(audio.FrontEndConfig{RateHz: model}); err != nil {
			return opt, err
		}
	}
	return transcribe.Options{
		Call: c.Call, Tenant: c.Tenant, Leg: audio.Leg(c.Leg), RateHz: model, Language: c.Language,
		Phrases: c.Phrases, Hints: c.Hints, Thrifty: c.Thrifty,
		// One that could be away is waited for: the client has its own ring.
		Live: c.Live && st.s.info.Native,
	}, nil
}

// hear decodes audio.
func (st *stream) hear(ctx context.Context, a *callwardenv1.TranscribeAudio) ([]transcribe.Segment, error) {
	came := time.Now()
	start := st.heard
	if a.Start != nil {
		if err := a.Start.CheckValid(); err != nil {
			return nil, fmt.Errorf("%w: start: %w", transcribe.ErrFrame, err)
		}
		start = a.Start.AsDuration()
	}
	if start < 0 || start > latest {
		return nil, fmt.Errorf("%w: it starts at %v", transcribe.ErrFrame, start)
	}
	pcm, whole := decode(st.cfg.Encoding, a.Samples)
	if !whole {
		return nil, fmt.Errorf("%w: its %d bytes end within a sample", transcribe.ErrFrame, len(a.Samples))
	}
	if over := st.heard - start; st.begun && over > time.Millisecond {
		return nil, fmt.Errorf("%w: it starts %v before the end of the one before", transcribe.ErrFrame, over)
	}
	var all []transcribe.Segment
	n := int(piece * time.Duration(st.rateHz) / time.Second)
	for at := 0; at < len(pcm); at += n {
		f := audio.Frame{Leg: audio.Leg(st.cfg.Leg), Start: start + audio.Span(at, st.rateHz), Rate: st.rateHz, PCM: pcm[at:min(at+n, len(pcm))]}
		segments, err := st.write(ctx, f)
		all = append(all, segments...)
		if err != nil {
			return all, err
		}
	}
	if len(pcm) > 0 {
		st.begun, st.heard = true, max(st.heard, start+audio.Span(len(pcm), st.rateHz))
	}
	lasted := audio.Span(len(pcm), st.rateHz)
	st.s.metrics.audio.Add(seconds(lasted))
	switch {
	case a.Again:
		st.s.metrics.again.Add(seconds(lasted))
	case st.cfg.Live:
		lag := time.Since(came)
		st.s.door.note(lag)
		st.s.metrics.lag.Observe(lag.Seconds())
	}
	return all, nil
}

// write prepares a frame for the model, where it needs that, and decodes it.
func (st *stream) write(ctx context.Context, f audio.Frame) ([]transcribe.Segment, error) {
	if st.front == nil {
		return st.decode(ctx, func() ([]transcribe.Segment, error) { return st.session.Write(ctx, f) })
	}
	frames, err := st.front.Process(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", transcribe.ErrFrame, err)
	}
	return st.decode(ctx, func() ([]transcribe.Segment, error) { return st.writeAll(ctx, frames) })
}

func (st *stream) writeAll(ctx context.Context, frames []audio.Frame) (all []transcribe.Segment, err error) {
	for _, f := range frames {
		f.PCM = slices.Clone(f.PCM) // the front end uses it again
		segments, err := st.session.Write(ctx, f)
		all = append(all, segments...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// flush has the session hear what waits in the front end.
func (st *stream) flush(ctx context.Context) ([]transcribe.Segment, error) {
	if st.front == nil {
		return nil, nil
	}
	return st.writeAll(ctx, st.front.Flush())
}

func (st *stream) pause(ctx context.Context) ([]transcribe.Segment, error) {
	if st.pauser == nil {
		return nil, nil
	}
	segments, err := st.decode(ctx, func() ([]transcribe.Segment, error) {
		segments, err := st.flush(ctx)
		if err != nil {
			return segments, err
		}
		more, err := st.pauser.Pause(ctx)
		return append(segments, more...), err
	})
	st.settled = max(st.settled, st.heard)
	return segments, err
}

// finish says the last words.
func (st *stream) finish(ctx context.Context) error {
	segments, err := st.decode(ctx, func() ([]transcribe.Segment, error) {
		segments, err := st.flush(ctx)
		if err != nil {
			return segments, err
		}
		more, err := st.session.Finish(ctx)
		return append(segments, more...), err
	})
	if err != nil {
		return refused(err)
	}
	st.settler, st.settled = nil, st.heard
	return st.answer(&callwardenv1.TranscribeResponse{}, segments)
}

// decode has fn's turn and notes what is settled with it.
func (st *stream) decode(ctx context.Context, fn func() ([]transcribe.Segment, error)) (segments []transcribe.Segment, err error) {
	var began time.Time
	waited := st.s.turn(ctx, func() {
		began = time.Now()
		segments, err = fn()
	})
	if waited != nil {
		return nil, waited
	}
	st.s.metrics.decoding.Add(seconds(time.Since(began)))
	for _, seg := range segments {
		if seg.Final {
			st.settled = max(st.settled, seg.End)
		}
	}
	return segments, err
}

// answer sends a response, unless nobody reads it for too long.
func (st *stream) answer(resp *callwardenv1.TranscribeResponse, segments []transcribe.Segment) error {
	for _, seg := range segments {
		if !seg.Final && !st.cfg.PartialResults {
			continue
		}
		resp.Segments = append(resp.Segments, st.segment(seg))
		kind := "partial"
		if seg.Final {
			kind = "final"
		}
		st.s.metrics.segments.WithLabelValues(kind).Inc()
	}
	if st.begun {
		resp.Heard, resp.Settled = durationpb.New(st.heard), durationpb.New(st.settled)
		if st.settler != nil {
			resp.Settled = durationpb.New(st.settler.Settled())
		}
	}
	resp.Draining = st.s.door.isDraining()
	enough := st.patience(st.s.limits.answer, refusal(codes.DeadlineExceeded, reasonAnswersNotRead, 0,
		fmt.Sprintf("the client has read no answer for %v", st.s.limits.answer)))
	defer enough()
	return st.apart(func() error { return st.wire.Send(resp) })
}

func (st *stream) segment(seg transcribe.Segment) *callwardenv1.RecognizedSegment {
	out := &callwardenv1.RecognizedSegment{
		Leg: st.cfg.Leg, Utterance: int64(seg.Utterance), Final: seg.Final,
		Start: durationpb.New(seg.Start), End: durationpb.New(seg.End), Text: seg.Text,
	}
	if !st.cfg.Words {
		return out
	}
	out.Words = make([]*callwardenv1.RecognizedWord, len(seg.Words))
	for i, w := range seg.Words {
		out.Words[i] = &callwardenv1.RecognizedWord{
			Text: w.Text, Start: durationpb.New(w.Start), End: durationpb.New(w.End), Confidence: w.Confidence,
		}
	}
	return out
}
