// Package supervised hears with a recogniser in a process of its own, which it
// starts, and starts again when it ends: what crashes the native library costs
// that process only. Calls that were on it are deaf until the next one has
// caught up with what they missed.
package supervised

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/remote"
)

// Config says what to start and how patient to be with it.
type Config struct {
	// Start is how long the process may take until it answers.
	Start time.Duration `yaml:"start"`
	// Stop is how long it may take to end.
	Stop time.Duration `yaml:"stop"`
	// Backoff is the longest wait before a process that ends again and again
	// is started the next time.
	Backoff time.Duration `yaml:"backoff"`
	// Remote is how its clients treat it; addresses and security are set here.
	Remote remote.Config `yaml:"-"`

	// Command is the program and its arguments. It serves
	// callwarden.v1.TranscribeService at the address that is appended as
	// --listen unix:PATH, and ends when its standard input does.
	Command []string `yaml:"-"`
	// NotInstalled is the exit code by which it says that something is not
	// installed.
	NotInstalled int `yaml:"-"`
}

// DefaultConfig is Config with everything but the command.
func DefaultConfig() Config {
	return Config{Start: 30 * time.Second, Stop: 5 * time.Second, Backoff: 10 * time.Second, Remote: remote.DefaultConfig()}
}

// Validate says which key is wrong, what it holds and what it must hold.
func (c Config) Validate() error {
	for _, d := range []struct {
		key         string
		value       time.Duration
		least, most time.Duration
	}{
		{"start", c.Start, time.Second, 10 * time.Minute},
		{"stop", c.Stop, 0, time.Minute},
		{"backoff", c.Backoff, firstBackoff, time.Hour},
	} {
		if d.value < d.least || d.value > d.most {
			return fmt.Errorf("%s: %v must be from %v to %v", d.key, d.value, d.least, d.most)
		}
	}
	if len(c.Command) == 0 {
		return errors.New("command: it must name a program")
	}
	return nil
}

const (
	firstBackoff = 100 * time.Millisecond
	// A process that has lived for so long is started again at once.
	livedLong = 10 * time.Second
)

// Engine is the recogniser in the process of the moment.
type Engine struct {
	*remote.Engine

	cfg      Config
	log      *slog.Logger
	dir      string // of the socket
	stop     context.CancelFunc
	keeping  sync.WaitGroup
	restarts atomic.Uint64
	pid      atomic.Int64 // of the process; 0 while there is none
	close    sync.Once
	closed   error
}

var (
	_ transcribe.Engine     = (*Engine)(nil)
	_ transcribe.Vocabulary = (*Engine)(nil)
)

// New starts the process and returns when it answers. A process that ends
// before that is an error with its last words.
func New(cfg Config, log *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "callwarden-transcriber-") // ours alone
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background()) // ends with Close
	// A process that ends at once will not answer.
	waiting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	e := &Engine{cfg: cfg, log: log, dir: dir, stop: stop}
	ended := make(chan error, 1) // how the first process ended
	e.keeping.Go(func() { e.keep(ctx, ended) })

	there := cfg.Remote
	there.Addresses, there.Connect, there.Name = []string{"unix:" + e.socket()}, cfg.Start, "supervised"
	type opened struct {
		engine *remote.Engine
		err    error
	}
	answered := make(chan opened, 1)
	go func() { // ends within Config.Start, or with giveUp
		engine, err := remote.Connect(waiting, there, log)
		answered <- opened{engine, err}
	}()
	var first opened
	select {
	case first = <-answered:
	case err := <-ended:
		giveUp()
		stop()
		if first = <-answered; first.engine != nil {
			first.err = errors.Join(first.err, first.engine.Close())
		}
		e.keeping.Wait()
		return nil, errors.Join(fmt.Errorf("starting %s: %w", cfg.Command[0], err), os.RemoveAll(dir))
	}
	if first.err != nil {
		stop()
		e.keeping.Wait()
		return nil, errors.Join(first.err, os.RemoveAll(dir))
	}
	e.Engine = first.engine
	return e, nil
}

func (e *Engine) socket() string { return filepath.Join(e.dir, "s") }

// Restarts is how often the process was started again.
func (e *Engine) Restarts() uint64 { return e.restarts.Load() }

