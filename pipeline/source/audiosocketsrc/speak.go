package audiosocketsrc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/say"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// What the peer hears: signed linear at 8 kHz, which every version takes.
const (
	kindSpoken = 0x10
	spokenHz   = 8000
)

const (
	promptsMost = 4           // that wait in a call, the one being said among them
	speakWithin = time.Second // a peer that does not read for so long hears no more
	everySide   = "all"       // of prompt_to
)

// sides of prompt_to.
var sides = []string{audio.Callee.String(), audio.Caller.String(), everySide}

func (c Config) validatePromptTo() error {
	if slices.Contains(sides, c.PromptTo) {
		return nil
	}
	return fmt.Errorf("prompt_to: %q must be callee, caller or all", c.PromptTo)
}

// mouth speaks into a call over the sockets of the legs that are to hear it.
// AudioSocket has no message for events.
type mouth struct {
	sockets []*socket
	queues  []*say.Queue
}

var _ source.Player = (*mouth)(nil)

// newMouth speaks to the legs of the configured side; in a call that has none
// of that side, to every one that it has.
func newMouth(to string, legs []audio.Leg, sockets []*socket) *mouth {
	m := &mouth{}
	for i, leg := range legs {
		if leg.String() == to {
			m.sockets = append(m.sockets, sockets[i])
		}
	}
	if len(m.sockets) == 0 {
		m.sockets = sockets
	}
	for range m.sockets {
		m.queues = append(m.queues, say.NewQueue(promptsMost))
	}
	return m
}

// Tell passes every event over.
func (m *mouth) Tell(sink.Event) {}

// Play has p said to each leg. It is an error when none will hear it.
func (m *mouth) Play(p source.Prompt) error {
	var errs []error
	for _, q := range m.queues {
		if err := q.Play(p); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) < len(m.queues) {
		return nil
	}
	return errs[0]
}

// speak says what is played until the function that it returns is called, which
// returns when nothing is written any more.
func (m *mouth) speak() (hush func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var speaking sync.WaitGroup
	for i, q := range m.queues {
		// The socket's own reader says what is wrong with a connection.
		speaking.Go(func() { _ = q.Run(ctx, spokenHz, m.sockets[i].say) })
	}
	return func() { cancel(); speaking.Wait() }
}

// say writes one piece of audio.
func (s *socket) say(pcm []int16) error {
	m := make([]byte, header, header+2*len(pcm))
	m[0] = kindSpoken
	binary.BigEndian.PutUint16(m[1:], uint16(2*len(pcm)))
	for _, v := range pcm {
		m = binary.LittleEndian.AppendUint16(m, uint16(v))
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(speakWithin)); err != nil {
		return err
	}
	if _, err := s.conn.Write(m); err != nil {
		// Half a message may have gone, so nothing more is said; the peer is
		// heard all the same.
		return errors.New("the peer does not read what is said to it")
	}
	return nil
}
