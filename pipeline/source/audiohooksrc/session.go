package audiohooksrc

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// state is how far a session has come.
type state uint8

const (
	opening state = iota // waits for open
	active               // opened: audio comes, or is paused
	leaving              // we want to end it, and wait for close
	ending               // they have ended it, and wait for our last words
	closed               // closed, from their side too
	broken               // a fault was told: what comes is not looked at but for close
)

// session is the protocol of one connection: it takes what the client sends
// and says what to answer. Who reads the connection calls text and binary;
// tell and leave may be called from anywhere.
type session struct {
	// send queues a message to the client and reports whether there was room.
	// It does not wait.
	send func([]byte) bool
	// open decides on an open and returns the formats to answer, the legs of
	// their channels, and where the media clock begins.
	open func(*openParameters, media) (legs []audio.Leg, from time.Duration, err error)

	organization string // of the headers
	languages    []string

	mu        sync.Mutex // of the next four
	id        string
	state     state
	seq       uint64 // of our last message
	clientSeq uint64 // of the client's last message

	began    time.Time // when it was opened
	probe    bool
	clock    *clock
	pauses   time.Duration
	lost     time.Duration
	language string // the last that was told, where it changed
}

// closing is why the client has closed the session.
type closing struct{ reason string }

func (c *closing) Error() string { return "closed: " + c.reason }

// fault is what the client does wrong: it is told so.
type fault struct{ reason, info string }

func (f *fault) Error() string { return f.info }

func wrong(format string, args ...any) error {
	return &fault{reasonError, fmt.Sprintf(format, args...)}
}

// text takes a message. After a *closing the session is over; any other error
// is a *fault, which has been told to the client, whose close is waited for.
func (s *session) text(data []byte, now time.Time) error {
	err := s.message(data, now)
	var f *fault
	if errors.As(err, &f) {
		s.leave(f.reason, f.info)
		s.setState(broken)
	}
	return err
}

func (s *session) message(data []byte, now time.Time) error {
	m, err := parse(data)
	if err != nil {
		if s.stateNow() == broken {
			return nil
		}
		return wrong("%v", err)
	}
	if s.stateNow() == broken && m.Type != typeClose {
		return nil
	}
	if err := s.sequence(&m); err != nil && m.Type != typeClose {
		return err
	}
	switch m.Type {
	case typeOpen:
		return s.opens(&m, now)
	case typeClose:
		return s.closes(&m)
	case typePing:
		s.answer(typePong, none{})
		return nil
	case typeError:
		var p errorParameters
		if err := m.into(&p); err != nil {
			return wrong("%v", err)
		}
		return nil // the client closes if it cannot go on
	}
	if s.clock == nil {
		if s.probe {
			return nil
		}
		return wrong("%s: the session is not open", known(m.Type))
	}
	return s.during(&m, now)
}

// known is the type of a message as it may be told.
func known(kind string) string {
	switch kind {
	case typePaused, typeResumed, typeDiscarded, typeUpdate:
		return kind
	}
	return "a message"
}

// sequence checks the numbers of m. Ours never go back either.
func (s *session) sequence(m *message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.id != "" && m.ID != s.id:
		return wrong("id: is not that of this session")
	case m.Seq != s.clientSeq+1:
		return wrong("seq: is %d after %d", m.Seq, s.clientSeq)
	case m.ServerSeq > s.seq:
		return wrong("serverseq: is %d, and %d was the last", m.ServerSeq, s.seq)
	}
	s.id, s.clientSeq = m.ID, m.Seq
	return nil
}

