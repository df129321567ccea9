package websock

import (
	"fmt"
	"time"
)

const (
	// A peer that has brought maxAhead more audio than time has passed sends a
	// recording as fast as it goes, where that was at once, and is held back
	// (see [Line.Put]). Where it took longer, its audio has another rate, or
	// other channels, than it says.
	burst = 300 * time.Millisecond

	// slowAfter is how much regular audio must have come to say that it is less
	// than it should be, and slow how much less.
	slowAfter = 10 * time.Second
	slow      = 0.75
	regular   = 250 * time.Millisecond // between messages of a leg that goes on
)

// Pace compares how much audio comes with the time that passes. It finds audio
// at 48 kHz that is said to be at 8 kHz, two channels said to be one, and the
// reverse of both. It is arithmetic only.
type Pace struct {
	heard  time.Duration // audio, by what the peer says of it
	jumped bool          // ahead as a recording is: nothing can be said any more

	last         time.Duration // when audio came last
	since, begin time.Duration // of the regular stretch: audio heard before it, and its begin
}

// Note takes a message with so much audio that came at a time since the call
// began. Its error says that the audio cannot be what the peer says it is; rate
// is what that is, for the message.
func (p *Pace) Note(at, span time.Duration, rateHz int) error {
	if at-p.last > regular {
		p.since, p.begin = p.heard, at
	}
	p.last = at
	p.heard += span
	if p.jumped {
		return nil
	}
	if ahead := p.heard - at; ahead > maxAhead {
		if at < burst {
			p.jumped = true
			return nil
		}
		return paceError(float64(p.heard)/float64(at), rateHz)
	}
	if took := at - p.begin; took >= slowAfter {
		share := float64(p.heard-p.since-span) / float64(took)
		if share < slow {
			return paceError(share, rateHz)
		}
		p.since, p.begin = p.heard, at
	}
	return nil
}

func paceError(share float64, rateHz int) error {
	return fmt.Errorf("audio said to be at %d Hz comes %.1f times as fast: its rate or channels are not what is said", rateHz, share)
}
