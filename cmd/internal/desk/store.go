package desk

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

// store is the history of calls: one file, with all of a call but its audio.
//
//	rows     by end and name: the call's row as JSON, for lists and pages
//	calls    by the same key: all of the call, JSON deflated
//	keys     by name: the key of the call's latest record
//	deleted  by the SHA-256 of the name: when it was deleted, so that the
//	         stream does not bring it back
//
// A file that is damaged is set aside, which is told, and a new one begun.
type store struct {
	dir string
	log *slog.Logger
	now func() time.Time

	mu      sync.RWMutex // held for reading while db is used
	db      *bbolt.DB
	notices []string // what people should know of the history

	deletedMu sync.Mutex
	deleted   map[[sha256.Size]byte]board.Millis // the bucket of that name
}

var (
	rowsBucket    = []byte("rows")
	callsBucket   = []byte("calls")
	keysBucket    = []byte("keys")
	deletedBucket = []byte("deleted")
)

const historyFile = "history.db"

var errDamaged = errors.New("the history file is damaged")

// openStore opens the history in dir, which it makes. Its errors are for a
// person: the folder cannot be had, or another process has the file.
func openStore(dir string, log *slog.Logger, now func() time.Time) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("dir: making the folder of the history: %w", err)
	}
	s := &store{dir: dir, log: log, now: now, deleted: make(map[[sha256.Size]byte]board.Millis)}
	err := s.open()
	if errors.Is(err, errDamaged) {
		if err = s.setAside(err); err == nil {
			err = s.open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("dir: %w", err)
	}
	return s, nil
}

func (s *store) file() string { return filepath.Join(s.dir, historyFile) }

// open opens the file and reads it once: damage is better found now.
func (s *store) open() (err error) {
	err = guarded(func() (err error) {
		s.db, err = bbolt.Open(s.file(), 0o600, &bbolt.Options{Timeout: time.Second})
		return err
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%s is used by another process", s.file())
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("opening %s: %w", s.file(), err)
	case err != nil:
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	err = guarded(func() error {
		if err := s.db.Update(func(tx *bbolt.Tx) error {
			for _, name := range [][]byte{rowsBucket, callsBucket, keysBucket, deletedBucket} {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		return s.db.View(func(tx *bbolt.Tx) error {
			if err := check(tx); err != nil {
				return err
			}
			return tx.Bucket(deletedBucket).ForEach(func(k, v []byte) error {
				if len(k) != sha256.Size || len(v) != 8 {
					return errors.New("a deletion cannot be read")
				}
				s.noteDeleted(k, board.Millis(binary.BigEndian.Uint64(v)))
				return nil
			})
		})
	})
	if err != nil {
		_ = guarded(s.db.Close)
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

// check reads all there is. Memory that is not there shows in the first half,
// in this goroutine; bbolt's own check has another.
func check(tx *bbolt.Tx) error {
	sum := crc32.NewIEEE()
	if err := tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			sum.Write(k)
			sum.Write(v)
			return nil
		})
	}); err != nil {
		return err
	}
	var first error
	for err := range tx.Check() {
		if first == nil {
			first = err
		}
	}
	return first
}

// guarded runs f and makes an error of a panic, or of memory that is not there
// because a file is shorter than it says: that is how damage shows.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return f()
}

// setAside renames a damaged file and tells it.
func (s *store) setAside(why error) error {
	aside := fmt.Sprintf("%s.damaged-%s", s.file(), s.now().UTC().Format("20060102T150405.000"))
	if err := os.Rename(s.file(), aside); err != nil {
		return fmt.Errorf("setting a damaged history aside: %w", err)
	}
	s.log.Error("the history was damaged: it is set aside, and a new one begun", "file", aside, "err", why)
	s.notices = append(s.notices, fmt.Sprintf("The history file was damaged. It was set aside as %s, and a new one was begun.", filepath.Base(aside)))
	return nil
}

// use runs f on the database. Where that shows that the file is damaged, it is
// set aside, and the error says so.
func (s *store) use(f func(*bbolt.DB) error) error {
	s.mu.RLock()
	db := s.db
	err := errClosed
	if db != nil {
		err = guarded(func() error { return f(db) })
	}
	s.mu.RUnlock()
	if !errors.Is(err, errDamaged) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db != db {
		return err // somebody else has done it
	}
	_ = guarded(db.Close)
	s.db = nil
	if aside := s.setAside(err); aside != nil {
		return errors.Join(err, aside)
	}
	if again := s.open(); again != nil {
		return errors.Join(err, again)
	}
	return err
}

var errClosed = errors.New("the history is closed")

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db = nil
	return guarded(db.Close)
}

// notes are what people should know.
func (s *store) notes() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.notices)
}