// Ready is why no leg could be heard now, nil if one could: the process has
// ended and the next one does not answer yet.
func (e *Engine) Ready() error {
	if e.Process() == 0 {
		return fmt.Errorf("%s: %w and is started again", filepath.Base(e.cfg.Command[0]), errEnded)
	}
	if err := e.Engine.Ready(); err != nil {
		return fmt.Errorf("%s does not answer: %w", filepath.Base(e.cfg.Command[0]), err)
	}
	return nil
}

// Process is the id of the process that hears now; 0 where there is none.
func (e *Engine) Process() int { return int(e.pid.Load()) }

// keep starts the process, again and again, until ctx ends. It sends how the
// first one ended.
func (e *Engine) keep(ctx context.Context, ended chan<- error) {
	wait := firstBackoff
	for {
		began := time.Now()
		err := e.live(ctx)
		select {
		case ended <- err:
		default:
		}
		if ctx.Err() != nil {
			return
		}
		e.log.Error("transcriber process has ended", "backend", "supervised", "err", err, "dur", time.Since(began).Round(time.Millisecond))
		if time.Since(began) > livedLong {
			wait = firstBackoff
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, e.cfg.Backoff)
		e.restarts.Add(1)
	}
}

// errEnded is a process that ended and should not have.
var errEnded = errors.New("it has ended")

// live runs one process to its end.
func (e *Engine) live(ctx context.Context) error {
	if err := os.Remove(e.socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	args := slices.Concat(e.cfg.Command[1:], []string{"--listen", "unix:" + e.socket()})
	cmd := exec.CommandContext(ctx, e.cfg.Command[0], args...)
	cmd.WaitDelay = e.cfg.Stop
	// The process ends with its standard input: when we end, whatever ends us.
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	cmd.Cancel = in.Close // it may end in order; after WaitDelay it is killed
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	e.pid.Store(int64(cmd.Process.Pid))
	defer e.pid.Store(0)
	e.log.Info("transcriber process started", "backend", "supervised", "pid", cmd.Process.Pid)
	last := e.forward(out)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		err = errEnded
	case errors.As(err, &exit) && exit.ExitCode() == e.cfg.NotInstalled && e.cfg.NotInstalled != 0:
		err = transcribe.ErrNotInstalled
	}
	if last != "" {
		err = fmt.Errorf("%w: %s", err, last)
	}
	return err
}

const (
	longestLine = 1 << 10 // of what the process says; the rest of a line is left out
	mostLines   = 20      // in a row that are no log lines: a crash says thousands
)

// forward logs what the process says until it ends and returns its last words
// that tell something.
func (e *Engine) forward(r io.Reader) (last string) {
	lines := bufio.NewReaderSize(r, longestLine)
	raw := 0
	for {
		line, more, err := lines.ReadLine()
		if err != nil {
			return last
		}
		text := strings.ToValidUTF8(strings.TrimSpace(string(line)), "?")
		for more && err == nil {
			_, more, err = lines.ReadLine()
		}
		level, ours := levelOf(text)
		if ours {
			raw = 0
		} else {
			raw++
		}
		if text == "" || raw > mostLines {
			continue
		}
		if raw == 1 || level >= slog.LevelWarn && ours {
			last = text // of a crash, its first line says why
		}
		e.log.Log(context.Background(), level, "transcriber process says", "backend", "supervised", "line", text)
	}
}

// levelOf is the level of a line of a log; what is no such line is a warning.
func levelOf(line string) (level slog.Level, ours bool) {
	_, rest, ok := strings.Cut(line, "level=")
	if !ok || !strings.HasPrefix(line, "time=") {
		return slog.LevelWarn, false
	}
	name, _, _ := strings.Cut(rest, " ")
	if level.UnmarshalText([]byte(name)) != nil {
		return slog.LevelWarn, false
	}
	return level, true
}

// Close ends the connection and the process. All sessions are closed before.
func (e *Engine) Close() error {
	e.close.Do(func() {
		err := e.Engine.Close()
		e.stop()
		e.keeping.Wait()
		e.closed = errors.Join(err, os.RemoveAll(e.dir))
	})
	return e.closed
}
