package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink/natssink"
)

// machine returns what tells how this machine is each time that it is asked.
func (s *server) machine() func() natssink.Machine {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "machine"
	}
	name := fmt.Sprintf("%s-%d", host, os.Getpid())
	load := newBusyness()
	return func() natssink.Machine {
		st, _ := s.listenStats()
		m := natssink.Machine{
			Name: name, Version: version(),
			Calls: st.Calls, Legs: st.Legs, Transcribing: st.Transcribing, Shed: st.Shed, Full: st.Full, Drains: s.health.draining(),
			LagP50: st.LagP50.Seconds(), LagP95: st.LagP95.Seconds(), LagMax: st.LagMax.Seconds(),
			Cores:       runtime.NumCPU(),
			Transcripts: s.cfg.Sinks.NATS.Config.Transcripts,
			Levels:      s.cfg.Sinks.NATS.Config.Levels,
			Masked:      !s.cfg.Calls.Unmasked,
		}
		m.Load, m.CPU, m.Memory = load.look()
		return m
	}
}

// busyness is how busy the machine and this process are, as Linux tells below
// /proc; elsewhere nothing is known.
type busyness struct {
	proc       string
	at         time.Time
	busy, all  uint64 // ticks of the machine
	own        uint64 // ticks of this process and its children
	hz         float64
	pageMemory int64
}

func newBusyness() *busyness {
	l := &busyness{proc: "/proc", hz: 100, pageMemory: int64(os.Getpagesize())} // ticks are of 10 ms wherever Go runs on Linux
	l.look()
	return l
}

// look is the part of the machine that was busy since the last look, how many
// cores this process and its children used, and the bytes that they hold.
func (l *busyness) look() (machine, cores float64, memory int64) {
	now := time.Now()
	busy, all := l.machine()
	own, memory := l.tree(os.Getpid(), 0)
	if all > l.all && busy >= l.busy {
		machine = float64(busy-l.busy) / float64(all-l.all)
	}
	if d := now.Sub(l.at).Seconds(); !l.at.IsZero() && d > 0 && own >= l.own {
		cores = float64(own-l.own) / l.hz / d
	}
	l.at, l.busy, l.all, l.own = now, busy, all, own
	return round3(machine), round3(cores), memory
}

// machine is the first line of /proc/stat: user, nice, system, idle, iowait,
// irq, softirq, steal (proc(5)).
func (l *busyness) machine() (busy, all uint64) {
	data, err := os.ReadFile(filepath.Join(l.proc, "stat"))
	if err != nil {
		return 0, 0
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	fields := strings.Fields(string(line))
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil || i > 8 { // guests are counted as users already
			continue
		}
		all += n
		if i != 4 && i != 5 {
			busy += n
		}
	}
	return busy, all
}

// treeDepth is how deep the children of children are looked for.
const treeDepth = 3

// tree is the processor time and memory of a process and its children.
func (l *busyness) tree(pid, depth int) (ticks uint64, memory int64) {
	dir := filepath.Join(l.proc, strconv.Itoa(pid))
	if data, err := os.ReadFile(filepath.Join(dir, "stat")); err == nil {
		// The second field is the command in brackets, and may hold anything.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		for _, i := range []int{11, 12} { // utime and stime, counted from the state
			if i < len(fields) {
				n, _ := strconv.ParseUint(fields[i], 10, 64)
				ticks += n
			}
		}
		if len(fields) > 21 {
			pages, _ := strconv.ParseInt(fields[21], 10, 64)
			memory += pages * l.pageMemory
		}
	}
	if depth >= treeDepth {
		return ticks, memory
	}
	threads, _ := filepath.Glob(filepath.Join(dir, "task", "*", "children"))
	for _, file := range threads {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(f); err == nil {
				t, m := l.tree(child, depth+1)
				ticks, memory = ticks+t, memory+m
			}
		}
	}
	return ticks, memory
}
