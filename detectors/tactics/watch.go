package tactics

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Watcher keeps the packs of a folder current while calls go on. A call keeps
// the library with which it began; a new call asks the watcher for the newest
// good one.
type Watcher struct {
	dir     string
	every   time.Duration
	log     *slog.Logger
	current atomic.Pointer[Library]
}

// NewWatcher loads the folder, or the embedded packs when dir is empty, and
// fails as Load does. every is how often Run looks, more than zero.
func NewWatcher(dir string, every time.Duration, log *slog.Logger) (*Watcher, error) {
	if every <= 0 {
		return nil, fmt.Errorf("watching tactic packs: every %v must be more than 0", every)
	}
	lib, err := Load(dir)
	if err != nil {
		return nil, err
	}
	w := &Watcher{dir: dir, every: every, log: log}
	w.current.Store(lib)
	return w, nil
}

// Library is the newest good one. Any goroutine may ask.
func (w *Watcher) Library() *Library { return w.current.Load() }

// Run looks at the folder until ctx ends, and then returns ctx.Err(). Packs
// that are wrong are refused, with one error in the log for each time that the
// error changes, and the old ones stay. Embedded packs never change: Run only
// waits.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	refused := ""
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if w.dir == "" {
			continue
		}
		lib, err := Load(w.dir)
		switch {
		case err != nil:
			if err.Error() != refused {
				refused = err.Error()
				w.log.Error("tactic packs refused, the old ones stay", "dir", w.dir, "err", err)
			}
		case lib.Fingerprint != w.Library().Fingerprint:
			refused = ""
			w.current.Store(lib)
			w.log.Info("tactic packs reloaded", "dir", w.dir, "packs", len(lib.Set.Packs()))
		default:
			refused = ""
		}
	}
}
