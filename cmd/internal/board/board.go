// Package board is the state of calls that their events tell: what is going on
// now, the worst first. It is arithmetic on events: it reads nothing, keeps no
// file, and takes the time from whoever gives it an event.
//
// Events may come twice, late, or not at all, and from machines whose clocks
// are wrong: an event that is known is passed over, one that is older than
// what is known changes nothing that is newer, and ages are reckoned from the
// media clock and the time at which events were received.
//
// Every change has a version, so that a reader can ask for what has changed
// since; see [Board.Since] and [Board.Follow].
package board

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// Config bounds a board.
type Config struct {
	// Keep is how long an ended call stays.
	Keep time.Duration `yaml:"keep"`
	// Quiet is how long a call may say nothing before it counts as lost.
	Quiet time.Duration `yaml:"quiet"`
	// Segments is how many transcript segments of one call are held; of more,
	// the first ones go.
	Segments int `yaml:"segments"`
	// Calls is how many calls are held. Of more, those that ended first go,
	// then those that were quiet for longest.
	Calls int `yaml:"calls"`
}

// DefaultConfig suits a desk in front of some hundred calls.
func DefaultConfig() Config {
	return Config{
		Keep:     15 * time.Minute,
		Quiet:    2 * time.Hour, // a call in which nothing is found says nothing for long
		Segments: 10_000,        // some 6 MB, of three hours of talk
		Calls:    5000,
	}
}

// Validate says what is wrong with c, each fault as "key: value rule".
func (c Config) Validate() error {
	var errs []error
	if c.Keep < 0 {
		errs = append(errs, fmt.Errorf("keep: %v must be at least 0s", c.Keep))
	}
	if c.Quiet < time.Minute {
		errs = append(errs, fmt.Errorf("quiet: %v must be at least 1m", c.Quiet))
	}
	if c.Segments < 1 {
		errs = append(errs, fmt.Errorf("segments: %d must be at least 1", c.Segments))
	}
	if c.Calls < 1 {
		errs = append(errs, fmt.Errorf("calls: %d must be at least 1", c.Calls))
	}
	return errors.Join(errs...)
}

// Board holds calls. Its methods may be called from any goroutine.
type Board struct {
	cfg Config

	mu      sync.RWMutex
	calls   map[Key]*entry
	version uint64 // of the latest change
	latest  uint64 // of the latest change of a row, or of a call that went
	gone    []grave
	floor   uint64        // what has gone up to this version is forgotten
	changed chan struct{} // closed with the next change of a row; nil while nobody waits
	alerts  []Alert       // oldest first
	spoken  int           // segments of all calls
}

// grave is a call that has gone.
type grave struct {
	version uint64
	key     Key
}

// Alert is a call's first warning, or worse.
type Alert struct {
	Tenant string
	At     time.Time
}

const (
	gravesMost  = 4096 // who was away for longer gets all calls anew
	alertsFor   = 24 * time.Hour
	alertsMost  = 100_000
	idsMost     = 4096 // event ids of a call; each has some dozens
	pointsMost  = 500  // of a risk curve
	lineMost    = 32   // points of a row's line
	statusMost  = 200
	actionsMost = 1000
	adviceMost  = 50
	stepsMost   = 100
	// segmentsAll bounds the segments of all calls: some 120 MB.
	segmentsAll = 200_000
	// findingsMost bounds what one call can make us hold: a fraud has some
	// dozens.
	findingsMost = 5000
)

// New returns an empty board.
func New(cfg Config) (*Board, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Board{cfg: cfg, calls: make(map[Key]*entry)}, nil
}

// Take takes an event that was received at the given time of the reader's
// clock, and reports whether it said anything new.
func (b *Board) Take(ev sink.Event, received time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := Key{ev.Tenant, ev.Call}
	e := b.calls[key]
	if _, about := ev.Data.(*callwardenv1.CallAction); about && e == nil {
		return false // of a call that has gone from here
	}
	if e != nil && e.over() && anew(e, ev) {
		b.remove(e)
		e = nil
	}
	if e == nil {
		e = newEntry(key, ev)
		b.calls[key] = e
		b.makeRoom()
	}
	if !ev.Type.Passing() && !e.remember(ev.ID) {
		return false
	}
	alert, before, spoken := e.row.Alert, e.rowVersion, len(e.segments.all)
	b.version++
	if !e.take(ev, received, b.version, b.cfg) {
		return false
	}
	if b.spoken += len(e.segments.all) - spoken; b.spoken > segmentsAll {
		b.hush()
	}
	if e.row.Alert != alert {
		b.alert(Alert{key.Tenant, e.row.Alert.Time()})
	}
	if e.rowVersion != before {
		b.wake()
	}
	e.wake()
	return true
}

// anew says whether ev begins another call that has the name of one that is
// over, as where names are given out again.
func anew(e *entry, ev sink.Event) bool {
	d, ok := ev.Data.(*callwardenv1.CallStarted)
	return ok && d.GetBegan() != nil && e.row.Began != 0 && millis(d.GetBegan().AsTime()) > e.row.Began
}

func (b *Board) alert(a Alert) {
	b.alerts = append(b.alerts, a)
	old := 0
	for old < len(b.alerts) && a.At.Sub(b.alerts[old].At) > alertsFor || len(b.alerts)-old > alertsMost {
		old++
	}
	b.alerts = slices.Delete(b.alerts, 0, old)
}

