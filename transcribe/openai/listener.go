package openai

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/stream"
)

const (
	// waiting windows of a leg: over half a minute of speech. A Write waits
	// when there are more, and with it the leg, which says that it is behind.
	waiting = 2
	// A live leg whose window is being tried again for so long is deaf until
	// it was answered.
	awayAfter = 3 * time.Second
	// leastSpeech is less sound than a word has.
	leastSpeech = 150 * time.Millisecond
)

// window is a piece of speech. Times are on the stream's clock.
type window struct {
	start time.Duration
	pcm   []int16 // empty where only the words before it are to be said
	goes  bool    // speech goes on: the next window begins with the end of this one
}

// listener is one leg's stream.
type listener struct {
	e    *Engine
	live bool
	ask  form
	stop context.CancelFunc // ends work

	gate  *audio.Gate
	heard int           // samples
	begin time.Duration // of the window
	pcm   []int16       // the window, as far as it has come
	fresh int           // samples of it that were in no window before
	ended chan struct{} // closed by work when it has ended

	jobs chan window   // Hear and End send, Close closes; work receives
	news chan struct{} // work tells that something has changed

	mu    sync.Mutex
	given int                 // windows sent to jobs
	done  int                 // of them answered
	said  []stream.Hypothesis // and not returned yet
	err   error               // why there is no more
	since time.Time           // since when the current window fails; zero if it does not
	last  error               // how
}

var _ stream.Late = (*listener)(nil)

// Hear implements [stream.Recogniser].
func (l *listener) Hear(ctx context.Context, pcm []int16) ([]stream.Hypothesis, error) {
	rate := l.e.cfg.RateHz
	voiced, open := l.gate.Process(audio.Frame{Start: audio.Span(l.heard, rate), Rate: rate, PCM: pcm})
	l.heard += len(pcm)
	for _, v := range voiced {
		if err := l.add(ctx, v); err != nil {
			return nil, err
		}
	}
	if !open {
		if err := l.close(ctx); err != nil {
			return nil, err
		}
	}
	if !l.live {
		if err := l.settle(ctx); err != nil {
			return nil, err
		}
	}
	return l.Came(ctx)
}

// add takes voiced audio, and ends the window where it is full.
func (l *listener) add(ctx context.Context, v audio.Frame) error {
	rate := l.e.cfg.RateHz
	if len(l.pcm) > 0 && v.Start-l.begin-audio.Span(len(l.pcm), rate) > time.Millisecond {
		if err := l.close(ctx); err != nil { // a stretch of its own
			return err
		}
	}
	if len(l.pcm) == 0 {
		l.begin, l.fresh = v.Start, 0
	}
	l.pcm = append(l.pcm, v.PCM...)
	l.fresh += len(v.PCM)
	full := samples(l.e.cfg.MaxWindow, rate)
	if len(l.pcm) < full {
		return nil
	}
	w := window{start: l.begin, pcm: l.pcm, goes: true}
	again := samples(l.e.cfg.Overlap, rate)
	l.begin += audio.Span(len(l.pcm)-again, rate)
	l.pcm = append(make([]int16, 0, full), l.pcm[len(l.pcm)-again:]...)
	l.fresh = 0
	return l.send(ctx, w)
}

// close ends the window because nobody speaks any more.
func (l *listener) close(ctx context.Context) error {
	if len(l.pcm) == 0 {
		return nil
	}
	w := window{start: l.begin, pcm: l.pcm}
	overlapped := len(l.pcm) > l.fresh
	fresh := l.pcm[len(l.pcm)-l.fresh:]
	l.pcm = nil
	if loudness(fresh, l.e.cfg.RateHz).speech() < leastSpeech {
		if !overlapped {
			return nil
		}
		w.pcm = nil
	}
	return l.send(ctx, w)
}

func samples(d time.Duration, rateHz int) int {
	return int(d * time.Duration(rateHz) / time.Second)
}

