//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/callwarden/callwarden/cmd/internal/caller"
)

// sipp plays the capture of a call through our scenario against the SIPREC
// server at to.
func sipp(t *testing.T, rec *caller.Recording, to string) {
	t.Helper()
	scenario, err := os.ReadFile("testdata/siprec.xml")
	if err != nil {
		t.Fatal(err)
	}
	// sipp sends a capture from the port of the last m=audio line in which it
	// has put a port itself, so the second port is put in here.
	const port = 16000
	text := strings.NewReplacer(
		"SECOND_PORT", strconv.Itoa(port+2),
		"PCAP_FILE", capture(t, rec),
		"PCAP_MS", strconv.FormatInt(rec.Length().Milliseconds()+200, 10),
	).Replace(string(scenario))
	dir := t.TempDir()
	file := filepath.Join(dir, "siprec.xml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), rec.Length()+30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sipp", to, "-sf", file, "-m", "1", "-i", address, "-p", "5070",
		"-mi", address, "-mp", strconv.Itoa(port),
		"-trace_err", "-nostdin", "-timeout_error")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		errors, _ := filepath.Glob(filepath.Join(dir, "*errors.log"))
		said := ""
		for _, f := range errors {
			b, _ := os.ReadFile(f)
			said += string(b)
		}
		t.Fatalf("sipp: %v\n%s\n%s", err, said, tail(out))
	}
}

func tail(b []byte) []byte { return b[max(0, len(b)-3000):] }

// baresip calls to as a telephone whose microphone hears the WAV file, and
// hangs up after length.
func baresip(t *testing.T, wav, to string, length time.Duration) {
	t.Helper()
	dir := t.TempDir()
	modules := modulePath(t)
	for name, text := range map[string]string{
		"config": fmt.Sprintf(`
sip_listen		%s:0
net_interface		phone0
module_path		%s
module			g711.so
module			aufile.so
module_tmp		uuid.so
module_tmp		account.so
module_app		menu.so
audio_source		aufile,%s
audio_player		aufile,%s
audio_alert		aufile,%s
ausrc_srate		8000
auplay_srate		8000
audio_buffer		20-160
rtp_ports		17000-17100
call_local_timeout	120
`, address, modules, wav, filepath.Join(dir, "played.wav"), filepath.Join(dir, "alert.wav")),
		"accounts": fmt.Sprintf("<sip:+12025550123@%s>;regint=0;audio_codecs=PCMU/8000/1\n", address),
		"contacts": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("baresip", "-f", dir, "-e", "/dial "+to)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said lockedBuffer
	up := make(chan struct{})
	read := make(chan struct{}) // closed when baresip has said its last
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		established := false
		for lines.Scan() {
			_, _ = said.Write(append(lines.Bytes(), '\n'))
			if !established && bytes.Contains(lines.Bytes(), []byte("established")) {
				established = true
				close(up)
			}
		}
	}()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // hangs up, then ends
		<-read
		_ = cmd.Wait()
	}()
	select {
	case <-up:
	case <-read:
		t.Fatalf("baresip has ended:\n%s", &said)
	case <-time.After(20 * time.Second):
		t.Fatalf("baresip's call was not answered:\n%s", &said)
	}
	select {
	case <-time.After(length):
	case <-read:
		t.Fatalf("baresip has ended during the call:\n%s", &said)
	}
}

// modulePath is where Debian keeps baresip's modules.
func modulePath(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib*/baresip/modules")
	if more, _ := filepath.Glob("/usr/lib/*/baresip/modules"); err == nil {
		found = append(found, more...)
	}
	if len(found) == 0 {
		t.Fatal("baresip's modules are not below /usr/lib")
	}
	return found[0]
}

// shark is a capture of the whole network by tshark.
type shark struct {
	file string
	cmd  *exec.Cmd
	said lockedBuffer
}

// watch begins to capture, without what the test of faults sends.
func watch(t *testing.T) *shark {
	t.Helper()
	s := &shark{file: filepath.Join(t.TempDir(), "all.pcapng")}
	s.cmd = exec.Command("tshark", "-i", "lo", "-f", "udp and not port 5062 and not portrange 40000-40015", "-w", s.file, "-q")
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		if info, err := os.Stat(s.file); err == nil && info.Size() > 0 {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("tshark does not capture:\n%s", &s.said)
		}
	}
}

// stop ends the capture.
func (s *shark) stop(t *testing.T) {
	t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("tshark: %v\n%s", err, &s.said)
	}
}

// ask gives the fields of the packets that the filter shows, one line each.
func (s *shark) ask(t *testing.T, filter string, fields ...string) []string {
	t.Helper()
	args := []string{"-r", s.file, "-Y", filter, "-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	var complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, &complaints)
	}
	return slices.Collect(strings.Lines(string(out)))
}
