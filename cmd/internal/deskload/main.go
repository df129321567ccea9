// Command deskload measures a desk: it serves NATS, has so many calls going on
// and so many events a second, and says how long an event takes from there to
// the bytes that a browser gets, and what that costs the desk.
//
//	go build -o bin/callwarden ./cmd/callwarden
//	go run ./cmd/internal/deskload --binary bin/callwarden --calls 300 --rate 50
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/natssink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

type options struct {
	binary         string
	calls, viewers int
	rate           float64
	length         time.Duration
	levels         bool
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/callwarden", "the program whose desk is measured")
	flag.IntVar(&o.calls, "calls", 300, "calls that go on")
	flag.IntVar(&o.viewers, "viewers", 1, "overviews that are looked at; the first is measured")
	flag.Float64Var(&o.rate, "rate", 50, "events a second, of all calls together")
	flag.DurationVar(&o.length, "for", 30*time.Second, "how long")
	flag.BoolVar(&o.levels, "levels", false, "also how loud the legs of each call are, every second")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "deskload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	log := slog.New(slog.DiscardHandler)
	cfg := natssink.DefaultServerConfig()
	cfg.Listen = "127.0.0.1:0"
	srv, err := natssink.StartServer(cfg, log)
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	out := natssink.DefaultConfig()
	out.URL, out.Levels, out.Transcripts = srv.URL(), true, true
	pub, err := natssink.New(out, log)
	if err != nil {
		return err
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, pub.Close(last))
	}()
	if err := pub.Ready(ctx); err != nil {
		return err
	}
	d, err := startDesk(ctx, o.binary, srv.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()

	l := &load{o: o, pub: pub, sent: make(map[string]time.Time), began: time.Now()}
	for i := range o.calls {
		if err := l.publish(ctx, i, sink.CallStarted, 0, l.started(i)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	ready := make(chan error, o.viewers)
	for i := range o.viewers {
		watching.Go(func() { l.watch(ctx, d.url, i == 0, ready) })
	}
	for range o.viewers {
		if err := <-ready; err != nil {
			return err
		}
	}
	before, err := d.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := l.flow(ctx); err != nil {
		return err
	}
	after, err := d.cpu()
	if err != nil {
		return err
	}
	took := time.Since(began)
	rss, err := d.memory()
	if err != nil {
		return err
	}
	l.report(after-before, took, rss)
	return nil
}

// desk is the process that is measured.
type desk struct {
	cmd *exec.Cmd
	url string
	dir string
}

var at = regexp.MustCompile(`the desk is at (http://\S+)/`)

func startDesk(ctx context.Context, binary, nats string) (*desk, error) {
	dir, err := os.MkdirTemp("", "deskload-")
	if err != nil {
		return nil, err
	}
	d := &desk{dir: dir, cmd: exec.CommandContext(ctx, binary, "desk", "--nats", nats, "--listen", "127.0.0.1:0", "--dir", dir)}
	lines, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	scan := bufio.NewScanner(lines)
	for scan.Scan() {
		if m := at.FindStringSubmatch(scan.Text()); m != nil {
			d.url = m[1]
			return d, nil
		}
	}
	return nil, errors.Join(errors.New("the desk does not say where it is"), d.cmd.Wait())
}

func (d *desk) stop() error {
	err := errors.Join(d.cmd.Process.Signal(syscall.SIGTERM), d.cmd.Wait())
	return errors.Join(err, os.RemoveAll(d.dir))
}

// cpu is the processor time of the desk so far (proc(5): ticks of 10 ms).
func (d *desk) cpu() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

func (d *desk) memory() (bytes int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(data))
	pages, err := strconv.Atoi(f[1])
	return pages * os.Getpagesize(), err
}

// load is what is published, and what came of it.
type load struct {
	o     options
	pub   *natssink.Sink
	began time.Time

	mu    sync.Mutex
	n     int
	sent  map[string]time.Time // by the finding's tactic, which is another each time
	took  []time.Duration
	bytes int
}

func (l *load) about(i int) *callwardenv1.CallContext {
	return &callwardenv1.CallContext{Tenant: "default", Call: fmt.Sprintf("call-%d", i), Source: "rtp"}
}

func (l *load) started(i int) proto.Message {
	return &callwardenv1.CallStarted{
		Context: l.about(i), Began: timestamppb.New(l.began),
		Attributes: map[string]string{"from": "+## ## #### ####", "to": "+## ### #######", "from_name": "Security Department", "codec": "PCMA"},
		Legs:       []callwardenv1.Leg{callwardenv1.Leg_LEG_CALLER, callwardenv1.Leg_LEG_CALLEE},
	}
}

func (l *load) publish(ctx context.Context, i int, typ sink.Type, at time.Duration, data proto.Message) error {
	l.n++
	call := fmt.Sprintf("call-%d", i)
	return l.pub.Publish(ctx, sink.Event{
		ID: sink.EventID("default", call, typ, l.n), Type: typ, Tenant: "default", Call: call, Source: "callwarden/rtp",
		At: at, Time: l.began.Add(at), Data: data,
	})
}

// flow publishes for as long as is asked for: findings of all calls in turn, so
// that each row has some, and where that is wanted the levels.
func (l *load) flow(ctx context.Context) error {
	tick := time.NewTicker(time.Duration(float64(time.Second) / l.o.rate))
	defer tick.Stop()
	loud := time.NewTicker(time.Second)
	defer loud.Stop()
	end := time.NewTimer(l.o.length)
	defer end.Stop()
	below := []byte{20, 25, 30, 28, 33, 40, 45, 60, 62, 58}
	for n := 0; ; {
		at := time.Since(l.began)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-loud.C:
			for i := range l.o.calls {
				if !l.o.levels {
					break
				}
				if err := l.publish(ctx, i, sink.CallLevels, at, &callwardenv1.CallLevels{
					Context: l.about(i), Start: durationpb.New(at.Truncate(100 * time.Millisecond)), Step: durationpb.New(100 * time.Millisecond),
					Legs: []*callwardenv1.LegLevels{{Leg: callwardenv1.Leg_LEG_CALLER, Below: below}, {Leg: callwardenv1.Leg_LEG_CALLEE, Below: below}},
				}); err != nil {
					return err
				}
			}
		case <-tick.C:
			i := n % l.o.calls
			// The mark is the finding's tactic, which shows in the row. A call
			// has ten findings, each reported again and again.
			mark := fmt.Sprintf("mark%dx", n)
			l.mu.Lock()
			l.sent[mark] = time.Now()
			l.mu.Unlock()
			err := l.publish(ctx, i, sink.RiskFinding, at, &callwardenv1.RiskFinding{
				Context: l.about(i), At: durationpb.New(at), Score: float64(n % 14), Level: callwardenv1.Level(1 + n%4),
				Finding: &callwardenv1.Finding{
					Id: fmt.Sprint("f", n/l.o.calls%10), Tactic: mark, Words: "please read me the code that we sent you", Points: 3,
					State: callwardenv1.FindingState_FINDING_STATE_CONFIRMED, Leg: callwardenv1.Leg_LEG_CALLER,
				},
			})
			if err != nil {
				return err
			}
			n++
		}
	}
}

