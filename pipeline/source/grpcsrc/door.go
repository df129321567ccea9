package grpcsrc

import "sync"

// door lets calls and watchers in.
type door struct {
	most, watchersMost int

	mu              sync.Mutex
	calls, watchers int
	live            map[[2]string]bool // calls, by tenant and id
	draining, ended bool
	empty           chan struct{} // closed when draining and no call is left
	unwatched       chan struct{} // closed when draining and no watcher is left
	over            chan struct{} // closed when watchers have to go
}

// enter takes a call's stream in; the caller calls leave once.
func (d *door) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.draining:
		return refuse(draining, "the server is about to end")
	case d.calls >= d.most:
		return refuse(full, "%d calls are open, as many as this server takes", d.calls)
	}
	d.calls++
	return nil
}

func (d *door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calls--; d.draining && d.calls == 0 {
		close(d.empty)
	}
}

// name takes the name of a call, which the caller gives back by forget.
func (d *door) name(tenant, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := [2]string{tenant, id}
	if d.live[key] {
		return refuse(callExists, "tenant %s has a call %s at the moment", tenant, id)
	}
	d.live[key] = true
	return nil
}

func (d *door) forget(tenant, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.live, [2]string{tenant, id})
}

// watch takes a watcher in; the caller calls unwatch once.
func (d *door) watch() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.draining:
		return refuse(draining, "the server is about to end")
	case d.watchers >= d.watchersMost:
		return refuse(full, "%d watch, as many as this server takes", d.watchers)
	}
	d.watchers++
	return nil
}

func (d *door) unwatch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watchers--; d.draining && d.watchers == 0 {
		close(d.unwatched)
	}
}

// close lets nobody in any more. What it returns is closed when no call is left.
func (d *door) close() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.draining {
		d.draining = true
		if d.calls == 0 {
			close(d.empty)
		}
		if d.watchers == 0 {
			close(d.unwatched)
		}
	}
	return d.empty
}

// end has watchers go.
func (d *door) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		d.ended = true
		close(d.over)
	}
}
