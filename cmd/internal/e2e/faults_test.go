//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/caller"
)

// place runs "callwarden call siprec" with one of our calls.
func place(t *testing.T, flags ...string) caller.Results {
	t.Helper()
	file, _ := call(t, "fraud-code")
	args := append([]string{"call", "siprec", file, "--to", address + ":5062", "--json"}, flags...)
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	var r caller.Results
	if json.Unmarshal(out.Bytes(), &r) != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, &out, &complaints)
	}
	return r
}

// faultyNetwork takes four calls of two legs, which end after 2 s of silence.
func faultyNetwork(t *testing.T) *warden {
	return startWarden(t, 8081, 4223, fmt.Sprintf(`
sources:
  siprec:
    enabled: true
    listen: ["udp://%s:5062", "tcp://%s:5062"]
    media: {bind: %s, timeout: 2s, ports: {min: 40000, max: 40015}}
transcriber: {backend: none}
listen: {mode: full}
`, address, address, address))
}

func TestCallsGoOnWhateverTheNetworkDoes(t *testing.T) {
	t.Parallel()
	w := faultyNetwork(t)

	t.Run("packets lost and out of order", func(t *testing.T) {
		lost := w.metric("callwarden_source_packets_lost_total")
		got := place(t, "--calls", "2", "--duration", "4s", "--loss", "5%", "--reorder", "10")
		if !got.Good() || got.Spoilt == 0 {
			t.Fatalf("calls: %+v", got)
		}
		for range 2 {
			id, events := w.nextEnd(20 * time.Second)
			if last := ending(t, events); last.Data.Reason != "end of audio" {
				t.Errorf("call %s ended with %q", id, last.Data.Reason)
			}
		}
		// What is out of order within the window is not lost.
		told := w.metric("callwarden_source_packets_lost_total") - lost
		if told < 0.5*float64(got.Spoilt) || told > 1.2*float64(got.Spoilt) {
			t.Errorf("%v packets are said to be lost of %d", told, got.Spoilt)
		}
	})

	t.Run("BYE never comes", func(t *testing.T) {
		if got := place(t, "--duration", "1s", "--drop-bye"); got.Answered != 1 {
			t.Fatalf("calls: %+v", got)
		}
		id, events := w.nextEnd(20 * time.Second)
		if last := ending(t, events); last.Data.Reason != "no media for 2s" {
			t.Errorf("call %s ended with %q", id, last.Data.Reason)
		}
	})

	t.Run("one leg silent from the start", func(t *testing.T) {
		if got := place(t, "--duration", "7s", "--silent", "callee"); !got.Good() {
			t.Fatalf("calls: %+v", got)
		}
		_, events := w.nextEnd(20 * time.Second)
		told := ""
		for _, e := range events {
			told += e.Data.Hearing + " " + e.Data.Reason + "; "
			for _, l := range e.Data.Legs {
				told += fmt.Sprint(l) + "; "
			}
		}
		if !strings.Contains(told, "HEARING_DEGRADED") || !strings.Contains(told, "callee") {
			t.Errorf("nobody said that the callee is not heard: %s", told)
		}
	})

	t.Run("ports are exhausted", func(t *testing.T) {
		got := place(t, "--calls", "7", "--rate", "100", "--duration", "2s")
		refused := 0
		for answer, n := range got.Refused {
			refused += n
			if !strings.HasPrefix(answer, "503") {
				t.Errorf("refused with %q", answer)
			}
		}
		if got.Answered != 4 || refused != 3 {
			t.Errorf("calls: %+v", got)
		}
		for range 4 {
			w.nextEnd(20 * time.Second)
		}
	})

	t.Run("RTP from a stranger", func(t *testing.T) {
		stranger, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		before := w.metric("callwarden_source_packets_dropped_total", "stranger")
		over := make(chan struct{})
		go func() {
			defer close(over)
			if got := place(t, "--duration", "3s"); !got.Good() {
				t.Errorf("calls: %+v", got)
			}
		}()
		packet := append([]byte{0x80, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 160)...)
		sent := 0
		for going := true; going; {
			for port := 40000; port <= 40014; port += 2 {
				if _, err := stranger.WriteToUDP(packet, &net.UDPAddr{IP: net.ParseIP(address), Port: port}); err == nil {
					sent++
				}
			}
			select {
			case <-over:
				going = false
			case <-time.After(20 * time.Millisecond):
			}
		}
		id, events := w.nextEnd(20 * time.Second)
		if last := ending(t, events); last.Data.Reason != "end of audio" {
			t.Errorf("call %s ended with %q", id, last.Data.Reason)
		}
		if n := w.metric("callwarden_source_packets_dropped_total", "stranger") - before; n == 0 {
			t.Errorf("none of %d packets was counted as a stranger's", sent)
		}
	})

	t.Run("a flood of INVITEs", func(t *testing.T) {
		before := w.resident()
		got := place(t, "--calls", "3000", "--rate", "3000", "--duration", "200ms")
		if got.Placed != 3000 || got.Answered == 0 || got.Answered == got.Placed {
			t.Errorf("calls: %+v", got)
		}
		t.Logf("%d answered, refused %v, failed %v; %d MB before, %d MB after", got.Answered, got.Refused, got.Failed, before, w.resident())
		if after := w.resident(); after > before+200 {
			t.Errorf("%d MB before the flood, %d MB after", before, after)
		}
		w.await("a call that is taken again", 40*time.Second, func() bool {
			got := place(t, "--duration", "100ms")
			return got.Answered == 1
		})
	})
}

// resident is the memory of callwarden in MB.
func (w *warden) resident() int {
	w.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return n / 1024
}
