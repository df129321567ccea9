//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// inside is set in the process that runs in the network of its own.
const inside = "CALLWARDEN_E2E_INSIDE"

// address is that of the machine in its network: baresip does not call over
// the loopback interface.
const address = "192.0.2.1"

// binary is callwarden.
var binary string

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(enter())
	}
	os.Exit(prepared(m))
}

// enter runs this test again in a network of its own.
func enter() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "e2e: making a network of our own:", err)
		fmt.Fprintln(os.Stderr, "e2e: run it as root, or let users make networks: sysctl kernel.unprivileged_userns_clone=1")
		return 1
	}
	return 0
}

// prepared brings the network up, builds callwarden and runs the tests.
func prepared(m *testing.M) int {
	dir, err := os.MkdirTemp("", "callwarden-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "callwarden")
		for _, line := range []string{
			"ip link set lo up",
			"ip link add phone0 type veth peer name phone1", // an interface that is not lo
			"ip address add " + address + "/24 dev phone0",
			"ip link set phone0 up",
			"ip link set phone1 up",
			"go build -o " + binary + " github.com/callwarden/callwarden/cmd/callwarden",
		} {
			if err = command(line); err != nil {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return m.Run()
}

func command(line string) error {
	words := strings.Fields(line)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	return nil
}