// Alerts are the alerts of the day before now, oldest first, of the tenants
// that sees says.
func (b *Board) Alerts(now time.Time, sees func(tenant string) bool) []time.Time {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var at []time.Time
	for _, a := range b.alerts {
		if now.Sub(a.At) < alertsFor && sees(a.Tenant) {
			at = append(at, a.At)
		}
	}
	return at
}

// wake wakes those who wait for a row to change, as one has; b.mu is held.
func (b *Board) wake() {
	b.latest = b.version
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// makeRoom removes a call where there are too many; b.mu is held.
func (b *Board) makeRoom() {
	if len(b.calls) <= b.cfg.Calls {
		return
	}
	var first *entry
	for _, e := range b.calls {
		if first == nil || lessNeeded(e, first) {
			first = e
		}
	}
	b.remove(first)
}

func lessNeeded(a, b *entry) bool {
	if a.over() != b.over() {
		return a.over()
	}
	return a.heardOf.Before(b.heardOf)
}

// hush lets a tenth of the longest transcript go, where all of them together
// are too much; b.mu is held.
func (b *Board) hush() {
	var longest *entry
	for _, e := range b.calls {
		if longest == nil || len(e.segments.all) > len(longest.segments.all) {
			longest = e
		}
	}
	n := len(longest.segments.all)
	longest.segments.trim(n - (n+9)/10)
	b.spoken -= n - len(longest.segments.all)
}

// remove takes a call from the board; b.mu is held.
func (b *Board) remove(e *entry) {
	delete(b.calls, e.key)
	b.spoken -= len(e.segments.all)
	e.removed = true
	e.wake()
	b.version++
	b.gone = append(b.gone, grave{b.version, e.key})
	if n := len(b.gone) - gravesMost; n > 0 {
		b.floor = b.gone[n-1].version
		b.gone = slices.Delete(b.gone, 0, n)
	}
	b.wake()
}

// Remove takes a call from the board, as when it was deleted everywhere, and
// reports whether it was there.
func (b *Board) Remove(key Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.calls[key]
	if e == nil {
		return false
	}
	b.remove(e)
	return true
}

// Age says what time it is: calls that ended too long ago leave the board.
func (b *Board) Age(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.calls {
		if e.over() && now.Sub(e.row.Ended.Time()) >= b.cfg.Keep {
			b.remove(e)
		}
	}
}

// levelsQuiet is how long a call may be silent whose loudness was told every
// second.
const levelsQuiet = time.Minute

// Lose ends calls that have been quiet for too long, or since what is said to
// be gone was heard last: zero where nothing is. It returns them. One that is
// heard of again is live again. It must not be called while no events could
// have come.
func (b *Board) Lose(now, gone time.Time) (lost []Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.calls {
		quiet := now.Sub(e.heardOf)
		if e.over() || quiet < b.cfg.Quiet && !(len(e.strips) > 0 && quiet >= levelsQuiet) && !e.heardOf.Before(gone) {
			continue
		}
		b.version++
		e.lose(now, b.version)
		lost = append(lost, e.key)
		b.wake()
		e.wake()
	}
	return lost
}

// Version is that of the latest change.
func (b *Board) Version() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.version
}

// Since returns the rows that have changed after a version, worst first, the
// calls that have gone, and the version that this leads to. ok is false where
// it was too long ago to say what has gone, or is no version of this board:
// then rows are all there are. Since(0) is that too.
func (b *Board) Since(version uint64) (rows []*Row, gone []Key, now uint64, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	ok = version > 0 && version >= b.floor && version <= b.version
	if !ok {
		version = 0
	}
	for _, e := range b.calls {
		if e.rowVersion > version {
			rows = append(rows, e.row)
		}
	}
	slices.SortFunc(rows, Worse)
	for i := len(b.gone) - 1; ok && i >= 0 && b.gone[i].version > version; i-- {
		if b.calls[b.gone[i].key] == nil { // it may be back
			gone = append(gone, b.gone[i].key)
		}
	}
	return rows, gone, b.version, ok
}

// Rows are all calls, worst first.
func (b *Board) Rows() []*Row {
	rows, _, _, _ := b.Since(0)
	return rows
}

// Row is that of one call, nil where the call is not on the board.
func (b *Board) Row(key Key) *Row {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if e := b.calls[key]; e != nil {
		return e.row
	}
	return nil
}

// Changed returns a channel that is closed when a row changes after version,
// at once where one has.
func (b *Board) Changed(version uint64) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	c := b.changed
	if b.latest > version {
		close(c)
		b.changed = nil
	}
	return c
}

// Worse orders rows: live calls before those that are over, then by level,
// score, and the later begun first.
func Worse(x, y *Row) int {
	return cmp.Or(
		cmp.Compare(btoi(x.State != Live), btoi(y.State != Live)),
		cmp.Compare(LevelRank(y.Level), LevelRank(x.Level)),
		cmp.Compare(y.Score, x.Score),
		cmp.Compare(y.Start, x.Start),
		cmp.Compare(x.Tenant, y.Tenant),
		cmp.Compare(x.ID, y.ID),
	)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
