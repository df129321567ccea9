package vosk

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// mostGathered is the speech after which a burst does not wait for the end
	// of the utterance any more. A wake is not earlier for less of it: what is
	// cut in the middle of a phrase is in no list.
	mostGathered = 6 * time.Second
	// cutWithin is the end of it in which the quietest place is looked for.
	cutWithin = 2 * time.Second
	// endsUtterance is a gap in the audio that nobody speaks across.
	endsUtterance = 300 * time.Millisecond
)

// burst is a thrifty session: it gathers what is said and has it decoded at
// the end of the utterance, all at once.
//
// So a leg needs a recogniser only while its utterance is decoded, a few
// hundredths of a second for each of its seconds, and as many recognisers serve
// all legs as decode at a time: two on two cores, where each leg had one of 4
// to 14 MB. What they have composed of the list is there for the next
// utterance of any leg, and none is opened anew every minute. Between
// utterances nothing of the speaker is kept (see session.Pause).
type burst struct {
	mu      sync.Mutex
	s       session // makes segments of results; its recogniser is there during a decode only
	list    *list
	unheard []string
	// A recording is heard the same way every time, so it is not decoded with
	// what others have searched: own is its recogniser. Live legs share.
	own  recogniser
	live bool

	begun  bool
	closed bool
	at     time.Duration // media time of pcm[0], or where the next is expected
	pcm    []int16       // gathered
}

var (
	_ transcribe.Session       = (*burst)(nil)
	_ transcribe.PhraseSession = (*burst)(nil)
	_ transcribe.Pauser        = (*burst)(nil)
	_ transcribe.Settler       = (*burst)(nil)
)

// Unheard lists the words of the phrases that the model does not know.
func (b *burst) Unheard() []string { return slices.Clone(b.unheard) }

// Settled is where what is gathered begins.
func (b *burst) Settled() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at
}

func (b *burst) end() time.Duration { return b.at + audio.Span(len(b.pcm), b.s.rateHz) }

func (b *burst) Write(ctx context.Context, f audio.Frame) (segments []transcribe.Segment, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fit(ctx, f); err != nil || len(f.PCM) == 0 {
		return nil, err
	}
	if !b.begun {
		b.begun, b.at, b.s.last = true, f.Start, f.Start
	}
	gap := f.Start - b.end()
	if gap < -slack {
		return nil, fmt.Errorf("%w: it starts %v before the end of the one before", transcribe.ErrFrame, -gap)
	}
	switch {
	case gap >= endsUtterance || len(b.pcm) == 0:
		if segments, err = b.decodeAll(segments); err != nil {
			return segments, err
		}
		b.at += max(0, gap)
	case gap > 0:
		b.pcm = append(b.pcm, make([]int16, b.s.samples(gap))...)
	}
	b.pcm = append(b.pcm, f.PCM...)
	for most := b.s.samples(mostGathered); len(b.pcm) >= most; {
		cut := b.quietest(most-b.s.samples(cutWithin), most)
		if segments, err = b.decode(0, cut, segments); err != nil {
			return segments, err
		}
		b.drop(cut)
	}
	return segments, nil
}

// fit says what is wrong with f or the session.
func (b *burst) fit(ctx context.Context, f audio.Frame) error {
	switch {
	case b.s.ended != nil:
		return b.s.ended
	case ctx.Err() != nil:
		return b.s.die(ctx.Err())
	case f.Rate != b.s.rateHz:
		return fmt.Errorf("%w: rate %d Hz, the session has %d", transcribe.ErrFrame, f.Rate, b.s.rateHz)
	case f.Start < 0 || f.Start > math.MaxInt64/2:
		return fmt.Errorf("%w: it starts at %v", transcribe.ErrFrame, f.Start)
	}
	return nil
}

// quietest is the middle of the quietest step between two samples.
func (b *burst) quietest(from, to int) int {
	n := b.s.samples(step)
	best, least := to, math.Inf(1)
	for i := from; i+n <= to; i += n / 2 {
		var sum float64
		for _, v := range b.pcm[i : i+n] {
			sum += float64(v) * float64(v)
		}
		if sum < least {
			best, least = i+n/2, sum
		}
	}
	return best
}

// faint is the share of the energy of an utterance's loudest step from which on
// a step is speech, 30 dB below; around decodes of it are speechMargin of what
// is fainter.
const (
	faint        = 1e-3
	speechMargin = 150 * time.Millisecond
)

