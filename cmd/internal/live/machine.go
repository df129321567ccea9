package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// metrics is the text that Prometheus reads.
type metrics string

// sum adds up the values of a metric whose labels contain all of having.
func (m metrics) sum(name string, having ...string) float64 {
	sum := 0.0
lines:
	for line := range strings.Lines(string(m)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || key != name && !strings.HasPrefix(key, name+"{") {
			continue
		}
		for _, h := range having {
			if !strings.Contains(key, h) {
				continue lines
			}
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			sum += v
		}
	}
	return sum
}

// sample is what was counted until one moment.
type sample struct {
	metrics
	at             time.Time
	cpu, clientCPU time.Duration
	overflows      uint64 // packets lost in sockets' buffers
}

func (w *warden) sample(ctx context.Context) (s sample, err error) {
	if s.metrics, err = w.metrics(ctx); err != nil {
		return s, err
	}
	s.at = time.Now()
	if s.cpu, err = cpuOf(strconv.Itoa(w.cmd.Process.Pid)); err != nil {
		return s, err
	}
	if s.clientCPU, err = cpuOf("self"); err != nil {
		return s, err
	}
	s.overflows, err = overflows()
	return s, err
}

func (w *warden) metrics(ctx context.Context) (metrics, error) {
	var text []byte
	err := w.get(ctx, "/metrics", &text)
	return metrics(text), err
}

func (w *warden) get(ctx context.Context, path string, body *[]byte) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.http+path, nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s%s: %s", w.http, path, r.Status)
	}
	if body == nil {
		return nil
	}
	*body, err = io.ReadAll(r.Body)
	return err
}

// memoryMB is what the process holds.
func (w *warden) memoryMB() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(status, []byte("VmRSS:"))
	if !ok {
		return 0
	}
	kb, err := strconv.ParseFloat(string(bytes.Fields(rest)[0]), 64)
	if err != nil {
		return 0
	}
	return round(kb/1024, 1)
}

// cpuOf is the processor time of a process, by all its threads: proc(5),
// fields 14 and 15 of stat in clock ticks.
func cpuOf(pid string) (time.Duration, error) {
	const tick = time.Second / 100 // USER_HZ is 100 on all that Go runs on
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(stat, []byte(") ")) // the name may have spaces
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%s/stat cannot be read", pid)
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err, err2)
}

// overflows is how many datagrams the machine has lost for want of room in a
// socket: RcvbufErrors of /proc/net/snmp.
func overflows() (uint64, error) {
	data, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "RcvbufErrors" && i < len(fields) {
				return strconv.ParseUint(fields[i], 10, 64)
			}
		}
	}
	return 0, errors.New("/proc/net/snmp has no RcvbufErrors of UDP")
}
