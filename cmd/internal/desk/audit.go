package desk

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

// entry is a line of the audit log: who did what, with which call. It never
// holds what was said, nor a number.
type entry struct {
	When   board.Millis `json:"when"`
	Who    string       `json:"who"`
	From   string       `json:"from,omitempty"` // address
	What   string       `json:"what"`
	Tenant string       `json:"tenant,omitempty"`
	Call   string       `json:"call,omitempty"`
	Detail string       `json:"detail,omitempty"`
}

// audit is the log: JSON lines in a file that is only appended to. A file that
// has grown too long is put beside itself, under the time of that.
type audit struct {
	file string
	log  *slog.Logger

	mu    sync.Mutex
	f     *os.File
	size  int64
	looks map[string]time.Time // who looked at which call last, to tell once
}

const (
	auditFile = "audit.jsonl"
	auditMost = 64 << 20 // bytes of one file
	auditTail = 4 << 20  // bytes that are read back at once
	// lookAgain is how long looking at a call counts as one look: a stream that
	// is cut and comes back is no other.
	lookAgain = 5 * time.Minute
)

func openAudit(dir string, log *slog.Logger) (*audit, error) {
	a := &audit{file: filepath.Join(dir, auditFile), log: log, looks: make(map[string]time.Time)}
	if err := a.open(); err != nil {
		return nil, fmt.Errorf("dir: opening the audit log: %w", err)
	}
	return a, nil
}

func (a *audit) open() error {
	f, err := os.OpenFile(a.file, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	a.f, a.size = f, info.Size()
	return nil
}

func (a *audit) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f == nil {
		return nil
	}
	err := a.f.Close()
	a.f = nil
	return err
}

// write appends e. That it cannot is told in the log of the process.
func (a *audit) write(e entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f == nil {
		return
	}
	line, err := json.Marshal(e)
	if err == nil && a.size > auditMost {
		err = a.rotate(e.When.Time())
	}
	if err == nil {
		var n int
		n, err = a.f.Write(append(line, '\n'))
		a.size += int64(n)
	}
	if err != nil {
		a.log.Error("audit log of the desk cannot be written", "err", err)
	}
}

func (a *audit) rotate(now time.Time) error {
	if err := errors.Join(a.f.Close(), os.Rename(a.file, a.file+"."+now.Format("20060102T150405.000"))); err != nil {
		return err
	}
	return a.open()
}

// look writes that somebody looks at a call, once in a while.
func (a *audit) look(e entry) {
	key := e.Who + "\x00" + e.Tenant + "\x00" + e.Call
	now := e.When.Time()
	a.mu.Lock()
	again := now.Sub(a.looks[key]) < lookAgain
	for k, at := range a.looks {
		if now.Sub(at) >= lookAgain {
			delete(a.looks, k)
		}
	}
	a.looks[key] = now
	a.mu.Unlock()
	if !again {
		a.write(e)
	}
}

// last are the latest entries that want says, at most n, the latest first.
// They are those of the end of the file.
func (a *audit) last(n int, want func(entry) bool) ([]entry, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f == nil {
		return nil, errClosed
	}
	from := max(a.size-auditTail, 0)
	lines := bufio.NewScanner(io.NewSectionReader(a.f, from, a.size-from))
	lines.Buffer(nil, 1<<20)
	if from > 0 {
		lines.Scan() // the rest of a line
	}
	var all []entry
	for lines.Scan() {
		var e entry
		if json.Unmarshal(lines.Bytes(), &e) != nil || !want(e) {
			continue // a line that was cut off by a crash says nothing
		}
		if all = append(all, e); len(all) > 2*n {
			all = slices.Clone(all[len(all)-n:])
		}
	}
	if len(all) > n {
		all = all[len(all)-n:]
	}
	slices.Reverse(all)
	return all, lines.Err()
}
