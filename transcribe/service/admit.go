package service

import (
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// The server is behind when more than one step of live audio in twenty is
	// heard later than lateAfter, over a window, and full when it has been for
	// fullAfter windows in a row. callwarden's own listening plan gives way
	// after three, call by call, knowing which matter: this is for clients
	// without one.
	lateAfter = 500 * time.Millisecond
	window    = time.Second
	fullAfter = 10
	// It takes streams again after so many windows in which nine steps in ten
	// took less than half of that.
	calmAfter = 3
	// When to try again where a server is full.
	retryFull = 2 * time.Second
)

// door lets streams in.
type door struct {
	capacity int

	mu       sync.Mutex
	streams  int
	draining bool
	empty    chan struct{} // closed when draining and no stream is left

	began             time.Time // of the window
	steps, late, slow int
	behind, calm      int // windows in a row
	full              bool
}

// enter takes a stream in; the caller calls leave once.
func (d *door) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(time.Now())
	switch {
	case d.draining:
		return refusal(codes.Unavailable, reasonDraining, 0, "the server is about to end")
	case d.streams >= d.capacity:
		return refusal(codes.ResourceExhausted, reasonFull, retryFull, fmt.Sprintf("%d streams are open, as many as this server takes", d.streams))
	}
	d.streams++
	return nil
}

// admit refuses a live stream that is new while those before it are heard late.
func (d *door) admit(live bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(time.Now())
	if live && d.full {
		return refusal(codes.ResourceExhausted, reasonFull, retryFull, fmt.Sprintf("the audio of %d streams is heard late already", d.streams-1))
	}
	return nil
}

func (d *door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams--
	if d.draining && d.streams == 0 {
		close(d.empty)
	}
}

// close lets nobody in any more. What it returns is closed when nobody is left.
func (d *door) close() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.draining {
		d.draining = true
		if d.streams == 0 {
			close(d.empty)
		}
	}
	return d.empty
}

// isDraining reports whether close was called.
func (d *door) isDraining() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.draining
}

// load is how busy the server is.
func (d *door) load() (streams int, full, draining bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(time.Now())
	return d.streams, d.full || d.streams >= d.capacity, d.draining
}

// note counts a step of live audio that was heard so long after it came.
func (d *door) note(lag time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(time.Now())
	d.steps++
	if lag > lateAfter {
		d.late++
	}
	if lag > lateAfter/2 {
		d.slow++
	}
}

// turn ends the window when its time has come; mu is held.
func (d *door) turn(now time.Time) {
	passed := now.Sub(d.began)
	if passed < window {
		return
	}
	switch {
	case d.late*20 > d.steps:
		d.behind, d.calm = d.behind+1, 0
	case d.slow*10 > d.steps:
		d.behind, d.calm = 0, 0
	default:
		d.behind, d.calm = 0, d.calm+1
	}
	if idle := int(passed/window) - 1; idle > 0 { // nothing has come since
		d.behind, d.calm = 0, d.calm+min(idle, calmAfter)
	}
	if d.behind >= fullAfter {
		d.full = true
	} else if d.calm >= calmAfter {
		d.full = false
	}
	d.began, d.steps, d.late, d.slow = now, 0, 0, 0
}
