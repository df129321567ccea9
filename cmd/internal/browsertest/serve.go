package browsertest

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Build builds callwarden into a folder that goes with the test. Where
// CALLWARDEN_BINARY names one that is built, as make e2e does, it is that.
func Build(t testing.TB) (binary string) {
	t.Helper()
	if built := os.Getenv("CALLWARDEN_BINARY"); built != "" {
		return built
	}
	binary = filepath.Join(t.TempDir(), "callwarden")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/callwarden/callwarden/cmd/callwarden")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building callwarden: %v\n%s", err, out)
	}
	return binary
}

// Served is a running "callwarden serve".
type Served struct {
	URL  string // of its pages, without a slash at the end
	NATS string // of its embedded server
	Dir  string // its folder, $DIR in the configuration
	PID  int

	t    testing.TB
	cmd  *exec.Cmd
	log  output
	dead chan struct{} // closed when the process has ended
}

// answers is the line that tells where the HTTP server is.
var answers = regexp.MustCompile(`msg="http server answers" address=(\S+)`)

// Serve serves with the YAML of config, whatever http.listen says, on a free
// port of the loopback interface. In config $DIR is an empty folder, and $NATS
// the free address that the embedded server has unless config says otherwise.
// It takes calls when Serve returns, and ends with the test.
func Serve(t testing.TB, binary, config string) *Served {
	t.Helper()
	s := &Served{t: t, Dir: t.TempDir(), dead: make(chan struct{})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	_ = l.Close()
	s.NATS = "nats://" + free
	if !strings.Contains(config, "sinks:") {
		config += "\nsinks: {nats: {embedded: {store_dir: \"$DIR/events\", listen: \"$NATS\"}}}\n"
	}
	if !strings.Contains(config, "desk:") {
		config += "\ndesk: {dir: \"$DIR/desk\"}\n"
	}
	file := filepath.Join(s.Dir, "callwarden.yml")
	config = strings.NewReplacer("$DIR", s.Dir, "$NATS", free).Replace(config)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(binary, "serve", "-c", file, "--http", "127.0.0.1:0")
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.PID = s.cmd.Process.Pid
	go func() { _ = s.cmd.Wait(); close(s.dead) }()
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("callwarden said:\n%s", s.Log())
		}
	})
	s.await("an address", func() bool {
		m := answers.FindStringSubmatch(s.log.String())
		if m != nil {
			s.URL = "http://" + m[1]
		}
		return m != nil
	})
	s.await("readiness", func() bool {
		r, err := http.Get(s.URL + "/readyz")
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return s
}

func (s *Served) await(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); <-time.After(50 * time.Millisecond) {
		select {
		case <-s.dead:
			s.t.Fatalf("waiting for %s: callwarden has ended:\n%s", what, s.Log())
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain for %s:\n%s", what, s.Log())
		}
	}
}

// Log is what callwarden has said so far.
func (s *Served) Log() string { return s.log.String() }

// Stop ends it in order, as SIGTERM does, and waits until it is gone. It may be
// called again.
func (s *Served) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.dead:
	case <-time.After(time.Minute):
		s.t.Error("serve did not end within a minute of SIGTERM")
		s.Kill()
	}
}

// Kill ends it at once, as a machine that loses power does.
func (s *Served) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.dead
}

// output is what a process says, read while it says more.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