// send queues a window; it waits while too many wait.
func (l *listener) send(ctx context.Context, w window) error {
	select {
	case l.jobs <- w:
		l.mu.Lock()
		l.given++
		l.mu.Unlock()
		return nil
	case <-l.ended:
		_, err := l.Came(ctx)
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle waits until all windows are answered or none will be.
func (l *listener) settle(ctx context.Context) error {
	for {
		l.mu.Lock()
		settled := l.done == l.given || l.err != nil
		l.mu.Unlock()
		if settled {
			return nil
		}
		select {
		case <-l.news:
		case <-l.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Came implements [stream.Late].
func (l *listener) Came(context.Context) ([]stream.Hypothesis, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := l.said
	l.said = nil
	switch {
	case l.err != nil:
		return said, l.err
	case !l.since.IsZero() && time.Since(l.since) > awayAfter:
		return said, fmt.Errorf("%w: %w", transcribe.ErrAway, l.last)
	}
	return said, nil
}

// Pending implements [stream.Late].
func (l *listener) Pending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.said) > 0 || l.done < l.given
}

// End implements [stream.Recogniser].
func (l *listener) End(ctx context.Context) ([]stream.Hypothesis, error) {
	if err := l.close(ctx); err != nil {
		said, _ := l.Came(ctx)
		return said, err
	}
	if err := l.settle(ctx); err != nil {
		said, _ := l.Came(ctx)
		return said, err
	}
	return l.Came(ctx)
}

// Close implements [stream.Recogniser].
func (l *listener) Close() error {
	l.stop()
	close(l.jobs)
	<-l.ended
	return nil
}

// work has the windows answered, one after the other.
func (l *listener) work(ctx context.Context) {
	defer close(l.ended)
	var held []transcribe.Word // of the overlap, until the next window says what it heard there
	for w := range l.jobs {
		words, err := l.answer(ctx, w)
		var said []transcribe.Word
		switch {
		case err != nil:
			said, held = held, nil
		case w.goes:
			zone := w.start + audio.Span(len(w.pcm), l.e.cfg.RateHz) - l.e.cfg.Overlap
			words = stitch(held, words)
			said, held = divide(words, zone)
		default:
			said, held = stitch(held, words), nil
		}
		l.mu.Lock()
		if len(said) > 0 {
			l.said = append(l.said, stream.Hypothesis{Final: true, Words: said})
		}
		l.done++
		l.err = err
		l.since = time.Time{}
		l.mu.Unlock()
		select {
		case l.news <- struct{}{}:
		default: // it was told already
		}
		if err != nil {
			return
		}
	}
}

// answer asks the server until it answers, or it is of no use.
func (l *listener) answer(ctx context.Context, w window) ([]transcribe.Word, error) {
	if len(w.pcm) == 0 {
		return nil, nil
	}
	sound := loudness(w.pcm, l.e.cfg.RateHz)
	if sound.speech() < leastSpeech {
		return nil, nil
	}
	form := l.ask
	form.rateHz, form.pcm = l.e.cfg.RateHz, w.pcm
	var a answer
	err := l.e.patiently(ctx, func() (err error) {
		a, err = l.e.request(ctx, form)
		return err
	}, l.failing)
	if err != nil {
		return nil, err
	}
	words := sound.believe(a)
	for i := range words {
		words[i].Start += w.start
		words[i].End += w.start
	}
	return words, nil
}

// failing notes that the current window has to be tried again.
func (l *listener) failing(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		l.since = time.Now()
	}
	l.last = err
}

// patiently tries again what fails for a reason that passes, until GiveUp is
// over.
func (e *Engine) patiently(ctx context.Context, try func() error, failing func(error)) error {
	begin := time.Now()
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		select {
		case e.turns <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := try()
		<-e.turns
		var passing *passingError
		if !errors.As(err, &passing) {
			return err
		}
		pause := max(wait, min(passing.after, longestWait))
		if time.Since(begin)+pause > e.cfg.GiveUp {
			return err
		}
		failing(err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

const (
	firstWait   = 500 * time.Millisecond
	longestWait = 20 * time.Second
)