var marks = regexp.MustCompile(`mark[0-9]+x`)

// watch reads an overview as a browser does.
func (l *load) watch(ctx context.Context, url string, measured bool, ready chan<- error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/live", nil)
	if err != nil {
		ready <- err
		return
	}
	res, err := (&http.Transport{DialContext: (&net.Dialer{}).DialContext}).RoundTrip(r)
	if err != nil {
		ready <- err
		return
	}
	defer res.Body.Close()
	lines := bufio.NewReaderSize(res.Body, 1<<20)
	told := false
	for {
		line, err := lines.ReadSlice('\n')
		now := time.Now()
		if err != nil {
			if !told {
				ready <- err
			}
			return
		}
		if !told {
			// All calls have to be there before anything is measured.
			if bytes.Contains(line, []byte(fmt.Sprintf(`"call-%d"`, l.o.calls-1))) {
				told = true
				ready <- nil
			}
			continue
		}
		if !measured {
			continue
		}
		l.mu.Lock()
		l.bytes += len(line)
		for _, m := range marks.FindAll(line, -1) {
			if sent, ok := l.sent[string(m)]; ok {
				l.took = append(l.took, now.Sub(sent))
				delete(l.sent, string(m))
			}
		}
		l.mu.Unlock()
	}
}

func (l *load) report(cpu, took time.Duration, rss int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.took)
	q := func(p float64) time.Duration {
		if len(l.took) == 0 {
			return 0
		}
		return l.took[int(p*float64(len(l.took)-1))].Round(10 * time.Microsecond)
	}
	fmt.Printf("%d calls, %.0f events a second for %v, %d viewers, levels %v\n", l.o.calls, l.o.rate, took.Round(time.Second), l.o.viewers, l.o.levels)
	fmt.Printf("from NATS to the browser's bytes: p50 %v, p95 %v, p99 %v, max %v, of %d events (%d not seen)\n", q(.5), q(.95), q(.99), q(1), len(l.took), len(l.sent))
	fmt.Printf("the desk: %.2f %% of a core, %.1f MB, %.1f kB a second to each viewer\n",
		100*cpu.Seconds()/took.Seconds(), float64(rss)/1e6, float64(l.bytes)/took.Seconds()/1e3)
}
