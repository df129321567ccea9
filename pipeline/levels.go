package pipeline

import (
	"context"
	"math"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	levelStep  = 100 * time.Millisecond
	levelsTold = time.Second // of the media clock
	// noLevel is that of a step in which nothing came.
	noLevel = 255
	// levelGap is the longest silence that is told step by step; after a longer
	// one the next event begins where something came again.
	levelGap = time.Minute
)

// loudness measures how loud the legs of a live call are as their frames come
// in, whatever becomes of these. It belongs to who reads them.
type loudness struct {
	audio.Reader
	tell func(*callwardenv1.CallLevels)
	legs []*legLoudness
	told time.Duration // how far the call had come when it was told last
}

type legLoudness struct {
	leg   audio.Leg
	first int     // step of the first byte of below
	below []byte  // steps that are over and not told
	sum   float64 // of squares in the step after these
	n     int     // samples that were looked at in it
}

func newLoudness(r audio.Reader, legs []audio.Leg, tell func(*callwardenv1.CallLevels)) *loudness {
	l := &loudness{Reader: r, tell: tell}
	for _, leg := range legs {
		l.legs = append(l.legs, &legLoudness{leg: leg})
	}
	return l
}

// ReadFrame measures what it reads.
func (l *loudness) ReadFrame(ctx context.Context) (audio.Frame, error) {
	f, err := l.Reader.ReadFrame(ctx)
	if err != nil {
		l.flush()
		return f, err
	}
	for _, leg := range l.legs {
		if leg.leg == f.Leg {
			leg.add(f)
		}
	}
	if end := f.End(); end-l.told >= levelsTold {
		l.told = end
		l.flush()
	}
	return f, nil
}

// flush tells the steps that are over: legs that have come as far as each other
// together.
func (l *loudness) flush() {
	var events []*callwardenv1.CallLevels
	for _, leg := range l.legs {
		if len(leg.below) == 0 {
			continue
		}
		start := time.Duration(leg.first) * levelStep
		told := &callwardenv1.LegLevels{Leg: legToProto(leg.leg), Below: leg.below}
		leg.first, leg.below = leg.first+len(leg.below), nil
		var ev *callwardenv1.CallLevels
		for _, other := range events {
			if other.GetStart().AsDuration() == start {
				ev = other
			}
		}
		if ev == nil {
			ev = &callwardenv1.CallLevels{Start: duration(start), Step: duration(levelStep)}
			events = append(events, ev)
		}
		ev.Legs = append(ev.Legs, told)
	}
	for _, ev := range events {
		l.tell(ev)
	}
}

func (l *legLoudness) add(f audio.Frame) {
	if !l.reach(f.Start) || len(f.PCM) == 0 || f.Rate <= 0 || f.Lost >= f.End()-f.Start {
		return // a time mark, what came late, or what is made up
	}
	pcm := f.PCM
	at := f.Start
	for len(pcm) > 0 {
		next := time.Duration(l.first+len(l.below)+1) * levelStep
		n := int((next - at) * time.Duration(f.Rate) / time.Second)
		n = min(max(n, 1), len(pcm))
		sum, looked := squares(pcm[:n])
		l.sum += sum
		l.n += looked
		pcm = pcm[n:]
		at = f.End() - time.Duration(len(pcm))*time.Second/time.Duration(f.Rate)
		l.reach(at)
	}
}

// squares is the sum of the squares of every third sample, and of how many.
// That is a third of the work, and within half a dB for speech; no tone of
// telephony is where it would look still.
func squares(pcm []int16) (sum float64, n int) {
	var all int64
	for i := 0; i < len(pcm); i += 3 {
		s := int64(pcm[i])
		all += s * s
		n++
	}
	return float64(all), n
}

// reach ends the steps before at, and reports whether at is in the step that is
// open now.
func (l *legLoudness) reach(at time.Duration) bool {
	step := int(at / levelStep)
	open := l.first + len(l.below)
	if step < open {
		return false
	}
	if step == open {
		return true
	}
	l.below = append(l.below, l.level())
	l.sum, l.n = 0, 0
	if gap := step - open - 1; gap > int(levelGap/levelStep) && l.first+len(l.below) < step {
		l.first, l.below = step, nil // what was before the gap is not missed for long
		return true
	}
	for l.first+len(l.below) < step {
		l.below = append(l.below, noLevel)
	}
	return true
}

// level is how far below full scale the step was, in dB.
func (l *legLoudness) level() byte {
	if l.n == 0 {
		return noLevel
	}
	rms := math.Sqrt(l.sum / float64(l.n))
	if rms < 1 {
		return 90 // less than 16 bits can say
	}
	return byte(math.Round(20 * math.Log10(32768/rms)))
}

// loud tells how loud the legs were. It counts apart from other events, so that
// these have the same ids whether it is told or not.
func (c *chronicle) loud(ctx context.Context, ev *callwardenv1.CallLevels) {
	ev.Context = c.context
	at := ev.GetStart().AsDuration()
	c.send(ctx, sink.EventID(c.call.Tenant, c.call.ID, sink.CallLevels, at, ev.GetLegs()[0].GetLeg()), sink.CallLevels, at, ev)
}
