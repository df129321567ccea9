package natssink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// A command is a request on callwarden.v1.command.<tenant>.<call>, in JSON. The
// process that has the call answers; the others say nothing.
const commandRoot = subjectRoot + "command."

// maxCommand bounds a command and its answer, in bytes.
const maxCommand = 4096

// commandWait is how long Send waits for an answer: nobody has the call, or the
// process that has it is stuck.
const commandWait = 2 * time.Second

// Command is what the process that has a call is asked to do in it.
type Command struct {
	Play string `json:"play"`          // the name of a prompt, such as "customer"
	Who  string `json:"who,omitempty"` // asks for it, as the one who let them in knows them
}

// answer is what comes back.
type answer struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// Errors of commands.
var (
	// ErrNotMine is returned by who is asked for a call that another process
	// has: it does not answer then.
	ErrNotMine = errors.New("another process has this call")
	// ErrNoAnswer says that no process has the call, or none takes commands.
	ErrNoAnswer = errors.New("no process answers for this call")
)

// Refusal is why a command was not done, in the words of the process that has
// the call.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Send has a command done and returns nil once it is. Its error wraps
// ErrNoAnswer where nobody answers for the call within two seconds, is a
// Refusal where the command was understood and not done, and says else what is
// wrong with cfg, the names or the server. It opens a connection of its own:
// people do not ask often.
func Send(ctx context.Context, cfg Connection, tenant, call string, cmd Command) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	for _, name := range []string{tenant, call} {
		if err := checkToken(name); err != nil {
			return fmt.Errorf("command for call %q: %w", call, err)
		}
	}
	opts, err := cfg.options()
	if err != nil {
		return err
	}
	ask, err := json.Marshal(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandWait)
	defer cancel()
	gone := make(chan struct{})
	nc, err := cfg.connect(ctx, append(opts, nats.ClosedHandler(func(*nats.Conn) { close(gone) })), slog.New(slog.DiscardHandler), func(error) {})
	if err != nil {
		return fmt.Errorf("command for call %q: reaching %s: %w", call, cfg.target(), err)
	}
	defer func() { nc.Close(); <-gone }()
	msg, err := nc.RequestWithContext(ctx, commandRoot+tenant+"."+call, ask)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("call %q: %w", call, ErrNoAnswer)
	case err != nil:
		return fmt.Errorf("command for call %q: %w", call, err)
	}
	var a answer
	if len(msg.Data) > maxCommand || json.Unmarshal(msg.Data, &a) != nil || !a.OK && a.Error == "" {
		return fmt.Errorf("command for call %q: the answer is none of ours", call)
	}
	if !a.OK {
		return Refusal(a.Error)
	}
	return nil
}

// TakeCommands answers commands, one at a time, until ctx ends (the error is
// nil then) or the server refuses us. What do returns is told to who asked;
// ErrNotMine has nothing told. While the server is away nobody is answered.
func TakeCommands(ctx context.Context, cfg Connection, log *slog.Logger, do func(ctx context.Context, tenant, call string, cmd Command) error) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	opts, err := cfg.options()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	gone := make(chan struct{})
	nc, err := cfg.connect(ctx, append(opts,
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				stop(fmt.Errorf("taking commands from %s: %w", cfg.target(), err))
				return
			}
			log.Warn("nats connection", "err", err)
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(gone) }),
	), log, func(error) {})
	if err != nil {
		return notOurEnd(ctx, err)
	}
	defer func() { nc.Close(); <-gone }()
	msgs := make(chan *nats.Msg, 64) // sent by the client, which drops what finds no room; never closed
	if _, err := nc.ChanSubscribe(commandRoot+"*.*", msgs); err != nil {
		return notOurEnd(ctx, fmt.Errorf("taking commands from %s: %w", cfg.target(), err))
	}
	for {
		select {
		case <-ctx.Done():
			return notOurEnd(ctx, ctx.Err())
		case m := <-msgs:
			err := obey(ctx, m, do)
			if errors.Is(err, ErrNotMine) || m.Reply == "" {
				continue
			}
			a := answer{OK: err == nil}
			if err != nil {
				a.Error = err.Error()
			}
			said, err := json.Marshal(a)
			if err == nil {
				err = m.Respond(said)
			}
			if err != nil {
				log.Warn("a command is not answered", "err", err)
			}
		}
	}
}

// obey does what m asks for. A command that is none is refused by every process:
// it would be by the one that has the call.
func obey(ctx context.Context, m *nats.Msg, do func(context.Context, string, string, Command) error) error {
	tenant, call, ok := strings.Cut(strings.TrimPrefix(m.Subject, commandRoot), ".")
	if !ok || tenant == "" || call == "" {
		return ErrNotMine
	}
	cmd, err := parseCommand(m.Data)
	if err != nil {
		return err
	}
	return do(ctx, tenant, call, cmd)
}

// parseCommand reads a command. Keys that it does not know are passed over.
func parseCommand(b []byte) (Command, error) {
	var cmd Command
	if len(b) > maxCommand {
		return Command{}, fmt.Errorf("a command of %d bytes: limit %d", len(b), maxCommand)
	}
	if err := json.Unmarshal(b, &cmd); err != nil {
		return Command{}, errors.New(`no command: want JSON such as {"play":"customer","who":"ann"}`)
	}
	if cmd.Play == "" {
		return Command{}, errors.New(`no command: "play" must be the name of a prompt`)
	}
	return cmd, nil
}
