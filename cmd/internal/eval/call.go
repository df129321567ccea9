package eval

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/detectors/spoken"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/filesrc"
	"github.com/callwarden/callwarden/pipeline/source/textsrc"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/script"
)

// OpenFunc opens the recording of a call. callerRight says that the caller of
// a stereo recording is on the right channel.
type OpenFunc func(call, path string, callerRight bool) (*filesrc.Recording, error)

// audioCall is the item's recording as a call. The caller closes it.
func (it Item) audioCall(open OpenFunc) (call *source.Call, closeIt func() error, err error) {
	path, err := it.locate()
	if err != nil {
		return nil, nil, &LineError{it.file, it.line, err}
	}
	callerRight := len(it.Channels) == 2 &&
		(it.leg(it.Channels[1]) == audio.Caller || it.leg(it.Channels[0]) == audio.Callee)
	rec, err := open(it.ID, path, callerRight)
	if err != nil {
		return nil, nil, &LineError{it.file, it.line, err}
	}
	if n := len(it.Channels); n > 0 && n != rec.Info.Channels && rec.Info.Channels > 0 {
		_ = rec.Close()
		err = fmt.Errorf("channels: %d roles for a recording of %d channels", n, rec.Info.Channels)
		return nil, nil, &LineError{it.file, it.line, err}
	}
	return &source.Call{
		ID: it.ID, Tenant: "default", Source: filesrc.Name,
		Attributes: map[string]string{"file": filepath.Base(path)},
		Legs:       rec.Info.Legs, Duration: rec.Info.Duration,
		Audio: rec, Warnings: rec.Warnings,
	}, rec.Close, nil
}

// textCall is the item's words as a call and the transcript that a recogniser
// speaks over its silence.
func (it Item) textCall() (*source.Call, script.Transcript, error) {
	t, err := it.transcript()
	if err != nil {
		return nil, t, &LineError{it.file, it.line, err}
	}
	var legs []audio.Leg
	for _, leg := range []audio.Leg{audio.Unknown, audio.Caller, audio.Callee} {
		if slices.ContainsFunc(t.Lines, func(l script.Line) bool { return l.Leg == leg }) {
			legs = append(legs, leg)
		}
	}
	return &source.Call{
		ID: it.ID, Tenant: "default", Source: textsrc.Name,
		Legs: legs, Duration: t.Duration(), Audio: textsrc.Silence(t.Duration(), legs...),
	}, t, nil
}

// transcript is what is said, by leg. Where the leg of one turn is not known,
// all are on one, as in a recording with one channel.
func (it Item) transcript() (script.Transcript, error) {
	var t script.Transcript
	roles := it.legs()
	turns := it.timed()
	mono := slices.ContainsFunc(turns, func(t Turn) bool { return roles[t.Role] == audio.Unknown })
	ends := make(map[audio.Leg]time.Duration)
	for i, turn := range turns {
		leg := roles[turn.Role]
		if mono {
			leg = audio.Unknown
		}
		// Nobody speaks over himself: a turn waits for the one before it.
		l := script.Line{Leg: leg, Text: strings.Join(strings.Fields(turn.Text), " ")}
		l.Start = max(seconds(*turn.Start), ends[leg])
		l.End = max(seconds(*turn.End), l.Start)
		if err := t.Add(l); err != nil {
			return t, fmt.Errorf("turns[%d]: %w", i, err)
		}
		ends[leg] = l.End
	}
	return t, nil
}

const (
	wordsPerSecond = 2.6 // of an unhurried speaker on the telephone
	turnPause      = 0.3 // seconds between two turns
)

// timed gives every turn its times: its own, or one turn after the other, each
// as long as its words take. A text without turns is cut into sentences of one
// side.
func (it Item) timed() []Turn {
	turns := slices.Clone(it.Turns)
	if len(turns) == 0 {
		for _, s := range sentences(it.Text) {
			turns = append(turns, Turn{Text: s})
		}
	}
	at := 0.0
	for i := range turns {
		t := &turns[i]
		if t.Start == nil {
			start := at
			if t.End != nil {
				start = min(start, *t.End)
			}
			t.Start = &start
		}
		if t.End == nil {
			end := *t.Start + max(turnPause, float64(len(script.Words(t.Text)))/wordsPerSecond)
			t.End = &end
		}
		at = *t.End + turnPause
	}
	return turns
}

// maxSentence keeps machine captions, which have no punctuation, in pieces as
// long as those that a recogniser gives.
const maxSentence = 40 // words

func sentences(text string) []string {
	var out, cur []string
	for _, w := range strings.Fields(text) {
		cur = append(cur, w)
		if len(cur) > 1 && strings.ContainsAny(w[len(w)-1:], ".?!") || len(cur) == maxSentence {
			out = append(out, strings.Join(cur, " "))
			cur = nil
		}
	}
	if len(cur) > 0 {
		out = append(out, strings.Join(cur, " "))
	}
	return out
}

// said are the item's words as they are written, for people to read beside
// what was heard.
func (it Item) said(unmasked bool) []line {
	var out []line
	for _, t := range it.Turns {
		l := line{Leg: t.Role, Text: t.Text}
		if t.Start != nil {
			l.StartS = *t.Start
		}
		out = append(out, l)
	}
	if len(it.Turns) == 0 && it.Text != "" {
		out = []line{{Leg: audio.Unknown.String(), Text: it.Text}}
	}
	for i := range out {
		if !unmasked {
			out[i].Text = spoken.Mask(out[i].Text)
		}
	}
	return out
}

func (it Item) leg(role string) audio.Leg { return it.legs()[role] }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
