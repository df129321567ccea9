// Package live measures what calls cost that come over the network: it starts
// callwarden as a process of its own, calls it from this one, and looks at both.
package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/caller"
)

// Config says what is measured.
type Config struct {
	Binary     string              // callwarden
	Way        string              // one of Ways
	Calls      []int               // at once, one step after the other
	Rate       float64             // calls begun a second
	Recordings []*caller.Recording // played in turn
	Codec      string
	Transport  string // of SIPREC

	Backend string // of callwarden
	DataDir string // of its models; empty for the default
	Listen  string
	// Turnover plays each recording once and places another call after it;
	// otherwise one call goes on over the whole step.
	Turnover bool

	Warm, Measure time.Duration
	Limit         time.Duration // of the lag's 95th percentile, to hold the calls
	Say           func(string)  // what is done now; may be nil
}

// Validate says which flag is wrong and what it must be.
func (c Config) Validate() error {
	if len(c.Calls) == 0 {
		return errors.New("--calls: name a number of calls, or several by comma")
	}
	for _, n := range c.Calls {
		if n < 1 || n > 10_000 {
			return fmt.Errorf("--calls: %d must be from 1 to 10000", n)
		}
	}
	switch {
	case !slices.Contains(Ways(), c.Way):
		return fmt.Errorf("--way: %q must be one of %s", c.Way, strings.Join(Ways(), ", "))
	case c.Rate <= 0:
		return fmt.Errorf("--rate: %v must be above 0", c.Rate)
	case c.Warm < 0:
		return fmt.Errorf("--warm: %v must not be below 0", c.Warm)
	case c.Measure < time.Second:
		return fmt.Errorf("--measure: %v must be at least 1s", c.Measure)
	case c.Limit <= 0:
		return fmt.Errorf("--limit: %v must be above 0", c.Limit)
	}
	return nil
}

// Results are what was measured.
type Results struct {
	Version string    `json:"version"`
	Began   time.Time `json:"began"`
	Cores   int       `json:"cores"`
	Way     string    `json:"way"`
	Codec   string    `json:"codec"`
	Backend string    `json:"backend"`
	Listen  string    `json:"listen"`
	Steps   []*Step   `json:"steps"`
}

// Step is one number of calls at once.
type Step struct {
	Calls   int           `json:"calls"`
	Held    bool          `json:"held"`
	Why     string        `json:"why,omitempty"` // they were not held
	Setup   *caller.Times `json:"setup_ms"`      // INVITE to 200, or the request for ports
	Refused int           `json:"refused"`
	// Answers are those of refused calls, and the errors of failed ones.
	Answers  map[string]int `json:"answers,omitempty"`
	SetupCPS float64        `json:"calls_begun_a_second"`

	// Of the measured time.
	MeasuredS    float64 `json:"measured_s"`
	PacketsASec  float64 `json:"packets_a_second"`
	LostKernel   uint64  `json:"packets_lost_before"` // for want of room in a socket, anywhere on the machine
	LostInside   uint64  `json:"packets_lost_inside"` // unplaced, or dropped with a full queue
	Missing      uint64  `json:"packets_missing"`     // that callwarden says never came
	CPU          float64 `json:"cpu"`                 // cores that callwarden used
	CPUPerLegMS  float64 `json:"cpu_ms_a_leg_second"`
	ClientCPU    float64 `json:"client_cpu"`
	ClientBehind float64 `json:"client_behind_ms"`
	LagP95MS     float64 `json:"lag_p95_ms"`
	Sheds        uint64  `json:"sheds"`
	DroppedS     float64 `json:"dropped_s"`

	MemoryBeforeMB  float64 `json:"memory_before_mb"`
	MemoryMB        float64 `json:"memory_mb"`
	MemoryPerCallKB float64 `json:"memory_per_call_kb"`
	MemoryAfterMB   float64 `json:"memory_after_mb"`
}

// Ways are how calls may come.
func Ways() []string {
	return []string{caller.SIPREC, caller.RTP, caller.WHIP, caller.Twilio, caller.Fork}
}