func (s *session) opens(m *message, now time.Time) error {
	if s.stateNow() != opening {
		return wrong("open: the session is open")
	}
	var p openParameters
	if err := m.into(&p); err != nil {
		return wrong("%v", err)
	}
	if err := p.check(); err != nil {
		return wrong("open: %v", err)
	}
	if s.organization != "" && s.organization != p.Organization {
		return &fault{reasonUnauthorized, "open: organizationId is not that of the headers"}
	}
	chosen, err := choose(p.Media)
	if err != nil {
		return wrong("open: %v", err)
	}
	opened := openedParameters{Media: []media{chosen}}
	if p.SupportedLanguages {
		opened.SupportedLanguages = s.languages
	}
	s.began = now
	s.probe = p.probes()
	// Before anything else is done with the call: who begins with the
	// recogniser is too late for clients that wait 5 s.
	s.setState(active)
	s.answer(typeOpened, opened)
	legs, from, err := s.open(&p, chosen)
	if err != nil {
		return err
	}
	if legs != nil {
		s.clock = newClock(chosen, legs, from)
	}
	return nil
}

func (s *session) closes(m *message) error {
	var p closeParameters
	if err := m.into(&p); err != nil {
		p.Reason = reasonError
	}
	switch p.Reason {
	case "end", "error", "disconnect", "reconnect":
	default:
		p.Reason = "unknown"
	}
	if s.stateNow() == active {
		s.setState(ending)
	}
	return &closing{p.Reason}
}

// during takes what comes while the session is open.
func (s *session) during(m *message, now time.Time) error {
	at := now.Sub(s.began)
	switch m.Type {
	case typePaused:
		s.clock.pause(at)
		return nil
	case typeResumed, typeDiscarded:
		var g gap
		if err := m.into(&g); err != nil {
			return wrong("%v", err)
		}
		if g.Start == nil || g.Discarded == nil {
			return wrong("%s: start and discarded must be there", m.Type)
		}
		return s.gap(m.Type, time.Duration(*g.Start), time.Duration(*g.Discarded), at)
	case typeUpdate:
		var p updateParameters
		if err := m.into(&p); err != nil {
			return wrong("%v", err)
		}
		if isLanguage(p.Language) {
			s.language = p.Language
		}
		s.answer(typeUpdated, none{})
		return nil
	}
	return wrong("type: is none that is known")
}

func (s *session) gap(kind string, start, long, at time.Duration) error {
	if kind == typeDiscarded {
		if err := s.clock.lost(start, long, at); err != nil {
			return wrong("discarded: %v", err)
		}
		s.lost += long
		return nil
	}
	was, err := s.clock.resume(start, long, at)
	if err != nil {
		return wrong("resumed: %v", err)
	}
	s.pauses += was
	return nil
}

// binary takes a message of audio.
func (s *session) binary(data []byte, now time.Time) error {
	err := s.sound(data, now)
	var f *fault
	if errors.As(err, &f) {
		s.leave(f.reason, f.info)
		s.setState(broken)
	}
	return err
}

func (s *session) sound(data []byte, now time.Time) error {
	switch st := s.stateNow(); {
	case st == broken || st == leaving || s.probe:
		return nil // it was on its way
	case s.clock == nil:
		return wrong("audio: the session is not open")
	case len(data) > maxAudio:
		return wrong("audio of %d bytes: the limit is %d", len(data), maxAudio)
	}
	if err := s.clock.audio(data, now.Sub(s.began)); err != nil {
		return wrong("%v", err)
	}
	return nil
}

// leave asks the client to close the session. It does nothing where that was
// done.
func (s *session) leave(reason, info string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == opening || s.state == active {
		s.state = leaving
		_ = s.put(typeDisconnect, disconnectParameters{reason, info})
	}
}

// finish answers a close: it is our last message.
func (s *session) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.put(typeClosed, none{})
	s.state = closed
}

// tell sends entities to the agent's desktop and reports whether it did.
func (s *session) tell(entities []entity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (s.state == active || s.state == ending) && s.put(typeEvent, eventParameters{entities})
}

func (s *session) answer(kind string, parameters any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.put(kind, parameters)
}

// put sends a message. One for which there is no room has no number: those of
// the others have no gap.
func (s *session) put(kind string, parameters any) bool {
	if s.state == closed {
		return false
	}
	data, err := json.Marshal(reply{version, s.id, kind, s.seq + 1, s.clientSeq, parameters})
	if err != nil || !s.send(data) {
		return false
	}
	s.seq++
	return true
}

func (s *session) stateNow() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *session) setState(to state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = to
}
