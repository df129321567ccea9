package desk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/board"
	"github.com/callwarden/callwarden/pipeline"
	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// From is the NATS server that the desk reads from and tells what people do,
// and the version of the program that it is part of.
type From struct {
	natssink.Connection
	Stream  string
	Version string
}

// Desk is one desk. Its Handler answers from the moment that it is made; what
// it knows comes while Run runs.
type Desk struct {
	cfg       Config
	from      From
	log       *slog.Logger
	now       func() time.Time
	board     *board.Board
	door      *door
	store     *store // nil without a folder
	audit     *audit // nil without a folder
	files     map[string]file
	numberKey []byte        // nil for none
	epoch     string        // of the versions of the board
	closing   chan struct{} // closed by Run when it ends

	mu          sync.Mutex
	nats        natsState
	told        chan struct{} // closed when nats changes
	machines    map[string]*machine
	out         *natssink.Sink // while Run runs
	dirty       map[board.Key]struct{}
	late        []sink.Event // actions on calls that have left the board
	transcribed bool         // a segment has come

	encodedMu sync.Mutex
	encoded   map[board.Key]encoded
}

// natsState is how the desk stands with its server.
type natsState struct {
	state  string // "up", "away" or "catching_up"
	since  time.Time
	why    string
	missed int
}

type machine struct {
	natssink.Machine
	seen time.Time
}

