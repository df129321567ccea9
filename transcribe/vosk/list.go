package vosk

import (
	"fmt"
	"hash/maphash"
	"runtime"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// list is a phrase list in the library's form, shared by the sessions that
// were opened with it.
type list struct {
	hash    uint64
	grammar string
	unheard []string

	// Guarded by the lock of the engine that decodes against it.
	sessions int
	idle     []recogniser // of live sessions, between two decodes
}

// recogniser is one of the library's and how many samples it was fed.
type recogniser struct {
	handle uintptr // 0 for none
	fed    int
}

// lists remembers the latest phrase lists: that of the tactic packs is checked
// word by word and written as JSON once, and not for every leg.
type lists struct {
	seed  maphash.Seed
	known []*list // the latest last
}

const rememberedLists = 4 // two versions of the packs, and their digits

func (l *lists) find(hash uint64) *list {
	for _, known := range l.known {
		if known.hash == hash {
			return known
		}
	}
	return nil
}

// add remembers a list and returns those that are forgotten for it.
func (l *lists) add(one *list) (forgotten []*list) {
	l.known = append(l.known, one)
	for i := 0; len(l.known) > rememberedLists && i < len(l.known); {
		if l.known[i].sessions > 0 {
			i++
			continue
		}
		forgotten = append(forgotten, l.known[i])
		l.known = append(l.known[:i], l.known[i+1:]...)
	}
	return forgotten
}

func (l *lists) hash(phrases []string) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	for _, p := range phrases {
		_, _ = h.WriteString(p)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// list returns the list of the phrases; the engine's lock is not held.
func (e *Engine) list(phrases []string) (*list, error) {
	hash := e.lists.hash(phrases)
	e.mu.Lock()
	known := e.lists.find(hash)
	e.mu.Unlock()
	if known != nil {
		return known, nil
	}
	grammar, unheard, err := makeGrammar(phrases, e.Knows)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.lists.find(hash); known != nil {
		return known, nil
	}
	one := &list{hash: hash, grammar: grammar, unheard: unheard}
	for _, old := range e.lists.add(one) {
		e.drop(old)
	}
	return one, nil
}

// drop frees the idle recognisers of a list; the lock is held.
func (e *Engine) drop(l *list) {
	for _, r := range l.idle {
		e.free(r)
	}
	l.idle = nil
}

func (e *Engine) free(r recogniser) {
	if r.handle != 0 {
		e.lib.recognizerFree(r.handle)
		e.trim.closed(audio.Span(r.fed, e.info.RateHz))
	}
}

// sharedFor is the speech after which a shared recogniser is exchanged: what it
// has composed of its list only grows.
const sharedFor = 20 * time.Minute

// borrow returns a recogniser for one utterance.
func (e *Engine) borrow(l *list) (recogniser, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(l.idle); n > 0 {
		r := l.idle[n-1]
		l.idle = l.idle[:n-1]
		return r, nil
	}
	handle, err := e.recognizer(l.grammar)
	return recogniser{handle: handle}, err
}

// giveBack takes a recogniser that was borrowed. No more than decode at a time
// are kept.
func (e *Engine) giveBack(l *list, r recogniser, good bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if good && len(l.idle) < runtime.GOMAXPROCS(0) && audio.Span(r.fed, e.info.RateHz) < sharedFor {
		l.idle = append(l.idle, r)
		return
	}
	e.free(r)
}

// join and leave count the sessions of a list.
func (e *Engine) join(l *list) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.model == 0 {
		return fmt.Errorf("vosk engine: %w", transcribe.ErrClosed)
	}
	if e.lists.find(l.hash) == nil { // forgotten since it was looked up
		for _, old := range e.lists.add(l) {
			e.drop(old)
		}
	}
	l.sessions++
	e.opened++
	return nil
}

func (e *Engine) leave(l *list, own recogniser) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.sessions--
	e.opened--
	e.free(own)
}