// Run measures all steps, each with a callwarden of its own. What ctx ends
// returns what it has and ctx.Err().
func Run(ctx context.Context, cfg Config) (*Results, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Say == nil {
		cfg.Say = func(string) {}
	}
	r := &Results{
		Began: time.Now().Truncate(time.Second), Cores: runtime.NumCPU(), Way: cfg.Way, Codec: cfg.Codec,
		Backend: cfg.Backend, Listen: cfg.Listen,
	}
	for _, n := range cfg.Calls {
		s, err := step(ctx, cfg, n)
		if s != nil {
			r.Steps = append(r.Steps, s)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// step measures n calls.
func step(ctx context.Context, cfg Config, n int) (s *Step, err error) {
	cfg.Say(fmt.Sprintf("%d calls: starting callwarden", n))
	w, err := start(ctx, cfg, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	s = &Step{Calls: n, MemoryBeforeMB: w.memoryMB()}

	begins := time.Duration(float64(n) / cfg.Rate * float64(time.Second))
	calls := caller.DefaultConfig()
	calls.Way, calls.To, calls.Calls, calls.Rate, calls.Codec, calls.Transport = cfg.Way, w.to, n, cfg.Rate, cfg.Codec, cfg.Transport
	calls.Loop, calls.Stagger = !cfg.Turnover, true
	if cfg.Turnover {
		calls.Again = time.Hour
	}
	calling, hangUp := context.WithCancel(ctx)
	defer hangUp()
	type end struct {
		r   *caller.Results
		err error
	}
	ended := make(chan end, 1)
	watch := &caller.Progress{}
	go func() {
		r, err := caller.Run(calling, calls, cfg.Recordings, watch)
		ended <- end{r, err}
	}()
	fail := func(err error) (*Step, error) {
		hangUp()
		e := <-ended
		return nil, errors.Join(err, e.err)
	}
	cfg.Say(fmt.Sprintf("%d calls: beginning them and warming up", n))
	if err := w.wait(ctx, begins+cfg.Warm, nil); err != nil {
		return fail(err)
	}
	cfg.Say(fmt.Sprintf("%d calls: measuring (%d up)", n, watch.Up.Load()))
	before, err := w.sample(ctx)
	if err != nil {
		return fail(err)
	}
	var lags []float64
	err = w.wait(ctx, cfg.Measure, func(m metrics) { lags = append(lags, m.sum("callwarden_lag_seconds", `quantile="0.95"`)) })
	if err != nil {
		return fail(err)
	}
	after, err := w.sample(ctx)
	if err != nil {
		return fail(err)
	}
	s.MemoryMB = w.memoryMB()
	up := watch.Up.Load()
	cfg.Say(fmt.Sprintf("%d calls: hanging up", n))
	hangUp()
	e := <-ended
	if e.err != nil {
		return nil, e.err
	}
	s.fill(before, after, e.r, lags)
	s.SetupCPS = cfg.Rate
	s.MemoryPerCallKB = round((s.MemoryMB-s.MemoryBeforeMB)*1024/float64(max(up, 1)), 0)
	_ = w.wait(ctx, 3*time.Second, nil) // the last events
	s.MemoryAfterMB = w.memoryMB()
	s.judge(cfg, int(up))
	return s, nil
}

// fill takes what was between two samples.
func (s *Step) fill(before, after sample, calls *caller.Results, lags []float64) {
	took := after.at.Sub(before.at).Seconds()
	delta := func(name string, having ...string) float64 {
		return after.sum(name, having...) - before.sum(name, having...)
	}
	packets := delta("callwarden_source_packets_total")
	s.MeasuredS = round(took, 1)
	s.PacketsASec = round(packets/took, 0)
	s.LostKernel = after.overflows - before.overflows
	s.LostInside = uint64(delta("callwarden_source_packets_dropped_total", `why="unplaced"`))
	s.Missing = uint64(delta("callwarden_source_packets_lost_total"))
	s.CPU = round((after.cpu-before.cpu).Seconds()/took, 3)
	s.ClientCPU = round((after.clientCPU-before.clientCPU).Seconds()/took, 3)
	if heard := packets * 0.02; heard > 0 {
		s.CPUPerLegMS = round(1000*(after.cpu-before.cpu).Seconds()/heard, 3)
	}
	mean := 0.0
	for _, l := range lags {
		mean += l / float64(len(lags))
	}
	s.LagP95MS = round(1000*mean, 1)
	s.Sheds = uint64(delta("callwarden_sheds_total"))
	s.DroppedS = round(delta("callwarden_audio_dropped_seconds_total"), 1)
	s.Setup, s.ClientBehind = calls.Setup, calls.Behind
	s.Answers = make(map[string]int)
	for _, answers := range []map[string]int{calls.Refused, calls.Failed} {
		for answer, n := range answers {
			s.Answers[answer] += n
			s.Refused += n
		}
	}
}

// judge says whether the calls were held, by the rule of bench.
func (s *Step) judge(cfg Config, up int) {
	switch {
	case s.Refused > 0:
		s.Why = fmt.Sprintf("%d calls were not taken: %v", s.Refused, s.Answers)
	case up < s.Calls && !cfg.Turnover:
		s.Why = fmt.Sprintf("%d calls were up", up)
	case s.DroppedS > 0:
		s.Why = fmt.Sprintf("%.1f s of audio were dropped", s.DroppedS)
	case s.LostInside > 0:
		s.Why = fmt.Sprintf("%d packets were lost inside", s.LostInside)
	case s.Sheds > 0:
		s.Why = fmt.Sprintf("%d calls were not transcribed that should be", s.Sheds)
	case s.LagP95MS > float64(cfg.Limit.Milliseconds()):
		s.Why = fmt.Sprintf("audio was heard %.0f ms late", s.LagP95MS)
	default:
		s.Held = true
	}
}

func round(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}

// warden is a callwarden that runs.
type warden struct {
	cmd  *exec.Cmd
	dir  string
	http string
	to   string // where calls go
	log  *os.File
	dead chan struct{} // closed when it has ended
	err  error         // why, once dead is closed
}

// start runs callwarden with room for n calls, on free ports.
func start(ctx context.Context, cfg Config, n int) (*warden, error) {
	dir, err := os.MkdirTemp("", "callwarden-live-")
	if err != nil {
		return nil, err
	}
	w := &warden{dir: dir, dead: make(chan struct{})}
	if err := w.run(ctx, cfg, n); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

func (w *warden) run(ctx context.Context, cfg Config, n int) error {
	httpPort, err := freePort()
	if err != nil {
		return err
	}
	sipPort, err := freePort()
	if err != nil {
		return err
	}
	w.http = fmt.Sprintf("http://127.0.0.1:%d", httpPort)
	w.to = w.http
	if cfg.Way == caller.SIPREC {
		w.to = fmt.Sprintf("127.0.0.1:%d", sipPort)
	}
	if cfg.Way == caller.Twilio || cfg.Way == caller.Fork {
		w.to = fmt.Sprintf("ws://127.0.0.1:%d/v1/%s/", httpPort, cfg.Way)
	}
	room := n + n/2 + 10 // calls overlap where one follows another
	media := map[string]any{"bind": "127.0.0.1", "ports": map[string]any{"min": 20000, "max": min(20000+4*room+1, 60001)}}
	sources := map[string]any{}
	switch cfg.Way {
	case caller.SIPREC:
		sources["siprec"] = map[string]any{
			"enabled": true, "calls": room, "media": media, "invites_per_second": 10_000, "requests_per_second": 100_000,
			"listen": []string{fmt.Sprintf("udp://127.0.0.1:%d", sipPort), fmt.Sprintf("tcp://127.0.0.1:%d", sipPort)},
		}
	case caller.RTP:
		sources["rtp"] = map[string]any{"enabled": true, "calls": room, "media": media}
	case caller.Twilio, caller.Fork:
		sources[cfg.Way] = map[string]any{"enabled": true, "connections": room}
	case caller.WHIP:
		sources["whip"] = map[string]any{"enabled": true, "publications": room, "udp": fmt.Sprintf("127.0.0.1:%d", sipPort)}
	}
	yml, err := json.Marshal(map[string]any{ // JSON is YAML
		"http":        map[string]any{"listen": strings.TrimPrefix(w.http, "http://")},
		"sources":     sources,
		"transcriber": map[string]any{"mode": "inprocess", "backend": cfg.Backend},
		"listen":      map[string]any{"mode": cfg.Listen},
		"sinks":       map[string]any{"nats": map[string]any{"embedded": map[string]any{"listen": "", "store_dir": filepath.Join(w.dir, "events")}}},
		"desk":        map[string]any{"enabled": false}, // nobody looks, and runs side by side share no folder
		"log":         map[string]any{"level": "error"},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(w.dir, "callwarden.yml")
	if err := os.WriteFile(file, yml, 0o600); err != nil {
		return err
	}
	if w.log, err = os.Create(filepath.Join(w.dir, "log")); err != nil {
		return err
	}
	args := []string{"serve", "-c", file}
	if cfg.DataDir != "" {
		args = append(args, "--data-dir", cfg.DataDir)
	}
	w.cmd = exec.Command(cfg.Binary, args...)
	w.cmd.Stdout, w.cmd.Stderr = w.log, w.log
	if err := w.cmd.Start(); err != nil {
		return err
	}
	go func() { // ends with the process, which stop ends
		w.err = w.cmd.Wait()
		close(w.dead)
	}()
	ready := func() bool { return w.get(ctx, "/readyz", nil) == nil }
	for !ready() {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), w.stop())
		case <-w.dead:
			return w.complain()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

func (w *warden) complain() error {
	said, _ := os.ReadFile(w.log.Name()) // empty says as much
	return fmt.Errorf("callwarden serve has ended: %w\n%s", w.err, said[max(0, len(said)-2000):])
}

// stop ends it and forgets what it has written.
func (w *warden) stop() error {
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.dead:
	case <-time.After(70 * time.Second):
		_ = w.cmd.Process.Kill()
		<-w.dead
	}
	_ = w.log.Close()
	return os.RemoveAll(w.dir)
}

// wait waits for d and has tick look at the metrics every second, unless it is
// nil.
func (w *warden) wait(ctx context.Context, d time.Duration, tick func(metrics)) error {
	over := time.NewTimer(d)
	defer over.Stop()
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.dead:
			return w.complain()
		case <-over.C:
			return nil
		case <-every.C:
			if tick == nil {
				continue
			}
			m, err := w.metrics(ctx)
			if err != nil {
				return err
			}
			tick(m)
		}
	}
}

// freePort is one that was free a moment ago, for TCP and UDP.
func freePort() (int, error) {
	var last error
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		at := l.Addr().String()
		_ = l.Close()
		c, err := net.ListenPacket("udp", at)
		if err == nil {
			_ = c.Close()
			return l.Addr().(*net.TCPAddr).Port, nil
		}
		last = err
	}
	return 0, last
}
