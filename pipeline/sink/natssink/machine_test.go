package natssink

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// follower runs Follow and tells what it saw.
type follower struct {
	deliveries chan Delivery
	states     chan error
	ended      chan error
}

func follow(t testing.TB, cfg WatchConfig) *follower {
	t.Helper()
	f := &follower{make(chan Delivery, 1000), make(chan error, 1000), make(chan error, 1)}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := Follow(ctx, cfg, quiet(), func(err error) { f.states <- err }, func(d Delivery) error { f.deliveries <- d; return nil })
		f.ended <- err
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return f
}

func next[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-within(t, patience).Done():
		t.Fatal("nothing came")
	}
	panic("unreachable")
}

func TestFollowTellsWhenEventsWereStoredAndHowManyAreToCome(t *testing.T) {
	srv := listening(t)
	s := open(t, configFor(srv.URL()))
	publish(t, s, finding("c1", 1), finding("c1", 2))
	closeAll(t, s)
	cfg := watching(srv.URL())
	cfg.All = true
	f := follow(t, cfg)
	if err := next(t, f.states); err != nil {
		t.Fatalf("state is %v", err)
	}
	for behind := uint64(1); ; behind-- {
		d := next(t, f.deliveries)
		if d.Behind != behind || time.Since(d.Stored) > patience {
			t.Errorf("behind %d, stored %v; want %d to come", d.Behind, d.Stored, behind)
		}
		if behind == 0 {
			break
		}
	}
}

func TestFollowSaysThatTheStreamIsAnotherOne(t *testing.T) {
	first := startServer(t, ServerConfig{Listen: "127.0.0.1:0", MaxStore: 1 << 30})
	s := open(t, configFor(first.URL()))
	publish(t, s, finding("c1", 1), finding("c1", 2))
	closeAll(t, s)
	cfg := watching(first.URL())
	cfg.All = true
	f := follow(t, cfg)
	next(t, f.deliveries)
	next(t, f.deliveries)
	address := first.nats.Addr().(*net.TCPAddr).String()
	first.Shutdown() // its folder goes with it
	second := startServer(t, ServerConfig{Listen: address, MaxStore: 1 << 30})
	s = open(t, configFor(second.URL()))
	publish(t, s, finding("c2", 1))
	closeAll(t, s)
	if err := next(t, f.ended); !errors.Is(err, errAnew) && err == nil {
		t.Errorf("Follow ended with %v", err)
	}
	var lost bool
	for len(f.states) > 0 {
		lost = <-f.states != nil || lost
	}
	if !lost {
		t.Error("state did not tell that the connection was lost")
	}
}

func TestMachinesAreHeardByWhoFollows(t *testing.T) {
	srv := listening(t)
	cfg := watching(srv.URL())
	cfg.Machines = true
	f := follow(t, cfg)
	if err := next(t, f.states); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := Announce(ctx, Connection{Server: srv}, 5*time.Millisecond, func() Machine { return Machine{Name: "rack 3.east", Calls: 7} }, quiet())
		if err != nil {
			t.Errorf("Announce ended with %v", err)
		}
	})
	for range 2 {
		if m := next(t, f.deliveries).Machine; m == nil || m.Name != "rack-3-east" || m.Calls != 7 {
			t.Errorf("machine is %+v", m)
		}
	}
	cancel()
	wg.Wait()
}

func TestMachineThatIsNoneIsPassedOver(t *testing.T) {
	for _, data := range []string{"", "{", `{"calls":1}`, `{"name":"m","calls":"many"}`, `[]`} {
		if m, err := decodeMachine([]byte(data)); err == nil {
			t.Errorf("%q is machine %+v", data, m)
		}
	}
}

func TestPurgeTakesOneCallFromTheStream(t *testing.T) {
	srv := listening(t)
	s := open(t, configFor(srv.URL()))
	publish(t, s, finding("c1", 1), finding("c1", 2), finding("c2", 1))
	closeAll(t, s)
	n, err := Purge(within(t, patience), Connection{Server: srv}, configFor("").Stream, "bank", "c1")
	if n != 2 || err != nil {
		t.Fatalf("purged %d, %v; want 2", n, err)
	}
	for call, want := range map[string]int{"c1": 0, "c2": 1, "none": 0} {
		if n, err := Purge(within(t, patience), Connection{Server: srv}, configFor("").Stream, "bank", call); n != want || err != nil {
			t.Errorf("%s had %d events left, %v; want %d", call, n, err, want)
		}
	}
	if _, err := Purge(within(t, patience), Connection{Server: srv}, configFor("").Stream, "*", ">"); !errors.Is(err, ErrName) {
		t.Errorf("a wildcard was purged: %v", err)
	}
}
