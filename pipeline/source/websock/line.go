package websock

import (
	"context"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// lineFrames is how many frames wait to be read: of 60 ms, 3.8 s of one leg.
	// When full the peer is held back by TCP; a live call's own queue, which
	// drops and counts, is behind it.
	lineFrames = 64

	// maxAhead is how far audio may be ahead of the clock; see [Pace].
	maxAhead = 5 * time.Second
)

// Line is the audio of one call, from the goroutine that reads its connection
// to the one that hears it. It is an [audio.Reader].
type Line struct {
	began  time.Time
	frames chan audio.Frame // Put sends, End closes
	err    error            // why frames was closed; read after that
	quit   chan struct{}    // closed by Close: nobody reads any more
}

var _ audio.Reader = (*Line)(nil)

// NewLine is the line of a call that began then.
func NewLine(began time.Time) *Line {
	return &Line{began: began, frames: make(chan audio.Frame, lineFrames), quit: make(chan struct{})}
}

// Put hands on frames, no faster than speech: what is too far ahead of the
// clock waits. It reports false where nobody reads any more.
func (l *Line) Put(frames ...audio.Frame) bool {
	for _, f := range frames {
		if ahead := f.End() - time.Since(l.began); ahead > maxAhead {
			t := time.NewTimer(ahead - maxAhead)
			select {
			case <-t.C:
			case <-l.quit:
				t.Stop()
				return false
			}
		}
		select {
		case l.frames <- f:
		case <-l.quit:
			return false
		}
	}
	return true
}

// End says that nothing follows, and why: io.EOF after a normal hang-up. It is
// called once, by the goroutine that calls Put.
func (l *Line) End(err error) {
	l.err = err
	close(l.frames)
}

// Close says that nobody reads any more. It is called once.
func (l *Line) Close() { close(l.quit) }

// ReadFrame implements [audio.Reader].
func (l *Line) ReadFrame(ctx context.Context) (audio.Frame, error) {
	select {
	case f, ok := <-l.frames:
		if !ok {
			return audio.Frame{}, l.err
		}
		return f, nil
	case <-ctx.Done():
		return audio.Frame{}, ctx.Err()
	}
}