// record is a call in the history, and what its row does not have.
type record struct {
	Call board.Call `json:"call"`
}

func nameKey(k board.Key) []byte { return []byte(k.Tenant + "\x00" + k.Call) }

// rowKey orders calls by their end.
func rowKey(r *board.Row) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(r.Ended)), nameKey(r.Key())...)
}

func deletedKey(k board.Key) []byte {
	sum := sha256.Sum256(nameKey(k))
	return sum[:]
}

// put writes calls that are over. Of a call that is there already the record
// is replaced; what the stream does not keep, the transcript and the levels,
// stays where the new one has none.
func (s *store) put(calls []board.Call) error {
	return s.use(func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			for _, c := range calls {
				if s.wasDeleted(c.Row.Key(), c.Row.Ended) {
					continue
				}
				if err := putOne(tx, c); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func putOne(tx *bbolt.Tx, c board.Call) error {
	name := nameKey(c.Row.Key())
	if old := bytes.Clone(tx.Bucket(keysBucket).Get(name)); old != nil {
		before, err := getAt(tx, old)
		if err != nil {
			return err
		}
		if before.Row.Began == c.Row.Began { // else another call of that name
			merge(&c, before)
			for _, b := range [][]byte{rowsBucket, callsBucket} {
				if err := tx.Bucket(b).Delete(old); err != nil {
					return err
				}
			}
		}
	}
	row, err := json.Marshal(c.Row)
	if err != nil {
		return fmt.Errorf("writing a call: %w", err)
	}
	whole, err := deflate(record{c})
	if err != nil {
		return fmt.Errorf("writing a call: %w", err)
	}
	key := rowKey(c.Row)
	return errors.Join(tx.Bucket(rowsBucket).Put(key, row), tx.Bucket(callsBucket).Put(key, whole), tx.Bucket(keysBucket).Put(name, key))
}

// merge keeps of the record before what c has lost.
func merge(c *board.Call, before board.Call) {
	if len(c.Segments) < len(before.Segments) {
		c.Segments, c.Dropped = before.Segments, before.Dropped
	}
	if len(c.Levels) == 0 {
		c.Levels = before.Levels
	}
	row := *c.Row
	known := make(map[string]bool)
	for _, a := range c.Actions {
		known[a.ID] = true
	}
	actions := slices.Clone(c.Actions)
	for _, a := range before.Actions {
		if !known[a.ID] {
			actions = append(actions, a)
		}
	}
	slices.SortStableFunc(actions, func(x, y board.Action) int { return int(x.When - y.When) })
	c.Actions = actions
	board.ApplyActions(&row, actions)
	if before.Row.Ended != 0 && before.Row.State == row.State {
		row.Ended, row.Start = before.Row.Ended, before.Row.Start // as it was seen when it happened
	}
	c.Row = &row
}

func deflate(v any) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := errors.Join(enc.Encode(v), w.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

const callMost = 256 << 20 // bytes of a call's JSON

// getAt reads the call at a key of ours.
func getAt(tx *bbolt.Tx, key []byte) (board.Call, error) {
	var rec record
	data := tx.Bucket(callsBucket).Get(key)
	err := json.NewDecoder(io.LimitReader(flate.NewReader(bytes.NewReader(data)), callMost)).Decode(&rec)
	if err != nil {
		return board.Call{}, fmt.Errorf("%w: a call cannot be read: %w", errDamaged, err)
	}
	if rec.Call.Row == nil {
		return board.Call{}, fmt.Errorf("%w: a call has no row", errDamaged)
	}
	return rec.Call, nil
}

// get is a call of the history, ok false where there is none.
func (s *store) get(key board.Key) (c board.Call, ok bool, err error) {
	err = s.use(func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) error {
			at := tx.Bucket(keysBucket).Get(nameKey(key))
			if at == nil {
				return nil
			}
			var err error
			c, err = getAt(tx, at)
			ok = err == nil
			return err
		})
	})
	return c, ok, err
}

// act adds an action to a call that has left the board, ok false where there is
// no such call.
func (s *store) act(key board.Key, add func(actions []board.Action) []board.Action) (ok bool, err error) {
	err = s.use(func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			at := tx.Bucket(keysBucket).Get(nameKey(key))
			if at == nil {
				return nil
			}
			c, err := getAt(tx, at)
			if err != nil {
				return err
			}
			row := *c.Row
			c.Actions = add(c.Actions)
			board.ApplyActions(&row, c.Actions)
			c.Row = &row
			ok = true
			return putOne(tx, c)
		})
	})
	return ok, err
}