// decodeAll hears all that was gathered, but for the silence before and after
// it: what the gate lets through so that no word is clipped is a quarter of
// what short answers take. Where the line is noisy nothing is that faint.
func (b *burst) decodeAll(segments []transcribe.Segment) ([]transcribe.Segment, error) {
	first, last := b.loud()
	segments, err := b.decode(first, last, segments)
	b.drop(len(b.pcm))
	return segments, err
}

// loud is where what is gathered begins to be speech and where it ends to be,
// with a margin.
func (b *burst) loud() (first, last int) {
	n := b.s.samples(step)
	var energies []float64
	most := 0.0
	for part := range slices.Chunk(b.pcm, max(1, n)) {
		sum := 0.0
		for _, v := range part {
			sum += float64(v) * float64(v)
		}
		energies = append(energies, sum)
		most = max(most, sum)
	}
	speech := func(energy float64) bool { return energy >= faint*most }
	first = slices.IndexFunc(energies, speech)
	if first < 0 {
		return 0, 0
	}
	last = len(energies) - 1
	for !speech(energies[last]) {
		last--
	}
	margin := b.s.samples(speechMargin)
	return max(0, first*n-margin), min(len(b.pcm), (last+1)*n+margin)
}

// drop forgets the first n samples.
func (b *burst) drop(n int) {
	b.at += audio.Span(n, b.s.rateHz)
	b.pcm = b.pcm[:copy(b.pcm, b.pcm[n:])]
}

// decode hears the samples between two as one utterance and appends its
// segment.
func (b *burst) decode(from, to int, segments []transcribe.Segment) ([]transcribe.Segment, error) {
	if from >= to {
		return segments, nil
	}
	rec, err := b.borrow()
	if err != nil {
		return segments, b.s.die(err)
	}
	s := &b.s
	s.rec, s.fed, s.begin = rec.handle, rec.fed, rec.fed
	s.base = b.at + audio.Span(from, s.rateHz) - audio.Span(rec.fed, s.rateHz)
	for part := range slices.Chunk(b.pcm[from:to], s.rateHz) { // a second: dither has a buffer of that size
		noisy := s.dither.add(part)
		// That the library would end the utterance here is not asked: it is
		// ended below, and its words have their times.
		if s.lib.acceptWaveform(rec.handle, &noisy[0], int32(len(noisy))) < 0 {
			err = errNative
			break
		}
		s.fed += len(part)
	}
	if err == nil {
		segments, err = s.final(s.lib.finalResult(rec.handle), 0, segments)
	}
	s.rec = 0
	rec.fed = s.fed
	b.giveBack(rec, err)
	if err != nil {
		return segments, s.die(err)
	}
	return segments, nil
}

func (b *burst) borrow() (recogniser, error) {
	if b.live {
		return b.s.engine.borrow(b.list)
	}
	if b.own.handle != 0 && audio.Span(b.own.fed, b.s.rateHz) < listRenew {
		return b.own, nil
	}
	handle, err := b.s.engine.renew(b.own.handle, b.list.grammar, audio.Span(b.own.fed, b.s.rateHz))
	if err == nil {
		b.own = recogniser{handle: handle}
	}
	return b.own, err
}

func (b *burst) giveBack(rec recogniser, broken error) {
	if !b.live {
		b.own = rec
		return
	}
	b.s.engine.giveBack(b.list, rec, broken == nil)
}

// Pause ends the utterance: what was gathered is decoded.
func (b *burst) Pause(ctx context.Context) ([]transcribe.Segment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fit(ctx, audio.Frame{Rate: b.s.rateHz}); err != nil {
		return nil, err
	}
	return b.decodeAll(nil)
}

// Finish ends the audio.
func (b *burst) Finish(ctx context.Context) ([]transcribe.Segment, error) {
	segments, err := b.Pause(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.s.ended == nil {
		b.s.ended = fmt.Errorf("vosk session: %w", transcribe.ErrClosed)
	}
	return segments, err
}

// Close gives back what the session has.
func (b *burst) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	b.s.engine.leave(b.list, b.own)
	b.own, b.pcm = recogniser{}, nil
	b.s.ended = fmt.Errorf("vosk session: %w", transcribe.ErrClosed)
	return nil
}
