package console

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal is a pseudo terminal: what is written to tty is read from
// outside.
func openTerminal(t *testing.T) (outside, tty *os.File) {
	t.Helper()
	outside, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = outside.Close() })
	fd := int(outside.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return outside, tty
}

func TestProgramsDoNotQuestionTheTerminalWhenTheyStart(t *testing.T) {
	outside, tty := openTerminal(t)
	self := exec.Command(os.Args[0], "-test.run=^$")
	self.Stdin, self.Stdout, self.Stderr = tty, tty, tty
	self.Env = append(os.Environ(), "TERM=xterm-256color")
	self.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true} // its terminal, in the foreground
	began := time.Now()
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	said, err := io.ReadAll(outside) // ends with an error once the program has: Linux says EIO
	if waited := self.Wait(); waited != nil {
		t.Errorf("%v: %s", waited, said)
	}
	if !bytes.Contains(said, []byte("PASS")) || bytes.Contains(said, []byte("\x1b]")) {
		t.Errorf("after %v it has said %q (%v)", time.Since(began), said, err)
	}
}
