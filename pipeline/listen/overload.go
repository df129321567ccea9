package listen

import "time"

// What is done when the machine cannot hold what comes in, step by step, once
// a window of the load:
//
//  1. Calls without findings lose the open vocabulary, those that were woken
//     last first, half of them at a time. They are screened on.
//  2. Where none is left, and it has not helped for fullAfter windows, new
//     calls are refused.
//
// When it has been calm for a while new calls are taken again, then those that
// lost the open vocabulary get it back one by one. Recordings have no part in
// it: they wait.

// admit takes a live call on, or refuses it.
func (l *Listener) admit(c *Call) error {
	l.nextRule.Store(0)
	l.rule()
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.live && l.full {
		l.refused++
		return ErrFull
	}
	l.calls[c] = true
	l.begun++
	return nil
}

func (l *Listener) leave(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, c)
}

// ruleEvery is how often rule looks at the load at most: far more often than a
// window of it ends.
const ruleEvery = 20 * time.Millisecond

// rule acts on the load, once for each of its windows. It is called with every
// frame of a live call; of thousands of legs few come further than the first
// line, as those who wait for one lock on a full machine would make it fuller.
func (l *Listener) rule() {
	now := time.Now()
	next := l.nextRule.Load()
	if now.UnixNano() < next || !l.nextRule.CompareAndSwap(next, now.Add(ruleEvery).UnixNano()) {
		return
	}
	l.sched.mu.Lock()
	load := &l.sched.load
	if !load.began.IsZero() {
		load.close(now)
	}
	window, behind, calm, stuck := load.ended, load.behind, load.calm >= calmWindows, l.sched.stuck(now)
	l.sched.mu.Unlock()

	l.mu.Lock()
	defer l.mu.Unlock()
	if stuck && !l.full {
		l.fill("nothing is decoded")
	}
	if window == l.ruled {
		return
	}
	l.ruled = window
	switch {
	case behind > 0:
		if l.shed() == 0 && !l.full && behind >= fullAfter {
			l.fill("audio is heard late")
		}
	case calm && !stuck && l.full:
		l.full = false
		l.log.Info("taking calls again")
	case calm && !stuck:
		for c := range l.calls {
			if c.unshed() {
				break
			}
		}
	}
}

// fill refuses new calls from now on; mu is held.
func (l *Listener) fill(why string) {
	l.full = true
	l.log.Error("the machine is full: new calls are not monitored", "calls", len(l.calls), "reason", why)
}

// shed takes the open vocabulary from some calls and returns from how many; mu
// is held.
func (l *Listener) shed() int {
	var can []*Call
	for c := range l.calls {
		if c.sheddable() {
			can = append(can, c)
		}
	}
	if len(can) == 0 {
		return 0
	}
	most := (len(can) + 1) / 2
	n := 0
	for range most {
		var latest *Call
		var woken time.Time
		for _, c := range can {
			if at, ok := c.wokenAt(); ok && (latest == nil || at.After(woken)) {
				latest, woken = c, at
			}
		}
		if latest != nil && latest.loseOpen() {
			n++
		}
	}
	l.sheds += n
	if n > 0 {
		l.log.Warn("transcribing fewer calls: the machine is full", "calls", n)
	}
	return n
}

func (c *Call) sheddable() bool {
	_, ok := c.wokenAt()
	return ok
}

// wokenAt is since when the call has been transcribed; ok is false where it is
// not, or must stay so.
func (c *Call) wokenAt() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.woken, c.live && c.awake && !c.findings && c.mode == Screening
}

func (c *Call) loseOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.awake {
		return false
	}
	c.awake, c.shed = false, true
	c.signal()
	return true
}

// unshed transcribes the call again if there still is reason to, and reports
// whether there is.
func (c *Call) unshed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	reason := c.shed && c.at <= c.until && !c.awake
	c.shed = false
	if reason {
		c.awake, c.woken = true, time.Now()
		c.signal()
	}
	return reason
}
