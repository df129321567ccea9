package natssink

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/callwarden/callwarden/pipeline/sink"
)

// obeying takes commands for the calls of tenant "bank" until the test ends.
func obeying(t *testing.T, url string) <-chan string {
	t.Helper()
	done := make(chan string, 16) // what was done
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- TakeCommands(ctx, Connection{URL: url, Name: "obeys"}, quiet(), func(_ context.Context, tenant, call string, cmd Command) error {
			switch {
			case tenant != "bank":
				return ErrNotMine
			case cmd.Play == "nothing":
				return errors.New("no such prompt")
			}
			done <- strings.Join([]string{tenant, call, cmd.Play, cmd.Who}, " ")
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("TakeCommands: %v", err)
		}
	})
	return done
}

// answered asks until somebody takes commands at all.
func answered(t *testing.T, url string, cmd Command) error {
	t.Helper()
	for ctx := within(t, patience); ; {
		err := Send(ctx, Connection{URL: url}, "bank", "c1", cmd)
		if !errors.Is(err, ErrNoAnswer) {
			return err
		}
	}
}

func TestCommandReachesTheProcessThatHasTheCall(t *testing.T) {
	srv := listening(t)
	done := obeying(t, srv.URL())
	if err := answered(t, srv.URL(), Command{Play: "customer", Who: "ann"}); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != "bank c1 customer ann" {
		t.Errorf("done: %s", got)
	}
	var refusal Refusal
	if err := answered(t, srv.URL(), Command{Play: "nothing"}); !errors.As(err, &refusal) || refusal != "no such prompt" {
		t.Errorf("a prompt that is not there: %v", err)
	}
	if err := Send(t.Context(), Connection{URL: srv.URL()}, "other", "c1", Command{Play: "customer"}); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a call of nobody: %v", err)
	}
	if err := Send(t.Context(), Connection{URL: srv.URL()}, "bank", "c.1", Command{Play: "customer"}); !errors.Is(err, ErrName) {
		t.Errorf("a call that is no name: %v", err)
	}
}

func TestCommandWithoutAnybodyToObeyIsNotAnswered(t *testing.T) {
	srv := listening(t)
	began := time.Now()
	if err := Send(t.Context(), Connection{URL: srv.URL()}, "bank", "c1", Command{Play: "customer"}); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("nobody there: %v", err)
	}
	if took := time.Since(began); took > commandWait {
		t.Errorf("told after %v", took)
	}
}

var commands = []struct{ name, data, refusal string }{
	{"whole", `{"play":"customer","who":"ann"}`, ""},
	{"newer", `{"play":"agent","loud":true}`, ""},
	{"empty", ``, "no command"},
	{"no JSON", `play customer`, "no command"},
	{"nothing to play", `{"who":"ann"}`, `"play" must be the name`},
	{"number", `{"play":7}`, "no command"},
	{"too long", `{"play":"` + strings.Repeat("x", maxCommand) + `"}`, "limit 4096"},
}

func TestCommandThatIsNoneIsRefusedInWords(t *testing.T) {
	srv := listening(t)
	done := obeying(t, srv.URL())
	if err := answered(t, srv.URL(), Command{Play: "first"}); err != nil {
		t.Fatal(err)
	}
	<-done
	nc := dial(t, srv.URL())
	for _, c := range commands {
		msg, err := nc.RequestWithContext(within(t, patience), commandRoot+"bank.c1", []byte(c.data))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := string(msg.Data); (c.refusal == "") != strings.Contains(got, `"ok":true`) {
			t.Errorf("%s: %s", c.name, got)
		}
		if _, err := parseCommand([]byte(c.data)); c.refusal != "" && (err == nil || !strings.Contains(err.Error(), c.refusal)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refusal)
		}
	}
}

// FuzzParseCommand: what is taken for a command names a prompt and fits the
// limit.
func FuzzParseCommand(f *testing.F) {
	for _, c := range commands {
		f.Add([]byte(c.data))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cmd, err := parseCommand(b)
		if (err == nil) != (cmd.Play != "") || err == nil && len(b) > maxCommand {
			t.Errorf("%q: %+v, %v", b, cmd, err)
		}
	})
}

func TestWatchDoesNotTakeCommandsForEvents(t *testing.T) {
	srv := listening(t)
	got, stats := watch(t, watching(srv.URL()), 1)
	subscribed(t, srv, 1)
	nc := dial(t, srv.URL())
	if err := nc.PublishMsg(&nats.Msg{Subject: commandRoot + "bank.c1", Data: []byte(`{"play":"customer"}`)}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	s := open(t, configFor(srv.URL()))
	publish(t, s, []sink.Event{finding("c1", 1)}...)
	if all := <-got; len(all) != 1 {
		t.Errorf("%d events", len(all))
	}
	if st := stats(); st.Foreign != 0 {
		t.Errorf("%+v", st)
	}
}