// New opens what the configuration names: the tokens, the history, the audit
// log. Its errors name the key. Whoever does not run the desk closes it.
func New(cfg Config, from From, log *slog.Logger) (_ *Desk, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Desk{
		cfg: cfg, from: from, log: log, now: time.Now, door: &door{cfg: cfg}, epoch: rand.Text(),
		closing: make(chan struct{}), told: make(chan struct{}), machines: make(map[string]*machine),
		dirty: make(map[board.Key]struct{}), encoded: make(map[board.Key]encoded),
		nats: natsState{state: "away", since: time.Now(), why: "not connected yet"},
	}
	if d.board, err = board.New(cfg.board()); err != nil {
		return nil, err
	}
	if d.files, err = readFiles(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if cfg.Dir != "" {
		if d.store, err = openStore(cfg.Dir, log, d.now); err != nil {
			return nil, err
		}
		if d.audit, err = openAudit(cfg.Dir, log); err != nil {
			return nil, err
		}
	}
	if file, own := cfg.NumberKey(); file != "" {
		if d.numberKey, err = pipeline.ReadNumberKey(file, own); err != nil {
			return nil, err
		}
	}
	for _, n := range cfg.Proxy.Networks {
		p, err := parseNetwork(n)
		if err != nil {
			return nil, err // Validate has looked
		}
		d.door.proxy = append(d.door.proxy, p.Masked())
	}
	if cfg.TokensFile != "" {
		key, err := sessionKey(cfg.Dir)
		if err != nil {
			return nil, err
		}
		if d.door.tokens, err = openTokens(cfg.TokensFile, key, log); err != nil {
			return nil, err
		}
	}
	if d.door.way() == "open" {
		log.Info("the desk asks nobody to sign in, and is open to this machine only; set desk.tokens_file or desk.proxy to let others in")
	}
	return d, nil
}

// sessionKey is what signs sessions: kept beside the history, so that people
// stay signed in when the process begins again, else made anew.
func sessionKey(dir string) ([]byte, error) {
	const size = 32
	key := make([]byte, size)
	_, _ = rand.Read(key) // never fails, says its documentation
	if dir == "" {
		return key, nil
	}
	name := filepath.Join(dir, "session.key")
	old, err := os.ReadFile(name)
	switch {
	case err == nil && len(old) == size:
		return old, nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("dir: reading the key of sessions: %w", err)
	}
	if err := os.WriteFile(name, key, 0o600); err != nil {
		return nil, fmt.Errorf("dir: writing the key of sessions: %w", err)
	}
	return key, nil
}

// Close closes what New opened; Run does it itself.
func (d *Desk) Close() error {
	var errs []error
	if d.store != nil {
		errs = append(errs, d.store.close())
	}
	if d.audit != nil {
		errs = append(errs, d.audit.close())
	}
	return errors.Join(errs...)
}

// Run follows the server until ctx ends, keeps the history, and then says
// goodbye to those who look on. Its error is what could not be kept.
func (d *Desk) Run(ctx context.Context) error {
	cfg := natssink.DefaultConfig()
	cfg.Connection, cfg.Stream, cfg.ManageStream = d.from.Connection, d.from.Stream, false
	cfg.Name += "-desk"
	out, err := natssink.New(cfg, d.log)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	d.mu.Lock()
	d.out = out
	d.mu.Unlock()
	var group sync.WaitGroup
	group.Go(func() { d.follow(ctx) })
	group.Go(func() { d.keep(ctx) })
	<-ctx.Done()
	close(d.closing)
	group.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	return errors.Join(d.flush(), out.Close(last), d.Close())
}

// lastWords is how long what people did may take to be told at the end.
const lastWords = 3 * time.Second

// follow reads events until ctx ends, beginning anew where it must.
func (d *Desk) follow(ctx context.Context) {
	cfg := natssink.DefaultWatchConfig()
	cfg.Connection, cfg.Stream = d.from.Connection, d.from.Stream
	cfg.Name += "-desk"
	cfg.Transcripts, cfg.Levels, cfg.Machines = true, true, true
	cfg.Since = max(d.cfg.Since, time.Second) // with history, nothing is missed while the server is away
	for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, maxPause) {
		began := d.now()
		seen, err := natssink.Follow(ctx, cfg, d.log, d.setNATS, func(dv natssink.Delivery) error { d.take(dv); return nil })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it has ended")
		}
		d.mu.Lock()
		d.nats.missed += seen.Missed
		d.mu.Unlock()
		d.setNATS(err)
		d.log.Warn("the desk does not follow its nats server, trying again", "err", err)
		if d.now().Sub(began) > time.Minute {
			pause = time.Second
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

const maxPause = 10 * time.Second

// setNATS takes how the desk stands with its server.
func (d *Desk) setNATS(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := natsState{state: "up", since: d.now(), missed: d.nats.missed}
	if err != nil {
		now.state, now.why = "away", err.Error()
	}
	if now.state == d.nats.state && now.why == d.nats.why || now.state == "up" && d.nats.state == "catching_up" {
		return
	}
	if now.state == d.nats.state {
		now.since = d.nats.since
	}
	d.setState(now)
}

// setState tells of another state; d.mu is held.
func (d *Desk) setState(s natsState) {
	d.nats = s
	close(d.told)
	d.told = make(chan struct{})
}

func (d *Desk) stateChanged() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told
}

// farBehind is how many events may be to come for what is shown to be of now.
const farBehind = 100

// take takes what was read.
func (d *Desk) take(dv natssink.Delivery) {
	now := d.now()
	if dv.Machine != nil {
		d.mu.Lock()
		d.machines[dv.Machine.Name] = &machine{*dv.Machine, now}
		d.mu.Unlock()
		return
	}
	d.mu.Lock()
	switch behind := dv.Behind > farBehind; {
	case behind && d.nats.state == "up":
		d.setState(natsState{state: "catching_up", since: now, missed: d.nats.missed})
	case !behind && !dv.Stored.IsZero() && d.nats.state == "catching_up":
		d.setState(natsState{state: "up", since: now, missed: d.nats.missed})
	}
	d.transcribed = d.transcribed || dv.Event.Type == sink.TranscriptSegment
	d.mu.Unlock()
	ev := dv.Event
	key := board.Key{Tenant: ev.Tenant, Call: ev.Call}
	received := now
	if !dv.Stored.IsZero() && dv.Stored.Before(now) {
		received = dv.Stored
	}
	if d.store != nil && d.store.wasDeleted(key, board.Millis(received.UnixMilli())) {
		return
	}
	d.board.Take(ev, received)
	row := d.board.Row(key)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case row != nil && row.State != board.Live && !ev.Type.Passing():
		d.dirty[key] = struct{}{}
	case row == nil && ev.Type == sink.CallAction && d.store != nil && len(d.late) < lateMost:
		d.late = append(d.late, ev)
	}
}