// delete removes calls, and remembers that it did.
func (s *store) delete(keys ...board.Key) (deleted int, err error) {
	err = s.use(func(db *bbolt.DB) error {
		deleted = 0
		return db.Update(func(tx *bbolt.Tx) error {
			now := s.now().UnixMilli()
			when := binary.BigEndian.AppendUint64(nil, uint64(now))
			for _, k := range keys {
				s.noteDeleted(deletedKey(k), board.Millis(now))
				if err := tx.Bucket(deletedBucket).Put(deletedKey(k), when); err != nil {
					return err
				}
				n, err := remove(tx, k)
				if err != nil {
					return err
				}
				deleted += n
			}
			return nil
		})
	})
	return deleted, err
}

func (s *store) noteDeleted(key []byte, when board.Millis) {
	s.deletedMu.Lock()
	defer s.deletedMu.Unlock()
	s.deleted[[sha256.Size]byte(key)] = when
}

// remove takes every record of a name from the file.
func remove(tx *bbolt.Tx, k board.Key) (removed int, err error) {
	name := nameKey(k)
	var keys [][]byte
	c := tx.Bucket(rowsBucket).Cursor()
	for key, _ := c.First(); key != nil; key, _ = c.Next() {
		if bytes.Equal(key[8:], name) {
			keys = append(keys, bytes.Clone(key))
		}
	}
	for _, key := range keys {
		if err := errors.Join(tx.Bucket(rowsBucket).Delete(key), tx.Bucket(callsBucket).Delete(key)); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, tx.Bucket(keysBucket).Delete(name)
}

// wasDeleted says whether what was said of a call then was deleted since.
func (s *store) wasDeleted(key board.Key, then board.Millis) bool {
	s.deletedMu.Lock()
	defer s.deletedMu.Unlock()
	when, ok := s.deleted[[sha256.Size]byte(deletedKey(key))]
	return ok && then <= when
}

// prune removes what ended before a time, and forgets deletions of before then.
func (s *store) prune(before time.Time) (removed int, err error) {
	end := binary.BigEndian.AppendUint64(nil, uint64(before.UnixMilli()))
	err = s.use(func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			var old [][]byte
			c := tx.Bucket(rowsBucket).Cursor()
			for key, _ := c.First(); key != nil && bytes.Compare(key[:8], end) < 0; key, _ = c.Next() {
				old = append(old, bytes.Clone(key))
			}
			for _, key := range old {
				name := key[8:]
				if bytes.Equal(tx.Bucket(keysBucket).Get(name), key) {
					if err := tx.Bucket(keysBucket).Delete(name); err != nil {
						return err
					}
				}
				if err := errors.Join(tx.Bucket(rowsBucket).Delete(key), tx.Bucket(callsBucket).Delete(key)); err != nil {
					return err
				}
			}
			removed = len(old)
			var forget [][]byte
			d := tx.Bucket(deletedBucket).Cursor()
			for key, when := d.First(); key != nil; key, when = d.Next() {
				if bytes.Compare(when, end) < 0 {
					forget = append(forget, bytes.Clone(key))
				}
			}
			for _, key := range forget {
				if err := tx.Bucket(deletedBucket).Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return removed, err
}

// each gives the rows that ended from from to before to, the latest first, to
// f until it returns false. after, where not nil, is the place of the row that
// was the last before. A row that cannot be read is damage.
func (s *store) each(from, to board.Millis, after []byte, f func(place []byte, row *board.Row) bool) error {
	return s.use(func(db *bbolt.DB) error {
		return db.View(func(tx *bbolt.Tx) error {
			c := tx.Bucket(rowsBucket).Cursor()
			seek := after
			if seek == nil {
				seek = binary.BigEndian.AppendUint64(nil, uint64(max(to, 0)))
			}
			key, value := c.Seek(seek)
			if key == nil {
				key, value = c.Last()
			}
			for ; key != nil; key, value = c.Prev() {
				if bytes.Compare(key, seek) >= 0 {
					continue
				}
				if len(key) < 8 || binary.BigEndian.Uint64(key) < uint64(max(from, 0)) {
					return nil
				}
				var row board.Row
				if err := json.Unmarshal(value, &row); err != nil {
					return fmt.Errorf("%w: a row cannot be read", errDamaged)
				}
				if !f(key, &row) {
					return nil
				}
			}
			return nil
		})
	})
}
