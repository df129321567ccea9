//go:build unix

package natssink

import (
	"fmt"
	"os"
	"syscall"
)

// lockFile takes the lock on a file that nats-server itself does not take: two
// servers on one folder would ruin it. The kernel frees it when the process
// ends, however that happens.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	return f, nil
}