const lateMost = 10_000

const (
	flushEvery = 200 * time.Millisecond
	pruneEvery = time.Hour
	// A machine that has not been heard of for machineGone is gone, and with
	// the last one the calls.
	machineGone   = 10 * time.Second
	machineForget = 2 * time.Minute
)

// keep lets calls go and writes the history until ctx ends.
func (d *Desk) keep(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var pruned time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := d.now()
		if d.door.tokens != nil {
			_ = d.door.tokens.reload() // which tells what is wrong
		}
		if gone, ok := d.lost(now); ok {
			lost := d.board.Lose(now, gone)
			d.mu.Lock()
			for _, key := range lost {
				d.dirty[key] = struct{}{}
			}
			d.mu.Unlock()
		}
		if err := d.flush(); err != nil {
			d.log.Error("the history cannot be written", "err", err)
		}
		d.board.Age(now)
		d.forget()
		if d.store != nil && now.Sub(pruned) >= pruneEvery {
			pruned = now
			if n, err := d.store.prune(now.AddDate(0, 0, -d.cfg.Days)); err != nil {
				d.log.Error("the history cannot be pruned", "err", err)
			} else if n > 0 {
				d.log.Info("calls have left the history", "calls", n)
			}
		}
	}
}

// lost says whether calls may be lost: not while none could be heard of. gone
// is when those who hear calls were heard of last, where they are gone or say
// that they hear none.
func (d *Desk) lost(now time.Time) (gone time.Time, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nats.state != "up" || now.Sub(d.nats.since) < 2*machineGone {
		return gone, false
	}
	if len(d.machines) == 0 {
		return gone, true
	}
	calls := 0
	for name, m := range d.machines {
		if now.Sub(m.seen) > machineForget {
			delete(d.machines, name)
		} else if now.Sub(m.seen) < machineGone {
			calls += m.Calls
		}
	}
	if calls == 0 {
		gone = now.Add(-2 * machineGone)
	}
	return gone, true
}

// forget drops the written rows of calls that have gone.
func (d *Desk) forget() {
	d.encodedMu.Lock()
	defer d.encodedMu.Unlock()
	for key := range d.encoded {
		if d.board.Row(key) == nil {
			delete(d.encoded, key)
		}
	}
}

// flush writes what has ended, and what was done since.
func (d *Desk) flush() error {
	d.mu.Lock()
	dirty, late := d.dirty, d.late
	d.dirty, d.late = make(map[board.Key]struct{}), nil
	d.mu.Unlock()
	if d.store == nil {
		return nil
	}
	var calls []board.Call
	for key := range dirty {
		if c, ok := d.board.Whole(key); ok && c.Row.State != board.Live {
			calls = append(calls, c)
		}
	}
	var errs []error
	for part := range slices.Chunk(calls, 50) { // each is some 100 kB in memory
		err := d.store.put(part)
		if errors.Is(err, errDamaged) {
			err = d.store.put(part) // into the new file
		}
		errs = append(errs, err)
	}
	for _, ev := range late {
		action, ok := ev.Data.(*callwardenv1.CallAction)
		if !ok {
			continue
		}
		_, err := d.store.act(board.Key{Tenant: ev.Tenant, Call: ev.Call}, func(actions []board.Action) []board.Action {
			actions, _ = board.AddAction(actions, ev.ID, action)
			return actions
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (d *Desk) millis() board.Millis { return board.Millis(d.now().UnixMilli()) }

// whole is a call from the board, else from the history.
func (d *Desk) whole(key board.Key) (c board.Call, history bool, err error) {
	if c, ok := d.board.Call(key); ok {
		return c, false, nil
	}
	if d.store == nil {
		return c, false, errNotFound
	}
	c, ok, err := d.store.get(key)
	if err != nil {
		return c, false, err
	}
	if !ok {
		return c, false, errNotFound
	}
	return c, true, nil
}
